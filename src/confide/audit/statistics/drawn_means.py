"""The comparisons of two means on many drawn samples at once: what `means` and the rank tests say of each.

For the power of those, which takes hundreds of samples for every number of records that is tried.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv, gammaln, ndtr, stdtr, stdtrit
from scipy.stats import rankdata

from confide.audit.statistics.interval import CONFIDENCE
from confide.audit.statistics.means import MIN_EXPECTED
from confide.audit.statistics.scores import Floats

_TINY = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparisons:
    """What the audit says of two means, sample by sample.

    Attributes:
        low: where the interval of the difference starts, shape (num_samples,).
        p_values: the larger of the test on means and the one on ranks, shape (num_samples,).
    """

    low: Floats
    p_values: Floats


@dataclass(frozen=True, kw_only=True, eq=False)
class _Means:
    """Means with their intervals, each of shape (num_samples,)."""

    value: Floats
    low: Floats
    high: Floats


def compare_means(members: Floats, others: Floats, *, bound: float | None) -> Comparisons:
    """Compares the means of different records.

    Args:
        members: shape (num_samples, num_members), at least 2 members.
        others: shape (num_samples, num_others), at least 2 others.
        bound: what no value is above, > 0, where none is below 0 either; None where there is no such bound.

    Returns:
        Of each sample the start of the interval, and the larger of the p-values, of `mean_difference` and
        `rank_p_value`; the interval is `share_mean_difference`'s where values have a bound. Ranks' p-value is exact
        where the others are all alike and nothing is below them. Elsewhere it is the normal approximation, and never
        below that of groups that are told apart fully.
    """
    parts = [one.var(axis=1, ddof=1) / one.shape[1] for one in (members, others)]
    error = np.sqrt(parts[0] + parts[1])
    shares = np.divide(parts[0], error**2, out=np.full(error.size, 0.5), where=error > 0)
    freedom = 1 / (shares**2 / (members.shape[1] - 1) + (1 - shares) ** 2 / (others.shape[1] - 1))
    value = members.mean(axis=1) - others.mean(axis=1)
    if bound is None:
        low = value - stdtrit(freedom, 0.5 + CONFIDENCE / 2) * error
    else:
        low = _low_of_difference(_unit_means(members / bound), _unit_means(others / bound), np.zeros(value.size))
    return Comparisons(
        low=low, p_values=np.maximum(_t_p_values(value, error, freedom), _rank_p_values(members, others))
    )


def compare_paired_means(after: Floats, before: Floats, *, bound: float | None) -> Comparisons:
    """Compares the means on the same records, as `compare_means`.

    Args:
        after: shape (num_samples, num_records), at least 2 records.
        before: of the same records.
        bound: as there.

    Returns:
        As `paired_mean_difference` and `paired_share_mean_difference` give them. The signed ranks' p-value is exact
        where no record fell, and the normal approximation elsewhere.
    """
    differences = after - before
    value, num = differences.mean(axis=1), differences.shape[1]
    error = np.sqrt(differences.var(axis=1, ddof=1) / num)
    freedom = np.full(value.size, num - 1.0)
    if bound is None:
        low = value - stdtrit(freedom, 0.5 + CONFIDENCE / 2) * error
    else:
        first, second = after / bound, before / bound
        low = _low_of_difference(_unit_means(first), _unit_means(second), _correlations(first, second))
    return Comparisons(
        low=low, p_values=np.maximum(_t_p_values(value, error, freedom), _signed_rank_p_values(differences))
    )


def _unit_means(values: Floats) -> _Means:
    """See `unit_mean_interval`."""
    num = values.shape[1]
    mean = np.clip(values.mean(axis=1), 0.0, 1.0)
    half = stdtrit(num - 1, 0.5 + CONFIDENCE / 2) * np.sqrt(values.var(axis=1, ddof=1) / num)
    low, high = np.maximum(0.0, mean - half), np.minimum(1.0, mean + half)
    is_extreme = (num * np.minimum(mean, 1 - mean) < MIN_EXPECTED) | (values.min(axis=1) == values.max(axis=1))
    low[is_extreme], high[is_extreme] = _binomial_bounds(mean[is_extreme], num)
    return _Means(value=mean, low=np.minimum(low, mean), high=np.maximum(high, mean))


def _binomial_bounds(share: Floats, num: int) -> tuple[Floats, Floats]:
    tail = (1 - CONFIDENCE) / 2
    ones, zeros = num * share, num * (1 - share)
    low = np.where(ones > 0, betaincinv(np.maximum(ones, _TINY), zeros + 1, tail), 0.0)
    high = np.where(zeros > 0, betaincinv(ones + 1, np.maximum(zeros, _TINY), 1 - tail), 1.0)
    return low, high


def _low_of_difference(first: _Means, second: _Means, correlation: Floats) -> Floats:
    """See `square_and_add`."""
    one, other = first.value - first.low, second.high - second.value
    leg = np.sqrt(np.maximum(0.0, one**2 - 2 * correlation * one * other + other**2))
    return np.maximum(-1.0, first.value - second.value - leg)


def _correlations(first: Floats, second: Floats) -> Floats:
    """Of paired values; 0 where one of them does not vary."""
    spread = first.std(axis=1) * second.std(axis=1)
    product = ((first - first.mean(axis=1, keepdims=True)) * (second - second.mean(axis=1, keepdims=True))).mean(axis=1)
    found: Floats = np.divide(product, spread, out=np.zeros(spread.size), where=spread > 0)
    return np.clip(found, -1.0, 1.0)


def _t_p_values(value: Floats, error: Floats, freedom: Floats) -> Floats:
    certain = np.where(value == 0, 0.0, np.copysign(np.inf, value))
    found: Floats = stdtr(freedom, -np.divide(value, error, out=certain, where=error > 0))
    return found


def _rank_p_values(members: Floats, others: Floats) -> Floats:
    """See `rank_p_value`."""
    num, num_members = members.shape[1] + others.shape[1], members.shape[1]
    ranks: Floats = rankdata(np.concatenate([members, others], axis=1), axis=1)
    step = _steps(ranks - ranks.min(axis=1, keepdims=True))
    centred = ranks - ranks.mean(axis=1, keepdims=True)
    variance = num_members * others.shape[1] / (num * (num - 1)) * (centred**2).sum(axis=1)
    normal = _normal_tail(centred[:, :num_members].sum(axis=1), step, variance)
    lowest = others.max(axis=1)
    num_above = np.where(
        (others.min(axis=1) == lowest) & (members.min(axis=1) >= lowest), (members > lowest[:, None]).sum(axis=1), -1
    )
    most_above = np.where(num_above >= 0, num_above, num_members)
    exact = np.exp(_log_choices(num_members, most_above) - _log_choices(num, most_above))
    found: Floats = np.where(num_above >= 0, exact, np.maximum(normal, exact))
    return found


def _signed_rank_p_values(differences: Floats) -> Floats:
    """See `signed_rank_p_value`."""
    has_moved = differences != 0
    ranks = np.where(has_moved, rankdata(np.abs(differences), axis=1), 0.0)
    excess = (ranks * np.sign(differences)).sum(axis=1) / 2
    normal = _normal_tail(excess, _steps(ranks), (ranks**2).sum(axis=1) / 4)
    num_moved = has_moved.sum(axis=1)
    least = np.exp2(-num_moved.astype(np.float64))
    found: Floats = np.where((differences >= 0).all(axis=1), least, np.maximum(normal, least))
    return found


def _steps(ranks: Floats) -> Floats:
    """In what steps sums of ranks can go; ranks are whole or half."""
    found: Floats = np.gcd.reduce(np.rint(2 * ranks).astype(np.int64), axis=1) / 2
    return found


def _normal_tail(excess: Floats, step: Floats, variance: Floats) -> Floats:
    """With a continuity correction of half a step; 1 where nothing varies."""
    spread = np.sqrt(variance)
    found: Floats = ndtr(-np.divide(excess - step / 2, spread, out=np.full(spread.size, -np.inf), where=spread > 0))
    return found


def _log_choices(num: int, chosen: npt.NDArray[np.int64]) -> Floats:
    found: Floats = gammaln(num + 1) - gammaln(chosen + 1) - gammaln(num - chosen + 1)
    return found
