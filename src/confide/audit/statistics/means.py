"""Means and their differences: for losses, exposures and overlaps, which are neither ranks nor counts."""

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.special import stdtr, stdtrit

from confide.audit.statistics.interval import CONFIDENCE, Alternative, Difference, Interval, check_alternative
from confide.audit.statistics.proportions import binomial_bounds, square_and_add
from confide.audit.statistics.scores import Floats, checked_vector
from confide.audit.statistics.signed_rank_test import signed_rank_p_value
from confide.errors import DataError

MIN_EXPECTED = 5.0
"""A mean of values in [0, 1] gets a t interval if it is this far from 0 and from `num`, counted in whole records."""


@dataclass(frozen=True, kw_only=True)
class PairedMeanDifference:
    """A mean difference over the same records, with two tests.

    Attributes:
        difference: with Student's t interval and p-value.
        wilcoxon_p_value: of Wilcoxon's signed-rank test, which a few extreme records do not sway.
    """

    difference: Difference
    wilcoxon_p_value: float


def mean_interval(values: npt.ArrayLike, *, name: str = "values") -> Interval:
    """Gives a mean with Student's t interval.

    Args:
        values: one per record, shape (num_records,), at least 2, finite.
        name: what they are, for error messages.

    Raises:
        DataError: there are fewer than 2.
        RunError, ValueError: as `checked_vector`.
    """
    given = _checked(values, name)
    half = _t_quantile(given.size - 1) * math.sqrt(given.var(ddof=1) / given.size)
    mean = float(given.mean())
    return Interval(value=mean, low=mean - half, high=mean + half, num=given.size)


def unit_mean_interval(values: npt.ArrayLike, *, name: str = "values") -> Interval:
    """Gives a mean of values in [0, 1], such as ROUGE, with an interval inside [0, 1].

    Args:
        values: one per record, shape (num_records,), at least 1, each in [0, 1].
        name: what they are, for error messages.

    Guarantees:
        - Where the sum is near 0 or near the number of records (`MIN_EXPECTED`), where t intervals are far too short
          or have no width at all, the interval is Clopper and Pearson's of that sum. For all values 0 this holds for
          every distribution: a value in [0, 1] with mean m is above 0 with probability at least m.
        - So it is where all values are alike: a t interval of those has no width, however few they are.

    Raises:
        DataError, RunError, ValueError: as `checked_vector`; ValueError also for values outside [0, 1].
    """
    given = checked_vector(values, name=name)
    if given.min() < 0 or given.max() > 1:
        raise ValueError(f"{name} range from {given.min():g} to {given.max():g}, expected 0 to 1")
    mean = float(given.mean())
    if given.size * min(mean, 1 - mean) < MIN_EXPECTED or given.min() == given.max():
        low, high = binomial_bounds(mean * given.size, given.size, confidence=CONFIDENCE)
        return Interval(value=mean, low=min(low, mean), high=max(high, mean), num=given.size)
    found = mean_interval(given, name=name)
    return Interval(value=mean, low=max(0.0, found.low), high=min(1.0, found.high), num=given.size)


def mean_difference(
    first: npt.ArrayLike, second: npt.ArrayLike, *, alternative: Alternative = "two-sided"
) -> Difference:
    """Compares two means of different records, such as members and held-out records, by Welch's test.

    Args:
        first: one value per record of the first group, shape (num_first,), at least 2, finite.
        second: the same of the second group, shape (num_second,).
        alternative: what the p-value is about.

    Returns:
        The first mean minus the second. Where no group varies the interval has no width, and the p-value is 1 for
        equal means and the smallest there is otherwise.

    Raises:
        DataError: a group has fewer than 2 records.
        RunError, ValueError: as `checked_vector`.

    Source: Welch 1947, "The generalization of 'Student's' problem when several different population variances are
        involved".
    """
    check_alternative(alternative)
    one, other = _checked(first, "first"), _checked(second, "second")
    parts = np.array([one.var(ddof=1) / one.size, other.var(ddof=1) / other.size])
    error = math.sqrt(float(parts.sum()))
    degrees = np.array([one.size - 1, other.size - 1])
    shares = parts / parts.sum() if error > 0 else np.array([0.5, 0.5])
    freedom = float(1 / (shares**2 / degrees).sum())
    value = float(one.mean() - other.mean())
    return _t_difference(value, error, freedom, one.size + other.size, alternative)


def paired_mean_difference(
    first: npt.ArrayLike, second: npt.ArrayLike, *, alternative: Alternative = "two-sided"
) -> PairedMeanDifference:
    """Compares two means on the same records, such as a model and its base model.

    Args:
        first: one value per record, shape (num_records,), at least 2, finite.
        second: of the same records in the same order.
        alternative: what the p-values are about.

    Returns:
        The mean of first minus second, with both tests. Wilcoxon's gives equal magnitudes their midrank, ranks zeros
        too but counts them on neither side (Pratt), and is exact for few records. Where all differences are equal the
        t interval has no width; for outcomes that are true or false take `paired_proportion_difference`.

    Raises:
        DataError: there are fewer than 2 records.
        RunError, ValueError: as `checked_vector`; ValueError also for different shapes.

    Source: Student 1908; Wilcoxon 1945; Pratt 1959, "Remarks on zeros and ties in the Wilcoxon signed rank procedures".
    """
    check_alternative(alternative)
    one, other = _checked(first, "first"), _checked(second, "second")
    if one.shape != other.shape:
        raise ValueError(f"first has {one.size} records and second {other.size}, expected the same records")
    differences = one - other
    error = math.sqrt(differences.var(ddof=1) / differences.size)
    return PairedMeanDifference(
        difference=_t_difference(float(differences.mean()), error, differences.size - 1, differences.size, alternative),
        wilcoxon_p_value=signed_rank_p_value(differences, alternative),
    )


def share_mean_difference(first: npt.ArrayLike, second: npt.ArrayLike) -> Interval:
    """Compares two means of values in [0, 1] of different records: put together from their own intervals.

    Those are long near none and all (`unit_mean_interval`), where a t interval of few values above zero is too short.

    Args:
        first: one value per record of the first group, shape (num_first,), each in [0, 1].
        second: the same of the second group, shape (num_second,).

    Returns:
        The first mean minus the second, in [-1, 1].

    Raises:
        DataError, RunError, ValueError: as `unit_mean_interval`.

    Source: Zou and Donner 2008, see `square_and_add`.
    """
    return square_and_add(unit_mean_interval(first), unit_mean_interval(second), correlation=0.0, bound=1.0)


def paired_share_mean_difference(first: npt.ArrayLike, second: npt.ArrayLike) -> Interval:
    """The same of two means on the same records, with the correlation of the two.

    Guarantees:
        - Exchanging first and second changes the sign. Where all records differ by the same the interval has no width:
          take a p-value beside it.

    Raises:
        DataError, RunError, ValueError: as `unit_mean_interval`; ValueError also for different shapes.
    """
    one, other = checked_vector(first, name="first"), checked_vector(second, name="second")
    if one.shape != other.shape:
        raise ValueError(f"first has {one.size} records and second {other.size}, expected the same records")
    found = square_and_add(
        unit_mean_interval(one), unit_mean_interval(other), correlation=_correlation(one, other), bound=1.0
    )
    return replace(found, num=one.size)


def _correlation(first: Floats, second: Floats) -> float:
    """Of two paired values; 0 where one of them does not vary."""
    spread = float(first.std() * second.std())  # 0 also where tiny probabilities underflow
    if spread == 0:
        return 0.0
    product = float(((first - first.mean()) * (second - second.mean())).mean())
    return min(1.0, max(-1.0, product / spread))


def _t_difference(value: float, error: float, freedom: float, num: int, alternative: Alternative) -> Difference:
    half = _t_quantile(freedom) * error
    return Difference(
        interval=Interval(value=value, low=value - half, high=value + half, num=num),
        p_value=_t_p_value(value, error, freedom, alternative),
    )


def _t_p_value(value: float, error: float, freedom: float, alternative: Alternative) -> float:
    if value == 0:
        return 1.0 if alternative == "two-sided" else 0.5
    statistic = value / error if error > 0 else math.copysign(math.inf, value)
    if alternative == "greater":
        p_value = float(stdtr(freedom, -statistic))
    else:
        p_value = 2 * float(stdtr(freedom, -abs(statistic)))
    return max(p_value, float(np.finfo(np.float64).tiny))


def _t_quantile(freedom: float) -> float:
    return float(stdtrit(freedom, 0.5 + CONFIDENCE / 2))


def _checked(values: npt.ArrayLike, name: str) -> Floats:
    given = checked_vector(values, name=name)
    if given.size < 2:
        raise DataError(f"{name}: 1 record says nothing about the spread, expected at least 2.")
    return given
