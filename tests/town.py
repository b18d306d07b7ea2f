"""A small federation with real parties, a fake training and a transport that a test can disturb."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from confide.aggregate.optimizers import FedAvg, FedAvgM
from confide.aggregate.step import GlobalStep, payload_layout
from confide.data.examples import TokenizedExample
from confide.global_state import GlobalState
from confide.membership.identity import Identity
from confide.membership.ledger import FileLedger, MemoryLedger, ReleaseLedger
from confide.membership.roster import Roster
from confide.membership.tried import TriedSums
from confide.messages import decode
from confide.parties.client import Client
from confide.parties.key_holder import KeyHolder
from confide.parties.payload import num_sealed_values
from confide.parties.rules import ClientRules
from confide.parties.server import PayloadShape, Server
from confide.parties.state import ClientState, FilePending, MemoryPending, PendingStore
from confide.privacy.plan import NoPrivacy
from confide.privacy.releases import MemoryReleases
from confide.prune.plan import Pruning
from confide.prune.schedules import ConstantSparsity
from confide.round import RoundResult, open_federation, run_round
from confide.round_record import RoundNotes
from confide.seal.adder import ModularAdder
from confide.seal.onetime import OneTimeClient
from confide.seal.plain import PlainClient, PlainServer
from confide.seal.profiles import get_profile
from confide.seal.scheme import ClientSealing
from confide.seeds import stream
from confide.train.outcome import LocalMetrics, LocalResult
from confide.transport.base import Reply
from confide.transport.inprocess import InProcessTransport
from confide.update import Layout, Slot, Vector

LAYOUT = Layout((Slot(name="w", shape=(2, 2)),))
NAMES = ("east", "north", "south", "west")
SIZES = dict(zip(NAMES, (1, 2, 3, 4), strict=True))
EXAMPLE = TokenizedExample(record_id="x", input_ids=np.array([1, 2]), loss_mask=np.array([False, True]))


class FakeTrainer:
    """Moves the adapter towards a target of each client's own, and remembers how it was called."""

    def __init__(self, names: Sequence[str] = NAMES) -> None:
        self.names = names
        self.calls: list[dict[str, Any]] = []

    def train(self, **arguments: Any) -> LocalResult:
        self.calls.append(arguments)
        target = np.full(4, self.names.index(arguments["client"]) + 1, np.float32)
        start: Vector = arguments["start"]
        metrics = LocalMetrics(
            num_steps=1,
            num_examples=2,
            num_tokens=4,
            num_targets=2,
            loss=float(np.abs(target - start).mean()),
            first_loss=1.0,
            last_loss=1.0,
            regularizer=0.0,
            gradient_norm=1.0,
            seconds=0.01,
        )
        return LocalResult(vector=start + np.float32(arguments["learning_rate"]) * (target - start), metrics=metrics)


class FakeWriter:
    """Writes an adapter as its bare values."""

    def save(self, folder: Path, vector: Vector) -> None:
        (folder / "adapter.bin").write_bytes(vector.tobytes())


Fault = Callable[[str, bytes], bytes | None]


class FaultyTransport:
    """In-process, but a test may replace the reply of a client, or make it vanish (None)."""

    def __init__(self, inner: InProcessTransport) -> None:
        self.inner = inner
        self.before: Fault = lambda client, request: request
        self.after: Fault = lambda client, reply: reply

    def exchange(self, requests: Mapping[str, bytes]) -> Iterator[Reply]:
        for client, request in requests.items():
            sent = self.before(client, request)
            if sent is None:
                continue
            for reply in self.inner.exchange({client: sent}):
                body = self.after(client, reply.body)
                if body is not None:
                    yield replace(reply, body=body)


class Town:
    """A small federation.

    Args:
        names: of the clients, in order; client number i (from 1) has i examples and is drawn towards the value i.
        scheme: "plain", or "onetime".
        sparsity: of a common mask; 0 = no pruning.
        folder: of the files in which clients keep what must survive a restart, read anew by every process; None keeps
            it in memory, where a restart leaves it as it is.
        profile: of "onetime".
        initial_limit: range of the first round with "onetime"; 0 = wide enough for every update.
    """

    def __init__(
        self,
        *,
        names: Sequence[str] = NAMES,
        scheme: str = "plain",
        min_clients: int = 2,
        clients_per_round: int = 0,
        weights: str = "examples",
        sparsity: float = 0.0,
        with_control: bool = False,
        server_reads: bool = False,
        max_saturated: float = 0.0,
        folder: Path | None = None,
        profile: str = "compact",
        initial_limit: float = 0.0,
    ) -> None:
        self.names = tuple(names)
        self.trainer = FakeTrainer(self.names)
        self.held_out_losses = dict.fromkeys(names, 1.0)
        self.min_clients = min_clients
        self.threshold = len(names) // 2 + 1
        self.identities = {name: Identity.generate(name) for name in names}
        self.roster = Roster([identity.public for identity in self.identities.values()])
        self.folder = folder
        self.stores: dict[str, PendingStore] = {name: MemoryPending() for name in names}
        self.kept: dict[str, PendingStore] = {name: MemoryPending() for name in names}
        self.ledgers: dict[str, ReleaseLedger] = {name: MemoryLedger() for name in names}
        self.tried = {name: TriedSums() for name in names}
        parameters = get_profile("onetime", profile)
        is_sealed = scheme == "onetime"
        self.sealing: ClientSealing = (
            OneTimeClient(parameters, self.roster, self.threshold) if is_sealed else PlainClient()
        )
        self.rules = ClientRules(
            trained=lambda number: LAYOUT,
            learning_rate=lambda number: 0.5,
            weight=lambda count: float(count) if weights == "examples" else 1.0,
            step=GlobalStep(
                optimizer=FedAvg() if with_control else FedAvgM(momentum=0.5),
                with_control=with_control,
                num_clients=len(names),
                accumulates=sparsity > 0,
                initial_limit=(initial_limit or float(len(names))) if is_sealed else 0.0,
            ),
            pruning=Pruning(
                kind="common" if sparsity else "none",
                schedule=ConstantSparsity(target=sparsity),
                exploration=0.5,
                rng=lambda number: stream(0, "mask", number),
            ),
            max_saturated=max_saturated,
            server_may_read=server_reads,
            is_evaluation_round=lambda number: number % 2 == 0,
            measures_factors=False,
        )
        start = ClientState(shared=GlobalState(layout=LAYOUT, round_number=0, adapter=np.zeros(4, np.float32)))
        self.clients = {name: self.make_client(name, start) for name in names}
        controls = LAYOUT.num_values if with_control else 0
        self.server = Server(
            run="town",
            roster=self.roster,
            clients_per_round=clients_per_round,
            min_clients=min_clients,
            threshold=self.threshold,
            seed=0,
            layout=LAYOUT,
            shape=lambda number: PayloadShape(
                layout_digest=payload_layout(LAYOUT, with_control=with_control).digest,
                num_values=num_sealed_values(
                    self.rules.pruning.num_kept(LAYOUT.num_values, number), controls, has_peaks=is_sealed
                ),
            ),
            weight=self.rules.weight,
            sealing=ModularAdder(parameters) if is_sealed else PlainServer(),
        )
        self.transport = FaultyTransport(InProcessTransport({name: self.door(name) for name in names}))
        self.notes = RoundNotes(
            learning_rate=self.rules.learning_rate,
            sealing=scheme,
            is_sealed=is_sealed,
            server_reads=server_reads,
            sparsity=lambda number: sparsity,
            privacy="no formal guarantee",
        )
        self.state = open_federation(self.server, self.transport)

    def door(self, name: str) -> Callable[[bytes], bytes]:
        """Where requests for a client arrive; it may be restarted meanwhile."""
        return lambda request: self.clients[name].handle(request)

    def make_client(self, name: str, state: ClientState) -> Client:
        """A client as its process starts: with its keys, ledger and store, and nothing else of what was before."""
        if self.folder is not None:
            own = self.folder / name
            own.mkdir(parents=True, exist_ok=True)
            self.stores[name] = FilePending(own / "pending")
            self.kept[name] = FilePending(own / "kept")
            self.ledgers[name] = FileLedger(own / "releases.jsonl")
            self.tried[name] = TriedSums(own / "tried.json")
        return Client(
            run="town",
            rules=self.rules,
            state=state,
            examples=[EXAMPLE] * (self.names.index(name) + 1),
            trainer=self.trainer,
            sealing=self.sealing,
            keys=KeyHolder(
                identity=self.identities[name],
                roster=self.roster,
                ledger=self.ledgers[name],
                sealing=self.sealing,
                min_clients=self.min_clients,
                threshold=self.threshold,
                tried=self.tried[name],
            ),
            privacy=NoPrivacy(),
            evaluate=self.measure(name),
            store=self.stores[name],
            kept=self.kept[name],
            releases=MemoryReleases(),
        )

    def restart(self, name: str) -> None:
        """A client's process is killed and started again."""
        self.clients[name] = self.make_client(name, self.clients[name].state)

    def measure(self, name: str) -> Callable[[Vector], dict[str, float]]:
        return lambda adapter: {
            "held_out_loss": self.held_out_losses[name],
            "held_out_targets": float(self.names.index(name) + 1),
            "evaluate_seconds": 0.0,
        }

    def round(self) -> RoundResult:
        result = run_round(self.server, self.transport, self.state, self.notes)
        self.state = result.state
        return result

    def adapters(self) -> list[list[float]]:
        return [client.state.shared.adapter.tolist() for client in self.clients.values()]


def on(kind: type, *clients: str) -> Callable[[Callable[[Any], bytes | None]], Fault]:
    """Makes a fault that acts only on one kind of message of some clients."""

    def make(act: Callable[[Any], bytes | None]) -> Fault:
        def fault(client: str, data: bytes) -> bytes | None:
            if client in clients and data:
                message = decode(data)
                if isinstance(message, kind):
                    return act(message)
            return data

        return fault

    return make
