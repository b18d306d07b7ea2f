"""What an audit found, in sentences for who answers for the data: one per view, worst first.

Each sentence is computed from the results. The word that stands for a finding is written only where a measure's
verdict is that word.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from confide.audit.results import AuditResults, Estimate, Family, Measure, Verdict, ViewKind
from confide.audit.statistics import SIGNIFICANCE
from confide.plural import plural
from confide.report.claims import false_claim
from confide.report.clauses import against, clause
from confide.report.how import how
from confide.report.wording import (
    BEYOND_CONTROLS,
    FAMILIES,
    VERDICTS,
    VIEWS,
    WHAT_IF,
    as_clause,
    attack_name,
    in_words,
    need,
    number,
    p_value,
    population_name,
)

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

    @property
    def is_hypothetical(self) -> bool:
        """Whether no party of the run has this view: it is about what if the run were not sealed."""
        return self.worst.is_hypothetical


def findings(results: AuditResults) -> list[Finding]:
    """Gives one finding per view that was examined, worst first; after all of them, what no party of the run sees."""
    found = [
        _finding(view, measures)
        for view in VIEWS
        for is_hypothetical in (False, True)
        if (measures := [one for one in measures_of(results, view=view) if one.is_hypothetical == is_hypothetical])
    ]
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

    What a party of the run sees stands before what none does. Then by verdict, then by whether it lies above its
    controls. Among leaks then by family (what comes out as text before what can only be recognised), by how plain the
    metric is, and by the lower end of the excess: by what is certain. Among all others first by how far beyond its
    controls a number lies: by the lower end of the excess in widths of its interval, which have no unit. None of them
    is nearer to a finding for its family alone.

    Args:
        measures: at least one.
    """
    return min(measures, key=_badness)


def headline(results: AuditResults) -> str:
    """Says in one sentence what the whole audit found, from the views that parties of the run have.

    Where the measured epsilon refutes the claimed one, a sentence that says so comes before it.

    "No more than its controls" is not said where the interval of any of their measures lies above them, or one of them
    is unexplained.
    """
    return " ".join(said for said in (false_claim(results), _found_by_attacks(results)) if said)


def _found_by_attacks(results: AuditResults) -> str:
    views = [finding for finding in findings(results) if not finding.is_hypothetical]
    if not views:
        about = " of what a party of this run sees" if results.measures else ""
        return f"Nothing was measured{about}, so nothing can be concluded either way."
    with_leaks = [finding for finding in views if finding.verdict == "leak"]
    undecided = [finding for finding in views if finding.verdict == "too few records"]
    is_one = len(views) == 1
    examined = "the one view that was examined" if is_one else f"the {len(views)} views that were examined"
    if with_leaks:
        return f"Training data leaks in {examined if is_one else f'{len(with_leaks)} of {examined}'}."
    above = {
        one.view
        for one in results.measures
        if not one.is_hypothetical and (is_above_controls(one) or one.verdict == "unexplained")
    }
    if above:
        where = examined if is_one else f"{len(above)} of {examined}"
        rest = sum(finding.view not in above for finding in undecided)
        more = f"; {rest} more could not be decided" if rest else ""
        return f"Attacks found more than their controls in {where}, but not with certainty{more}."
    if all(one.verdict == "too few records" for one in results.measures if not one.is_hypothetical):
        return f"Nothing could be concluded: too few records in {examined}."
    if undecided:
        open_ones = "some had too few records to tell" if is_one else f"{len(undecided)} could not be decided"
        return f"No attack found more than its controls explain in {examined}, but {open_ones}."
    return f"No attack found more than its controls explain, in {examined}."


def guarantee(results: AuditResults) -> str:
    """Says what is guaranteed whatever the attack."""
    if results.run.guarantee == "none":
        return "Formal guarantee: none. Measuring shows what these attacks find; another may find more."
    refuted = " This audit refutes it, see what was found." if false_claim(results) else ""
    return f"Formal guarantee: {guarantee_name(results)}.{refuted}"


def guarantee_name(results: AuditResults) -> str:
    """Names the guarantee."""
    return results.run.guarantee.rstrip(".")


def utility(results: AuditResults) -> str:
    """Says what the model is good for, each number beside the base model's."""
    measured = results.run.utility
    shown = [
        f"{name} {number(value)}" + (f" (base model {number(measured[base])})" if base in measured else "")
        for name, value in measured.items()
        if (base := f"base {name}") and not (name.startswith("base ") and name.removeprefix("base ") in measured)
    ]
    if not shown:
        return "Utility: not measured."
    change = results.run.utility_change
    by_record = "" if change is None else f", by record a change of {in_words('loss', change, is_difference=True)}"
    return f"Utility: {', '.join(shown)}{by_record}."


def not_examined(results: AuditResults) -> str:
    """Names the views that no attack looked from; empty where all were examined."""
    missing = [words.title for view, words in VIEWS.items() if not measures_of(results, view=view)]
    return f"Not examined: {'; '.join(missing)}." if missing else ""


BRACKETS = (
    "Brackets hold the 95 % interval and n, the number of records behind the number before them. Where a number "
    "was picked from several, its interval is not corrected for that; p-values are, over attacks on the same records."
)
"""How to read the sentences."""


def attack_on(measure: Measure) -> str:
    """Names the attack and what it was asked about."""
    return f"{attack_name(measure.attack, measure.code)} on {population_name(measure.population)}"


def _finding(view: ViewKind, measures: Sequence[Measure]) -> Finding:
    worst = worst_of(measures)
    by_verdict = {"leak": _leak, "unexplained": _unexplained, "too few records": _too_few, "no evidence": _nothing}
    text = (
        _not_beyond_chance(worst, measures)
        if is_not_beyond_chance(worst)
        else by_verdict[worst.verdict](worst, measures)
    )
    if worst.is_hypothetical:
        would = "this would be" if worst.verdict == "leak" else "there would be"
        text = f"I{WHAT_IF[1:]}, {would} {text[0].lower()}{text[1:]}"
    return Finding(
        view=view,
        verdict=worst.verdict,
        title=VIEWS[view].title,
        text=text,
        worst=worst,
    )


def _leak(worst: Measure, measures: Sequence[Measure]) -> str:
    leaks = {measure.family for measure in measures if measure.verdict == "leak"}
    others = [words.lower() for family, words in FAMILIES.items() if family in leaks and family != worst.family]
    left = "" if worst.excess is None else f", which leaves {in_words(worst.metric, worst.excess, is_difference=True)}"
    also = f"; attacks of {_listed(others)} find something as well" if others else ""
    return f"A leak: {_said(worst, measures)}{left}{' to training' if left else ''}{also}."


def _unexplained(worst: Measure, measures: Sequence[Measure]) -> str:
    alike = sum(measure.verdict == "unexplained" for measure in measures) - 1
    others = f"; so it is with {plural(alike, 'other measure')}" if alike else ""
    why = as_clause(worst.caveat) or "something else than training may explain it"
    return f"More than its controls, but {why}: {_said(worst, measures)}{others}."


def _too_few(worst: Measure, measures: Sequence[Measure]) -> str:
    rest = sum(measure.verdict == "no evidence" and not is_above_controls(measure) for measure in measures)
    others = f" ({plural(rest, 'other measure')} found no evidence)" if rest else ""
    return f"Too few records to conclude anything: {_said(worst, measures)}, but {need(worst)}{others}."


def _not_beyond_chance(worst: Measure, measures: Sequence[Measure]) -> str:
    corrected = "" if worst.p_adjusted is None else f" (p {p_value(worst.p_adjusted)} after correction)"
    return (
        f"More than its controls, but not beyond what so many attacks find by chance{corrected}: "
        f"{_said(worst, measures)}; {need(worst)} to tell."
    )


def _nothing(worst: Measure, measures: Sequence[Measure]) -> str:
    families = [words.lower() for family, words in FAMILIES.items() if any(one.family == family for one in measures)]
    asked = f"{plural(len(measures), 'measure')} of {_listed(families)}"
    return f"No evidence in {asked}: the nearest is that {_said(worst, measures)}."


def _said(measure: Measure, measures: Sequence[Measure]) -> str:
    """A measure's number, the attack that reached it, and what the best control reaches.

    Where it was picked from several of its kind, that is said: its interval is that of a number fixed beforehand.
    """
    alike = sum((one.family, one.metric) == (measure.family, measure.metric) for one in measures)
    picked = f", picked from {plural(alike, 'such number')}" if alike > 1 else ""
    article = "the" if measure.attack == "best" else "attack"  # "the best attack (...)"
    words = how(measure.attack)
    explained = f" ({words})" if words else ""
    attack = f"{attack_name(measure.attack, measure.code)}{explained}"
    return f"{clause(measure)} by {article} {attack}{picked}{against(measure)}"


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]


def is_above_controls(measure: Measure) -> bool:
    """Whether a measure's excess lies above zero with its whole interval, whatever the verdict."""
    return measure.excess is not None and measure.excess.low > 0


def is_not_beyond_chance(measure: Measure) -> bool:
    """Whether a measure lies above its controls, and so may one of so many attacks by chance."""
    is_sure = measure.p_adjusted is not None and measure.p_adjusted < SIGNIFICANCE
    return measure.verdict not in BEYOND_CONTROLS and is_above_controls(measure) and not is_sure


def _badness(measure: Measure) -> tuple[bool, int, bool, float, int, int, float]:
    """Sorts measures with the worst first."""
    metric = measure.metric
    plainness = _PLAINEST_METRICS.index(metric) if metric in _PLAINEST_METRICS else len(_PLAINEST_METRICS)
    certain = measure.members.low if measure.excess is None else measure.excess.low
    return (
        measure.is_hypothetical,
        VERDICTS.index(measure.verdict),
        not is_above_controls(measure),
        0.0 if measure.verdict == "leak" else -_beyond_controls(measure.excess),
        list(FAMILIES).index(measure.family),
        plainness,
        -certain,
    )


def _beyond_controls(excess: Estimate | None) -> float:
    """Gives the lower end of an excess in widths of its interval; what is not above its controls at all comes after.

    Where the excess is above 0, so is the interval's upper end, and the lower end above minus one width.
    """
    if excess is None:
        return -math.inf
    width = excess.high - excess.low
    beyond = excess.low / width if width > 0 else 0.0
    return beyond if excess.value > 0 else beyond - 1
