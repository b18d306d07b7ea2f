"""The numbers of a figure as a table, for who cannot see it or wants to read them off."""

import math
from collections.abc import Sequence

from confide.audit.results import Curve, Point
from confide.report.drawing import LegendEntry
from confide.report.tables import Cell, Table
from confide.report.wording import number

MAX_TABLE_ROWS = 40
"""Rows of a figure's table; of longer lines every so manieth point stands in it."""

AXIS_TITLES = {"rounds": "round", "samples": "number of samples", "copies": "copies in the data"}
"""By a curve's name what its x is."""


def reached(curve: Curve, targets: Sequence[float]) -> dict[float, Point]:
    """Gives, by target, the curve's highest point with at most that false-positive rate (no interpolation)."""
    found = {}
    for target in targets:
        points = [point for point in curve.points if point.x <= target]
        if points:
            found[target] = max(points, key=lambda point: (point.y, -point.x))
    return found


def roc_table(curves: Sequence[Curve], entries: Sequence[LegendEntry], targets: Sequence[float], where: str) -> Table:
    """Gives each curve's true-positive rates at some false-positive rates.

    Args:
        curves: ROC curves of one figure.
        entries: their names, as many.
        targets: false-positive rates, ascending.
        where: what the figure is about.
    """
    rows = []
    for curve, entry in zip(curves, entries, strict=True):
        found = reached(curve, targets)
        rows.append((Cell(text=entry.name), *(_point_cell(found.get(target)) for target in targets)))
    return Table(
        caption=f"{where}: true-positive rate at most that many false positives, with its interval",
        columns=("Attack", *(f"FPR {target:g}" for target in targets)),
        rows=tuple(rows),
    )


def line_table(name: str, ordered: Sequence[Sequence[Point]], entries: Sequence[LegendEntry], where: str) -> Table:
    """Gives the points of some lines, a row for each x; of very many, some that include both ends.

    Args:
        name: what is on the x axis, of `AXIS_TITLES`.
        ordered: the points of each line, by x.
        entries: the lines' names, as many.
        where: what the figure is about.
    """
    xs = sorted({point.x for points in ordered for point in points})
    step = math.ceil(len(xs) / MAX_TABLE_ROWS)
    shown = sorted({*xs[::step], xs[-1]})
    count = f" ({len(shown)} of {len(xs)} points)" if len(shown) < len(xs) else ""
    by_x = [{point.x: point for point in points} for points in ordered]
    return Table(
        caption=f"{where}{count}, with its interval",
        columns=(AXIS_TITLES[name], *(entry.name for entry in entries)),
        rows=tuple((Cell(text=f"{x:,g}"), *(_point_cell(points.get(x)) for points in by_x)) for x in shown),
    )


def _point_cell(point: Point | None) -> Cell:
    if point is None:
        return Cell(text="\N{EN DASH}", kind="number")
    return Cell(text=f"{number(point.y)} [{number(point.low)}, {number(point.high)}]", kind="number")
