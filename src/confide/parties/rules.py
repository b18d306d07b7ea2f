"""What every client of a federation does alike; agreed before the run."""

from collections.abc import Callable
from dataclasses import dataclass

from confide.aggregate.step import GlobalStep
from confide.prune.plan import Pruning
from confide.update import Layout


@dataclass(frozen=True, kw_only=True)
class ClientRules:
    """What every client of the federation does alike; agreed before the run.

    Attributes:
        trained: the slots that train and travel in a round, by round number.
        learning_rate: of a round, by round number.
        weight: of a client in the mean, by its number of training examples.
        step: from the opened sum to the next global state.
        pruning: which coordinates of an update travel.
        max_saturated: share of values that may lie outside the range that sealing carries.
        server_may_read: whether the server is given the global state when it asks.
        is_evaluation_round: whether held-out figures of the new adapter are measured in a round.
        measures_factors: whether the change of B A is measured, to compare the factors' inexactness with.
    """

    trained: Callable[[int], Layout]
    learning_rate: Callable[[int], float]
    weight: Callable[[int], float]
    step: GlobalStep
    pruning: Pruning
    max_saturated: float
    server_may_read: bool
    is_evaluation_round: Callable[[int], bool]
    measures_factors: bool
