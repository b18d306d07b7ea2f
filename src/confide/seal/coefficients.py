"""Coefficients modulo a prime: to bytes, back, and added. All that the server ever does with a sealed chunk.

Numpy only: no encryption library is needed to add what nobody here can read.
"""

import numpy as np
import numpy.typing as npt

from confide.errors import MessageError

Coefficients = npt.NDArray[np.uint64]


def coefficient_bytes(prime: int) -> int:
    """Bytes of one coefficient on the wire: as many whole bytes as the prime needs."""
    return (prime.bit_length() + 7) // 8


def to_bytes(coefficients: Coefficients, prime: int) -> bytes:
    """Coefficients below `prime`, shape (n,), as little-endian numbers of `coefficient_bytes(prime)` bytes each."""
    width = coefficient_bytes(prime)
    words = np.ascontiguousarray(coefficients, dtype="<u8")
    low_bytes = np.dtype({"names": ["low"], "formats": [f"V{width}"], "offsets": [0], "itemsize": words.itemsize})
    return words.view(low_bytes)["low"].tobytes()


def from_bytes(data: bytes | memoryview, count: int, prime: int) -> Coefficients:
    """Reads `count` coefficients back.

    Memory: 8 bytes per coefficient and one copy of the data; nothing is allocated before the length is checked.

    Args:
        data: exactly `count` coefficients, as `to_bytes` writes them.
        count: how many there must be, >= 0.
        prime: the modulus.

    Returns:
        Shape (count,), every value in [0, prime).

    Raises:
        MessageError: another length, or a number that is not below `prime`.
    """
    width = coefficient_bytes(prime)
    if len(data) != count * width:
        raise MessageError(f"expected {count} coefficients of {width} bytes, got {len(data)} bytes")
    if not count:
        return np.empty(0, np.uint64)
    # Reads 8 bytes at every `width`-th one, which overlap, and drops what belongs to the neighbour.
    padded = b"".join((data, bytes(8 - width)))
    words = np.ndarray((count,), "<u8", padded, strides=(width,))
    coefficients: Coefficients = np.bitwise_and(words, np.uint64((1 << 8 * width) - 1)).astype(np.uint64, copy=False)
    if int(coefficients.max()) >= prime:
        raise MessageError(f"a coefficient is not below the modulus {prime}; the bytes are damaged or of another kind")
    return coefficients


def add(
    first: Coefficients, second: Coefficients | np.uint64, prime: int, out: Coefficients | None = None
) -> Coefficients:
    """Adds modulo `prime`, coefficient by coefficient.

    Args:
        first: values in [0, prime).
        second: same shape and range, or one number in that range for all.
        prime: the modulus, below 2**63.
        out: where to write the sum; may be `first`. A new array if not given.

    Returns:
        The sum, every value in [0, prime).
    """
    total = np.add(first, second, out=out)
    # total - prime wraps to a huge number exactly where total < prime, so the smaller one is the remainder.
    return np.minimum(total, total - np.uint64(prime), out=total)
