"""Several audits side by side: how far their numbers are apart.

Record by record where two runs were asked about the same records, coins included; as independent samples otherwise.
Exposures only where secrets stand among as many values: among more, the same model's go further.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from confide.audit.results import AuditResults, Estimate, Measure, Ranks
from confide.audit.statistics import Interval, holm
from confide.plural import plural
from confide.report.pairing import SHARED, paired
from confide.report.wording import attack_name, population_name

_RANKED_BY = ("full_ranking", "alternatives")
"""Settings that decide among how many values secrets stand."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """How far a later run is from the first in one measure.

    Attributes:
        members: the later run's number minus the first's.
        is_paired: whether that was taken record by record.
        p_adjusted: of no difference, two-sided, after Holm's correction over all paired measures of these two runs;
            None if it is not paired.
        excess: the later run's excess over a control minus the first's, paired; None where there is none.
        over: that control's name.
        excess_p_adjusted: as `p_adjusted`, of the excesses.
    """

    members: Estimate
    is_paired: bool
    p_adjusted: float | None = None
    excess: Estimate | None = None
    over: str = ""
    excess_p_adjusted: float | None = None


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One measure in several runs.

    Attributes:
        key: the measure's name for gates.
        measures: one per run, in the runs' order; None where a run has no such measure.
        changes: from the first run to each later one; None where either has no such measure, or of exposure the
            secrets stand among other numbers of values.
    """

    key: str
    measures: tuple[Measure | None, ...]
    changes: tuple[Change | None, ...]


@dataclass(frozen=True, kw_only=True)
class _Side:
    """A measure and the results that it stands in."""

    measure: Measure
    results: AuditResults

    @property
    def ranks(self) -> Ranks | None:
        return None if self.measure.outcomes is None else self.measure.outcomes.ranks


def compare(runs: Sequence[AuditResults]) -> list[Compared]:
    """Puts the measures of several runs side by side, in the order in which they first appear.

    Args:
        runs: at least one; of measures with the same name in one run the first goes with the first.
    """
    by_key = [_keyed(results) for results in runs]
    keys = list(dict.fromkeys(key for keyed in by_key for key in keyed))
    columns = [_corrected([_change(by_key[0].get(key), keyed.get(key)) for key in keys]) for keyed in by_key[1:]]
    return [
        Compared(
            key=key[0],
            measures=tuple(keyed[key].measure if key in keyed else None for keyed in by_key),
            changes=tuple(column[place] for column in columns),
        )
        for place, key in enumerate(keys)
    ]


def notes_on_changes(runs: Sequence[AuditResults], names: Sequence[str]) -> list[str]:
    """Says in sentences what changes may come from beside training, and which ones are not given.

    Args:
        runs: at least one.
        names: of the runs, as many.
    """
    return [*other_records(runs, names), *other_ranks(runs, names)]


def other_records(runs: Sequence[AuditResults], names: Sequence[str]) -> list[str]:
    """Says in a sentence of each later run that was not asked about the first one's records, or not known to be.

    The same records with other coins are the same data: no sentence says so of them, nor where nothing was measured.

    Args:
        runs: at least one.
        names: of the runs, as many.
    """
    return [
        f"{name} {said}. A change from {names[0]} may come from that alone, and not from how the models were trained."
        for name, results in zip(names[1:], runs[1:], strict=True)
        if runs[0].measures
        and results.measures
        and (said := _other_than(_records(runs[0]), _records(results), names[0]))
    ]


def other_ranks(runs: Sequence[AuditResults], names: Sequence[str]) -> list[str]:
    """Says in a sentence of each later run whose exposures are not compared with the first one's, and why.

    Args:
        runs: at least one.
        names: of the runs, as many.
    """
    first, *later = (_keyed(results) for results in runs)
    return [
        f"{name} {said}. Exposure goes no further than that, so no change of it from {names[0]} is given. Audit both "
        "with the same audit.full_ranking and audit.alternatives."
        for name, keyed in zip(names[1:], later, strict=True)
        if (said := _otherwise_ranked([(one, keyed[key]) for key, one in first.items() if key in keyed], names[0]))
    ]


def _otherwise_ranked(pairs: Sequence[tuple[_Side, _Side]], name: str) -> str:
    """What to say of the later run's ranks, up to its end; "" where all exposures can be compared."""
    apart = [(one, other) for one, other in pairs if not _is_ranked_alike(one, other)]
    known = dict.fromkeys(
        f"{attack_name(one.measure.attack, one.measure.code)}, {population_name(one.measure.population)}: "
        f"{_span(other.ranks)} against {_span(one.ranks)}"
        for one, other in apart
        if one.ranks and other.ranks
    )
    if known:
        return f"ranked planted secrets among other numbers of values than {name} ({'; '.join(known)})"
    return f"is not known to have ranked planted secrets among as many values as {name}" if apart else ""


def _is_ranked_alike(first: _Side, later: _Side) -> bool:
    """Whether two measures' numbers reach equally far; where results do not say how far, if they were set alike."""
    if first.measure.family != "exposure":
        return True
    if first.ranks and later.ranks:
        return first.ranks == later.ranks
    return all(first.results.settings.get(name) == later.results.settings.get(name) for name in _RANKED_BY)


def _span(ranks: Ranks) -> str:
    return f"{ranks.fewest:,}" if ranks.fewest == ranks.most else f"{ranks.fewest:,} to {ranks.most:,}"


def _other_than(first: frozenset[int], later: frozenset[int], name: str) -> str:
    """What to say of the later run's records, up to its end; "" where enough of them are the first's as well."""
    if not (first and later):
        return f"is not known to have been asked about the same records as {name}"
    shared = len(first & later)
    if shared >= SHARED * max(len(first), len(later)):
        return ""
    return (
        f"was not asked about the same records as {name} ({shared:,} of {plural(len(later), 'record')}): the data, or "
        "what was held back or planted, differ"
    )


def _records(results: AuditResults) -> frozenset[int]:
    """The keys of all records that an audit says it asked about."""
    return frozenset(key for asked in results.asked.values() for key in (*asked.members, *asked.others))


def difference(first: Estimate, second: Estimate) -> Estimate:
    """Gives `second` minus `first` with a 95 % interval, taking both as independent.

    With estimates a, b and intervals [l, u] the interval's ends are b - a - sqrt((b - l_b)^2 + (u_a - a)^2) and
    b - a + sqrt((u_b - b)^2 + (a - l_a)^2); `num` is the smaller sample's.

    Source: Newcombe 1998, "Interval estimation for the difference between independent proportions", method 10;
        for any estimates Zou and Donner 2008, "Construction of confidence limits about effect measures".
    """
    value = second.value - first.value
    down = math.hypot(second.value - second.low, first.high - first.value)
    up = math.hypot(second.high - second.value, first.value - first.low)
    return Estimate(value=value, low=value - down, high=value + up, num=min(first.num, second.num))


def _keyed(results: AuditResults) -> dict[tuple[str, int], _Side]:
    keyed: dict[tuple[str, int], _Side] = {}
    for measure in results.measures:
        copy = 0
        while (measure.key, copy) in keyed:
            copy += 1
        keyed[measure.key, copy] = _Side(measure=measure, results=results)
    return keyed


def _change(first: _Side | None, later: _Side | None) -> Change | None:
    """The change of one measure, its p-values not yet corrected."""
    if first is None or later is None or not _is_ranked_alike(first, later):
        return None
    found = paired((first.measure, first.results.asked), (later.measure, later.results.asked))
    if found is None:
        return Change(members=difference(first.measure.members, later.measure.members), is_paired=False)
    return Change(
        members=_estimate(found.members.interval),
        is_paired=True,
        p_adjusted=found.members.p_value,
        excess=None if found.excess is None else _estimate(found.excess.interval),
        over=found.over,
        excess_p_adjusted=None if found.excess is None else found.excess.p_value,
    )


def _corrected(changes: Sequence[Change | None]) -> list[Change | None]:
    """The same with Holm's correction over all measures, of the differences and of the excesses' apart."""
    of_members = _adjusted([None if change is None else change.p_adjusted for change in changes])
    of_excesses = _adjusted([None if change is None else change.excess_p_adjusted for change in changes])
    return [
        None if change is None else replace(change, p_adjusted=p_adjusted, excess_p_adjusted=excess_p_adjusted)
        for change, p_adjusted, excess_p_adjusted in zip(changes, of_members, of_excesses, strict=True)
    ]


def _adjusted(p_values: Sequence[float | None]) -> list[float | None]:
    places = [place for place, p_value in enumerate(p_values) if p_value is not None]
    adjusted = dict(zip(places, holm([p_values[place] or 0.0 for place in places]).tolist(), strict=True))
    return [adjusted.get(place) for place in range(len(p_values))]


def _estimate(interval: Interval) -> Estimate:
    return Estimate(value=interval.value, low=interval.low, high=interval.high, num=interval.num)
