"""Figures of the report, each with a legend and a table of the same numbers."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from confide.audit.results import AuditResults, Curve, Family, Measure, Point, ViewKind
from confide.report.drawing import Drawing, LegendEntry
from confide.report.palette import CHANCE, DASHES, SERIES
from confide.report.tables import Cell, Table
from confide.report.wording import (
    FAMILIES,
    VIEWS,
    attack_name,
    metric_name,
    number,
    population_name,
    series_name,
)

MAX_TABLE_ROWS = 40
"""Rows of a figure's table; of longer lines every so manieth point stands in it."""

MAX_BANDS = 3
"""Lines of attacks up to which each is drawn with its band."""

_OPERATING_POINTS = (0.0001, 0.001, 0.01, 0.1)
_LOWEST_RATE = 1e-5

_AXIS_TITLES = {"rounds": "round", "samples": "number of samples", "copies": "copies in the data"}


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One figure.

    Attributes:
        title: what is shown, for whom.
        description: what a reader who cannot see it must know.
        plot: the figure as plotly's JSON, in the light colours of `palette`.
        table: its numbers.
    """

    title: str
    description: str
    plot: str
    legend: tuple[LegendEntry, ...]
    table: Table


def roc_figures(results: AuditResults) -> list[Figure]:
    """Gives a log-log ROC for each view and population, with bands, the diagonal and the blind baseline."""
    groups: dict[tuple[ViewKind, Family, str], list[Curve]] = {}
    for curve in _of(results, "roc"):
        groups.setdefault((curve.view, curve.family, curve.population), []).append(curve)
    return [_roc_figure(results, curves) for curves in groups.values()]


def line_figures(results: AuditResults, name: str) -> list[Figure]:
    """Gives the figures of "rounds", "samples" or "copies": one for each view, family, population and metric."""
    groups: dict[tuple[ViewKind, Family, str, str], list[Curve]] = {}
    for curve in _of(results, name):
        groups.setdefault((curve.view, curve.family, curve.population, curve.metric), []).append(curve)
    return [_line_figure(results, name, curves) for curves in groups.values()]


def _of(results: AuditResults, name: str) -> list[Curve]:
    """Gives the curves of a name that have points, by view and family in the report's order."""
    curves = [curve for curve in results.curves if curve.name == name and curve.points]
    views, families = list(VIEWS), list(FAMILIES)
    return sorted(curves, key=lambda curve: (views.index(curve.view), families.index(curve.family)))


def _roc_figure(results: AuditResults, curves: Sequence[Curve]) -> Figure:
    first = curves[0]
    floor = _floor(curves)
    targets = [target for target in _OPERATING_POINTS if target >= _resolvable(curves)]
    entries = _legend(curves)
    banded = _with_band(curves)
    drawing = Drawing("false-positive rate", "true-positive rate")
    for curve, entry in zip(curves, entries, strict=True):
        points = _raised(sorted(curve.points, key=lambda point: (point.x, point.y)), floor)
        if curve in banded:
            drawing.add_band(points, entry.color, shape="hv")
        drawing.add_line(points, entry, shape="hv")
        drawing.add_marks(_raised(_at(curve, targets).values(), floor), entry.color)
    chance = LegendEntry(name="by chance", color=CHANCE, dash="dot")
    drawing.add_line([Point(x=edge, y=edge, low=edge, high=edge) for edge in (floor, 1.0)], chance)
    drawing.make_logarithmic("x", _decades(floor))
    drawing.make_logarithmic("y", _decades(floor))
    where = f"{VIEWS[first.view].title}, {population_name(first.population)}"
    return Figure(
        title=f"{FAMILIES[first.family]}: {where}",
        description=(
            f"True-positive rate over false-positive rate, both axes logarithmic, {_lines(entries)}, with the diagonal "
            f"of guessing by chance. {_sizes(results, curves)}{_bands_shown(curves, banded)} "
            "Dots mark the operating points of the table. Rates below the axes are drawn at their edge."
        ),
        plot=drawing.to_json(),
        legend=(*entries, chance),
        table=_roc_table(curves, entries, targets, where),
    )


def _line_figure(results: AuditResults, name: str, curves: Sequence[Curve]) -> Figure:
    first = curves[0]
    metric, over = metric_name(first.metric), _AXIS_TITLES[name]
    entries = _legend(curves)
    banded = _with_band(curves)
    drawing = Drawing(over, metric)
    drawing.start_at_zero()
    ordered = [sorted(curve.points, key=lambda point: point.x) for curve in curves]
    for curve, points, entry in zip(curves, ordered, entries, strict=True):
        if curve in banded:
            drawing.add_band(points, entry.color)
        drawing.add_line(points, entry, has_markers=True)
    xs = sorted({point.x for points in ordered for point in points})
    is_logarithmic = name != "rounds" and xs[0] > 0
    if is_logarithmic:
        drawing.make_logarithmic("x", _ticks(xs))
    else:
        drawing.label_whole_numbers()
    where = f"{VIEWS[first.view].title}, {population_name(first.population)}"
    scale = " (logarithmic)" if is_logarithmic else ""
    return Figure(
        title=f"{FAMILIES[first.family]}: {where}, {metric}",
        description=(
            f"{metric[:1].upper()}{metric[1:]} by {over}{scale}, {_lines(entries)}. "
            f"{_sizes(results, curves)}{_bands_shown(curves, banded)}"
        ),
        plot=drawing.to_json(),
        legend=tuple(entries),
        table=_line_table(name, ordered, entries, f"{where}: {metric}"),
    )


def _legend(curves: Sequence[Curve]) -> list[LegendEntry]:
    """Names the lines: a colour for each attack, a dash for what its line is about, grey for the blind baseline.

    Where there is one attack, colours tell apart what its lines are about as well.
    """
    attacks = list(dict.fromkeys(curve.attack for curve in curves if curve.series != "blind"))
    kinds = ["members", *dict.fromkeys(curve.series for curve in curves if curve.series not in ("members", "blind"))]
    entries = []
    for curve in curves:
        if curve.series == "blind":
            entries.append(_blind_entry(curve))
            continue
        attack, kind = attacks.index(curve.attack), kinds.index(curve.series)
        about = "" if len(kinds) == 1 else f", {series_name(curve.series)}"
        place = kind if len(attacks) == 1 else attack
        entries.append(
            LegendEntry(
                name=f"{attack_name(curve.attack)}{about}",
                color=SERIES[place % len(SERIES)],
                dash=DASHES[(kind + attack // len(SERIES)) % len(DASHES)],
            )
        )
    return entries


def _blind_entry(curve: Curve) -> LegendEntry:
    of_attack = "" if curve.attack == "blind" else f"{attack_name(curve.attack)}, "
    return LegendEntry(name=f"{of_attack}{series_name('blind')}", color=CHANCE, dash="dash")


def _with_band(curves: Sequence[Curve]) -> list[Curve]:
    """Chooses the lines that get a band: all of them, or of many the strongest attack's and the blind baseline's."""
    attacks = [curve for curve in curves if curve.series == "members"]
    if len(attacks) <= MAX_BANDS:
        return list(curves)
    chosen = [curve for curve in attacks if curve.attack == "best"] or [max(attacks, key=_height)]
    return [curve for curve in curves if curve.series == "blind" or curve in chosen]


def _height(curve: Curve) -> float:
    """Gives the mean height of a line over its x."""
    points = sorted(curve.points, key=lambda point: (point.x, point.y))
    width = points[-1].x - points[0].x
    if width == 0:
        return max(point.y for point in points)
    area = sum((right.x - left.x) * left.y for left, right in pairwise(points))
    return area / width


def _floor(curves: Iterable[Curve]) -> float:
    """Gives the lower end of a ROC's axes: a decade, or a half or a fifth of one, at or below every rate above 0."""
    rates = [rate for curve in curves for point in curve.points for rate in (point.x, point.y) if rate > 0]
    least = max(min(rates, default=0.01), _LOWEST_RATE)
    decade = 10.0 ** math.floor(math.log10(least) + 1e-9)
    return max(step * decade for step in (1.0, 2.0, 5.0) if step * decade <= least * (1 + 1e-9))


def _resolvable(curves: Iterable[Curve]) -> float:
    """Gives the smallest false-positive rate above 0 that these curves have."""
    return min((point.x for curve in curves for point in curve.points if point.x > 0), default=1.0)


def _raised(points: Iterable[Point], floor: float) -> list[Point]:
    """Moves what a logarithmic axis cannot show to its edge."""
    return [
        Point(x=max(point.x, floor), y=max(point.y, floor), low=max(point.low, floor), high=max(point.high, floor))
        for point in points
    ]


def _decades(floor: float) -> dict[float, str]:
    powers = range(math.ceil(math.log10(floor) - 1e-9), 1)
    return {value: f"{value:g}" for value in sorted({floor, *(10.0**power for power in powers)})}


def _ticks(values: Sequence[float]) -> dict[float, str]:
    """Labels a logarithmic axis at the values themselves, as far as there is room."""
    step = math.ceil(len(values) / 8)
    chosen = {*values[::-1][::step], values[0]} if step > 1 else set(values)
    return {value: f"{value:,g}" for value in sorted(chosen)}


def _at(curve: Curve, targets: Sequence[float]) -> dict[float, Point]:
    """Gives, by target, the curve's highest point with at most that false-positive rate (no interpolation)."""
    reached = {}
    for target in targets:
        points = [point for point in curve.points if point.x <= target]
        if points:
            reached[target] = max(points, key=lambda point: (point.y, -point.x))
    return reached


def _roc_table(curves: Sequence[Curve], entries: Sequence[LegendEntry], targets: Sequence[float], where: str) -> Table:
    rows = []
    for curve, entry in zip(curves, entries, strict=True):
        reached = _at(curve, targets)
        rows.append((Cell(text=entry.name), *(_point_cell(reached.get(target)) for target in targets)))
    return Table(
        caption=f"{where}: true-positive rate at most that many false positives, with its interval",
        columns=("Attack", *(f"FPR {target:g}" for target in targets)),
        rows=tuple(rows),
    )


def _line_table(name: str, ordered: Sequence[Sequence[Point]], entries: Sequence[LegendEntry], where: str) -> Table:
    xs = sorted({point.x for points in ordered for point in points})
    step = math.ceil(len(xs) / MAX_TABLE_ROWS)
    shown = sorted({*xs[::step], xs[-1]})
    count = f" ({len(shown)} of {len(xs)} points)" if len(shown) < len(xs) else ""
    by_x = [{point.x: point for point in points} for points in ordered]
    return Table(
        caption=f"{where}{count}, with its interval",
        columns=(_AXIS_TITLES[name], *(entry.name for entry in entries)),
        rows=tuple((Cell(text=f"{x:,g}"), *(_point_cell(points.get(x)) for points in by_x)) for x in shown),
    )


def _point_cell(point: Point | None) -> Cell:
    if point is None:
        return Cell(text="\N{EN DASH}", kind="number")
    return Cell(text=f"{number(point.y)} [{number(point.low)}, {number(point.high)}]", kind="number")


def _lines(entries: Sequence[LegendEntry]) -> str:
    return "one line" if len(entries) == 1 else f"{len(entries)} lines"


def _sizes(results: AuditResults, curves: Sequence[Curve]) -> str:
    """Says how many records stand behind the lines, from the measures of the same attacks."""
    measures = [measure for measure in results.measures if any(_is_about(measure, curve) for curve in curves)]
    members = sorted({measure.members.num for measure in measures})
    others = sorted({measure.controls["held_out"].num for measure in measures if "held_out" in measure.controls})
    parts = [f"{_span(nums)} {what}" for nums, what in ((members, "trained on"), (others, "held out")) if nums]
    return f"Records: {', '.join(parts)}. " if parts else ""


def _is_about(measure: Measure, curve: Curve) -> bool:
    return (measure.view, measure.family, measure.attack, measure.population) == (
        curve.view,
        curve.family,
        curve.attack,
        curve.population,
    )


def _span(nums: Sequence[int]) -> str:
    return f"{nums[0]:,}" if len(nums) == 1 else f"{nums[0]:,} to {nums[-1]:,}"


def _bands_shown(curves: Sequence[Curve], banded: Sequence[Curve]) -> str:
    if len(banded) == len(curves):
        return "Bands are 95 % intervals."
    return "Bands are 95 % intervals, drawn for the strongest attack and the blind baseline; the table has all."
