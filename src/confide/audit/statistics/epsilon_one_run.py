"""Lower bounds on epsilon from one training with many canaries, each in or out by the flip of a coin.

An auditor guesses the coins of the canaries it is sure about and abstains from the others. No independence between
canaries is assumed, only that the coins are fair, independent, and that nothing else in the training depends on them.
A bound speaks of what one coin adds or removes. Several canaries in one client's data are fine at the level of a
record. For a client's epsilon they are invalid: there one coin has to decide about a whole client, so a client carries
one canary, or is one (`epsilon_canary_clients.py`).
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import betaincc, gammaln, ndtr, ndtri

from confide.audit.statistics.epsilon_search import (
    check_count,
    check_delta,
    check_significance,
    largest_holding,
)
from confide.audit.statistics.gaussian_curve import gaussian_epsilon
from confide.audit.statistics.multiple import SIGNIFICANCE


@dataclass(frozen=True, kw_only=True)
class Guesses:
    """How many coins were guessed, and how many rightly.

    Attributes:
        num_canaries: coins that were flipped, at least 1, also those nobody guessed.
        num_guesses: 0 to `num_canaries`.
        num_correct: 0 to `num_guesses`.

    Raises:
        ValueError: a count is impossible or NaN.
    """

    num_canaries: int
    num_guesses: int
    num_correct: int

    def __post_init__(self) -> None:
        check_count(self.num_canaries, name="num_canaries", low=1)
        check_count(self.num_guesses, name="num_guesses", low=0, high=self.num_canaries)
        check_count(self.num_correct, name="num_correct", low=0, high=self.num_guesses)


def one_run_p_value(guesses: Guesses, epsilon: float, *, delta: float) -> float:
    """Gives a bound on the chance of so many correct guesses if the mechanism is (epsilon, delta)-DP.

    Args:
        guesses: of r coins v were right, among m canaries.
        epsilon: at least 0.
        delta: at least 0 and below 1.

    Returns:
        beta + 2 m delta max_i (P[B >= v - i] - beta) / i, at most 1, with B binomial of r trials with probability
        e^epsilon / (1 + e^epsilon), beta = P[B >= v], and i = 1 .. v (beyond, the term only falls).

    Raises:
        ValueError: epsilon or delta is out of its range.

    Source: Steinke, Nasr and Jagielski 2023, "Privacy auditing with one (1) training run", Theorem 5.2. Counted in
        wrong guesses here, whose probability 1 / (1 + e^epsilon) stays exact where the other rounds to 1.
    """
    if not 0 <= epsilon < math.inf:
        raise ValueError(f"epsilon is {epsilon}, expected at least 0 and finite")
    check_delta(delta, is_zero_allowed=True)
    num, num_wrong = guesses.num_guesses, guesses.num_guesses - guesses.num_correct
    if guesses.num_correct == 0:
        return 1.0
    log_wrong, log_right = -float(np.logaddexp(0.0, epsilon)), -float(np.logaddexp(0.0, -epsilon))
    beta = float(betaincc(num_wrong + 1, num - num_wrong, math.exp(log_wrong)))
    if delta == 0:
        return beta
    wrong = np.arange(num_wrong + 1, num + 1)
    log_ways = gammaln(num + 1) - gammaln(wrong + 1) - gammaln(num - wrong + 1)
    more = np.cumsum(np.exp(log_ways + wrong * log_wrong + (num - wrong) * log_right))
    slope = float(np.max(more / np.arange(1, guesses.num_correct + 1)))
    return min(1.0, beta + 2 * guesses.num_canaries * delta * slope)


def one_run_epsilon(guesses: Guesses, *, delta: float, significance: float = SIGNIFICANCE) -> float:
    """Gives a lower bound on epsilon from one training, for every mechanism.

    Args:
        guesses: made with numbers of guesses that these coins did not choose; else see `one_run_bound`.
        delta: at least 0 and below 1.
        significance: the chance that the bound is above the true epsilon, in (0, 1).

    Returns:
        The largest epsilon that is refuted, from below; 0 if none is. It is a lower bound, never "the epsilon".

    Guarantees:
        - Never falls with a correct guess more, never rises with delta, never rises as significance falls.

    Raises:
        ValueError: delta or significance is out of its range.

    Example:
        >>> found = Guesses(num_canaries=1000, num_guesses=100, num_correct=95)
        >>> round(one_run_epsilon(found, delta=1e-5), 4)
        2.1652

    Source: as `one_run_p_value`.
    """
    check_delta(delta, is_zero_allowed=True)
    check_significance(significance)
    return largest_holding(lambda epsilon: one_run_p_value(guesses, epsilon, delta=delta) < significance)


def f_dp_mu(guesses: Guesses, *, significance: float = SIGNIFICANCE) -> float:
    """Gives the largest mu at which so many correct guesses refute that the mechanism is mu-GDP; 0 if none.

    Raises:
        ValueError: significance is out of its range.

    Source: as `f_dp_epsilon`.
    """
    check_significance(significance)
    return largest_holding(lambda mu: _is_refuted(guesses, mu, significance), tolerance=1e-8)


def f_dp_epsilon(guesses: Guesses, *, delta: float, significance: float = SIGNIFICANCE) -> float:
    """Gives a lower bound on epsilon from one training if the trade-off curve is a Gaussian one; label it so.

    Args:
        guesses: as in `one_run_epsilon`.
        delta: above 0 and below 1.
        significance: as in `one_run_epsilon`.

    Returns:
        The epsilon at delta of the largest mu refuted, from below (mu within 1e-8).

    Guarantees:
        - As `one_run_epsilon`.

    Raises:
        ValueError: delta or significance is out of its range.

    Source: Mahloujifar, Melis and Chaudhuri 2025, "Auditing f-differential privacy in one run", the numerical test
        for a trade-off function f with two outcomes; here f(x) = Phi(Phi^-1(1 - x) - mu).
    """
    check_delta(delta, is_zero_allowed=False)
    return gaussian_epsilon(f_dp_mu(guesses, significance=significance), delta)


def _is_refuted(guesses: Guesses, mu: float, significance: float) -> bool:
    """Whether c or more right guesses have a chance below `significance` under every mu-GDP mechanism.

    Downwards from c the shares of right (r) and wrong (h) guesses that a chance of exactly `significance` would force
    are added up. f bounds the share that is wrong from below: h >= Phi(Phi^-1(r) - mu). More than there are guesses:
    impossible.
    """
    num, correct = guesses.num_guesses, guesses.num_correct
    if correct == 0:
        return False
    limit = num / guesses.num_canaries
    right = significance * correct / guesses.num_canaries
    wrong = significance * (num - correct) / guesses.num_canaries
    for i in range(correct - 1, -1, -1):
        if right + wrong > limit:
            return True
        bound = max(wrong, float(ndtr(ndtri(right) - mu)))
        right += i / (num - i) * (bound - wrong)
        wrong = bound
    return right + wrong > limit
