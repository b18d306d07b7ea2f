"""References: binomial sums in exact fractions, the f-DP recursion as the paper lists it, and exact chances."""

import math
from fractions import Fraction
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr
from scipy.stats import binom

from confide.audit.statistics.epsilon_one_run import (
    Guesses,
    f_dp_epsilon,
    f_dp_mu,
    one_run_epsilon,
    one_run_p_value,
)
from confide.audit.statistics.gaussian_curve import gaussian_epsilon

DELTA = 1e-5
NORMAL = NormalDist()

TABLES = st.integers(1, 60).flatmap(
    lambda num: st.tuples(st.just(num), st.integers(1, num)).flatmap(
        lambda sizes: st.tuples(st.just(sizes[0]), st.just(sizes[1]), st.integers(0, sizes[1]))
    )
)


def guesses(num: int, guessed: int, correct: int) -> Guesses:
    return Guesses(num_canaries=num, num_guesses=guessed, num_correct=correct)


def slow_p_value(num: int, guessed: int, correct: int, epsilon: float, delta: float) -> float:
    """Every tail summed up from exact binomials, for every i up to the number of canaries."""
    power = Fraction(math.exp(epsilon))
    right = power / (1 + power)
    chances = [math.comb(guessed, k) * right**k * (1 - right) ** (guessed - k) for k in range(guessed + 1)]

    def tail(least: int) -> Fraction:
        return sum(chances[max(0, least) :], Fraction(0))

    beta = tail(correct)
    steepest = max((tail(correct - i) - beta) / i for i in range(1, num + 1))
    return min(1.0, float(beta + 2 * num * Fraction(delta) * steepest))


def slow_is_refuted(num: int, guessed: int, correct: int, mu: float, significance: float) -> bool:
    """The paper's listing with its arrays h and r."""
    if correct == 0:
        return False
    h, r = [0.0] * (correct + 1), [0.0] * (correct + 1)
    r[correct] = significance * correct / num
    h[correct] = significance * (guessed - correct) / num
    for i in range(correct - 1, -1, -1):
        inverse = NORMAL.cdf(NORMAL.inv_cdf(r[i + 1]) - mu) if r[i + 1] < 1 else 1.0
        h[i] = max(h[i + 1], inverse)
        r[i] = r[i + 1] + i / (guessed - i) * (h[i] - h[i + 1])
    return r[0] + h[0] > guessed / num


@pytest.mark.parametrize(
    ("table", "steinke", "f_dp"),
    [
        ((1000, 600, 600), 5.2704, 10.5149),
        ((100, 100, 100), 3.4902, 8.2162),
        ((1000, 100, 100), 3.4654, 5.5490),
        ((1000, 100, 95), 2.1652, 3.3233),
        ((1000, 1000, 600), 0.2972, 0.5835),
        ((1000, 1000, 500), 0.0, 0.0),
        ((5000, 500, 490), 3.3357, 4.9501),
    ],
)
def test_the_agreed_digits(table: tuple[int, int, int], steinke: float, f_dp: float) -> None:
    """Vectors on which two other implementations agree, at significance 0.05."""
    assert round(one_run_epsilon(guesses(*table), delta=DELTA), 4) == steinke
    assert round(f_dp_epsilon(guesses(*table), delta=DELTA), 4) == f_dp


def test_the_agreed_digits_without_delta() -> None:
    assert round(one_run_epsilon(guesses(500, 50, 50), delta=0.0), 4) == 2.7847
    # All right, pure epsilon: (1 + e^-epsilon)^-50 = 0.05.
    assert (1 + math.exp(-one_run_epsilon(guesses(500, 50, 50), delta=0.0))) ** -50 == pytest.approx(0.05, rel=1e-6)


@settings(deadline=None, max_examples=40)
@given(TABLES, st.floats(0, 8), st.sampled_from([0.0, 1e-9, 1e-5, 0.01]))
def test_the_p_value_equals_exact_binomial_sums(table: tuple[int, int, int], epsilon: float, delta: float) -> None:
    expected = slow_p_value(*table, epsilon, delta)
    assert one_run_p_value(guesses(*table), epsilon, delta=delta) == pytest.approx(expected, rel=1e-9, abs=1e-300)


@settings(deadline=None, max_examples=20)
@given(TABLES, st.sampled_from([0.0, 1e-5, 0.001]))
def test_everything_below_the_bound_is_refuted_and_nothing_above(table: tuple[int, int, int], delta: float) -> None:
    found = one_run_epsilon(guesses(*table), delta=delta)
    if found > 0:
        assert all(slow_p_value(*table, found * share, delta) < 0.05 for share in (0.0, 0.3, 0.7, 0.999))
    assert all(slow_p_value(*table, found + more, delta) >= 0.05 for more in (1e-6, 0.1, 1.0))


@settings(deadline=None, max_examples=40)
@given(TABLES, st.sampled_from([0.5, 0.05, 0.001]))
def test_f_dp_is_the_papers_listing(table: tuple[int, int, int], significance: float) -> None:
    mu = f_dp_mu(guesses(*table), significance=significance)
    assert not slow_is_refuted(*table, mu + 1e-6, significance)
    if mu > 0:
        assert slow_is_refuted(*table, max(0.0, mu - 1e-6), significance)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 60).flatmap(lambda num: st.tuples(st.just(num), st.integers(0, num))))
def test_f_dp_claims_no_more_than_the_gaussian_mechanism_itself_refutes(counts: tuple[int, int]) -> None:
    """Of independent canaries, all guessed, Phi(mu / 2) are right: binomial sums then give the exact bound."""
    num, correct = counts
    mu = f_dp_mu(guesses(num, num, correct))
    chance = sum(
        math.comb(num, k) * float(ndtr(mu / 2)) ** k * float(ndtr(-mu / 2)) ** (num - k)
        for k in range(correct, num + 1)
    )
    assert mu == 0 or chance <= 0.05 + 1e-9


@settings(deadline=None, max_examples=40)
@given(TABLES)
def test_a_correct_guess_more_never_lowers_a_bound(table: tuple[int, int, int]) -> None:
    num, guessed, correct = table
    if correct < guessed:
        for delta in (0.0, DELTA, 0.01):
            more = one_run_epsilon(guesses(num, guessed, correct + 1), delta=delta)
            assert more >= one_run_epsilon(guesses(*table), delta=delta) - 1e-8
        assert f_dp_mu(guesses(num, guessed, correct + 1)) >= f_dp_mu(guesses(*table)) - 1e-7


@settings(deadline=None, max_examples=40)
@given(TABLES)
def test_a_larger_delta_never_raises_a_bound(table: tuple[int, int, int]) -> None:
    """(epsilon, delta)-DP with a larger delta promises less, so a smaller epsilon goes with the same mechanism."""
    counts = guesses(*table)
    values = [one_run_epsilon(counts, delta=delta) for delta in (0.0, 1e-8, 1e-5, 1e-3, 0.1)]
    assert (np.diff(values) <= 1e-8).all()
    values = [f_dp_epsilon(counts, delta=delta) for delta in (1e-8, 1e-5, 1e-3, 0.1)]
    assert (np.diff(values) <= 1e-8).all()


@settings(deadline=None, max_examples=40)
@given(TABLES)
def test_more_confidence_never_raises_a_bound(table: tuple[int, int, int]) -> None:
    counts = guesses(*table)
    for bound in (one_run_epsilon, f_dp_epsilon):
        values = [bound(counts, delta=DELTA, significance=level) for level in (1e-9, 1e-3, 0.05, 0.5)]
        assert (np.diff(values) >= -1e-7).all()


@pytest.mark.parametrize("num", [20, 200])
@pytest.mark.parametrize("guessed_share", [0.25, 1.0])
def test_random_guesses_give_zero(num: int, guessed_share: float) -> None:
    """With a chance of at least 95 %, exactly."""
    guessed = int(guessed_share * num)
    chances = binom.pmf(np.arange(guessed + 1), guessed, 0.5)
    for bound in (one_run_epsilon, f_dp_epsilon):
        zero = [bound(guesses(num, guessed, correct), delta=DELTA) == 0 for correct in range(guessed + 1)]
        assert float(chances @ zero) >= 0.95


@pytest.mark.parametrize("epsilon", [0.5, 1.5, 3.0])
def test_randomised_response_is_bounded_with_the_chance_stated(epsilon: float) -> None:
    """The mechanism that Steinke's bound is tight for: every guess is right with e^epsilon / (1 + e^epsilon)."""
    num = 100
    right = 1 / (1 + math.exp(-epsilon))
    chances = binom.pmf(np.arange(num + 1), num, right)
    bounds = np.array([one_run_epsilon(guesses(num, num, correct), delta=0.0) for correct in range(num + 1)])
    wrong = float(chances[bounds > epsilon].sum())
    assert wrong <= 0.05
    # The number of right guesses at which 5 % are reached is one less: nothing is given away.
    assert wrong + float(chances[np.flatnonzero(bounds > epsilon)[0] - 1]) > 0.05


def test_many_canaries_and_large_epsilons_neither_overflow_nor_stop() -> None:
    million = guesses(10**6, 10**6, 10**6)
    # q^m = 0.05: epsilon = log(m / -log 0.05)
    assert one_run_epsilon(million, delta=0.0) == pytest.approx(math.log(10**6 / -math.log(0.05)), abs=1e-5)
    assert one_run_p_value(million, 800.0, delta=0.0) == 1.0
    assert one_run_p_value(guesses(10, 10, 0), 0.0, delta=0.0) == 1.0
    assert one_run_epsilon(guesses(10, 0, 0), delta=DELTA) == f_dp_epsilon(guesses(10, 0, 0), delta=DELTA) == 0.0
    assert 0 < f_dp_mu(guesses(2000, 2000, 2000), significance=1e-12) < 10


def test_f_dp_finds_more_than_any_mechanism_would_allow() -> None:
    for table in ((1000, 600, 600), (1000, 100, 95), (1000, 1000, 600)):
        assert f_dp_epsilon(guesses(*table), delta=DELTA) > one_run_epsilon(guesses(*table), delta=DELTA)
    mu = f_dp_mu(guesses(1000, 100, 95))
    assert f_dp_epsilon(guesses(1000, 100, 95), delta=DELTA) == gaussian_epsilon(mu, DELTA)


@pytest.mark.parametrize(
    ("table", "name"),
    [
        ((0, 0, 0), "num_canaries is 0"),
        ((5, 6, 0), "num_guesses is 6, expected a whole number, 0 to 5"),
        ((5, 3, 4), "num_correct is 4, expected a whole number, 0 to 3"),
        ((5, 3, -1), "num_correct is -1"),
    ],
)
def test_impossible_counts_are_refused(table: tuple[int, int, int], name: str) -> None:
    with pytest.raises(ValueError, match=name):
        guesses(*table)


def test_levels_out_of_range_are_refused() -> None:
    counts = guesses(10, 5, 5)
    with pytest.raises(ValueError, match="delta is nan"):
        one_run_epsilon(counts, delta=math.nan)
    with pytest.raises(ValueError, match="delta is 0"):
        f_dp_epsilon(counts, delta=0.0)
    with pytest.raises(ValueError, match="significance is 0"):
        one_run_epsilon(counts, delta=0.0, significance=0.0)
    with pytest.raises(ValueError, match="epsilon is -1"):
        one_run_p_value(counts, -1.0, delta=0.0)
