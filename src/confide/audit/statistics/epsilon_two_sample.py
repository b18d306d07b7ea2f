"""Lower bounds on epsilon from how often a test accuses members and non-members: exact, Gaussian and Bayesian.

All three read one table of counts at one threshold that was fixed without these records' labels; `threshold_bound` in
`epsilon_choice.py` chooses among several and corrects for it. They take every record's decision as independent of the
others': true of many trainings with one canary each, a heuristic for many canaries in one training, where the one-run
bounds are the ones that hold as stated. What a canary is decides whose epsilon it is: several canaries in one client's
data are fine for one record's epsilon; a client's epsilon needs one canary client for each decision.
"""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.special import betainc, betaincc, betainccinv, ndtri

from confide.audit.statistics.epsilon_search import (
    check_count,
    check_delta,
    check_significance,
    largest_holding,
)
from confide.audit.statistics.gaussian_curve import gaussian_epsilon
from confide.audit.statistics.multiple import SIGNIFICANCE
from confide.audit.statistics.proportions import binomial_bounds
from confide.audit.statistics.scores import Floats

NUM_NODES = 200
"""Points of the Gauss-Legendre rule that integrates the posterior; 100 or 400 move the quantile by less than 1e-6."""

_BISECTION_TOLERANCE = 1e-7


@dataclass(frozen=True, kw_only=True)
class Decisions:
    """How often a test said "member", to members and to non-members.

    Attributes:
        num_true_positives: members called members, 0 to `num_members`.
        num_members: at least 1.
        num_false_positives: non-members called members, 0 to `num_non_members`.
        num_non_members: at least 1.

    Raises:
        ValueError: a count is impossible or NaN.
    """

    num_true_positives: int
    num_members: int
    num_false_positives: int
    num_non_members: int

    def __post_init__(self) -> None:
        check_count(self.num_members, name="num_members", low=1)
        check_count(self.num_non_members, name="num_non_members", low=1)
        check_count(self.num_true_positives, name="num_true_positives", low=0, high=self.num_members)
        check_count(self.num_false_positives, name="num_false_positives", low=0, high=self.num_non_members)

    @property
    def num_false_negatives(self) -> int:
        """Members called non-members."""
        return self.num_members - self.num_true_positives

    @property
    def num_true_negatives(self) -> int:
        """Non-members called non-members."""
        return self.num_non_members - self.num_false_positives


def clopper_pearson_epsilon(decisions: Decisions, *, delta: float, significance: float = SIGNIFICANCE) -> float:
    """Gives a lower bound on epsilon that holds for every mechanism, from exact bounds on both error rates.

    Args:
        decisions: at a threshold that these labels did not choose.
        delta: at least 0 and below 1.
        significance: the chance that the bound is above the true epsilon, in (0, 1); half goes to each error rate.

    Returns:
        max(0, log((1 - FNR_high - delta) / FPR_high), log((1 - FPR_high - delta) / FNR_high)), finite. Both ways round
        rest on the same two bounds, so that taking the larger needs no correction.

    Guarantees:
        - Never falls with a correct decision more, never rises with delta, never rises as significance falls.

    Raises:
        ValueError: delta or significance is out of its range.

    Example:
        >>> found = Decisions(num_true_positives=500, num_members=1000, num_false_positives=0, num_non_members=1000)
        >>> round(clopper_pearson_epsilon(found, delta=1e-5), 4)
        4.8461

    Source: Jagielski, Ullman and Oprea 2020, "Auditing differentially private machine learning: how private is private
        SGD?"; bounds of Clopper and Pearson 1934.
    """
    check_delta(delta, is_zero_allowed=True)
    fpr_high, fnr_high = _highest_rates(decisions, significance)
    return max(0.0, _log_odds(1 - fnr_high - delta, fpr_high), _log_odds(1 - fpr_high - delta, fnr_high))


def gaussian_mechanism_epsilon(decisions: Decisions, *, delta: float, significance: float = SIGNIFICANCE) -> float:
    """Gives a lower bound on epsilon if the mechanism's trade-off curve is a Gaussian one; label it so.

    The exact bounds on both error rates give mu = -Phi^-1(FPR_high) - Phi^-1(FNR_high), and mu the epsilon at delta,
    also one that no test of so few records could show by itself.

    Args:
        decisions: at a threshold that these labels did not choose.
        delta: above 0 and below 1.
        significance: as in `clopper_pearson_epsilon`.

    Raises:
        ValueError: delta or significance is out of its range.

    Source: Nasr et al. 2023, "Tight auditing of differentially private machine learning"; Dong, Roth and Su
        2022, "Gaussian differential privacy", Corollary 1.
    """
    check_delta(delta, is_zero_allowed=False)
    fpr_high, fnr_high = _highest_rates(decisions, significance)
    mu = -float(ndtri(fpr_high)) - float(ndtri(fnr_high))  # no bound is 0; one of 1 gives -inf
    return gaussian_epsilon(max(0.0, mu), delta)


def bayesian_epsilon(decisions: Decisions, *, delta: float, quantile: float = SIGNIFICANCE) -> float:
    """Gives a quantile of the posterior distribution of epsilon, which is shorter than two separate bounds allow.

    Both error rates get Jeffreys' prior, so FPR ~ Beta(1/2 + FP, 1/2 + TN) and FNR ~ Beta(1/2 + FN, 1/2 + TP),
    independently; epsilon is the smallest one whose region of possible error rates holds the pair.

    Args:
        decisions: at a threshold that these labels did not choose.
        delta: at least 0 and below 1.
        quantile: in (0, 1); at 0.05 the true epsilon is larger with a posterior probability of 95 %.

    Returns:
        The quantile, at least 0, within 1e-6. It is a credible bound, not an exact one: with few
        records, or error rates near 0, it can be wrong more often than `quantile` says.

    Raises:
        ValueError: delta or quantile is out of its range.

    Source: Zanella-Beguelin et al. 2023, "Bayesian estimation of differential privacy". Their region is
        also bounded from above, for tests that are wrong more often than right; here such a test counts as epsilon 0,
        because higher scores mean members by definition. Otherwise pure guessing would never give 0.
    """
    check_delta(delta, is_zero_allowed=True)
    if not 0 < quantile < 1:
        raise ValueError(f"quantile is {quantile}, expected above 0 and below 1")
    fpr = (0.5 + decisions.num_false_positives, 0.5 + decisions.num_true_negatives)
    fnr = (0.5 + decisions.num_false_negatives, 0.5 + decisions.num_true_positives)
    return largest_holding(
        lambda epsilon: 1 - _chance_outside(fpr, fnr, epsilon, delta) < quantile, tolerance=_BISECTION_TOLERANCE
    )


def _chance_outside(fpr: tuple[float, float], fnr: tuple[float, float], epsilon: float, delta: float) -> float:
    """The posterior probability of error rates that no (epsilon, delta)-DP mechanism has.

    These lie below one of two lines that meet on the diagonal at c: a square up to c, and a tail on either side.
    """
    corner = (1 - delta) / (1 + math.exp(epsilon)) if epsilon < 700 else (1 - delta) * math.exp(-epsilon)
    square = float(betainc(*fpr, corner) * betainc(*fnr, corner))
    return square + _tail(fpr, fnr, corner, epsilon, delta) + _tail(fnr, fpr, corner, epsilon, delta)


def _tail(along: tuple[float, float], other: tuple[float, float], corner: float, epsilon: float, delta: float) -> float:
    """The probability of one rate x above the corner with the other below (1 - delta - x) / e^epsilon."""
    nodes, weights = _rule()
    share = float(betaincc(*along, corner))
    rates = betainccinv(*along, share * (nodes + 1) / 2)
    lines = np.clip(1 - delta - rates, 0.0, 1.0) * math.exp(-epsilon)
    return share * float(np.dot(weights, betainc(*other, lines))) / 2


@cache
def _rule() -> tuple[Floats, Floats]:
    nodes, weights = np.polynomial.legendre.leggauss(NUM_NODES)
    return np.asarray(nodes, np.float64), np.asarray(weights, np.float64)


def _highest_rates(decisions: Decisions, significance: float) -> tuple[float, float]:
    """Upper bounds of the false-positive and the false-negative rate that hold together."""
    check_significance(significance)
    confidence = 1 - significance
    _, fpr_high = binomial_bounds(decisions.num_false_positives, decisions.num_non_members, confidence=confidence)
    _, fnr_high = binomial_bounds(decisions.num_false_negatives, decisions.num_members, confidence=confidence)
    return fpr_high, fnr_high


def _log_odds(power: float, rate: float) -> float:
    return math.log(power / rate) if power > 0 else 0.0
