"""Fixed point: floats to fields of integers, fields to plaintext coefficients, and back.

Adding integers is exact and does not depend on order, so the only error of a sealed sum is the rounding done here. The
range is public (it comes from the last opened update), so it tells nothing about one client.
"""

import dataclasses

import numpy as np

from confide.errors import NonFiniteUpdateError, SealError
from confide.seal.coefficients import Coefficients
from confide.seal.profiles import Profile
from confide.update import Vector

_BLOCK = 16384  # values worked on at a time, so that intermediate results stay in the processor's cache
_SMALLEST_LIMIT, _LARGEST_LIMIT = 1e-30, 1e30  # sums of steps stay normal float32 numbers
_FLOAT32_ROUNDING = 2.0**-24
_FLOAT64_SLACK = 2.0**-20  # far above what a few float64 roundings of numbers below 2**31 steps can add


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quantized:
    """Values as numbers of steps.

    Attributes:
        levels: shape (n,), each in [1, 2**value_bits - 1]; 2**(value_bits - 1) stands for zero.
        num_saturated: how many values lay outside the range and were moved to its edge.
    """

    levels: Coefficients = dataclasses.field(repr=False)
    num_saturated: int


def quantize(values: Vector, limit: float, profile: Profile) -> Quantized:
    """Rounds each value to the nearest multiple of the step, which is limit / (2**(value_bits - 1) - 1).

    Args:
        values: shape (n,), float32.
        limit: values beyond [-limit, limit] saturate; 1e-30 to 1e30, in the units of the values.
        profile: says how many bits a value has.

    Guarantees:
        - Zero is exact, and the levels of x and -x lie symmetric about that of zero.
        - Without saturation a value moves by at most half a step.

    Raises:
        NonFiniteUpdateError: a value is NaN or infinite.
        ValueError: the limit is out of its range.
    """
    half = _half_range(profile)
    per_step = 1.0 / _step(limit, profile)
    levels = np.empty(len(values), np.uint64)
    work = np.empty(min(_BLOCK, len(values)), np.float64)
    num_saturated = 0
    for start in range(0, len(values), _BLOCK):
        block = values[start : start + _BLOCK]
        steps = work[: len(block)]
        np.multiply(block, per_step, out=steps, dtype=np.float64)
        np.rint(steps, out=steps)
        lowest, highest = float(steps.min()), float(steps.max())
        if not -half <= lowest <= highest <= half:  # also where either is NaN
            if not np.isfinite(block).all():
                raise NonFiniteUpdateError("the values to seal hold NaN or infinity")
            num_saturated += int(np.count_nonzero(np.abs(steps) > half))
            np.clip(steps, -half, half, out=steps)
        steps += half + 1
        levels[start : start + _BLOCK].view(np.int64)[:] = steps  # via int64, which processors convert faster
    return Quantized(levels=levels, num_saturated=num_saturated)


def dequantize(totals: Coefficients, num_clients: int, limit: float, profile: Profile) -> Vector:
    """The sum of `num_clients` values from the sum of their levels.

    Computed in float64 and rounded once to float32, in IEEE operations only: every machine gets the same bytes.

    Args:
        totals: shape (n,), sums of levels.
        num_clients: how many clients' levels each sum holds, 1 to `max_clients`.
        limit: the one given to `quantize`.
        profile: the one given to `quantize`.

    Returns:
        Shape (n,), float32, in the units of the values.

    Raises:
        SealError: a sum is one that this many clients cannot make: the sum is damaged or was opened with a wrong key.
    """
    if not 1 <= num_clients <= profile.max_clients:
        raise SealError(f"a sum holds 1 to {profile.max_clients} clients, got {num_clients}")
    half = _half_range(profile)
    if len(totals) and not (num_clients <= int(totals.min()) and int(totals.max()) <= num_clients * (2 * half + 1)):
        raise SealError(
            f"the opened numbers cannot be a sum of {num_clients} clients' values: wrong key or damaged sum"
        )
    step = _step(limit, profile)
    values = np.empty(len(totals), np.float32)
    work = np.empty(min(_BLOCK, len(totals)), np.float64)
    for start in range(0, len(totals), _BLOCK):
        block = totals[start : start + _BLOCK].view(np.int64)
        steps = work[: len(block)]
        steps[:] = block
        steps -= num_clients * (half + 1)
        np.multiply(steps, step, out=values[start : start + _BLOCK], casting="same_kind")
    return values


def received(values: Vector, limit: float, profile: Profile) -> tuple[Vector, int]:
    """What each value arrives as: rounded, and moved to the edge of the range if outside. For error feedback.

    Memory: 4 bytes per value for the result, and a chunk.

    Returns:
        Shape (n,), float32, and how many values lay outside the range.

    Raises:
        NonFiniteUpdateError: a value is NaN or infinite.
    """
    arrived = np.empty(len(values), np.float32)
    num_saturated = 0
    for start in range(0, len(values), profile.chunk_values):
        quantized = quantize(values[start : start + profile.chunk_values], limit, profile)
        arrived[start : start + profile.chunk_values] = dequantize(quantized.levels, 1, limit, profile)
        num_saturated += quantized.num_saturated
    return arrived, num_saturated


def pack(levels: Coefficients, profile: Profile) -> Coefficients:
    """Puts several values into each plaintext coefficient.

    Field j of coefficient i holds value j * C + i, where C = ceil(n / values_per_coefficient); fields left over hold 0.
    Fields are wide enough for the sum over all clients, so adding coefficients adds fields without carries.

    Args:
        levels: shape (n,), below 2**value_bits (or sums that fit a field).
        profile: says how wide a field is and how many a coefficient holds.

    Returns:
        Shape (C,), below 2**plain_bits.
    """
    count = profile.plain_coefficients(len(levels))
    coefficients = levels[:count].copy()
    for field in range(1, profile.values_per_coefficient):
        part = levels[field * count : (field + 1) * count]
        coefficients[: len(part)] |= part << np.uint64(field * profile.field_bits)
    return coefficients


def unpack(coefficients: Coefficients, num_values: int, profile: Profile) -> Coefficients:
    """Takes the fields out again; the inverse of `pack`.

    Args:
        coefficients: shape (C,), the one `pack` gives for `num_values`, or a sum of such.
        num_values: n.
        profile: the one given to `pack`.

    Returns:
        Shape (n,), each below 2**field_bits.

    Raises:
        SealError: the number of coefficients does not fit the number of values.
    """
    count = profile.plain_coefficients(num_values)
    if len(coefficients) != count:
        raise SealError(f"{num_values} values take {count} coefficients, got {len(coefficients)}")
    field_mask = np.uint64((1 << profile.field_bits) - 1)
    totals = np.empty(num_values, np.uint64)
    for field in range(profile.values_per_coefficient):
        part = totals[field * count : (field + 1) * count]
        np.right_shift(coefficients[: len(part)], np.uint64(field * profile.field_bits), out=part)
        part &= field_mask
    return totals


def sum_error_bound(num_clients: int, limit: float, profile: Profile) -> float:
    """The largest error of one value of an opened sum, if nothing saturated.

    Each client's value moves by at most half a step, and the integers add exactly, so the sum is off by at most
    num_clients * step / 2; a few float64 roundings on the way are far below 2**-20 of that. The result, at most
    num_clients * limit in size, is rounded once to float32, which adds at most 2**-24 of it.
    """
    step = _step(limit, profile)
    return num_clients * (step / 2 * (1 + _FLOAT64_SLACK) + limit * _FLOAT32_ROUNDING)


def _half_range(profile: Profile) -> int:
    """Steps from zero to the edge of the range; zero's level is one more, so that the lowest level is 1."""
    return (1 << (profile.value_bits - 1)) - 1


def _step(limit: float, profile: Profile) -> float:
    if not _SMALLEST_LIMIT <= limit <= _LARGEST_LIMIT:
        raise ValueError(f"limit is {limit}, expected {_SMALLEST_LIMIT:g} to {_LARGEST_LIMIT:g}")
    return limit / _half_range(profile)
