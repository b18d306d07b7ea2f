"""One client alone: what leaves it, when its state moves on, and what it refuses."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from tests.town import EXAMPLE, LAYOUT, FakeTrainer

from confide.aggregate.optimizers import FedAvg
from confide.aggregate.step import GlobalStep
from confide.errors import AgreementError, ConfideError, MessageError, NonFiniteUpdateError, RunInterrupted
from confide.global_state import GlobalState
from confide.messages import (
    CatchUpRequest,
    JoinReply,
    JoinRequest,
    Message,
    OpenReply,
    OpenRequest,
    StateReply,
    StateRequest,
    TrainReply,
    TrainRequest,
)
from confide.parties.client import Client, ClientRules, ClientState
from confide.privacy.plan import NoPrivacy, PrivacyPlan
from confide.seal.plain import PlainClient
from confide.train.local import LocalResult, StepReport
from confide.update import Update

START = GlobalState(layout=LAYOUT, round_number=0, adapter=np.zeros(4, np.float32))


def make_client(
    *,
    name: str = "west",
    train: Callable[..., LocalResult] | None = None,
    privacy: PrivacyPlan | None = None,
    with_control: bool = False,
    on_step: Callable[[str, StepReport], None] | None = None,
) -> Client:
    trainer = FakeTrainer()
    if train is not None:
        trainer.train = train  # type: ignore[method-assign]
    return Client(
        name=name,
        run="alone",
        rules=ClientRules(
            trained=lambda number: LAYOUT,
            learning_rate=lambda number: 0.5,
            weight=float,
            step=GlobalStep(optimizer=FedAvg(), with_control=with_control, num_clients=2),
            is_evaluation_round=lambda number: True,
            measures_factors=False,
        ),
        state=ClientState(shared=START),
        examples=[EXAMPLE] * 3,
        trainer=trainer,
        sealing=PlainClient(),
        privacy=privacy or NoPrivacy(),
        evaluate=lambda adapter: {"held_out_loss": float(adapter[0])},
        on_step=on_step,
    )


def train_request(client: Client) -> bytes:
    shared = client.state.shared
    return TrainRequest(
        run="alone", round_number=shared.round_number + 1, cohort=[client.name], adapter_digest=shared.digest
    ).to_bytes()


def train(client: Client) -> TrainReply:
    return TrainReply.from_bytes(client.handle(train_request(client)))


def open_request(client: Client, *members: str, total: float = 6.0, num_values: int = 4) -> bytes:
    return OpenRequest(
        run="alone",
        round_number=client.state.shared.round_number + 1,
        members=dict.fromkeys(members, 3.0),
        body=np.full(num_values, total, "<f4").tobytes(),
    ).to_bytes()


def test_a_client_says_how_much_it_has_and_where_it_stands_and_nothing_more() -> None:
    client = make_client()
    reply = JoinReply.from_bytes(client.handle(JoinRequest(run="alone", round_number=0).to_bytes()))
    assert reply == JoinReply(run="alone", round_number=0, client="west", num_examples=3, adapter_digest=START.digest)


def test_what_leaves_is_the_update_times_the_weight() -> None:
    # The fake training goes half of the way from 0 to west's target, 4; three examples weigh 3.
    reply = train(make_client())
    assert np.frombuffer(reply.body, "<f4").tolist() == [3 * 2.0] * 4
    assert (reply.weight, reply.layout_digest) == (3.0, LAYOUT.digest)
    assert reply.metrics["update_norm"] == 4.0


@dataclass(frozen=True)
class Halving:
    """A privacy plan that halves."""

    guarantee: str = "none"

    def protect(self, update: Update) -> Update:
        return replace(update, vector=update.vector * np.float32(0.5))


def test_privacy_acts_before_anything_leaves() -> None:
    assert np.frombuffer(train(make_client(privacy=Halving())).body, "<f4").tolist() == [3 * 1.0] * 4


def test_training_alone_moves_nothing() -> None:
    client = make_client()
    before = client.state
    first = train(client)
    assert client.state == before
    assert train(client).body == first.body  # asked again, it starts from the same place


@pytest.mark.parametrize(("members", "num_seen"), [(("west", "east"), 2), (("east",), 0)])
def test_training_counts_only_if_it_is_in_the_sum(members: tuple[str, ...], num_seen: int) -> None:
    client = make_client()
    train(client)
    reply = OpenReply.from_bytes(client.handle(open_request(client, *members)))
    shared = client.state.shared
    assert shared.adapter.tolist() == [6.0 / (3 * len(members))] * 4
    assert (shared.round_number, client.state.num_seen) == (1, num_seen)
    assert reply.adapter_digest == shared.digest
    assert reply.metrics == {"step_norm": 2 * shared.adapter[0], "held_out_loss": shared.adapter[0]}


@pytest.mark.parametrize("is_member", [True, False])
def test_its_own_control_variate_moves_only_if_it_is_in_the_sum(is_member: bool) -> None:
    client = make_client(with_control=True)
    train(client)
    client.handle(open_request(client, "west" if is_member else "east", num_values=8))
    assert bool(client.state.controls) == is_member


def test_training_of_a_round_that_was_missed_counts_no_more() -> None:
    client, other = make_client(), make_client(name="east")
    train(client)
    other.handle(open_request(other, "west"))
    handed = StateReply.from_bytes(other.handle(StateRequest(run="alone", round_number=1).to_bytes()))
    assert handed.adapter_digest == other.state.shared.digest
    client.handle(
        CatchUpRequest(run="alone", round_number=1, adapter_digest=handed.adapter_digest, body=handed.body).to_bytes()
    )
    assert client.state.shared.digest == other.state.shared.digest
    client.handle(open_request(client, "west"))
    assert client.state.num_seen == 0


def explode(**arguments: Any) -> LocalResult:
    raise NonFiniteUpdateError("the update holds NaN")


def catch_up(digest: str, body: bytes) -> bytes:
    return CatchUpRequest(run="alone", round_number=1, adapter_digest=digest, body=body).to_bytes()


@pytest.mark.parametrize(
    ("request_of", "error", "message"),
    [
        (lambda client: b"", MessageError, "expected a message of at least"),
        (lambda client: open_request(client, "west", num_values=3), MessageError, "expected 4 values of 4 bytes"),
        (lambda client: open_request(client, "west", total=np.inf), NonFiniteUpdateError, "NaN, infinity"),
        (lambda client: catch_up("00", START.to_bytes()), AgreementError, "handed a global state that does not match"),
        (lambda client: catch_up(START.digest, b"?"), MessageError, "hold no global state"),
        (
            lambda client: OpenRequest(run="alone", round_number=2, members={"west": 1.0}).to_bytes(),
            MessageError,
            "client west has done 0 rounds and cannot take part in round 2",
        ),
        (train_request, NonFiniteUpdateError, "the update holds NaN"),
    ],
)
def test_a_request_that_fails_changes_nothing(
    request_of: Callable[[Client], bytes], error: type[ConfideError], message: str
) -> None:
    client = make_client(train=explode)
    before = client.state
    with pytest.raises(error, match=message):
        client.handle(request_of(client))
    assert client.state is before


@pytest.mark.parametrize(
    "reply",
    [
        JoinReply(run="alone", round_number=0, client="east", num_examples=1, adapter_digest=""),
        OpenReply(run="alone", round_number=1, client="east", adapter_digest="", metrics={}),
        StateReply(run="alone", round_number=1, client="east", adapter_digest=""),
    ],
)
def test_what_only_a_server_gets_is_refused(reply: Message) -> None:
    with pytest.raises(MessageError, match=f"client west got a {type(reply).__name__}, which only a server gets"):
        make_client().handle(reply.to_bytes())


def test_whoever_watches_the_steps_can_stop_the_training() -> None:
    told: list[str] = []

    def train_one_step(**arguments: Any) -> LocalResult:
        arguments["on_step"](StepReport(step=1, num_steps=2, loss=0.5))
        return FakeTrainer().train(**arguments)

    def stop(name: str, report: StepReport) -> None:
        told.append(f"{name} {report.step}/{report.num_steps}")
        raise RunInterrupted("enough")

    client = make_client(train=train_one_step, on_step=stop)
    with pytest.raises(RunInterrupted, match="enough"):
        client.handle(train_request(client))
    assert told == ["west 1/2"]
    assert client.state == ClientState(shared=START)
    unwatched = make_client(train=train_one_step)
    assert train(unwatched).client == "west"
