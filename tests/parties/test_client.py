"""One client alone: what leaves it, when its state moves on, and what it refuses."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from confide.errors import (
    AgreementError,
    ConfideError,
    LayoutMismatchError,
    MessageError,
    NonFiniteLossError,
    NonFiniteUpdateError,
    PrivacyBudgetError,
    RosterError,
    RunInterrupted,
)
from confide.global_state import GlobalState
from confide.messages import (
    CatchUpRequest,
    JoinReply,
    JoinRequest,
    Message,
    OpenReply,
    OpenRequest,
    ReleaseReply,
    ReleaseRequest,
    SignReply,
    SignRequest,
    StateReply,
    StateRequest,
    TrainReply,
    pack_parts,
    unpack_parts,
)
from confide.parties.client import TOLD, TOLD_ALWAYS, Client
from confide.parties.state import MemoryPending, Pending
from confide.privacy.plan import Counts, NoPrivacy, Unit
from confide.privacy.releases import MemoryReleases
from confide.train.outcome import LocalResult, StepReport
from confide.update import Layout, Slot
from tests.lone_client import (
    OTHER,
    REFERENCE_WEIGHT,
    START,
    Halving,
    catch_up_request,
    entry_of,
    keys_of,
    listed,
    make_client,
    open_request,
    sent_values,
    train,
    train_request,
)
from tests.town import LAYOUT, FakeTrainer


def test_a_client_says_how_much_it_has_and_where_it_stands_and_nothing_more() -> None:
    client = make_client()
    reply = JoinReply.from_bytes(client.handle(JoinRequest(run="alone", round_number=0).to_bytes()))
    assert reply == JoinReply(
        run="alone",
        round_number=0,
        client="west",
        num_examples=3,
        adapter_digest=START.digest,
        signature=keys_of("west").sign_adapter("alone", 0, START.digest).hex(),
    )


def test_what_leaves_is_the_update_times_the_weight() -> None:
    # The fake training goes half of the way from 0 to west's target, 4; three examples weigh 3 of 6.
    reply = train(make_client())
    assert sent_values(reply) == [3 / REFERENCE_WEIGHT * 2.0] * 4
    assert (reply.weight, reply.layout_digest) == (3.0, LAYOUT.digest)
    assert unpack_parts(reply.body).keys() == {"frames"}  # no envelopes where there is no key


def test_norms_and_losses_by_step_stay_with_the_client() -> None:
    client = make_client()
    reply = train(client)
    assert set(reply.metrics) == set(TOLD)
    assert (client.figures["update_norm"], client.figures["remainder_norm"]) == (4.0, 0.0)
    assert client.figures.keys() - set(TOLD) == {
        *("first_loss", "last_loss", "regularizer", "gradient_norm", "update_norm", "remainder_norm"),
        *("example_norm", "clipped_share"),
    }


def test_privacy_acts_before_anything_leaves() -> None:
    assert sent_values(train(make_client(privacy=Halving("client")))) == [3 / REFERENCE_WEIGHT * 1.0] * 4


@pytest.mark.parametrize("unit", ["example", "client"])
def test_under_a_guarantee_a_client_tells_epsilon_and_nothing_that_its_data_decided(unit: Unit) -> None:
    reply = train(make_client(privacy=Halving(unit)))
    assert set(reply.metrics) == {*TOLD_ALWAYS, "epsilon"}
    assert reply.metrics["epsilon"] == 2.0
    assert set(TOLD_ALWAYS) == {"saturated", "seal_seconds"}


def test_what_a_guarantee_cannot_pay_for_is_not_released() -> None:
    releases = MemoryReleases()
    client = make_client(privacy=Halving("client"), releases=releases)
    replies = [TrainReply.from_bytes(client.handle(train_request(client, weight))) for weight in (6.0, 12.0)]
    assert [reply.metrics["epsilon"] for reply in replies] == [2.0, 4.0]
    with pytest.raises(PrivacyBudgetError):
        client.handle(train_request(client, 24.0))
    assert releases.counts == Counts(uploads=2)


@pytest.mark.parametrize("is_restarted", [False, True])
def test_where_noise_hides_the_client_a_training_that_is_not_finite_sends_noise_alone(is_restarted: bool) -> None:
    """An error, a metric or another shape of the reply would tell of the client's data what no noise covers."""

    def diverge(**_arguments: Any) -> LocalResult:
        raise NonFiniteLossError("the loss is nan")

    store = MemoryPending()
    client = make_client(privacy=Halving("client"), train=diverge, store=store)
    usual = train(make_client(privacy=Halving("client")))
    reply = train(client)
    assert sent_values(reply) == [0.0] * 4
    assert set(reply.metrics) == set(usual.metrics)
    assert client.figures["not_finite"] == 1.0  # which the client itself can see
    if is_restarted:
        client = make_client(store=store, privacy=Halving("client"), train=diverge)
    client.handle(open_request(client, entry_of(reply), OTHER))
    assert client.state.num_seen == 0


@pytest.mark.parametrize("unit", ["none", "example"])
def test_where_nothing_hides_it_a_training_that_is_not_finite_is_an_error(unit: Unit) -> None:
    def diverge(**_arguments: Any) -> LocalResult:
        raise NonFiniteLossError("the loss is nan")

    plan = NoPrivacy() if unit == "none" else Halving(unit)
    with pytest.raises(NonFiniteLossError):
        train(make_client(privacy=plan, train=diverge))


def test_what_noise_left_of_an_update_is_never_sent_later() -> None:
    """Noise would come back with the other sign, and take the noise of the round before away."""
    client = make_client(privacy=Halving("client"))
    train(client)
    assert client.figures["remainder_norm"] == 0.0
    assert not client.settled(counted=True).remainders


def test_training_alone_moves_nothing() -> None:
    client = make_client()
    before = client.state
    first = train(client)
    assert client.state is before
    assert client.settled(counted=False) is before
    assert sent_values(train(client)) == sent_values(first)  # asked again, it starts from the same place


@pytest.mark.parametrize("is_restarted", [False, True])
@pytest.mark.parametrize(("is_member", "num_seen"), [(True, 2), (False, 0)])
def test_training_counts_only_if_it_is_in_the_sum(is_member: bool, num_seen: int, is_restarted: bool) -> None:
    store = MemoryPending()
    client = make_client(store=store)
    entries = [entry_of(train(client)), OTHER] if is_member else [OTHER]
    if is_restarted:
        client = make_client(store=store)
    reply = OpenReply.from_bytes(client.handle(open_request(client, *entries)))
    shared = client.state.shared
    assert shared.adapter.tolist() == [1.0 / (3 * len(entries) / REFERENCE_WEIGHT)] * 4
    assert (shared.round_number, client.state.num_seen) == (1, num_seen)
    assert reply.adapter_digest == shared.digest
    figures = {name: value for name, value in reply.metrics.items() if name != "open_seconds"}
    assert figures == {"step_norm": 2 * shared.adapter[0], "held_out_loss": shared.adapter[0]}
    assert store.load() is None


def test_an_upload_that_was_replaced_counts_in_no_sum() -> None:
    first, second = make_client(), make_client()
    old = entry_of(train(first))
    first.handle(train_request(first, reference_weight=3.0))  # asked again, with another weight
    before = first.state
    with pytest.raises(MessageError, match="another reference weight than client west"):
        first.handle(open_request(first, old, OTHER))
    assert first.state is before
    train(second)
    with pytest.raises(MessageError, match="not right about client west"):
        second.handle(open_request(second, replace(old, upload_digest="00" * 32), OTHER))


@pytest.mark.parametrize("is_member", [True, False])
def test_its_own_control_variate_moves_only_if_it_is_in_the_sum(is_member: bool) -> None:
    client = make_client(with_control=True)
    entry = entry_of(train(client))
    client.handle(open_request(client, entry if is_member else OTHER, num_values=8))
    assert bool(client.state.controls) == is_member


@pytest.mark.parametrize(("counted", "num_seen"), [(True, 2), (False, 0)])
def test_training_of_a_round_that_was_missed_counts_if_others_opened_it(counted: bool, num_seen: int) -> None:
    client, other = make_client(), make_client(name="east")
    entry = entry_of(train(client))
    opened = OpenReply.from_bytes(other.handle(open_request(other, entry if counted else OTHER)))
    asked = StateRequest(run="alone", round_number=1, recipients=["west"]).to_bytes()
    handed = StateReply.from_bytes(other.handle(asked))
    assert handed.adapter_digest == other.state.shared.digest
    assert other.state.shared.adapter.tobytes() not in handed.body  # the server carries it and reads nothing
    parts = unpack_parts(handed.body)
    request = CatchUpRequest(
        run="alone",
        round_number=1,
        adapter_digest=handed.adapter_digest,
        source="east",
        signatures={"east": opened.signature},
        counted=counted,
        body=pack_parts({"state": parts["state"], "key": parts["to west"]}),
    )
    reply = JoinReply.from_bytes(client.handle(request.to_bytes()))
    assert (reply.round_number, reply.adapter_digest) == (1, other.state.shared.digest)
    assert client.state.shared.digest == other.state.shared.digest
    assert client.state.num_seen == num_seen
    client.handle(open_request(client, replace(OTHER, weight=1.0)))
    assert client.state.num_seen == num_seen  # and it counts no second time


def test_a_client_does_not_go_back() -> None:
    client = make_client()
    for _ in range(2):
        client.handle(open_request(client, OTHER))
    before = client.state
    once = replace(START, round_number=1)
    with pytest.raises(MessageError, match="client west has done 2 rounds and does not go back to round 1"):
        client.handle(catch_up_request(once.to_bytes(), once.digest))
    assert client.state is before


def test_a_client_takes_another_state_of_its_round_if_enough_others_signed_for_it() -> None:
    client = make_client()
    client.handle(open_request(client, OTHER))
    other = replace(START, round_number=1)
    assert client.state.shared.digest != other.digest
    request = CatchUpRequest.from_bytes(catch_up_request(other.to_bytes(), other.digest))
    with pytest.raises(MessageError, match=r"0 clients signed .* at least 1"):
        client.handle(replace(request, signatures={}).to_bytes())
    client.handle(catch_up_request(other.to_bytes(), other.digest))
    assert client.state.shared.digest == other.digest


def test_a_client_that_is_where_it_is_to_catch_up_to_says_so_and_keeps_what_is_pending() -> None:
    store = MemoryPending()
    client = make_client(store=store)
    train(client)
    before, kept, shared = client.state, store.load(), client.state.shared
    request = catch_up_request(shared.to_bytes(), shared.digest, counted=True, round_number=0)
    assert JoinReply.from_bytes(client.handle(request)).adapter_digest == shared.digest
    assert (client.state, store.load()) == (before, kept)
    assert kept is not None


def explode(**arguments: Any) -> LocalResult:
    raise NonFiniteUpdateError("the update holds NaN")


def release_request(client: Client, signatures: dict[str, str]) -> bytes:
    body = pack_parts({"members": listed(client, OTHER).to_bytes()})
    return ReleaseRequest(run="alone", round_number=1, signatures=signatures, body=body).to_bytes()


def open_nonsense(body: bytes, round_number: int = 1) -> bytes:
    return OpenRequest(run="alone", round_number=round_number, body=body).to_bytes()


NARROW = GlobalState(layout=Layout((Slot(name="w", shape=(3,)),)), round_number=1, adapter=np.zeros(3, np.float32))


@pytest.mark.parametrize(
    ("request_of", "error", "message"),
    [
        (lambda client: b"", MessageError, "expected a message of at least"),
        (
            lambda client: open_request(client, OTHER, num_values=3),
            MessageError,
            "the list of members has another number of values",
        ),
        (
            lambda client: open_request(client, OTHER, num_values=3, listed_values=4),
            MessageError,
            "the number of values is 3, expected 4",
        ),
        (lambda client: open_request(client, OTHER, total=np.inf), NonFiniteUpdateError, "NaN, infinity"),
        (lambda client: open_nonsense(b""), MessageError, "the member list is not the JSON object"),
        (lambda client: open_nonsense(b"?"), MessageError, "a body of 1 bytes is cut off"),
        (
            lambda client: open_nonsense(pack_parts({"members": listed(client, OTHER).to_bytes()})),
            MessageError,
            "0 bytes are too few for 1 frames",
        ),
        (
            lambda client: open_request(client, replace(OTHER, client="eve")),
            RosterError,
            "'eve' is not in the roster",
        ),
        (
            lambda client: open_nonsense(b"", round_number=2),
            MessageError,
            "client west has done 0 rounds and cannot take part in round 2",
        ),
        (
            lambda client: SignRequest(run="alone", round_number=1, body=listed(client, OTHER).to_bytes()).to_bytes(),
            MessageError,
            "client west signs no list of members that does not hold its own upload",
        ),
        (lambda client: release_request(client, {}), MessageError, "the list of members is not signed by north"),
        (lambda client: release_request(client, {"north": "xy"}), MessageError, "in hexadecimal"),
        (lambda client: release_request(client, {"north": "00"}), MessageError, "the signature is not north's"),
        (
            lambda client: StateRequest(run="alone", round_number=0, recipients=["eve"]).to_bytes(),
            RosterError,
            "'eve' is not in the roster",
        ),
        (lambda client: catch_up_request(START.to_bytes(), "00"), AgreementError, "state that does not match"),
        (lambda client: catch_up_request(START.to_bytes(), START.digest), AgreementError, "state that does not match"),
        (lambda client: catch_up_request(b"?", START.digest), MessageError, "hold no global state"),
        (
            lambda client: catch_up_request(NARROW.to_bytes(), NARROW.digest),
            LayoutMismatchError,
            "expected a flat float32 vector of 4 values",
        ),
        (lambda client: catch_up_request(b"?", START.digest, signed="xy"), MessageError, "in hexadecimal"),
        (lambda client: train_request(client, signatures={}), MessageError, "0 clients signed .* at least 1"),
        (lambda client: train_request(client, signatures={"east": "00"}), MessageError, "signature is not east's"),
        (train_request, NonFiniteUpdateError, "the update holds NaN"),
    ],
)
def test_a_request_that_fails_changes_nothing(
    request_of: Callable[[Client], bytes], error: type[ConfideError], message: str
) -> None:
    store = MemoryPending()
    train(make_client(store=store))
    client, kept = make_client(train=explode, store=store), store.load()
    before = client.state
    with pytest.raises(error, match=message):
        client.handle(request_of(client))
    assert client.state is before
    assert store.load() == kept


def test_what_was_kept_and_is_damaged_is_refused_until_the_next_training() -> None:
    store = MemoryPending()
    client = make_client(store=store)
    store.save(b"nonsense")
    before = client.state
    with pytest.raises(MessageError, match="what a client kept of an upload is damaged"):
        client.handle(open_request(client, OTHER))
    assert client.state is before
    assert client.handle(open_request(client, entry_of(train(client))))


@pytest.mark.parametrize(
    "reply",
    [
        JoinReply(run="alone", round_number=0, client="east", num_examples=1, adapter_digest="", signature=""),
        SignReply(run="alone", round_number=1, client="east", signature=""),
        ReleaseReply(run="alone", round_number=1, client="east"),
        OpenReply(run="alone", round_number=1, client="east", adapter_digest="", signature="", metrics={}),
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

    store = MemoryPending()
    client = make_client(train=train_one_step, on_step=stop, store=store)
    before = client.state
    with pytest.raises(RunInterrupted, match="enough"):
        client.handle(train_request(client))
    assert told == ["west 1/2"]
    assert client.state is before
    assert store.load() is None
    unwatched = make_client(train=train_one_step)
    assert train(unwatched).client == "west"


@pytest.mark.parametrize("unit", ["none", "example", "client", "both"])
def test_under_a_guarantee_whoever_watches_the_steps_is_told_no_loss(unit: Unit) -> None:
    told: list[StepReport] = []

    def train_one_step(**arguments: Any) -> LocalResult:
        arguments["on_step"](StepReport(step=1, num_steps=2, loss=0.5))
        return FakeTrainer().train(**arguments)

    plan = NoPrivacy() if unit == "none" else Halving(unit)
    train(make_client(privacy=plan, train=train_one_step, on_step=lambda _, report: told.append(report)))
    assert [(report.step, report.num_steps) for report in told] == [(1, 2)]
    assert [report.loss for report in told if not math.isnan(report.loss)] == ([0.5] if unit == "none" else [])


@pytest.mark.parametrize("reference_weight", [1e60, 2.0**65])
def test_a_reference_weight_that_no_list_can_have_is_refused(reference_weight: float) -> None:
    store = MemoryPending()
    client = make_client(store=store)
    with pytest.raises(MessageError, match="reference weight"):
        client.handle(train_request(client, reference_weight))
    assert store.load() is None


def test_an_upload_that_cannot_be_sent_is_not_pending() -> None:
    def overflow(**arguments: Any) -> LocalResult:
        result = FakeTrainer().train(**arguments)
        return replace(result, metrics=replace(result.metrics, loss=float("inf")))

    store = MemoryPending()
    client = make_client(train=overflow, store=store)
    with pytest.raises(MessageError, match="cannot carry NaN or infinity"):
        client.handle(train_request(client))
    assert store.load() is None


def test_a_pending_upload_is_of_the_list_that_names_it() -> None:
    store = MemoryPending()
    client = make_client(store=store)
    reply = train(client)
    kept = store.load()
    assert kept is not None
    pending = Pending.from_bytes(kept, START)
    assert pending is not None
    assert (pending.entry, pending.reference_weight) == (entry_of(reply), REFERENCE_WEIGHT)


def test_without_keys_there_is_nothing_to_release() -> None:
    """A server that asks all the same gets nothing, whatever it makes up."""
    client = make_client()
    entry = entry_of(train(client))
    members = listed(client, entry)
    signed = SignReply.from_bytes(
        client.handle(SignRequest(run="alone", round_number=1, body=members.to_bytes()).to_bytes())
    )
    request = ReleaseRequest(
        run="alone",
        round_number=1,
        signatures={"west": signed.signature},
        body=pack_parts({"members": members.to_bytes()}),
    )
    with pytest.raises(MessageError, match="the share envelope from west is missing"):
        client.handle(request.to_bytes())
