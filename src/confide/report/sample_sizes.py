"""How many records stand behind the lines of a figure, from the measures that are about the same.

Figures that are about shares and means are about members, with others beside them as a control. An AUC, and the ROC
that goes with it, are about both at once.
"""

from collections.abc import Iterable, Mapping, Sequence

from confide.audit.results import Asked, AuditResults, Curve, Measure

_BEST = "best"


def sizes(results: AuditResults, curves: Sequence[Curve]) -> str:
    """Says how many members and how many others a figure's lines are about, in a sentence; "" where nothing says so.

    Args:
        results: with the measures, and the records behind them.
        curves: of one figure, at least one.
    """
    same = [measure for measure in results.measures if any(_is_about(measure, curve) for curve in curves)]
    if curves[0].name == "roc":
        areas = [measure for measure in same if measure.metric == "auc"]
        # A ROC is that of the best attack, on the half of the records on which its area was measured.
        same = [measure for measure in areas if measure.attack == _BEST] or areas
    return _counted(same, results.asked)


def _counted(measures: Iterable[Measure], asked: Mapping[str, Asked]) -> str:
    members, others, together = set(), set(), set()
    for measure in measures:
        if measure.outcomes is not None:
            behind = asked[measure.outcomes.asked]
            members.add(len(behind.members))
            others.add(len(behind.others))
        elif measure.metric == "auc":
            together.add(measure.members.num)
        else:
            members.add(measure.members.num)
            if "held_out" in measure.controls:
                others.add(measure.controls["held_out"].num)
    kinds = ((members, "trained on"), (others, "not trained on"), (together, "trained on and not, together"))
    parts = [f"{_span(nums)} {what}" for nums, what in kinds if nums]
    return f"Records: {', '.join(parts)}." if parts else ""


def _is_about(measure: Measure, curve: Curve) -> bool:
    about = (measure.view, measure.family, measure.population) == (curve.view, curve.family, curve.population)
    return about and measure.attack in ((curve.attack, _BEST) if curve.name == "roc" else (curve.attack,))


def _span(nums: Iterable[int]) -> str:
    least, most = min(nums), max(nums)
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"
