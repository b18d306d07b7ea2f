"""The server's half of the schemes built on rings: checks ranges and adds modulo q. No keys, no encryption library."""

from collections.abc import Sequence

import numpy as np

from confide.errors import MessageError
from confide.seal.coefficients import Coefficients, add, coefficient_bytes, from_bytes, to_bytes
from confide.seal.profiles import Profile


class ModularAdder:
    """Adds sealed chunks of a profile.

    Args:
        profile: of the federation; nothing about it is taken from a peer.
    """

    def __init__(self, profile: Profile) -> None:
        self.digest = profile.digest
        self.chunk_values = profile.chunk_values
        self.needs_release = profile.scheme == "onetime"
        self._profile = profile

    def check(self, body: bytes, num_values: int) -> None:
        """Length and range of every coefficient; see `ServerSealing.check`."""
        read_chunk(body, num_values, self._profile)

    def most_bytes(self, num_values: int) -> int:
        """See `ServerSealing.most_bytes`; every chunk has this length."""
        return self._profile.wire_bytes(num_values)

    def add(self, bodies: Sequence[bytes], num_values: int) -> bytes:
        """See `ServerSealing.add`.

        Raises:
            MessageError: a body is no chunk of so many values, there is none, or there are more than the profile's
                fields can hold the sum of.
        """
        if not 1 <= len(bodies) <= self._profile.max_clients:
            raise MessageError(
                f"{len(bodies)} sealed chunks to add; profile {self._profile.name} takes 1 to "
                f"{self._profile.max_clients} clients"
            )
        totals = read_chunk(bodies[0], num_values, self._profile)
        for body in bodies[1:]:
            for total, part, prime in zip(
                totals, read_chunk(body, num_values, self._profile), self._profile.modulus, strict=True
            ):
                add(total, part, prime, out=total)
        return write_chunk(totals, self._profile)


def read_chunk(body: bytes, num_values: int, profile: Profile) -> list[Coefficients]:
    """Reads a sealed chunk: one row of coefficients for each prime, each below its prime.

    Raises:
        MessageError: it is none of `num_values` values.
    """
    count = profile.wire_coefficients(num_values)
    if len(body) != profile.wire_bytes(num_values):
        raise MessageError(
            f"expected a sealed chunk of {profile.wire_bytes(num_values)} bytes for {num_values} values, "
            f"got {len(body)} bytes"
        )
    rows = []
    start = 0
    for prime in profile.modulus:
        end = start + count * coefficient_bytes(prime)
        rows.append(from_bytes(memoryview(body)[start:end], count, prime))
        start = end
    return rows


def write_chunk(rows: Sequence[Coefficients], profile: Profile) -> bytes:
    """The inverse of `read_chunk`."""
    return b"".join(to_bytes(np.asarray(row), prime) for row, prime in zip(rows, profile.modulus, strict=True))
