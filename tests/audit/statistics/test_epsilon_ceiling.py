import pytest

from confide.audit.statistics.epsilon_ceiling import ceilings, one_run_best, two_sample_best
from confide.audit.statistics.epsilon_one_run import Guesses, f_dp_epsilon, one_run_epsilon
from confide.audit.statistics.epsilon_two_sample import Decisions, clopper_pearson_epsilon

DELTA = 1e-5


@pytest.mark.parametrize(
    ("num", "clopper_pearson", "one_run"),
    [(100, 3.28, 3.49), (500, 4.91, 5.10), (1000, 5.60, 5.78), (5000, 7.21, 7.28)],
)
def test_the_agreed_digits(num: int, clopper_pearson: float, one_run: float) -> None:
    """Vectors of another implementation: `num` on either side for the first, `num` in all for the second."""
    assert round(clopper_pearson_epsilon(two_sample_best(num, num), delta=DELTA), 2) == clopper_pearson
    assert round(one_run_epsilon(one_run_best(num), delta=DELTA), 2) == one_run


@pytest.mark.parametrize("num", [3, 12, 30])
@pytest.mark.parametrize("delta", [1e-9, DELTA, 0.01])
def test_no_other_table_gives_more(num: int, delta: float) -> None:
    best = ceilings(num, num, delta=delta)
    tables = [
        Guesses(num_canaries=2 * num, num_guesses=guessed, num_correct=guessed - wrong)
        for guessed in range(1, 2 * num + 1)
        for wrong in (0, 1)
    ]
    assert best.one_run >= max(one_run_epsilon(table, delta=delta) for table in tables) - 1e-8
    assert best.f_dp >= max(f_dp_epsilon(table, delta=delta) for table in tables) - 1e-7
    for wrong in ((1, 0), (0, 1), (1, 1)):
        counts = Decisions(
            num_true_positives=num - wrong[0], num_members=num, num_false_positives=wrong[1], num_non_members=num
        )
        assert clopper_pearson_epsilon(counts, delta=delta) <= best.clopper_pearson


def test_more_canaries_raise_every_ceiling_and_more_tries_lower_it() -> None:
    few, many, tried = (
        ceilings(50, 50, delta=DELTA),
        ceilings(100, 100, delta=DELTA),
        ceilings(100, 100, delta=DELTA, num_tried=10),
    )
    for name in ("clopper_pearson", "gaussian", "bayesian", "one_run", "f_dp"):
        assert getattr(few, name) < getattr(many, name)
        assert getattr(tried, name) < getattr(many, name)


def test_impossible_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="num_members is 0"):
        ceilings(0, 5, delta=DELTA)
    with pytest.raises(ValueError, match="num_tried is 0"):
        ceilings(5, 5, delta=DELTA, num_tried=0)
