"""Scheme `onetime`: every client seals under a fresh key of its own, and only the sum of a list of members opens.

A client draws a ternary secret s for the round and sends b = Delta m + e - a s for each polynomial m, where `a` is
public and common to all clients. The b's of the members add up to Delta sum(m) + sum(e) - a sum(s), so who knows the
sum of the secrets opens the sum of the values and nothing else. Each secret is Shamir-shared among the clients of the
roster; they add the shares of one list's members and release the result, so no single secret is ever put together.

Source: SEALING.md's scheme T2; the family of Bell et al. 2020, "Secure Single-Server Aggregation with
(Poly)Logarithmic Overhead", section on RLWE; LERNA, OPA and Willow. This composition has had no outside review.
"""

import itertools
import logging
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NoReturn, Protocol

import numpy as np

from confide.errors import MessageError, SealError, SecretKeyError
from confide.membership.roster import Roster
from confide.seal import shamir
from confide.seal.adder import read_chunk, write_chunk
from confide.seal.coefficients import Coefficients
from confide.seal.commonpoly import common_polynomial, round_seed
from confide.seal.fixedpoint import dequantize, pack, quantize, received, unpack
from confide.seal.profiles import POLYNOMIALS_PER_CHUNK, Profile
from confide.seal.ring import Ring, RingSecret
from confide.seal.scheme import SealContext
from confide.update import Vector

_KEY_ID_BYTES = 16
_MAX_SUBSETS = 500

_logger = logging.getLogger(__name__)


class ChunkSealer(Protocol):
    """Who seals a vector's chunks: this process, or several (`confide.seal.parallel`)."""

    def chunks(self, secret: RingSecret, context: SealContext, values: Vector) -> Iterator[bytes]:
        """Seals the values (private) under a secret that seals nothing else; the chunks in order."""
        ...


class OneProcess:
    """Seals here, one chunk after the other."""

    def __init__(self, ring: Ring) -> None:
        self._ring = ring

    def chunks(self, secret: RingSecret, context: SealContext, values: Vector) -> Iterator[bytes]:
        """See `ChunkSealer.chunks`."""
        profile = self._ring.profile
        seed = round_seed(profile.digest, context.run, context.round_number)
        for chunk, start in enumerate(range(0, values.size, profile.chunk_values)):
            part = values[start : start + profile.chunk_values]
            yield seal_chunk(self._ring, secret, part, seed=seed, limit=context.limit, chunk=chunk)


def seal_chunk(ring: Ring, secret: RingSecret, values: Vector, *, seed: bytes, limit: float, chunk: int) -> bytes:
    """Seals one chunk.

    Args:
        ring: of the profile.
        secret: private, of the round.
        values: private, those of the chunk.
        seed: of the round's common polynomials; see `round_seed`.
        limit: fixed-point range of the round.
        chunk: the chunk's number in the vector, from 0.

    Raises:
        SecretKeyError: the secret sealed this chunk before.
        NonFiniteUpdateError: a value is NaN or infinite.
    """
    plain = pack(quantize(values, limit, ring.profile).levels, ring.profile)
    return write_chunk([ring.seal(secret, plain, _common(seed, ring.profile, chunk))], ring.profile)


class OneTimeSealing:
    """One client's sealing of one round: holds the round's secret key, which leaves it only in shares.

    Args:
        ring: of the profile.
        sealer: does the work.
        context: of the round.
        names: of the roster, in order.
        threshold: how many shares open a sum.
    """

    def __init__(
        self, ring: Ring, sealer: ChunkSealer, context: SealContext, names: Sequence[str], threshold: int
    ) -> None:
        self.key_id = secrets.token_hex(_KEY_ID_BYTES)
        self._sealer = sealer
        self._context = context
        self._names = names
        self._threshold = threshold
        self._secret: RingSecret | None = ring.new_secret()
        self._coefficients = self._secret.coefficients()

    def __repr__(self) -> str:
        return f"OneTimeSealing(round {self._context.round_number}, key hidden)"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise SecretKeyError("a round key cannot be copied or pickled: it must not leave its process")

    def chunks(self, values: Vector) -> Iterator[bytes]:
        """See `SealingRound.chunks`."""
        secret, self._secret = self._secret, None
        if secret is None:
            raise SecretKeyError("a round key seals one vector only; this one is used up")
        if values.size != self._context.num_values:
            raise SealError(f"expected {self._context.num_values} values to seal, got {values.size}")
        return self._sealer.chunks(secret, self._context, values)

    def shares(self) -> dict[str, bytes]:
        """See `SealingRound.shares`."""
        shares = shamir.split(self._coefficients, len(self._names), self._threshold)
        return {name: share.tobytes() for name, share in zip(self._names, shares, strict=True)}


class OneTimeClient:
    """Clients' half of scheme `onetime`.

    Args:
        profile: of scheme "onetime".
        roster: of the federation; its order numbers the shares.
        threshold: how many clients open a sum together; more than half of the roster.
        sealer: does the sealing; this process if not given.

    Raises:
        SealError: the threshold is not more than half of the roster, or the roster too large for the profile.
    """

    name = "onetime"
    is_sealed = True
    needs_release = True

    def __init__(self, profile: Profile, roster: Roster, threshold: int, *, sealer: ChunkSealer | None = None) -> None:
        num_clients = len(roster.names)
        if not num_clients / 2 < threshold <= num_clients:
            raise SealError(
                f"a threshold of {threshold} of {num_clients} clients: it must be more than half of them, so that no "
                "two lists of members can both open while fewer than 2 * threshold - clients of them collude"
            )
        if num_clients > profile.max_clients:
            raise SealError(f"profile {profile.name} takes at most {profile.max_clients} clients, not {num_clients}")
        if profile.max_clients > shamir.LARGEST_SUM:
            raise SealError(f"sums of the keys of {profile.max_clients} clients do not fit the field of their shares")
        self.profile_name = profile.name
        self.digest = profile.digest
        self.chunk_values = profile.chunk_values
        self.initial_limit = profile.initial_limit
        self.description = (
            f"sealed: nobody can open one client's update; any {threshold} of {num_clients} clients together open the "
            "sum over a list that its members signed"
        )
        self._profile = profile
        self._names = roster.names
        self._threshold = threshold
        self._ring = Ring(profile)
        self._sealer = sealer or OneProcess(self._ring)

    def begin(self, context: SealContext) -> OneTimeSealing:
        """See `ClientSealing.begin`."""
        return OneTimeSealing(self._ring, self._sealer, context, self._names, self._threshold)

    def received(self, values: Vector, limit: float) -> tuple[Vector, int]:
        """See `ClientSealing.received`."""
        return received(values, limit, self._profile)

    def check_sum(self, body: bytes, num_values: int) -> None:
        """See `ClientSealing.check_sum`."""
        read_chunk(body, num_values, self._profile)

    def add_shares(self, shares: Sequence[bytes]) -> bytes:
        """See `ClientSealing.add_shares`."""
        return shamir.add_shares([self._read_share(share) for share in shares]).tobytes()

    def open(
        self, context: SealContext, *, num_members: int, bodies: Sequence[bytes], key_shares: Mapping[int, bytes]
    ) -> Vector:
        """See `ClientSealing.open`."""
        profile = self._profile
        shares = self._read_what_is_one(key_shares)
        summed_secret = _combine_what_fits(shares, self._names, self._threshold, num_members)
        seed = round_seed(profile.digest, context.run, context.round_number)
        opened = np.empty(context.num_values, np.float32)
        starts = range(0, context.num_values, profile.chunk_values)
        if len(bodies) != len(starts):
            raise MessageError(f"expected {len(starts)} chunks of a sum, got {len(bodies)}")
        for chunk, (start, body) in enumerate(zip(starts, bodies, strict=True)):
            part = opened[start : start + profile.chunk_values]
            (total,) = read_chunk(body, part.size, profile)
            plain = self._ring.open(total, summed_secret, _common(seed, profile, chunk))
            part[:] = dequantize(unpack(plain, part.size, profile), num_members, context.limit, profile)
        return opened

    def _read_share(self, share: bytes) -> shamir.Share:
        if len(share) != self._profile.ring_degree:
            raise SealError(f"a share of a round key has {self._profile.ring_degree} bytes, got {len(share)}")
        numbers = np.frombuffer(share, np.uint8)
        if int(numbers.max()) >= shamir.FIELD:
            raise SealError(f"a share of a round key holds a number that is not below {shamir.FIELD}")
        return numbers

    def _read_what_is_one(self, key_shares: Mapping[int, bytes]) -> dict[int, shamir.Share]:
        """The shares that are well-formed; what is none is left out.

        Raises:
            SealError: too few are left then.
        """
        shares, wrong = {}, []
        for point, share in key_shares.items():
            try:
                shares[point] = self._read_share(share)
            except SealError as error:
                wrong.append(f"{self._names[point - 1]}: {error}")
        if wrong and len(shares) < self._threshold:
            raise SealError(
                f"{len(shares)} of {len(key_shares)} released shares are well-formed, {self._threshold} are needed to "
                f"open. Wrong are those of {'; '.join(wrong)}"
            )
        for reason in wrong:
            _logger.warning("a released share is left out: that of %s", reason)
        return shares


def _common(seed: bytes, profile: Profile, chunk: int) -> Callable[[int], Coefficients]:
    """The public polynomials of one chunk."""
    first = chunk * POLYNOMIALS_PER_CHUNK
    return lambda index: common_polynomial(seed, first + index, profile.modulus[0], profile.ring_degree)


def _combine_what_fits(
    shares: Mapping[int, shamir.Share], names: Sequence[str], threshold: int, num_members: int
) -> shamir.SecretCoefficients:
    """The summed key, also where some of the shares are wrong and enough others are there.

    A sum of ternary keys is small, and what a wrong share gives is not: so a subset that gives a small key is right.
    For a share of another list, of another round, or made up, that fails with a probability of at most (129 / 251) **
    4096, below 2**-3900, for each subset (see `shamir.combine`). Who holds a share can also change it by a little, so
    that the key stays small and is wrong; then the sum opens to random numbers, as with any other wrong key.
    Leaves out none, then each share, then each pair and so on, up to `_MAX_SUBSETS`.

    Raises:
        SealError: no subset that was tried fits; the message is about all shares together.
    """
    try:
        return shamir.combine(shares, threshold, num_members)
    except SealError as error:
        first = error
    subsets = (
        left_out for size in range(1, len(shares) - threshold + 1) for left_out in itertools.combinations(shares, size)
    )
    for left_out in itertools.islice(subsets, _MAX_SUBSETS):
        rest = {point: share for point, share in shares.items() if point not in left_out}
        try:
            found = shamir.combine(rest, threshold, num_members)
        except SealError:
            continue
        holders = ", ".join(names[point - 1] for point in left_out)
        _logger.warning("released shares do not fit the others and are left out: those of %s", holders)
        return found
    raise first
