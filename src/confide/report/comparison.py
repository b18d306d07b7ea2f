"""Tables that put several runs side by side."""

from collections.abc import Sequence
from dataclasses import replace

from confide.audit.results import AuditResults, Estimate, Measure
from confide.report.differences import Change, Compared, compare
from confide.report.sentences import guarantee_name, measures_of, utility, worst_of
from confide.report.tables import Cell, Table, measured_cell, naming_cell, reason
from confide.report.wording import VIEWS, attack_name, counted, metric_name, p_value, population_name, series_name

HOW_COMPARED = (
    "Changes are from the first run. Where both runs asked about the same records, on the same side of the coins, a "
    "change is taken record by record (paired) and has a two-sided p-value, corrected with Holm's method over all "
    "measures of these two runs. Otherwise the runs are taken as independent samples, and there is an interval alone. "
    "Exposure has no change where the runs ranked secrets among other numbers of values. "
    "The change of the excess is what is left of a change after that of the control: a run that brings out less of "
    "everything protects nothing. It is shown where the runs are paired, over the control that explains most."
)
"""How to read the changes."""


def glance_table(runs: Sequence[AuditResults], names: Sequence[str]) -> Table:
    """Gives a line per run: the worst that each view found, what is guaranteed, and what the model is good for.

    Args:
        runs: at least one.
        names: of the runs, as many.
    """
    views = [view for view in VIEWS if any(measures_of(results, view=view) for results in runs)]
    return Table(
        caption="All runs at a glance: the worst measure of each view",
        columns=("Run", *(VIEWS[view].title for view in views), "Guarantee", "Utility"),
        rows=tuple(
            (
                Cell(text=name),
                *(_worst_cell(measures_of(results, view=view)) for view in views),
                Cell(text=guarantee_name(results)),
                Cell(text=utility(results).removeprefix("Utility: ").rstrip(".").replace(", ", ",\n")),
            )
            for name, results in zip(names, runs, strict=True)
        ),
    )


def comparison_table(runs: Sequence[AuditResults], names: Sequence[str]) -> Table:
    """Gives the same measures of several runs side by side, and how far each later run is from the first.

    Args:
        runs: at least two.
        names: of the runs, as many.
    """
    compared = compare(runs)
    return Table(
        caption=f"Runs side by side; changes are from {names[0]}, {_how(compared)}",
        columns=("View, attack, asked about, metric", *names),
        rows=tuple(
            (
                naming_cell(next(measure for measure in one.measures if measure is not None)),
                *(
                    _compared_cell(measure, change)
                    for measure, change in zip(one.measures, (None, *one.changes), strict=True)
                ),
            )
            for one in compared
        ),
    )


def _worst_cell(measures: Sequence[Measure]) -> Cell:
    if not measures:
        return Cell(text="not measured", kind="none")
    worst = worst_of(measures)
    about = f"{attack_name(worst.attack, worst.code)}, {population_name(worst.population)}"
    return Cell(
        text="\n".join([f"{metric_name(worst.metric)} {counted(worst.members)}", about, *reason(worst)]),
        kind=worst.verdict,
        is_hypothetical=worst.is_hypothetical,
    )


def _how(compared: Sequence[Compared]) -> str:
    changes = [change for one in compared for change in one.changes if change is not None]
    num_paired = sum(change.is_paired for change in changes)
    if num_paired in (0, len(changes)):
        return "paired" if num_paired else "unpaired"
    return f"{num_paired:,} of {len(changes):,} paired"


def _compared_cell(measure: Measure | None, change: Change | None) -> Cell:
    cell = measured_cell([] if measure is None else [measure])
    if change is None:
        return cell
    lines = [cell.text, _change("change", change.members, change.p_adjusted if change.is_paired else None)]
    if change.excess is not None:
        name = f"change of the excess over {series_name(change.over)}"
        lines.append(_change(name, change.excess, change.excess_p_adjusted))
    return replace(cell, text="\n".join(lines))


def _change(name: str, change: Estimate, p_adjusted: float | None) -> str:
    how = "unpaired" if p_adjusted is None else f"paired, p {_as_clause(p_value(p_adjusted))}"
    return f"{name}: {counted(change)}, {how}"


def _as_clause(p_value: str) -> str:
    return p_value if p_value.startswith("<") else f"= {p_value}"
