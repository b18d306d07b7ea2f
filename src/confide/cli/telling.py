"""An audit's most telling measures as a table on the terminal; all of them are in audit.json."""

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from confide.audit.results import AuditResults, Measure

MOST_ROWS = 15


def print_telling(console: Console, results: "AuditResults") -> None:
    """Prints the worst measure of each view, family and kind of records, leaks first, at most `MOST_ROWS`."""
    from confide.report.wording import attack_name, interval, metric_name, number, population_name

    telling = telling_measures(results)
    if not telling:
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("seen by", no_wrap=True)
    for heading in ("attack", "about", "measured"):
        table.add_column(heading)
    table.add_column("beyond its controls", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for measure in telling[:MOST_ROWS]:
        cells = (
            f"{measure.view} (what if)" if measure.is_hypothetical else measure.view,
            attack_name(measure.attack, measure.code),
            population_name(measure.population),
            f"{metric_name(measure.metric)} {number(measure.members.value)}",
            "" if measure.excess is None else interval(measure.excess),
            measure.verdict,
        )
        table.add_row(*map(Text, cells))
    console.print(table)
    num_more = len(results.measures) - min(len(telling), MOST_ROWS)
    if num_more:
        console.print(f"and {num_more} measures more in audit.json", markup=False, highlight=False)


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
