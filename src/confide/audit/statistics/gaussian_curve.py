"""Epsilon and delta of telling two normal distributions apart, in closed form and in log space.

The privacy curve of the Gaussian mechanism, which the Gaussian, f-DP and canary-client audits read their epsilon from.
"""

import math

import numpy as np
from scipy.special import erfcx, log_ndtr

from confide.audit.statistics.epsilon_search import check_delta, largest_holding

_LOG_SQRT_HALF_PI = 0.5 * math.log(math.pi / 2)


def gaussian_log_delta(mu: float, epsilon: float) -> float:
    """Gives the log of the smallest delta at which a mu-GDP mechanism is (epsilon, delta)-DP.

    Args:
        mu: sensitivity over noise standard deviation, at least 0 and finite; at 0 nothing is told apart.
        epsilon: at least 0, finite.

    Returns:
        log(Phi(mu/2 - epsilon/mu) - e^epsilon Phi(-mu/2 - epsilon/mu)), at most 0; -inf at mu = 0.

    Guarantees:
        - Falls with epsilon and grows with mu. Nothing overflows: with Mills' ratio M(x) = (1 - Phi(x)) / phi(x) the
          second term over the first is M(epsilon/mu + mu/2) / M(epsilon/mu - mu/2), without e^epsilon.

    Raises:
        ValueError: an argument is negative, infinite or NaN.

    Source: Balle and Wang 2018, "Improving the Gaussian mechanism for differential privacy", Theorem 8; Dong, Roth and
        Su 2022, "Gaussian differential privacy", Corollary 1.
    """
    _check_non_negative(mu, name="mu")
    _check_non_negative(epsilon, name="epsilon")
    if mu == 0:
        return -math.inf
    middle = epsilon / mu
    if math.isinf(middle):
        return -math.inf
    log_ratio = _log_mills(middle + mu / 2) - _log_mills(middle - mu / 2)
    if log_ratio >= 0:  # equal up to rounding: mu is tiny beside epsilon
        return -math.inf
    return float(log_ndtr(mu / 2 - middle)) + _log_one_minus_exp(log_ratio)


def gaussian_epsilon(mu: float, delta: float) -> float:
    """Gives the epsilon of a mu-GDP mechanism at a delta: the true one of a Gaussian mechanism.

    Args:
        mu: sensitivity over noise standard deviation, at least 0 and finite.
        delta: above 0 and below 1.

    Returns:
        The smallest epsilon >= 0 whose delta is enough, from below, to the tolerance of `largest_holding`.

    Raises:
        ValueError: an argument is out of its range or NaN.

    Example:
        >>> round(gaussian_epsilon(2.0, 1e-5), 4)
        9.9973

    Source: as `gaussian_log_delta`.
    """
    _check_non_negative(mu, name="mu")
    check_delta(delta, is_zero_allowed=False)
    log_delta = math.log(delta)
    return largest_holding(lambda epsilon: gaussian_log_delta(mu, epsilon) > log_delta)


def gaussian_mu(epsilon: float, delta: float) -> float:
    """Gives the largest mu of a Gaussian mechanism that is (epsilon, delta)-DP: the inverse of `gaussian_epsilon`.

    Raises:
        ValueError: an argument is out of its range or NaN.
    """
    _check_non_negative(epsilon, name="epsilon")
    check_delta(delta, is_zero_allowed=False)
    log_delta = math.log(delta)
    return largest_holding(lambda mu: gaussian_log_delta(mu, epsilon) <= log_delta)


def normal_pair_epsilon(shift: float, spread: float, delta: float) -> float:
    """Gives the epsilon of telling N(shift, spread^2) from N(0, 1), whichever of the two is the world with the client.

    Args:
        shift: difference of the means over the second one's standard deviation, finite, of either sign.
        spread: the first standard deviation over the second's, above 0, finite. At 1 this is `gaussian_epsilon`.
        delta: above 0 and below 1.

    Returns:
        The smallest epsilon >= 0 with P(S) <= e^epsilon Q(S) + delta for all S and both orders of the two, from below.

    Raises:
        ValueError: an argument is out of its range or NaN.

    Source: Andrew et al. 2024, "One-shot empirical privacy estimation for federated learning", the epsilon of two
        Gaussians. The set where the log-likelihood ratio, a quadratic, exceeds epsilon is an interval or the
        outside of one, so both probabilities are differences of Phi.
    """
    if not math.isfinite(shift):
        raise ValueError(f"shift is {shift}, expected a finite number")
    if not 0 < spread < math.inf:
        raise ValueError(f"spread is {spread}, expected above 0 and finite")
    check_delta(delta, is_zero_allowed=False)
    log_delta = math.log(delta)
    pairs = ((shift, spread), (-shift / spread, 1 / spread))  # the second: both worlds in units of the first

    def is_passed(epsilon: float) -> bool:
        return any(_log_divergence(mean, scale, epsilon) > log_delta for mean, scale in pairs)

    return largest_holding(is_passed)


def _log_divergence(mean: float, scale: float, epsilon: float) -> float:
    """Log of max over S of P(S) - e^epsilon Q(S), with P = N(mean, scale^2) and Q = N(0, 1)."""
    if abs(scale - 1) < 1e-9:
        return gaussian_log_delta(abs(mean), epsilon)
    # log p/q - epsilon = square x^2 + linear x + constant, above 0 where P is the likelier by more than e^epsilon
    square = (1 - scale**-2) / 2
    linear = mean / scale**2
    constant = -(mean**2) / (2 * scale**2) - math.log(scale) - epsilon
    discriminant = linear**2 - 4 * square * constant
    if discriminant <= 0:  # only if scale < 1 or up to rounding: no point favours P so much
        return -math.inf
    # the stable form of the two roots: no difference of nearly equal numbers
    total = -(linear + math.copysign(math.sqrt(discriminant), linear)) / 2
    low, high = sorted((total / square, constant / total))
    region = _log_outside if square > 0 else _log_inside
    log_p = region((low - mean) / scale, (high - mean) / scale)
    log_q = region(low, high) + epsilon
    return -math.inf if log_q >= log_p else log_p + _log_one_minus_exp(log_q - log_p)


def _log_outside(low: float, high: float) -> float:
    """Log of Phi(low) + 1 - Phi(high)."""
    return float(np.logaddexp(log_ndtr(low), log_ndtr(-high)))


def _log_inside(low: float, high: float) -> float:
    """Log of Phi(high) - Phi(low), in the tail where the two are small."""
    if low + high > 0:
        low, high = -high, -low
    log_high, log_low = float(log_ndtr(high)), float(log_ndtr(low))
    return -math.inf if log_low >= log_high else log_high + _log_one_minus_exp(log_low - log_high)


def _log_mills(x: float) -> float:
    """Log of (1 - Phi(x)) / phi(x); erfcx overflows far below 0, where 1 - Phi(x) is nearly 1."""
    if x > -5:
        return _LOG_SQRT_HALF_PI + math.log(float(erfcx(x / math.sqrt(2))))
    return float(log_ndtr(-x)) + x * x / 2 + 0.5 * math.log(2 * math.pi)


def _log_one_minus_exp(x: float) -> float:
    """Log of 1 - e^x for x < 0, exact at both ends."""
    return math.log(-math.expm1(x)) if x > -math.log(2) else math.log1p(-math.exp(x))


def _check_non_negative(value: float, *, name: str) -> None:
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} is {value}, expected at least 0 and finite")
