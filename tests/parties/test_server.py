"""The server alone, without clients: whom it asks, what it adds, whom it sends what."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from confide.errors import MessageError, RoundFailedError
from confide.messages import CatchUpRequest, JoinRequest, OpenRequest, StateRequest, TrainReply, TrainRequest
from confide.parties.server import RoundPlan, Server, ServerState, check_metrics
from confide.seal.plain import PlainServer
from confide.update import Layout, Slot, Vector

LAYOUT = Layout((Slot(name="w", shape=(3,)),))
NAMES = tuple(f"client-{number}" for number in range(7))


def make_server(**changes: Any) -> Server:
    settings: dict[str, Any] = {"clients": NAMES, "clients_per_round": 3, "min_clients": 2, "seed": 0}
    return Server(
        run="alone",
        payload=lambda number: LAYOUT,
        weight=lambda count: 2.0 * count,
        sealing=PlainServer(),
        **{**settings, **changes},
    )


def state_after(rounds: int, current: tuple[str, ...] = NAMES) -> ServerState:
    sizes = {name: number + 1 for number, name in enumerate(NAMES)}
    return ServerState(round_number=rounds, adapter_digest="ab" * 32, current=frozenset(current), num_examples=sizes)


def reply_of(client: str, values: Vector, weight: float = 1.0) -> TrainReply:
    return TrainReply(
        run="alone",
        round_number=1,
        client=client,
        weight=weight,
        layout_digest=LAYOUT.digest,
        metrics={"loss": 1.0, "seconds": 0.1},
        body=values.tobytes(),
    )


def plan_of(server: Server, rounds: int = 0) -> RoundPlan:
    return server.plan(state_after(rounds))


@settings(deadline=None)
@given(st.permutations(NAMES), st.integers(0, 7), st.integers(0, 2**32), st.integers(0, 1000))
def test_a_cohort_follows_from_seed_and_round_alone(
    order: list[str], clients_per_round: int, seed: int, rounds: int
) -> None:
    named: dict[str, Any] = {"clients_per_round": clients_per_round, "seed": seed}
    plan = plan_of(make_server(clients=order, **named), rounds)
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
    assert plan_of(make_server()).weights == {name: 2.0 * (number + 1) for number, name in enumerate(NAMES)}


def test_only_the_cohort_is_asked_to_train_and_everybody_to_join() -> None:
    server = make_server()
    plan = plan_of(server)
    requests = server.train_requests(plan)
    assert set(requests) == set(plan.cohort)
    asked = TrainRequest.from_bytes(requests[plan.cohort[0]])
    assert (asked.run, asked.round_number, tuple(asked.cohort)) == ("alone", 1, plan.cohort)
    assert asked.adapter_digest == plan.adapter_digest
    joins = server.join_requests(0)
    assert set(joins) == set(NAMES)
    assert JoinRequest.from_bytes(joins[NAMES[0]]).run == "alone"


bodies = st.lists(st.floats(-1e6, 1e6, width=32), min_size=3, max_size=3).map(lambda found: np.array(found, np.float32))


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(NAMES), bodies, min_size=2), st.randoms())
def test_the_sum_does_not_depend_on_who_answered_first(updates: Mapping[str, Vector], random: Any) -> None:
    server = make_server(clients_per_round=0)
    arrived = {client: reply_of(client, values) for client, values in updates.items()}
    total = server.add(plan_of(server), arrived, {})
    order = list(arrived)
    random.shuffle(order)
    assert server.add(plan_of(server), {client: arrived[client] for client in order}, {}) == total
    assert list(total.members) == sorted(updates)


def test_members_carry_the_weights_they_came_with() -> None:
    server = make_server()
    replies = {
        name: reply_of(name, np.ones(3, np.float32), weight) for name, weight in zip(NAMES, (2, 4), strict=False)
    }
    assert server.add(plan_of(server), replies, {}).members == {NAMES[0]: 2, NAMES[1]: 4}


def test_too_few_updates_are_never_added_and_the_reasons_are_told() -> None:
    server = make_server()
    one = {NAMES[0]: reply_of(NAMES[0], np.ones(3, np.float32))}
    with pytest.raises(RoundFailedError, match=r"round 1: 1 of 3 clients .*min_clients is 2\. a: late; b: nonsense\."):
        server.add(plan_of(server), one, {"b": "nonsense", "a": "late"})


def test_the_sum_goes_only_to_who_holds_the_state_before_it() -> None:
    server = make_server()
    plan = plan_of(server)
    total = server.add(plan, {name: reply_of(name, np.ones(3, np.float32)) for name in NAMES[:2]}, {})
    requests = server.open_requests(plan, total, frozenset({NAMES[1], NAMES[4], "a stranger"}))
    assert set(requests) == {NAMES[1], NAMES[4]}
    opened = OpenRequest.from_bytes(requests[NAMES[4]])
    assert (opened.members, opened.body) == (dict(total.members), total.body)


def test_after_a_round_only_who_opened_it_is_current() -> None:
    server = make_server()
    before = state_after(0)
    after = server.agree(plan_of(server), before, dict.fromkeys(NAMES[2:5], "cd" * 32))
    assert after == ServerState(
        round_number=1, adapter_digest="cd" * 32, current=frozenset(NAMES[2:5]), num_examples=before.num_examples
    )


def test_a_client_behind_is_handed_the_state_with_its_digest() -> None:
    server, state = make_server(), state_after(4)
    assert StateRequest.from_bytes(server.state_request(state)).round_number == 4
    request = CatchUpRequest.from_bytes(server.catch_up_request(state, b"state"))
    assert (request.round_number, request.adapter_digest, request.body) == (4, state.adapter_digest, b"state")


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ({"loss": 1.0}, "client east does not report seconds, tokens"),
        ({"loss": 1.0, "seconds": 1.0, "tokens": -1e31}, r"reports figures beyond 1e\+30: tokens"),
        ({"loss": 1.0, "seconds": 1.0, "tokens": float("nan")}, r"reports figures beyond 1e\+30: tokens"),
        ({"loss": 1.0, "seconds": 1.0, "tokens": 1.0, "more": 1e30}, r"reports figures beyond 1e\+30: more"),
    ],
)
def test_figures_that_are_missing_or_wild_are_refused(metrics: dict[str, float], message: str) -> None:
    with pytest.raises(MessageError, match=message):
        check_metrics("east", metrics, required=("loss", "seconds", "tokens"))


def test_figures_nobody_asked_for_are_no_fault() -> None:
    check_metrics("east", {"loss": -1e29, "more": 0.0}, required=("loss",))
