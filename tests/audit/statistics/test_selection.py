import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.audit.statistics.area import auc, auc_value
from confide.audit.statistics.nulls import uniformity_p_value
from confide.audit.statistics.selection import choose_attack, split_halves
from confide.errors import DataError

ROWS = st.lists(st.tuples(st.booleans(), st.sampled_from("abcde")), min_size=0, max_size=40)
LABELS = np.arange(80) < 40
OWNERS = ["a", "b"] * 40


@given(ROWS, st.integers(0, 1000))
def test_halves_are_even_by_membership_and_owner(rows: list[tuple[bool, str]], seed: int) -> None:
    rows = [*rows, (True, "a"), (True, "b"), (False, "a"), (False, "b")]
    labels, owners = (np.array(column) for column in zip(*rows, strict=True))
    halves = split_halves(labels, owners.tolist(), seed=seed)
    np.testing.assert_array_equal(halves.choosing, ~halves.reporting)
    for is_member in (True, False):
        of_kind = labels == is_member
        assert 0 <= (halves.reporting & of_kind).sum() - (halves.choosing & of_kind).sum() <= 1
        assert (halves.choosing & of_kind).any()
        for owner in "abcde":
            mine = of_kind & (owners == owner)
            assert abs(int((halves.reporting & mine).sum()) - int((halves.choosing & mine).sum())) <= 1


def test_the_seed_decides_the_halves() -> None:
    first = split_halves(LABELS, OWNERS, seed=1).choosing
    np.testing.assert_array_equal(split_halves(LABELS, OWNERS, seed=1).choosing, first)
    assert (split_halves(LABELS, OWNERS, seed=2).choosing != first).any()


def test_every_record_may_be_in_either_half() -> None:
    shares = np.mean([split_halves(LABELS, OWNERS, seed=seed).choosing for seed in range(400)], axis=0)
    # 400 draws of a half: standard deviation 2.5 %; of 80 records the farthest is expected at 2.5 of them.
    assert abs(shares - 0.5).max() < 4.5 * 0.025


def _useless(rng: np.random.Generator, num_attacks: int) -> dict[str, npt.NDArray[np.float64]]:
    return {f"attack-{number}": rng.normal(size=80) for number in range(num_attacks)}


def test_the_best_of_fifty_useless_attacks_is_flattered_only_where_it_was_chosen() -> None:
    rng = np.random.Generator(np.random.Philox(1))
    chosen = [choose_attack(_useless(rng, 50), LABELS, OWNERS, seed=seed) for seed in range(200)]
    assert np.mean([choice.criteria[choice.attack] for choice in chosen]) > 0.65
    # Of 20 and 20 records an AUC of noise has standard deviation 0.092; the mean of 200, 0.0065.
    assert abs(np.mean([choice.auc.interval.value for choice in chosen]) - 0.5) < 3 * 0.0065
    assert uniformity_p_value([choice.auc.p_value for choice in chosen]) > 0.01
    too_good = sum(choice.auc.p_value < 0.05 for choice in chosen)
    assert too_good <= 10 + 3 * 3.1  # 5 % of 200, standard deviation 3.1


def test_a_real_attack_is_found_among_useless_ones() -> None:
    rng = np.random.Generator(np.random.Philox(2))
    scores = {**_useless(rng, 5), "real": rng.normal(size=80) + 2.0 * LABELS}
    found = choose_attack(scores, LABELS, OWNERS, seed=0)
    assert found.attack == "real"
    assert list(found.criteria) == list(scores)
    reporting, real = found.halves.reporting, scores["real"]
    assert found.auc == auc(real[reporting & LABELS], real[reporting & ~LABELS])
    assert sorted([*found.members, *found.non_members]) == sorted(real[reporting])


def test_the_reporting_half_has_no_say_in_the_choice() -> None:
    rng = np.random.Generator(np.random.Philox(3))
    scores = _useless(rng, 8)
    first = choose_attack(scores, LABELS, OWNERS, seed=0)
    reporting = first.halves.reporting
    for values in scores.values():
        values[reporting] = rng.normal(size=int(reporting.sum())) + 5.0 * LABELS[reporting]
    second = choose_attack(scores, LABELS, OWNERS, seed=0)
    assert (second.attack, second.criteria) == (first.attack, first.criteria)
    assert second.auc != first.auc


def test_the_first_of_equal_attacks_is_taken() -> None:
    scores = np.arange(80.0)
    found = choose_attack({"one": scores, "same": scores}, LABELS, OWNERS, seed=0)
    assert found.attack == "one"


def test_another_statistic_can_decide() -> None:
    rng = np.random.Generator(np.random.Philox(4))
    scores = {"real": rng.normal(size=80) + 2.0 * LABELS, "reversed": rng.normal(size=80) - 2.0 * LABELS}
    found = choose_attack(
        scores, LABELS, OWNERS, seed=0, statistic=lambda members, others: 1 - auc_value(members, others)
    )
    assert found.attack == "reversed"


def test_too_little_to_choose_from_is_refused() -> None:
    with pytest.raises(DataError, match="there is 1 member, expected at least 2"):
        split_halves([True, False, False], ["a"] * 3, seed=0)
    with pytest.raises(DataError, match="there is 1 non-member, expected at least 2"):
        split_halves([True, True, False], ["a"] * 3, seed=0)
    with pytest.raises(DataError, match="there is no attack to choose from"):
        choose_attack({}, LABELS, OWNERS, seed=0)
    with pytest.raises(ValueError, match="scores of short: 3 values for 80 records"):
        choose_attack({"short": [1.0, 2.0, 3.0]}, LABELS, OWNERS, seed=0)
