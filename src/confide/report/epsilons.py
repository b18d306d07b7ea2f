"""Claimed and measured epsilon: a figure with both on one axis for each party, and the table of all bounds."""

from collections.abc import Mapping, Sequence

from confide.audit.epsilon_bounds import EpsilonBound
from confide.audit.results import AuditResults
from confide.privacy.randomness import SEEDED_NOISE
from confide.report.claims import METHODS, beside_epsilon
from confide.report.drawing import Drawing, LegendEntry
from confide.report.figures import Figure
from confide.report.palette import CHANCE, SERIES
from confide.report.tables import Cell, Table
from confide.report.wording import VIEWS, number, population_name

_ROW_HEIGHT = 34
_FRAME_HEIGHT = 90
_MEASURED = LegendEntry(name="measured: at least this", color=SERIES[0], dash="solid")
_REACHABLE = LegendEntry(name="up to what so many canaries could show", color=CHANCE, dash="dot")
_CLAIMED = "claimed"
_WHAT = {"example": "one record", "client": "one client"}


def epsilon_figures(results: AuditResults) -> list[Figure]:
    """Gives for each party its lower bounds, what each could have been at most, and what the run claims."""
    by_view = {view: [one for one in results.epsilons if one.view == view] for view in VIEWS}
    beside = beside_epsilon(results, SEEDED_NOISE)
    return [
        _figure(VIEWS[view].title, bounds, _claims(results, bounds), beside)
        for view, bounds in by_view.items()
        if bounds
    ]


def epsilon_table(results: AuditResults) -> Table:
    """Gives every bound."""
    order = list(VIEWS)
    bounds = sorted(results.epsilons, key=lambda one: order.index(one.view))
    return _table("Lower bounds on epsilon", bounds, beside_epsilon(results, SEEDED_NOISE))


def _claims(results: AuditResults, bounds: Sequence[EpsilonBound]) -> dict[str, float]:
    """What is claimed against one party, by whose presence it hides.

    With both units a client's claim stands here also where no bound is about it; not for a coalition, which may be of
    more clients than it covers, nor for a server that chose the seed of the noise.
    """
    claims = {_WHAT[one.unit]: one.claimed for one in bounds if one.claimed is not None}
    of_client, view = results.run.client_claim, bounds[0].view
    if of_client is not None and view != "coalition" and not of_client.gap_against(view):
        claims.setdefault(_WHAT["client"], of_client.epsilon)
    return claims


def _figure(party: str, bounds: Sequence[EpsilonBound], claims: Mapping[str, float], beside: str) -> Figure:
    """One party's; `beside` is said of every claim."""
    drawing = Drawing("epsilon", "", height=_FRAME_HEIGHT + _ROW_HEIGHT * len(bounds))
    rows = list(range(len(bounds)))[::-1]  # the first one on top
    names = [f"{population_name(one.population)}: {one.method}" for one in bounds]
    for row, bound in zip(rows, bounds, strict=True):
        if bound.ceiling is not None:
            drawing.add_plain_line([bound.low, bound.ceiling], [row, row], _REACHABLE, ends_with_bar=True)
    drawing.add_dots([one.low for one in bounds], rows, _MEASURED, names=names)
    entries = [
        LegendEntry(name=f"{_CLAIMED} for {what}{beside}", color=SERIES[1 + place], dash="dash")
        for place, what in enumerate(claims)
    ]
    for claimed, entry in zip(claims.values(), entries, strict=True):
        drawing.add_plain_line([claimed, claimed], [-0.5, len(bounds) - 0.5], entry)
    drawing.label_rows(dict(zip(rows, names, strict=True)))
    said = " and ".join(
        f"{number(claimed)} {entry.name}" for claimed, entry in zip(claims.values(), entries, strict=True)
    )
    above = sum(one.verdict == "above the claim" for one in bounds)
    return Figure(
        title=f"Epsilon: {party}",
        description=(
            f"{len(bounds)} lower bounds on epsilon, a dot each, on one axis with what the run claims "
            f"({said or 'nothing'}); {above} of them above it. A dotted line leads to the most that so many canaries "
            "could have shown: beyond that, this audit says nothing."
        ),
        plot=drawing.to_json(),
        legend=(_MEASURED, _REACHABLE, *entries),
        table=_table(f"{party}: claimed and measured epsilon", bounds, beside),
        has_finding=above > 0,
    )


def _table(caption: str, bounds: Sequence[EpsilonBound], beside: str) -> Table:
    return Table(
        caption=caption,
        columns=(
            "Who, which canaries",
            "Method",
            "Epsilon is at least",
            "Claimed",
            "Could show at most",
            "Canaries in, out",
            "Verdict",
            "What to know",
        ),
        rows=tuple(_row(bound, beside) for bound in bounds),
    )


def _row(bound: EpsilonBound, beside: str) -> tuple[Cell, ...]:
    name = f"{VIEWS[bound.view].title}\n{population_name(bound.population)}, {bound.attack}\n{bound.key}"
    at_level = f"at delta {bound.delta:.2g}, wrong with a chance of {bound.significance:.2g}, {bound.num_tried} tried"
    return (
        Cell(text=name),
        Cell(text=METHODS[bound.method]),
        Cell(text=f"{number(bound.low)}\n{at_level}", kind="number"),
        Cell(text=_or_dash(bound.claimed) + ("" if bound.claimed is None else beside), kind="number"),
        Cell(text=_or_dash(bound.ceiling), kind="number"),
        Cell(text=f"{bound.num_in:,}, {bound.num_out:,}", kind="number"),
        Cell(text=bound.verdict),
        Cell(text=bound.note),
    )


def _or_dash(value: float | None) -> str:
    return "\N{EN DASH}" if value is None else number(value)
