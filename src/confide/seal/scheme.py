"""The interface of a sealing scheme, one half per side.

The client's half seals its own values and opens the sum; the server's half adds what it cannot read. They are two types
so that the server's code never holds the half that can open. A vector travels in chunks, each sealed, carried, added
and opened by itself: chunk i of n values holds the values [i * chunk_values, min(n, (i + 1) * chunk_values)).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from confide.update import Vector


@dataclass(frozen=True, kw_only=True)
class SealContext:
    """The public facts of a round that sealing is bound to.

    Attributes:
        run: the run's id.
        round_number: from 1.
        client: who seals or opens.
        num_values: length of the sealed vector.
        limit: > 0; values lie in [-limit, limit], larger ones saturate. Without meaning in a scheme that has no range.
    """

    run: str
    round_number: int
    client: str
    num_values: int
    limit: float


class SealingRound(Protocol):
    """One client's sealing of one vector; single use.

    Attributes:
        key_id: random hexadecimal name of the one-time key; empty where the scheme has none.
    """

    @property
    def key_id(self) -> str:
        """The key's name; public."""
        ...

    def chunks(self, values: Vector) -> Iterator[bytes]:
        """Seals the values (private), chunk by chunk.

        Raises:
            SecretKeyError: on a second call.
            NonFiniteUpdateError: a value is NaN or infinite.
        """
        ...

    def shares(self) -> dict[str, bytes]:
        """A share of the one-time key for each member of the roster (each secret); empty where there is no such key."""
        ...


class ClientSealing(Protocol):
    """The half that clients hold.

    Laws:
        - Opening the server's sum of sealed vectors gives the sum of the vectors that `received` gives, exactly up to
          float32 rounding.
        - Any order of the members gives the same bytes.

    Attributes:
        name: the scheme's name in the configuration.
        profile_name: the profile's, or "" in a scheme without one.
        is_sealed: whether the server is kept from reading a sealed value.
        needs_release: whether clients release shares of a round key before a sum opens.
        description: one sentence for the user, on who can read what.
        digest: SHA-256 of scheme and parameters; nothing of it is ever taken from a peer.
        chunk_values: values in a full chunk.
        initial_limit: fixed-point range of the first round; 0 in a scheme without one.
    """

    name: str
    profile_name: str
    is_sealed: bool
    needs_release: bool
    description: str
    digest: bytes
    chunk_values: int
    initial_limit: float

    def begin(self, context: SealContext) -> SealingRound:
        """Starts a sealing, under a fresh one-time key where the scheme has one."""
        ...

    def received(self, values: Vector, limit: float) -> tuple[Vector, int]:
        """What values become on the way, before any sum, and how many of them saturate."""
        ...

    def check_sum(self, body: bytes, num_values: int) -> None:
        """Checks the length of one chunk of a sum, before any of them is opened.

        Raises:
            MessageError: it is no chunk of `num_values` values.
        """
        ...

    def add_shares(self, shares: Sequence[bytes]) -> bytes:
        """Adds the shares that one client holds of the members' keys: its share of the summed key (secret).

        Raises:
            SealError: a share is malformed, or the scheme has no shares.
        """
        ...

    def open(
        self, context: SealContext, *, num_members: int, bodies: Sequence[bytes], key_shares: Mapping[int, bytes]
    ) -> Vector:
        """Opens a sum.

        Args:
            context: of the round.
            num_members: how many vectors were added.
            bodies: the sum's chunks, in order.
            key_shares: shares of the summed key by their holder's point in the roster (1 to n); empty in a scheme
                without.

        Raises:
            SealError: there are too few shares, or they do not belong together.
            MessageError: the bytes do not hold `num_values` values.
        """
        ...


class ServerSealing(Protocol):
    """The half that the server holds: it checks lengths and ranges and adds, and needs to read nothing.

    Attributes:
        digest: as `ClientSealing`.
        chunk_values: as `ClientSealing`.
        needs_release: as `ClientSealing`.
    """

    digest: bytes
    chunk_values: int
    needs_release: bool

    def check(self, body: bytes, num_values: int) -> None:
        """Checks what can be checked of one sealed chunk without opening it.

        Raises:
            RunError: it cannot be a sealed chunk of `num_values` values.
        """
        ...

    def most_bytes(self, num_values: int) -> int:
        """The longest that one sealed chunk of `num_values` values can be."""
        ...

    def add(self, bodies: Sequence[bytes], num_values: int) -> bytes:
        """Adds one chunk over clients, in the order given.

        Raises:
            RunError: as `check`.
        """
        ...
