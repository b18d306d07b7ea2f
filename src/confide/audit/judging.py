"""From numbers with intervals to what may be said: controls, what is left after them, and a verdict.

The word "leak" is written only where all that stands beside a number is ruled out: what comes out of a model, for text
that was not trained on and for the base model; what is recognised, for chance and for what the texts alone tell.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from confide.audit.epsilon_bounds import EpsilonBound
from confide.audit.outcomes import RecordOutcomes
from confide.audit.results import (
    Curve,
    Estimate,
    Family,
    Measure,
    Memorised,
    OutcomeKind,
    Unmeasured,
    Verdict,
    ViewKind,
)
from confide.audit.samples import Sample
from confide.audit.statistics import SIGNIFICANCE, Difference, Flags, Floats, Interval, times_as_many
from confide.audit.told import Told
from confide.plural import plural

NO_COINS = "No coins decided what was trained on, so other differences may explain it."


@dataclass(frozen=True, kw_only=True)
class Found:
    """One number of one attack, with what it is compared with, before it is judged.

    Attributes:
        members: the number over what was trained on.
        controls: the same over what was not, or by other means, by name.
        differences: members minus control, by the control's name; with the p-value of "no more than the control".
        sample: the records behind it, which know what so many can show.
        barred: why nothing may be called a leak here, whatever the numbers and however many the records; "" where it
            may.
        lacking: what has to stand beside a leak and does not, for want of records; "" where it does.
        note: what a reader must know.
        is_hypothetical: whether no party of this run sees what was attacked.
        outcomes: of each record, for comparisons with other runs; None where the number has none.
    """

    view: ViewKind
    family: Family
    attack: str
    code: str
    population: str
    metric: str
    members: Interval
    controls: Mapping[str, Interval]
    differences: Mapping[str, Difference]
    sample: Sample
    barred: str = ""
    lacking: str = ""
    note: str = ""
    is_hypothetical: bool = False
    outcomes: RecordOutcomes | None = None


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What findings are about.

    Attributes:
        labels: the truth, shape (num_candidates,).
        note: what a reader must know.
        is_hypothetical: whether no party of this run sees what was attacked.
        records: the candidates' ids, in the order of the labels; empty where runs are not to be compared by them.
    """

    view: ViewKind
    family: Family
    attack: str
    code: str
    population: str
    labels: Flags
    note: str = ""
    is_hypothetical: bool = False
    records: tuple[str, ...] = ()

    def outcomes(
        self,
        kind: OutcomeKind,
        values: Floats | Flags,
        base: Floats | Flags | None = None,
        *,
        part: Flags | None = None,
    ) -> RecordOutcomes | None:
        """What happened to each record; None where the records are not named.

        Args:
            kind: how the number comes from the values.
            values: under the model, one per candidate.
            base: the same under the base model.
            part: which candidates the number is about, shape (num_candidates,); None for all.

        Raises:
            ValueError: there is not one record per label.
        """
        if not self.records:
            return None
        if len(self.records) != self.labels.size:
            raise ValueError(f"{len(self.records)} records are named, expected {self.labels.size}, as many as labels")
        chosen = np.arange(self.labels.size) if part is None else np.flatnonzero(part)
        return RecordOutcomes(
            kind=kind,
            records=tuple(self.records[place] for place in chosen),
            labels=self.labels[chosen],
            values=values[chosen].astype(np.float64),
            base=None if base is None else base[chosen].astype(np.float64),
        )

    def found(
        self,
        metric: str,
        members: Interval,
        controls: Mapping[str, Interval],
        differences: Mapping[str, Difference],
        *,
        sample: Sample,
        lacking: str = "",
        outcomes: RecordOutcomes | None = None,
    ) -> Found:
        """A finding about this; see `Found`."""
        return Found(
            view=self.view,
            family=self.family,
            attack=self.attack,
            code=self.code,
            population=self.population,
            metric=metric,
            members=members,
            controls=controls,
            differences=differences,
            sample=sample,
            lacking=lacking,
            note=self.note,
            is_hypothetical=self.is_hypothetical,
            outcomes=outcomes,
        )


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What a family of attacks found in one population from one view.

    Attributes:
        warnings: what could not be asked, in sentences: an attack that did not run must not pass for one that failed.
        too_few_from: the same where there were too few records, without the views: from which ones that is so.
        doubts: which of the warnings say that the numbers mean nothing.
        unmeasured: the same for gates, of what there were too few records for.
        told: scores beside coins, from which bounds on epsilon are made.
        epsilons: such bounds that are made already.
        epsilon_gaps: why there is no bound where one might look for it, in sentences.
    """

    found: list[Found] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    memorised: list[Memorised] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    too_few_from: dict[tuple[Family, str], list[ViewKind]] = field(default_factory=dict)
    doubts: list[str] = field(default_factory=list)
    unmeasured: list[Unmeasured] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)
    epsilons: list[EpsilonBound] = field(default_factory=list)
    epsilon_gaps: list[str] = field(default_factory=list)

    @staticmethod
    def too_few(
        view: ViewKind, family: Family, population: str, reason: str, *, attack: str = "", metrics: Sequence[str] = ()
    ) -> "Findings":
        """Nothing but the reason, as `confide.audit.truth.too_few` gives it; the rest as in `Unmeasured`."""
        missing = Unmeasured(
            view=view, family=family, population=population, attack=attack, metrics=list(metrics), reason=reason
        )
        return Findings(too_few_from={(family, reason): [view]}, unmeasured=[missing])

    def all_warnings(self) -> list[str]:
        """The warnings, and of what there were too few records; each once, with the views from which that is so."""
        few = [
            f"{family.capitalize()} (view{'s' if len(views) > 1 else ''}: {', '.join(views)}), {reason}"
            for (family, reason), views in self.too_few_from.items()
        ]
        return [*self.warnings, *few]

    def add(self, other: "Findings") -> None:
        """Takes in what something else found."""
        self.found.extend(other.found)
        self.curves.extend(other.curves)
        self.memorised.extend(other.memorised)
        self.warnings.extend(one for one in other.warnings if one not in self.warnings)
        for what, views in other.too_few_from.items():
            known = self.too_few_from.setdefault(what, [])
            known.extend(view for view in views if view not in known)
        self.doubts.extend(one for one in other.doubts if one not in self.doubts)
        self.unmeasured.extend(other.unmeasured)
        self.told.extend(other.told)
        self.epsilons.extend(other.epsilons)
        self.epsilon_gaps.extend(one for one in other.epsilon_gaps if one not in self.epsilon_gaps)


def judge(
    found: Sequence[Found],
    adjusted: Mapping[int, float],
    *,
    is_randomised: bool,
    num_attacks: Mapping[int, int] = MappingProxyType({}),
) -> list[Measure]:
    """Turns findings into measures.

    Args:
        found: findings, in any order.
        adjusted: the p-value after correction over attacks, by a finding's place in `found`; only where it has one.
        is_randomised: whether fair coins decided who was trained on; without them nothing is called a leak.
        num_attacks: over how many attacks that was; 1 where nothing is said.

    Guarantees:
        - A verdict is "leak" only if there is a difference, all differences' intervals lie above zero, the adjusted
          p-value is below `SIGNIFICANCE`, coins decided, nothing bars it and nothing is lacking.
        - Where all that is so but for what bars it, it is "unexplained", and the caveat says what does: more records
          would not change that. So it is where something is lacking though the records are not too few.
        - Otherwise it is "too few records" where so many records and attacks would as a rule not have shown an effect
          worth finding, and "no evidence" where they would.
        - A number whose interval lies above its controls', and whose adjusted p-value is not small enough, has a
          caveat that says so and how many records it needs.
    """
    return [
        _judge_one(one, adjusted.get(place), num_attacks.get(place, 1), is_randomised)
        for place, one in enumerate(found)
    ]


def raw_p_value(found: Found) -> float | None:
    """The largest p-value over the controls: all of them have to be ruled out. None without a control."""
    return max((difference.p_value for difference in found.differences.values()), default=None)


def estimate_of(interval: Interval) -> Estimate:
    """The same as a part of results."""
    return Estimate(value=interval.value, low=interval.low, high=interval.high, num=interval.num)


def _judge_one(found: Found, p_adjusted: float | None, num_attacks: int, is_randomised: bool) -> Measure:
    least = min(found.differences.values(), key=lambda one: one.interval.low, default=None)
    is_above = least is not None and least.interval.low > 0
    is_beyond = is_above and p_adjusted is not None and p_adjusted < SIGNIFICANCE
    barred = found.barred or ("" if is_randomised else NO_COINS)
    shortage = found.sample.shortage(num_attacks)
    verdict: Verdict
    caveats = []
    if is_beyond and not barred and not found.lacking:
        verdict = "leak"
    elif is_beyond and (barred or not shortage):
        verdict, caveats = "unexplained", [barred, found.lacking]
    else:
        verdict = "too few records" if shortage else "no evidence"
        if is_above and not is_beyond and p_adjusted is not None and not found.barred and not found.lacking:
            shortage = _not_beyond_chance(found, p_adjusted, num_attacks)  # of this effect, not of one worth finding
        caveats = [found.lacking if is_beyond and found.lacking not in shortage else "", shortage]
    more = [caveat for caveat in caveats if caveat not in found.note]
    return Measure(
        view=found.view,
        family=found.family,
        attack=found.attack,
        code=found.code,
        population=found.population,
        metric=found.metric,
        members=estimate_of(found.members),
        controls={name: estimate_of(interval) for name, interval in found.controls.items()},
        excess=None if least is None else estimate_of(least.interval),
        p_value=raw_p_value(found),
        p_adjusted=p_adjusted,
        verdict=verdict,
        note=" ".join(note for note in (found.note, *more) if note),
        caveat=" ".join(caveat for caveat in caveats if caveat),
        is_hypothetical=found.is_hypothetical,
    )


def _not_beyond_chance(found: Found, p_adjusted: float, num_attacks: int) -> str:
    """What to say of a number above its controls that so many attacks may find by chance."""
    factor = times_as_many(raw_p_value(found) or p_adjusted, num_tests=num_attacks)
    told = f"More than its controls, but not beyond what {plural(num_attacks, 'attack')} may find by chance"
    if factor is None:
        return f"{told} (p {p_adjusted:.2g})."
    in_all = 2 * factor if found.sample.is_half else factor
    members, others = (math.ceil(in_all * num) for num in (found.sample.num_members, found.sample.num_others))
    return (
        f"{told} (p {p_adjusted:.2g} after correction); if the excess stays as it is, about {members:,} members and "
        f"{others:,} others are needed{' in the two halves' if found.sample.is_half else ''}."
    )
