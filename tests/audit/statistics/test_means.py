import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata, ttest_1samp, ttest_ind, ttest_rel, wilcoxon

from confide.audit.statistics.interval import Alternative
from confide.audit.statistics.means import (
    mean_difference,
    mean_interval,
    paired_mean_difference,
    paired_share_mean_difference,
    share_mean_difference,
    unit_mean_interval,
)
from confide.audit.statistics.proportions import clopper_pearson
from confide.errors import DataError

RNG = np.random.Generator(np.random.Philox(1))
ONE, OTHER = RNG.normal(0.3, 1, 25), RNG.normal(0, 2, 25)
ALTERNATIVES: tuple[Alternative, ...] = ("two-sided", "greater")


def test_mean_interval_equals_scipys() -> None:
    found, expected = mean_interval(ONE), ttest_1samp(ONE, 0).confidence_interval(0.95)
    assert (found.value, found.low, found.high) == pytest.approx((ONE.mean(), expected.low, expected.high))
    assert found.num == 25


@pytest.mark.parametrize("alternative", ALTERNATIVES)
def test_difference_equals_scipys_welch_test(alternative: Alternative) -> None:
    found = mean_difference(ONE, OTHER[:11], alternative=alternative)
    expected = ttest_ind(ONE, OTHER[:11], equal_var=False, alternative=alternative)
    ends = ttest_ind(ONE, OTHER[:11], equal_var=False).confidence_interval(0.95)
    assert found.p_value == pytest.approx(float(expected.pvalue))
    assert (found.interval.low, found.interval.high) == pytest.approx((ends.low, ends.high))
    assert found.interval.num == 36


@pytest.mark.parametrize("alternative", ALTERNATIVES)
def test_paired_difference_equals_scipys_tests(alternative: Alternative) -> None:
    found = paired_mean_difference(ONE, OTHER, alternative=alternative)
    ends = ttest_rel(ONE, OTHER).confidence_interval(0.95)
    assert found.difference.p_value == pytest.approx(float(ttest_rel(ONE, OTHER, alternative=alternative).pvalue))
    assert (found.difference.interval.low, found.difference.interval.high) == pytest.approx((ends.low, ends.high))
    assert found.wilcoxon_p_value == pytest.approx(float(wilcoxon(ONE, OTHER, alternative=alternative).pvalue))


@settings(max_examples=25, deadline=None)  # scipy goes through all signs where differences tie: up to 0.1 s each
@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=2, max_size=7))
def test_paired_difference_is_antisymmetric(pairs: list[tuple[int, int]]) -> None:
    one, other = zip(*pairs, strict=True)
    there, back = paired_mean_difference(one, other), paired_mean_difference(other, one)
    assert there.difference.interval.low == pytest.approx(-back.difference.interval.high, abs=1e-12)
    assert there.difference.p_value == pytest.approx(back.difference.p_value)
    assert there.wilcoxon_p_value == pytest.approx(back.wilcoxon_p_value)
    assert 0 < there.difference.p_value <= 1
    assert 0 < there.wilcoxon_p_value <= 1


def test_the_same_values_twice_differ_by_nothing() -> None:
    found = paired_mean_difference(ONE, ONE)
    assert (found.difference.interval.low, found.difference.interval.high) == (0.0, 0.0)
    assert (found.difference.p_value, found.wilcoxon_p_value) == (1.0, 1.0)
    assert mean_difference([1.0, 1.0], [1.0, 1.0]).p_value == 1.0


def test_tiny_values_are_told_apart_like_large_ones() -> None:
    tiny, large = (mean_difference(ONE * factor, OTHER * factor) for factor in (1e-120, 1.0))
    assert tiny.p_value == pytest.approx(large.p_value)


def test_equal_differences_leave_the_signed_ranks_to_judge() -> None:
    found = paired_mean_difference(np.arange(6) + 1.0, np.arange(6))
    assert found.difference.interval.low == found.difference.interval.high == 1.0
    assert found.wilcoxon_p_value == pytest.approx(2 / 2**6)  # all six above zero, either way


def test_signed_ranks_with_zeros_and_ties_are_exact() -> None:
    differences = np.array([0.0, 0.0, 1.0, -1.0, 2.0, 3.0, 3.0, -2.0, 4.0])
    ranks = rankdata(np.abs(differences))  # zeros have ranks and no side
    moving = ranks[differences != 0]
    sums = [float(moving[list(signs)].sum()) for signs in itertools.product([False, True], repeat=moving.size)]
    observed = float(ranks[differences > 0].sum())
    expected = sum(total >= observed for total in sums) / len(sums)
    found = paired_mean_difference(differences, np.zeros(9), alternative="greater")
    assert found.wilcoxon_p_value == pytest.approx(expected)


def test_one_record_says_nothing_about_the_spread() -> None:
    with pytest.raises(DataError, match="losses: 1 record says nothing about the spread"):
        mean_interval([1.0], name="losses")
    with pytest.raises(ValueError, match="first has 3 records and second 2"):
        paired_mean_difference([1.0, 2.0, 3.0], [1.0, 2.0])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_unit_interval_stays_in_range_and_has_a_width(values: list[float]) -> None:
    found = unit_mean_interval(values)
    assert 0 <= found.low <= found.value <= found.high <= 1
    if found.value * len(values) < 5 or (1 - found.value) * len(values) < 5:
        assert found.high > found.low
    mirrored = unit_mean_interval([1 - value for value in values])
    if abs(found.value - 0.5) < 0.5 - 6 / len(values):  # away from where 1 - value rounds to the other method
        assert (mirrored.low, mirrored.high) == pytest.approx((1 - found.high, 1 - found.low), abs=1e-9)


def test_unit_interval_of_nothing_is_clopper_pearsons() -> None:
    assert unit_mean_interval([0.0] * 12) == clopper_pearson(0, 12)
    assert unit_mean_interval([1.0] * 12) == clopper_pearson(12, 12)


@pytest.mark.parametrize("value", [0.2, 0.5])
def test_values_that_are_all_alike_leave_room_for_others(value: float) -> None:
    """Thirty equal texts say that most are so, and not that no text is another."""
    found = unit_mean_interval([value] * 30)
    assert found.value == pytest.approx(value)
    assert found.low < value - 0.1
    assert found.high > value + 0.1
    near = unit_mean_interval([value] * 29 + [value + 1e-9])
    assert near.high - near.low < 1e-6  # values that differ have their own spread


def test_values_outside_the_unit_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"rouge_l range from 0 to 1.5, expected 0 to 1"):
        unit_mean_interval([0.0, 1.5], name="rouge_l")


@pytest.mark.parametrize(("shape", "num"), [((0.1, 2.0), 20), ((0.05, 0.5), 60), ((2.0, 2.0), 30)])
def test_unit_interval_covers(shape: tuple[float, float], num: int) -> None:
    draws = np.random.Generator(np.random.Philox(2)).beta(*shape, size=(400, num))
    truth = shape[0] / sum(shape)
    hits = sum(unit_mean_interval(draw).covers(truth) for draw in draws)
    # 95 % of 400 is 380, standard deviation 4.4. The t interval alone covers 82 % in the first case.
    assert hits >= 380 - 3 * 4.4


def test_the_interval_of_paired_shares_covers_and_is_shorter_than_that_of_independent_ones() -> None:
    num_covered, widths, truth = 0, [], _clipped_shift()
    for _ in range(400):
        level = RNG.beta(2, 2, 40)
        one, other = (np.clip(level + shift + 0.1 * RNG.normal(size=40), 0, 1) for shift in (0.1, 0.0))
        found, alone = paired_share_mean_difference(one, other), share_mean_difference(one, other)
        num_covered += found.low <= truth <= found.high
        widths.append((found.high - found.low) / (alone.high - alone.low))
        assert (found.num, alone.num) == (40, 80)
    assert num_covered / 400 >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / 400)
    assert np.mean(widths) < 0.8


def _clipped_shift() -> float:
    """The true mean of the first minus the second of the test above, from many draws (error below 0.0005)."""
    rng = np.random.Generator(np.random.Philox(2))
    level, noise, other_noise = rng.beta(2, 2, 200_000), rng.normal(size=200_000), rng.normal(size=200_000)
    return float(np.clip(level + 0.1 + 0.1 * noise, 0, 1).mean() - np.clip(level + 0.1 * other_noise, 0, 1).mean())


def test_paired_shares_are_antisymmetric_and_of_the_same_records() -> None:
    one, other = RNG.random(12), RNG.random(12)
    there, back = paired_share_mean_difference(one, other), paired_share_mean_difference(other, one)
    assert (there.value, there.low, there.high) == pytest.approx((-back.value, -back.high, -back.low))
    with pytest.raises(ValueError, match="expected the same records"):
        paired_share_mean_difference(one, other[:3])
