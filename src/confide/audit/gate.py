"""Conditions on an audit's numbers, for release processes: `client.extraction.exact > 0.01` fails the audit if true.

A gate fails closed: an audit fails as well where it cannot be told whether a condition holds.
"""

import math
import operator
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

from confide.audit.epsilon_gate import (
    EpsilonCondition,
    check_epsilon_asked,
    failed_on_epsilon,
    is_about_epsilon,
    parse_epsilon_condition,
    passed_on_epsilon,
)
from confide.audit.measure_names import MeasureName, parse_measure_name
from confide.audit.results import AuditResults, Measure, Unmeasured
from confide.errors import ConfigError

_OPERATORS: Mapping[str, Callable[[float, float], bool]] = MappingProxyType(
    {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}
)
_CONDITION = re.compile(r"\s*(?P<path>[^<>=]+?)\s*(?P<operator>>=|<=|>|<)\s*(?P<bound>\S+)\s*")
_KNOWN_FROM_FEW = (("high", ">"), ("high", ">="), ("low", "<"), ("low", "<="))
"""What an interval rules out it rules out with any number of records: with few it is long."""
_RANGES: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "gain": (-1.0, 1.0),
        "gain_max": (-1.0, 1.0),
        "exposure": (0.0, math.inf),
        "longest_run": (0.0, math.inf),
        "efficiency": (0.0, math.inf),
    }
)
"""In which a metric's values lie; of any other metric, which is a share, an AUC or a ROUGE-L, in `_UNIT`."""
_UNIT = (0.0, 1.0)
_UNBOUNDED = (-math.inf, math.inf)
_MOST_NAMED = 12
Part = Literal["value", "low", "high", "excess", "leaks"]


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One condition: the audit fails if it holds for one of the measures, or if that is not known.

    It is known to hold where the number is beyond the bound, however few the records are. It is known not to hold where
    the number is not beyond the bound and the measure's verdict is not "too few records". With that verdict a number
    that is small says nothing, and only an interval that rules a number out decides: `high > B` and `high >= B`
    (`low < B`, `low <= B`) are known not to hold where the interval's end is on the right side of B. All other
    conditions on such a measure are not known, `leaks > 0` among them: what too few records can show is no leak. Nor is
    a condition on the excess of a measure that has none, because nothing stands beside it; nor one on `leaks` where the
    verdict is "unexplained": training may be why the number is beyond its controls. Of an audit with doubts no
    condition is known not to hold.

    Attributes:
        text: as given.
        measures: which it is about.
        part: of a measure: "value" (the default), "low" or "high" of its 95 % interval, "excess" over its controls, or
            "leaks": 1 where its verdict is "leak", 0 where it is neither that nor "unexplained". A gate that asks for
            evidence of absence bounds "high".
        comparison: ">", ">=", "<" or "<=".
        bound: what is compared with.
    """

    text: str
    measures: MeasureName
    part: Part
    comparison: str
    bound: float


def parse_gate(text: str) -> Condition | EpsilonCondition:
    """Reads a condition of either kind: on a measure, or on bounds on epsilon.

    Raises:
        ConfigError: see `parse_condition` and `parse_epsilon_condition`.
    """
    return parse_epsilon_condition(text) if is_about_epsilon(text) else parse_condition(text)


def parse_condition(text: str) -> Condition:
    """Reads a condition on a measure: NAME[:PART] OPERATOR NUMBER; the name as `parse_measure_name` reads it.

    Example:
        >>> parse_condition("client.extraction.exact:low > 0.01").part
        'low'

    Raises:
        ConfigError: it is none, names a metric that there is not, or compares with what no such number can be beyond,
            so that it could never hold; the message says what is wrong.
    """
    match = _CONDITION.fullmatch(text)
    what = f"the condition {text!r}"
    example = 'for example "client.extraction.exact > 0.01" or "final.membership.best.records.auc:low > 0.6"'
    if match is None:
        raise ConfigError(f"{what} is not VIEW.FAMILY.METRIC OPERATOR NUMBER, {example}.")
    path, _, part = match["path"].partition(":")
    measures = parse_measure_name(path.strip(), what=what)
    try:
        bound = float(match["bound"])
    except ValueError:
        bound = float("nan")
    if not math.isfinite(bound):
        raise ConfigError(f"{what} needs a finite number, {example}.")
    condition = Condition(
        text=text.strip(),
        measures=measures,
        part=_part_called(part.strip() or "value", what),
        comparison=match["operator"],
        bound=bound,
    )
    _check_reachable(condition, what)
    return condition


def _check_reachable(condition: Condition, what: str) -> None:
    """Refuses a condition that no number fulfils: a gate that cannot fail looks like one that passes.

    Raises:
        ConfigError: it is one; says in which range such numbers lie.
    """
    low, high = _range(condition)
    holds = _OPERATORS[condition.comparison]
    # Whatever lies beyond a bound, the end of the range on that side lies farthest.
    if not holds(high if condition.comparison.startswith(">") else low, condition.bound):
        lies = f"lies in [{low:g}, {high:g}]" if high < math.inf else f"is never below {low:g}"
        raise ConfigError(f"{what} can never hold: {_noun(condition)} {lies}.")


def _range(condition: Condition) -> tuple[float, float]:
    """In which the number lies that a condition is about, both ends included where they are finite."""
    metric, part = condition.measures.metric, condition.part
    low, high = _RANGES.get(metric, _UNIT)
    match part:
        case "leaks":
            return _UNIT
        case "excess":
            return low - high, high - low
        case "low" | "high" if low < 0:
            return _UNBOUNDED  # a difference's interval is that of a mean, and knows no bounds
    return low, high


def _noun(condition: Condition) -> str:
    """What a condition's number is, in a sentence."""
    of = "an AUC" if condition.measures.metric == "auc" else condition.measures.metric
    match condition.part:
        case "value":
            return of
        case "low" | "high":
            return f"the {condition.part} end of {of}"
        case "excess" | "leaks":
            return condition.part


def _part_called(name: str, what: str) -> Part:
    parts: tuple[Part, ...] = get_args(Part)
    for part in parts:
        if part == name:
            return part
    raise ConfigError(f"{what} has the part {name!r}, expected {', '.join(parts)}.")


def check_asked(
    conditions: Sequence[Condition | EpsilonCondition], *, views: Collection[str], families: Collection[str]
) -> None:
    """Refuses, before an audit, conditions on what it is not asked for.

    Args:
        conditions: any number.
        views: `audit.views` of the audit.
        families: its `audit.attacks`.

    Raises:
        ConfigError: a condition is about another view or family.
    """
    for condition in conditions:
        if isinstance(condition, EpsilonCondition):
            check_epsilon_asked(condition, views=views, families=families)
        else:
            condition.measures.check_asked(views, families, what=f"the condition {condition.text!r}")


def failed_conditions(results: AuditResults, conditions: Sequence[Condition | EpsilonCondition]) -> list[str]:
    """Gives a sentence for every measure for which a condition holds, and one for all for which it is not known.

    See `Condition` for when that is; what the audit could not measure is not known either. Where the audit has doubts,
    the first of them is why nothing is.

    A condition names its view, so one on a view that no party of the run has, a server that reads updates in a sealed
    run, counts as any other: it asks what would be if the run were not sealed, and the sentence says so.

    To leave something out of a gate, leave it out of the audit, or name the measures that count in whole.

    Raises:
        ConfigError: an audit has no number that a condition is about: a gate that looks at nothing must not pass.
    """
    failed = []
    for condition in conditions:
        if isinstance(condition, EpsilonCondition):
            failed += failed_on_epsilon(results, condition)
            continue
        about = [measure for measure in results.measures if condition.measures.covers(measure)]
        missing = [one for one in results.unmeasured if condition.measures.may_lack(one)]
        if not about and not missing:
            raise ConfigError(
                f"the condition {condition.text!r} is about nothing that this audit measured. It measured: "
                f"{_measured(results, condition)}."
            )
        holds = _OPERATORS[condition.comparison]
        values = [(measure, _part(measure, condition.part)) for measure in about]
        failed += [
            f"{condition.text}: {_found(condition, measure, value)}"
            for measure, value in values
            if value is not None and holds(value, condition.bound)
        ]
        unknown = [
            f"{_found(condition, measure, value)}, from too few records to tell: {_why(measure)}"
            for measure, value in values
            if value is not None and not holds(value, condition.bound) and _is_unknown(condition, measure)
        ]
        unknown += [_lacking(condition, measure) for measure, value in values if value is None]
        unknown += [f"{_named(one)}: {one.reason}" for one in missing]
        if results.doubts:
            failed.append(f"{condition.text}: not known. {results.doubts[0]}")
        elif unknown:
            more = f" So it is with {len(unknown) - 1} more." if len(unknown) > 1 else ""
            failed.append(f"{condition.text}: not known. {unknown[0]}{more}")
    return failed


def passed_conditions(results: AuditResults, conditions: Sequence[Condition | EpsilonCondition]) -> list[str]:
    """Gives a sentence for every condition on bounds on epsilon that did not fail: a pass says as much as it could.

    A small lower bound alone says nothing: what so many canaries could have shown stands beside it.
    """
    about_epsilon = [condition for condition in conditions if isinstance(condition, EpsilonCondition)]
    return [said for condition in about_epsilon if (said := passed_on_epsilon(results, condition))]


def _found(condition: Condition, measure: Measure, value: float) -> str:
    what_if = " if the run were not sealed" if measure.is_hypothetical else ""
    return f"{measure.key} has {condition.part} {value:.4g}{what_if}"


def _is_unknown(condition: Condition, measure: Measure) -> bool:
    """Whether the records are too few to say that the condition does not hold."""
    return measure.verdict == "too few records" and (condition.part, condition.comparison) not in _KNOWN_FROM_FEW


def _lacking(condition: Condition, measure: Measure) -> str:
    """Why a measure does not have the part that a condition is about."""
    if condition.part == "leaks":
        return f"{measure.key} is beyond its controls, and may be a leak: {_why(measure)}"
    return f"{measure.key} has no {condition.part}: nothing stands beside it to take off"


def _why(measure: Measure) -> str:
    return measure.caveat or measure.note or f"There are {measure.members.num} members."


def _measured(results: AuditResults, condition: Condition) -> str:
    if condition.measures.is_whole:
        wanted = (condition.measures.view, condition.measures.family)
        keys = sorted(one.key for one in results.measures if (one.view, one.family) == wanted)
        if keys:
            more = f" and {len(keys) - _MOST_NAMED} more" if len(keys) > _MOST_NAMED else ""
            return f"{', '.join(keys[:_MOST_NAMED])}{more}"
    return ", ".join(sorted({f"{one.view}.{one.family}.{one.metric}" for one in results.measures})) or "nothing"


def _named(missing: Unmeasured) -> str:
    return ".".join(part for part in (missing.view, missing.family, missing.attack, missing.population) if part)


def _part(measure: Measure, part: Part) -> float | None:
    """The number of a measure; None for the excess of one that has none, and where it is open what to call it."""
    match part:
        case "value":
            return measure.members.value
        case "low":
            return measure.members.low
        case "high":
            return measure.members.high
        case "excess":
            return None if measure.excess is None else measure.excess.value
        case "leaks":
            return None if measure.verdict == "unexplained" else float(measure.verdict == "leak")
