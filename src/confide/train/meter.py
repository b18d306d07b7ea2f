"""What local training measures about itself, and how a round's numbers come from its steps'."""

import math
from dataclasses import dataclass

import numpy as np

from confide.train.steps import MicroBatches, StepGradient


@dataclass(frozen=True, kw_only=True)
class LocalMetrics:
    """What one client's training in one round looked like: a diagnostic about the client, kept apart from results.

    Attributes:
        loss: mean over steps of the step's mean loss, in nats per target token, without the regulariser. Private steps
            that drew no example are left out of the losses; with no other steps these are NaN.
        first_loss, last_loss: of the first and the last step.
        regularizer: mean over steps of the added term, strength included.
        gradient_norm: mean over steps of the L2 norm before clipping; in private training with the noise.
        num_tokens: real tokens read, padding excluded.
        example_norm: in private training, the mean over examples read of the norm of their gradient; else 0.
        clipped_share: in private training, the share of them whose gradient was longer than the bound; else 0.
    """

    num_steps: int
    num_examples: int
    num_tokens: int
    num_targets: int
    loss: float
    first_loss: float
    last_loss: float
    regularizer: float
    gradient_norm: float
    seconds: float
    example_norm: float = 0.0
    clipped_share: float = 0.0


class Meter:
    """Collects a round's numbers, step by step.

    Args:
        clip_norm: in private training, the bound on the norm of one example's gradient; else infinity.
    """

    def __init__(self, clip_norm: float) -> None:
        self._clip_norm = clip_norm
        self._losses: list[float] = []
        self._added: list[float] = []
        self._norms: list[float] = []
        self._example_norms: list[float] = []
        self._examples = self._tokens = self._targets = 0

    def add(self, batches: MicroBatches, made: StepGradient, norm: float) -> None:
        """Takes in one step: its examples, what making its gradient told, and the gradient's norm before clipping."""
        self._losses += [made.loss] if batches else []
        self._added.append(made.added)
        self._norms.append(norm)
        self._example_norms += made.example_norms
        for example in (example for batch in batches for example in batch):
            self._examples += 1
            self._tokens += example.num_tokens
            self._targets += int(example.loss_mask.sum())

    def metrics(self, seconds: float) -> LocalMetrics:
        """The numbers of all steps so far, at least one, which took so many seconds."""
        losses = self._losses or [math.nan]
        lengths = np.array(self._example_norms or [0.0])
        return LocalMetrics(
            num_steps=len(self._norms),
            num_examples=self._examples,
            num_tokens=self._tokens,
            num_targets=self._targets,
            loss=float(np.mean(losses)),
            first_loss=losses[0],
            last_loss=losses[-1],
            regularizer=float(np.mean(self._added)),
            gradient_norm=float(np.mean(self._norms)),
            seconds=seconds,
            example_norm=float(lengths.mean()),
            clipped_share=float((lengths > self._clip_norm).mean()),
        )
