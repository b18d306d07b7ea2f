"""From scores and coins to a bound on epsilon that stays valid although several ways to decide were tried.

The best of many thresholds, or of many numbers of guesses, chosen with the coins in sight, would certify too much.
Three ways are valid, and no other is offered here: one plan fixed beforehand, for which `planned_guesses` takes the
one that would show the claimed epsilon best; a few plans fixed beforehand, each tested at its share of the
significance (Bonferroni); or a choice made on other canaries (`split_halves`), which is one plan for these.

What thresholds on the ROC's hull give with a correction for as many as the hull has corners is none of these: which
corners there are is read off the coins.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import ndtr

from confide.audit.statistics.epsilon_one_run import Guesses, f_dp_mu
from confide.audit.statistics.epsilon_search import check_count, check_significance
from confide.audit.statistics.epsilon_two_sample import Decisions
from confide.audit.statistics.gaussian_curve import gaussian_mu
from confide.audit.statistics.multiple import SIGNIFICANCE
from confide.audit.statistics.scores import Flags, Floats, checked_flags, checked_groups, checked_vector

SHARES_GUESSED = (0.5, 0.25, 0.1, 0.05, 0.02)
"""Of the canaries, how many the plans of `default_plans` guess on each side."""


@dataclass(frozen=True, kw_only=True)
class GuessPlan:
    """How many canaries to guess, on which side.

    Attributes:
        num_in: the highest scores, guessed in; at least 0.
        num_out: the lowest scores, guessed out; at least 0, and not both 0.

    Raises:
        ValueError: a number is impossible.
    """

    num_in: int
    num_out: int

    def __post_init__(self) -> None:
        check_count(self.num_in, name="num_in", low=0)
        check_count(self.num_out, name="num_out", low=0)
        if self.num_in + self.num_out == 0:
            raise ValueError("num_in and num_out are both 0, expected at least one guess")


@dataclass(frozen=True, kw_only=True)
class ChosenBound:
    """The largest of the bounds that were tried, each at its share of the significance.

    Attributes:
        epsilon: the lower bound, at least 0.
        delta: at which it holds.
        significance: the chance that it is above the true epsilon.
        num_tried: how many bounds were computed; each at `significance` / `num_tried`.
        counts: the table of the largest.
    """

    epsilon: float
    delta: float
    significance: float
    num_tried: int
    counts: Guesses | Decisions


class GuessBound(Protocol):
    """A one-run bound, `one_run_epsilon` or `f_dp_epsilon`."""

    def __call__(self, guesses: Guesses, /, *, delta: float, significance: float) -> float:
        """Gives the bound."""


class DecisionBound(Protocol):
    """A two-sample bound, `clopper_pearson_epsilon` or `gaussian_mechanism_epsilon`."""

    def __call__(self, decisions: Decisions, /, *, delta: float, significance: float) -> float:
        """Gives the bound."""


def count_guesses(scores: npt.ArrayLike, coins: npt.ArrayLike, plan: GuessPlan) -> Guesses:
    """Guesses coins from scores and counts the right ones.

    Args:
        scores: one per canary, shape (num_canaries,), finite; higher = in. They come from an adversary's view alone.
        coins: true where the canary was in, shape (num_canaries,); each by its own fair coin.
        plan: fixed without a look at these coins.

    Guarantees:
        - Which canaries are guessed depends on scores and plan only, not on their order: equal scores that straddle
          the border are left out together, so that canaries listed by coin win nothing by it.

    Raises:
        DataError: there are no canaries.
        RunError: a score is NaN or infinite.
        ValueError: the two differ in length, or the plan wants more guesses than there are canaries.
    """
    values = checked_vector(scores, name="canaries' scores")
    is_in = checked_flags(coins, name="coins")
    if is_in.shape != values.shape:
        raise ValueError(f"there are {is_in.size} coins for {values.size} canaries")
    if plan.num_in + plan.num_out > values.size:
        raise ValueError(f"the plan has {plan.num_in} + {plan.num_out} guesses for {values.size} canaries")
    guessed_in, guessed_out = _highest(values, plan.num_in), _highest(-values, plan.num_out)
    return Guesses(
        num_canaries=values.size,
        num_guesses=int(np.count_nonzero(guessed_in) + np.count_nonzero(guessed_out)),
        num_correct=int(np.count_nonzero(guessed_in & is_in) + np.count_nonzero(guessed_out & ~is_in)),
    )


def default_plans(num_canaries: int) -> tuple[GuessPlan, ...]:
    """Gives a few plans from guessing half of the canaries to guessing few, in alone and both ways; see `GuessPlan`."""
    check_count(num_canaries, name="num_canaries", low=2)
    numbers = sorted({max(1, int(share * num_canaries)) for share in SHARES_GUESSED}, reverse=True)
    return tuple(GuessPlan(num_in=num, num_out=out) for num in numbers for out in (0, num))


def one_run_bound(
    scores: npt.ArrayLike,
    coins: npt.ArrayLike,
    plans: Sequence[GuessPlan],
    bound: GuessBound,
    *,
    delta: float,
    significance: float = SIGNIFICANCE,
) -> ChosenBound:
    """Gives the largest one-run bound of several plans, each at its share of the significance.

    Args:
        scores: as in `count_guesses`.
        coins: as in `count_guesses`.
        plans: at least one, all that were tried, fixed without a look at these coins: `default_plans`, or the one of
            `planned_guesses`.
        bound: `one_run_epsilon` or `f_dp_epsilon`.
        delta: as the bound takes it.
        significance: of the whole, in (0, 1).

    Guarantees:
        - It is above the true epsilon with a chance of at most `significance`, whatever the plans (union bound).

    Raises:
        DataError, RunError, ValueError: as `count_guesses`; or there is no plan, or a level is out of its range.
    """
    if not plans:
        raise ValueError("plans is empty, expected at least one")
    tables = [count_guesses(scores, coins, plan) for plan in plans]
    check_significance(significance)
    level = significance / len(tables)
    bounds = [bound(table, delta=delta, significance=level) for table in tables]
    return _largest(bounds, tables, delta, significance)


def threshold_bound(
    members: npt.ArrayLike,
    non_members: npt.ArrayLike,
    bound: DecisionBound,
    *,
    delta: float,
    num_thresholds: int = 10,
    significance: float = SIGNIFICANCE,
) -> ChosenBound:
    """Gives the largest two-sample bound over several thresholds, each at its share of the significance.

    The thresholds are scores of non-members with a number of others above them that is fixed beforehand, spread
    logarithmically from both ends. So chosen they need no more correction than others: the true rate above the k+1st
    highest of n scores is at most Beta(k + 1, n - k) distributed, from which Clopper and Pearson's upper bound is
    taken, and for the members, whose scores play no part, it is a threshold like any.

    Args:
        members: scores, shape (num_members,), finite; higher = member; independent.
        non_members: scores, shape (num_non_members,), finite; independent.
        bound: `clopper_pearson_epsilon` or `gaussian_mechanism_epsilon`.
        delta: as the bound takes it.
        num_thresholds: how many to try at most, at least 1; with 1, the one that no non-member passes.
        significance: of the whole, in (0, 1).

    Guarantees:
        - It is above the true epsilon with a chance of at most `significance`.

    Raises:
        DataError, RunError, ValueError: as `checked_vector`; or a number is out of its range.
    """
    above, below = checked_groups(members, non_members)
    check_count(num_thresholds, name="num_thresholds", low=1)
    ordered = np.sort(below)[::-1]
    tables = [
        Decisions(
            num_true_positives=int(np.count_nonzero(above > ordered[num_false])),
            num_members=above.size,
            num_false_positives=num_false,  # ties may make it fewer; the bound is about the rank
            num_non_members=below.size,
        )
        for num_false in _numbers_above(below.size, num_thresholds)
    ]
    check_significance(significance)
    level = significance / len(tables)
    bounds = [bound(table, delta=delta, significance=level) for table in tables]
    return _largest(bounds, tables, delta, significance)


def planned_guesses(
    num_canaries: int, epsilon: float, *, delta: float, significance: float = SIGNIFICANCE
) -> GuessPlan:
    """Gives the plan that would show a claimed epsilon best, before any score is seen: the claim is known in advance.

    Scores are imagined as the Gaussian mechanism of this claim gives them, N(mu, 1) in and N(0, 1) out, and the number
    of guesses is the one with the largest f-DP bound at the expected counts. Where the claim is wrong, or scores are
    worse, the plan is a worse one, and as valid.

    Args:
        num_canaries: at least 2.
        epsilon: claimed, above 0, finite.
        delta: of the claim, above 0 and below 1.
        significance: of the bound to come.

    Raises:
        ValueError: an argument is out of its range.
    """
    check_count(num_canaries, name="num_canaries", low=2)
    check_significance(significance)
    mu = gaussian_mu(epsilon, delta)
    best, best_mu = GuessPlan(num_in=num_canaries // 2, num_out=num_canaries // 2), 0.0
    for num in np.unique(np.geomspace(1, num_canaries // 2, 16).astype(int)).tolist():
        share = num / num_canaries
        threshold = float(brentq(_share_beyond, -10.0, mu + 40.0, args=(mu, share)))
        correct = int(num_canaries * float(ndtr(mu - threshold)) / 2)
        expected = Guesses(num_canaries=num_canaries, num_guesses=2 * num, num_correct=2 * min(correct, num))
        shown = f_dp_mu(expected, significance=significance)
        if shown > best_mu:
            best, best_mu = GuessPlan(num_in=num, num_out=num), shown
    return best


def _share_beyond(threshold: float, mu: float, share: float) -> float:
    """By how much the share of scores above a threshold, half N(mu, 1) and half N(0, 1), is more than a given one."""
    return (float(ndtr(mu - threshold)) + float(ndtr(-threshold))) / 2 - share


def _highest(values: Floats, num: int) -> Flags:
    """Which are among the `num` highest; none of those that tie with the first one left out."""
    if num == values.size:
        return np.ones(num, np.bool_)
    return np.asarray(values > np.sort(values)[values.size - 1 - num], np.bool_)


def _numbers_above(num_records: int, num_thresholds: int) -> list[int]:
    """How many of so many scores to leave above each threshold: few, more, ... and the mirror image, in turn."""
    steps = np.geomspace(1, max(1, num_records // 2), (num_thresholds + 1) // 2).astype(int) - 1
    both = [number for step in steps.tolist() for number in (step, num_records - 1 - step)]
    return sorted(set(both[:num_thresholds]))


def _largest(
    bounds: Sequence[float], tables: Sequence[Guesses | Decisions], delta: float, significance: float
) -> ChosenBound:
    best = int(np.argmax(bounds))
    return ChosenBound(
        epsilon=bounds[best],
        delta=delta,
        significance=significance,
        num_tried=len(tables),
        counts=tables[best],
    )
