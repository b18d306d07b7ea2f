"""The area under the ROC curve, as the probability that a member scores higher than a non-member."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit, ndtr, ndtri

from confide.audit.statistics.interval import CONFIDENCE, NORMAL_QUANTILE, Interval
from confide.audit.statistics.proportions import binomial_bounds
from confide.audit.statistics.rank_test import rank_p_value
from confide.audit.statistics.scores import Floats, checked_groups

MIN_EXPECTED_PAIRS = 5.0
"""DeLong's interval is given where, among as many disjoint pairs of a member and a non-member as there are, at least
this many would be won and at least this many lost: the rule of five for proportions, in terms of pairs."""


Method = Literal["delong", "disjoint pairs"]


@dataclass(frozen=True, kw_only=True)
class AucInterval:
    """An AUC in [0, 1] with its interval, and how that was made; see `auc`."""

    interval: Interval
    method: Method


@dataclass(frozen=True, kw_only=True)
class Auc:
    """How well scores tell members from non-members.

    Attributes:
        interval: the AUC in [0, 1], 0.5 is chance; over members and non-members together.
        p_value: of "AUC = 0.5" against "members score higher"; see `rank_p_value`.
        method: how the interval was made, "delong" or "disjoint pairs".
        num_members: how many there are.
        num_non_members: how many there are.
    """

    interval: Interval
    p_value: float
    method: Method
    num_members: int
    num_non_members: int


@dataclass(frozen=True, kw_only=True)
class Placements:
    """Where each record stands among those of the other group.

    Attributes:
        members: for each member the share of non-members below it, an equal one counting half, shape (num_members,).
        non_members: for each non-member the share of members above it, an equal one counting half.
        won: the share of pairs in which the member is strictly above.
        lost: the share in which it is strictly below.
    """

    members: Floats
    non_members: Floats
    won: float
    lost: float


def auc_value(members: npt.ArrayLike, non_members: npt.ArrayLike) -> float:
    """Gives the AUC alone: P(member > non-member) + P(equal) / 2, in [0, 1]; it is never the area of the ROC's hull.

    Raises:
        DataError, RunError, ValueError: as `checked_vector`.
    """
    placed = placements(*checked_groups(members, non_members))
    return _area(placed)


def auc(members: npt.ArrayLike, non_members: npt.ArrayLike, *, standard_error_factor: float = 1.0) -> Auc:
    """Gives the AUC with its 95 % interval and its p-value.

    Args:
        members: scores, shape (num_members,), finite; higher = member.
        non_members: scores, shape (num_non_members,), finite.
        standard_error_factor: at least 1: how much wider than for independent scores the interval is made, for scores
            that err together, as out-of-fold scores of a classifier do. The p-value follows.

    Guarantees:
        - A monotone map of all scores changes nothing; members and non-members swapped give 1 - AUC, with the
          interval mirrored.
        - With enough of both outcomes (`MIN_EXPECTED_PAIRS`) the interval is DeLong's on the logit scale, inside
          (0, 1), and covers about 95 %.
        - Otherwise DeLong's variance is too small, or 0 as at an AUC of 1, and the interval comes from what
          k = min(num_members, num_non_members) disjoint pairs would say: Clopper-Pearson bounds w of the share won and
          l of the share lost give [(1 + w_low - l_high) / 2, (1 + w_high - l_low) / 2]. At an AUC of 1 this holds for
          every distribution: the k pairs are independent and each is won with probability at most AUC, so all are won
          with probability at most AUC^k, and low = 0.025^(1/k).

    Raises:
        DataError, RunError, ValueError: as `checked_vector`.

    Source: DeLong, DeLong and Clarke-Pearson 1988 (variance); Qin and Hotilovac 2008, "Comparison of non-parametric
        confidence intervals for the area under the ROC curve" (logit scale). Birnbaum and Klose 1957, "Bounds for the
        variance of the Mann-Whitney statistic": no distribution gives more variance than AUC (1 - AUC) / k, that of a
        proportion of k pairs; that it is split into won and lost, for ties, is ours.
    """
    above, below = checked_groups(members, non_members)
    found = auc_interval(above, below, standard_error_factor=standard_error_factor)
    p_value = rank_p_value(above, below)
    if standard_error_factor > 1:
        p_value = float(ndtr(ndtri(p_value) / standard_error_factor))
    return Auc(
        interval=found.interval,
        p_value=p_value,
        method=found.method,
        num_members=above.size,
        num_non_members=below.size,
    )


def auc_interval(
    members: npt.ArrayLike, non_members: npt.ArrayLike, *, standard_error_factor: float = 1.0
) -> AucInterval:
    """Gives the AUC and its interval without the test, which takes most of the time; see `auc`."""
    if not standard_error_factor >= 1:
        raise ValueError(f"standard_error_factor is {standard_error_factor}, expected at least 1")
    above, below = checked_groups(members, non_members)
    placed = placements(above, below)
    value = _area(placed)
    num_pairs = min(above.size, below.size) / standard_error_factor**2
    variance = sum(_variance(group) for group in (placed.members, placed.non_members)) * standard_error_factor**2
    method: Method
    if variance > 0 and num_pairs * min(placed.won, placed.lost) >= MIN_EXPECTED_PAIRS:
        method = "delong"
        low, high = _logit_bounds(value, math.sqrt(variance))
    else:
        method = "disjoint pairs"
        low, high = _pair_bounds(placed, num_pairs)
    return AucInterval(interval=Interval(value=value, low=low, high=high, num=above.size + below.size), method=method)


def placements(members: Floats, non_members: Floats) -> Placements:
    """Places every record among those of the other group, in O(n log n)."""
    below_members, up_to_members = _counts(non_members, members)
    below_others, up_to_others = _counts(members, non_members)
    num_pairs = members.size * non_members.size
    return Placements(
        members=(below_members + up_to_members) / (2 * non_members.size),
        non_members=1 - (below_others + up_to_others) / (2 * members.size),
        won=float(below_members.sum()) / num_pairs,
        lost=float(below_others.sum()) / num_pairs,
    )


def _counts(group: Floats, values: Floats) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """How many of the group are below each value, and how many at most equal to it."""
    ordered = np.sort(group)
    return np.searchsorted(ordered, values, side="left"), np.searchsorted(ordered, values, side="right")


def _area(placed: Placements) -> float:
    return (1 + placed.won - placed.lost) / 2


def _variance(group: Floats) -> float:
    """Of a group's mean placement; of one record nothing is known, and 0 sends the caller to the other interval."""
    return float(group.var(ddof=1)) / group.size if group.size > 1 else 0.0


def _logit_bounds(value: float, standard_error: float) -> tuple[float, float]:
    half = NORMAL_QUANTILE * standard_error / (value * (1 - value))
    return float(expit(logit(value) - half)), float(expit(logit(value) + half))


def _pair_bounds(placed: Placements, num_pairs: float) -> tuple[float, float]:
    won_low, won_high = binomial_bounds(placed.won * num_pairs, num_pairs, confidence=CONFIDENCE)
    lost_low, lost_high = binomial_bounds(placed.lost * num_pairs, num_pairs, confidence=CONFIDENCE)
    return (1 + won_low - lost_high) / 2, (1 + won_high - lost_low) / 2
