"""One client alone, and what a server would ask of it."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from confide.aggregate.optimizers import FedAvg
from confide.aggregate.step import GlobalStep
from confide.errors import PrivacyBudgetError
from confide.global_state import GlobalState
from confide.membership.frames import FrameSpec, read_frames, sum_to_bytes
from confide.membership.identity import Identity
from confide.membership.ledger import MemoryLedger
from confide.membership.memberlist import Entry, MemberList
from confide.membership.roster import Roster
from confide.messages import (
    CatchUpRequest,
    OpenRequest,
    TrainReply,
    TrainRequest,
    pack_parts,
    unpack_parts,
)
from confide.parties.client import Client
from confide.parties.key_holder import KeyHolder
from confide.parties.rules import ClientRules
from confide.parties.state import ClientState, MemoryPending, PendingStore
from confide.parties.training import Trainer
from confide.privacy.plan import Counts, NoPrivacy, PrivacyPlan, Unit
from confide.privacy.releases import MemoryReleases, Releases
from confide.prune.plan import Pruning
from confide.prune.schedules import ConstantSparsity
from confide.seal.plain import PlainClient
from confide.seeds import stream
from confide.train.outcome import LocalResult, StepReport
from confide.update import Vector
from tests.town import EXAMPLE, LAYOUT, FakeTrainer

START = GlobalState(layout=LAYOUT, round_number=0, adapter=np.zeros(4, np.float32))
IDENTITIES = {name: Identity.generate(name) for name in ("east", "north", "west")}
ROSTER = Roster([identity.public for identity in IDENTITIES.values()])
SEALING = PlainClient()
REFERENCE_WEIGHT = 6.0
OTHER = Entry(client="north", weight=3.0, key_id="", upload_digest="ea" * 32)


def keys_of(name: str) -> KeyHolder:
    return KeyHolder(
        identity=IDENTITIES[name], roster=ROSTER, ledger=MemoryLedger(), sealing=SEALING, min_clients=1, threshold=1
    )


class TrainsAs:
    """Trains as a function does."""

    def __init__(self, train: Callable[..., LocalResult]) -> None:
        self._train = train

    def train(self, **arguments: Any) -> LocalResult:
        return self._train(**arguments)


def make_client(
    *,
    name: str = "west",
    train: Callable[..., LocalResult] | None = None,
    privacy: PrivacyPlan | None = None,
    with_control: bool = False,
    on_step: Callable[[str, StepReport], None] | None = None,
    store: MemoryPending | None = None,
    kept: PendingStore | None = None,
    releases: Releases | None = None,
    state: ClientState | None = None,
) -> Client:
    trainer: Trainer = FakeTrainer() if train is None else TrainsAs(train)
    return Client(
        run="alone",
        rules=ClientRules(
            trained=lambda number: LAYOUT,
            learning_rate=lambda number: 0.5,
            weight=float,
            step=GlobalStep(optimizer=FedAvg(), with_control=with_control, num_clients=2),
            pruning=Pruning(
                kind="none",
                schedule=ConstantSparsity(target=0.0),
                exploration=0.0,
                rng=lambda number: stream(0, "mask", number),
            ),
            max_saturated=0.0,
            server_may_read=False,
            is_evaluation_round=lambda number: True,
            measures_factors=False,
        ),
        state=state or ClientState(shared=START),
        examples=[EXAMPLE] * 3,
        trainer=trainer,
        sealing=SEALING,
        keys=keys_of(name),
        privacy=privacy or NoPrivacy(),
        evaluate=lambda adapter: {"held_out_loss": float(adapter[0])},
        store=store or MemoryPending(),
        kept=kept or MemoryPending(),
        releases=releases or MemoryReleases(),
        on_step=on_step,
    )


def train_request(
    client: Client, reference_weight: float = REFERENCE_WEIGHT, signatures: dict[str, str] | None = None
) -> bytes:
    shared = client.state.shared
    signed = {"east": keys_of("east").sign_adapter("alone", shared.round_number, shared.digest).hex()}
    return TrainRequest(
        run="alone",
        round_number=shared.round_number + 1,
        cohort=[client.name],
        adapter_digest=shared.digest,
        reference_weight=reference_weight,
        widening=0,
        signatures=signed if signatures is None else signatures,
    ).to_bytes()


def train(client: Client) -> TrainReply:
    return TrainReply.from_bytes(client.handle(train_request(client)))


def spec(round_number: int, num_values: int) -> FrameSpec:
    return FrameSpec(
        sealing_digest=SEALING.digest,
        roster_digest=ROSTER.digest,
        run="alone",
        round_number=round_number,
        num_values=num_values,
        limit=1.0,
        chunk_values=SEALING.chunk_values,
    )


def sent_values(reply: TrainReply, num_values: int = 4) -> list[float]:
    """What the server reads in an upload of the scheme that hides nothing."""

    def verify(statement: bytes, signature: bytes) -> None:
        ROSTER.verify(reply.client, statement, signature)

    frames = unpack_parts(reply.body)["frames"]
    point = ROSTER.point_of(reply.client)
    (body,) = read_frames(frames, spec(reply.round_number, num_values), point, verify, lambda body, num_values: None)
    return list(np.frombuffer(body, "<f4").tolist())


def entry_of(reply: TrainReply) -> Entry:
    """How the server lists an upload."""
    digest = hashlib.sha256(unpack_parts(reply.body)["frames"]).hexdigest()
    return Entry(client=reply.client, weight=reply.weight, key_id=reply.key_id, upload_digest=digest)


def listed(client: Client, *entries: Entry, num_values: int = 4) -> MemberList:
    return MemberList(
        run="alone",
        round_number=client.state.shared.round_number + 1,
        roster_digest=ROSTER.digest,
        sealing_digest=SEALING.digest,
        num_values=num_values,
        limit=1.0,
        reference_weight=REFERENCE_WEIGHT,
        entries=entries,
    )


def open_request(
    client: Client, *entries: Entry, total: float = 1.0, num_values: int = 4, listed_values: int | None = None
) -> bytes:
    """The sum whose every value is `total`."""
    members = listed(client, *entries, num_values=listed_values or num_values)
    total_bytes = sum_to_bytes([np.full(num_values, total, "<f4").tobytes()], spec(members.round_number, num_values))
    return OpenRequest(
        run="alone",
        round_number=members.round_number,
        body=pack_parts({"members": members.to_bytes(), "sum": total_bytes}),
    ).to_bytes()


def catch_up_request(
    state: bytes, digest: str, *, counted: bool = False, round_number: int = 1, signed: str | None = None
) -> bytes:
    """East hands `state` over to west and signs that it has `digest`."""
    east = keys_of("east")
    handed = east.hand_over("alone", round_number, state, ["west"])
    signature = east.sign_adapter("alone", round_number, digest).hex()
    return CatchUpRequest(
        run="alone",
        round_number=round_number,
        adapter_digest=digest,
        source="east",
        signatures={"east": signature if signed is None else signed},
        counted=counted,
        body=pack_parts({"state": handed["state"], "key": handed["to west"]}),
    ).to_bytes()


@dataclass
class Halving:
    """A privacy plan that halves, costs 2 a release, and allows 5."""

    unit: Unit
    fixed_limit: float = 0.0

    @property
    def trains_privately(self) -> bool:
        return self.unit in ("example", "both")

    @property
    def noises_updates(self) -> bool:
        return self.unit in ("client", "both")

    def spent(self, counts: Counts) -> Mapping[str, float]:
        per_unit = {"example": counts.trainings, "client": counts.uploads, "both": counts.trainings}
        of_client = {"client_epsilon": 2.0 * counts.uploads} if self.unit == "both" else {}
        return {"epsilon": 2.0 * per_unit[self.unit], **of_client}

    def check_budget(self, counts: Counts) -> None:
        if max(self.spent(counts).values()) > 5.0:
            raise PrivacyBudgetError("spent")

    def protect(self, values: Vector, weight_ratio: float, upload_number: int) -> Vector:
        assert weight_ratio in [3 / weight for weight in (REFERENCE_WEIGHT, 12.0, 24.0)]
        assert upload_number >= int(self.noises_updates)
        return values * np.float32(0.5)
