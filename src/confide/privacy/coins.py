"""Coins that a guarantee rests on: who joins a step of DP-SGD."""

import numpy as np
import numpy.typing as npt

from confide.privacy.randomness import NoiseSource

_BITS = 53  # of a uniform number: each multiple of 2**-53 below 1 is a float64


def bernoulli(num_coins: int, probability: float, source: NoiseSource) -> npt.NDArray[np.bool_]:
    """Flips independent coins.

    Args:
        num_coins: n, at least 0.
        probability: of True, in [0, 1]; met to within 2**-53.
        source: where the bytes come from, 8 for each coin.

    Returns:
        Shape (n,), bool.

    Raises:
        ValueError: an argument is out of its range.
    """
    if num_coins < 0 or not 0.0 <= probability <= 1.0:
        raise ValueError(f"expected num_coins >= 0 and a probability in [0, 1], got {num_coins} and {probability}")
    words = np.frombuffer(source.random_bytes(8 * num_coins), "<u8", num_coins)
    found: npt.NDArray[np.bool_] = (words >> np.uint64(64 - _BITS)) * 2.0**-_BITS < probability
    return found
