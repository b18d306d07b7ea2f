"""How many records a conclusion needs, and what the records there are can show."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from confide.audit.statistics.area import MIN_EXPECTED_PAIRS
from confide.audit.statistics.interval import NORMAL_QUANTILE
from confide.audit.statistics.multiple import SIGNIFICANCE
from confide.audit.statistics.proportions import binomial_bounds

POWER = 0.8
"""With which probability an effect of the size in question is to be found."""

MIN_NEGATIVES_ABOVE = 10
"""How many non-members must be expected above a threshold before its false-positive rate means something."""

_MAX_RECORDS = 10**9
_NUM_AUCS = 500  # between 0.5 and 1: steps of 0.001


@dataclass(frozen=True, kw_only=True)
class RecordsNeeded:
    """How many members and non-members a conclusion needs."""

    members: int
    non_members: int


def non_members_for_fpr(fpr: float) -> int:
    """Gives how many non-members a false-positive rate needs: 10 / FPR, rounded up, so that ten exceed its threshold.

    Raises:
        ValueError: `fpr` is not above 0 and at most 1.
    """
    if not 0 < fpr <= 1:
        raise ValueError(f"fpr is {fpr}, expected above 0 and at most 1")
    return math.ceil(MIN_NEGATIVES_ABOVE / fpr - 1e-9)  # 10 / 0.001 is 10000.000000000002 or 10000 by rounding


def smallest_fpr(num_non_members: int) -> float:
    """Gives the smallest false-positive rate that so many non-members resolve: 10 / n, at most 1.

    Raises:
        ValueError: there are none.
    """
    if num_non_members < 1:
        raise ValueError(f"num_non_members is {num_non_members}, expected at least 1")
    return min(1.0, MIN_NEGATIVES_ABOVE / num_non_members)


def records_for_auc(
    auc: float, *, members_per_non_member: float = 1.0, power: float = POWER, num_tests: int = 1
) -> RecordsNeeded:
    """Gives how many records are needed for an AUC to be told from chance.

    Args:
        auc: the true one, above 0.5 and below 1.
        members_per_non_member: the ratio of the two groups, > 0.
        power: with which probability, above 0.5 and below 1.
        num_tests: over how many attacks its p-value is corrected by Holm's method, at least 1.

    Returns:
        The smallest numbers in that ratio with which, with the given probability, the 95 % interval of `auc` lies above
        0.5 and its p-value is below 0.05 also as the smallest of so many. Never fewer than 6 of each: with k of each,
        all told apart, that interval starts at 0.025^(1/k).

    Raises:
        ValueError: an argument is out of its range.

    Source: Hanley and McNeil 1982, "The meaning and use of the area under a ROC curve", equation 2 (variance, for
        exponential scores) and its section on sample size; the variance at 0.5 is the exact (m + n + 1) / (12 m n).
        That few records get the longer of the two intervals is taken into account, which is ours.
    """
    _check_auc_and_power(auc, power)
    if not members_per_non_member > 0:
        raise ValueError(f"members_per_non_member is {members_per_non_member}, expected above 0")
    low, high = 0, 1  # in units of the smaller group; invariant: `low` is too few, `high` is to be tried
    while not _is_enough(_in_ratio(high, members_per_non_member), auc, power, num_tests):
        low, high = high, 2 * high
        if high > _MAX_RECORDS:
            raise ValueError(f"auc is {auc}, too close to 0.5: more than {_MAX_RECORDS} records would be needed")
    while high - low > 1:
        middle = (low + high) // 2
        if _is_enough(_in_ratio(middle, members_per_non_member), auc, power, num_tests):
            high = middle
        else:
            low = middle
    return _in_ratio(high, members_per_non_member)


def smallest_auc(num_members: int, num_non_members: int, *, power: float = POWER, num_tests: int = 1) -> float:
    """Gives the smallest AUC that so many records tell from chance with probability `power`, in (0.5, 1], to 0.001.

    1.0 means: with so few not even a strong attack would show.

    Raises:
        ValueError: a group is empty, or `power` is out of its range.
    """
    _check_auc_and_power(0.75, power)
    records = _checked_records(num_members, num_non_members)
    too_small = 0.5
    for auc in np.linspace(0.5, 1, _NUM_AUCS, endpoint=False)[1:].tolist():
        if not _is_enough(records, auc, power, num_tests):
            too_small = auc
    return min(1.0, too_small + 0.5 / _NUM_AUCS)


def shortage(
    num_members: int,
    num_non_members: int,
    *,
    auc: float,
    power: float = POWER,
    num_tests: int = 1,
    is_half: bool = False,
) -> str:
    """Says in a sentence that there are too few records for an AUC, and how many are needed; "" if there are enough.

    Args:
        num_members: that the AUC is measured on.
        num_non_members: that it is measured on.
        auc: the true one, above 0.5 and below 1.
        power: with which probability, above 0.5 and below 1.
        num_tests: over how many attacks its p-value is corrected by Holm's method, at least 1.
        is_half: whether it is measured on one half of the records there are. How many are needed is said of all.

    Example:
        >>> shortage(12, 12, auc=0.6)
        '12 members and 12 non-members show only an AUC above 0.88; to find one of 0.60, 130 of each are needed.'
        >>> shortage(500, 500, auc=0.6)
        ''
        >>> print(shortage(12, 12, auc=0.6, is_half=True).partition("; ")[2])
        to find one of 0.60 on one half of the records, 260 of each are needed in the two halves.

    Raises:
        ValueError: a group is empty, or `auc` or `power` is out of its range.
    """
    _check_auc_and_power(auc, power)
    have = _checked_records(num_members, num_non_members)
    if _is_enough(have, auc, power, num_tests):
        return ""
    found = smallest_auc(num_members, num_non_members, power=power, num_tests=num_tests)
    need = records_for_auc(auc, power=power, num_tests=num_tests)
    shown = "cannot show any AUC" if found >= 1 else f"show only an AUC above {found:.2f}"
    among = f" with {num_tests} attacks" if num_tests > 1 else ""
    on, times, in_all = (" on one half of the records", 2, " in the two halves") if is_half else ("", 1, "")
    return (
        f"{num_members} members and {num_non_members} non-members {shown}; to find one of {auc:.2f}{among}{on}, "
        f"{times * need.members} of each are needed{in_all}."
    )


def times_as_many(p_value: float, *, num_tests: int, power: float = POWER) -> float | None:
    """Gives how many times as many records would find an effect of the size that was measured.

    Args:
        p_value: one-sided, of the effect as measured, before correction.
        num_tests: over how many attacks p-values are corrected by Holm's method, at least 1.
        power: with which probability, above 0.5 and below 1.

    Returns:
        At least 1; None where the p-value speaks for no effect at all. As the ratio of squared normal quantiles.

    Example:
        >>> times_as_many(0.03125, num_tests=3)
        2.54...
    """
    reached = -float(ndtri(p_value))
    if reached <= 0:
        return None
    return max(1.0, ((float(ndtri(power)) - float(ndtri(SIGNIFICANCE / num_tests))) / reached) ** 2)


def hanley_mcneil_variance(auc: float, num_members: int, num_non_members: int) -> float:
    """Gives the variance of an AUC estimate if scores were exponentially distributed.

    Source: Hanley and McNeil 1982, equations 1 and 2.
    """
    two_members = auc / (2 - auc)
    two_non_members = 2 * auc**2 / (1 + auc)
    return (
        auc * (1 - auc)
        + (num_members - 1) * (two_members - auc**2)
        + (num_non_members - 1) * (two_non_members - auc**2)
    ) / (num_members * num_non_members)


def _is_enough(records: RecordsNeeded, auc: float, power: float, num_tests: int) -> bool:
    """Whether even an estimate that is low, as only 1 - power of all are, has an interval above 0.5, and a one-sided
    p-value that is small enough.
    """
    m, n = records.members, records.non_members
    low_estimate = auc - float(ndtri(power)) * math.sqrt(hanley_mcneil_variance(auc, m, n))
    quantile = max(NORMAL_QUANTILE, -float(ndtri(SIGNIFICANCE / num_tests)))
    if low_estimate - 0.5 < quantile * math.sqrt((m + n + 1) / (12 * m * n)):
        return False
    num_pairs = min(m, n)
    if num_pairs * (1 - low_estimate) >= MIN_EXPECTED_PAIRS:
        return True
    return binomial_bounds(low_estimate * num_pairs, num_pairs)[0] > 0.5


def _in_ratio(smaller: int, members_per_non_member: float) -> RecordsNeeded:
    larger = math.ceil(smaller * max(members_per_non_member, 1 / members_per_non_member) - 1e-9)
    if members_per_non_member >= 1:
        return RecordsNeeded(members=larger, non_members=smaller)
    return RecordsNeeded(members=smaller, non_members=larger)


def _checked_records(num_members: int, num_non_members: int) -> RecordsNeeded:
    if num_members < 1 or num_non_members < 1:
        raise ValueError(f"there are {num_members} members and {num_non_members} non-members, expected at least 1 each")
    return RecordsNeeded(members=num_members, non_members=num_non_members)


def _check_auc_and_power(auc: float, power: float) -> None:
    if not 0.5 < auc < 1:
        raise ValueError(f"auc is {auc}, expected above 0.5 and below 1")
    if not 0.5 < power < 1:
        raise ValueError(f"power is {power}, expected above 0.5 and below 1")
