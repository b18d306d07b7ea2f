"""Terms added to the local loss that keep a client close to where it, or the base model, started.

Each is called once per optimiser step with what it needs and gives a scalar to add to the mean loss.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from confide.data.batches import Batch
from confide.model.evaluation_mode import evaluation_mode
from confide.train.forward import TargetScorer

Regularizer = Literal["none", "prox", "kl", "l2"]
KlReference = Literal["base", "round", "both"]
KlDirection = Literal["current-reference", "reference-current"]
_CHUNK = 256


def squared_distance(parameters: Sequence[Tensor], anchors: Sequence[Tensor] | None) -> Tensor:
    """Half the squared L2 distance of the parameters to their anchors (to zero without anchors), a float32 scalar.

    Source: `prox`: Li et al. 2020, "Federated Optimization in Heterogeneous Networks", equation 2, with the anchor the
        round's global adapter. `l2`: the same with anchor 0, which for LoRA is the base model (B = 0).
    """
    if anchors is None:
        return sum((p.float().square().sum() for p in parameters), start=torch.zeros(())) / 2
    differences = ((p.float() - a.float()).square().sum() for p, a in zip(parameters, anchors, strict=True))
    return sum(differences, start=torch.zeros(())) / 2


def kl_sum(scorer: TargetScorer, current: Tensor, reference: Tensor, direction: KlDirection) -> Tensor:
    """Sums the Kullback-Leibler divergence between two models' next-token distributions over the targets.

    Args:
        scorer: turns states into logits.
        current: states of the model in training, shape (num_targets, width), with gradient.
        reference: states of the frozen reference at the same targets, same shape, without gradient.
        direction: "current-reference" is KL(current || reference), "reference-current" the other way round.

    Returns:
        A scalar >= 0 (up to rounding), in nats. Zero when both are the same.

    Source: "Can Federated Learning Safeguard Private Data in LLM Training?", section 5 (KL update regularisation). The
        paper states neither direction nor reference; both are options here.
    """

    def chunk_sum(now: Tensor, then: Tensor) -> Tensor:
        log_now = torch.log_softmax(scorer.logits(now), dim=-1)
        with torch.no_grad():
            log_then = torch.log_softmax(scorer.logits(then), dim=-1)
        if direction == "current-reference":
            return (log_now.exp() * (log_now - log_then)).sum()
        return (log_then.exp() * (log_then - log_now)).sum()

    total = torch.zeros((), device=current.device)
    for now, then in zip(current.split(_CHUNK), reference.split(_CHUNK), strict=True):
        # Recomputed in the backward pass: only one chunk's logits over the vocabulary exist at a time.
        total = total + checkpoint(chunk_sum, now, then, use_reentrant=False)
    return total


@dataclass(frozen=True, kw_only=True)
class KlReferences:
    """Runs the frozen reference models of the `kl` regulariser on a batch.

    Attributes:
        scorer: of the model in training.
        contexts: one per reference; inside each the scorer's model *is* that reference (base model, round's start).
    """

    scorer: TargetScorer
    contexts: Sequence[Callable[[], AbstractContextManager[None]]]

    def states(self, batch: Batch) -> list[Tensor]:
        """States of every reference at the batch's targets; to be called before the model's own forward pass."""
        with evaluation_mode(self.scorer.model):  # a reference is the model as it answers, without dropout
            found = []
            for context in self.contexts:
                with context():
                    found.append(self.scorer.states(batch)[0])
            return found
