"""Vectors are those on which two other implementations agree; the posterior is checked against drawing from it."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import betainc, betaincinv, ndtr
from scipy.stats import binom

from confide.audit.statistics.epsilon_two_sample import (
    Decisions,
    bayesian_epsilon,
    clopper_pearson_epsilon,
    gaussian_mechanism_epsilon,
)
from confide.audit.statistics.gaussian_curve import gaussian_epsilon
from confide.audit.statistics.proportions import clopper_pearson

DELTA = 1e-5


def decisions(true: int, members: int, false: int, non_members: int) -> Decisions:
    return Decisions(
        num_true_positives=true, num_members=members, num_false_positives=false, num_non_members=non_members
    )


def chance_inside(share: float, fpr: tuple[float, float], fnr: tuple[float, float], epsilon: float) -> float:
    """The chance that the false-negative rate is large enough beside the `share` quantile of the false-positive one."""
    rate = float(betaincinv(*fpr, share))
    line = max((1 - DELTA - rate) * math.exp(-epsilon), 1 - DELTA - math.exp(epsilon) * rate)
    return 1 - float(betainc(*fnr, min(1.0, max(0.0, line))))


TABLES = st.tuples(st.integers(1, 60), st.integers(1, 60)).flatmap(
    lambda sizes: st.tuples(st.integers(0, sizes[0]), st.just(sizes[0]), st.integers(0, sizes[1]), st.just(sizes[1]))
)
Bound = Callable[..., float]
BOUNDS: list[Bound] = [clopper_pearson_epsilon, gaussian_mechanism_epsilon]
EVERY_BOUND: list[Bound] = [*BOUNDS, bayesian_epsilon]


@pytest.mark.parametrize(
    ("table", "epsilon"),
    [
        ((500, 1000, 0, 1000), 4.8461),
        ((490, 500, 0, 500), 4.8758),
        ((1000, 1000, 0, 1000), 5.6006),
        ((250, 500, 5, 500), 2.9776),
    ],
)
def test_clopper_pearson_gives_the_agreed_digits(table: tuple[int, int, int, int], epsilon: float) -> None:
    assert round(clopper_pearson_epsilon(decisions(*table), delta=DELTA), 4) == epsilon


@pytest.mark.parametrize("delta", [0.0, DELTA])
def test_the_posterior_gives_the_agreed_digits(delta: float) -> None:
    found = [bayesian_epsilon(decisions(490, 500, 10, 500), delta=delta, quantile=q) for q in (0.05, 0.5, 0.95)]
    assert [round(value, 3) for value in found] == [3.639, 4.046, 4.549]


@given(TABLES)
def test_clopper_pearson_is_the_formula(table: tuple[int, int, int, int]) -> None:
    true, members, false, non_members = table
    tpr, fpr = clopper_pearson(true, members), clopper_pearson(false, non_members)
    expected = 0.0
    if tpr.low > DELTA:
        expected = max(expected, math.log((tpr.low - DELTA) / fpr.high))
    if 1 - fpr.high > DELTA:
        expected = max(expected, math.log((1 - fpr.high - DELTA) / (1 - tpr.low)))
    assert clopper_pearson_epsilon(decisions(*table), delta=DELTA) == pytest.approx(expected, abs=1e-9)


@given(TABLES)
def test_calling_everything_by_its_opposite_swaps_the_two_errors(table: tuple[int, int, int, int]) -> None:
    true, members, false, non_members = table
    swapped = decisions(non_members - false, non_members, members - true, members)
    for bound in BOUNDS:
        assert bound(swapped, delta=DELTA) == pytest.approx(bound(decisions(*table), delta=DELTA), rel=1e-6, abs=1e-8)


@settings(deadline=None, max_examples=40)
@given(TABLES)
def test_a_correct_decision_more_never_lowers_a_bound(table: tuple[int, int, int, int]) -> None:
    true, members, false, non_members = table
    for bound in EVERY_BOUND:
        here = bound(decisions(*table), delta=DELTA)
        if true < members:
            assert bound(decisions(true + 1, members, false, non_members), delta=DELTA) >= here - 1e-7
        if false > 0:
            assert bound(decisions(true, members, false - 1, non_members), delta=DELTA) >= here - 1e-7


@settings(deadline=None, max_examples=40)
@given(TABLES)
def test_a_larger_delta_never_raises_and_a_larger_significance_never_lowers_a_bound(
    table: tuple[int, int, int, int],
) -> None:
    counts = decisions(*table)
    for bound in BOUNDS:
        values = [bound(counts, delta=delta) for delta in (1e-8, 1e-5, 1e-2, 0.3)]
        assert (np.diff(values) <= 1e-8).all()
        values = [bound(counts, delta=DELTA, significance=level) for level in (1e-12, 1e-3, 0.05, 0.5)]
        assert (np.diff(values) >= -1e-8).all()
    values = [bayesian_epsilon(counts, delta=delta) for delta in (0.0, 1e-2, 0.3)]
    assert (np.diff(values) <= 1e-6).all()
    values = [bayesian_epsilon(counts, delta=DELTA, quantile=level) for level in (1e-6, 0.05, 0.5)]
    assert (np.diff(values) >= -1e-6).all()


def test_the_gaussian_bound_is_the_epsilon_of_the_worst_mu_left() -> None:
    # Rates of 1 % and 50 %, known so well that the bounds on them are the rates.
    many = decisions(5 * 10**11, 10**12, 10**10, 10**12)
    assert gaussian_mechanism_epsilon(many, delta=DELTA) == pytest.approx(12.0625, abs=2e-4)
    few = gaussian_mechanism_epsilon(decisions(50, 100, 1, 100), delta=DELTA)
    assert 0 < few < 12.0625 - 1


@pytest.mark.parametrize("table", [(490, 500, 10, 500), (30, 40, 12, 60), (5, 5, 0, 9), (200, 200, 3, 400)])
def test_the_posterior_equals_drawing_from_it(table: tuple[int, int, int, int]) -> None:
    true, members, false, non_members = table
    rng = np.random.Generator(np.random.Philox(1))
    num = 200_000
    fpr = rng.beta(0.5 + false, 0.5 + non_members - false, num)
    fnr = rng.beta(0.5 + members - true, 0.5 + true, num)
    with np.errstate(divide="ignore"):
        one = np.log(np.maximum(1 - DELTA - fpr, 1e-300) / fnr)
        other = np.log(np.maximum(1 - DELTA - fnr, 1e-300) / fpr)
    drawn = np.maximum(0.0, np.maximum(one, other))
    for quantile in (0.05, 0.5, 0.9):
        found = bayesian_epsilon(decisions(*table), delta=DELTA, quantile=quantile)
        # The share of draws at or below the quantile has standard deviation 0.0011 at most.
        assert np.mean(drawn <= found) == pytest.approx(quantile, abs=5 * 0.0011)


def test_the_posterior_does_not_depend_on_the_points_of_the_rule() -> None:
    """From 1 record to a million, with no error and with many: 200 points say what scipy's integration says."""
    for true, members, false, non_members in ((1, 1, 0, 1), (10**6, 10**6, 0, 10**6), (700, 1000, 300, 1000)):
        counts = decisions(true, members, false, non_members)
        epsilon = bayesian_epsilon(counts, delta=DELTA)
        fpr = (0.5 + false, 0.5 + non_members - false)
        fnr = (0.5 + members - true, 0.5 + true)

        corner = float(betainc(*fpr, (1 - DELTA) / (1 + math.exp(epsilon))))
        chance = sum(
            quad(chance_inside, *ends, args=(fpr, fnr, epsilon), limit=500)[0] for ends in ((0, corner), (corner, 1))
        )
        assert chance == pytest.approx(0.05, abs=1e-5) or (epsilon == 0 and chance >= 0.05)


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("mu", [0.5, 1.5])
def test_bounds_at_a_fixed_threshold_hold_for_every_possible_table(bound: Bound, mu: float) -> None:
    """All tables of a Gaussian mechanism at the best threshold, with their chances: none is simulated."""
    num, truth = 25, gaussian_epsilon(mu, DELTA)
    rate = float(ndtr(mu / 2))
    true, false = binom.pmf(np.arange(num + 1), num, rate), binom.pmf(np.arange(num + 1), num, 1 - rate)
    wrong = sum(
        true[i] * false[j]
        for i in range(num + 1)
        for j in range(num + 1)
        if bound(decisions(i, num, j, num), delta=DELTA) > truth
    )
    assert wrong <= 0.05


def chance_of_zero(bound: Bound, num: int, rate: float) -> float:
    """Of a test that knows nothing and says "member" with this rate: over all tables with their chances."""
    chances = binom.pmf(np.arange(num + 1), num, rate)
    return float(
        sum(
            chances[i] * chances[j]
            for i in range(num + 1)
            for j in range(num + 1)
            # with no more true than false positives the posterior is not above 0, which is tested elsewhere
            if i <= j or bound(decisions(i, num, j, num), delta=DELTA) == 0
        )
    )


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("rate", [0.5, 0.1])
def test_random_guesses_give_zero(bound: Bound, rate: float) -> None:
    assert chance_of_zero(bound, 40, rate) >= 0.95


def test_random_guesses_mostly_give_zero_to_the_posterior() -> None:
    # A credible bound: about 95 %, not at least; with 40 records and a rate of 0.1 it is 94.6 %.
    assert chance_of_zero(bayesian_epsilon, 14, 0.5) >= 0.94


def test_very_many_records_neither_overflow_nor_stop() -> None:
    many = decisions(10**12, 10**12, 0, 10**12)
    # Both error rates are at most -log(0.025) / 10^12.
    expected = math.log(10**12 / -math.log(0.025) * (1 - DELTA))
    assert clopper_pearson_epsilon(many, delta=DELTA) == pytest.approx(expected, abs=1e-4)
    assert math.isfinite(gaussian_mechanism_epsilon(many, delta=DELTA))
    assert 20 < bayesian_epsilon(many, delta=DELTA) < 40


def test_nothing_but_wrong_decisions_is_no_evidence() -> None:
    for bound in EVERY_BOUND:
        assert bound(decisions(0, 50, 50, 50), delta=DELTA) == 0.0


@pytest.mark.parametrize(
    ("table", "name"),
    [
        ((1, 0, 0, 1), "num_members is 0"),
        ((0, 1, 0, 0), "num_non_members is 0"),
        ((3, 2, 0, 1), "num_true_positives is 3, expected a whole number, 0 to 2"),
        ((1, 2, -1, 1), "num_false_positives is -1"),
    ],
)
def test_impossible_counts_are_refused(table: tuple[int, int, int, int], name: str) -> None:
    with pytest.raises(ValueError, match=name):
        decisions(*table)


def test_levels_out_of_range_are_refused() -> None:
    counts = decisions(5, 10, 1, 10)
    with pytest.raises(ValueError, match="delta is 1"):
        clopper_pearson_epsilon(counts, delta=1.0)
    with pytest.raises(ValueError, match="delta is 0"):
        gaussian_mechanism_epsilon(counts, delta=0.0)
    with pytest.raises(ValueError, match="significance is nan"):
        clopper_pearson_epsilon(counts, delta=0.0, significance=math.nan)
    with pytest.raises(ValueError, match="quantile is 1"):
        bayesian_epsilon(counts, delta=0.0, quantile=1.0)
