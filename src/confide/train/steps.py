"""The steps of one client's round: which examples each reads, and how its gradient is made.

Local training runs any `RoundSteps`; `MeanSteps` are the plain ones, `PrivateSteps` (private.py) those of DP-SGD.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

from confide.data.examples import TokenizedExample
from confide.train.objective import Objective

MicroBatches = Sequence[Sequence[TokenizedExample]]
"""A step's examples, divided into forward passes; none where a private step drew nobody."""


@dataclass(frozen=True, kw_only=True)
class StepGradient:
    """What making one step's gradient told; the gradient itself stands at the parameters.

    Attributes:
        loss: mean negative log-likelihood per target token of the step's examples, in nats; NaN without an example.
        added: the regulariser's term on the same scale, strength included.
        example_norms: in private training, the L2 norm of each example's gradient before clipping; else none.
    """

    loss: float
    added: float
    example_norms: Sequence[float] = ()


class RoundSteps(Protocol):
    """One client's steps of one round.

    Attributes:
        batches: the examples of each step, in order.
        dropout_seed: what dropout's stream is derived from.
    """

    @property
    def batches(self) -> Sequence[MicroBatches]:
        """See above."""
        ...

    @property
    def dropout_seed(self) -> int:
        """See above."""
        ...

    def running(self) -> AbstractContextManager[None]:
        """Surrounds all calls of `make_gradient`; what is trained is in training mode inside."""
        ...

    def make_gradient(self, batches: MicroBatches) -> StepGradient:
        """Gives every trained parameter, which has no gradient so far, its gradient of one step."""
        ...


class MeanSteps:
    """Plain steps: the gradient of the mean over all targets of the step, plus the regulariser's.

    Args:
        objective: of this client's round.
        batches: the examples of each step.
        dropout_seed: of the run.
    """

    def __init__(self, objective: Objective, batches: Sequence[MicroBatches], dropout_seed: int) -> None:
        self.batches = batches
        self.dropout_seed = dropout_seed
        self._objective = objective

    def running(self) -> AbstractContextManager[None]:
        """Nothing to prepare."""
        return nullcontext()

    def make_gradient(self, batches: MicroBatches) -> StepGradient:
        """See `RoundSteps.make_gradient`."""
        num_targets = sum(int(example.loss_mask.sum()) for batch in batches for example in batch)
        loss_total, added_total = 0.0, 0.0
        for examples in batches:
            sums = self._objective.sums(self._objective.batch(examples))
            loss, added = sums.loss / num_targets, sums.added / num_targets
            (loss + added).backward()
            loss_total += float(loss.detach())
            added_total += float(added.detach())
        return StepGradient(loss=loss_total, added=added_total + self._objective.add_weight_term())
