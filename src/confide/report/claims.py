"""What is said about a claimed epsilon: that it is false where that is shown, and else no more than holds."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from confide.audit.epsilon_bounds import EpsilonBound, EpsilonMethod, EpsilonUnit
from confide.audit.results import AuditResults
from confide.privacy.randomness import SEEDED_MEANS
from confide.report.wording import VIEWS, number, population_name

METHODS: Mapping[EpsilonMethod, str] = MappingProxyType(
    {
        "one-run": "one run, any mechanism",
        "f-dp": "one run, if its trade-off curve is Gaussian",
        "clopper-pearson": "Clopper-Pearson, if canaries are independent",
        "gaussian": "Clopper-Pearson, if also the trade-off curve is Gaussian",
        "bayesian": "Bayesian, a credible bound, if canaries are independent",
        "canary-clients-rounds": "canary clients, every round's sum",
        "canary-clients-final": "canary clients, the final model",
    }
)
"""What each method is and assumes, in a few words; the one that assumes least comes first."""

_UNITS: Mapping[EpsilonUnit, str] = MappingProxyType({"example": "record", "client": "client"})


def epsilon_sentence(results: AuditResults) -> str:
    """Says what was measured of epsilon, beside the claim, and what else is claimed; "" where nothing was."""
    if not results.epsilons:
        return ""
    if said := false_claim(results):
        return said
    best = max(results.epsilons, key=lambda one: (one.low, one.ceiling or 0.0))
    most = (
        ""
        if best.ceiling is None
        else f"; with {best.num_in + best.num_out:,} canaries this method cannot show more than "
        f"{number(best.ceiling)}, so that a small bound proves nothing"
    )
    return " ".join([f"Epsilon: {_claimed(results, best)}; {_measured(best)}{most}.", *_other_claim(results, best)])


def false_claim(results: AuditResults) -> str:
    """Says that the claimed guarantee does not hold, by the method that assumes least; "" where that is not shown."""
    above = refuting(results)
    if not above:
        return ""
    first = min(above, key=lambda one: list(METHODS).index(one.method))
    claimed = 0.0 if first.claimed is None else first.claimed
    return (
        f"The claimed guarantee is false or not applied: {_measured(first)}, and the run claims {number(claimed)} at "
        f"most{beside_epsilon(results)}. If the claim held, and what the method assumes, one audit of twenty at the "
        "most would find this."
    )


def beside_epsilon(results: AuditResults, words: str = SEEDED_MEANS) -> str:
    """What stands beside a claimed epsilon: these words in brackets where its noise is from a seed; else ""."""
    claim = results.run.claim
    return f" ({words})" if claim is not None and claim.seeded_noise else ""


def refuting(results: AuditResults) -> Sequence[EpsilonBound]:
    """Gives the bounds that lie above the claim."""
    return [one for one in results.epsilons if one.verdict == "above the claim"]


def _claimed(results: AuditResults, best: EpsilonBound) -> str:
    if results.run.claim is None and best.claimed is None:
        return "the run claims none"
    said = (
        "no claim of the run covers this"
        if best.claimed is None
        else f"claimed {number(best.claimed)} for one {_unit(best)}"
    )
    return f"{said}{beside_epsilon(results)}"


def _other_claim(results: AuditResults, best: EpsilonBound) -> list[str]:
    """Where a run claims two, the one that the bound is not about."""
    of_row, of_client = results.run.claim, results.run.client_claim
    if of_row is None or of_client is None:
        return []
    other = of_client if best.unit == "example" else of_row
    is_measured = any(one.unit == other.unit and one.claimed is not None for one in results.epsilons)
    unknown = "" if is_measured else ", which no bound here is compared with"
    return [f"The run also claims {number(other.epsilon)} for one {_UNITS[other.unit]}{unknown}."]


def _measured(bound: EpsilonBound) -> str:
    party, what = VIEWS[bound.view].title, f"for one {_unit(bound)} at delta {bound.delta:.2g}"
    how = f"{population_name(bound.population)}; {METHODS[bound.method]}"
    return f"{party[0].lower()}{party[1:]} shows an epsilon of at least {number(bound.low)} {what} ({how})"


def _unit(bound: EpsilonBound) -> str:
    return _UNITS[bound.unit]
