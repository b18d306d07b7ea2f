"""Figures of the report, each with a legend and a table of the same numbers."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from confide.audit.results import AuditResults, Curve, Family, Point, ViewKind
from confide.report.drawing import HEIGHT, SMALL_HEIGHT, Drawing, LegendEntry
from confide.report.figure_tables import AXIS_TITLES, line_table, reached, roc_table
from confide.report.palette import CHANCE, DASHES, SERIES
from confide.report.sample_sizes import sizes
from confide.report.tables import Table
from confide.report.wording import (
    BEYOND_CONTROLS,
    ENHANCED,
    FAMILIES,
    VIEWS,
    attack_name,
    metric_name,
    population_name,
    series_name,
)

MAX_LINES = 6
"""Lines of a figure that a reader can follow."""

MANY = 5
"""So many figures of one kind are small ones."""

MAX_BANDS = 3
"""Lines of attacks up to which each is drawn with its band."""

_OPERATING_POINTS = (0.0001, 0.001, 0.01, 0.1)
_LOWEST_RATE = 1e-5


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One figure.

    Attributes:
        title: what is shown, for whom.
        description: what a reader who cannot see it must know.
        plot: the figure as plotly's JSON, in the light colours of `palette`.
        table: its numbers.
        has_finding: whether something was found by this party in these records.
        is_small: whether it stands among many of its kind.
    """

    title: str
    description: str
    plot: str
    legend: tuple[LegendEntry, ...]
    table: Table
    has_finding: bool = False
    is_small: bool = False


def roc_figures(results: AuditResults) -> list[Figure]:
    """Gives a log-log ROC for each view and population, with bands, the diagonal and the blind baseline."""
    groups: dict[tuple[ViewKind, Family, str], list[Curve]] = {}
    for curve in _of(results, "roc"):
        groups.setdefault((curve.view, curve.family, curve.population), []).append(curve)
    return [_roc_figure(results, curves) for curves in groups.values()]


def line_figures(results: AuditResults, name: str) -> list[Figure]:
    """Gives the figures of "rounds", "samples" or "copies": one for each view, family, population and metric.

    Where attacks have more than `MAX_LINES` lines in one, each attack gets a figure of its own, in which its enhanced
    form (`ENHANCED`) stands beside it. Many figures are small ones.
    """
    groups: dict[tuple[ViewKind, Family, str, str], list[Curve]] = {}
    for curve in _of(results, name):
        groups.setdefault((curve.view, curve.family, curve.population, curve.metric), []).append(curve)
    split = [part for curves in groups.values() for part in _by_attack(curves)]
    # All figures of an attack stand together, one metric beside the other.
    attacks = list(dict.fromkeys(_place(part[0], is_alone) for part, is_alone in split))
    split.sort(key=lambda one: attacks.index(_place(one[0][0], one[1])))
    height = HEIGHT if len(split) < MANY else SMALL_HEIGHT
    return [_line_figure(results, name, curves, of_attack=is_alone, height=height) for curves, is_alone in split]


def _place(curve: Curve, of_attack: bool) -> tuple[str, ...]:
    return (curve.view, curve.family, curve.population, curve.attack.removesuffix(ENHANCED) if of_attack else "")


def _by_attack(curves: Sequence[Curve]) -> list[tuple[list[Curve], bool]]:
    """The lines of each figure, and whether it is one attack's alone."""
    if len(curves) <= MAX_LINES:
        return [(list(curves), False)]
    by_attack: dict[str, list[Curve]] = {}
    for curve in curves:
        by_attack.setdefault(curve.attack.removesuffix(ENHANCED), []).append(curve)
    return [(lines, True) for lines in by_attack.values()]


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
        drawing.add_marks(_raised(reached(curve, targets).values(), floor), entry.color)
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
        has_finding=_has_finding(results, first),
        table=roc_table(curves, entries, targets, where),
    )


def _line_figure(results: AuditResults, name: str, curves: Sequence[Curve], *, of_attack: bool, height: int) -> Figure:
    first = curves[0]
    metric, over = metric_name(first.metric), AXIS_TITLES[name]
    entries = _legend(curves)
    banded = _with_band(curves)
    is_small = height == SMALL_HEIGHT
    drawing = Drawing(over, "" if is_small else metric, height=height)  # there is no room, and the title has it
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
    if of_attack:
        where += f", {attack_name(first.attack.removesuffix(ENHANCED))}"
    scale = " (logarithmic)" if is_logarithmic else ""
    return Figure(
        title=f"{FAMILIES[first.family]}: {where}, {metric} by {over}",
        description=(
            f"{metric[:1].upper()}{metric[1:]} by {over}{scale}, {_lines(entries)}. "
            f"{_sizes(results, curves)}{_bands_shown(curves, banded)}"
        ),
        plot=drawing.to_json(),
        legend=tuple(entries),
        has_finding=_has_finding(results, first),
        is_small=is_small,
        table=line_table(name, ordered, entries, f"{where}: {metric} by {over}"),
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


def _lines(entries: Sequence[LegendEntry]) -> str:
    return "one line" if len(entries) == 1 else f"{len(entries)} lines"


def _sizes(results: AuditResults, curves: Sequence[Curve]) -> str:
    said = sizes(results, curves)
    return f"{said} " if said else ""


def _has_finding(results: AuditResults, curve: Curve) -> bool:
    """Whether something was found where the curve is from: by the same party, of the same kind, in the same records."""
    about = (curve.view, curve.family, curve.population)
    return any(
        measure.verdict in BEYOND_CONTROLS and (measure.view, measure.family, measure.population) == about
        for measure in results.measures
    )


def _bands_shown(curves: Sequence[Curve], banded: Sequence[Curve]) -> str:
    if len(banded) == len(curves):
        return "Bands are 95 % intervals."
    return "Bands are 95 % intervals, drawn for the strongest attack and the blind baseline; the table has all."
