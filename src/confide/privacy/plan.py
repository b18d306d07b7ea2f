"""The privacy plan of one client: made in one piece, so that what is done and what is claimed cannot disagree.

A plan says what a client does before anything leaves it, and what that costs: the accountant reads the events that the
plan's own numbers give, never the configuration. Each client has its own plan, as the cost of a record depends on how
many there are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from confide.errors import PrivacyBudgetError
from confide.privacy.events import Event
from confide.update import Vector

Unit = Literal["none", "example", "client", "both"]


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How often a client did what its guarantee answers for.

    Attributes:
        trainings: rounds' private trainings whose outcome left, >= 0; the same outcome sent twice is one.
        uploads: noised updates that left, >= 0; each has noise of its own, and the same one sent twice is one.
    """

    trainings: int = 0
    uploads: int = 0


class PrivacyPlan(Protocol):
    """What a client does to what it releases, and what that guarantees."""

    @property
    def unit(self) -> Unit:
        """Whose presence is hidden."""
        ...

    @property
    def trains_privately(self) -> bool:
        """Whether what training gives is private already, so that the same outcome may leave again at no cost."""
        ...

    @property
    def noises_updates(self) -> bool:
        """Whether an update is clipped and noised before it is sealed; what was noised may leave again as it is."""
        ...

    @property
    def fixed_limit(self) -> float:
        """The fixed-point range that every round must be sealed in; 0 where it may follow the updates."""
        ...

    def spent(self, counts: Counts) -> Mapping[str, float]:
        """What so much has cost, by name: "epsilon", and with both units "client_epsilon"; empty without any."""
        ...

    def check_budget(self, counts: Counts) -> None:
        """Refuses to go beyond what was planned.

        Raises:
            PrivacyBudgetError: so much would cost more than a target.
        """
        ...

    def protect(self, values: Vector, weight_ratio: float, upload_number: int) -> Vector:
        """Gives the values that may be sealed.

        Args:
            values: flat float32, as they would be sealed: multiplied by the weight.
            weight_ratio: the client's weight over the round's reference weight, in (0, 1].
            upload_number: of this client's uploads in the run, from 1.
        """
        ...


@dataclass(frozen=True)
class NoPrivacy:
    """The explicit choice of no differential privacy: the update leaves as it is."""

    unit: Unit = "none"
    trains_privately: bool = False
    noises_updates: bool = False
    fixed_limit: float = 0.0

    def spent(self, counts: Counts) -> Mapping[str, float]:
        """Empty: there is no guarantee."""
        del counts
        return {}

    def check_budget(self, counts: Counts) -> None:
        """Nothing is counted."""

    def protect(self, values: Vector, weight_ratio: float, upload_number: int) -> Vector:
        """The same values."""
        del weight_ratio, upload_number
        return values


class Costs(Protocol):
    """Turns events into epsilon; `confide.privacy.accounting` has it."""

    def __call__(self, events: Sequence[Event], delta: float) -> float:
        """Epsilon of all events at a delta."""
        ...


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What a plan's releases may cost.

    Attributes:
        delta: of the guarantee, in (0, 1).
        target_epsilon: never passed; None where the noise was given and not a target.
        costs: the accountant.
        key: of the configuration, that set the target.
    """

    delta: float
    target_epsilon: float | None
    costs: Costs
    key: str = "privacy.target_epsilon"

    def check(self, epsilon: float) -> None:
        """Refuses an epsilon above the target.

        Raises:
            PrivacyBudgetError: it is.
        """
        if self.target_epsilon is not None and epsilon > self.target_epsilon:
            raise PrivacyBudgetError(
                f"one more round would bring epsilon to {epsilon:.4g}, above {self.key} = "
                f"{self.target_epsilon:g} (delta {self.delta:g})."
            )
