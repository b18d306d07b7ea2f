"""What a client minimises in one round: the loss at its targets, and the regulariser's term.

Knows nothing of steps: how sums over batches become a step's gradient is said in `steps.py` and `private.py`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from confide.data.batches import Batch, collate
from confide.data.examples import TokenizedExample
from confide.model.lora import AdaptedModel
from confide.train.forward import TargetScorer
from confide.train.regularizers import KlDirection, KlReference, KlReferences, Regularizer, kl_sum, squared_distance
from confide.update import Vector


@dataclass(frozen=True, kw_only=True)
class RegularizerSettings:
    """What is added to the loss: `strength` times the term of `kind` (see train/regularizers.py)."""

    kind: Regularizer = "none"
    strength: float = 0.0
    kl_reference: KlReference = "base"
    kl_direction: KlDirection = "current-reference"


@dataclass(frozen=True, kw_only=True)
class BatchSums:
    """One forward pass.

    Attributes:
        states: what the sums were computed from, one row per target, in row-major order of the batch.
        loss: sum over targets of the negative log-likelihood, in nats, a scalar with gradient.
        added: sum over targets of the regulariser's term, strength included; a scalar, 0 where there is none.
    """

    states: Tensor
    loss: Tensor
    added: Tensor


class Objective:
    """The function that one client's round minimises.

    Args:
        model: holds the global adapter.
        scorer: of the model.
        settings: the regulariser.
        parameters: that are trained.
        start: the global adapter, flat over the model's whole layout.
    """

    def __init__(
        self,
        model: AdaptedModel,
        scorer: TargetScorer,
        settings: RegularizerSettings,
        parameters: Sequence[torch.nn.Parameter],
        start: Vector,
    ) -> None:
        self.parameters = parameters
        self._settings = settings
        self._scorer = scorer
        self._device = model.base.device
        self._pad_token_id = int(model.tokenizer.pad_token_id)
        self._anchors = [parameter.detach().clone() for parameter in parameters] if settings.kind == "prox" else None
        contexts = []
        if settings.kind == "kl" and settings.kl_reference in ("base", "both"):
            contexts.append(model.base_only)
        if settings.kind == "kl" and settings.kl_reference in ("round", "both"):
            contexts.append(lambda: _temporarily(model, start))
        self._references = KlReferences(scorer=scorer, contexts=contexts)

    def batch(self, examples: Sequence[TokenizedExample]) -> Batch:
        """Examples side by side, on the model's device."""
        return collate(examples, self._pad_token_id).to(self._device)

    def sums(self, batch: Batch) -> BatchSums:
        """Runs the model on a batch."""
        references = self._references.states(batch) if self._references.contexts else []
        states, targets = self._scorer.states(batch)
        loss = self._scorer.loss_sum_of(states, targets)
        added = torch.zeros((), device=states.device)
        for reference in references:
            added = added + kl_sum(self._scorer, states, reference, self._settings.kl_direction)
        return BatchSums(states=states, loss=loss, added=self._settings.strength * added)

    def add_weight_term(self) -> float:
        """Adds the gradient of the term on the weights alone to theirs, and gives the term; once a step."""
        if self._settings.kind not in ("prox", "l2"):
            return 0.0
        term = self._settings.strength * squared_distance(self.parameters, self._anchors)
        term.backward()
        return float(term.detach())


@contextmanager
def _temporarily(model: AdaptedModel, vector: Vector) -> Iterator[None]:
    """Puts another adapter into the model for the body, then puts back what was there."""
    current = model.read()
    model.write(vector)
    try:
        yield
    finally:
        model.write(current)
