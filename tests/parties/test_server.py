"""The server alone, without clients: whom it asks, what it adds, whom it sends what."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from confide.errors import AgreementError, ConfideError, MessageError, RoundFailedError
from confide.global_state import GlobalState
from confide.membership.frames import FrameSpec, sum_from_bytes, write_frames
from confide.membership.identity import Identity
from confide.membership.memberlist import MemberList
from confide.membership.roster import Roster
from confide.membership.statements import adapter_statement, member_list_statement
from confide.messages import (
    CatchUpRequest,
    JoinReply,
    JoinRequest,
    OpenReply,
    OpenRequest,
    ReleaseReply,
    ReleaseRequest,
    SignReply,
    SignRequest,
    StateReply,
    StateRequest,
    TrainReply,
    TrainRequest,
    pack_parts,
    unpack_parts,
)
from confide.parties.server import (
    MAX_ENVELOPE_BYTES,
    PayloadShape,
    RoundPlan,
    Server,
    ServerState,
    Upload,
    check_metrics,
)
from confide.seal.plain import PlainServer
from confide.update import Layout, Slot, Vector

LAYOUT = Layout((Slot(name="w", shape=(3,)),))
NAMES = tuple(f"client-{number}" for number in range(7))
IDENTITIES = {name: Identity.generate(name) for name in NAMES}
ROSTER = Roster([identity.public for identity in IDENTITIES.values()])


class ReleasingPlainServer(PlainServer):
    """Adds plain values, but in a round with shares and releases as in a scheme with round keys."""

    needs_release = True


SEALING = ReleasingPlainServer()
ONES = np.ones(3, np.float32)


def make_server(**changes: Any) -> Server:
    settings: dict[str, Any] = {"roster": ROSTER, "clients_per_round": 3, "min_clients": 2, "threshold": 4, "seed": 0}
    settings["sealing"] = SEALING
    return Server(
        run="alone",
        layout=LAYOUT,
        shape=lambda number: PayloadShape(layout_digest=LAYOUT.digest, num_values=LAYOUT.num_values),
        weight=lambda count: 2.0 * count,
        **{**settings, **changes},
    )


def state_after(rounds: int, current: tuple[str, ...] = NAMES, counted: tuple[str, ...] = ()) -> ServerState:
    sizes = {name: number + 1 for number, name in enumerate(NAMES)}
    return ServerState(
        round_number=rounds,
        adapter_digest="ab" * 32,
        current=frozenset(current),
        num_examples=sizes,
        signatures={NAMES[0]: "cd"},
        counted=frozenset(counted),
    )


def plan_of(server: Server, rounds: int = 0) -> RoundPlan:
    return server.plan(state_after(rounds))


def weight_of(client: str) -> float:
    return 2.0 * (NAMES.index(client) + 1)


def spec(limit: float = 1.0) -> FrameSpec:
    return FrameSpec(
        sealing_digest=SEALING.digest,
        roster_digest=ROSTER.digest,
        run="alone",
        round_number=1,
        num_values=3,
        limit=limit,
        chunk_values=SEALING.chunk_values,
    )


def frames_of(client: str, values: Vector, limit: float = 1.0) -> bytes:
    bodies = [values.astype("<f4").tobytes()]
    return b"".join(write_frames(spec(limit), ROSTER.point_of(client), bodies, IDENTITIES[client].sign))


def body_of(client: str, frames: bytes, **changes: bytes | None) -> bytes:
    """An upload's body with all envelopes; a keyword "share_2" changes that to client-2, None leaves it out."""
    parts = {f"{what} {name}": f"{what} {client} {name}".encode() for what in ("share", "group") for name in NAMES}
    changed = {name.replace("_", " client-"): part for name, part in changes.items()}
    return pack_parts({name: part for name, part in {"frames": frames, **parts, **changed}.items() if part is not None})


def reply_of(client: str, values: Vector = ONES, limit: float = 1.0) -> TrainReply:
    return TrainReply(
        run="alone",
        round_number=1,
        client=client,
        weight=weight_of(client),
        layout_digest=LAYOUT.digest,
        key_id="",
        limit=limit,
        metrics={"loss": 1.0, "seconds": 0.1},
        body=body_of(client, frames_of(client, values, limit)),
    )


def signed_by(client: str, digest: str, round_number: int) -> str:
    statement = adapter_statement(
        run="alone", round_number=round_number, roster_digest=ROSTER.digest, sender=client, adapter_digest=digest
    )
    return IDENTITIES[client].sign(statement).hex()


def joined_by(client: str) -> JoinReply:
    return JoinReply(
        run="alone",
        round_number=0,
        client=client,
        num_examples=1,
        adapter_digest="cd" * 32,
        signature=signed_by(client, "cd" * 32, 0),
    )


def opened_by(client: str, digest: str = "cd" * 32, **metrics: float) -> OpenReply:
    return OpenReply(
        run="alone",
        round_number=1,
        client=client,
        adapter_digest=digest,
        signature=signed_by(client, digest, 1),
        metrics={"step_norm": 1.0} | metrics,
    )


def uploads_of(server: Server, *clients: str) -> dict[str, Upload]:
    return {client: server.read_upload(plan_of(server), client, reply_of(client)) for client in clients}


def members_of(server: Server, *clients: str) -> tuple[MemberList, dict[str, Upload]]:
    uploads = uploads_of(server, *clients)
    return server.list_members(plan_of(server), uploads), uploads


@settings(deadline=None)
@given(st.permutations(NAMES), st.integers(0, 7), st.integers(0, 2**32), st.integers(0, 1000))
def test_a_cohort_follows_from_seed_and_round_alone(
    order: list[str], clients_per_round: int, seed: int, rounds: int
) -> None:
    named: dict[str, Any] = {"clients_per_round": clients_per_round, "seed": seed}
    shuffled = Roster([IDENTITIES[name].public for name in order])
    plan = plan_of(make_server(roster=shuffled, **named), rounds)
    assert plan == plan_of(make_server(**named), rounds)
    assert plan.round_number == rounds + 1
    assert len(set(plan.cohort)) == (clients_per_round or len(NAMES))
    assert list(plan.cohort) == sorted(plan.cohort)
    assert set(plan.cohort) <= set(NAMES)


def test_every_client_is_drawn_equally_often() -> None:
    server = make_server()
    drawn = [client for rounds in range(3000) for client in plan_of(server, rounds).cohort]
    # Binomial with p = 3/7: standard deviation 27; 4.5 of them over 7 clients fail with a chance of 5e-5.
    assert all(abs(drawn.count(client) - 3000 * 3 / 7) < 122 for client in NAMES)


def test_another_seed_draws_other_cohorts() -> None:
    cohorts = [[plan_of(make_server(seed=seed), rounds).cohort for rounds in range(10)] for seed in (0, 1)]
    assert cohorts[0] != cohorts[1]


def test_weights_follow_from_what_clients_said_when_they_joined() -> None:
    plan = plan_of(make_server())
    assert plan.weights == {name: weight_of(name) for name in NAMES}
    assert plan.reference_weight == max(weight_of(name) for name in plan.cohort)
    unknown = replace(plan, weights={})
    assert unknown.reference_weight == 1.0


def test_only_the_cohort_is_asked_to_train_and_everybody_to_join() -> None:
    server = make_server()
    plan = plan_of(server)
    requests = server.train_requests(plan, {"a": "00"})
    assert set(requests) == set(plan.cohort)
    asked = TrainRequest.from_bytes(requests[plan.cohort[0]])
    assert (asked.run, asked.round_number, tuple(asked.cohort)) == ("alone", 1, plan.cohort)
    assert (asked.adapter_digest, asked.reference_weight) == (plan.adapter_digest, plan.reference_weight)
    assert asked.signatures == {"a": "00"}
    joins = server.join_requests(0)
    assert set(joins) == set(NAMES)
    assert JoinRequest.from_bytes(joins[NAMES[0]]).run == "alone"


@pytest.mark.parametrize(
    "changes",
    [
        {"run": "other"},
        {"client": NAMES[1]},
        {"round_number": -1},
        {"num_examples": 0},
        {"num_examples": 1 << 40},
    ],
)
def test_who_joins_with_what_cannot_be_is_refused(changes: dict[str, Any]) -> None:
    good = joined_by(NAMES[0])
    assert make_server().check_joined(NAMES[0], good) is good
    with pytest.raises(MessageError, match="joins with an impossible run, name, round or number of examples"):
        make_server().check_joined(NAMES[0], replace(good, **changes))


@pytest.mark.parametrize("changes", [{"round_number": 1}, {"adapter_digest": "00"}, {"signature": "00"}])
def test_who_joins_signs_for_where_it_stands(changes: dict[str, Any]) -> None:
    with pytest.raises(MessageError, match="the signature is not client-0's"):
        make_server().check_joined(NAMES[0], replace(joined_by(NAMES[0]), **changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"client": NAMES[2]}, "answered for another run, round or client"),
        ({"weight": 1.0}, "claims the weight 1, by its examples it is 4.0"),
        ({"key_id": "XY"}, "a key_id in the member list must be"),
        ({"limit": 0.0}, "the limit of a frame must lie above 0"),
        ({"limit": 1e300}, "the limit of a frame must lie above 0"),
        ({"body": b"?"}, "a body of 1 bytes is cut off"),
        ({"body": body_of(NAMES[1], frames_of(NAMES[2], ONES))}, "the sender is 3, expected 2"),
        ({"body": body_of(NAMES[1], frames_of(NAMES[1], ONES)[:-1] + b"?")}, "the signature is not client-1's"),
        ({"body": body_of(NAMES[1], frames_of(NAMES[1], ONES) + b"?")}, "stand behind the last frame"),
        ({"body": body_of(NAMES[1], b"")}, "0 bytes are too few for 1 frames"),
        (
            {"body": body_of(NAMES[1], b"", share_4=None)},
            "client-1 sends 13 envelopes, or not those .* expected are 14",
        ),
        (
            {"body": body_of(NAMES[1], b"", group_4=None)},
            "client-1 sends 13 envelopes, or not those .* expected are 14",
        ),
        (
            {"body": body_of(NAMES[1], b"", share_9=b"x")},
            "client-1 sends 15 envelopes, or not those .* expected are 14",
        ),
        ({"body": body_of(NAMES[1], b"", share_9=b"x", group_4=None)}, "sends 14 envelopes, or not those"),
        ({"body": body_of(NAMES[1], b"", group_4=bytes(16385))}, "an envelope of 16385 bytes, at most 16384"),
        ({"body": pack_parts({})}, "sends 0 envelopes"),
    ],
)
def test_an_upload_that_is_not_what_it_says_is_refused(changes: dict[str, Any], message: str) -> None:
    server = make_server()
    good = reply_of(NAMES[1])
    frames = unpack_parts(good.body)["frames"]
    upload = server.read_upload(plan_of(server), NAMES[1], good)
    assert upload.entry.upload_digest == hashlib.sha256(frames).hexdigest()
    with pytest.raises(MessageError, match=message):
        server.read_upload(plan_of(server), NAMES[1], replace(good, **changes))


def test_a_body_longer_than_any_upload_is_refused_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    server, frames = make_server(), frames_of(NAMES[1], ONES)
    largest = {f"{what}_{number}": bytes(MAX_ENVELOPE_BYTES) for what in ("share", "group") for number in range(7)}
    good = replace(reply_of(NAMES[1]), body=body_of(NAMES[1], frames, **largest))
    assert server.read_upload(plan_of(server), NAMES[1], good).bodies
    monkeypatch.setattr("confide.parties.server.unpack_parts", lambda body: pytest.fail("a part was copied"))
    most = len(good.body)
    with pytest.raises(MessageError, match=f"uploads {most + 1} bytes, an upload of this round has at most {most}"):
        server.read_upload(plan_of(server), NAMES[1], replace(good, body=good.body + b"?"))


def test_where_there_are_no_round_keys_no_envelopes_are_taken() -> None:
    server = make_server(sealing=PlainServer())
    good = replace(reply_of(NAMES[1]), body=pack_parts({"frames": frames_of(NAMES[1], ONES)}))
    assert server.read_upload(plan_of(server), NAMES[1], good).envelopes == {}
    body = pack_parts({"frames": frames_of(NAMES[1], ONES)[:-30], "share client-1": b""})  # no longer than a good one
    with pytest.raises(MessageError, match=r"client-1 sends 1 envelopes, or not those .* expected are 0, .* none in a"):
        server.read_upload(plan_of(server), NAMES[1], replace(good, body=body))


bodies = st.lists(st.floats(-1e6, 1e6, width=32), min_size=3, max_size=3).map(lambda found: np.array(found, np.float32))


@settings(deadline=None, max_examples=40)
@given(st.dictionaries(st.sampled_from(NAMES), bodies, min_size=2), st.randoms())
def test_list_and_sum_do_not_depend_on_who_answered_first(updates: Mapping[str, Vector], random: Any) -> None:
    server = make_server(clients_per_round=0)
    plan = plan_of(server)
    arrived = {client: server.read_upload(plan, client, reply_of(client, one)) for client, one in updates.items()}
    order = list(arrived)
    random.shuffle(order)
    results = []
    for uploads in (arrived, {client: arrived[client] for client in order}):
        selected, failures = server.select(plan, uploads, {})
        members = server.list_members(plan, selected)
        assert failures == {}
        assert list(members.weights) == sorted(updates)
        results.append((members.to_bytes(), server.add(plan, members, selected)))
    assert results[0] == results[1]
    (total,) = sum_from_bytes(results[0][1], spec(), lambda body, num_values: None)
    expected = np.sum([one.astype(np.float64) for one in updates.values()], axis=0)
    # Seven values up to 1e6 in float64, in any order, then rounded to float32: half a unit in the last place.
    np.testing.assert_allclose(np.frombuffer(total, "<f4"), expected, rtol=2**-23, atol=1e-8)


def test_members_carry_the_weights_they_came_with() -> None:
    members, _ = members_of(make_server(), NAMES[0], NAMES[1])
    assert members.weights == {NAMES[0]: 2.0, NAMES[1]: 4.0}


def test_too_few_updates_are_never_added_and_the_reasons_are_told() -> None:
    server = make_server()
    with pytest.raises(RoundFailedError, match=r"round 1: 1 of 3 clients .*min_clients is 2\. a: late; b: nonsense\."):
        server.select(plan_of(server), uploads_of(server, NAMES[0]), {"b": "nonsense", "a": "late"})
    with pytest.raises(RoundFailedError, match="round 1: 0 of 3 clients"):
        server.select(plan_of(server), {}, {})


def test_who_sealed_in_another_range_than_most_is_left_out() -> None:
    server = make_server()
    uploads = uploads_of(server, NAMES[0], NAMES[2], NAMES[3])
    uploads[NAMES[1]] = server.read_upload(plan_of(server), NAMES[1], reply_of(NAMES[1], limit=2.0))
    selected, failures = server.select(plan_of(server), uploads, {NAMES[4]: "late"})
    assert list(selected) == [NAMES[0], NAMES[2], NAMES[3]]
    assert failures == {NAMES[4]: "late", NAMES[1]: "it sealed in another range than the others"}
    assert server.list_members(plan_of(server), selected).limit == 1.0


def test_only_members_are_asked_to_sign_and_only_their_own_signature_is_taken() -> None:
    server = make_server()
    members, _ = members_of(server, NAMES[0], NAMES[1])
    requests = server.sign_requests(members)
    assert set(requests) == {NAMES[0], NAMES[1]}
    assert MemberList.from_bytes(SignRequest.from_bytes(requests[NAMES[0]]).body) == members
    signature = IDENTITIES[NAMES[0]].sign(member_list_statement(members.to_bytes())).hex()
    reply = SignReply(run="alone", round_number=1, client=NAMES[0], signature=signature)
    assert server.read_signature(members, NAMES[0], reply) == signature
    with pytest.raises(MessageError, match="the signature is not client-1's"):
        server.read_signature(members, NAMES[1], replace(reply, client=NAMES[1]))
    with pytest.raises(MessageError, match="another run, round or client"):
        server.read_signature(members, NAMES[1], reply)
    shorter, _ = members_of(server, NAMES[0])
    with pytest.raises(MessageError, match="the signature is not client-0's"):
        server.read_signature(shorter, NAMES[0], reply)
    with pytest.raises(MessageError, match="in hexadecimal"):
        server.read_signature(members, NAMES[0], replace(reply, signature="signed"))


def test_everybody_up_to_date_is_asked_to_release_with_the_envelopes_that_are_its_own() -> None:
    server = make_server()
    members, uploads = members_of(server, NAMES[0], NAMES[1])
    requests = server.release_requests(members, {NAMES[0]: "aa"}, uploads, frozenset({NAMES[1], NAMES[4], "stranger"}))
    assert set(requests) == {NAMES[1], NAMES[4]}
    asked = ReleaseRequest.from_bytes(requests[NAMES[4]])
    assert asked.signatures == {NAMES[0]: "aa"}
    assert unpack_parts(asked.body) == {
        "members": members.to_bytes(),
        **{f"{what} {name}": f"{what} {name} {NAMES[4]}".encode() for what in ("share", "group") for name in NAMES[:2]},
    }


def test_a_release_that_its_client_did_not_sign_for_this_list_is_refused() -> None:
    server = make_server()
    members, _ = members_of(server, NAMES[0], NAMES[1])
    with pytest.raises(MessageError, match="client client-0 released 3 bytes, fewer than a signature has"):
        server.read_release(members, NAMES[0], ReleaseReply(run="alone", round_number=1, client=NAMES[0], body=b"abc"))
    with pytest.raises(MessageError, match="the signature is not client-0's"):
        server.read_release(
            members, NAMES[0], ReleaseReply(run="alone", round_number=1, client=NAMES[0], body=bytes(99))
        )
    with pytest.raises(MessageError, match="another run, round or client"):
        server.read_release(members, NAMES[0], ReleaseReply(run="alone", round_number=2, client=NAMES[0]))


def test_fewer_releases_than_the_threshold_open_nothing() -> None:
    server = make_server(threshold=4)
    members, _ = members_of(server, NAMES[0], NAMES[1])
    server.check_released(members, dict.fromkeys(NAMES[:4], b""), {})
    with pytest.raises(
        RoundFailedError, match=r"3 clients released .*, 4 are needed .*nothing opens\. b: late\. Resuming"
    ):
        server.check_released(members, dict.fromkeys(NAMES[:3], b""), {"b": "late"})


@pytest.mark.parametrize("released", [{}, {NAMES[5]: b"share"}])
def test_the_sum_goes_only_to_who_holds_the_state_before_it(released: dict[str, bytes]) -> None:
    server = make_server()
    members, uploads = members_of(server, NAMES[0], NAMES[1])
    current = frozenset({NAMES[1], NAMES[4], "a stranger"})
    requests = server.open_requests(members, b"total", released, uploads, current)
    assert set(requests) == {NAMES[1], NAMES[4]}
    group = {f"group {name}": f"group {name} {NAMES[4]}".encode() for name in NAMES[:2]}
    assert unpack_parts(OpenRequest.from_bytes(requests[NAMES[4]]).body) == {
        "members": members.to_bytes(),
        "sum": b"total",
        **({f"release {NAMES[5]}": b"share"} | group if released else {}),
    }


def test_a_report_on_the_sum_is_signed_and_has_its_figures() -> None:
    server = make_server()
    plan = plan_of(server)
    good = opened_by(NAMES[0])
    assert server.check_opened(plan, NAMES[0], good) is good
    bad: list[tuple[OpenReply, str]] = [
        (replace(good, round_number=2), "another run, round or client"),
        (replace(good, adapter_digest="00"), "the signature is not client-0's"),
        (replace(good, adapter_digest="\ud800"), "no Unicode"),
        (replace(good, signature=opened_by(NAMES[1]).signature), "the signature is not client-0's"),
        (replace(good, signature="?"), "in hexadecimal"),
        (replace(good, metrics={}), "does not report step_norm"),
        (opened_by(NAMES[0], held_out_loss=1.0), "a held-out loss over no targets"),
        (opened_by(NAMES[0], held_out_loss=1.0, held_out_targets=0.5), "a held-out loss over no targets"),
    ]
    for reply, reason in bad:
        with pytest.raises(MessageError, match=reason):
            server.check_opened(plan, NAMES[0], reply)


def test_after_a_round_only_who_opened_it_is_current() -> None:
    server = make_server(threshold=2)
    before = state_after(0)
    members, _ = members_of(server, NAMES[2], NAMES[3])
    opened = {name: opened_by(name) for name in NAMES[2:5]}
    after, failures = server.agree(plan_of(server), before, members, opened, {"zoe": "asleep"})
    assert after == ServerState(
        round_number=1,
        adapter_digest="cd" * 32,
        current=frozenset(NAMES[2:5]),
        num_examples=before.num_examples,
        signatures={name: opened[name].signature for name in NAMES[2:5]},
    )
    assert failures == {"zoe": "asleep"}


def test_who_computed_another_state_than_enough_others_is_behind_and_named() -> None:
    server = make_server(threshold=2)
    members, _ = members_of(server, NAMES[0], NAMES[1])
    opened = {NAMES[0]: opened_by(NAMES[0], "ef" * 32)} | {name: opened_by(name) for name in NAMES[1:3]}
    after, failures = server.agree(plan_of(server), state_after(0), members, opened, {"zoe": "asleep"})
    assert after.adapter_digest == "cd" * 32
    assert after.current == set(NAMES[1:3])
    assert after.counted == {NAMES[0]}
    assert set(after.signatures) == set(NAMES[1:3])
    assert failures == {
        "zoe": "asleep",
        NAMES[0]: "it computed another global adapter than client-1, client-2",
    }


def test_who_is_behind_with_an_upload_in_a_sum_is_remembered_until_it_opens_one() -> None:
    server = make_server(threshold=2)
    members, _ = members_of(server, NAMES[0], NAMES[1], NAMES[2])
    opened = {name: opened_by(name) for name in (NAMES[2], NAMES[4])}
    before = state_after(0, counted=(NAMES[4], NAMES[5]))
    after, _ = server.agree(plan_of(server), before, members, opened, {})
    assert after.counted == {NAMES[0], NAMES[1], NAMES[5]}


def test_reports_that_differ_or_are_too_few_end_the_round() -> None:
    server = make_server(threshold=2)
    members, _ = members_of(server, NAMES[0], NAMES[1])
    apart = {name: opened_by(name, digest * 32) for name, digest in zip(NAMES, ("cd", "ef", "cd", "01"), strict=False)}
    told = r"computed 3 different .* by 3 clients\. client-0, client-2: (cd){6}; client-1: (ef){6}; client-3: (01){6}\."
    with pytest.raises(AgreementError, match=f"round 1: the clients {told}"):
        make_server(threshold=3).agree(plan_of(server), state_after(0), members, apart, {})
    for few in ({}, {NAMES[0]: opened_by(NAMES[0])}):
        with pytest.raises(
            RoundFailedError, match=f"only {len(few)} clients opened the sum, 2 are needed .*zoe: asleep"
        ):
            server.agree(plan_of(server), state_after(0), members, few, {"zoe": "asleep"})
    enough_to_count = {name: opened_by(name) for name in NAMES[:2]}
    with pytest.raises(RoundFailedError, match=r"only 2 clients opened the sum, 3 are needed .*seal\.threshold"):
        make_server(threshold=3).agree(plan_of(server), state_after(0), members, enough_to_count, {})


def test_a_client_behind_is_handed_the_state_with_its_digest_and_its_own_key() -> None:
    server, state = make_server(), state_after(4, counted=(NAMES[6],))
    asked = StateRequest.from_bytes(server.state_request(state, NAMES[5:]))
    assert (asked.round_number, tuple(asked.recipients)) == (4, NAMES[5:])
    parts = {"state": b"state", f"to {NAMES[5]}": b"key 5", f"to {NAMES[6]}": b"key 6"}
    requests = server.catch_up_requests(state, NAMES[0], parts, NAMES[5:])
    assert set(requests) == set(NAMES[5:])
    for name, key, counted in ((NAMES[5], b"key 5", False), (NAMES[6], b"key 6", True)):
        request = CatchUpRequest.from_bytes(requests[name])
        assert (request.round_number, request.adapter_digest) == (4, state.adapter_digest)
        assert (request.source, request.signatures, request.counted) == (NAMES[0], state.signatures, counted)
        assert unpack_parts(request.body) == {"state": b"state", "key": key}
    poor = CatchUpRequest.from_bytes(server.catch_up_requests(state, NAMES[0], {}, NAMES[5:])[NAMES[5]])
    assert unpack_parts(poor.body) == {"state": b"", "key": b""}  # the client refuses it, the server does not break


def test_enough_to_open_are_as_many_shares_as_the_threshold_and_two_to_spare() -> None:
    released = {name: name.encode() for name in reversed(NAMES)}
    enough = make_server(threshold=2).enough_to_open(released)
    assert enough == {name: name.encode() for name in sorted(NAMES)[:4]}
    assert make_server(threshold=6).enough_to_open(released) == released
    assert make_server().enough_to_open({}) == {}


def handed(state: bytes, digest: str, round_number: int = 1) -> StateReply:
    return StateReply(
        run="alone",
        round_number=round_number,
        client=NAMES[0],
        adapter_digest=digest,
        body=pack_parts({"state": state}),
    )


SHARED = GlobalState(layout=LAYOUT, round_number=1, adapter=ONES)
OTHER_SHARED = replace(SHARED, round_number=2)


def test_a_state_is_read_where_clients_give_it() -> None:
    server, state = make_server(), replace(state_after(1), adapter_digest=SHARED.digest)
    found = server.read_state(state, NAMES[0], handed(SHARED.to_bytes(), SHARED.digest))
    assert found.digest == SHARED.digest


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (handed(SHARED.to_bytes(), "00"), "hands over another state than the round's"),
        (handed(SHARED.to_bytes(), SHARED.digest, round_number=2), "another run, round or client"),
        (handed(OTHER_SHARED.to_bytes(), SHARED.digest), "hands over a state that does not match its digest"),
        (handed(b"", SHARED.digest), "hold no global state"),
        (replace(handed(b"", SHARED.digest), body=b"?"), "is cut off"),
        (replace(handed(b"", SHARED.digest), body=b""), "hold no global state"),
        (handed(save({"adapter": ONES, "round_number": np.zeros(0)}), SHARED.digest), "hold no global state"),
        (handed(save({"adapter": ONES, "round_number": np.array([np.inf])}), SHARED.digest), "hold no global state"),
    ],
)
def test_a_state_that_the_clients_did_not_agree_on_is_refused(reply: StateReply, message: str) -> None:
    server, state = make_server(), replace(state_after(1), adapter_digest=SHARED.digest)
    with pytest.raises(ConfideError, match=message):
        server.read_state(state, NAMES[0], reply)


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ({"loss": 1.0}, "client east does not report seconds, num_tokens"),
        ({"loss": 1.0, "seconds": 1.0, "num_tokens": -0.1}, r"reports figures below 0 or beyond 1e\+30: num_tokens"),
        ({"loss": 1.0, "seconds": 1.0, "num_tokens": float("nan")}, r"below 0 or beyond 1e\+30: num_tokens"),
        ({"loss": 1.0, "seconds": 1.0, "num_tokens": 1.0, "step_norm": 1e30}, r"beyond 1e\+30: step_norm"),
        ({"loss": 1.0, "seconds": 1.0, "num_tokens": 1.0, "Jane Doe": 1.0}, "east reports 1 figures that this release"),
    ],
)
def test_figures_that_are_missing_wild_or_unknown_are_refused(metrics: dict[str, float], message: str) -> None:
    with pytest.raises(MessageError, match=message):
        check_metrics("east", metrics, required=("loss", "seconds", "num_tokens"))


def test_figures_nobody_asked_for_are_no_fault_if_they_are_ours() -> None:
    check_metrics("east", {"loss": -1e-4, "saturated": 0.0}, required=("loss",))  # a divergence may round below zero
