"""The round with real parties and a fake training: who is left out, who catches up, what is recorded."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from confide.aggregate.optimizers import FedAvg
from confide.aggregate.step import GlobalStep
from confide.errors import AgreementError, MessageError, NonFiniteLossError, RoundFailedError, RunError
from confide.global_state import GlobalState
from confide.messages import (
    CatchUpRequest,
    JoinReply,
    JoinRequest,
    Message,
    OpenReply,
    OpenRequest,
    TrainReply,
    TrainRequest,
    decode,
    pack_parts,
    unpack_parts,
)
from confide.round import open_federation
from confide.seal.plain import PlainRound
from confide.train.outcome import LocalResult
from tests.town import LAYOUT, NAMES, SIZES, FakeTrainer, Town, on


def test_the_next_adapter_is_the_weighted_mean_at_everybody() -> None:
    town = Town()
    result = town.round()
    mean = 0.5 * sum(SIZES[name] * (index + 1) for index, name in enumerate(NAMES)) / 10
    assert town.adapters() == [[mean] * 4] * 4
    assert result.record.members == NAMES
    assert result.record.failures == {}
    assert result.record.loss == pytest.approx(sum(SIZES[n] * (i + 1) for i, n in enumerate(NAMES)) / 10)
    assert result.record.update_norm == pytest.approx(2 * mean)
    assert result.record.adapter_digest == town.clients["west"].state.shared.digest
    assert {client.state.num_seen for client in town.clients.values()} == {2}


def test_held_out_loss_is_the_mean_by_targets_in_its_rounds_only() -> None:
    town = Town()
    town.held_out_losses = dict(zip(NAMES, (4.0, 3.0, 2.0, 1.0), strict=True))
    assert town.round().record.held_out_loss is None
    assert town.round().record.held_out_loss == pytest.approx((4 * 1 + 3 * 2 + 2 * 3 + 1 * 4) / 10)


def test_bytes_are_counted_on_the_wire() -> None:
    town = Town()
    record = town.round().record
    assert record.bytes_up > 4 * 16  # four updates of four float32 values, and headers
    assert record.bytes_down > 4 * 16


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (lambda reply: None, "no answer"),
        (lambda reply: b"nonsense", "expected a message of at least"),
        (lambda reply: replace(reply, body=reply.body[:-4]).to_bytes(), "announces a part that ends at"),
        (lambda reply: replace(reply, body=b"").to_bytes(), "0 bytes are too few for 1 frames"),
        (lambda reply: replace(reply, limit=2.0).to_bytes(), "the limit is 1.0, expected 2.0"),
        (lambda reply: replace(reply, layout_digest="00").to_bytes(), "another layout"),
        (lambda reply: replace(reply, weight=-1.0).to_bytes(), "claims the weight -1, by its examples it is 4.0"),
        (lambda reply: replace(reply, weight=1e300).to_bytes(), "claims the weight 1e\\+300"),
        (lambda reply: replace(reply, metrics={}).to_bytes(), "does not report loss, seconds"),
        (lambda reply: replace(reply, metrics=reply.metrics | {"loss": 1e299}).to_bytes(), "beyond 1e\\+30: loss"),
        (lambda reply: replace(reply, metrics=reply.metrics | {"loss": -5.0}).to_bytes(), "below 0 or beyond.*: loss"),
        (lambda reply: replace(reply, metrics=reply.metrics | {"Jane Doe": 1.0}).to_bytes(), "1 figures that this"),
        (lambda reply: reply.to_bytes().replace(b'"weight":4.0', b'"weight":1e4'), "claims the weight 10000"),
        (lambda reply: reply.to_bytes().replace(b'"weight":4.0', b'"weight":1e999'), "announces|weight must be"),
        (lambda reply: replace(reply, round_number=7).to_bytes(), "another run, round or client"),
        (lambda reply: replace(reply, client="east").to_bytes(), "another run, round or client"),
    ],
)
def test_a_client_that_is_missing_or_talks_nonsense_is_left_out(
    fault: Callable[[TrainReply], bytes | None], reason: str
) -> None:
    town = Town()
    town.transport.after = on(TrainReply, "west")(fault)
    result = town.round()
    assert result.record.members == ("east", "north", "south")
    assert re.search(reason, result.record.failures["west"])
    mean = 0.5 * (1 * 1 + 2 * 2 + 3 * 3) / 6
    assert np.allclose(town.adapters(), mean)
    assert town.clients["west"].state.num_seen == 0  # its training did not count
    assert town.clients["east"].state.num_seen == 2
    town.transport.after = lambda client, reply: reply
    assert town.round().record.members == NAMES


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (np.zeros(3, "<f4").tobytes(), "expected 4 values of 4 bytes, got 12 bytes"),
        (np.full(4, 3e38, "<f4").tobytes(), "values beyond 1e\\+30"),
        (np.full(4, np.nan, "<f4").tobytes(), "NaN, infinity"),
    ],
)
def test_a_client_that_signs_nonsense_is_left_out(body: bytes, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    town = Town()
    monkeypatch.setattr(PlainRound, "chunks", lambda self, values: iter([body]))
    request = town.server.train_requests(town.server.plan(town.state), town.state.signatures)["west"]
    reply = TrainReply.from_bytes(town.clients["west"].handle(request))
    with pytest.raises(RunError, match=reason):
        town.server.read_upload(town.server.plan(town.state), "west", reply)


def test_a_client_that_raises_is_left_out_with_its_reason() -> None:
    town = Town()

    def explode(**arguments: Any) -> LocalResult:
        if arguments["client"] == "north":
            raise ZeroDivisionError("no data today")
        return FakeTrainer().train(**arguments)

    town.trainer.train = explode  # type: ignore[method-assign]
    record = town.round().record
    assert record.failures == {"north": "ZeroDivisionError: its own log (--debug) says more"}
    assert record.members == ("east", "south", "west")


def test_too_few_clients_fail_the_round_and_change_nobody() -> None:
    town = Town(min_clients=3)
    town.round()
    before = town.adapters()
    town.transport.after = on(TrainReply, "west", "east")(lambda reply: None)
    with pytest.raises(
        RoundFailedError, match=r"round 2: 2 of 4 clients delivered .*min_clients is 3.*no answer.*resuming"
    ):
        town.round()
    assert town.adapters() == before
    town.transport.after = lambda client, reply: reply
    assert town.round().record.round_number == 2


def test_a_loss_that_is_not_finite_stops_the_run() -> None:
    town = Town()

    def diverge(**arguments: Any) -> LocalResult:
        raise NonFiniteLossError("client west: the loss is nan")

    town.trainer.train = diverge  # type: ignore[method-assign]
    with pytest.raises(NonFiniteLossError, match="the loss is nan"):
        town.round()


def test_a_client_that_missed_the_opening_catches_up_before_the_next_round() -> None:
    town = Town()
    town.transport.before = on(OpenRequest, "south")(lambda request: None)
    result = town.round()
    assert result.record.failures == {"south": "no answer"}
    assert "south" in result.record.members  # its update counts all the same
    assert result.state.current == {"east", "north", "west"}
    assert town.clients["south"].state.shared.round_number == 0
    town.transport.before = lambda client, request: request
    undisturbed = Town()
    undisturbed.round()
    assert town.round().record.members == NAMES
    undisturbed.round()
    assert town.adapters() == undisturbed.adapters()
    assert len({tuple(adapter) for adapter in town.adapters()}) == 1


@pytest.mark.parametrize("silent_to", [JoinRequest, CatchUpRequest])
def test_a_client_that_is_behind_and_does_not_catch_up_is_not_asked_to_train(silent_to: type[Message]) -> None:
    town = Town(min_clients=3)
    asked: list[tuple[str, int]] = []

    def stay_behind(client: str, request: bytes) -> bytes | None:
        message = decode(request)
        if isinstance(message, TrainRequest):
            asked.append((client, message.round_number))
        is_missed = isinstance(message, OpenRequest) and message.round_number == 1
        return None if client == "south" and (is_missed or isinstance(message, silent_to)) else request

    town.transport.before = stay_behind
    assert town.round().record.members == NAMES
    record = town.round().record
    assert record.cohort == NAMES
    assert record.members == ("east", "north", "west")
    assert record.failures == {"south": "it is behind: it did not answer, or did not catch up"}
    assert asked == [*((name, 1) for name in NAMES), ("east", 2), ("north", 2), ("west", 2)]
    town.transport.before = lambda client, request: request
    assert town.round().record.members == NAMES
    assert len({tuple(adapter) for adapter in town.adapters()}) == 1


def test_clients_that_are_behind_count_as_missing_where_too_few_are_left() -> None:
    town = Town(min_clients=3)
    town.transport.before = on(OpenRequest, "south")(lambda request: None)
    town.round()
    town.transport.before = on(JoinRequest, "south")(lambda request: None)
    town.transport.after = on(TrainReply, "west")(lambda reply: None)
    with pytest.raises(RoundFailedError, match=r"2 of 4 clients delivered .*south: it is behind.*west: no answer"):
        town.round()


def sign_for_another(town: Town, *names: str) -> None:
    """Has these clients report, under their signature, another adapter than the one they computed."""

    def falsify(reply: OpenReply) -> bytes:
        keys = town.clients[reply.client]._keys
        signature = keys.sign_adapter("town", reply.round_number, "00").hex()
        return replace(reply, adapter_digest="00", signature=signature, metrics={"step_norm": 9.0}).to_bytes()

    town.transport.after = on(OpenReply, *names)(falsify)


def test_one_client_that_signs_for_another_adapter_does_not_stop_the_round() -> None:
    town, undisturbed = Town(), Town()
    sign_for_another(town, "east")
    result = town.round()
    assert result.record.failures == {"east": "it computed another global adapter than north, south, west"}
    assert result.record.update_norm == undisturbed.round().record.update_norm  # no figure is taken from it
    assert result.state.current == {"north", "south", "west"}
    town.transport.after = lambda client, reply: reply
    result = town.round()
    undisturbed.round()
    assert result.state.current == set(NAMES)
    assert town.adapters() == undisturbed.adapters()
    assert [c.state.num_seen for c in town.clients.values()] == [c.state.num_seen for c in undisturbed.clients.values()]


def test_a_client_that_really_computed_another_adapter_takes_that_of_the_others() -> None:
    town, undisturbed = Town(), Town()
    client = town.clients["east"]

    def flip(request: OpenRequest) -> bytes:
        parts = unpack_parts(request.body)
        other = bytearray(parts["sum"])
        other[-1] ^= 1  # the sign or the exponent of the last value
        return replace(request, body=pack_parts(parts | {"sum": bytes(other)})).to_bytes()

    town.transport.before = on(OpenRequest, "east")(flip)
    assert set(town.round().record.failures) == {"east"}
    assert client.state.shared.round_number == 1
    assert client.state.shared.digest != town.state.adapter_digest
    town.transport.before = lambda client, request: request
    undisturbed.round()
    for number in (2, 3):
        assert town.round().record.members == NAMES
        undisturbed.round()
        assert town.adapters() == undisturbed.adapters(), f"round {number}"


def test_with_no_adapter_that_enough_clients_computed_the_round_fails_and_names_them() -> None:
    town = Town()
    sign_for_another(town, "south", "west")
    with pytest.raises(
        AgreementError, match=r"2 different .* by 3 clients\. east, north: [0-9a-f]{12}; south, west: 00\."
    ):
        town.round()


def test_a_client_that_cannot_report_has_not_moved_on() -> None:
    town = Town()
    town.round()
    town.held_out_losses["east"] = float("nan")  # measured in round 2, and no message can carry it
    result = town.round()
    assert "cannot carry NaN or infinity: held_out_loss" in result.record.failures["east"]
    assert town.clients["east"].state.shared.round_number == 1
    assert town.round().record.members == NAMES


def test_too_few_that_open_fail_the_round() -> None:
    town = Town(min_clients=3)
    town.transport.before = on(OpenRequest, "south", "east")(lambda request: None)
    with pytest.raises(RoundFailedError, match="only 2 clients opened the sum"):
        town.round()


def test_cohorts_are_drawn_by_round_and_everybody_follows() -> None:
    town = Town(clients_per_round=2)
    cohorts = [town.round().record.cohort for _ in range(8)]
    assert all(len(cohort) == 2 for cohort in cohorts)
    assert len(set(cohorts)) > 1
    assert set().union(*cohorts) == set(NAMES)
    again = Town(clients_per_round=2)
    assert [again.round().record.cohort for _ in range(8)] == cohorts
    assert len({tuple(adapter) for adapter in town.adapters()}) == 1


def test_a_client_refuses_another_run_another_round_and_another_start() -> None:
    town = Town()
    client = town.clients["east"]
    good = TrainRequest(
        run="town",
        round_number=1,
        cohort=[],
        adapter_digest=client.state.shared.digest,
        reference_weight=4.0,
        widening=0,
        signatures=dict(town.state.signatures),
    )
    with pytest.raises(MessageError, match="takes part in run town, the request is of run other"):
        client.handle(replace(good, run="other").to_bytes())
    with pytest.raises(MessageError, match="has done 0 rounds and cannot take part in round 2"):
        client.handle(replace(good, round_number=2).to_bytes())
    with pytest.raises(AgreementError, match="holds another global adapter than round 1 starts from"):
        client.handle(replace(good, adapter_digest="00").to_bytes())
    with pytest.raises(MessageError, match=r"the reference weight of round 1 is 0.5, expected at least 1"):
        client.handle(replace(good, reference_weight=0.5).to_bytes())
    with pytest.raises(MessageError, match="which only a server gets"):
        client.handle(client.handle(good.to_bytes()))


def test_clients_that_start_apart_are_refused() -> None:
    town = Town()
    for client in list(town.clients.values())[:2]:
        moved = replace(client.state.shared, adapter=np.ones(4, np.float32))
        client.state = replace(client.state, shared=moved)
    with pytest.raises(RunError, match="hold 2 different global adapters, none of them more often"):
        open_federation(town.server, town.transport)


def test_one_client_cannot_pretend_that_the_run_is_further() -> None:
    town = Town()
    town.transport.after = on(JoinReply, "east")(lambda reply: replace(reply, round_number=99).to_bytes())
    state = open_federation(town.server, town.transport)
    assert state.round_number == 0
    assert state.current == {"north", "south", "west"}


@pytest.mark.parametrize("metrics", [{}, {"step_norm": 1e308}])
def test_a_report_without_figures_is_left_out(metrics: dict[str, float]) -> None:
    town = Town()
    town.transport.after = on(OpenReply, "east")(lambda reply: replace(reply, metrics=metrics).to_bytes())
    result = town.round()
    assert "east" in result.record.failures
    assert result.state.current == {"north", "south", "west"}
    assert json.loads(result.record.to_json())["update_norm"] > 0


def test_nobody_there_is_said_with_reasons() -> None:
    town = Town()
    town.transport.before = lambda client, request: None
    with pytest.raises(RoundFailedError, match=r"no client answered\. east: no answer; north: no answer"):
        open_federation(town.server, town.transport)


def test_equal_weights_ignore_the_numbers_of_examples() -> None:
    town = Town(weights="equal")
    town.round()
    assert np.allclose(town.adapters(), 0.5 * (1 + 2 + 3 + 4) / 4)


def test_fedavg_of_one_client_is_that_clients_training() -> None:
    step = GlobalStep(optimizer=FedAvg(), with_control=False, num_clients=1)
    start = GlobalState(layout=LAYOUT, round_number=0, adapter=np.ones(4, np.float32))
    after = step.apply(start, LAYOUT, np.full(4, 6, np.float32), total_weight=3.0)
    assert after.adapter.tolist() == [3.0] * 4
