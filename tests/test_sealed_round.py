"""The round sealed with one-time keys: equal to the plain one, closed to a cheating server, open to drop-outs."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from confide.cli.train import train
from confide.errors import (
    AgreementError,
    ConfideError,
    MessageError,
    RoundFailedError,
    RunError,
    SaturationError,
    SecretKeyError,
)
from confide.membership.frames import HEADER_BYTES
from confide.membership.memberlist import MemberList
from confide.membership.release import statement_of_release
from confide.messages import (
    MAX_WIDENINGS,
    CatchUpRequest,
    JoinReply,
    JoinRequest,
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
from confide.parties.server import SPARE_SHARES
from confide.round import run_round
from confide.run import RunDirectory
from confide.seal.fixedpoint import sum_error_bound
from confide.seal.profiles import get_profile
from confide.seal.scheme import ClientSealing
from confide.transport.base import MISSING, Reply, Transport
from tests.conftest import ConfigMaker
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
    # Headroom 4, at most the root of four clients above that, and a range that falls to 0.8 a round.
    assert 4 * max(updates) < limits[-1] < 9 * max(updates)


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
def test_a_client_restarted_after_its_upload_changes_nothing(number: int, kind: type[Message], tmp_path: Path) -> None:
    names = clients(number)
    town, undisturbed = Town(names=names, scheme="onetime", folder=tmp_path), Town(names=names, scheme="onetime")

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
    check_controls(town, rounds=4)


def check_controls(town: Town, *, rounds: int) -> None:
    """SCAFFOLD's invariant: c is the mean of all c_i. Each round adds some eight float32 roundings to either side."""
    controls = [next(iter(client.state.controls.values())) for client in town.clients.values()]
    shared = town.clients["east"].state.shared
    common = town.rules.step.control(shared, shared.layout)
    room = rounds * 8 * 2.0**-24 * float(np.abs(controls).max())
    np.testing.assert_allclose(common, np.mean(controls, axis=0, dtype=np.float64), rtol=0, atol=room)


@pytest.mark.parametrize("profile", ["compact", "ultra"])
def test_the_common_control_variate_stays_the_mean_of_all_also_where_changes_are_rounded_and_cut_off(
    profile: str,
) -> None:
    town = Town(
        scheme="onetime",
        with_control=True,
        weights="equal",
        profile=profile,
        initial_limit=0.25,  # updates go up to 2
        max_saturated=0.99,
        clients_per_round=3,
    )
    saturated = 0.0
    for number in range(1, 9):
        saturated += town.round().record.saturated
        if all(client.state.controls for client in town.clients.values()):
            check_controls(town, rounds=number)
    assert saturated > 0
    assert all(client.state.controls for client in town.clients.values())


class Lying:
    """A client's half of sealing that adds shares and then changes the result."""

    def __init__(self, honest: ClientSealing, change: Callable[[bytes], bytes]) -> None:
        self._honest = honest
        self._change = change

    def __getattr__(self, name: str) -> Any:
        return getattr(self._honest, name)

    def add_shares(self, shares: Sequence[bytes]) -> bytes:
        return self._change(self._honest.add_shares(shares))


def releases(town: Town, name: str, change: Callable[[bytes], bytes]) -> None:
    """Has a client release a changed share, encrypted and signed as the right one would be."""
    keys = town.clients[name]._keys
    keys._sealing = Lying(keys._sealing, change)


def releases_nonsense(town: Town, name: str) -> None:
    """Has a client release, under its signature, what does not decrypt."""
    keys = town.clients[name]._keys

    def release(members: MemberList, *rest: Any) -> bytes:
        return keys.sign(statement_of_release(members, name, bytes(99))) + bytes(99)

    keys.release = release  # type: ignore[method-assign, assignment]


def another_share(share: bytes) -> bytes:
    return np.frombuffer(share, np.uint8)[::-1].tobytes()


WRONG_RELEASES: dict[str, tuple[Callable[[Town, str], None], str]] = {
    "does not decrypt": (releases_nonsense, "the share that client 01 released: bytes encrypted .* do not open"),
    "is too short": (
        lambda town, name: releases(town, name, lambda share: share[:-2]),
        "client 01: a share of a round",
    ),
    "is no share": (
        lambda town, name: releases(town, name, lambda share: b"\xff" * len(share)),
        "client 01: .* below 251",
    ),
    "is another": (lambda town, name: releases(town, name, another_share), "do not fit.* 00, client 01, cl"),
}


@pytest.mark.parametrize("wrong", WRONG_RELEASES)
def test_seven_good_shares_of_ten_open_the_sum_also_where_three_wrong_ones_are_sent_first(
    wrong: str, caplog: pytest.LogCaptureFixture
) -> None:
    names = clients(10)
    town, undisturbed = (Town(names=names, scheme="onetime") for _ in range(2))
    spoil, warning = WRONG_RELEASES[wrong]
    for name in names[:3]:
        spoil(town, name)
    assert town.round().record.failures == {}
    undisturbed.round()
    assert town.adapters() == undisturbed.adapters()
    assert re.search(warning, caplog.text)


@pytest.mark.parametrize("wrong", WRONG_RELEASES)
def test_with_fewer_good_shares_than_the_threshold_nothing_opens(wrong: str) -> None:
    names = clients(10)
    town = Town(names=names, scheme="onetime")
    for name in names[:5]:
        WRONG_RELEASES[wrong][0](town, name)
    told = "one of them is wrong" if wrong == "is another" else "5 of 10 released shares .* 6 are needed .* client 04:"
    with pytest.raises(RoundFailedError, match=f"only 0 clients opened the sum.*{told}"):
        town.round()
    assert all(client.state.shared.round_number == 0 for client in town.clients.values())


def test_all_shares_are_sent_only_to_who_could_not_open_with_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    town = Town(names=clients(10), scheme="onetime")
    sent: list[tuple[str, int]] = []

    def look(client: str, request: bytes) -> bytes | None:
        message = decode(request)
        if isinstance(message, OpenRequest):
            sent.append((client, sum(name.startswith("release ") for name in unpack_parts(message.body))))
            if client == "client 03":
                return None  # who does not answer is not asked again
            if client == "client 02" and len(sent) <= 10:
                return replace(message, round_number=9).to_bytes()
        return request

    town.transport.before = look
    assert town.round().record.failures == {"client 03": "no answer"}
    assert sent == [*((name, 6 + SPARE_SHARES) for name in town.names), ("client 02", 10)]


class SilentInOpening:
    """A transport that says of one client that it did not answer, where the sum is to be opened."""

    def __init__(self, inner: Transport, client: str) -> None:
        self.inner = inner
        self.client = client
        self.asked_to_open: list[list[str]] = []

    def exchange(self, requests: Mapping[str, bytes]) -> Iterator[Reply]:
        is_opening = all(isinstance(decode(request), OpenRequest) for request in requests.values())
        if is_opening:
            self.asked_to_open.append(list(requests))
        for reply in self.inner.exchange(requests):
            is_silent = is_opening and reply.client == self.client
            yield Reply(client=self.client, error_kind=MISSING, error="no answer in time") if is_silent else reply


def test_a_client_that_a_transport_says_is_silent_is_not_asked_to_open_twice() -> None:
    town = Town(names=clients(10), scheme="onetime")
    transport = SilentInOpening(town.transport, "client 03")
    result = run_round(town.server, transport, town.state, town.notes)
    assert result.record.failures == {"client 03": "Missing: no answer in time"}
    assert transport.asked_to_open == [list(town.names)]


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

    @pytest.mark.parametrize("forked", [("east",), ("east", "north")])
    def test_a_fork_at_the_opening_ends_there(self, forked: tuple[str, ...]) -> None:
        """ATTACKS G16: other sums for some, who then hold an adapter of their own and are asked to go on from it."""
        town = Town(scheme="onetime")
        town.transport.before = on(OpenRequest, *forked)(_shift_one_value)
        if len(forked) == 1:
            told = "it computed another global adapter than north, south, west"
            assert town.round().record.failures == {"east": told}
        else:
            with pytest.raises(AgreementError, match=r"none of them .* by 3 clients\. east, north: .*; south, west: "):
                town.round()
        joined = {
            name: JoinReply.from_bytes(client.handle(JoinRequest(run="town", round_number=1).to_bytes()))
            for name, client in town.clients.items()
        }
        assert {reply.round_number for reply in joined.values()} == {1}
        assert len({reply.adapter_digest for reply in joined.values()}) == 2
        plan = town.server.plan(replace(town.state, round_number=1))
        signatures = {name: reply.signature for name, reply in joined.items()}
        for name, client in town.clients.items():
            digest = joined[name].adapter_digest
            same = {one: signatures[one] for one, reply in joined.items() if reply.adapter_digest == digest}
            own_plan = replace(plan, adapter_digest=digest)
            refused = [(signatures, "the signature is not")]  # whoever is said to have signed
            if len(same) < town.threshold:
                refused.append((same, f"{len(same)} clients signed for the global adapter .* expected at least 3"))
            else:
                client.handle(town.server.train_requests(own_plan, same)[name])
            for given, reason in refused:
                with pytest.raises(MessageError, match=reason):
                    client.handle(town.server.train_requests(own_plan, given)[name])
            (other,) = {reply.adapter_digest for reply in joined.values()} - {digest}
            with pytest.raises(AgreementError, match="holds another global adapter"):
                client.handle(town.server.train_requests(replace(plan, adapter_digest=other), signatures)[name])

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

    def test_no_second_list_is_released_in_a_round_not_even_after_a_restart(self, tmp_path: Path) -> None:
        town = Town(scheme="onetime", folder=tmp_path)
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

    @pytest.mark.parametrize("restarts", [False, True])
    def test_a_client_tries_one_sum_for_a_list_and_no_second(self, restarts: bool, tmp_path: Path) -> None:
        town = Town(scheme="onetime", folder=tmp_path)
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
                if restarts:
                    town.restart("north")
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
        "malform",
        [
            lambda total: b"",
            lambda total: total[:-1],
            lambda total: total + b"?",
            lambda total: b"?" + total[1:],
            lambda total: total[:-7] + b"\xff" * 7,  # no number below q
        ],
        ids=["none", "cut off", "longer", "another magic", "out of range"],
    )
    def test_a_malformed_sum_does_not_use_up_the_one_try(self, malform: Callable[[bytes], bytes]) -> None:
        town = Town(scheme="onetime")
        seen: list[str] = []

        def spoil_first(client: str, request: bytes) -> bytes:
            message = decode(request)
            if isinstance(message, OpenRequest) and client == "north":
                parts = unpack_parts(message.body)
                malformed = replace(message, body=pack_parts(parts | {"sum": malform(parts["sum"])}))
                with pytest.raises(MessageError):
                    town.clients["north"].handle(malformed.to_bytes())
                seen.append(client)
            return request

        town.transport.before = spoil_first
        assert town.round().record.failures == {}
        assert seen == ["north"]

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


class TestARangeThatIsTooNarrow:
    """Updates go up to 2 in the first round: a range of 0.25 has to be doubled three times."""

    @pytest.mark.parametrize("settings", [{}, {"sparsity": 0.5}, {"with_control": True, "weights": "equal"}])
    def test_a_round_that_saturates_is_done_again_in_a_wider_range(
        self, settings: dict[str, Any], caplog: pytest.LogCaptureFixture
    ) -> None:
        narrow, wide = (
            Town(scheme="onetime", initial_limit=0.25, **settings),
            Town(scheme="onetime", initial_limit=2.0, **settings),
        )
        for _ in range(4):
            record = narrow.round().record
            assert record.saturated == 0
            assert record.members == wide.round().record.members == NAMES
            assert narrow.adapters() == wide.adapters()  # and the ranges of later rounds follow from the widened one
            assert [c.state.remainders.keys() for c in narrow.clients.values()] == [
                c.state.remainders.keys() for c in wide.clients.values()
            ]
        warnings = [record.message for record in caplog.records if "twice that range" in record.message]
        assert len(warnings) >= 3
        assert re.search(
            r"client \w+: \d of \d+ values \(a share of 0\.\d+\) lie outside the range of \+-0\.25 .*max_saturated "
            r"allows 0\. Round 1 is trained again in twice that range",
            warnings[0],
        )
        assert [re.findall(r"\+-(\S+) ", warning)[0] for warning in warnings[:3]] == ["0.25", "0.5", "1"]

    def test_a_range_that_is_too_narrow_after_all_doublings_stops_the_run(self) -> None:
        town = Town(scheme="onetime", initial_limit=2.0 / 2 ** (MAX_WIDENINGS + 1))
        with pytest.raises(
            SaturationError, match=r"of 5 values .* the range of \+-1 .* 64 times that of the plan.*seal\.initial_range"
        ):
            town.round()
        assert town.adapters() == [[0.0] * 4] * 4
        Town(scheme="onetime", initial_limit=2.0 / 2**MAX_WIDENINGS).round()

    def test_a_server_that_widens_without_need_costs_precision_and_no_more(self) -> None:
        town, undisturbed = Town(scheme="onetime"), Town(scheme="onetime")
        original = town.server.train_requests
        town.server.train_requests = lambda plan, signatures, **_: original(  # type: ignore[method-assign]
            plan, signatures, widening=MAX_WIDENINGS
        )
        for number in range(1, 9):
            limit, planned = (one.clients["east"]._payload().limit for one in (town, undisturbed))
            assert limit <= 1.3 * planned  # of a range 64 times as wide, the peaks are rounded to larger steps
            assert town.round().record.failures == {}
            undisturbed.round()
            # As in the test of the quantisation bound, with the widest range that the rounds so far were sealed in.
            room = number * 4 * sum_error_bound(4, 2**MAX_WIDENINGS * 16.0, PROFILE) / (10 / 4)
            assert np.abs(np.array(town.adapters()) - np.array(undisturbed.adapters())).max() <= room

    @pytest.mark.parametrize("doublings", [0, 1])
    @pytest.mark.parametrize("kind", [TrainRequest, TrainReply])
    def test_who_did_not_upload_in_that_range_opens_the_sum_all_the_same(
        self, kind: type[Message], doublings: int
    ) -> None:
        """Also who uploaded, or lost its upload, in a narrower one: no list holds that."""
        town = Town(scheme="onetime", initial_limit=0.25)
        asked: list[int] = []

        def lose(client: str, request: bytes) -> bytes | None:
            message = decode(request)
            if client == "east" and isinstance(message, TrainRequest):
                asked.append(message.widening)
                if kind is TrainRequest and message.widening > doublings:
                    return None
            return request

        def lose_reply(client: str, reply: bytes) -> bytes | None:
            is_upload = bool(reply) and isinstance(decode(reply), TrainReply)
            return None if client == "east" and is_upload and kind is TrainReply else reply

        town.transport.before, town.transport.after = lose, lose_reply
        record = town.round().record
        assert asked == [0, 1, 2, 3]
        assert record.members == ("north", "south", "west")
        assert record.failures == {"east": "no answer"}
        assert town.state.current == set(NAMES)
        assert len({tuple(adapter) for adapter in town.adapters()}) == 1
        assert [client.state.num_seen for client in town.clients.values()] == [0, 2, 2, 2]

    @pytest.mark.parametrize("kind", [SignRequest, ReleaseRequest, OpenRequest])
    def test_a_client_that_is_restarted_knows_the_range_it_sealed_in(self, kind: type[Message]) -> None:
        town, undisturbed = Town(scheme="onetime", initial_limit=0.25), Town(scheme="onetime", initial_limit=0.25)

        def restart(client: str, request: bytes) -> bytes:
            if isinstance(decode(request), kind):
                town.restart(client)
            return request

        town.transport.before = restart
        for _ in range(2):
            assert town.round().record.failures == {}
            undisturbed.round()
        assert town.adapters() == undisturbed.adapters()

    @pytest.mark.parametrize("kind", [ReleaseRequest, OpenRequest])
    def test_a_run_that_ended_after_the_upload_does_the_round_again_in_the_range_it_takes(
        self, kind: type[Message]
    ) -> None:
        town, undisturbed = Town(scheme="onetime", initial_limit=0.25), Town(scheme="onetime", initial_limit=0.25)
        town.transport.before = gone(kind, *NAMES)
        with pytest.raises(RoundFailedError):
            town.round()
        town.transport.before = lambda client, request: request
        for name in NAMES:
            town.restart(name)
        for _ in range(2):
            assert town.round().record.failures == {}
            undisturbed.round()
        assert town.adapters() == undisturbed.adapters()

    def test_who_missed_the_opening_of_a_widened_round_catches_up(self) -> None:
        town, undisturbed = Town(scheme="onetime", initial_limit=0.25), Town(scheme="onetime", initial_limit=0.25)
        town.transport.before = gone(OpenRequest, "south")
        town.round()
        undisturbed.round()
        town.transport.before = lambda client, request: request
        for _ in range(2):
            town.round()
            undisturbed.round()
        assert town.adapters() == undisturbed.adapters()

    @pytest.mark.parametrize("scheme", ["onetime", "plain"])
    @pytest.mark.parametrize("widening", [-1, MAX_WIDENINGS + 1, 1 << 40])
    def test_a_range_is_doubled_a_few_times_at_most_and_only_where_there_is_one(
        self, scheme: str, widening: int
    ) -> None:
        town = Town(scheme=scheme)
        client, plan = town.clients["east"], town.server.plan(town.state)
        most = MAX_WIDENINGS if scheme == "onetime" else 0
        for wrong in (widening, most + 1):
            request = town.server.train_requests(plan, town.state.signatures, widening=wrong)["east"]
            with pytest.raises(MessageError, match=f"a range doubled {wrong} times, expected 0 to {most}"):
                client.handle(request)
        client.handle(town.server.train_requests(plan, town.state.signatures, widening=most)["east"])

    @pytest.mark.parametrize("factor", [3.0, 0.5, 2.0 ** (MAX_WIDENINGS + 1), 2.0**-1074])
    def test_no_list_in_a_range_that_no_round_takes_is_released_for(self, factor: float) -> None:
        town = Town(scheme="onetime")
        seen: list[str] = []

        def falsify(client: str, request: bytes) -> bytes | None:
            message = decode(request)
            if client == "north" and isinstance(message, TrainRequest):
                return None
            if client == "north" and isinstance(message, ReleaseRequest):
                with pytest.raises(MessageError, match=r"another range|limit of a member list"):
                    town.clients["north"].handle(
                        _with_list(message, lambda members: replace(members, limit=members.limit * factor))
                    )
                seen.append(client)
            return request

        town.transport.before = falsify
        town.round()
        assert seen == ["north"]


def test_where_no_list_is_signed_a_range_is_widened_too(
    make_config: ConfigMaker, caplog: pytest.LogCaptureFixture
) -> None:
    narrow = make_config(seal__scheme="shared", seal__initial_range=0.005, federation__rounds=2, run__name="narrow")
    train(narrow)
    doublings = caplog.text.count("twice that range")
    assert doublings > 0
    wide = make_config(
        seal__scheme="shared", seal__initial_range=0.005 * 2**doublings, federation__rounds=2, run__name="wide"
    )
    caplog.clear()
    train(wide)
    assert "twice that range" not in caplog.text
    found, expected = (
        [record.adapter_digest for record in RunDirectory.open(Path(one.run.folder) / one.run.name).records()]
        for one in (narrow, wide)
    )
    assert found == expected


SGD = {"run__seed": 1, "train__optimizer": "sgd", "train__learning_rate": 0.5}
SCAFFOLD = {
    "run__seed": 7,
    "train__optimizer": "sgd",
    "train__learning_rate": 0.05,
    "train__clip_grad_norm": 0.0,
    "federation__server_optimizer": "scaffold",
    "federation__weights": "equal",
}


@pytest.mark.slow
@pytest.mark.parametrize("settings", [SGD, SCAFFOLD], ids=["sgd", "scaffold"])
def test_large_steps_on_few_values_do_not_end_a_run(make_config: ConfigMaker, settings: dict[str, Any]) -> None:
    """Of so few values one that grows fast is more than the share that may saturate.

    With twice the bound as the next range, half the range as the steepest fall and no second attempt, both end early.
    """
    config = make_config(
        **settings,
        lora__rank=6,
        lora__targets=["v_proj"],
        train__local_steps=1,
        federation__rounds=60,
    )
    train(config)
    records = RunDirectory.open(Path(config.run.folder) / config.run.name).records()
    assert len(records) == 60
    assert all(record.failures == {} and record.num_values in (193, 2 * 193) for record in records)


def test_a_used_round_key_does_not_seal_again() -> None:
    town = Town(scheme="onetime")
    payload = town.clients["east"]._payload()
    sealing = town.sealing.begin(town.clients["east"]._context(payload))
    list(sealing.chunks(np.zeros(5, np.float32)))
    with pytest.raises(SecretKeyError, match="seals one vector only"):
        sealing.chunks(np.zeros(5, np.float32))


def _shift_one_value(request: OpenRequest) -> bytes:
    """Moves the first value of the sum by a level: without a homomorphic MAC nobody notices."""
    parts = unpack_parts(request.body)
    total, width = bytearray(parts["sum"]), PROFILE.coefficient_bytes[0]
    first = slice(HEADER_BYTES, HEADER_BYTES + width)
    shifted = (int.from_bytes(total[first], "little") + PROFILE.message_scale) % PROFILE.modulus[0]
    total[first] = shifted.to_bytes(width, "little")
    return replace(request, body=pack_parts(parts | {"sum": bytes(total)})).to_bytes()


def _with_list(message: Message, change: Callable[[MemberList], MemberList]) -> bytes:
    if isinstance(message, SignRequest):
        return replace(message, body=change(MemberList.from_bytes(message.body)).to_bytes()).to_bytes()
    parts = unpack_parts(message.body)
    parts["members"] = change(MemberList.from_bytes(parts["members"])).to_bytes()
    return replace(message, body=pack_parts(parts)).to_bytes()
