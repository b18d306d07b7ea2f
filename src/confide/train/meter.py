"""What local training measures about itself, and how a round's numbers come from its steps'."""

import math

import numpy as np

from confide.train.outcome import LocalMetrics
from confide.train.steps import MicroBatches, StepGradient


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
