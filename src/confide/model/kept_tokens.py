"""What a decoder keeps of the tokens that it has read, so that it can read on from there."""

from typing import cast

from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

_KEYS_AND_VALUES = (DynamicLayer, DynamicSlidingWindowLayer)


def keeps_each_token(kept: object) -> bool:
    """Whether what a decoder kept is each token's keys and values in every layer, and no running state."""
    return isinstance(kept, DynamicCache) and all(type(layer) in _KEYS_AND_VALUES for layer in kept.layers)


def shortest_window(kept: object) -> int | None:
    """How many tokens the layer that looks back least far sees, itself included; None where all see everything.

    Args:
        kept: for which `keeps_each_token`.
    """
    layers = cast("DynamicCache", kept).layers
    return min((layer.sliding_window for layer in layers if isinstance(layer, DynamicSlidingWindowLayer)), default=None)


def repeat_for(kept: object, num_rows: int) -> None:
    """Makes what was kept of one row serve so many rows, in place.

    Args:
        kept: for which `keeps_each_token`.
        num_rows: >= 1.
    """
    cast("DynamicCache", kept).batch_repeat_interleave(num_rows)
