"""The discrete Gaussian distribution on the integers, sampled exactly and many values at a time.

N_Z(0, sigma**2) gives the integer x with probability proportional to exp(-x**2 / (2 sigma**2)). The accounting of noise
on the integer grid holds for this law itself, so no rounding may enter it. Exact samplers that go value by value in
integer arithmetic take tens of microseconds for each, too slow for millions; this one gives the same law by arrays.

One attempt draws, independently of one another,
    V, a count with P(V = k) proportional to e**-k, k = 0, 1, ...,
    U, uniform on 0 .. sigma - 1,
    a sign,
and accepts the integer sign * X, X = U + sigma V, with probability exp(-gamma), where
    gamma = X**2 / (2 sigma**2) - V + 1/2 = (U**2 + 2 sigma U V + sigma**2 (V - 1)**2) / (2 sigma**2) >= 0.
Minus zero is refused, so that each integer comes from one (V, U, sign). The probability of drawing it times that of
accepting it is proportional to e**-V exp(-gamma) = e**(-1/2) exp(-x**2 / (2 sigma**2)): the law wanted. These are
algorithms 2 and 3 of the paper with t = sigma (any t will do), their decisions with probability exp(-U / t) and
exp(-(X - sigma)**2 / (2 sigma**2)) made at once. How many attempts a value took does not depend on the value.

V and the decision follow from uniform real numbers of which only the bits needed are drawn. Arrays are decided by the
first bits and float64 numbers; what lies within `_DOUBT` of a boundary is decided in decimal arithmetic of proven
error, with more bits if need be. Where float64 is sure, that would decide alike and draw nothing: the values depend on
the source's bytes alone, and are the same on every machine.

Source: Canonne, Kamath and Steinke 2020, "The discrete Gaussian for differential privacy", algorithms 1 to 3.
"""

import functools
import math
from decimal import Context, Decimal

import numpy as np
import numpy.typing as npt

from confide.privacy.randomness import NoiseSource

MAX_SIGMA = 1 << 20

Integers = npt.NDArray[np.int64]
_Mask = npt.NDArray[np.bool_]

# Float64 errors of a uniform number minus exp(-gamma): gamma is a sum of terms that are not negative and is off by less
# than 2**-50 of itself, which moves exp(-gamma) by half of that at most; exp is within 4 units of its last place
# (2**-50); the uniform number and the difference are rounded (2**-52). All together is below 2**-48.
_DOUBT = 2.0**-40
_BLOCK = 16384  # attempts made at a time, so that intermediate results stay in the processor's cache
_NUM_BYTES = 16  # of an attempt: 4 for V, 4 for sign and U, 8 for the decision
_FIRST_BITS = 32  # of V's uniform number
_OFFSET_BITS = 31  # for U; with sigma <= 2**20 an attempt is lost to its uniformity in at most one of 2**11 cases
_MORE_BITS = 64


def discrete_gaussian(num_values: int, sigma: int, source: NoiseSource) -> Integers:
    """Draws independent values of the discrete Gaussian N_Z(0, sigma**2).

    Args:
        num_values: n, at least 0.
        sigma: the scale, 1 to 2**20, in steps of the grid. The standard deviation is sigma but for 1e-6 of it.
        source: where the bytes come from, about 34 for each value.

    Returns:
        Shape (n,), int64. Memory: 8 bytes for each value, and a block.

    Guarantees:
        - With uniform bytes the values have exactly the stated law, tails included.
        - The same bytes give the same values on every machine.

    Raises:
        ValueError: `num_values` or `sigma` is out of its range, or `sigma` is no integer.
    """
    if num_values < 0:
        raise ValueError(f"num_values is {num_values}, expected at least 0")
    if not isinstance(sigma, int) or not 1 <= sigma <= MAX_SIGMA:
        raise ValueError(f"sigma is {sigma}, expected an integer from 1 to {MAX_SIGMA}")
    values = np.empty(num_values, np.int64)
    done = 0
    while done < num_values:
        missing = num_values - done
        accepted = _attempt(min(_BLOCK, 2 * missing + 64), sigma, source)[:missing]
        values[done : done + len(accepted)] = accepted
        done += len(accepted)
    return values


def _attempt(count: int, sigma: int, source: NoiseSource) -> Integers:
    """Makes that many attempts; gives the values of those that were accepted, in order."""
    drawn = source.random_bytes(_NUM_BYTES * count)
    counts = _geometric(np.frombuffer(drawn, "<u4", count), source)
    signed = np.frombuffer(drawn, "<u4", count, offset=4 * count)
    decisive = np.frombuffer(drawn, "<u8", count, offset=8 * count)

    bits = signed & np.uint32((1 << _OFFSET_BITS) - 1)
    is_negative = signed > bits
    offsets = bits % np.uint32(sigma)
    magnitudes = counts * sigma
    magnitudes += offsets

    accepted = _accepted(decisive, offsets, counts, sigma, source)
    accepted &= bits < (1 << _OFFSET_BITS) // sigma * sigma  # each U has as many bit patterns as any other
    accepted &= (magnitudes != 0) | ~is_negative
    np.negative(magnitudes, out=magnitudes, where=is_negative)
    return magnitudes[accepted]


def _geometric(first_bits: npt.NDArray[np.uint32], source: NoiseSource) -> Integers:
    """For each uniform number, begun by 32 bits, the count V of those k = 1, 2, ... whose e**-k it lies below."""
    floors = _floors()
    above = np.searchsorted(floors, first_bits, side="right")
    counts = len(floors) - above
    for index in np.flatnonzero(first_bits - floors[above - 1] <= _DOUBT * 2.0**_FIRST_BITS):
        uniform = _Uniform(int(first_bits[index]), _FIRST_BITS, source)
        counts[index] = 0
        while uniform.is_below_exp(int(counts[index]) + 1, 1):
            counts[index] += 1
    return counts


def _accepted(
    decisive: npt.NDArray[np.uint64],
    offsets: npt.NDArray[np.uint32],
    counts: Integers,
    sigma: int,
    source: NoiseSource,
) -> _Mask:
    """For each attempt, whether its uniform number, begun by 64 bits, lies below exp(-gamma)."""
    u = offsets / float(sigma)
    gamma = u / 2
    gamma += counts
    gamma *= u
    past = (counts - 1).astype(np.float64)
    past *= past
    past /= 2
    gamma += past
    np.negative(gamma, out=gamma)
    gap = np.exp(gamma, out=gamma)
    gap -= decisive * 2.0**-64
    accepted = gap > 0
    for index in np.flatnonzero(np.abs(gap, out=gap) <= _DOUBT):
        offset, count = int(offsets[index]), int(counts[index])
        numerator = offset**2 + 2 * sigma * offset * count + sigma**2 * (count - 1) ** 2
        uniform = _Uniform(int(decisive[index]), 64, source)
        accepted[index] = uniform.is_below_exp(numerator, 2 * sigma**2)
    return accepted


class _Uniform:
    """A uniform number in [0, 1) known to the bits drawn so far, between bits / 2**n and (bits + 1) / 2**n."""

    def __init__(self, bits: int, num_bits: int, source: NoiseSource) -> None:
        self._bits, self._num_bits, self._source = bits, num_bits, source

    def is_below_exp(self, numerator: int, denominator: int) -> bool:
        """Whether it is below e**(-numerator / denominator), a rational number at least 0; draws bits until sure."""
        if numerator == 0:
            return True
        while True:
            bound = _scaled_exp(numerator, denominator, self._num_bits + _MORE_BITS)
            if (self._bits + 1) << _MORE_BITS <= bound - 2:
                return True
            if self._bits << _MORE_BITS >= bound + 2:
                return False
            more = int.from_bytes(self._source.random_bytes(_MORE_BITS // 8), "little")
            self._bits, self._num_bits = self._bits << _MORE_BITS | more, self._num_bits + _MORE_BITS


def _scaled_exp(numerator: int, denominator: int, num_bits: int) -> int:
    """2**num_bits e**(-numerator / denominator), off by less than 2.

    Decimal quotients, products and exponentials are correctly rounded. With p digits each moves its result by at most
    10**(1 - p) / 2 of it; an error of the quotient moves the exponential by at most half of that again, as
    x e**-x < 1/2. So the sum is below 2 * 10**(1 - p) 2**num_bits < 1/5, and cutting the fraction off adds less than 1.
    """
    context = Context(prec=math.ceil(num_bits * math.log10(2)) + 2)
    exponent = context.divide(Decimal(-numerator), Decimal(denominator))
    return int(context.multiply(context.exp(exponent), Decimal(1 << num_bits)))


@functools.cache
def _floors() -> npt.NDArray[np.uint32]:
    """The first 32 bits of 0 and of e**-k, for those k whose bits are not all 0, in rising order."""
    scaled = [_scaled_exp(k, 1, _FIRST_BITS + _MORE_BITS) >> _MORE_BITS for k in range(1, _FIRST_BITS)]
    floors = np.array([0, *sorted(floor for floor in scaled if floor)], np.uint32)
    floors.setflags(write=False)
    return floors
