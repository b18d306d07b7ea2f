"""An audit's most telling measures as a table on the terminal; all of them are in audit.json."""

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from confide.audit.results import AuditResults, Measure

MOST_ROWS = 15


def print_telling(console: Console, results: "AuditResults") -> None:
    """Prints the worst measure of each view, family and kind of records, leaks first, at most `MOST_ROWS`.

    On a terminal as a table; else, as in a log or a pipe, a line for each with its name for conditions, however wide.
    """
    telling = telling_measures(results)
    if not telling:
        return
    if console.is_terminal:
        console.print(_table(telling[:MOST_ROWS]))
    else:
        for line in ("measure, value, beyond its controls, verdict:", *map(_line, telling[:MOST_ROWS])):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    num_more = len(results.measures) - min(len(telling), MOST_ROWS)
    if num_more:
        console.print(f"and {num_more} measures more in audit.json", markup=False, highlight=False)


def _line(measure: "Measure") -> str:
    from confide.report.wording import interval, number, verdict_name

    beyond = "no control" if measure.excess is None else f"beyond {interval(measure.excess)}"
    line = f"{measure.key}  {number(measure.members.value)}  {beyond}  {verdict_name(measure)}"
    return line.replace("\N{NO-BREAK SPACE}", " ")  # what searches a log looks for plain ones


def _table(telling: "Sequence[Measure]") -> Table:
    from confide.report.wording import attack_name, interval, metric_name, number, population_name

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("seen by", no_wrap=True)
    for heading in ("attack", "about", "measured"):
        table.add_column(heading)
    table.add_column("beyond its controls", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for measure in telling:
        cells = (
            f"{measure.view} (what if)" if measure.is_hypothetical else measure.view,
            attack_name(measure.attack, measure.code),
            population_name(measure.population),
            f"{metric_name(measure.metric)} {number(measure.members.value)}",
            "" if measure.excess is None else interval(measure.excess),
            measure.verdict,
        )
        table.add_row(*map(Text, cells))
    return table


def telling_measures(results: "AuditResults") -> "list[Measure]":
    """The worst measure of each view, family and kind of records, worst first."""
    from confide.report.sentences import worst_of

    groups: dict[tuple[str, str, str], list[Measure]] = {}
    for measure in results.measures:
        groups.setdefault((measure.view, measure.family, measure.population), []).append(measure)
    left = [worst_of(measures) for measures in groups.values()]
    ordered = []
    while left:
        worst = worst_of(left)
        ordered.append(worst)
        left.remove(worst)
    return ordered
