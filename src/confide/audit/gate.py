"""Conditions on an audit's numbers, for release processes: `client.extraction.exact > 0.01` fails the audit if true."""

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeVar, get_args

from confide.audit.results import AuditResults, Family, Measure, Unmeasured, ViewKind
from confide.errors import ConfigError

_OPERATORS: Mapping[str, Callable[[float, float], bool]] = MappingProxyType(
    {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}
)
_CONDITION = re.compile(r"\s*(?P<path>[^<>=]+?)\s*(?P<operator>>=|<=|>|<)\s*(?P<bound>\S+)\s*")
_Choice = TypeVar("_Choice")
Part = Literal["value", "low", "high", "excess", "leaks"]


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One condition: the audit fails if it holds.

    Attributes:
        text: as given.
        view: which view's measures.
        family: which family's.
        metric: of that family, such as "exact", "auc", "tpr@0.01", "bits".
        part: of a measure: "value" (the default), "low" or "high" of its interval, "excess" over its controls, or
            "leaks": 1 where its verdict is "leak", else 0. With too few records nothing leaks; a gate that asks for
            evidence of absence bounds "high".
        comparison: ">", ">=", "<" or "<=".
        bound: what is compared with.
    """

    text: str
    view: ViewKind
    family: Family
    metric: str
    part: Part
    comparison: str
    bound: float


def parse_condition(text: str) -> Condition:
    """Reads a condition: VIEW.FAMILY.METRIC[:PART] OPERATOR NUMBER.

    Example:
        >>> parse_condition("client.extraction.exact:low > 0.01").part
        'low'

    Raises:
        ConfigError: it is none; the message says what is wrong and gives an example.
    """
    match = _CONDITION.fullmatch(text)
    example = 'for example "client.extraction.exact > 0.01" or "final.membership.auc:low > 0.6"'
    if match is None:
        raise ConfigError(f"the condition {text!r} is not VIEW.FAMILY.METRIC OPERATOR NUMBER, {example}.")
    path, _, part = match["path"].partition(":")
    view, _, rest = path.partition(".")
    family, _, metric = rest.partition(".")
    named = (
        _one_of(get_args(ViewKind), view, what="view", text=text),
        _one_of(get_args(Family), family, what="family", text=text),
        _one_of(get_args(Part), part or "value", what="part", text=text),
    )
    try:
        bound = float(match["bound"])
    except ValueError:
        bound = float("nan")
    if not metric or not math.isfinite(bound):
        raise ConfigError(f"the condition {text!r} needs a metric and a finite number, {example}.")
    return Condition(
        text=text.strip(),
        view=named[0],
        family=named[1],
        metric=metric,
        part=named[2],
        comparison=match["operator"],
        bound=bound,
    )


def _one_of(choices: tuple[_Choice, ...], value: str, *, what: str, text: str) -> _Choice:
    """The choice that is called `value`.

    Raises:
        ConfigError: there is none; names what there is.
    """
    for choice in choices:
        if choice == value:
            return choice
    raise ConfigError(f"the condition {text!r} has the {what} {value!r}, expected {', '.join(map(str, choices))}.")


def failed_conditions(results: AuditResults, conditions: Sequence[Condition]) -> list[str]:
    """Gives a sentence for every measure for which a condition holds, and for each that the audit could not take.

    A gate fails closed: where there were too few records for a number that a condition is about, nobody knows whether
    it holds. To leave something out of a gate, leave it out of the audit.

    Raises:
        ConfigError: an audit has no number that a condition is about: a gate that looks at nothing must not pass.
    """
    failed = []
    for condition in conditions:
        values = [
            (measure.key, value)
            for measure in results.measures
            if (measure.view, measure.family, measure.metric) == (condition.view, condition.family, condition.metric)
            and (value := _part(measure, condition.part)) is not None
        ]
        missing = [one for one in results.unmeasured if _is_about(condition, one)]
        if not values and not missing:
            known = sorted({".".join((one.view, one.family, one.metric)) for one in results.measures})
            raise ConfigError(
                f"the condition {condition.text!r} is about nothing that this audit measured. It measured: "
                f"{', '.join(known) or 'nothing'}."
            )
        compare = _OPERATORS[condition.comparison]
        failed += [
            f"{condition.text}: {key} has {condition.part} {value:.4g}"
            for key, value in values
            if compare(value, condition.bound)
        ]
        failed += [f"{condition.text}: not known. {_named(one)}: {one.reason}" for one in missing]
    return failed


def _is_about(condition: Condition, missing: Unmeasured) -> bool:
    return (missing.view, missing.family) == (condition.view, condition.family) and (
        not missing.metrics or condition.metric in missing.metrics
    )


def _named(missing: Unmeasured) -> str:
    return ".".join(part for part in (missing.view, missing.family, missing.attack, missing.population) if part)


def _part(measure: Measure, part: Part) -> float | None:
    """The number of a measure; None for the excess of one that has none."""
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
            return float(measure.verdict == "leak")
