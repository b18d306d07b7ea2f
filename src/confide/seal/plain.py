"""Scheme `plain`: float32 values in the clear, for comparison and for parties that need no secrecy from the server."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from confide.errors import MessageError, NonFiniteUpdateError, SealError, SecretKeyError
from confide.seal.scheme import SealContext
from confide.update import Vector

CHUNK_VALUES = 1 << 19

_DIGEST = hashlib.sha256(b"confide plain float32 v1").digest()
_WIRE = np.dtype("<f4")
_LARGEST = 1e30  # no update comes near it, and a hundred million of them still add up in float32


class PlainRound:
    """The values' bytes, nothing more."""

    key_id = ""

    def __init__(self) -> None:
        self._is_used = False

    def chunks(self, values: Vector) -> Iterator[bytes]:
        """See `SealingRound.chunks`."""
        if self._is_used:
            raise SecretKeyError("a round is sealed once; begin a new one")
        self._is_used = True
        for start in range(0, values.size, CHUNK_VALUES):
            yield values[start : start + CHUNK_VALUES].astype(_WIRE, copy=False).tobytes()

    def shares(self) -> dict[str, bytes]:
        """None: there is no key."""
        return {}


class PlainClient:
    """Clients' half: bytes are the little-endian float32 values."""

    name = "plain"
    profile_name = ""
    is_sealed = False
    needs_release = False
    description = "not sealed: the server can read every client's update"
    digest = _DIGEST
    chunk_values = CHUNK_VALUES
    initial_limit = 0.0

    def begin(self, context: SealContext) -> PlainRound:
        """See `ClientSealing.begin`."""
        del context
        return PlainRound()

    def received(self, values: Vector, limit: float) -> tuple[Vector, int]:
        """The values themselves: float32 arrives as it is."""
        del limit
        return values, 0

    def check_sum(self, body: bytes, num_values: int) -> None:
        """See `ClientSealing.check_sum`."""
        read_values(body, num_values)

    def add_shares(self, shares: Sequence[bytes]) -> bytes:
        """Refuses: there are no shares."""
        raise SealError(f"scheme plain has no key, got {len(shares)} shares of one")

    def open(
        self, context: SealContext, *, num_members: int, bodies: Sequence[bytes], key_shares: Mapping[int, bytes]
    ) -> Vector:
        """The values; see `ClientSealing.open`."""
        del num_members, key_shares
        sizes = [min(CHUNK_VALUES, context.num_values - at) for at in range(0, context.num_values, CHUNK_VALUES)]
        if len(bodies) != len(sizes):
            raise MessageError(f"expected {len(sizes)} chunks, got {len(bodies)}")
        return np.concatenate([read_values(body, size) for body, size in zip(bodies, sizes, strict=True)])


class PlainServer:
    """Server's half: sums in float64 and rounds once, so the order of clients cannot change the result by much."""

    digest = _DIGEST
    chunk_values = CHUNK_VALUES
    needs_release = False

    def check(self, body: bytes, num_values: int) -> None:
        """Length and finiteness; see `ServerSealing.check`."""
        read_values(body, num_values)

    def most_bytes(self, num_values: int) -> int:
        """See `ServerSealing.most_bytes`."""
        return num_values * _WIRE.itemsize

    def add(self, bodies: Sequence[bytes], num_values: int) -> bytes:
        """See `ServerSealing.add`."""
        total = np.zeros(num_values, np.float64)
        for one in bodies:
            total += read_values(one, num_values)
        return total.astype(_WIRE).tobytes()


def read_values(data: bytes, num_values: int) -> Vector:
    """Reads plain values back.

    Raises:
        MessageError: the length is not that of `num_values` values.
        NonFiniteUpdateError: a value is NaN, infinite, or so large that a sum could overflow.
    """
    if len(data) != num_values * _WIRE.itemsize:
        raise MessageError(f"expected {num_values} values of {_WIRE.itemsize} bytes, got {len(data)} bytes")
    values = np.frombuffer(data, _WIRE).astype(np.float32)
    if not (np.abs(values) <= _LARGEST).all():  # also false for NaN
        raise NonFiniteUpdateError(f"the update holds NaN, infinity, or values beyond {_LARGEST:g}")
    return values
