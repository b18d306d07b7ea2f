"""Draws lines, bands and axes as plotly's JSON, in light colours; the one module that needs plotly."""

import html
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from confide.audit.results import Point
from confide.report.palette import CHANCE, GRID, INK, band
from confide.report.wording import number

HEIGHT, SMALL_HEIGHT = 340, 220
"""Of a figure, and of one among many, in CSS pixels."""

Shape = Literal["linear", "hv"]
"""How points are joined: straight, or by steps that rise at the next point."""


@dataclass(frozen=True, kw_only=True)
class LegendEntry:
    """A line's name, its colour and its dash (of `palette.DASHES`)."""

    name: str
    color: str
    dash: str


def plotly_script() -> str:
    """Gives plotly's own JavaScript, whole, for a page that opens offline."""
    return str(get_plotlyjs())


class Drawing:
    """One figure in the making: lines are drawn in the order in which they are added.

    Names that come from results are shown as text: plotly would take tags in them for formatting and links.
    """

    def __init__(self, x_title: str, y_title: str, *, height: int = HEIGHT) -> None:
        self._figure = go.Figure()
        self._figure.update_layout(
            template=None,
            showlegend=False,  # the page has its own, which wraps and is read out
            autosize=True,
            height=height,
            margin={"l": 8, "r": 14, "t": 10, "b": 8},
            paper_bgcolor="rgba(0,0,0,0)",
            plot_bgcolor="rgba(0,0,0,0)",
            font={"color": INK, "size": 13, "family": "system-ui, sans-serif"},
            hovermode="closest",
            dragmode=False,
        )
        for update, title in ((self._figure.update_xaxes, x_title), (self._figure.update_yaxes, y_title)):
            update(
                title={"text": html.escape(title), "standoff": 8},
                automargin=True,
                fixedrange=True,
                gridcolor=GRID,
                linecolor=CHANCE,
                zeroline=False,
                showline=True,
                ticks="outside",
                tickcolor=CHANCE,
            )

    def add_band(self, points: Sequence[Point], color: str, *, shape: Shape = "linear") -> None:
        """Fills what lies between the points' lower and upper ends."""
        for edge, fill in (("low", "none"), ("high", "tonexty")):
            self._figure.add_trace(
                go.Scatter(
                    x=[point.x for point in points],
                    y=[point.low if edge == "low" else point.high for point in points],
                    mode="lines",
                    line={"width": 0, "shape": shape, "color": color},
                    fill=fill,
                    fillcolor=band(color),
                    hoverinfo="skip",
                )
            )

    def add_line(
        self, points: Sequence[Point], entry: LegendEntry, *, shape: Shape = "linear", has_markers: bool = False
    ) -> None:
        """Joins the points; under the pointer each shows its number and interval."""
        self._figure.add_trace(
            go.Scatter(
                x=[point.x for point in points],
                y=[point.y for point in points],
                name=html.escape(entry.name),
                mode="lines+markers" if has_markers else "lines",
                line={"color": entry.color, "dash": entry.dash, "width": 2, "shape": shape},
                marker={"color": entry.color, "size": 6},
                customdata=[f"{number(point.y)} [{number(point.low)}, {number(point.high)}]" for point in points],
                hovertemplate="%{x:.4~g}: %{customdata}",
            )
        )

    def add_marks(self, points: Sequence[Point], color: str) -> None:
        """Puts a dot at each point."""
        self._figure.add_trace(
            go.Scatter(
                x=[point.x for point in points],
                y=[point.y for point in points],
                mode="markers",
                marker={"color": color, "size": 7},
                hoverinfo="skip",
            )
        )

    def add_plain_line(
        self, xs: Sequence[float], ys: Sequence[float], entry: LegendEntry, *, ends_with_bar: bool = False
    ) -> None:
        """Joins places without a number under the pointer; with a bar across its last end if asked for."""
        bars: list[float] = [0.0] * (len(xs) - 1) + [12.0]
        self._figure.add_trace(
            go.Scatter(
                x=list(xs),
                y=list(ys),
                mode="lines+markers" if ends_with_bar else "lines",
                line={"color": entry.color, "dash": entry.dash, "width": 2},
                marker={
                    "color": entry.color,
                    "size": bars,
                    "symbol": "line-ns",
                    "line": {"width": 2, "color": entry.color},
                },
                hoverinfo="skip",
            )
        )

    def add_dots(self, xs: Sequence[float], ys: Sequence[float], entry: LegendEntry, *, names: Sequence[str]) -> None:
        """Puts a dot at each place; under the pointer each shows its name and its number on the x axis."""
        self._figure.add_trace(
            go.Scatter(
                x=list(xs),
                y=list(ys),
                name=html.escape(entry.name),
                mode="markers",
                marker={"color": entry.color, "size": 9},
                customdata=[html.escape(name) for name in names],
                hovertemplate="%{customdata}: %{x:.4~g}",
            )
        )

    def label_rows(self, names: Mapping[int, str]) -> None:
        """Labels rows on the y axis, half a row around them, and lets the x axis begin at 0."""
        self._figure.update_xaxes(rangemode="tozero")
        self._figure.update_yaxes(
            range=[min(names) - 0.5, max(names) + 0.5],
            tickmode="array",
            tickvals=list(names),
            ticktext=[html.escape(name) for name in names.values()],
        )

    def make_logarithmic(self, axis: Literal["x", "y"], ticks: Mapping[float, str]) -> None:
        """Makes an axis logarithmic, from the least to the greatest of its labelled values."""
        low, high = math.log10(min(ticks)), math.log10(max(ticks))
        room = 0.02 * max(high - low, 1.0)
        update = self._figure.update_xaxes if axis == "x" else self._figure.update_yaxes
        update(
            type="log",
            range=[low - room, high + room],
            tickmode="array",
            tickvals=list(ticks),
            ticktext=list(ticks.values()),
        )

    def start_at_zero(self) -> None:
        """Lets the y axis begin at 0."""
        self._figure.update_yaxes(rangemode="tozero")

    def label_whole_numbers(self) -> None:
        """Labels the x axis with whole numbers only."""
        self._figure.update_xaxes(tickformat="d", nticks=10)

    def to_json(self) -> str:
        """Gives the figure as plotly's JSON; the same figure gives the same text."""
        return json.dumps(self._figure.to_plotly_json(), sort_keys=True, allow_nan=False)
