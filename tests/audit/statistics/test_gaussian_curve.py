"""References: a power series with 420 digits for the closed form, integration for two normal distributions."""

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtri
from scipy.stats import norm

from confide.audit.statistics.gaussian_curve import (
    gaussian_epsilon,
    gaussian_log_delta,
    gaussian_mu,
    normal_pair_epsilon,
)


def series(x: Decimal) -> Decimal:
    """x + x^3 / 3 + x^5 / (3 5) + ..., times e^(-x^2 / 2): the integral of e^(-t^2 / 2) from 0 to x."""
    term = total = x
    n = 1
    while abs(term) > abs(total) * Decimal(10) ** -400:
        n += 2
        term *= x * x / n
        total += term
    return total * (-x * x / 2).exp()


def precise_log_delta(mu: float, epsilon: float) -> float:
    with localcontext() as context:
        context.prec = 420
        m, e = Decimal(mu), Decimal(epsilon)
        half = series(Decimal(45))  # sqrt(pi / 2) but for e^-1000

        def upper(x: Decimal) -> Decimal:
            return (1 - series(x) / half) / 2 if x else Decimal(1) / 2

        return float((upper(e / m - m / 2) - e.exp() * upper(e / m + m / 2)).ln())


def integrated_divergence(shift: float, spread: float, epsilon: float) -> float:
    """The larger of both orders of max over S of P(S) - e^epsilon Q(S), as a sum over a fine grid."""
    reach = abs(shift) + 12 * max(1.0, spread)
    x = np.linspace(-reach, reach, 400_001)
    p, q = norm.pdf(x, shift, spread), norm.pdf(x)
    step = float(x[1] - x[0])
    return step * max(float(np.clip(a - math.exp(epsilon) * b, 0, None).sum()) for a, b in ((p, q), (q, p)))


@pytest.mark.parametrize("mu", [1e-3, 0.05, 0.5, 2.0, 7.0, 40.0])
@pytest.mark.parametrize("epsilon_per_mu", [0.0, 0.1, 1.0, 4.0, 9.0])
def test_log_delta_equals_high_precision(mu: float, epsilon_per_mu: float) -> None:
    epsilon = epsilon_per_mu * mu
    # Two logs of Mills ratios are subtracted; their difference is of the order of mu, their error 1e-16.
    assert gaussian_log_delta(mu, epsilon) == pytest.approx(precise_log_delta(mu, epsilon), rel=1e-10, abs=1e-11)


def test_the_agreed_digits() -> None:
    """Vectors on which two other implementations agree."""
    assert round(gaussian_epsilon(2.0, 1e-5), 4) == 9.9973
    assert round(float(ndtri(0.99) - ndtri(0.5)), 5) == 2.32635
    assert round(gaussian_epsilon(2.32635, 1e-5), 4) == 12.0625


@settings(deadline=None)
@given(st.floats(1e-3, 50), st.floats(1e-12, 0.5))
def test_epsilon_is_the_least_whose_delta_is_enough(mu: float, delta: float) -> None:
    epsilon = gaussian_epsilon(mu, delta)
    assert gaussian_log_delta(mu, epsilon + 1e-8 * (1 + epsilon)) <= math.log(delta)
    assert epsilon == 0 or gaussian_log_delta(mu, epsilon) > math.log(delta)


@settings(deadline=None)
@given(st.floats(0.01, 40), st.floats(1e-12, 1e-3))
def test_mu_is_the_inverse_of_epsilon(mu: float, delta: float) -> None:
    epsilon = gaussian_epsilon(mu, delta)
    if epsilon > 1e-3:
        assert gaussian_mu(epsilon, delta) == pytest.approx(mu, rel=1e-5)


def test_enormous_privacy_losses_neither_overflow_nor_stop() -> None:
    # epsilon = mu^2 / 2 + mu z, with z at most sqrt(2 log(1 / delta)) = 4.8
    for mu in (100.0, 1e4, 1e5):
        assert mu**2 / 2 <= gaussian_epsilon(mu, 1e-5) <= mu**2 / 2 + 4.8 * mu
    assert gaussian_log_delta(1e-3, 1e6) < -1e15
    assert gaussian_log_delta(1e-300, 1e300) == -math.inf
    assert gaussian_epsilon(0.0, 1e-5) == 0.0


@pytest.mark.parametrize(("shift", "spread"), [(0.3, 1.0), (1.0, 1.4), (-1.0, 1.4), (1.5, 0.6), (0.0, 1.3), (0.0, 0.8)])
def test_two_normal_distributions_equal_integration(shift: float, spread: float) -> None:
    for delta in (1e-3, 1e-5):
        epsilon = normal_pair_epsilon(shift, spread, delta)
        assert integrated_divergence(shift, spread, epsilon) == pytest.approx(delta, rel=1e-3)


@settings(deadline=None, max_examples=30)
@given(st.floats(0, 20), st.floats(1e-9, 0.1))
def test_equal_spreads_are_the_gaussian_mechanism_without_a_jump(shift: float, delta: float) -> None:
    exact = gaussian_epsilon(shift, delta)
    assert normal_pair_epsilon(shift, 1.0, delta) == exact
    assert normal_pair_epsilon(-shift, 1.0, delta) == exact
    for spread in (1 - 1e-7, 1 + 1e-7):
        assert normal_pair_epsilon(shift, spread, delta) == pytest.approx(exact, abs=1e-4, rel=1e-4)


@settings(deadline=None, max_examples=30)
@given(st.floats(-10, 10), st.floats(0.2, 5), st.floats(1e-9, 0.1))
def test_either_distribution_may_be_the_first(shift: float, spread: float, delta: float) -> None:
    there, back = normal_pair_epsilon(shift, spread, delta), normal_pair_epsilon(-shift / spread, 1 / spread, delta)
    assert there == pytest.approx(back, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("delta", [1e-2, 1e-5, 1e-9])
def test_epsilon_is_least_at_equal_spreads_and_grows_with_the_shift(delta: float) -> None:
    """What the lower bound of the canary clients rests on."""
    shifts, spreads = [0.0, 0.01, 0.1, 0.5, 1.0, 3.0, 10.0], np.geomspace(0.25, 4, 17)
    table = np.array([[normal_pair_epsilon(shift, float(spread), delta) for spread in spreads] for shift in shifts])
    slack = 1e-7 * (1 + table[1:, 1:])
    assert (np.diff(table[:, :9], axis=1) <= slack[0, 0]).all()
    assert (np.diff(table[:, 8:], axis=1) >= -slack[0, 0]).all()
    assert (np.diff(table, axis=0) >= -slack[0, 0]).all()


@pytest.mark.parametrize(
    ("mu", "epsilon"), [(-1.0, 1.0), (math.inf, 1.0), (math.nan, 1.0), (1.0, -1.0), (1.0, math.nan)]
)
def test_what_is_no_privacy_loss_is_refused(mu: float, epsilon: float) -> None:
    with pytest.raises(ValueError, match="expected at least 0 and finite"):
        gaussian_log_delta(mu, epsilon)


def test_a_pair_without_a_spread_is_refused() -> None:
    for spread in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="spread is"):
            normal_pair_epsilon(1.0, spread, 1e-5)
    with pytest.raises(ValueError, match="shift is nan"):
        normal_pair_epsilon(math.nan, 1.0, 1e-5)
    with pytest.raises(ValueError, match="delta is 0"):
        normal_pair_epsilon(1.0, 1.0, 0.0)
