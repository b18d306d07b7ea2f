import json
import re
from typing import Any, get_args

import pytest

from confide.audit.results import Curve, Point, ViewKind
from confide.report.figure_tables import MAX_TABLE_ROWS
from confide.report.figures import Figure, line_figures, roc_figures
from confide.report.palette import CHANCE, DARK_FOR_LIGHT
from tests.report.audits import audit, leak, leaking_audit, line, measure, paper_curves, roc

ROC = roc("ez", 0.5, num=12)
TRANSPARENT = "rgba(0,0,0,0)"


def _all_figures() -> list[Figure]:
    results = leaking_audit()
    return [
        *roc_figures(results),
        *(figure for name in ("rounds", "samples", "copies") for figure in line_figures(results, name)),
    ]


def _curve(points: list[tuple[float, float]], *, series: str = "members", attack: str = "ez") -> Curve:
    exact = [Point(x=x, y=y, low=y, high=y) for x, y in points]
    return roc(attack, 1.0, series=series).model_copy(update={"points": exact})


def _plot(figure: Figure) -> dict[str, Any]:
    plot: dict[str, Any] = json.loads(figure.plot)
    return plot


def _strings(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return [text for part in inner for text in _strings(part)]


def test_every_colour_of_a_figure_has_one_for_dark_pages() -> None:
    for figure in _all_figures():
        colors = {text for text in _strings(_plot(figure)) if re.match(r"#[0-9a-f]{6}$|rgba?\(", text)}
        assert colors - {TRANSPARENT} <= set(DARK_FOR_LIGHT)
        assert len(colors) > 3
        assert {entry.color for entry in figure.legend} <= set(DARK_FOR_LIGHT)


def test_a_roc_has_logarithmic_axes_the_diagonal_and_the_blind_baseline() -> None:
    (figure,) = roc_figures(audit(curves=[roc("ez", 0.5), roc("blind", 1.0, series="blind")]))
    plot = _plot(figure)
    assert (plot["layout"]["xaxis"]["type"], plot["layout"]["yaxis"]["type"]) == ("log", "log")
    assert [entry.name for entry in figure.legend] == ["ez", "blind, without a model", "by chance"]
    assert figure.legend[1].color == CHANCE
    diagonal = plot["data"][-1]
    assert diagonal["x"] == diagonal["y"]
    assert diagonal["x"][-1] == 1.0
    assert sum(trace.get("fill") == "tonexty" for trace in plot["data"]) == 2  # a band for each curve


def test_a_roc_is_drawn_in_steps_and_what_a_logarithm_cannot_show_at_the_edge() -> None:
    (figure,) = roc_figures(audit(curves=[_curve([(0.0, 0.0), (0.0, 0.25), (0.01, 0.5), (1.0, 1.0)])]))
    lines = [trace for trace in _plot(figure)["data"] if trace.get("name") == "ez"]
    assert lines[0]["line"]["shape"] == "hv"
    assert lines[0]["x"] == [0.01, 0.01, 0.01, 1.0]
    assert lines[0]["y"] == [0.01, 0.25, 0.5, 1.0]


def test_operating_points_are_reached_and_not_interpolated() -> None:
    (figure,) = roc_figures(audit(curves=[_curve([(0.0, 0.1), (0.009, 0.3), (0.02, 0.9), (1.0, 1.0)])]))
    assert figure.table.columns == ("Attack", "FPR 0.01", "FPR 0.1")  # 0.001 is below what the sample resolves
    assert [cell.text.split("\N{NO-BREAK SPACE}")[0].split(" ")[0] for cell in figure.table.rows[0]] == [
        "ez",
        "0.300",
        "0.900",
    ]


def test_of_many_attacks_the_strongest_and_the_blind_one_have_bands() -> None:
    attacks = [roc(name, power, num=50) for name, power in (("a", 0.9), ("b", 0.3), ("c", 0.8), ("d", 0.7))]
    (figure,) = roc_figures(audit(curves=[*attacks, roc("blind", 1.0, series="blind", num=50)]))
    filled = [trace["line"]["color"] for trace in _plot(figure)["data"] if trace.get("fill") == "tonexty"]
    assert filled == [figure.legend[1].color, CHANCE]
    assert "strongest attack and the blind baseline" in figure.description
    (chosen,) = roc_figures(audit(curves=[*attacks, roc("best", 0.6, num=50)]))
    filled = [trace["line"]["color"] for trace in _plot(chosen)["data"] if trace.get("fill") == "tonexty"]
    assert filled == [chosen.legend[4].color]


def test_lines_of_one_figure_can_be_told_apart() -> None:
    curves = [
        line("rounds", series, {1: 0.1, 2: 0.2}, attack=attack)
        for attack in "abcdefghijk"
        for series in ("members", "held_out", "base")
    ]
    (figure,) = roc_figures(audit(curves=[roc(one.attack, 1.0, series=one.series, num=10) for one in curves]))
    looks = {(entry.color, entry.dash) for entry in figure.legend[:21]}
    assert len(looks) == 21  # seven colours by three dashes
    assert len({entry.name for entry in figure.legend}) == len(curves) + 1  # and guessing by chance


def test_many_attacks_get_a_small_figure_each_with_their_enhanced_form_beside_them() -> None:
    figures = line_figures(audit(curves=paper_curves()), "rounds")
    assert len(figures) == 12
    assert all(figure.is_small for figure in figures)
    assert [entry.name for entry in figures[0].legend] == [
        "partial-80, trained on",
        "partial-80, held out",
        "partial-80 with two models, trained on",
        "partial-80 with two models, held out",
    ]
    titles = [figure.title for figure in figures]
    assert len(set(titles)) == 12
    assert ["partial-80" in title for title in titles] == [True] * 3 + [False] * 9  # an attack's metrics side by side
    assert "share with ROUGE-L above 0.9" in titles[1]
    looks = {(entry.color, entry.dash) for entry in figures[0].legend}
    assert len(looks) == 4
    assert json.loads(figures[0].plot)["layout"]["height"] < json.loads(_all_figures()[0].plot)["layout"]["height"]


def test_a_few_attacks_share_a_figure() -> None:
    (figure,) = line_figures(
        audit(curves=[line("rounds", "members", {1: 0.1}, attack=attack) for attack in "abcdef"]), "rounds"
    )
    assert len(figure.legend) == 6
    assert not figure.is_small


def test_each_view_population_and_metric_has_its_figure_and_empty_curves_have_none() -> None:
    curves = [
        line("rounds", "members", {1: 0.1}),
        line("rounds", "members", {1: 0.1}, view="final"),
        line("rounds", "members", {1: 0.1}, metric="near"),
        line("rounds", "members", {}, population="random"),
    ]
    figures = line_figures(audit(curves=curves), "rounds")
    assert [figure.title.split(": ")[1].split(",")[0] for figure in figures] == [
        "The holder of the final model",
        "A participating client",
        "A participating client",
    ]
    assert line_figures(audit(curves=curves), "samples") == []


def test_a_figures_table_has_its_numbers_with_intervals() -> None:
    (figure,) = line_figures(audit(curves=[line("rounds", "members", {0: 0.0, 1: 0.25, 2: 0.5})]), "rounds")
    assert [[cell.text for cell in row] for row in figure.table.rows] == [
        ["0", "0 [0, 0.090]"],
        ["1", "0.250 [0.160, 0.340]"],
        ["2", "0.500 [0.410, 0.590]"],
    ]


def test_a_long_table_is_thinned_says_so_and_keeps_its_ends() -> None:
    values = {step: step / 1000 for step in range(1000)}
    (figure,) = line_figures(audit(curves=[line("rounds", "members", values)]), "rounds")
    assert len(figure.table.rows) <= MAX_TABLE_ROWS + 1
    assert (figure.table.rows[0][0].text, figure.table.rows[-1][0].text) == ("0", "999")
    assert f"({len(figure.table.rows)} of 1000 points)" in figure.table.caption


def test_the_ladder_has_a_logarithmic_axis_unless_it_begins_at_zero() -> None:
    def axis(values: dict[int, float]) -> str:
        (figure,) = line_figures(audit(curves=[line("copies", "members", values)]), "copies")
        return str(_plot(figure)["layout"]["xaxis"].get("type", "linear"))

    assert axis({1: 0.1, 2: 0.2, 16: 0.3}) == "log"
    assert axis({0: 0.1, 1: 0.2, 16: 0.3}) == "linear"


def test_a_figure_says_how_many_records_are_behind_it() -> None:
    (figure,) = line_figures(audit(measures=[measure()], curves=[line("rounds", "members", {1: 0.1})]), "rounds")
    assert "Records: 46 trained on, 47 not trained on. " in figure.description


def test_a_figure_stands_out_where_something_was_found_by_the_same_party_in_the_same_records() -> None:
    curves = [
        line("rounds", "members", {1: 0.1}, view=view, population=population)
        for view in get_args(ViewKind)
        for population in ("personal", "random")
    ]
    figures = line_figures(audit(measures=[leak("coalition"), measure("final")], curves=curves), "rounds")
    assert [figure.has_finding for figure in figures] == [number == 4 for number in range(10)]
    (of_members,) = roc_figures(audit(measures=[leak("client", "membership", population="records")], curves=[ROC]))
    assert of_members.has_finding


@pytest.mark.parametrize("name", ["<a href='javascript:1'>x</a>", "<b>x</b>"])
def test_names_reach_plotly_as_text(name: str) -> None:
    curves = [line("rounds", "members", {1: 0.1}, attack=name, metric=name)]
    (figure,) = line_figures(audit(curves=curves), "rounds")
    assert not [text for text in _strings(_plot(figure)) if "<" in text]


def test_a_curve_of_one_point_or_of_zeros_can_be_drawn() -> None:
    for points in ([(0.0, 0.0)], [(0.0, 0.0), (1.0, 1.0)], [(1.0, 1.0)]):
        (figure,) = roc_figures(audit(curves=[_curve(points) for _ in range(5)]))
        assert figure.table.rows
