"""What an audit found, in sentences for who answers for the data: one per view, worst first.

Each sentence is computed from the results. The word that stands for a finding is written only where a measure's
verdict is that word.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from confide.audit.results import AuditResults, Estimate, Family, Measure, Verdict, ViewKind
from confide.report.wording import (
    FAMILIES,
    VERDICTS,
    VIEWS,
    as_clause,
    attack_name,
    in_words,
    metric_name,
    need,
    number,
    population_name,
    series_name,
)

_FOUND: dict[Family, str] = {
    "extraction": "text that was trained on comes out",
    "exposure": "planted secrets are far likelier to the model than chance explains",
    "membership": "it can be told which records were trained on",
    "updates": "updates that this party sees tell which records were trained on",
}

_PLAINEST_METRICS = ("exact", "near", "rouge_l", "exposure", "auc")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What was found from one view.

    Attributes:
        verdict: the worst of its measures'.
        title: the party.
        text: the sentence.
        worst: the measure that the sentence is about.
    """

    view: ViewKind
    verdict: Verdict
    title: str
    text: str
    worst: Measure


def findings(results: AuditResults) -> list[Finding]:
    """Gives one finding per view that was examined, worst first."""
    found = [_finding(view, measures) for view in VIEWS if (measures := measures_of(results, view=view))]
    return sorted(found, key=lambda finding: _badness(finding.worst))


def measures_of(
    results: AuditResults, *, view: ViewKind | None = None, family: Family | None = None
) -> tuple[Measure, ...]:
    """Gives the measures of a view, of a family, or of both."""
    return tuple(
        measure
        for measure in results.measures
        if (view is None or measure.view == view) and (family is None or measure.family == family)
    )


def worst_of(measures: Iterable[Measure]) -> Measure:
    """Gives the measure to name first.

    By verdict, then by whether it lies above its controls, then by family (what comes out as text before what can
    only be recognised), then by how plain the metric is, then by the lower end of the excess: by what is certain.

    Args:
        measures: at least one.
    """
    return min(measures, key=_badness)


def best_control(measure: Measure) -> tuple[str, Estimate] | None:
    """Gives the control that explains most of a measure, by name; None without any."""
    if not measure.controls:
        return None
    return max(measure.controls.items(), key=lambda item: item[1].value)


def headline(results: AuditResults) -> str:
    """Says in one sentence what the whole audit found."""
    views = findings(results)
    if not views:
        return "Nothing was measured, so nothing can be concluded either way."
    with_leaks = [finding for finding in views if finding.verdict == "leak"]
    undecided = [finding for finding in views if finding.verdict == "too few records"]
    examined = "the one view that was examined" if len(views) == 1 else f"the {len(views)} views that were examined"
    if with_leaks:
        return f"Training data leaks in {len(with_leaks)} of {examined}."
    if undecided:
        return (
            f"No attack found more than its controls explain in {examined}, but {len(undecided)} could not be decided."
        )
    return f"No attack found more than its controls explain, in {examined}."


def guarantee(results: AuditResults) -> str:
    """Says what is guaranteed whatever the attack."""
    if results.run.guarantee == "none":
        return "Formal guarantee: none. Measuring shows what these attacks find; another may find more."
    return f"Formal guarantee: {results.run.guarantee.rstrip('.')}."


def utility(results: AuditResults) -> str:
    """Says what the model is good for, each number beside the base model's."""
    measured = results.run.utility
    shown = [
        f"{name} {number(value)}" + (f" (base model {number(measured[base])})" if base in measured else "")
        for name, value in measured.items()
        if (base := f"base {name}") and not (name.startswith("base ") and name.removeprefix("base ") in measured)
    ]
    return f"Utility: {', '.join(shown)}." if shown else "Utility: not measured."


def not_examined(results: AuditResults) -> str:
    """Names the views that no attack looked from; empty where all were examined."""
    missing = [words.title for view, words in VIEWS.items() if not measures_of(results, view=view)]
    return f"Not examined: {'; '.join(missing)}." if missing else ""


def measured_value(measure: Measure) -> str:
    """Gives a measure's number with its interval, sample size, best control and excess, as part of a sentence."""
    parts = [f"{metric_name(measure.metric)} {in_words(measure.metric, measure.members)}"]
    control = best_control(measure)
    if control is not None:
        parts.append(f"against {in_words(measure.metric, control[1])} {_by_control(control[0])}")
    if measure.excess is not None:
        parts.append(f"an excess of {in_words(measure.metric, measure.excess, is_difference=True)}")
    return ", ".join(parts)


BRACKETS = "Brackets hold the 95 % interval and n, the number of records behind the number before them."
"""How to read the sentences."""


def attack_on(measure: Measure) -> str:
    """Names the attack and what it was asked about."""
    return f"{attack_name(measure.attack, measure.code)} on {population_name(measure.population)}"


def _by_control(name: str) -> str:
    return {"held_out": "on held-out records", "base": "with the base model", "blind": "without any model"}.get(
        name, f"by the control {series_name(name)}"
    )


def _finding(view: ViewKind, measures: Sequence[Measure]) -> Finding:
    worst = worst_of(measures)
    sentence = {"leak": _leak, "too few records": _too_few, "no evidence": _nothing}[worst.verdict]
    return Finding(
        view=view, verdict=worst.verdict, title=VIEWS[view].title, text=sentence(worst, measures), worst=worst
    )


def _leak(worst: Measure, measures: Sequence[Measure]) -> str:
    leaks = [measure for measure in measures if measure.verdict == "leak"]
    others = [
        FAMILIES[family].lower()
        for family in FAMILIES
        if family != worst.family and any(measure.family == family for measure in leaks)
    ]
    also = f", and it also leaks by {_listed(others)}" if others else ""
    return (
        f"A leak: {_FOUND[worst.family]}, by {attack_on(worst)}: {measured_value(worst)}; "
        f"{_share(len(leaks), measures)} found one{also}."
    )


def _too_few(worst: Measure, measures: Sequence[Measure]) -> str:
    num_few = sum(measure.verdict == "too few records" for measure in measures)
    rest = len(measures) - num_few
    others = f", {_plural(rest, 'other')} found no evidence" if rest else ""
    return (
        f"Too few records to conclude: {attack_on(worst)} gives {measured_value(worst)}; {need(worst)}; "
        f"{_share(num_few, measures)} had too few{others}."
    )


def _nothing(worst: Measure, measures: Sequence[Measure]) -> str:
    families = [FAMILIES[family].lower() for family in FAMILIES if any(m.family == family for m in measures)]
    note = f" ({as_clause(worst.note)})" if worst.note else ""
    return (
        f"No evidence in {_plural(len(measures), 'measure')} of {_listed(families)}; "
        f"the nearest to it is {attack_on(worst)}: {measured_value(worst)}{note}."
    )


def _share(count: int, measures: Sequence[Measure]) -> str:
    return f"{count} of {_plural(len(measures), 'measure')}"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]


def is_above_controls(measure: Measure) -> bool:
    """Whether a measure's excess lies above zero with its whole interval, whatever the verdict."""
    return measure.excess is not None and measure.excess.low > 0


def _badness(measure: Measure) -> tuple[int, bool, int, int, float]:
    """Sorts measures with the worst first."""
    metric = measure.metric
    plainness = _PLAINEST_METRICS.index(metric) if metric in _PLAINEST_METRICS else len(_PLAINEST_METRICS)
    certain = measure.members.low if measure.excess is None else measure.excess.low
    return (
        VERDICTS.index(measure.verdict),
        not is_above_controls(measure),
        list(FAMILIES).index(measure.family),
        plainness,
        -certain,
    )
