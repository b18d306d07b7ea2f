"""Conditions on measured bounds on epsilon: `client.epsilon.f-dp.records > claimed` fails an audit if true.

They fail closed, as all conditions do: also where there is no such bound, no claim to compare with, or where even an
audit that tells every canary rightly could not have shown so much.
"""

import math
import operator
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import get_args

from confide.audit.document import ViewKind
from confide.audit.epsilon_bounds import EpsilonBound, EpsilonMethod
from confide.audit.epsilons import canaries_needed
from confide.audit.measure_names import ASKED_AS
from confide.audit.results import AuditResults
from confide.errors import ConfigError
from confide.privacy.randomness import SEEDED_NOISE

CLAIMED = "claimed"
"""Stands for the epsilon that the run claims."""

_OPERATORS: Mapping[str, Callable[[float, float], bool]] = MappingProxyType({">": operator.gt, ">=": operator.ge})
_CONDITION = re.compile(r"\s*(?P<name>\S+?)\s*(?P<operator>>=|<=|>|<)\s*(?P<bound>\S+)\s*")
_BEGINS = re.compile(r"\s*[^.\s]+\.epsilon\s*(?:[.:<>=]|$)")
_FORM = "VIEW.epsilon[.METHOD[.POPULATION]] > NUMBER, or > claimed"
_EXAMPLE = 'for example "client.epsilon.f-dp.records > claimed"'


@dataclass(frozen=True, kw_only=True)
class EpsilonCondition:
    """One condition: the audit fails if it holds for one of the bounds, or if that is not known.

    It holds where a bound lies beyond the number. Where it does not, that is known only if the bound could have:
    a bound whose ceiling is no higher than the number says nothing.

    Attributes:
        text: as given.
        view: whose bounds are meant.
        method: "" for all.
        population: "" for all.
        comparison: ">" or ">=".
        bound: what is compared with; None for the epsilon that the run claims.
    """

    text: str
    view: ViewKind
    method: EpsilonMethod | None
    population: str
    comparison: str
    bound: float | None

    def covers(self, bound: EpsilonBound) -> bool:
        """Whether this one is meant."""
        return (
            self.view == bound.view
            and self.method in (None, bound.method)
            and self.population in ("", bound.population)
        )


def is_about_epsilon(text: str) -> bool:
    """Whether a condition's name begins as one of a bound on epsilon does."""
    return _BEGINS.match(text) is not None


def parse_epsilon_condition(text: str) -> EpsilonCondition:
    """Reads a condition.

    Example:
        >>> parse_epsilon_condition("client.epsilon.f-dp > claimed").method
        'f-dp'

    Raises:
        ConfigError: it is none, or asks whether a lower bound is small, which says nothing; the message says what is
            wrong.
    """
    what = f"the condition {text!r}"
    match = _CONDITION.fullmatch(text)
    if match is None:
        raise ConfigError(f"{what} is not {_FORM}, {_EXAMPLE}.")
    if match["operator"] not in _OPERATORS:
        raise ConfigError(
            f"{what} asks whether a lower bound is small, and a small one says nothing: use >, {_EXAMPLE}."
        )
    if ":" in match["name"]:
        raise ConfigError(f"{what} names a part, and a bound on epsilon has none: {_FORM}, {_EXAMPLE}.")
    view_part, _, *rest = match["name"].split(".", maxsplit=3)
    method, population = (*rest, "", "")[:2]
    views, methods = get_args(ViewKind), get_args(EpsilonMethod)
    view = next((one for one in views if one == view_part), None)
    if view is None:
        raise ConfigError(f"{what} has the view {view_part!r}, expected {', '.join(views)}, in {_FORM}.")
    if (method and method not in methods) or "" in rest:
        raise ConfigError(f"{what} has the method {method!r}, expected {', '.join(methods)}, in {_FORM}.")
    return EpsilonCondition(
        text=text.strip(),
        view=view,
        method=next((one for one in methods if one == method), None),
        population=population,
        comparison=match["operator"],
        bound=None if match["bound"] == CLAIMED else _number(match["bound"], what),
    )


def check_epsilon_asked(condition: EpsilonCondition, *, views: Collection[str], families: Collection[str]) -> None:
    """Refuses, before an audit, a condition on what it is not asked for.

    Args:
        condition: about bounds.
        views: `audit.views` of the audit.
        families: its `audit.attacks`.

    Raises:
        ConfigError: it is about another view, or no family is asked for whose scores bound a record's epsilon.
    """
    what, view = f"the condition {condition.text!r}", ASKED_AS.get(condition.view, condition.view)
    if view not in views:
        raise ConfigError(f"{what} is about the view {view!r}, and what is asked for is {', '.join(views)}.")
    is_of_clients = condition.method in ("canary-clients-final", "canary-clients-rounds")
    if not is_of_clients and not {"membership", "updates"} & set(families):
        raise ConfigError(
            f"{what} is about epsilon, which attacks of membership or updates bound, and what is asked for is "
            f"{', '.join(families)} (audit.attacks)."
        )


def failed_on_epsilon(results: AuditResults, condition: EpsilonCondition) -> list[str]:
    """Gives a sentence for every bound for which a condition holds, and one for all for which it is not known."""
    holds = _OPERATORS[condition.comparison]
    about = [one for one in results.epsilons if condition.covers(one)]
    failed, unknown = [], [] if about else [_missing(results)]
    for bound in about:
        limit = bound.claimed if condition.bound is None else condition.bound
        if limit is None:
            unknown.append(f"{bound.key}: {_no_claim(results, bound)}")
        elif holds(bound.low, limit):
            failed.append(f"{condition.text}: {bound.key} has the lower bound {bound.low:.4g}, against {limit:.4g}")
        elif bound.ceiling is not None and not holds(bound.ceiling, limit):
            unknown.append(f"{bound.key}: {_out_of_reach(bound, bound.ceiling, limit)}")
    if results.doubts:
        return [*failed, f"{condition.text}: not known. {results.doubts[0]}"]
    if unknown:
        more = f" So it is with {len(unknown) - 1} more." if len(unknown) > 1 else ""
        failed.append(f"{condition.text}: not known. {unknown[0]}{more}")
    return failed


def passed_on_epsilon(results: AuditResults, condition: EpsilonCondition) -> str:
    """Says how far the bounds could have gone of a condition that is known not to hold; "" where it is not known.

    Of several bounds it names the largest: it came closest.
    """
    about = [one for one in results.epsilons if condition.covers(one)]
    if not about or failed_on_epsilon(results, condition):
        return ""
    closest = max(about, key=lambda one: (one.low, math.inf if one.ceiling is None else one.ceiling))
    limit = (
        f"the claimed {closest.claimed:.4g}{_seeded(results)}" if condition.bound is None else f"{condition.bound:.4g}"
    )
    more = f", the largest of {len(about)}" if len(about) > 1 else ""
    canaries = f"with {closest.num_in + closest.num_out:,} canaries this method"
    reach = f"shows at most {closest.ceiling:.4g}" if closest.ceiling is not None else "has no ceiling"
    return (
        f"{condition.text}: {closest.key} has the lower bound {closest.low:.4g}{more}, against {limit}; "
        f"{canaries} {reach}"
    )


def _missing(results: AuditResults) -> str:
    there = ", ".join(sorted(one.key for one in results.epsilons)) or "none"
    why = "".join(f" {gap}" for gap in results.epsilon_gaps)
    return f"The audit has no such bound on epsilon. It has: {there}.{why}"


def _seeded(results: AuditResults) -> str:
    return f" ({SEEDED_NOISE})" if results.run.claim is not None and results.run.claim.seeded_noise else ""


def _no_claim(results: AuditResults, bound: EpsilonBound) -> str:
    if results.run.claim is None:
        return "The run claims no epsilon, so there is nothing to compare with: give a number."
    if gap := results.run.claim.gap_against(bound.view):
        return f"{gap} Give a number."
    return f"The run's claim is about one {results.run.claim.unit}, and nothing follows from it here: give a number."


def _out_of_reach(bound: EpsilonBound, ceiling: float, limit: float) -> str:
    needed = canaries_needed(bound, limit)
    enough = (
        "no practical number of canaries changes that: name another method"
        if needed is None
        else f"about {needed:,} canaries would be needed"
    )
    return (
        f"with {bound.num_in + bound.num_out:,} canaries this method shows at most {ceiling:.4g}, which is not beyond "
        f"{limit:.4g}; {enough}."
    )


def _number(text: str, what: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number >= 0):
        raise ConfigError(f"{what} needs a finite number of at least 0, or {CLAIMED}, {_EXAMPLE}.")
    return number
