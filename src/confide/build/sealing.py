"""From a configuration to a sealing scheme, the pruning, and where clients keep what is private."""

import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from confide.config.schema import Config
from confide.errors import ConfigError
from confide.files import remove_temporaries
from confide.membership.ledger import FileLedger, MemoryLedger, ReleaseLedger
from confide.membership.roster import Roster
from confide.membership.tried import TriedSums
from confide.parties.state import FilePending, MemoryPending, PendingStore
from confide.seal.adder import ModularAdder
from confide.seal.onetime import OneTimeClient
from confide.seal.parallel import SealingWorkers
from confide.seal.plain import PlainClient, PlainServer
from confide.seal.profiles import get_profile
from confide.seal.published import PublishedClient, PublishedServer, new_published_keys
from confide.seal.scheme import ClientSealing, ServerSealing
from confide.seal.shared import SharedClient, new_shared_keys


@dataclass(frozen=True, kw_only=True)
class SealingPair:
    """Both halves of a sealing scheme; they part here, each to its side."""

    client: ClientSealing
    server: ServerSealing


def build_sealing(config: Config, roster: Roster, threshold: int) -> SealingPair:
    """The scheme by its name, both halves.

    Raises:
        ConfigError: it cannot take so many clients.
        MissingExtraError: its library is an extra that is not installed.
    """
    schemes: Mapping[str, Callable[[], SealingPair]] = {
        "plain": lambda: SealingPair(client=PlainClient(), server=PlainServer()),
        "published": _published,
        "shared": lambda: _shared(config, len(roster.names)),
        "onetime": lambda: _onetime(config, roster, threshold),
    }
    return schemes[config.seal.scheme]()


def _onetime(config: Config, roster: Roster, threshold: int) -> SealingPair:
    profile = get_profile("onetime", config.seal.profile)
    _check_room(config, len(roster.names), profile.max_clients)
    sealer = None if config.seal.processes == 1 else SealingWorkers(profile, config.seal.processes)
    client = OneTimeClient(profile, roster, threshold, sealer=sealer)
    if sealer is not None:
        weakref.finalize(client, sealer.close)  # with the last party that seals, or at the end of the program
    return SealingPair(client=client, server=ModularAdder(profile))


def _shared(config: Config, num_clients: int) -> SealingPair:
    profile = get_profile("shared", config.seal.profile)
    _check_room(config, num_clients, profile.max_clients)
    keys = new_shared_keys(profile)
    return SealingPair(client=SharedClient(profile, keys), server=ModularAdder(profile))


def _published() -> SealingPair:
    keys = new_published_keys()
    return SealingPair(client=PublishedClient(keys), server=PublishedServer())


def _check_room(config: Config, num_clients: int, max_clients: int) -> None:
    if num_clients > max_clients:
        raise ConfigError(
            f'seal.scheme is "{config.seal.scheme}", whose sums hold at most {max_clients} clients, and the data has '
            f"{num_clients}. Put clients together, or use fewer."
        )


def build_ledger(private: Path | None, point: int) -> ReleaseLedger:
    """Where client number `point` remembers its releases; in memory without a folder."""
    return MemoryLedger() if private is None else FileLedger(own_folder(private, point) / "releases.jsonl")


def build_tried_sums(private: Path | None, point: int) -> TriedSums:
    """Where client number `point` remembers which sums it tried to open; in memory without a folder."""
    return TriedSums(None if private is None else own_folder(private, point) / "tried.json")


def build_pending_store(private: Path | None, point: int) -> PendingStore:
    """Where client number `point` keeps a pending upload; in memory without a folder."""
    return MemoryPending() if private is None else FilePending(own_folder(private, point) / "pending")


def build_kept_store(private: Path | None, point: int) -> PendingStore:
    """Where client number `point` keeps what it released in a round; in memory without a folder."""
    return MemoryPending() if private is None else FilePending(own_folder(private, point) / "kept")


def own_folder(private: Path, point: int) -> Path:
    """Where client number `point` keeps what is its own."""
    folder = private / f"{point:04d}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # what a client keeps to itself
    remove_temporaries(folder)
    return folder
