"""Every number of an audit as tables, one for each party and kind of attack. Knows nothing of HTML."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from confide.audit.results import AuditResults, Estimate, Measure, Verdict
from confide.report.sentences import measures_of, worst_of
from confide.report.tables import Cell, Table, reason
from confide.report.wording import (
    FAMILIES,
    VIEWS,
    WHAT_IF,
    attack_name,
    counted,
    metric_name,
    p_value,
    population_name,
    series_name,
    with_minus_signs,
)


@dataclass(frozen=True, kw_only=True)
class MeasureGroup:
    """What one party reached by one kind of attack.

    Attributes:
        title: the party and the kind of attack.
        verdict: the worst of its measures'.
        is_hypothetical: whether that is of what no party of the run sees.
        num: how many measures there are.
        table: a row for each of them.
        notes: what a reader must know, each once; a row names its own by number, from 1.
    """

    title: str
    verdict: Verdict
    is_hypothetical: bool
    num: int
    table: Table
    notes: tuple[str, ...]


def measure_groups(results: AuditResults) -> list[MeasureGroup]:
    """Gives every number with its interval and sample size, by party and kind of attack in the report's order."""
    groups = (
        (f"{words.title}: {name.lower()}", measures_of(results, view=view, family=family))
        for view, words in VIEWS.items()
        for family, name in FAMILIES.items()
    )
    return [_group(title, measures) for title, measures in groups if measures]


def _group(title: str, measures: Sequence[Measure]) -> MeasureGroup:
    notes = list(dict.fromkeys(measure.note for measure in measures if measure.note))
    numbers = {note: number for number, note in enumerate(notes, start=1)}
    worst = worst_of(measures)
    if worst.is_hypothetical:
        title = f"{title}, {WHAT_IF}"
    return MeasureGroup(
        title=title,
        verdict=worst.verdict,
        is_hypothetical=worst.is_hypothetical,
        num=len(measures),
        table=Table(
            caption=title,
            columns=(
                "Attack, asked about, metric",
                "Trained on",
                "Controls",
                "Excess over the best control",
                "p (Holm)",
                "Verdict",
            ),
            rows=tuple(_row(measure, numbers) for measure in measures),
        ),
        notes=tuple(with_minus_signs(note) for note in notes),
    )


def _row(measure: Measure, notes: Mapping[str, int]) -> tuple[Cell, ...]:
    p_values = p_value(measure.p_value)
    if measure.p_adjusted is not None:
        p_values += f" ({p_value(measure.p_adjusted)})"
    about = f"{population_name(measure.population)}: {metric_name(measure.metric)}"
    return (
        Cell(text=f"{attack_name(measure.attack, measure.code)}, {about}\n{measure.key}"),
        Cell(text=counted(measure.members), kind="number"),
        Cell(text=_controls(measure.controls.items()) or "none", kind="number"),
        Cell(text="\N{EN DASH}" if measure.excess is None else counted(measure.excess), kind="number"),
        Cell(text=p_values.replace(" ", "\N{NO-BREAK SPACE}"), kind="number"),
        Cell(
            text="\n".join([*reason(measure), *([f"note {notes[measure.note]}"] if measure.note else [])]),
            kind=measure.verdict,
            is_hypothetical=measure.is_hypothetical,
        ),
    )


def _controls(controls: Iterable[tuple[str, Estimate]]) -> str:
    return "\n".join(f"{series_name(name)}: {counted(control)}" for name, control in controls)
