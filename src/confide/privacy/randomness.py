"""Where the bytes of a guarantee's noise come from: the operating system, or a seed when a test asks for one.

No generator is written here or in the samplers: they only turn the bytes of a source into variates.
"""

import os
from typing import Protocol

from confide.seeds import stream

SEEDED_NOISE = "seeded noise"
"""What stands beside every epsilon that rests on a seed."""
SEEDED_MEANS = f"{SEEDED_NOISE}: whoever knows the seed can take it off"
"""The same where there is room to say what it means."""


class NoiseSource(Protocol):
    """Gives bytes, each uniform and independent of all others. What a guarantee says holds as far as they are that."""

    @property
    def name(self) -> str:
        """What a report says beside epsilon."""
        ...

    def random_bytes(self, count: int) -> bytes:
        """Gives exactly `count` bytes that were never given before; none for 0.

        Raises:
            ValueError: `count` is negative.
        """
        ...


class OsRandomness:
    """The operating system's cryptographic generator: the source in deployment."""

    name = "operating system"

    def random_bytes(self, count: int) -> bytes:
        """Gives bytes that nobody can repeat."""
        return os.urandom(count)


class SeededRandomness:
    """A named stream of a seed: whoever knows the seed can take the noise away, so that nothing is protected.

    Every machine gets the same bytes. They depend on the sizes asked for: two calls give other bytes than one call for
    the sum, unless each size is a multiple of 4 above 0.

    Args:
        seed: the run's seed.
        parts: what tells this noise from other noise of the run, e.g. round and client. Two sources of one name give
            the same bytes.
    """

    name = SEEDED_NOISE

    def __init__(self, seed: int, *parts: str | int) -> None:
        self._stream = stream(seed, "privacy noise", *parts)

    def random_bytes(self, count: int) -> bytes:
        """Gives the stream's next bytes."""
        if count < 0:
            raise ValueError(f"count is {count}, expected at least 0")
        return self._stream.bytes(count)
