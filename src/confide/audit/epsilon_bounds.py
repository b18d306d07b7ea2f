"""What an audit says about epsilon: what is claimed, and lower bounds that attacks reached."""

import math
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from confide.audit.document import STRICT, ViewKind
from confide.privacy.randomness import SEEDED_MEANS

EpsilonUnit = Literal["example", "client"]
EpsilonMethod = Literal[
    "clopper-pearson",
    "gaussian",
    "bayesian",
    "one-run",
    "f-dp",
    "canary-clients-final",
    "canary-clients-rounds",
]
EpsilonVerdict = Literal["above the claim", "undecided", "within the claim", "no claim"]

UNDECIDED = "By itself above the claim, but not beyond what all bounds of the audit may show by chance."
"""What stands beside such a verdict."""

_SERVERS: tuple[ViewKind, ...] = ("server", "sealed-server")


class Claim(BaseModel):
    """The formal guarantee of a run in numbers.

    Attributes:
        unit: whose presence it hides.
        epsilon: of all that was released, the most over clients.
        delta: at which it holds.
        seeded_noise: whether it holds only against who does not know the run's seed; results of earlier versions do not
            say so.
    """

    model_config = STRICT

    unit: EpsilonUnit
    epsilon: Annotated[float, Field(ge=0)]
    delta: Annotated[float, Field(gt=0, lt=1)]
    seeded_noise: bool = False

    def gap_against(self, view: ViewKind) -> str:
        """Says in a sentence why it cannot hold against a party that chose the seed of the noise; "" of any other."""
        if not self.seeded_noise or view not in _SERVERS:
            return ""
        return f"The server chose the seed of the noise ({SEEDED_MEANS}): nothing is claimed against it."

    def of_a_record(self) -> "Claim | None":
        """What follows for one record; None where nothing does.

        A client's guarantee compares what the client contributes with nothing. One record changes the contribution to
        another, which is two such steps: (2 epsilon, (1 + e^epsilon) delta), and nothing where that delta is 1 or more.
        """
        if self.unit == "example":
            return self
        is_finite = self.epsilon < -math.log(self.delta)
        delta = (1 + math.exp(self.epsilon)) * self.delta if is_finite else 1.0
        if delta >= 1:
            return None
        return self.model_copy(update={"unit": "example", "epsilon": 2 * self.epsilon, "delta": delta})


def beyond_coalition(num_clients: int, coalition: int) -> str:
    """Says in a sentence why a claim about clients does not hold against so many of them."""
    return (
        f"These {num_clients} clients know more noise than the guarantee covers, which is against {coalition} "
        "(privacy.coalition): nothing is claimed against them."
    )


class EpsilonBound(BaseModel):
    """A lower bound on epsilon: with this confidence the true one is at least `low`, if the method's assumption holds.

    It says nothing from above: a run whose bound is 0 may have any epsilon.

    Attributes:
        view: from whose point of view.
        unit: whose presence was asked about.
        method: how the bound was made.
        population: which canaries.
        attack: whose scores; several tried ones share the significance.
        low: the bound, at least 0.
        estimate: the method's own estimate, which is no bound; None where it has none.
        delta: at which it holds: that of `claimed` where there is one.
        significance: the chance that the bound is above the true epsilon.
        num_tried: how many bounds share that chance.
        num_in, num_out: canaries that took part and that did not.
        ceiling: the largest bound that so many canaries could give; None where the method has no such limit.
        claimed: the claimed epsilon for this unit, or what follows for it; None without one.
        verdict: "above the claim" where the bound is, also after one correction over all bounds that the audit
            compares with a claim, of records and of canary clients: then the claim is false if the method's assumption
            holds. "undecided" where only the bound by itself is. "within the claim" is no proof of it.
        note: what a reader must know: what the method assumes, and what it cannot see.
    """

    model_config = STRICT

    view: ViewKind
    unit: EpsilonUnit
    method: EpsilonMethod
    population: str
    attack: str
    low: Annotated[float, Field(ge=0)]
    estimate: float | None = None
    delta: Annotated[float, Field(gt=0, lt=1)]
    significance: Annotated[float, Field(gt=0, lt=1)]
    num_tried: Annotated[int, Field(ge=1)]
    num_in: Annotated[int, Field(ge=0)]
    num_out: Annotated[int, Field(ge=0)]
    ceiling: float | None = None
    claimed: float | None = None
    verdict: EpsilonVerdict
    note: str = ""

    @property
    def key(self) -> str:
        """Its name for gates: view.epsilon.method.population."""
        return ".".join((self.view, "epsilon", self.method, self.population))
