"""The privacy plan of one client: made in one piece, so that what is done and what is claimed cannot disagree.

A plan says what a client does before anything leaves it, and what that costs: the accountant reads the events that the
plan's own numbers give, never the configuration. Each client has its own plan, as the cost of a record depends on how
many there are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from confide.errors import PrivacyBudgetError
from confide.privacy.events import Event
from confide.update import Vector

Unit = Literal["none", "example", "client"]


class PrivacyPlan(Protocol):
    """What a client does to what it releases, and what that guarantees."""

    @property
    def unit(self) -> Unit:
        """Whose presence is hidden."""
        ...

    @property
    def fixed_limit(self) -> float:
        """The fixed-point range that every round must be sealed in; 0 where it may follow the updates."""
        ...

    def epsilon(self, num_releases: int) -> float | None:
        """Epsilon after so many rounds' releases; None without a guarantee."""
        ...

    def check_budget(self, num_releases: int) -> None:
        """Refuses to go beyond what was planned.

        Raises:
            PrivacyBudgetError: so many releases would cost more than the target.
        """
        ...

    def protect(self, values: Vector, weight_ratio: float, round_number: int) -> Vector:
        """Gives the values that may be sealed.

        Args:
            values: flat float32, as they would be sealed: multiplied by the weight.
            weight_ratio: the client's weight over the round's reference weight, in (0, 1].
            round_number: of the round.
        """
        ...


@dataclass(frozen=True)
class NoPrivacy:
    """The explicit choice of no differential privacy: the update leaves as it is."""

    unit: Unit = "none"
    fixed_limit: float = 0.0

    def epsilon(self, num_releases: int) -> float | None:
        """None: there is no guarantee."""
        del num_releases
        return None

    def check_budget(self, num_releases: int) -> None:
        """Nothing is counted."""

    def protect(self, values: Vector, weight_ratio: float, round_number: int) -> Vector:
        """The same values."""
        del weight_ratio, round_number
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
    """

    delta: float
    target_epsilon: float | None
    costs: Costs

    def check(self, epsilon: float) -> None:
        """Refuses an epsilon above the target.

        Raises:
            PrivacyBudgetError: it is.
        """
        if self.target_epsilon is not None and epsilon > self.target_epsilon:
            raise PrivacyBudgetError(
                f"one more round would bring epsilon to {epsilon:.4g}, above privacy.target_epsilon = "
                f"{self.target_epsilon:g} (delta {self.delta:g}). The last model inside the budget is saved."
            )
