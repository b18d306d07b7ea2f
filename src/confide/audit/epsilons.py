"""Lower bounds on a record's epsilon from scores and coins, and what they say about a claim.

Every number here is valid however the scores came about: which attacks, plans of guesses and thresholds are tried is
fixed before a coin is looked at, and all that are tried share the significance (Bonferroni). Towards a claim the
bounds of one audit share it once more, with those of canary clients, so that an audit calls a true claim false with a
chance of at most `SIGNIFICANCE`, as far as the methods' assumptions hold.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Protocol

import numpy as np

from confide.audit.document import ViewKind
from confide.audit.epsilon_bounds import UNDECIDED, Claim, EpsilonBound, EpsilonMethod, EpsilonVerdict
from confide.audit.statistics import (
    SIGNIFICANCE,
    ChosenBound,
    Decisions,
    Guesses,
    GuessPlan,
    bayesian_epsilon,
    clopper_pearson_epsilon,
    default_plans,
    f_dp_epsilon,
    gaussian_mechanism_epsilon,
    one_run_bound,
    one_run_epsilon,
    planned_guesses,
    threshold_bound,
    two_sample_best,
)
from confide.audit.statistics.epsilon_choice import DecisionBound, GuessBound
from confide.audit.told import Told

_CLOSE = 1e-6
_MOST_CANARIES = 8192
_Plans = tuple[GuessPlan, ...]
_OF_A_CLIENT = (
    "The claim is about clients. For a record follows twice its epsilon, at a larger delta: a record changes what its "
    "client contributes, and the claim compares that with nothing."
)
_ALL_COVERED: Mapping[ViewKind, str] = MappingProxyType({})
_NOTHING_FOLLOWS = "The claim is about clients, and at its delta nothing follows for one record: not compared."


class _Method(Protocol):
    """One way to make a bound.

    Attributes:
        name: of the method.
        assumes: what it needs beside fair and independent coins, in a sentence.
    """

    @property
    def name(self) -> EpsilonMethod: ...

    @property
    def assumes(self) -> str: ...

    def largest(self, told: Told, plans: _Plans, *, delta: float, significance: float) -> ChosenBound:
        """The largest bound over all that is tried, which share the significance."""

    def most(self, num_in: int, num_out: int, plans: _Plans, *, delta: float, level: float) -> float:
        """What perfect scores would give, each try at a level."""


@dataclass(frozen=True, kw_only=True)
class _OneRun:
    """A bound on guesses, over the plans."""

    name: EpsilonMethod
    assumes: str
    bound: GuessBound

    def largest(self, told: Told, plans: _Plans, *, delta: float, significance: float) -> ChosenBound:
        return one_run_bound(told.scores, told.coins, plans, self.bound, delta=delta, significance=significance)

    def most(self, num_in: int, num_out: int, plans: _Plans, *, delta: float, level: float) -> float:
        numbers = {plan.num_in + plan.num_out for plan in plans}
        tables = [Guesses(num_canaries=num_in + num_out, num_guesses=num, num_correct=num) for num in numbers]
        return max(self.bound(table, delta=delta, significance=level) for table in tables)


@dataclass(frozen=True, kw_only=True)
class _TwoSample:
    """A bound on error rates, over the thresholds of `threshold_bound`."""

    name: EpsilonMethod
    assumes: str
    bound: DecisionBound

    def largest(self, told: Told, plans: _Plans, *, delta: float, significance: float) -> ChosenBound:
        del plans
        members, others = told.scores[told.coins], told.scores[~told.coins]
        return threshold_bound(members, others, self.bound, delta=delta, significance=significance)

    def most(self, num_in: int, num_out: int, plans: _Plans, *, delta: float, level: float) -> float:
        del plans
        return self.bound(two_sample_best(num_in, num_out), delta=delta, significance=level)


@dataclass(frozen=True, kw_only=True)
class _AtTheMedian:
    """A credible bound on error rates where the upper half of the scores is accused: a rule that needs no labels.

    Where few are mistaken a credible bound is wrong too often: with the thresholds of `threshold_bound` 8 of 100 bounds
    on scores that tell nothing came out above 0.
    """

    name: EpsilonMethod
    assumes: str

    def largest(self, told: Told, plans: _Plans, *, delta: float, significance: float) -> ChosenBound:
        del plans
        is_accused = told.scores > np.median(told.scores)
        table = Decisions(
            num_true_positives=int((is_accused & told.coins).sum()),
            num_members=int(told.coins.sum()),
            num_false_positives=int((is_accused & ~told.coins).sum()),
            num_non_members=int((~told.coins).sum()),
        )
        low = bayesian_epsilon(table, delta=delta, quantile=significance)
        return ChosenBound(epsilon=low, delta=delta, significance=significance, num_tried=1, counts=table)

    def most(self, num_in: int, num_out: int, plans: _Plans, *, delta: float, level: float) -> float:
        del plans
        return bayesian_epsilon(two_sample_best(num_in, num_out), delta=delta, quantile=level)


def epsilon_bounds(
    told: Sequence[Told],
    claim: Claim | None,
    *,
    delta: float,
    share: float = 1.0,
    not_covered: Mapping[ViewKind, str] = _ALL_COVERED,
) -> list[EpsilonBound]:
    """Gives, for each view and population, the bound of every method over all its scores.

    Args:
        told: scores and coins; of one view and population those of several attacks share the significance. At least
            one canary in and one out each.
        claim: of the run; None without one.
        delta: at which the bounds hold where nothing is claimed of a record; else that of the claim, or of what follows
            from it for a record.
        share: of `SIGNIFICANCE`, what these bounds together may spend towards the claim, in (0, 1]; the rest is left to
            bounds made elsewhere that the same audit compares with a claim.
        not_covered: parties against whom the claim does not hold, and why in a sentence, which stands beside their
            bounds; these are not compared with it.

    Guarantees:
        - Each bound is above the true epsilon with a chance of at most `SIGNIFICANCE`.
        - Some verdict is "above the claim" for a claim that is true with a chance of at most `share * SIGNIFICANCE`:
            Bonferroni over all bounds that are compared.

    Raises:
        DataError, RunError, ValueError: as `one_run_bound` and `threshold_bound`.
    """
    groups: dict[tuple[ViewKind, str], list[Told]] = {}
    for one in told:
        groups.setdefault((one.view, one.population), []).append(one)
    num_compared = len(_METHODS) * sum(view not in not_covered for view, _ in groups)
    part = share / max(1, num_compared)
    return [
        _bound(
            method,
            group,
            None if view in not_covered else claim,
            delta=delta,
            part=part,
            not_covered=not_covered.get(view, ""),
        )
        for (view, _), group in groups.items()
        for method in _METHODS
    ]


def canaries_needed(bound: EpsilonBound, epsilon: float) -> int | None:
    """Gives about how many canaries in all would let a bound exceed an epsilon; None where no practical number does.

    With half of them in, the same share of them guessed, all rightly, and as many things tried; to a tenth.
    """
    method = next((one for one in _METHODS if one.name == bound.method), None)
    if method is None or bound.ceiling is None:
        return None
    level = bound.significance / bound.num_tried
    num = max(4, bound.num_in + bound.num_out)

    def most(num_canaries: int, num_guesses: int) -> float:
        plans = (GuessPlan(num_in=num_guesses, num_out=0),)
        half = num_canaries // 2
        return method.most(half, num_canaries - half, plans, delta=bound.delta, level=level)

    low, high = 1, num  # the fewest guesses that give this ceiling, by bisection
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if most(num, middle) >= bound.ceiling - _CLOSE else (middle + 1, high)
    share = low / num
    while num <= _MOST_CANARIES:
        if most(num, max(1, round(share * num))) > epsilon:
            return num
        num += max(2, num // 10)
    return None


def _bound(
    method: _Method, group: Sequence[Told], claim: Claim | None, *, delta: float, part: float, not_covered: str
) -> EpsilonBound:
    """One method's bound; towards the claim it has this part of the significance."""
    limit = None if claim is None else claim.of_a_record()
    at = delta if limit is None else limit.delta  # what stands beside a claim holds at its delta
    plans = [_plans(one.coins.size, claim, len(group)) for one in group]
    each = SIGNIFICANCE / len(group)

    def largest(significance: float) -> list[ChosenBound]:
        return [
            method.largest(one, own, delta=at, significance=significance) for one, own in zip(group, plans, strict=True)
        ]

    found = largest(each)
    best = max(range(len(group)), key=lambda place: found[place].epsilon)
    counts = [(int(one.coins.sum()), int((~one.coins).sum())) for one in group]
    verdict: EpsilonVerdict = "no claim"
    if limit is not None:
        verdict = "within the claim"
        if found[best].epsilon > limit.epsilon:
            certain = largest(part * each)
            is_sure = max(one.epsilon for one in certain) > limit.epsilon
            verdict = "above the claim" if is_sure else "undecided"
    return EpsilonBound(
        view=group[best].view,
        unit="example",
        method=method.name,
        population=group[best].population,
        attack=group[best].attack,
        low=found[best].epsilon,
        delta=at,
        significance=SIGNIFICANCE,
        num_tried=sum(one.num_tried for one in found),
        num_in=counts[best][0],
        num_out=counts[best][1],
        ceiling=max(
            method.most(*count, own, delta=at, level=each / one.num_tried)
            for count, own, one in zip(counts, plans, found, strict=True)
        ),
        claimed=None if limit is None else limit.epsilon,
        verdict=verdict,
        note=" ".join(filter(None, [method.assumes, *_about_unit(claim, limit), not_covered, *_undecided(verdict)])),
    )


def _about_unit(claim: Claim | None, limit: Claim | None) -> list[str]:
    if claim is None or claim.unit == "example":
        return []
    return [_NOTHING_FOLLOWS if limit is None else _OF_A_CLIENT]


def _undecided(verdict: EpsilonVerdict) -> list[str]:
    return [UNDECIDED] if verdict == "undecided" else []


def _plans(num_canaries: int, claim: Claim | None, num_attacks: int) -> _Plans:
    """The plan that would show the claimed epsilon best, or without one a few; both before a score is seen.

    The claimed epsilon, and so the number of guesses, depends on how many rows the smallest client trained on, which
    the coins decided: strictly, the plan is not fixed before them. It tells no more of them than that count, and a row
    more or less changes it little.
    """
    limit = None if claim is None else claim.of_a_record()
    if limit is None or limit.epsilon == 0:
        return default_plans(num_canaries)
    return (_planned(num_canaries, limit.epsilon, limit.delta, SIGNIFICANCE / num_attacks),)


@cache
def _planned(num_canaries: int, epsilon: float, delta: float, significance: float) -> GuessPlan:
    return planned_guesses(num_canaries, epsilon, delta=delta, significance=significance)


_INDEPENDENT = "It takes the canaries' scores for independent, which in one training they are only nearly."
_GAUSSIAN = "It holds if the mechanism's trade-off curve is a Gaussian one, as that of noised sums is nearly."
_METHODS: tuple[_Method, ...] = (
    _OneRun(
        name="one-run",
        assumes="It holds for every mechanism: nothing is assumed but fair and independent coins.",
        bound=one_run_epsilon,
    ),
    _OneRun(name="f-dp", assumes=_GAUSSIAN, bound=f_dp_epsilon),
    _TwoSample(name="clopper-pearson", assumes=_INDEPENDENT, bound=clopper_pearson_epsilon),
    _TwoSample(name="gaussian", assumes=f"{_GAUSSIAN} {_INDEPENDENT}", bound=gaussian_mechanism_epsilon),
    _AtTheMedian(name="bayesian", assumes=f"A credible bound, not an exact one. {_INDEPENDENT}"),
)
