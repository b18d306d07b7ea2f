"""Scheme `shared`: fixed point under BFV; sealed with a public key, opened with one secret key that every client holds.

For organisations that trust each other and want the server to see nothing: there is no round key, nothing to release,
and any one client opens the sum. It also opens every single update that it gets hold of. The secret key has to reach
the clients by a way that the server does not see, and a client cannot be shut out again without new keys for all.

The server's half is `confide.seal.adder.ModularAdder`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

import numpy as np

from confide.errors import MessageError, SealError, SecretKeyError
from confide.seal.adder import read_chunk, write_chunk
from confide.seal.fixedpoint import dequantize, pack, quantize, received, unpack
from confide.seal.profiles import Profile
from confide.seal.ring import PublicKey, PublicKeyRing, SharedSecret
from confide.seal.scheme import SealContext
from confide.update import Vector


@dataclass(frozen=True, kw_only=True)
class SharedKeys:
    """What all clients hold, and the server does not.

    Attributes:
        secret: opens everything.
        public_key: seals; harmless, but a client takes it only from where the secret comes from.
    """

    secret: SharedSecret = field(repr=False)
    public_key: bytes = field(repr=False)

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise SecretKeyError("the shared keys cannot be copied or pickled: they must not leave their process")


def new_shared_keys(profile: Profile) -> SharedKeys:
    """Fresh keys from SEAL's sampler; made once for a federation, by one client.

    Args:
        profile: of scheme "shared".

    Raises:
        SealError: the profile is of another scheme.
    """
    secret, public_key = PublicKeyRing(profile).new_keys()
    return SharedKeys(secret=secret, public_key=public_key)


class SharedSealing:
    """One client's sealing of one vector.

    Args:
        ring: of the profile.
        public_key: of all clients.
        context: of the round.
    """

    key_id = ""

    def __init__(self, ring: PublicKeyRing, public_key: PublicKey, context: SealContext) -> None:
        self._ring = ring
        self._public_key = public_key
        self._context = context
        self._is_used = False

    def chunks(self, values: Vector) -> Iterator[bytes]:
        """See `SealingRound.chunks`."""
        if self._is_used:
            raise SecretKeyError("a round is sealed once; begin a new one")
        if values.size != self._context.num_values:
            raise SealError(f"expected {self._context.num_values} values to seal, got {values.size}")
        self._is_used = True
        return self._chunks(values)

    def _chunks(self, values: Vector) -> Iterator[bytes]:
        profile = self._ring.profile
        for start in range(0, values.size, profile.chunk_values):
            part = values[start : start + profile.chunk_values]
            plain = pack(quantize(part, self._context.limit, profile).levels, profile)
            yield write_chunk(list(self._ring.seal(self._public_key, plain)), profile)

    def shares(self) -> dict[str, bytes]:
        """None: there is no round key."""
        return {}


class SharedClient:
    """Clients' half of scheme `shared`.

    Args:
        profile: of scheme "shared".
        keys: the same at every client; see `new_shared_keys`.

    Guarantees:
        - Opening is exact: what comes out of a sum tells nothing of the key, unlike in scheme `published`, unless a
          coefficient's noise overflows, which has the probability that `profiles.failure_log2` bounds.

    Raises:
        SealError: the profile is of another scheme.
        MessageError: the public key is not of this profile.
    """

    name = "shared"
    is_sealed = True
    needs_release = False
    description = (
        "sealed against the server; every client can open every client's update, since all clients hold the one secret "
        "key: not safe against a client that colludes with the server"
    )

    def __init__(self, profile: Profile, keys: SharedKeys) -> None:
        self.profile_name = profile.name
        self.digest = profile.digest
        self.chunk_values = profile.chunk_values
        self.initial_limit = profile.initial_limit
        self._profile = profile
        self._ring = PublicKeyRing(profile)
        self._public_key = self._ring.read_public_key(keys.public_key)
        self._secret = keys.secret

    def begin(self, context: SealContext) -> SharedSealing:
        """See `ClientSealing.begin`."""
        return SharedSealing(self._ring, self._public_key, context)

    def received(self, values: Vector, limit: float) -> tuple[Vector, int]:
        """See `ClientSealing.received`."""
        return received(values, limit, self._profile)

    def check_sum(self, body: bytes, num_values: int) -> None:
        """See `ClientSealing.check_sum`."""
        read_chunk(body, num_values, self._profile)

    def add_shares(self, shares: Sequence[bytes]) -> bytes:
        """Refuses: there are no shares."""
        raise SealError(f"scheme shared has no round keys, got {len(shares)} shares of one")

    def open(
        self, context: SealContext, *, num_members: int, bodies: Sequence[bytes], key_shares: Mapping[int, bytes]
    ) -> Vector:
        """See `ClientSealing.open`."""
        if key_shares:
            raise SealError(f"scheme shared has no round keys, got {len(key_shares)} shares of one")
        profile = self._profile
        starts = range(0, context.num_values, profile.chunk_values)
        if len(bodies) != len(starts):
            raise MessageError(f"expected {len(starts)} chunks of a sum, got {len(bodies)}")
        opened = np.empty(context.num_values, np.float32)
        for start, body in zip(starts, bodies, strict=True):
            part = opened[start : start + profile.chunk_values]
            total = np.stack(read_chunk(body, part.size, profile))
            plain = self._ring.open(total, self._secret)
            part[:] = dequantize(unpack(plain, part.size, profile), num_members, context.limit, profile)
        return opened
