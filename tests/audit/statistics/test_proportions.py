"""Coverage is computed here, not simulated: a proportion has so few possible samples that all can be gone through."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest, hypergeom

from confide.audit.statistics.proportions import (
    binomial_bounds,
    bound_of_none,
    clopper_pearson,
    paired_proportion_difference,
    proportion_difference,
)
from confide.errors import DataError

COUNTS = st.integers(1, 60).flatmap(lambda trials: st.tuples(st.integers(0, trials), st.just(trials)))


def test_clopper_pearson_gives_the_agreed_digits() -> None:
    found = clopper_pearson(5, 100)
    # Two other implementations gave (0.01643, 0.11284); the upper end is 0.1128349 and was rounded twice.
    assert round(found.low, 5) == 0.01643
    assert found.high == pytest.approx(0.11284, abs=1e-5)


@given(COUNTS)
def test_clopper_pearson_equals_scipys_root_search(counts: tuple[int, int]) -> None:
    expected = binomtest(*counts).proportion_ci(0.95, "exact")
    found = clopper_pearson(*counts)
    # scipy searches the roots of the binomial distribution function to about 1e-12; ours are beta quantiles.
    assert found.low == pytest.approx(expected.low, abs=1e-9)
    assert found.high == pytest.approx(expected.high, abs=1e-9)


@pytest.mark.parametrize("trials", [1, 7, 40])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_clopper_pearson_covers_every_probability(trials: int, confidence: float) -> None:
    bounds = [clopper_pearson(successes, trials, confidence=confidence) for successes in range(trials + 1)]
    for probability in np.linspace(0, 1, 501):
        chances = binom.pmf(np.arange(trials + 1), trials, probability)
        covered = sum(chance for chance, bound in zip(chances, bounds, strict=True) if bound.covers(probability))
        assert covered >= confidence - 1e-12


@given(COUNTS)
def test_clopper_pearson_of_failures_is_the_mirror_image(counts: tuple[int, int]) -> None:
    successes, trials = counts
    one, other = clopper_pearson(successes, trials), clopper_pearson(trials - successes, trials)
    assert one.low == pytest.approx(1 - other.high, abs=1e-12)
    assert one.high == pytest.approx(1 - other.low, abs=1e-12)
    assert one.low <= one.value <= one.high
    assert one.high - one.low > 0


def test_nothing_in_a_thousand_bounds_the_rate_by_0_3_percent() -> None:
    assert 0.00299 < bound_of_none(1000) < 0.003
    assert (1 - bound_of_none(1000)) ** 1000 == pytest.approx(0.05, rel=1e-9)
    # Two-sided it is the upper end of the interval at 90 % confidence.
    assert bound_of_none(17) == pytest.approx(clopper_pearson(0, 17, confidence=0.9).high, rel=1e-12)


@pytest.mark.parametrize(
    ("counts", "low", "high"),
    [
        ((56, 70, 48, 80), 0.0524, 0.3339),
        ((9, 10, 3, 10), 0.1705, 0.8090),
        ((6, 7, 2, 7), 0.0582, 0.8062),
        ((5, 56, 0, 29), -0.0381, 0.1926),
        ((0, 10, 0, 20), -0.1611, 0.2775),
        ((0, 10, 0, 10), -0.2775, 0.2775),
        ((10, 10, 0, 20), 0.6791, 1.0),
        ((10, 10, 0, 10), 0.6075, 1.0),
    ],
)
def test_newcombes_examples(counts: tuple[int, int, int, int], low: float, high: float) -> None:
    """Newcombe 1998 (independent proportions), Table II, method 10."""
    found = proportion_difference(*counts).interval
    assert (round(found.low, 4), round(found.high, 4)) == (low, high)


def _chance_of_tables(
    num: int, other_num: int, one: float, other: float
) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    return np.outer(binom.pmf(np.arange(num + 1), num, one), binom.pmf(np.arange(other_num + 1), other_num, other))


def test_newcombes_interval_covers() -> None:
    num, other_num = 20, 30
    intervals = [
        [proportion_difference(hits, num, others, other_num).interval for others in range(other_num + 1)]
        for hits in range(num + 1)
    ]
    coverages = []
    for one in np.linspace(0.01, 0.99, 15):
        for other in np.linspace(0.01, 0.99, 15):
            is_covered = np.array([[cell.covers(one - other) for cell in row] for row in intervals])
            coverages.append(float((_chance_of_tables(num, other_num, one, other) * is_covered).sum()))
    # A score interval covers 95 % on average and not at every point; Newcombe reports a minimum of about 0.87.
    assert np.mean(coverages) >= 0.95
    assert min(coverages) >= 0.9


@given(COUNTS, COUNTS)
def test_difference_of_proportions_is_antisymmetric(one: tuple[int, int], other: tuple[int, int]) -> None:
    there, back = proportion_difference(*one, *other), proportion_difference(*other, *one)
    assert there.interval.low == pytest.approx(-back.interval.high, abs=1e-12)
    assert there.interval.high == pytest.approx(-back.interval.low, abs=1e-12)
    assert there.p_value == pytest.approx(back.p_value, rel=1e-6)
    assert there.interval.low <= there.interval.value <= there.interval.high


@given(COUNTS, COUNTS)
def test_one_sided_p_value_is_the_tail_of_the_hypergeometric_distribution(
    one: tuple[int, int], other: tuple[int, int]
) -> None:
    hits, trials = one
    total = hits + other[0]
    tail = float(hypergeom.sf(hits - 1, trials + other[1], total, trials))
    found = proportion_difference(*one, *other, alternative="greater").p_value
    assert found == pytest.approx(tail, rel=1e-6, abs=1e-12)


def _outcomes(both: int, only_first: int, only_second: int, neither: int) -> tuple[list[bool], list[bool]]:
    first = [True] * (both + only_first) + [False] * (only_second + neither)
    second = [True] * both + [False] * only_first + [True] * only_second + [False] * neither
    return first, second


def test_paired_difference_gives_newcombes_worked_example() -> None:
    """Altman et al. 2000, "Statistics with Confidence", chapter 6: 14, 5, 0 and 22 of 41 pairs."""
    found = paired_proportion_difference(*_outcomes(14, 5, 0, 22)).interval
    assert found.value == pytest.approx(5 / 41)
    assert (round(found.low, 3), round(found.high, 3)) == (0.011, 0.226)


def test_paired_difference_without_correlation_is_the_independent_one() -> None:
    found = paired_proportion_difference(*_outcomes(4, 12, 6, 18)).interval  # 4 * 18 == 12 * 6
    expected = proportion_difference(16, 40, 10, 40).interval
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


@given(*[st.integers(0, 12)] * 3, st.integers(1, 12))
def test_paired_p_value_is_a_sign_test_of_what_changed(both: int, gained: int, lost: int, neither: int) -> None:
    outcomes = _outcomes(both, gained, lost, neither)
    tail = float(binom.sf(gained - 1, gained + lost, 0.5)) if gained + lost else 1.0
    assert paired_proportion_difference(*outcomes, alternative="greater").p_value == pytest.approx(tail)
    extreme = float(binom.cdf(min(gained, lost), gained + lost, 0.5))
    assert paired_proportion_difference(*outcomes).p_value == pytest.approx(min(1.0, 2 * extreme))


@given(*[st.integers(0, 12)] * 3, st.integers(1, 12))
def test_paired_difference_is_antisymmetric(both: int, gained: int, lost: int, neither: int) -> None:
    first, second = _outcomes(both, gained, lost, neither)
    there, back = paired_proportion_difference(first, second), paired_proportion_difference(second, first)
    assert there.interval.low == pytest.approx(-back.interval.high, abs=1e-12)
    assert there.p_value == pytest.approx(back.p_value)
    assert there.interval.num == len(first)
    assert there.interval.low <= there.interval.value <= there.interval.high


@pytest.mark.parametrize("chances", [(0.3, 0.2, 0.1, 0.4), (0.0, 0.3, 0.02, 0.68), (0.8, 0.05, 0.05, 0.1)])
def test_paired_interval_covers(chances: tuple[float, float, float, float]) -> None:
    draws = np.random.Generator(np.random.Philox(5)).multinomial(30, chances, size=400)
    truth = chances[1] - chances[2]
    tables = [tuple(int(count) for count in draw) for draw in draws]
    hits = sum(paired_proportion_difference(*_outcomes(*table)).interval.covers(truth) for table in tables)
    # 95 % of 400 is 380 with a standard deviation of 4.4; three of them below.
    assert hits >= 380 - 3 * 4.4


def test_pairs_that_never_differ_leave_a_doubt() -> None:
    found = paired_proportion_difference([False] * 20, [False] * 20)
    assert found.interval.low < 0 < found.interval.high
    assert found.p_value == 1.0


def test_bad_counts_are_refused() -> None:
    with pytest.raises(DataError, match="a proportion of no records"):
        clopper_pearson(0, 0)
    with pytest.raises(ValueError, match="successes is 6, expected 0 to 5"):
        proportion_difference(1, 5, 6, 5)
    with pytest.raises(ValueError, match="first has 2 records and second 3"):
        paired_proportion_difference([True, False], [True, False, True])
    with pytest.raises(ValueError, match="confidence is 95"):
        binomial_bounds(1, 2, confidence=95)
