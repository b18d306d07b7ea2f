"""Laws of every transport; a new transport is tested by being listed."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial

import pytest

from confide.config.load import parse_config
from confide.deploy.policy import LIMITS, Policy
from confide.errors import MessageError, RunInterrupted
from confide.transport.base import Transport
from confide.transport.flower import FlowerTransport
from confide.transport.inprocess import InProcessTransport
from tests.deploy.worker import worker
from tests.transport.client_app import answer_as_client_app
from tests.transport.fake_grid import FakeGrid

Handlers = Mapping[str, Callable[[bytes], bytes]]


def flower(handlers: Handlers, stack: ExitStack) -> Transport:
    """All of it but Flower's own processes: transport, client app, socket, worker."""
    nodes = {name: number for number, name in enumerate(handlers, start=1)}
    sockets = {name: stack.enter_context(worker(handle)) for name, handle in handlers.items()}
    grid = FakeGrid({number: partial(answer_as_client_app, sockets[name]) for name, number in nodes.items()})
    transport = FlowerTransport(grid, seconds=lambda request: 30.0)
    transport.introduce(nodes)
    return transport


TRANSPORTS: dict[str, Callable[[Handlers, ExitStack], Transport]] = {
    "inprocess": lambda handlers, stack: InProcessTransport(handlers),
    "flower": flower,
}


@pytest.fixture(params=TRANSPORTS)
def make(request: pytest.FixtureRequest, flower_task: None) -> Iterator[Callable[[Handlers], Transport]]:
    with ExitStack() as stack:
        yield lambda handlers: TRANSPORTS[request.param](handlers, stack)


def fails(error: BaseException) -> Callable[[bytes], bytes]:
    def handler(request: bytes) -> bytes:
        raise error

    return handler


def test_every_request_gets_its_clients_reply(make: Callable[[Handlers], Transport]) -> None:
    transport = make({"a": lambda request: request + b"A", "b": lambda request: b"B" + request})
    replies = {reply.client: reply for reply in transport.exchange({"a": bytes(range(256)), "b": b""})}
    assert replies["a"].body == bytes(range(256)) + b"A"
    assert replies["b"].body == b"B"
    assert not replies["a"].error_kind
    assert not replies["b"].error_kind


def test_a_failing_client_is_a_reply_and_the_others_answer(make: Callable[[Handlers], Transport]) -> None:
    transport = make(
        {
            "a": fails(MessageError("not now")),
            "b": fails(ZeroDivisionError("a secret of b")),
            "c": lambda request: b"ok",
        }
    )
    replies = {reply.client: reply for reply in transport.exchange(dict.fromkeys(["a", "b", "c", "d"], b""))}
    assert (replies["a"].error_kind, replies["a"].error) == ("MessageError", "not now")
    assert replies["b"].error_kind == "ZeroDivisionError"
    assert "secret" not in replies["b"].error  # the text of an unforeseen error may hold the client's data
    assert replies["c"].body == b"ok"
    assert replies["d"].error_kind == "Missing"


def test_a_refusal_of_every_key_of_a_policy_is_told_whole(make: Callable[[Handlers], Transport]) -> None:
    """In two offers, for there is none that lies outside of all keys at once."""
    policy = Policy.model_validate(
        {
            "sealing": {"least_members": 9, "least_threshold": 9, "least_threshold_share": 0.9},
            "privacy": {"units": ["example"], "largest_epsilon": 0.5, "least_coalition": 9},
            "model": {"bases": ["tiny-gpt2"], "digests": ["0123456789abcdef" * 4]},
        }
    )
    base = {"model": {"base": "tiny-llama"}, "data": {"source": "clinics"}}
    offers = {
        b"private": {
            "seal": {"release": "server"},
            "privacy": {"unit": "client", "target_epsilon": 8.0, "delta": 1e-3, "randomness": "seeded"},
            "federation": {"rounds": 101},
            "train": {"local_steps": 1001, "batch_size": 257, "accumulation": 65, "max_tokens": 8193},
            "lora": {"rank": 257},
            "evaluate": {"max_examples": 1001, "batch_size": 257},
        },
        b"plain": {
            "seal": {"scheme": "plain"},
            "train": {"local_steps": 0, "local_epochs": 11},
            "lora": {"full_rank": True},
        },
    }

    def refuse(request: bytes) -> bytes:
        policy.check(parse_config({**base, **offers[request]}), num_members=5, base_digest="f" * 64)
        return b"accepted"

    transport = make({"private": refuse, "plain": refuse})
    replies = {reply.client: reply for reply in transport.exchange({"private": b"private", "plain": b"plain"})}
    assert {reply.error_kind for reply in replies.values()} == {"PolicyError"}
    named = {key for reply in replies.values() for key in re.findall(r"accepts (\S+) = ", reply.error)}
    assert named == {limit.key for limit in LIMITS}
    assert all("its owner decides" in reply.error for reply in replies.values())


def test_a_stop_by_the_user_is_no_clients_failure() -> None:
    transport = InProcessTransport({"a": fails(RunInterrupted("stop"))})
    with pytest.raises(RunInterrupted):
        list(transport.exchange({"a": b""}))
