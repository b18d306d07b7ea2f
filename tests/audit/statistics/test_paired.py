from functools import partial

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from confide.audit.statistics.area import auc_value
from confide.audit.statistics.nulls import uniformity_p_value
from confide.audit.statistics.paired import paired_auc_difference, paired_bootstrap
from confide.audit.statistics.roc import tpr_value

Scores = npt.NDArray[np.float64]
Labels = npt.NDArray[np.bool_]


def _labels(num: int, num_others: int) -> Labels:
    return np.arange(num + num_others) < num


def _pair(rng: np.random.Generator, labels: Labels, shifts: tuple[float, float]) -> tuple[Scores, Scores]:
    """Scores of two attacks that agree in half of their variance."""
    shared = rng.normal(size=labels.size)
    one, other = ((shared + rng.normal(size=labels.size)) / np.sqrt(2) + shift * labels for shift in shifts)
    return one, other


def slow_variance(one: Scores, other: Scores, labels: Labels) -> float:
    """DeLong's variance of the difference of two AUCs, from sums over pairs as in the paper (equations 4 to 6)."""

    def components(scores: Scores) -> tuple[list[float], list[float]]:
        members, others = scores[labels].tolist(), scores[~labels].tolist()
        win = [[1.0 if x > y else 0.5 if x == y else 0.0 for y in others] for x in members]
        return [sum(row) / len(others) for row in win], [
            sum(column) / len(members) for column in zip(*win, strict=True)
        ]

    total = 0.0
    for first, second in zip(components(one), components(other), strict=True):
        differences = [a - b for a, b in zip(first, second, strict=True)]
        mean = sum(differences) / len(differences)
        total += sum((value - mean) ** 2 for value in differences) / (len(differences) - 1) / len(differences)
    return total


def test_equals_the_papers_test_from_sums_over_pairs() -> None:
    rng = np.random.Generator(np.random.Philox(1))
    labels = _labels(40, 70)
    one, other = (np.round(scores, 1) for scores in _pair(rng, labels, (1.0, 0.5)))
    error = np.sqrt(slow_variance(one, other, labels))
    found = paired_auc_difference(one, other, labels)
    value = auc_value(one[labels], one[~labels]) - auc_value(other[labels], other[~labels])
    assert found.interval.value == pytest.approx(value, abs=1e-12)
    assert found.interval.low == pytest.approx(value - norm.ppf(0.975) * error, abs=1e-9)
    assert found.interval.high == pytest.approx(value + norm.ppf(0.975) * error, abs=1e-9)
    assert found.p_value == pytest.approx(2 * norm.sf(abs(value) / error), rel=1e-6)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.booleans()), min_size=1, max_size=60))
def test_exchanging_the_two_changes_the_sign_and_nothing_else(rows: list[tuple[int, int, bool]]) -> None:
    one, other, is_member = zip(*rows, (0, 1, True), (1, 0, False), strict=True)
    there, back = paired_auc_difference(one, other, is_member), paired_auc_difference(other, one, is_member)
    assert there.interval.value == pytest.approx(-back.interval.value, abs=1e-12)
    assert there.interval.low == pytest.approx(-back.interval.high, abs=1e-9)
    assert there.p_value == pytest.approx(back.p_value, rel=1e-6)
    assert there.interval.low <= there.interval.value <= there.interval.high


def test_the_same_scores_differ_by_nothing() -> None:
    scores = np.arange(10.0)
    found = paired_auc_difference(scores, scores, _labels(5, 5))
    assert (found.interval.value, found.interval.low, found.interval.high, found.p_value) == (0.0, 0.0, 0.0, 1.0)


def test_scores_in_the_same_order_differ_by_nothing_either() -> None:
    scores = np.random.Generator(np.random.Philox(10)).normal(size=80)
    found = paired_auc_difference(scores, np.exp(scores), _labels(40, 40))
    assert found.interval.value == 0.0
    # The variance is a difference of equal numbers of order 1e-3, rounded in the 16th digit; this is its root.
    assert found.interval.high - found.interval.low < 1e-8
    assert found.p_value == 1.0


def test_two_perfect_attacks_are_not_claimed_to_be_equal() -> None:
    labels = _labels(20, 20)
    found = paired_auc_difference(labels * 5.0 + np.arange(40), labels * 100.0 - np.arange(40), labels)
    both = paired_auc_difference(labels * 100.0 + np.arange(40), labels * 100.0 - np.arange(40), labels)
    assert both.interval.value == 0.0
    # Either may be as low as 0.025^(1/20) = 0.83.
    assert (both.interval.low, both.interval.high) == pytest.approx((0.025**0.05 - 1, 1 - 0.025**0.05))
    assert both.p_value == 1.0
    assert found.interval.value < 0


def test_the_p_value_agrees_with_the_interval() -> None:
    rng = np.random.Generator(np.random.Philox(2))
    seen = set()
    for num in (6, 12, 40):
        labels = _labels(num, num)
        for shift in np.linspace(0, 4, 40):
            found = paired_auc_difference(*_pair(rng, labels, (float(shift), 0.0)), labels)
            excludes_zero = not found.interval.covers(0.0)
            assert excludes_zero == (found.p_value < 0.05)
            seen.add(excludes_zero)
    assert seen == {True, False}


@pytest.mark.parametrize(("num", "num_others"), [(8, 8), (25, 75), (100, 100)])
@pytest.mark.parametrize("shifts", [(0.0, 0.0), (1.0, 0.5), (3.5, 2.0)])
def test_the_interval_covers(num: int, num_others: int, shifts: tuple[float, float]) -> None:
    rng = np.random.Generator(np.random.Philox(3))
    labels = _labels(num, num_others)
    truth = float(norm.cdf(shifts[0] / np.sqrt(2)) - norm.cdf(shifts[1] / np.sqrt(2)))
    hits = sum(paired_auc_difference(*_pair(rng, labels, shifts), labels).interval.covers(truth) for _ in range(400))
    assert hits >= 380 - 3 * 4.4  # 95 % of 400 and three standard deviations below


def test_p_values_without_a_difference_are_uniform() -> None:
    rng = np.random.Generator(np.random.Philox(4))
    labels = _labels(80, 80)
    p_values = [paired_auc_difference(*_pair(rng, labels, (0.7, 0.7)), labels).p_value for _ in range(200)]
    assert uniformity_p_value(p_values) > 0.01  # one seed in a hundred would fail


def test_pairs_know_more_than_two_separate_intervals() -> None:
    rng = np.random.Generator(np.random.Philox(5))
    labels = _labels(100, 100)
    shared = rng.normal(size=200) + labels
    one, other = (shared + 0.2 * rng.normal(size=200) for _ in range(2))
    apart = paired_auc_difference(one, rng.normal(size=200) + labels, labels).interval
    together = paired_auc_difference(one, other, labels).interval
    assert together.high - together.low < (apart.high - apart.low) / 2


def test_bootstrap_agrees_with_delong() -> None:
    labels = _labels(120, 150)
    one, other = _pair(np.random.Generator(np.random.Philox(6)), labels, (1.0, 0.6))
    found = paired_bootstrap(one, other, labels, seed=1).difference
    expected = paired_auc_difference(one, other, labels).interval
    assert found.interval.value == pytest.approx(expected.value, abs=1e-12)
    # The 2.5 % quantile of 2000 resamples is known to about 0.06 of a standard error (which is a quarter of the
    # interval's length); the two methods differ by another order of 1 / 120.
    length = expected.high - expected.low
    assert found.interval.low == pytest.approx(expected.low, abs=0.05 * length)
    assert found.interval.high == pytest.approx(expected.high, abs=0.05 * length)


def test_bootstrap_covers_a_difference_of_rates() -> None:
    rng = np.random.Generator(np.random.Philox(7))
    labels = _labels(80, 200)
    statistic = partial(tpr_value, max_fpr=0.1)
    truth = float(norm.sf(norm.isf(0.1) - 1.5) - norm.sf(norm.isf(0.1) - 0.5))
    hits = sum(
        paired_bootstrap(
            *_pair(rng, labels, (1.5, 0.5)), labels, statistic=statistic, seed=0, num_resamples=200
        ).difference.interval.covers(truth)
        for _ in range(80)
    )
    # 95 % of 80 are 76, standard deviation 1.9, three of them below: 70. With 200 resamples the interval's ends are
    # rough, which costs about 1 % more.
    assert hits >= 69


def test_bootstrap_depends_on_the_seed_and_on_nothing_else() -> None:
    labels = _labels(30, 30)
    one, other = _pair(np.random.Generator(np.random.Philox(8)), labels, (1.0, 0.0))
    found = paired_bootstrap(one, other, labels, seed=3, num_resamples=100)
    assert paired_bootstrap(one, other, labels, seed=3, num_resamples=100) == found
    assert paired_bootstrap(one, other, labels, seed=4, num_resamples=100) != found


def test_bootstrap_says_when_resampling_shows_nothing() -> None:
    labels = _labels(10, 10)
    perfect, also_perfect = labels * 100.0 + np.arange(20), labels * 100.0 - np.arange(20)
    found = paired_bootstrap(perfect, also_perfect, labels, seed=0, num_resamples=100)
    assert found.is_collapsed
    assert found.difference.p_value == 1.0
    noise = np.random.Generator(np.random.Philox(9)).normal(size=20)
    assert not paired_bootstrap(perfect, noise, labels, seed=0, num_resamples=100).is_collapsed
    with pytest.raises(ValueError, match="num_resamples is 10, expected at least 100"):
        paired_bootstrap(perfect, noise, labels, seed=0, num_resamples=10)
