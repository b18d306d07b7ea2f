"""Two runs' outcomes on the same records: how far apart, and how far apart after what the controls explain.

A defence that lowers what comes out of a model may only have lowered what comes out of any model. So two differences
are taken: of what happened to members, and of how much more happened to them than the controls say.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from confide.audit.results import Asked, Measure, Number, OutcomeKind
from confide.audit.statistics import (
    Difference,
    Flags,
    Floats,
    Interval,
    mean_difference,
    paired_auc_difference,
    paired_mean_difference,
    paired_proportion_difference,
    paired_share_mean_difference,
    rank_p_value,
)
from confide.audit.statistics.proportions import square_and_add

SHARED = 0.5
"""Of each run's records so many have to be the other's as well: fewer are another question."""

_FEWEST = 2
_LARGEST_EXCESS = 2.0  # a difference of two differences of shares


@dataclass(frozen=True, kw_only=True)
class Paired:
    """How far the second run is from the first on the same records, with two-sided p-values before any correction.

    Attributes:
        members: the second's number minus the first's.
        excess: the second's excess over a control minus the first's; None without a control that pairs. Of several the
            one with the largest p-value: a change has to show against all of them.
        over: that control's name.
    """

    members: Difference
    excess: Difference | None = None
    over: str = ""


@dataclass(frozen=True, kw_only=True)
class _Side:
    """One run's outcomes on the shared records, shape (num_members,) or (num_others,)."""

    members: Floats
    others: Floats
    base: Floats | None


def paired(first: tuple[Measure, Mapping[str, Asked]], second: tuple[Measure, Mapping[str, Asked]]) -> Paired | None:
    """Compares a measure of two runs record by record.

    Args:
        first: the measure, and the lists of records of the results that it stands in.
        second: the same of the other run; the measure has the same name.

    Returns:
        For flags Newcombe's paired interval and McNemar's exact test; for means an interval of pairs and the larger of
        Student's and Wilcoxon's p-values; for an AUC DeLong's test (`paired_auc_difference`). None unless at least
        `SHARED` of either's records are the other's too, two of a kind at least, and all of them on the same side of
        the coins. True-positive rates are compared at each run's own threshold, taken as given.
    """
    one, other = first[0].outcomes, second[0].outcomes
    if one is None or other is None or one.kind != other.kind:
        return None
    if (places := _shared(first[1][one.asked], second[1][other.asked])) is None:
        return None
    before, after = (
        _Side(
            members=_at(found.members, members),
            others=_at(found.others, others),
            base=None if found.base is None else _at(found.base, members),
        )
        for found, (members, others) in zip((one, other), places, strict=True)
    )
    members = _apart(one.kind, before, after)
    excesses = _excesses(one.kind, before, after, members, set(first[0].controls) & set(second[0].controls))
    if not excesses:
        return Paired(members=members)
    over = max(excesses, key=lambda name: excesses[name].p_value)
    return Paired(members=members, excess=excesses[over], over=over)


def _shared(first: Asked, second: Asked) -> tuple[tuple[list[int], list[int]], tuple[list[int], list[int]]] | None:
    """The places of the shared members and others in the first run's lists, and in the second's."""
    if set(first.members) & set(second.others) or set(first.others) & set(second.members):
        return None
    found: list[tuple[list[int], list[int]]] = []
    for keys, others in ((first.members, second.members), (first.others, second.others)):
        theirs = {key: place for place, key in enumerate(others)}
        here = [place for place, key in enumerate(keys) if key in theirs]
        if len(here) < max(_FEWEST, SHARED * len(keys), SHARED * len(others)):
            return None
        found.append((here, [theirs[keys[place]] for place in here]))
    (members, their_members), (others_here, their_others) = found
    return (members, others_here), (their_members, their_others)


def _at(values: Sequence[Number], places: Sequence[int]) -> Floats:
    return np.array([values[place] for place in places], np.float64)


def _apart(kind: OutcomeKind, before: _Side, after: _Side) -> Difference:
    if kind == "rank":
        labels: Flags = np.arange(after.members.size + after.others.size) < after.members.size
        one, other = (np.concatenate([side.members, side.others]) for side in (after, before))
        return paired_auc_difference(one, other, labels)
    return _of_values(kind, after.members, before.members)


def _of_values(kind: OutcomeKind, after: Floats, before: Floats) -> Difference:
    if kind == "flag":
        return paired_proportion_difference(after, before)
    found = paired_mean_difference(after, before)
    return Difference(
        interval=found.difference.interval if kind == "number" else paired_share_mean_difference(after, before),
        p_value=max(found.difference.p_value, found.wilcoxon_p_value),
    )


def _excesses(
    kind: OutcomeKind, before: _Side, after: _Side, members: Difference, controls: set[str]
) -> dict[str, Difference]:
    found: dict[str, Difference] = {}
    if kind == "rank":
        return found
    if "held_out" in controls:
        found["held_out"] = _over_others(kind, before, after, members)
    if before.base is not None and after.base is not None and "base" in controls:
        found["base"] = _over_base(kind, before, after, members, before.base, after.base)
    return found


def _over_others(kind: OutcomeKind, before: _Side, after: _Side, members: Difference) -> Difference:
    """The members' change minus the others' change: two groups of records, each with one change per record."""
    change, others_change = after.members - before.members, after.others - before.others
    welch = mean_difference(change, others_change)
    ranks = min(1.0, 2 * min(rank_p_value(change, others_change), rank_p_value(others_change, change)))
    interval = welch.interval
    if kind != "number":
        of_others = _of_values(kind, after.others, before.others).interval
        interval = square_and_add(members.interval, of_others, correlation=0.0, bound=_LARGEST_EXCESS)
    return Difference(interval=interval, p_value=max(welch.p_value, ranks))


def _over_base(
    kind: OutcomeKind, before: _Side, after: _Side, members: Difference, base: Floats, other_base: Floats
) -> Difference:
    """The change of each member's excess over the base model: one number per record."""
    if np.array_equal(base, other_base):  # the same base model: what it says cancels
        return members
    found = paired_mean_difference(after.members - other_base, before.members - base)
    interval: Interval = found.difference.interval
    if kind != "number":
        # Taken as independent: models that say more of a record than before, say so of the base model's too.
        apart = square_and_add(
            members.interval, _of_values(kind, other_base, base).interval, correlation=0.0, bound=_LARGEST_EXCESS
        )
        interval = replace(apart, num=members.interval.num)
    return Difference(interval=interval, p_value=max(found.difference.p_value, found.wilcoxon_p_value))
