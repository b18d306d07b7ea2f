"""What a model says of each token of a record: everything that attacks on log-probabilities need, from one pass."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class TokenStats:
    """One model on one record. Position i is the record's token i + 1, predicted from all tokens before it.

    All arrays have the shape (num_tokens - 1,).

    Attributes:
        logp: float32, log-probability of the token that stands there, in nats, <= 0.
        is_top: bool; whether it is the likeliest one.
        rank: int32, how many tokens are strictly likelier.
        mean: float32, sum over the vocabulary of p log p: the expected log-probability, minus the entropy.
        std: float32, the standard deviation of log p under p, >= 0.
        is_target: bool; whether training takes its loss there (the record's `loss_mask` without its first token).
        decoded: by name of a decoding scheme: float32, log-probability with which that scheme draws the token; -inf
            where it never does.
    """

    logp: Floats
    is_top: npt.NDArray[np.bool_]
    rank: npt.NDArray[np.int32]
    mean: Floats
    std: Floats
    is_target: npt.NDArray[np.bool_]
    decoded: Mapping[str, Floats] = field(default_factory=dict)
