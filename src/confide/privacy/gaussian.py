"""Gaussian noise for DP-SGD from a source's bytes.

Floating-point numbers stand in for the continuous law, so this noise is not exact as that of `discrete_gaussian` is.
The known attack on it reads from the low bits of a noised value which noise can have made it (Mironov 2012; Jin et al.
2022 for Gaussian noise). Each value is therefore made of four draws: finding the draws behind one takes about 2**156
trials, as the source below counts. That makes the attack hopeless; it does not make the law exact.
"""

import math

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from confide.privacy.randomness import NoiseSource
from confide.update import Vector

_NUM_DRAWS = 4
_BLOCK = 8192  # values made at a time, so that their draws (32 bytes each) stay in the processor's cache
_SMALLEST_SCALE, _LARGEST_SCALE = 1e-30, 1e30  # noise of such a scale is made of normal float32 numbers


def gaussian_noise(num_values: int, scale: float, source: NoiseSource) -> Vector:
    """Draws independent values of N(0, scale**2).

    Args:
        num_values: n, at least 0.
        scale: the standard deviation, 1e-30 to 1e30, in the units of the values.
        source: where the bytes come from, 32 for each value.

    Returns:
        Shape (n,), float32, all finite. Memory: 4 bytes for each value, and a block.

    Guarantees:
        - A value is half the sum of four standard normal draws, times `scale`, computed in float64 and rounded once.
        - Every value lies within 16.5 times `scale`, beyond which the true law has less than 1e-60.

    Raises:
        ValueError: `num_values` or `scale` is out of its range.

    Source: Holohan and Braghin 2021, "Secure random sampling in differential privacy", section 5.1, with n = 2, as in
        Opacus' secure mode. A draw is the inverse of the normal distribution function at a uniform number of its own.
    """
    if num_values < 0:
        raise ValueError(f"num_values is {num_values}, expected at least 0")
    if not _SMALLEST_SCALE <= scale <= _LARGEST_SCALE:
        raise ValueError(f"scale is {scale}, expected {_SMALLEST_SCALE:g} to {_LARGEST_SCALE:g}")
    noise = np.empty(num_values, np.float32)
    for start in range(0, num_values, _BLOCK):
        block = noise[start : start + _BLOCK]
        draws = _standard_normal(_NUM_DRAWS * len(block), source)
        sums = draws.reshape(_NUM_DRAWS, len(block)).sum(axis=0)
        np.multiply(sums, scale / math.sqrt(_NUM_DRAWS), out=block, casting="same_kind")
    return noise


def _standard_normal(count: int, source: NoiseSource) -> npt.NDArray[np.float64]:
    """One draw for each 8 bytes.

    With 52 of the bits as the integer k, (k + 1/2) / 2**52 is one of the odd multiples of 2**-53 between 0 and 1. Each
    is a float64 number, so nothing is rounded; they lie symmetric about 1/2, and never at 0 or 1.
    """
    words = np.frombuffer(source.random_bytes(8 * count), "<u8", count)
    draws = (words >> np.uint64(12)).view(np.int64).astype(np.float64)
    draws += 0.5
    draws *= 2.0**-52
    ndtri(draws, out=draws)
    return draws
