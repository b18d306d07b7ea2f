"""The local optimiser: which one, and how it is set."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
    """The local optimiser; made fresh every round.

    Attributes:
        kind: "adamw" (Loshchilov & Hutter 2019) or "sgd" (with `momentum`).
        adam_eps: the optimiser's eps, no privacy parameter.
        clip_grad_norm: bound on the L2 norm of a step's whole gradient; 0 = off. Not used in private training, which
            bounds the gradient of each example.
    """

    kind: Literal["adamw", "sgd"] = "adamw"
    momentum: float = 0.0
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    adam_eps: float = 1e-8
    weight_decay: float = 0.0
    clip_grad_norm: float = 1.0

    def make(self, parameters: Sequence[torch.nn.Parameter], learning_rate: float) -> torch.optim.Optimizer:
        """A torch optimiser over the parameters."""
        if self.kind == "sgd":
            return torch.optim.SGD(parameters, lr=learning_rate, momentum=self.momentum, weight_decay=self.weight_decay)
        return torch.optim.AdamW(
            parameters,
            lr=learning_rate,
            betas=(self.adam_beta1, self.adam_beta2),
            eps=self.adam_eps,
            weight_decay=self.weight_decay,
        )
