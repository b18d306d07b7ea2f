"""The ROC curve at its low end: what an attack finds while accusing almost nobody wrongly.

Everything here is a step function of what was measured: nothing is interpolated between two thresholds, and no hull is
taken; both promise operating points that the attack does not have.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import hypergeom

from confide.audit.statistics.interval import Interval
from confide.audit.statistics.proportions import clopper_pearson
from confide.audit.statistics.sample_size import non_members_for_fpr, smallest_fpr
from confide.audit.statistics.scores import Floats, Indices, checked_groups

MAX_POINTS = 200
"""How many points of a curve a figure needs at most."""


@dataclass(frozen=True, kw_only=True)
class TprAtFpr:
    """How many members are found at a false-positive rate.

    Attributes:
        max_fpr: the false-positive rate asked for.
        tpr: the largest true-positive rate of a threshold whose false-positive rate is at most `max_fpr`; its
            Clopper-Pearson interval is about the members at this threshold.
        fpr: the false-positive rate at this threshold. Its interval says how well that rate is known: 0 of 1,000 only
            says that it is below 0.4 % (0.3 % one-sided).
        threshold: a record is called a member if its score is strictly above; -inf if all are called members.
        num_non_members_needed: 10 / `max_fpr`.
        smallest_fpr: the smallest rate that the non-members there are resolve, 10 / num_non_members.
    """

    max_fpr: float
    tpr: Interval
    fpr: Interval
    threshold: float
    num_non_members_needed: int
    smallest_fpr: float

    @property
    def is_resolved(self) -> bool:
        """Whether there are non-members enough for this rate."""
        return self.fpr.num >= self.num_non_members_needed


@dataclass(frozen=True, kw_only=True)
class RocPoint:
    """A step of the ROC curve: from `fpr` on, until the next point, the true-positive rate is `tpr`.

    Attributes:
        fpr: share of non-members called members, in [0, 1].
        tpr: the largest share of members found with no more than that.
        low: lower end of the Clopper-Pearson interval of `tpr`, point by point.
        high: its upper end.
    """

    fpr: float
    tpr: float
    low: float
    high: float


def tpr_p_value(num_found: int, num_members: int, num_others: int, *, max_fpr: float) -> float:
    """Gives the p-value of "as many members as others are above the threshold" of `tpr_at_fpr`, in (0, 1].

    Exact: with k others allowed above it, and as records tell nothing, the highest t + k of all are any t + k of them,
    and the test asks how likely at most k others are among them. Equal scores only make it larger.

    Args:
        num_found: members above the threshold, t.
        num_members: how many there are, at least 1.
        num_others: how many others there are, at least 1.
        max_fpr: the false-positive rate asked for; k is the largest count within it.
    """
    num_allowed = int(max_fpr * num_others + 1e-9)
    found = float(hypergeom.cdf(num_allowed, num_members + num_others, num_others, num_found + num_allowed))
    return min(1.0, max(found, 1e-300))


def tpr_value(members: npt.ArrayLike, non_members: npt.ArrayLike, *, max_fpr: float) -> float:
    """Gives the true-positive rate of `tpr_at_fpr` alone, for resampling and for choosing."""
    above, below = checked_groups(members, non_members)
    return float(np.mean(above > _threshold(below, max_fpr)))


def tpr_at_fpr(members: npt.ArrayLike, non_members: npt.ArrayLike, *, max_fpr: float) -> TprAtFpr:
    """Gives the largest true-positive rate with a false-positive rate of at most `max_fpr`, without interpolation.

    Args:
        members: scores, shape (num_members,), finite; higher = member.
        non_members: scores, shape (num_non_members,), finite.
        max_fpr: above 0 and at most 1. (A rate of 0 is one that no number of records resolves.)

    Raises:
        DataError, RunError, ValueError: as `checked_vector`; or `max_fpr` is out of its range.

    Source: Carlini et al. 2022, "Membership Inference Attacks From First Principles", section 4 (report the
        true-positive rate at low false-positive rates).
    """
    above, below = checked_groups(members, non_members)
    threshold = _threshold(below, max_fpr)
    return TprAtFpr(
        max_fpr=max_fpr,
        tpr=clopper_pearson(int(np.count_nonzero(above > threshold)), above.size),
        fpr=clopper_pearson(int(np.count_nonzero(below > threshold)), below.size),
        threshold=threshold,
        num_non_members_needed=non_members_for_fpr(max_fpr),
        smallest_fpr=smallest_fpr(below.size),
    )


def roc_curve(
    members: npt.ArrayLike, non_members: npt.ArrayLike, *, max_points: int = MAX_POINTS
) -> tuple[RocPoint, ...]:
    """Gives the whole ROC curve as steps, thinned for a figure with logarithmic axes.

    Args:
        members: scores, shape (num_members,), finite; higher = member.
        non_members: scores, shape (num_non_members,), finite.
        max_points: at least 3. Points that are left out are chosen so that the others stand evenly on a logarithmic
            false-positive axis.

    Returns:
        Points with growing `fpr`, from 0 (which has no place on a logarithmic axis) to 1, where `tpr` is 1. Drawn as
        steps, tpr(x) is that of the last point with fpr <= x.

    Guarantees:
        - Every point is one that a threshold has; with fewer points the steps lie below the whole curve or on it.

    Raises:
        DataError, RunError, ValueError: as `checked_vector`; or `max_points` is too small.
    """
    if max_points < 3:
        raise ValueError(f"max_points is {max_points}, expected at least 3")
    above, below = checked_groups(members, non_members)
    false, true = _steps(above, below)
    kept = _thin(false, max_points)
    points = []
    for num_false, num_true in zip(false[kept].tolist(), true[kept].tolist(), strict=True):
        tpr = clopper_pearson(num_true, above.size)
        points.append(RocPoint(fpr=num_false / below.size, tpr=tpr.value, low=tpr.low, high=tpr.high))
    return tuple(points)


def _threshold(non_members: Floats, max_fpr: float) -> float:
    """The lowest score such that at most a share of `max_fpr` of the non-members lies strictly above."""
    if not 0 < max_fpr <= 1:
        raise ValueError(f"max_fpr is {max_fpr}, expected above 0 and at most 1")
    num = non_members.size
    # The largest count with count / num <= max_fpr; max_fpr * num alone may fall below a whole number by rounding.
    allowed = min(num, int(max_fpr * num) + 1)
    while allowed / num > max_fpr:
        allowed -= 1
    return float("-inf") if allowed == num else float(np.sort(non_members)[num - 1 - allowed])


def _steps(members: Floats, non_members: Floats) -> tuple[Indices, Indices]:
    """Numbers of false and of true positives: for every possible number of false ones the most true ones."""
    thresholds = np.concatenate([[-np.inf], np.unique(non_members)])[::-1]  # only these change the false positives
    false = non_members.size - np.searchsorted(np.sort(non_members), thresholds, side="right")
    true = members.size - np.searchsorted(np.sort(members), thresholds, side="right")
    return false, true


def _thin(false: Indices, max_points: int) -> Indices:
    """Which steps to keep: all if few, else the first, the last, and others evenly by the logarithm of `false`."""
    if false.size <= max_points:
        return np.arange(false.size)
    # The last step at or before each of the wanted numbers of false positives; several may share one.
    wanted = np.geomspace(1, false[-1], max_points - 1)
    return np.unique(np.concatenate([[0], np.searchsorted(false, wanted + 1e-9, side="right") - 1, [false.size - 1]]))
