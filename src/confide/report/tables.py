"""Tables of the report: results as rows of cells, ready to be shown. Knows nothing of HTML."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from confide.audit.results import AuditResults, Measure, Memorised, Setting, Unmeasured, Verdict
from confide.report.sentences import is_not_beyond_chance, measures_of, worst_of
from confide.report.wording import (
    FAMILIES,
    VIEWS,
    WHAT_IF,
    attack_name,
    counted,
    metric_name,
    number,
    population_name,
    verdict_name,
)

Kind = Literal["text", "number", "code", "long", "none"] | Verdict

MAX_MEMORISED = 200
"""Rows of memorised records that a page shows; the results hold them all."""

_HASH_CHARACTERS = 16


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One cell: its text, where a line break starts a new line, and how to show it.

    A kind that is a verdict shows the verdict as a mark before the text, and a hypothetical one as what it would be.
    """

    text: str
    kind: Kind = "text"
    is_hypothetical: bool = False


@dataclass(frozen=True, kw_only=True)
class Table:
    """A caption, column names, and rows of as many cells; the first cell names the row."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


def threat_matrix(results: AuditResults) -> Table:
    """Gives every kind of party by every family of attacks, with the worst that was measured there."""
    return Table(
        caption="What each party can find out: the worst measure of each kind of attack",
        columns=("Who, and what they see", *FAMILIES.values()),
        rows=tuple(
            (
                Cell(text="\n".join([words.title, words.sees, *_of_nobody(measures_of(results, view=view))])),
                *(
                    _matrix_cell(
                        measures_of(results, view=view, family=family),
                        [one for one in results.unmeasured if (one.view, one.family) == (view, family)],
                    )
                    for family in FAMILIES
                ),
            )
            for view, words in VIEWS.items()
        ),
    )


def updates_table(results: AuditResults) -> Table:
    """Gives what single and summed updates tell: who sees them by attack, which is what sealing and summing buy."""
    measures = measures_of(results, family="updates")
    columns = list(dict.fromkeys((measure.attack, measure.code, measure.metric) for measure in measures))
    rows = dict.fromkeys((view, measure.population) for view in VIEWS for measure in measures if measure.view == view)
    by_place: dict[tuple[str, ...], list[Measure]] = {}
    for measure in measures:
        place = (measure.view, measure.population, measure.attack, measure.code, measure.metric)
        by_place.setdefault(place, []).append(measure)
    return Table(
        caption="What updates tell, by who sees them",
        columns=("Who, asked about", *(f"{attack_name(*column[:2])}: {metric_name(column[2])}" for column in columns)),
        rows=tuple(
            (
                Cell(
                    text="\n".join(
                        [
                            VIEWS[view].title,
                            population_name(population),
                            *_of_nobody([one for one in measures if (one.view, one.population) == (view, population)]),
                        ]
                    )
                ),
                *(measured_cell(by_place.get((view, population, *column), [])) for column in columns),
            )
            for view, population in rows
        ),
    )


def memorised_table(results: AuditResults) -> Table:
    """Gives the records that came out, nearest to the truth first: without texts unless the results hold them."""
    records = sorted(
        results.memorised, key=lambda record: (record.distance, record.view, record.attack, record.candidate_id)
    )
    shown = records[:MAX_MEMORISED]
    with_texts = any(record.text is not None for record in shown)
    count = f"{len(shown):,} of {len(records):,}" if len(shown) < len(records) else f"{len(shown):,}"
    return Table(
        caption=f"Records that came out ({count}); distance 0 is word for word",
        columns=(
            "Record",
            "View, attack, asked about",
            "Owner",
            "SHA-256 begins",
            "Characters",
            "Distance",
            *(("What came out", "What was trained on") if with_texts else ()),
        ),
        rows=tuple(_memorised_row(record, with_texts=with_texts) for record in shown),
    )


def utility_table(results: AuditResults) -> Table:
    """Gives the measures of usefulness."""
    return _pairs("Utility", "Measure", ((name, f"{value:.6g}") for name, value in results.run.utility.items()))


def facts_tables(results: AuditResults) -> list[Table]:
    """Gives what was audited and how: the run, sample sizes, settings, versions, machine."""
    run = results.run
    facts = (
        ("base model", run.base_model),
        ("rounds", f"{run.num_rounds:,}"),
        ("clients", "not known" if run.num_clients is None else f"{run.num_clients:,}"),
        ("sealing scheme", run.scheme or "not known"),
        ("adapter parameters", f"{run.num_parameters:,}"),
        ("seed", "not recorded" if run.seed is None else str(run.seed)),
        ("trained by", run.command or "not known"),
        ("audited", results.created),
        ("audit took", f"{number(results.seconds)} s"),
        ("version of the results' schema", str(results.schema_version)),
    )
    return [
        _pairs("The run", "What", facts),
        _pairs("Sample sizes", "What", ((name, f"{count:,}") for name, count in results.counts.items())),
        _pairs(
            "Settings of attacks and views",
            "Setting",
            ((name, _as_set(value)) for name, value in results.settings.items()),
        ),
        _pairs("Versions", "Package", results.versions.items()),
        _pairs("Machine", "What", results.machine.items()),
    ]


def _matrix_cell(measures: Sequence[Measure], missing: Sequence[Unmeasured]) -> Cell:
    if not measures and missing:
        reasons = dict.fromkeys(one.reason for one in missing)
        return Cell(text="\n".join(["not measured", *reasons]), kind="too few records")
    if not measures:
        return Cell(text="not measured", kind="none")
    worst = worst_of(measures)
    alike = sum(verdict_name(measure) == verdict_name(worst) for measure in measures)
    text = (
        f"{metric_name(worst.metric)} {counted(worst.members)}\n"
        f"{attack_name(worst.attack, worst.code)}, {population_name(worst.population)}\n"
        f"the verdict of {alike} of {len(measures)} measures"
    )
    return Cell(text="\n".join([text, *reason(worst)]), kind=worst.verdict, is_hypothetical=worst.is_hypothetical)


def _of_nobody(measures: Sequence[Measure]) -> list[str]:
    """A line for a row that no party of the run has."""
    return [f"what {WHAT_IF}"] if measures and all(one.is_hypothetical for one in measures) else []


def reason(measure: Measure) -> list[str]:
    """Gives a line on why a number above its controls is no leak; none where it is one, or not above them."""
    if measure.verdict == "unexplained":
        return ["beyond its controls, but something else than training may be why"]
    return ["above its controls, but not beyond chance among so many attacks"] if is_not_beyond_chance(measure) else []


def naming_cell(measure: Measure) -> Cell:
    """Says which number a row is about; its last line is the name for gates."""
    return Cell(
        text=f"{VIEWS[measure.view].title}\n{attack_name(measure.attack, measure.code)}\n"
        f"{population_name(measure.population)}: {metric_name(measure.metric)}\n{measure.key}"
    )


def measured_cell(measures: Sequence[Measure]) -> Cell:
    """Shows the worst of the measures of one place."""
    if not measures:
        return Cell(text="not measured", kind="none")
    worst = worst_of(measures)
    return Cell(
        text="\n".join([counted(worst.members), *reason(worst)]),
        kind=worst.verdict,
        is_hypothetical=worst.is_hypothetical,
    )


def _memorised_row(record: Memorised, *, with_texts: bool) -> tuple[Cell, ...]:
    texts = (record.text, record.truth) if with_texts else ()
    return (
        Cell(text=record.candidate_id, kind="code"),
        Cell(text=f"{VIEWS[record.view].title}\n{attack_name(record.attack)}, {population_name(record.population)}"),
        Cell(text=record.owner),
        Cell(text=f"{record.sha256[:_HASH_CHARACTERS]}", kind="code"),
        Cell(text=f"{record.num_characters:,}", kind="number"),
        Cell(text=number(record.distance), kind="number"),
        *(Cell(text="" if text is None else text, kind="long") for text in texts),
    )


def _pairs(caption: str, first_column: str, pairs: Iterable[tuple[str, str]]) -> Table:
    return Table(
        caption=caption,
        columns=(first_column, "Value"),
        rows=tuple((Cell(text=name), Cell(text=value)) for name, value in pairs),
    )


def _as_set(value: Setting) -> str:
    """Writes a setting as it is: nothing rounded."""
    if isinstance(value, list):
        return ", ".join(str(part) for part in value) or "none"
    return ("no", "yes")[value] if isinstance(value, bool) else str(value)
