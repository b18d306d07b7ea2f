"""A small federation with real parties, a fake training and a transport that a test can disturb."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from confide.aggregate.optimizers import FedAvgM
from confide.aggregate.step import GlobalStep, payload_layout
from confide.data.examples import TokenizedExample
from confide.global_state import GlobalState
from confide.messages import decode
from confide.parties.client import Client, ClientRules, ClientState
from confide.parties.server import Server
from confide.privacy.plan import NoPrivacy
from confide.round import RoundNotes, RoundResult, open_federation, run_round
from confide.seal.plain import PlainClient, PlainServer
from confide.train.local import LocalMetrics, LocalResult
from confide.transport.base import Reply
from confide.transport.inprocess import InProcessTransport
from confide.update import Layout, Slot, Vector

LAYOUT = Layout((Slot(name="w", shape=(2, 2)),))
NAMES = ("east", "north", "south", "west")
SIZES = dict(zip(NAMES, (1, 2, 3, 4), strict=True))
EXAMPLE = TokenizedExample(record_id="x", input_ids=np.array([1, 2]), loss_mask=np.array([False, True]))


class FakeTrainer:
    """Moves the adapter towards a target of each client's own, and remembers how it was called."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def train(self, **arguments: Any) -> LocalResult:
        self.calls.append(arguments)
        target = np.full(4, NAMES.index(arguments["client"]) + 1, np.float32)
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
    """A small federation."""

    def __init__(self, *, min_clients: int = 2, clients_per_round: int = 0, weights: str = "examples") -> None:
        self.trainer = FakeTrainer()
        self.held_out_losses = dict.fromkeys(NAMES, 1.0)
        rules = ClientRules(
            trained=lambda number: LAYOUT,
            learning_rate=lambda number: 0.5,
            weight=lambda count: float(count) if weights == "examples" else 1.0,
            step=GlobalStep(optimizer=FedAvgM(momentum=0.5), with_control=False, num_clients=4),
            is_evaluation_round=lambda number: number % 2 == 0,
            measures_factors=False,
        )
        start = ClientState(shared=GlobalState(layout=LAYOUT, round_number=0, adapter=np.zeros(4, np.float32)))
        self.clients = {
            name: Client(
                name=name,
                run="town",
                rules=rules,
                state=start,
                examples=[EXAMPLE] * SIZES[name],
                trainer=self.trainer,
                sealing=PlainClient(),
                privacy=NoPrivacy(),
                evaluate=self.measure(name),
            )
            for name in NAMES
        }
        self.server = Server(
            run="town",
            clients=NAMES,
            clients_per_round=clients_per_round,
            min_clients=min_clients,
            seed=0,
            payload=lambda number: payload_layout(LAYOUT, with_control=False),
            weight=rules.weight,
            sealing=PlainServer(),
        )
        self.transport = FaultyTransport(
            InProcessTransport({name: client.handle for name, client in self.clients.items()})
        )
        self.notes = RoundNotes(
            learning_rate=rules.learning_rate, sealing="plain", is_sealed=False, privacy="no formal guarantee"
        )
        self.state = open_federation(self.server, self.transport)

    def measure(self, name: str) -> Callable[[Vector], dict[str, float]]:
        return lambda adapter: {
            "held_out_loss": self.held_out_losses[name],
            "held_out_targets": float(SIZES[name]),
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
