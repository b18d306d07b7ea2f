"""The round sealed with one-time keys: equal to the plain one, closed to a cheating server, open to drop-outs."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from confide.errors import ConfideError, MessageError, RoundFailedError, RunError, SaturationError, SecretKeyError
from confide.membership.memberlist import MemberList
from confide.messages import (
    CatchUpRequest,
    Message,
    OpenRequest,
    ReleaseReply,
    ReleaseRequest,
    SignReply,
    SignRequest,
    StateRequest,
    TrainReply,
    TrainRequest,
    decode,
    pack_parts,
    unpack_parts,
)
from confide.seal.fixedpoint import sum_error_bound
from confide.seal.profiles import get_profile
from confide.transport.base import Reply
from tests.town import NAMES, Fault, Town, on

PROFILE = get_profile("onetime", "compact")


def clients(number: int) -> tuple[str, ...]:
    return tuple(f"client {index:02d}" for index in range(number))


def gone(kind: type, *names: str) -> Fault:
    """These clients vanish when this kind of message is theirs to get or to give."""
    return on(kind, *names)(lambda message: None)


def test_sealed_rounds_give_the_plain_adapter_within_the_quantisation_bound() -> None:
    plain, sealed = Town(), Town(scheme="onetime")
    total_weight, room = 10.0, 0.0
    for _ in range(6):
        limit = sealed.clients["east"]._payload().limit
        plain.round()
        sealed.round()
        # The mean of four clients is off by at most the sum's bound over the total weight (in units of the largest
        # weight); training halves a difference, the server's momentum of 0.5 at most doubles it.
        step_error = sum_error_bound(4, limit, PROFILE) / (total_weight / 4.0)
        room = 2 * (room + step_error)
        assert np.abs(np.array(sealed.adapters()) - np.array(plain.adapters())).max() <= room
    assert len({tuple(adapter) for adapter in sealed.adapters()}) == 1
    assert room < 0.05


def test_the_range_follows_the_updates() -> None:
    town = Town(scheme="onetime")
    limits = []
    for _ in range(12):
        limits.append(town.clients["east"]._payload().limit)
        assert town.round().record.saturated == 0
    updates = [0.5 * ratio / 4 * abs(ratio - town.adapters()[0][0]) for ratio in (1, 2, 3, 4)]
    assert limits[0] == 4.0
    assert max(updates) < limits[-1] < 4.5 * max(updates)  # headroom 2, and at most the root of four clients above that


@pytest.mark.parametrize("number", [3, 5, 10])
@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (TrainRequest, "left out"),
        (TrainReply, "left out"),
        (SignRequest, "left out"),
        (SignReply, "left out"),
        (ReleaseRequest, "counted"),
        (ReleaseReply, "counted"),
        (OpenRequest, "counted"),
    ],
)
def test_a_round_completes_with_who_is_left(number: int, kind: type[Message], expected: str) -> None:
    names = clients(number)
    lost = names[: (number - 1) // 2]  # as many as may go: more than half are left
    town = Town(names=names, scheme="onetime", min_clients=2)
    if kind.__name__.endswith("Request"):
        town.transport.before = gone(kind, *lost)
    else:
        town.transport.after = gone(kind, *lost)
    record = town.round().record
    assert record.members == (names if expected == "counted" else names[len(lost) :])
    assert np.isfinite(town.adapters()).all()
    town.transport.before = town.transport.after = lambda client, data: data
    assert town.round().record.members == names
    assert len({tuple(adapter) for adapter in town.adapters()}) == 1
    undisturbed = Town(names=names, scheme="onetime", min_clients=2)
    undisturbed.round()
    undisturbed.round()
    if expected == "counted":  # nobody was left out of a sum, so nothing may differ
        assert town.adapters() == undisturbed.adapters()
        assert [c.state.num_seen for c in town.clients.values()] == [4] * number


@pytest.mark.parametrize("number", [3, 5, 10])
@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (TrainRequest, "delivered an update"),
        (SignRequest, "delivered an update"),
        (ReleaseRequest, "so nothing opens"),
        (OpenRequest, "opened the sum"),
    ],
)
def test_with_too_few_left_nothing_opens_and_the_same_round_succeeds_later(
    number: int, kind: type[Message], reason: str
) -> None:
    names = clients(number)
    least = number // 2 + 1
    town = Town(names=names, scheme="onetime", min_clients=least)
    town.round()
    before = town.adapters()
    town.transport.before = gone(kind, *names[: number - least + 1])
    with pytest.raises(RoundFailedError, match=reason):
        town.round()
    if kind is not OpenRequest:
        assert town.adapters() == before
        town.transport.before = lambda client, data: data
        town.round()
        undisturbed = Town(names=names, scheme="onetime", min_clients=least)
        undisturbed.round()
        undisturbed.round()
        assert town.adapters() == undisturbed.adapters()


@pytest.mark.parametrize("number", [3, 5, 10])
@pytest.mark.parametrize("kind", [SignRequest, ReleaseRequest, OpenRequest])
def test_a_client_restarted_after_its_upload_changes_nothing(number: int, kind: type[Message]) -> None:
    names = clients(number)
    town, undisturbed = Town(names=names, scheme="onetime"), Town(names=names, scheme="onetime")

    def restart(client: str, request: bytes) -> bytes:
        if isinstance(decode(request), kind) and client == names[1]:
            town.restart(client)
        return request

    town.transport.before = restart
    for _ in range(2):
        town.round()
        undisturbed.round()
    assert town.adapters() == undisturbed.adapters()
    assert [c.state.num_seen for c in town.clients.values()] == [c.state.num_seen for c in undisturbed.clients.values()]


def test_a_client_that_missed_the_opening_gets_the_state_and_its_upload_counts() -> None:
    town, undisturbed = (Town(scheme="onetime", with_control=True, weights="equal") for _ in range(2))
    town.transport.before = gone(OpenRequest, "south")
    town.round()
    town.transport.before = lambda client, data: data
    undisturbed.round()
    for _ in range(3):
        town.round()
        undisturbed.round()
    assert town.adapters() == undisturbed.adapters()
    controls = [next(iter(client.state.controls.values())) for client in town.clients.values()]
    shared = town.clients["east"].state.shared
    common = town.rules.step.control(shared, shared.layout)
    np.testing.assert_allclose(common, np.mean(controls, axis=0), atol=1e-3)


class TestACheatingServer:
    """What a server tries that keeps its signature keys to the rules but sends what it likes."""

    def test_a_server_that_gives_one_client_another_adapter_isolates_nobody(self) -> None:
        """ATTACKS: with a zeroed adapter for all but one, the sum would be that one's update."""
        town = Town(scheme="onetime")
        town.round()
        plan = town.server.plan(town.state)
        for name in ("north", "south", "west"):
            request = replace(
                TrainRequest.from_bytes(town.server.train_requests(plan, town.state.signatures)[name]),
                adapter_digest="0" * 64,
            )
            with pytest.raises(RunError, match="holds another global adapter"):
                town.clients[name].handle(request.to_bytes())

    def test_a_made_up_state_is_refused_whoever_is_said_to_have_signed(self) -> None:
        town = Town(scheme="onetime")
        town.transport.before = gone(OpenRequest, "south")
        town.round()
        state = town.state
        handed = unpack_parts(decode(town.clients["east"].handle(town.server.state_request(state, ["south"]))).body)
        good = decode(town.server.catch_up_requests(state, "east", handed, ["south"])["south"])
        assert isinstance(good, CatchUpRequest)
        few = dict(list(state.signatures.items())[:2])
        swapped = dict(zip(state.signatures, reversed(list(state.signatures.values())), strict=True))
        bad: list[tuple[CatchUpRequest, str]] = [
            (replace(good, signatures=few), "2 clients signed .* expected at least 3"),
            (replace(good, signatures=swapped), "signature"),
            (replace(good, adapter_digest="0" * 64), "signature"),
            (replace(good, source="west"), "envelope|signature"),
            (replace(good, body=pack_parts({"state": handed["state"]})), "the parts state and key"),
            (replace(good, body=pack_parts({"state": b"x" * 99, "key": handed["to south"]})), "do not open"),
        ]
        for request, reason in bad:
            with pytest.raises(MessageError, match=reason):
                town.clients["south"].handle(request.to_bytes())
        town.clients["south"].handle(good.to_bytes())
        assert town.clients["south"].state.shared.digest == state.adapter_digest

    def captured(self, town: Town, kind: type[Message], name: str) -> Any:
        """Runs a round and gives the request of this kind that `name` got."""
        found: list[Message] = []

        def watch(client: str, request: bytes) -> bytes:
            message = decode(request)
            if client == name and isinstance(message, kind):
                found.append(message)
            return request

        town.transport.before = watch
        town.round()
        return found[-1]

    def test_no_second_list_is_released_in_a_round_not_even_after_a_restart(self) -> None:
        town = Town(scheme="onetime")
        stop = gone(OpenRequest, *NAMES)
        town.transport.before = stop
        with pytest.raises(RoundFailedError, match="opened the sum"):
            town.round()
        town.transport.before = lambda client, request: stop(client, gone(TrainRequest, "west")(client, request) or b"")
        for name in NAMES:
            town.restart(name)
        with pytest.raises(RoundFailedError, match="released for other members before"):
            town.round()

    def test_a_round_done_again_takes_a_new_upload_of_every_member(self) -> None:
        """Released key sums that share a key would tell, list by list, what the others' keys are."""
        town = Town(scheme="onetime")
        town.transport.before = gone(OpenRequest, *NAMES)
        kept: dict[str, bytes] = {}

        def keep(client: str, reply: bytes) -> bytes:
            if isinstance(decode(reply), TrainReply):
                kept[client] = reply
            return reply

        town.transport.after = keep
        with pytest.raises(RoundFailedError, match="opened the sum"):
            town.round()
        old = dict(kept)
        town.transport.before = lambda client, request: (
            None if isinstance(decode(request), TrainRequest) and client != "east" else request
        )
        town.transport.after = lambda client, reply: reply
        inner = town.transport.exchange

        def replay(requests: Any) -> Any:
            yield from inner(requests)
            for client, request in requests.items():
                if isinstance(decode(request), TrainRequest) and client != "east":
                    yield Reply(client=client, body=old[client])

        town.transport.exchange = replay  # type: ignore[method-assign]
        with pytest.raises(RoundFailedError, match=r"nothing opens.*round key was released before"):
            town.round()
        town.transport.exchange = inner  # type: ignore[method-assign]
        town.transport.before = lambda client, request: request
        town.round()
        undisturbed = Town(scheme="onetime")
        undisturbed.round()
        assert town.adapters() == undisturbed.adapters()

    def test_no_client_trains_from_an_adapter_that_too_few_others_hold(self) -> None:
        town = Town(scheme="onetime")
        town.round()
        plan = town.server.plan(town.state)
        own = {"east": town.state.signatures["east"]}
        for signatures in ({}, own, dict(list(town.state.signatures.items())[:2])):
            request = town.server.train_requests(plan, signatures)["east"]
            with pytest.raises(MessageError, match=r"clients signed for the global adapter .* expected at least 3"):
                town.clients["east"].handle(request)
        town.clients["east"].handle(town.server.train_requests(plan, town.state.signatures)["east"])

    def test_a_client_tries_one_sum_for_a_list_and_no_second(self) -> None:
        town = Town(scheme="onetime")
        seen: list[str] = []

        def shift(client: str, request: bytes) -> bytes:
            message = decode(request)
            if isinstance(message, OpenRequest) and client == "north":
                parts = unpack_parts(message.body)
                total = bytearray(parts["sum"])
                total[-1] ^= 1
                other = replace(message, body=pack_parts(parts | {"sum": bytes(total)}))
                with pytest.raises(RunError):
                    town.clients["north"].handle(other.to_bytes())
                with pytest.raises(MessageError, match="another sum was given for the same list"):
                    town.clients["north"].handle(request)
                seen.append(client)
            return request

        town.transport.before = shift
        assert "another sum" in town.round().record.failures["north"]
        assert seen == ["north"]
        town.transport.before = lambda client, request: request
        assert town.round().record.failures == {}

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            (lambda members: replace(members, entries=members.entries[:1]), "opens no sum of fewer than 2"),
            (lambda members: replace(members, round_number=9), "another round"),
            (lambda members: replace(members, run="other"), "another run"),
            (lambda members: replace(members, roster_digest=bytes(32)), "another roster"),
            (lambda members: replace(members, sealing_digest=bytes(32)), "another sealing profile"),
            (lambda members: replace(members, num_values=3), "another number of values"),
            (lambda members: replace(members, limit=members.limit * 2), "another range"),
            (lambda members: replace(members, reference_weight=8.0), "another reference weight"),
            (
                lambda members: replace(members, entries=tuple(replace(e, weight=1.0) for e in members.entries)),
                "not right about client",
            ),
            (
                lambda members: replace(
                    members, entries=tuple(replace(e, upload_digest="0" * 64) for e in members.entries)
                ),
                "not right about client",
            ),
            (
                lambda members: replace(
                    members,
                    entries=tuple(replace(e, client="eve") if e.client == "east" else e for e in members.entries),
                ),
                "no member eve|not right|'eve' is not in the roster",
            ),
        ],
    )
    @pytest.mark.parametrize("kind", [SignRequest, ReleaseRequest])
    def test_a_list_that_is_not_right_is_neither_signed_nor_released_for(
        self, kind: type[Message], change: Callable[[MemberList], MemberList], reason: str
    ) -> None:
        town = Town(scheme="onetime")
        seen: list[str] = []

        def falsify(client: str, request: bytes) -> bytes:
            message = decode(request)
            if isinstance(message, kind) and client == "north":
                with pytest.raises(ConfideError, match=reason):
                    town.clients["north"].handle(_with_list(message, change))
                seen.append(client)
            return request

        town.transport.before = falsify
        town.round()
        assert seen == ["north"]

    def test_a_list_needs_the_signatures_of_all_its_members(self) -> None:
        town = Town(scheme="onetime")
        seen: list[str] = []

        def strip(client: str, request: bytes) -> bytes:
            message = decode(request)
            if isinstance(message, ReleaseRequest) and client == "north":
                signatures = dict(message.signatures)
                fewer = {name: signature for name, signature in signatures.items() if name != "west"}
                forged = signatures | {"west": signatures["east"]}
                for wrong, reason in ((fewer, "not signed by west"), (forged, "signature is not west's")):
                    with pytest.raises(MessageError, match=reason):
                        town.clients["north"].handle(replace(message, signatures=wrong).to_bytes())
                seen.append(client)
            return request

        town.transport.before = strip
        town.round()
        assert seen == ["north"]

    def test_the_server_gets_no_adapter_unless_the_configuration_says_so(self) -> None:
        town = Town(scheme="onetime")
        assert town.round().shared is None
        request = StateRequest(run="town", round_number=1, recipients=[]).to_bytes()
        with pytest.raises(MessageError, match=r'seal\.release is "clients"'):
            town.clients["east"].handle(request)
        town = Town(scheme="onetime", server_reads=True)
        shared = town.round().shared
        assert shared is not None
        assert shared.digest == town.state.adapter_digest

    def test_released_shares_show_the_server_nothing(self) -> None:
        """Neither the wire nor the released bodies hold a share or a value in the clear."""
        town = Town(scheme="onetime")
        request = self.captured(town, OpenRequest, "east")
        parts = unpack_parts(request.body)
        released = {name: part for name, part in parts.items() if name.startswith("release ")}
        assert len(released) == len(NAMES)  # as many as open it, and up to two to spare
        for part in released.values():
            counts = np.bincount(np.frombuffer(part[64:], np.uint8), minlength=256)
            expected = (len(part) - 64) / 256
            chi_square = float(((counts - expected) ** 2 / expected).sum())
            assert chi_square < 420  # chi-square with 255 degrees of freedom: p below 1e-9
        adapter = town.clients["east"].state.shared.adapter.tobytes()
        assert adapter not in request.body


def test_two_clients_may_if_the_configuration_says_so() -> None:
    town = Town(names=clients(2), scheme="onetime", min_clients=2)
    assert town.round().record.members == clients(2)


def test_pruned_values_do_not_travel_and_are_not_lost() -> None:
    # With four values in all, one that waited long lies outside the range easily; it is cut, and the rest remembered.
    whole, pruned = Town(scheme="onetime"), Town(scheme="onetime", sparsity=0.5, max_saturated=0.9)
    assert pruned.round().record.num_values == 2 + 1  # and the peak that the next range follows from
    assert whole.round().record.num_values == 4 + 1
    moved = np.array(pruned.adapters()[0]) != 0
    assert moved.sum() == 2
    (rest,) = pruned.clients["west"].state.remainders.values()
    np.testing.assert_allclose(rest[~moved], 2.0)  # half of the way to 4
    np.testing.assert_allclose(rest[moved], 0.0, atol=1e-3)
    for _ in range(60):
        pruned.round()
    np.testing.assert_allclose(pruned.adapters()[0], 3.0, atol=0.3)  # the weighted mean of 1, 2, 3, 4, at all four
    assert len({tuple(adapter) for adapter in pruned.adapters()}) == 1


def test_who_was_left_out_keeps_its_remainder() -> None:
    town = Town(scheme="onetime", sparsity=0.5)
    town.round()
    before = {name: dict(client.state.remainders) for name, client in town.clients.items()}
    town.transport.after = gone(TrainReply, "west")
    town.round()
    (digest,) = before["west"]
    np.testing.assert_array_equal(town.clients["west"].state.remainders[digest], before["west"][digest])
    assert not np.array_equal(town.clients["east"].state.remainders[digest], before["east"][digest])


def test_too_much_outside_the_range_stops_the_run() -> None:
    town = Town(scheme="onetime")
    town.rules = replace(town.rules, step=replace(town.rules.step, initial_limit=0.25))
    for name in NAMES:
        town.restart(name)
    with pytest.raises(SaturationError, match=r"of 5 values lie outside the range of \+-0.25 .*initial_range"):
        town.round()


def test_a_used_round_key_does_not_seal_again() -> None:
    town = Town(scheme="onetime")
    payload = town.clients["east"]._payload()
    sealing = town.sealing.begin(town.clients["east"]._context(payload))
    list(sealing.chunks(np.zeros(5, np.float32)))
    with pytest.raises(SecretKeyError, match="seals one vector only"):
        sealing.chunks(np.zeros(5, np.float32))


def _with_list(message: Message, change: Callable[[MemberList], MemberList]) -> bytes:
    if isinstance(message, SignRequest):
        return replace(message, body=change(MemberList.from_bytes(message.body)).to_bytes()).to_bytes()
    parts = unpack_parts(message.body)
    parts["members"] = change(MemberList.from_bytes(parts["members"])).to_bytes()
    return replace(message, body=pack_parts(parts)).to_bytes()
