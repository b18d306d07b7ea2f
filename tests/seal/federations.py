"""Clients and a server of every scheme, for tests: who seals, who adds, who opens."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec

import numpy as np
import pytest

from confide.membership.identity import Identity
from confide.membership.roster import Roster
from confide.seal.adder import ModularAdder
from confide.seal.onetime import OneTimeClient
from confide.seal.plain import PlainClient, PlainServer
from confide.seal.profiles import Profile, get_profile
from confide.seal.published import SLOTS, PublishedClient, PublishedServer, new_published_keys
from confide.seal.scheme import ClientSealing, SealContext, SealingRound, ServerSealing
from confide.seal.shared import SharedClient, new_shared_keys
from confide.update import Vector

RUN = "test"
ONETIME = ("onetime/compact", "onetime/precise", "onetime/ultra")
RINGS = ("shared/compact", "shared/precise", *ONETIME)
SCHEMES = ("plain", "published", *RINGS)

needs_tenseal = pytest.mark.skipif(find_spec("tenseal") is None, reason="TenSEAL is not installed (extra published)")


def each(labels: Sequence[str]) -> pytest.MarkDecorator:
    """Runs a test for each scheme, with `published` only where it can run."""
    marks = {"published": needs_tenseal}
    return pytest.mark.parametrize("label", [pytest.param(x, marks=marks[x]) if x in marks else x for x in labels])


@dataclass(frozen=True, kw_only=True)
class Federation:
    """Both halves of one scheme, and how many values fill a polynomial."""

    client: ClientSealing
    server: ServerSealing
    roster: Roster
    threshold: int
    profile: Profile | None
    polynomial_values: int

    def context(self, num_values: int, round_number: int = 1, limit: float | None = None) -> SealContext:
        return SealContext(
            run=RUN,
            round_number=round_number,
            client=self.roster.names[0],
            num_values=num_values,
            limit=limit or self.client.initial_limit or 1.0,
        )

    def seal(self, values: Vector, round_number: int = 1) -> "Upload":
        sealing = self.client.begin(self.context(values.size, round_number))
        bodies = list(sealing.chunks(values))
        return Upload(sealing=sealing, bodies=bodies, shares=sealing.shares(), num_values=values.size)

    def add(self, uploads: Sequence["Upload"]) -> list[bytes]:
        size = self.server.chunk_values
        num_values = uploads[0].num_values
        return [
            self.server.add(list(bodies), min(size, num_values - chunk * size))
            for chunk, bodies in enumerate(zip(*(upload.bodies for upload in uploads), strict=True))
        ]

    def release(self, uploads: Sequence["Upload"], names: Sequence[str] | None = None) -> dict[int, bytes]:
        """The shares of the uploads' summed key that these clients hold; the first `threshold` by default."""
        if not self.client.needs_release:
            return {}
        return {
            self.roster.point_of(name): self.client.add_shares([upload.shares[name] for upload in uploads])
            for name in (self.roster.names[: self.threshold] if names is None else names)
        }

    def open(self, uploads: Sequence["Upload"], round_number: int = 1) -> Vector:
        return self.client.open(
            self.context(uploads[0].num_values, round_number),
            num_members=len(uploads),
            bodies=self.add(uploads),
            key_shares=self.release(uploads),
        )


@dataclass(frozen=True, kw_only=True)
class Upload:
    """What one client made in one round; the shares stay secret in earnest."""

    sealing: SealingRound
    bodies: list[bytes]
    shares: dict[str, bytes]
    num_values: int


@cache
def roster(num_clients: int) -> Roster:
    return Roster([Identity.generate(f"client{number:02}").public for number in range(num_clients)])


@cache
def federation(label: str, num_clients: int = 5, threshold: int | None = None) -> Federation:
    scheme, _, name = label.partition("/")
    members = roster(num_clients)
    threshold = threshold or num_clients // 2 + 1
    profile = get_profile(scheme, name) if name else None
    client: ClientSealing
    server: ServerSealing
    if profile is None:
        client = PlainClient() if scheme == "plain" else PublishedClient(new_published_keys())
        server = PlainServer() if scheme == "plain" else PublishedServer()
    else:
        server = ModularAdder(profile)
        if scheme == "shared":
            client = SharedClient(profile, new_shared_keys(profile))
        else:
            client = OneTimeClient(profile, members, threshold)
    return Federation(
        client=client,
        server=server,
        roster=members,
        threshold=threshold,
        profile=profile,
        polynomial_values=SLOTS if profile is None else profile.ring_degree * profile.values_per_coefficient,
    )


def updates(count: int, num_values: int, seed: int = 0) -> list[Vector]:
    """Normal values with standard deviation 0.02: 6.25 of them fit the narrowest range, so that none saturates."""
    rng = np.random.default_rng(seed)
    return [rng.normal(0, 0.02, num_values).clip(-0.12, 0.12).astype(np.float32) for _ in range(count)]
