"""What stands open on the page, and what waits behind a disclosure for a reader who asks for it.

A page on a run with many views is long. What was found stands open always; what was not, only where it is short.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from confide.report.figures import MANY, Figure
from confide.report.measures import MeasureGroup
from confide.report.wording import BEYOND_CONTROLS

FEW_MEASURES = 20
"""So many measures stand open, whatever was found."""

FEW_MEMORISED = 20
"""So many records that came out stand open."""


@dataclass(frozen=True, kw_only=True)
class Placed:
    """A figure and the id of its place on the page."""

    id: str
    figure: Figure


@dataclass(frozen=True, kw_only=True)
class FoldedFigures:
    """A section's figures: those that stand open, and those behind a disclosure."""

    shown: list[Placed]
    folded: list[Placed]


@dataclass(frozen=True, kw_only=True)
class FoldedGroup:
    """A table of measures, and whether it stands open."""

    measures: MeasureGroup
    is_open: bool


def fold_figures(prefix: str, figures: Sequence[Figure]) -> FoldedFigures:
    """Gives each figure a place; of `MANY` and more, those in which nothing was found are folded.

    Args:
        prefix: how the figures' ids begin.
        figures: of one section of one run, in their order.
    """
    placed = [Placed(id=f"{prefix}-{number}", figure=figure) for number, figure in enumerate(figures)]
    if len(placed) < MANY:
        return FoldedFigures(shown=placed, folded=[])
    return FoldedFigures(
        shown=[one for one in placed if one.figure.has_finding],
        folded=[one for one in placed if not one.figure.has_finding],
    )


def fold_measures(groups: Sequence[MeasureGroup]) -> list[FoldedGroup]:
    """Opens the groups of one run in which something was found, or all of them where they are few."""
    are_few = sum(group.num for group in groups) <= FEW_MEASURES
    return [
        FoldedGroup(measures=group, is_open=are_few or (group.verdict in BEYOND_CONTROLS and not group.is_hypothetical))
        for group in groups
    ]
