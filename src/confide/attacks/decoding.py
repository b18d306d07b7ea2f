"""With which probability a decoding scheme draws a given token: what sampling does, said without sampling.

The chance that a model says a whole text when it is asked once is the product over its tokens; no draw is needed to
know it. The rules are those that `confide.evaluate.generation` draws by.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class DecodingScheme:
    """A way to draw tokens. The three settings act in this order, each on what the one before left.

    Greedy decoding is not a scheme: it draws nothing. Whether it says a token is `TokenStats.is_top`.

    Attributes:
        name: what the numbers are called in `TokenStats.decoded`.
        temperature: > 0 and finite; the logits are divided by it.
        top_k: only tokens at least as likely as the k-th likeliest can be drawn, so more than k where several are
            equally likely; 0 for all.
        top_p: in (0, 1]; only the likeliest tokens that together reach this probability can be drawn, at least one.

    Raises:
        ValueError: a number is out of its range.
    """

    name: str
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature > 0.0):
            raise ValueError(f"{self.name}: temperature is {self.temperature}, expected a finite number > 0")
        if self.top_k < 0:
            raise ValueError(f"{self.name}: top_k is {self.top_k}, expected >= 0 (0 for all tokens)")
        if not 0.0 < self.top_p <= 1.0:
            raise ValueError(f"{self.name}: top_p is {self.top_p}, expected more than 0 and at most 1")


def draw_log_probabilities(logits: Tensor, targets: Tensor, scheme: DecodingScheme) -> Tensor:
    """Gives the log-probability with which a scheme draws each target.

    Args:
        logits: shape (num_targets, vocabulary), as the model gives them; taken as float32.
        targets: shape (num_targets,), int64, token ids.
        scheme: temperature, top-k, top-p.

    Returns:
        Shape (num_targets,), float32, in nats, <= 0; minus infinity where the scheme never draws the target.

    Guarantees:
        - Over the whole vocabulary the probabilities add up to 1.
        - The tokens that can be drawn are those that `Sampling` of the same settings can draw.

    Source: q_i of Hayes et al. 2024, "Measuring memorization through probabilistic discoverable extraction", section 3;
        top-p as in Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration", section 3.1. The order of the
        settings, and keeping all tokens as likely as the k-th, are those of transformers.
    """
    scores = logits.float() / scheme.temperature
    if 0 < scheme.top_k < scores.shape[-1]:
        least = scores.topk(scheme.top_k, dim=-1).values[:, -1:]
        scores = scores.masked_fill(scores < least, -torch.inf)
    picked = targets[:, None]
    if scheme.top_p == 1.0:
        return scores.log_softmax(dim=-1).gather(-1, picked)[:, 0]
    own = scores.gather(-1, picked)  # (num_targets, 1)
    ordered = _descending(scores)
    probabilities = ordered.softmax(dim=-1)
    is_beyond = probabilities.cumsum(dim=-1) - probabilities >= scheme.top_p  # what comes before reaches top_p already
    num_drawn = (~is_beyond).sum(dim=-1, dtype=torch.int32)
    drawn = own - ordered.masked_fill(is_beyond, -torch.inf).logsumexp(dim=-1, keepdim=True)
    # Of equally likely tokens those with the lower id come first, as in a stable sort.
    is_lower = torch.arange(scores.shape[-1], device=scores.device) < picked
    place = ((scores > own) | ((scores == own) & is_lower)).sum(dim=-1, dtype=torch.int32)
    return drawn[:, 0].masked_fill(place >= num_drawn, -torch.inf)


def _descending(scores: Tensor) -> Tensor:
    # On CPUs numpy sorts the values of a row of 49,152 in 0.9 ms, torch, which also gives their places, in 17 ms.
    if scores.device.type == "cpu":
        return torch.from_numpy(np.sort(scores.detach().numpy(), axis=-1)).flip(-1)
    return scores.sort(dim=-1, descending=True).values
