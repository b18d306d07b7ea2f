"""Proportions: how often something happened, with intervals that stay honest at none and at all."""

import math

import numpy.typing as npt
from scipy.special import betaincinv
from scipy.stats import binomtest, fisher_exact

from confide.audit.statistics.interval import (
    CONFIDENCE,
    NORMAL_QUANTILE,
    Alternative,
    Difference,
    Interval,
    check_alternative,
)
from confide.audit.statistics.scores import checked_flags
from confide.errors import DataError


def clopper_pearson(successes: int, trials: int, *, confidence: float = CONFIDENCE) -> Interval:
    """Gives a proportion with its exact interval.

    Args:
        successes: 0 to `trials`.
        trials: at least 1, independent, each with the same probability of success.
        confidence: of the interval, two-sided, in (0, 1).

    Guarantees:
        - The interval covers the probability of success in at least `confidence` of all samples, whatever it is.
        - With 0 successes it starts at 0, with `trials` successes it ends at 1, and it has a width in both.

    Raises:
        DataError: there are no trials.
        ValueError: `successes` or `confidence` is out of its range.

    Example:
        >>> found = clopper_pearson(5, 100)
        >>> round(found.low, 4), round(found.high, 4)
        (0.0164, 0.1128)

    Source: Clopper and Pearson 1934, "The use of confidence or fiducial limits illustrated in the case of the
        binomial"; as quantiles of beta distributions.
    """
    _check_counts(successes, trials)
    low, high = binomial_bounds(successes, trials, confidence=confidence)
    return Interval(value=successes / trials, low=low, high=high, num=trials)


def binomial_bounds(successes: float, trials: float, *, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Gives the ends of Clopper and Pearson's interval, also between whole numbers of successes and trials."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}, expected above 0 and below 1")
    tail = (1 - confidence) / 2
    failures = trials - successes
    low = float(betaincinv(successes, failures + 1, tail)) if successes > 0 else 0.0
    high = float(betaincinv(successes + 1, failures, 1 - tail)) if failures > 0 else 1.0
    return low, high


def bound_of_none(trials: int) -> float:
    """Gives the largest probability of success that 0 of `trials` leaves possible, one-sided, at 95 %.

    About 3 / `trials`: nothing in 1,000 only says that it is less than 0.30 %.

    Raises:
        DataError: there are no trials.
    """
    _check_counts(0, trials)
    return -math.expm1(math.log1p(-CONFIDENCE) / trials)


def proportion_difference(
    successes: int,
    trials: int,
    other_successes: int,
    other_trials: int,
    *,
    alternative: Alternative = "two-sided",
) -> Difference:
    """Compares two proportions of different records, such as members and held-out records.

    Args:
        successes: of the first group, 0 to `trials`.
        trials: its size.
        other_successes: of the second group.
        other_trials: its size.
        alternative: what the p-value is about.

    Returns:
        The first proportion minus the second, in [-1, 1], with Newcombe's hybrid score interval, which has a width
        also at none and all, and the p-value of Fisher's exact test.

    Raises:
        DataError: a group is empty.
        ValueError: a count is out of its range.

    Source: Newcombe 1998, "Interval estimation for the difference between independent proportions: comparison of
        eleven methods", method 10.
    """
    check_alternative(alternative)
    _check_counts(successes, trials)
    _check_counts(other_successes, other_trials)
    table = [[successes, trials - successes], [other_successes, other_trials - other_successes]]
    return Difference(
        interval=square_and_add(
            _wilson(successes, trials), _wilson(other_successes, other_trials), correlation=0.0, bound=1.0
        ),
        p_value=min(1.0, float(fisher_exact(table, alternative=alternative).pvalue)),
    )


def paired_proportion_difference(
    first: npt.ArrayLike, second: npt.ArrayLike, *, alternative: Alternative = "two-sided"
) -> Difference:
    """Compares two proportions on the same records, such as a model and its base model with the same prompts.

    Args:
        first: what happened to each record, true or false, shape (num_records,).
        second: the same of the other, in the same order.
        alternative: what the p-value is about.

    Returns:
        The first proportion minus the second, in [-1, 1], with Newcombe's score interval for pairs, which has a width
        also where the two never differ, and the p-value of McNemar's exact test.

    Raises:
        DataError: there are no records.
        ValueError: the two differ in shape, or hold something else than true and false.

    Source: Newcombe 1998, "Improved confidence intervals for the difference between binomial proportions based on
        paired data", method 10 (with the continuity-corrected correlation); McNemar 1947.
    """
    check_alternative(alternative)
    before, after = checked_flags(first, name="first"), checked_flags(second, name="second")
    if before.shape != after.shape:
        raise ValueError(f"first has {before.size} records and second {after.size}, expected the same records")
    both, neither = int((before & after).sum()), int((~before & ~after).sum())
    only_first, only_second = int((before & ~after).sum()), int((~before & after).sum())
    num = before.size
    _check_counts(0, num)
    interval = square_and_add(
        _wilson(both + only_first, num),
        _wilson(both + only_second, num),
        correlation=_correlation(both, only_first, only_second, neither),
        bound=1.0,
    )
    num_discordant = only_first + only_second
    test = binomtest(only_first, num_discordant, 0.5, alternative=alternative) if num_discordant else None
    p_value = 1.0 if test is None else min(1.0, float(test.pvalue))
    return Difference(
        interval=Interval(value=interval.value, low=interval.low, high=interval.high, num=num), p_value=p_value
    )


def square_and_add(first: Interval, second: Interval, *, correlation: float, bound: float) -> Interval:
    """Gives the interval of first minus second from the intervals of the two.

    Args:
        first: an estimate with its interval.
        second: another.
        correlation: of the two estimates, in [-1, 1].
        bound: the largest magnitude that a difference can have; the interval is cut there.

    Source: Newcombe 1998 (both papers); in general form Zou and Donner 2008, "Construction of confidence limits about
        effect measures: a general approach", section 2.
    """
    value = first.value - second.value
    down = _leg(first.value - first.low, second.high - second.value, correlation)
    up = _leg(first.high - first.value, second.value - second.low, correlation)
    return Interval(value=value, low=max(-bound, value - down), high=min(bound, value + up), num=first.num + second.num)


def _leg(one: float, other: float, correlation: float) -> float:
    return math.sqrt(max(0.0, one * one - 2 * correlation * one * other + other * other))


def _wilson(successes: int, trials: int) -> Interval:
    """Wilson's score interval, 1927, without continuity correction."""
    z2 = NORMAL_QUANTILE**2
    share = successes / trials
    middle = (successes + z2 / 2) / (trials + z2)
    half = NORMAL_QUANTILE * math.sqrt(trials * share * (1 - share) + z2 / 4) / (trials + z2)
    # At none and all the formula gives 0 and 1 up to rounding.
    low = 0.0 if successes == 0 else middle - half
    high = 1.0 if successes == trials else middle + half
    return Interval(value=share, low=low, high=high, num=trials)


def _correlation(both: int, only_first: int, only_second: int, neither: int) -> float:
    """Of two paired outcomes, from their fourfold table; a positive one is corrected for continuity, downwards."""
    margins = (both + only_first) * (only_second + neither) * (both + only_second) * (only_first + neither)
    if margins == 0:
        return 0.0
    cross = float(both * neither - only_first * only_second)
    if cross > 0:
        cross = max(0.0, cross - (both + only_first + only_second + neither) / 2)
    return cross / math.sqrt(margins)


def _check_counts(successes: int, trials: int) -> None:
    if trials < 1:
        raise DataError("a proportion of no records: expected at least 1.")
    if not 0 <= successes <= trials:
        raise ValueError(f"successes is {successes}, expected 0 to {trials}, the number of trials")
