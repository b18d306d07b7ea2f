"""Measures one scheme of the sealing benchmark, with all parties in this process; see `sealing_work.SealingRow`."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from confide.bench.memory import peak_resident_mb, resident_mb
from confide.bench.sealing_bytes import count_round
from confide.bench.sealing_work import BASELINE, SealingRow, SealingWork
from confide.membership.frames import FrameSpec, sum_to_bytes, write_frames
from confide.membership.groupkey import encrypt_for_group, new_key_part
from confide.membership.identity import Identity
from confide.membership.ledger import MemoryLedger
from confide.membership.roster import SIGNATURE_BYTES, Roster
from confide.parties.key_holder import KeyHolder
from confide.parties.server import SPARE_SHARES
from confide.seal.adder import ModularAdder
from confide.seal.onetime import OneTimeClient
from confide.seal.plain import PlainClient, PlainServer
from confide.seal.profiles import get_profile
from confide.seal.published import PublishedClient, PublishedServer, new_published_keys
from confide.seal.scheme import ClientSealing, SealContext, SealingRound, ServerSealing
from confide.seal.shared import SharedClient, new_shared_keys
from confide.update import Vector

_RUN = "bench"
_ROUND = 1
_STDDEV = 0.02
_MIN_CLIENTS = 1

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Bench:
    """The parties of a row: `num_clients` members, their keys, and both halves of the scheme."""

    roster: Roster
    identities: tuple[Identity, ...]
    threshold: int
    client: ClientSealing
    server: ServerSealing

    def context(self, number: int, num_values: int) -> SealContext:
        """Of the one round, for the client with this number."""
        return SealContext(
            run=_RUN,
            round_number=_ROUND,
            client=self.roster.names[number],
            num_values=num_values,
            limit=self.client.initial_limit or 1.0,
        )

    def spec(self, num_values: int) -> FrameSpec:
        """Of the one round's frames."""
        return FrameSpec(
            sealing_digest=self.client.digest,
            roster_digest=self.roster.digest,
            run=_RUN,
            round_number=_ROUND,
            num_values=num_values,
            limit=self.client.initial_limit or 1.0,
            chunk_values=self.client.chunk_values,
        )


Halves = tuple[ClientSealing, ServerSealing]


def _plain(profile: str, roster: Roster, threshold: int) -> Halves:
    del profile, roster, threshold
    return PlainClient(), PlainServer()


def _published(profile: str, roster: Roster, threshold: int) -> Halves:
    del profile, roster, threshold
    return PublishedClient(new_published_keys()), PublishedServer()


def _shared(profile: str, roster: Roster, threshold: int) -> Halves:
    del roster, threshold
    parameters = get_profile("shared", profile)
    return SharedClient(parameters, new_shared_keys(parameters)), ModularAdder(parameters)


def _onetime(profile: str, roster: Roster, threshold: int) -> Halves:
    parameters = get_profile("onetime", profile)
    return OneTimeClient(parameters, roster, threshold), ModularAdder(parameters)


_MAKERS: Mapping[str, Callable[[str, Roster, int], Halves]] = MappingProxyType(
    {"plain": _plain, "published": _published, "shared": _shared, "onetime": _onetime}
)


def make_bench(label: str, num_clients: int) -> Bench:
    """Makes fresh identities, keys and halves for a row of `sealing_work.SCHEMES`.

    Raises:
        MissingExtraError: the scheme's library is not installed.
    """
    scheme, _, profile = label.partition("/")
    identities = tuple(Identity.generate(f"client{number:03}") for number in range(num_clients))
    roster = Roster([identity.public for identity in identities])
    threshold = num_clients // 2 + 1
    client, server = _MAKERS[scheme](profile, roster, threshold)
    return Bench(roster=roster, identities=identities, threshold=threshold, client=client, server=server)


def make_update(seed: int, number: int, num_values: int) -> Vector:
    """One client's invented update: independent normal values. Made in float32, so that no larger copy is about."""
    update = np.random.default_rng((seed, number)).standard_normal(num_values, np.float32)
    update *= np.float32(_STDDEV)
    return update


class CpuClock:
    """Adds up CPU seconds of this process."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def run(self, work: Callable[[], T]) -> T:
        """Does some work, counted."""
        began = time.process_time()
        try:
            return work()
        finally:
            self.seconds += time.process_time() - began

    def each(self, items: Iterable[T]) -> Iterator[T]:
        """Hands items on; counted is what making each of them takes, not what is done with it."""
        iterator = iter(items)
        while True:
            try:
                item = self.run(lambda: next(iterator))
            except StopIteration:
                return
            yield item


def measure_row(work: SealingWork) -> SealingRow:
    """Measures one row.

    Raises:
        MissingExtraError: the scheme's library is not installed.
    """
    bench = make_bench(work.scheme, work.num_clients)
    alone = seal_and_drop(bench, make_update(work.seed, 0, work.num_values))
    updates = [make_update(work.seed, number, work.num_values) for number in range(work.num_clients)]
    passes = [_pass(bench, updates) for _ in range(1 if work.scheme == BASELINE else work.repeats)]
    last = passes[-1]
    shares = _released_shares(bench, last.sealings)
    opened, open_seconds = _open(bench, last.bodies, shares, work)
    errors = opened - np.sum(updates, axis=0, dtype=np.float64)
    keys = _key_material(bench, work.num_values)
    sent = count_round(
        roster=bench.roster,
        run=_RUN,
        sealing_digest=bench.client.digest,
        num_values=work.num_values,
        frames_bytes=alone.num_bytes,
        total_bytes=len(sum_to_bytes(last.bodies, bench.spec(work.num_values))),
        envelopes=keys.envelopes,
        released=_released_bodies(bench, shares),
    )
    seal_seconds = (alone.seconds, *(seconds for one in passes for seconds in one.seal_seconds))
    add_seconds = tuple(one.add_seconds for one in passes)
    scheme, _, profile = work.scheme.partition("/")
    return SealingRow(
        scheme=scheme,
        profile=profile,
        num_values=work.num_values,
        num_clients=work.num_clients,
        seal_values_per_cpu_second=work.num_values / min(seal_seconds),
        add_values_per_cpu_second=work.num_values * work.num_clients / min(add_seconds),
        open_values_per_cpu_second=work.num_values / min(open_seconds),
        seal_cpu_seconds=seal_seconds,
        add_cpu_seconds=add_seconds,
        open_cpu_seconds=open_seconds,
        frame_cpu_seconds=alone.frame_seconds,
        key_cpu_seconds=keys.cpu_seconds,
        upload_bytes_per_value=sent.upload / work.num_values,
        download_bytes_per_value=sent.download / work.num_values,
        vector_bytes_per_value=alone.num_bytes / work.num_values,
        key_bytes_per_peer=sum(map(len, keys.envelopes.values())) / work.num_clients,
        seal_memory_mb=alone.memory_mb,
        peak_mb=peak_resident_mb(),
        max_abs_error=float(np.abs(errors).max()),
        rms_error=math.sqrt(float(np.mean(errors**2))),
    )


@dataclass(frozen=True, kw_only=True)
class Alone:
    """What one client's upload took."""

    num_bytes: int
    seconds: float
    frame_seconds: float
    memory_mb: float


def seal_and_drop(bench: Bench, update: Vector) -> Alone:
    """One client seals and frames its vector; every frame is dropped as soon as it is made."""
    spec, context = bench.spec(update.size), bench.context(0, update.size)
    before = resident_mb()
    sealing, whole = CpuClock(), CpuClock()
    bodies = sealing.each(bench.client.begin(context).chunks(update))
    frames = whole.each(write_frames(spec, 1, bodies, bench.identities[0].sign))
    num_bytes = sum(len(frame) for frame in frames)
    return Alone(
        num_bytes=num_bytes,
        seconds=sealing.seconds,
        frame_seconds=whole.seconds - sealing.seconds,
        memory_mb=max(0.0, peak_resident_mb() - before),
    )


@dataclass(frozen=True, kw_only=True)
class _Pass:
    """A round: everybody seals, the server adds, chunk by chunk, so that only one chunk of each client is in memory."""

    bodies: list[bytes]
    sealings: list[SealingRound]
    seal_seconds: list[float]
    add_seconds: float


def _pass(bench: Bench, updates: Sequence[Vector]) -> _Pass:
    num_values = updates[0].size
    spec = bench.spec(num_values)
    sealings = [bench.client.begin(bench.context(number, num_values)) for number in range(len(updates))]
    clocks, adding = [CpuClock() for _ in updates], CpuClock()
    streams = [
        clock.each(sealing.chunks(update)) for clock, sealing, update in zip(clocks, sealings, updates, strict=True)
    ]
    total = []
    for chunk in range(spec.num_chunks):
        bodies = [next(stream) for stream in streams]
        total.append(adding.run(partial(bench.server.add, bodies, spec.values_in(chunk))))
    return _Pass(
        bodies=total,
        sealings=sealings,
        seal_seconds=[clock.seconds for clock in clocks],
        add_seconds=adding.seconds,
    )


def _released_shares(bench: Bench, sealings: Sequence[SealingRound]) -> dict[int, bytes]:
    """The clients' shares of the summed key that a server sends on, by point; none in a scheme without."""
    if not bench.client.needs_release:
        return {}
    held = [sealing.shares() for sealing in sealings]
    return {
        bench.roster.point_of(name): bench.client.add_shares([shares[name] for shares in held])
        for name in bench.roster.names[: bench.threshold + SPARE_SHARES]
    }


def _open(
    bench: Bench, bodies: Sequence[bytes], shares: Mapping[int, bytes], work: SealingWork
) -> tuple[npt.NDArray[np.float32], tuple[float, ...]]:
    context = bench.context(0, work.num_values)
    seconds = []
    for _ in range(work.repeats):
        began = time.process_time()
        opened = bench.client.open(context, num_members=work.num_clients, bodies=bodies, key_shares=shares)
        seconds.append(time.process_time() - began)
    return opened, tuple(seconds)


@dataclass(frozen=True, kw_only=True)
class _KeyMaterial:
    envelopes: Mapping[str, bytes]
    cpu_seconds: float


def _key_material(bench: Bench, num_values: int) -> _KeyMaterial:
    """One client's envelopes of one round."""
    holder = KeyHolder(
        identity=bench.identities[0],
        roster=bench.roster,
        ledger=MemoryLedger(),
        sealing=bench.client,
        min_clients=_MIN_CLIENTS,
        threshold=bench.threshold,
    )
    context = bench.context(0, num_values)
    clock = CpuClock()
    envelopes = clock.run(lambda: holder.address(context, bench.client.begin(context)))
    return _KeyMaterial(envelopes=envelopes, cpu_seconds=clock.seconds)


def _released_bodies(bench: Bench, shares: Mapping[int, bytes]) -> dict[str, bytes]:
    """Each share as it is released: encrypted for the clients, and signed."""
    key = new_key_part()
    return {
        f"release {bench.roster.names[point - 1]}": bytes(SIGNATURE_BYTES) + encrypt_for_group(key, share, b"bench")
        for point, share in shares.items()
    }
