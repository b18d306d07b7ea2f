"""The question: can who sees sealed sums and their results compute the secret key, without having any key?

A demonstration of the attack of `confide.bench.linear_attack` on real sums of this package's schemes. The adversary is
the server, or whoever reads what it stores: it holds the clients' sealed updates, adds them, and is told the results,
as happens when the averaged model comes back to it. It sends nothing and changes nothing.

- `published`, told results in float64: finds the whole key, and opens every client's update with it. Told results
  rounded to float32 the equations no longer hold exactly and this attack fails; that proves nothing about better ones.
- `shared`: fails, since an exact result says nothing of the noise.
- `onetime`: fails for the same reason, and there is no key that stays: the two sums are under two keys. The key of a
  sum is known to those that open it and is tried as well: it opens no single member's update.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from confide.bench.linear_attack import SeenSum, possible_share, solve_one_sum, solve_two_sums
from confide.bench.ring_algebra import Integers, Reals, RootValues, decode_reals, encode_reals
from confide.machine import describe_machine, installed_versions
from confide.membership.identity import Identity
from confide.membership.roster import Roster
from confide.seal import published, shamir
from confide.seal.adder import ModularAdder, read_chunk
from confide.seal.commonpoly import common_polynomial, round_seed
from confide.seal.fixedpoint import pack, quantize, unpack
from confide.seal.onetime import OneTimeClient
from confide.seal.profiles import Profile, get_profile
from confide.seal.scheme import ClientSealing, SealContext, SealingRound, ServerSealing
from confide.seal.shared import SharedClient, new_shared_keys
from confide.update import Vector

_RUN = "key-recovery"
_STDDEV = 0.02
_VERSIONED = ("confide", "numpy", "seal-python", "tenseal")
_OPENED_RIGHT = 1e-6  # a value of `published` this near counts as opened; updates are four orders larger
_ONE_SUM = "one sum and its result, the noise taken as 0"
_TWO_SUMS = "the equations that break published, from two sums"
_SUMMED_KEY = "the key of the whole sum, which those that open it know"

Pair = tuple[Integers, Integers]  # c0 and c1 at the roots


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """What came of one attempt.

    Attributes:
        scheme: attacked.
        profile: of the scheme; "" where it has none.
        tried: what the adversary used.
        possible_share: of the candidate's coefficients, how many can be a key's: 1 for the right key, next to none for
            a wrong one.
        opened_share: of one client's values, how many its own upload opens to with the candidate.
        is_recovered: both are 1.
        cpu_seconds: from what was seen to the candidate.
    """

    scheme: str
    profile: str
    tried: str
    possible_share: float
    opened_share: float
    is_recovered: bool
    cpu_seconds: float


@dataclass(frozen=True, kw_only=True)
class KeyRecovery:
    """All attempts, with what they ran on."""

    num_clients: int
    seed: int
    machine: Mapping[str, str | int]
    versions: Mapping[str, str]
    attempts: tuple[Attempt, ...]

    def to_dict(self) -> dict[str, object]:
        """As plain data for JSON."""
        return asdict(self)


def run_key_recovery(*, num_clients: int = 10, seed: int = 0) -> KeyRecovery:
    """Makes keys and sums of every scheme, and lets the adversary try.

    Args:
        num_clients: in every sum, 2 to 64.
        seed: of the updates; keys and noise never come from a seed.

    Raises:
        MissingExtraError: TenSEAL is not installed.
    """
    updates = Updates(num_clients, seed)
    attempts = (*attack_published(updates), *attack_shared(updates), *attack_onetime(updates))
    return KeyRecovery(
        num_clients=num_clients,
        seed=seed,
        machine=describe_machine(),
        versions=installed_versions(_VERSIONED),
        attempts=attempts,
    )


@dataclass(frozen=True, kw_only=True)
class RecordedRound:
    """What the server holds of one round; and, for opening the sum, the clients' sealings."""

    context: SealContext
    uploads: Sequence[bytes]
    total: bytes
    sealings: Sequence[SealingRound]


class Updates:
    """Invented updates of some clients, and rounds made of them.

    Args:
        num_clients: in every round.
        seed: of the updates.
    """

    def __init__(self, num_clients: int, seed: int) -> None:
        self.num_clients = num_clients
        self._seed = seed

    def of(self, round_number: int, client: int, num_values: int) -> Vector:
        """One client's update in one round."""
        generator = np.random.default_rng((self._seed, round_number, client))
        return generator.standard_normal(num_values, np.float32) * np.float32(_STDDEV)

    def record(self, client: ClientSealing, server: ServerSealing, num_values: int, round_number: int) -> RecordedRound:
        """Has everybody seal one chunk, and adds."""
        context = SealContext(
            run=_RUN, round_number=round_number, client="client", num_values=num_values, limit=client.initial_limit
        )
        sealings = [client.begin(context) for _ in range(self.num_clients)]
        uploads = []
        for number, sealing in enumerate(sealings):
            (body,) = sealing.chunks(self.of(round_number, number, num_values))
            uploads.append(body)
        total = server.add(uploads, num_values)
        return RecordedRound(context=context, uploads=uploads, total=total, sealings=sealings)


def attack_published(updates: Updates) -> list[Attempt]:
    """Two sums of one ciphertext each, with their results in float64 and in float32.

    Raises:
        MissingExtraError: TenSEAL is not installed.
    """
    num_values = published.SLOTS
    keys = published.new_published_keys()
    client, server = published.PublishedClient(keys), published.PublishedServer()
    rounds = [updates.record(client, server, num_values, number) for number in (1, 2)]
    exact = [keys.decrypt(one.total, num_values) for one in rounds]
    rounded = [one.astype(np.float32).astype(np.float64) for one in exact]
    told = {
        "two sums and their results in float64": exact,
        "the same, results rounded to float32 as `open` gives them": rounded,
    }
    roots = RootValues(published.PRIMES[1], published.RING_DEGREE)  # one prime is enough: the key is small
    attempts = []
    for tried, results in told.items():
        began = time.process_time()
        one, other = (_see_published(seen.total, told, roots) for seen, told in zip(rounds, results, strict=True))
        candidate = solve_two_sums(one, other, roots)
        seconds = time.process_time() - began
        opened = _open_published(rounds[0].uploads[0], candidate, roots)
        right = np.abs(opened - updates.of(1, 0, num_values)) < _OPENED_RIGHT
        attempts.append(_attempt("published", "", tried, candidate, 1, right, seconds))
    return attempts


def attack_shared(updates: Updates) -> list[Attempt]:
    """Two sums of one polynomial each, with their exact results."""
    profile = get_profile("shared", "compact")
    client = SharedClient(profile, new_shared_keys(profile))
    rounds = [updates.record(client, ModularAdder(profile), _full(profile), number) for number in (1, 2)]
    results = [
        client.open(one.context, num_members=updates.num_clients, bodies=[one.total], key_shares={}) for one in rounds
    ]
    return _attack_exact(updates, profile, rounds, results, shared_pair, bound=1, known={})


def attack_onetime(updates: Updates) -> list[Attempt]:
    """Two sums of one polynomial each, with their exact results, and the first sum's summed key."""
    profile = get_profile("onetime", "compact")
    roster = Roster([Identity.generate(f"client{number:02}").public for number in range(updates.num_clients)])
    threshold = updates.num_clients // 2 + 1
    client = OneTimeClient(profile, roster, threshold)
    rounds = [updates.record(client, ModularAdder(profile), _full(profile), number) for number in (1, 2)]
    shares = [_released(client, one.sealings, roster) for one in rounds]
    results = [
        client.open(one.context, num_members=updates.num_clients, bodies=[one.total], key_shares=released)
        for one, released in zip(rounds, shares, strict=True)
    ]
    by_point = {point: np.frombuffer(share, np.uint8) for point, share in shares[0].items()}
    summed_key = shamir.combine(by_point, threshold, updates.num_clients).astype(object)
    known = {_SUMMED_KEY: summed_key}
    return _attack_exact(updates, profile, rounds, results, onetime_pair, bound=updates.num_clients, known=known)


def _attack_exact(
    updates: Updates,
    profile: Profile,
    rounds: Sequence[RecordedRound],
    results: Sequence[Vector],
    pair: Callable[[bytes, SealContext, Profile, RootValues], Pair],
    *,
    bound: int,
    known: Mapping[str, Integers],
) -> list[Attempt]:
    """The same equations against a scheme that opens exactly."""
    roots = RootValues(profile.modulus[0], profile.ring_degree)
    began = time.process_time()
    one, other = (
        see_exact(pair(seen.total, seen.context, profile, roots), result, updates.num_clients, profile)
        for seen, result in zip(rounds, results, strict=True)
    )
    solved = {_ONE_SUM: solve_one_sum(one, roots), _TWO_SUMS: solve_two_sums(one, other, roots)}
    seconds = (time.process_time() - began) / len(solved)
    upload = pair(rounds[0].uploads[0], rounds[0].context, profile, roots)
    victim = quantize(updates.of(1, 0, _full(profile)), profile.initial_limit, profile).levels
    attempts = []
    for tried, candidate in {**solved, **known}.items():
        right = open_exact(upload, candidate, profile, roots) == victim
        taken = seconds if tried in solved else 0.0
        attempts.append(_attempt(profile.scheme, profile.name, tried, candidate, bound, right, taken))
    return attempts


def _attempt(
    scheme: str,
    profile: str,
    tried: str,
    candidate: Integers,
    bound: int,
    right: npt.NDArray[np.bool_],
    seconds: float,
) -> Attempt:
    possible, opened = possible_share(candidate, bound), float(right.mean())
    return Attempt(
        scheme=scheme,
        profile=profile,
        tried=tried,
        possible_share=possible,
        opened_share=opened,
        is_recovered=possible == opened == 1.0,
        cpu_seconds=seconds,
    )


def _see_published(body: bytes, results: Reals, roots: RootValues) -> SeenSum:
    first, second = _published_pair(body, len(results), roots)
    both = encode_reals(2 * results, published.SCALE)  # m' + conj(m'), in integers exactly
    return SeenSum(first=first, second=second, result=both * pow(2, -1, roots.prime))


def _published_pair(body: bytes, num_values: int, roots: RootValues) -> Pair:
    (ciphertext,) = published.read_ciphertexts(body, num_values)
    prime = published.PRIMES.index(roots.prime)
    return roots.from_seal_order(ciphertext[0, prime]), roots.from_seal_order(ciphertext[1, prime])


def _open_published(body: bytes, candidate: Integers, roots: RootValues) -> Reals:
    """Opens an upload with a candidate: c0 + c1 s is small enough to be known from one prime."""
    first, second = _published_pair(body, published.SLOTS, roots)
    opened = roots.to_coefficients(first + second * roots.from_coefficients(candidate))
    return decode_reals(opened, published.SCALE)


def _full(profile: Profile) -> int:
    """Values of one full polynomial."""
    return profile.ring_degree * profile.values_per_coefficient


def shared_pair(body: bytes, context: SealContext, profile: Profile, roots: RootValues) -> Pair:
    """A chunk of one full polynomial of scheme `shared`, at the roots."""
    row = read_chunk(body, context.num_values, profile)[0].astype(object)
    return roots.from_coefficients(row[: roots.degree]), roots.from_coefficients(row[roots.degree :])


def onetime_pair(body: bytes, context: SealContext, profile: Profile, roots: RootValues) -> Pair:
    """A chunk of one full polynomial of scheme `onetime`, at the roots; the second is common, everybody computes it."""
    row = read_chunk(body, context.num_values, profile)[0].astype(object)
    seed = round_seed(profile.digest, context.run, context.round_number)
    common = common_polynomial(seed, 0, roots.prime, roots.degree).astype(object)
    return roots.from_coefficients(row), roots.from_coefficients(common)


def see_exact(pair: Pair, opened: Vector, num_clients: int, profile: Profile) -> SeenSum:
    """The opened floats give the sum of the integers back, exactly; q m / t is then the best guess at m'."""
    half_range = (1 << (profile.value_bits - 1)) - 1
    steps = np.rint(opened.astype(np.float64) / profile.initial_limit * half_range).astype(np.int64)
    levels = (steps + num_clients * (half_range + 1)).astype(np.uint64)
    modulus, plain_modulus = profile.modulus[0], profile.plain_modulus
    result = (pack(levels, profile).astype(object) * modulus + plain_modulus // 2) // plain_modulus
    return SeenSum(first=pair[0], second=pair[1], result=result)


def open_exact(pair: Pair, candidate: Integers, profile: Profile, roots: RootValues) -> npt.NDArray[np.uint64]:
    """The levels that an upload opens to with a candidate, as Fan and Vercauteren decrypt: round(t m' / q) modulo t."""
    opened = roots.to_coefficients(pair[0] + pair[1] * roots.from_coefficients(candidate)) % roots.prime
    plain = (opened * profile.plain_modulus + roots.prime // 2) // roots.prime % profile.plain_modulus
    return unpack(plain.astype(np.uint64), _full(profile), profile)


def _released(client: OneTimeClient, sealings: Sequence[SealingRound], roster: Roster) -> dict[int, bytes]:
    """Every client's share of the sum of the keys, by its point."""
    held = [sealing.shares() for sealing in sealings]
    return {roster.point_of(name): client.add_shares([one[name] for one in held]) for name in roster.names}
