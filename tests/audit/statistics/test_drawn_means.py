"""Comparisons of many samples at once, against those of one after the other."""

from collections.abc import Callable

import numpy as np
import pytest

from confide.audit.statistics import (
    Floats,
    mean_difference,
    paired_mean_difference,
    paired_share_mean_difference,
    rank_p_value,
    share_mean_difference,
)
from confide.audit.statistics.drawn_means import compare_means, compare_paired_means

NUM_SAMPLES = 60
RNG = np.random.Generator(np.random.Philox(3))


def spread(num: int) -> Floats:
    return RNG.beta(2.0, 3.0, (NUM_SAMPLES, num))


def tied(num: int) -> Floats:
    """A few tokens of 20, as lengths of runs are."""
    return np.minimum(1.0, RNG.geometric(0.4, (NUM_SAMPLES, num)) / 20)


def nothing(num: int) -> Floats:
    return np.zeros((NUM_SAMPLES, num))


DRAWS = [spread, tied, nothing]


def with_some_out(values: Floats) -> Floats:
    return np.where(RNG.random(values.shape) < 0.3, 1.0, values)


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("bound", [None, 1.0, 2.0])
def test_intervals_start_where_those_of_single_samples_do(draw: Callable[[int], Floats], bound: float | None) -> None:
    members, others, base = with_some_out(draw(14)), draw(19), draw(14)
    low = compare_means(members, others, bound=bound).low
    paired_low = compare_paired_means(members, base, bound=bound).low
    if bound is None:
        one_by_one = [mean_difference(one, other).interval.low for one, other in zip(members, others, strict=True)]
        paired = [
            paired_mean_difference(one, two).difference.interval.low for one, two in zip(members, base, strict=True)
        ]
    else:
        pairs = zip(members / bound, others / bound, strict=True)
        one_by_one = [share_mean_difference(one, other).low for one, other in pairs]
        pairs = zip(members / bound, base / bound, strict=True)
        paired = [paired_share_mean_difference(one, two).low for one, two in pairs]
    assert low == pytest.approx(one_by_one, abs=1e-12)
    assert paired_low == pytest.approx(paired, abs=1e-12)


def p_values_one_by_one(members: Floats, others: Floats, base: Floats) -> tuple[Floats, Floats]:
    apart, paired = [], []
    for one, other, two in zip(members, others, base, strict=True):
        apart.append(max(mean_difference(one, other, alternative="greater").p_value, rank_p_value(one, other)))
        same = paired_mean_difference(one, two, alternative="greater")
        paired.append(max(same.difference.p_value, same.wilcoxon_p_value))
    return np.array(apart), np.array(paired)


@pytest.mark.parametrize("num", [12, 30])
@pytest.mark.parametrize("draw", DRAWS)
def test_p_values_are_next_to_those_of_single_samples(draw: Callable[[int], Floats], num: int) -> None:
    """The normal approximation of ranks, in the range that correction over up to some 50 attacks asks for."""
    members, others, base = with_some_out(draw(num)), draw(num + 5), draw(num)
    drawn = (compare_means(members, others, bound=1.0), compare_paired_means(members, base, bound=1.0))
    for found, exact in zip(drawn, p_values_one_by_one(members, others, base), strict=True):
        in_range = (exact > 1e-3) & (exact < 0.2)
        assert in_range.sum() > NUM_SAMPLES / 10
        ratio = found.p_values[in_range] / exact[in_range]
        assert ratio.min() > 0.9  # so nothing is called certain that is not
        assert ratio.max() < 2.5  # too large only in the far tail of a dozen signed ranks


def test_p_values_beside_controls_that_show_nothing_are_exact() -> None:
    members, others, base = with_some_out(nothing(9)), nothing(7), nothing(9)
    apart, paired = p_values_one_by_one(members, others, base)
    assert compare_means(members, others, bound=1.0).p_values == pytest.approx(apart)
    assert compare_paired_means(members, base, bound=1.0).p_values == pytest.approx(paired)


@pytest.mark.parametrize("num", [2, 3])
def test_two_or_three_records_are_never_certain(num: int) -> None:
    """Of three and three one order in 20 tells all apart, and of three signs one choice in 8 has all above zero."""
    members, others = 0.5 + spread(num) / 2, spread(num) / 2
    assert compare_means(members, others, bound=1.0).p_values.min() >= 0.05 - 1e-12
    assert compare_paired_means(members, others, bound=1.0).p_values.min() >= 0.125
