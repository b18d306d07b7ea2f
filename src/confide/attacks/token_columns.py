"""From logits to the columns of `TokenStats`, each in one sweep over the vocabulary."""

from collections.abc import Mapping

import torch
from torch import Tensor

from confide.attacks.decoding import DecodingScheme, draw_log_probabilities

# The exponential of anything below it is 0 in float32. With it in place of minus infinity a token that the model rules
# out adds 0 to a sum, and not 0 times infinity.
_LEAST_LOGP = -1e4


def token_columns(logits: Tensor, targets: Tensor, schemes: Mapping[str, DecodingScheme]) -> dict[str, Tensor]:
    """Computes what `TokenStats` holds of some tokens, except whether training takes its loss there.

    Args:
        logits: shape (num_tokens, vocabulary), float32. Minus infinity rules a token out. A row with NaN or infinity
            has NaN as `logp`.
        targets: shape (num_tokens,), int64, the token that stands there.
        schemes: by the name that their column gets.

    Returns:
        "logp", "mean", "std" and a column per scheme, float32; "is_top", bool; "rank", int32; all of shape
        (num_tokens,). Where several tokens are likeliest, greedy decoding takes the one with the lowest id, and only
        that one is top.
    """
    picked = targets[:, None]
    log_probabilities = logits.log_softmax(dim=-1)
    columns = {
        "logp": log_probabilities.gather(-1, picked)[:, 0],
        "is_top": logits.argmax(dim=-1) == targets,
        "rank": (logits > logits.gather(-1, picked)).sum(dim=-1, dtype=torch.int32),
    }
    log_probabilities.clamp_(min=_LEAST_LOGP)
    probabilities = log_probabilities.exp()
    mean = (probabilities * log_probabilities).sum(dim=-1)
    # The mean of squares minus the square of the mean would cancel where the model is sure.
    variance = (probabilities * (log_probabilities - mean[:, None]).square()).sum(dim=-1)
    columns |= {"mean": mean, "std": variance.sqrt()}
    return columns | {name: draw_log_probabilities(logits, targets, scheme) for name, scheme in schemes.items()}
