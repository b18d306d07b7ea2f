"""What the transport over Flower does about messages that Flower loses, and how it paces large answers.

The nodes are the client app and a worker; what Flower does to a message is a part of the test.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from flwr.app import Error, Message

from confide.transport.base import NodeReply
from confide.transport.errand import MAX_HAND_OVER_SECONDS, MAX_TURNS
from confide.transport.flower import (
    LARGE_BYTES,
    FlowerTransport,
    body_record,
    error_record,
    held_record,
    read_again,
    read_body,
)
from tests.deploy.worker import worker
from tests.transport.client_app import answer_as_client_app
from tests.transport.fake_grid import Answer, FakeGrid
from tests.transport.test_flower import Clock, stalling

pytestmark = pytest.mark.usefixtures("flower_task")

SMALL, LARGE = b"answer", bytes(LARGE_BYTES + 1)
SECONDS = 3600.0
REQUEST_LOST, REPLY_LOST, GONE, FINE = "request lost", "reply lost", "reply gone", "fine"


class Node:
    """Works on each message once, in the order in which they are looked for, which is that in which they were sent.

    Args:
        socket: of the worker.
        fates: what Flower does to one message after the other, `FINE` for all after these.
        num_looks: how many looks for a reply find nothing yet.
    """

    def __init__(self, socket: Path, fates: Sequence[str] = (), *, num_looks: int = 0) -> None:
        self._socket = socket
        self._fates = iter(fates)
        self._num_looks = num_looks
        self._looks: dict[str, int] = {}
        self._seen: set[str] = set()

    def __call__(self, message: Message) -> Message | None:
        name = message.metadata.message_id
        self._looks[name] = self._looks.get(name, 0) + 1
        if name in self._seen or self._looks[name] <= self._num_looks:
            return None
        self._seen.add(name)
        fate = next(self._fates, FINE)
        if fate == REQUEST_LOST:
            return None
        reply = answer_as_client_app(self._socket, message)
        if fate == GONE:
            return Message(Error(3, "its session has expired"), reply_to=message)
        return reply if fate == FINE else None


class Asked:
    """A worker's part: counts its requests."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self.num = 0

    def __call__(self, request: bytes) -> bytes:
        self.num += 1
        return self._answer


def transport(grid: FakeGrid, clock: Clock, seconds: float = SECONDS, *, poll_seconds: float = 1.0) -> FlowerTransport:
    return FlowerTransport(
        grid,
        seconds=lambda request: seconds,
        poll_seconds=poll_seconds,
        clock=clock,
        sleep=clock.sleep,
        wait=clock.wait,
    )


def ask(answers: Mapping[int, Answer], seconds: float = SECONDS) -> tuple[list[NodeReply], FakeGrid, Clock]:
    grid, clock = FakeGrid(dict(answers)), Clock()
    replies = list(transport(grid, clock, seconds).ask_nodes(dict.fromkeys(answers, b"request")))
    return replies, grid, clock


@pytest.mark.parametrize("answer", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize(
    ("fates", "most_seconds"),
    [
        ([FINE], 10),
        ([REQUEST_LOST], 130),
        ([REPLY_LOST], 130),
        ([GONE], 10),
        ([REPLY_LOST, REPLY_LOST], 130 + 240),  # the second is that to the first inquiry
        ([REPLY_LOST, GONE], 130 + 240),
        ([REQUEST_LOST, FINE, REPLY_LOST], 130 + 240),
        ([REPLY_LOST, FINE, REPLY_LOST], 130 + 240),  # the last is that with the answer
        ([REPLY_LOST, FINE, GONE], 140),
    ],
)
def test_a_lost_message_costs_minutes_and_no_answer_and_no_request_is_worked_on_twice(
    answer: bytes, fates: list[str], most_seconds: float, caplog: pytest.LogCaptureFixture
) -> None:
    asked = Asked(answer)
    with worker(asked) as socket:
        (reply,), _, clock = ask({1: Node(socket, fates)})
    assert reply.body == answer
    assert asked.num == 1
    assert clock() <= most_seconds < SECONDS / 5
    assert ("was lost and is asked for again" in caplog.text) == (fates != [FINE])


def fail(request: bytes) -> bytes:
    raise ZeroDivisionError


def test_an_error_that_a_node_tells_is_not_lost_either() -> None:
    with worker(fail) as socket:
        (reply,), _, _ = ask({1: Node(socket, [REPLY_LOST])})
    assert reply.error_kind == "ZeroDivisionError"


class Fetches(FakeGrid):
    """Counts large answers that were asked for and have not come yet."""

    def __init__(self, answers: dict[int, Answer]) -> None:
        super().__init__(answers)
        self.under_way: set[str] = set()
        self.num_under_way: list[int] = []
        self.num_pieces: list[int] = []

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        messages = list(messages)
        ids = list(super().push_messages(messages))
        again = read_again(messages[0].content)
        if again is not None and again.is_fetched:
            self.under_way.update(ids)
            self.num_under_way.append(len(self.under_way))
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        message_ids = list(message_ids)
        replies = list(super().pull_messages(message_ids))
        for reply in replies:
            is_fetched = not self.under_way.isdisjoint(message_ids)
            self.under_way.difference_update(message_ids)
            if not is_fetched:
                self.num_pieces.append(sum(len(record) for record in reply.content.array_records.values()))
        return replies


class Timed(FakeGrid):
    """Notes when messages were sent."""

    def __init__(self, answers: dict[int, Answer], clock: Clock) -> None:
        super().__init__(answers)
        self._clock = clock
        self.times: list[float] = []

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        self.times.append(self._clock())
        return super().push_messages(messages)


@contextmanager
def nodes(num_nodes: int, answer: bytes, *, num_looks: int = 0) -> Iterator[dict[int, Answer]]:
    """Nodes with a worker each."""
    with ExitStack() as stack:
        yield {
            number: Node(stack.enter_context(worker(Asked(answer))), num_looks=num_looks)
            for number in range(1, 1 + num_nodes)
        }


def test_large_answers_are_handed_over_three_at_a_time() -> None:
    with nodes(10, LARGE, num_looks=4) as answers:
        grid, clock = Fetches(answers), Clock()
        replies = transport(grid, clock).ask_nodes(dict.fromkeys(answers, b"request"))
        assert sum(reply.body == LARGE for reply in replies) == len(answers)
    assert max(grid.num_under_way) == 3
    assert len(grid.num_under_way) == len(answers)
    assert set(grid.num_pieces) == {0}  # nothing large came unasked
    assert clock() < 60


def test_small_answers_come_at_once_and_with_one_message() -> None:
    with nodes(10, SMALL) as answers:
        replies, grid, clock = ask(answers)
    assert {reply.body for reply in replies} == {SMALL}
    assert (len(grid.pushed), clock()) == (len(answers), 0)


def test_all_large_answers_together_have_as_long_again_to_be_handed_over() -> None:
    """Ten nodes take 12 seconds each, twice; three at a time have a slot, for four seconds."""
    with nodes(10, LARGE, num_looks=12) as answers:
        replies, _, clock = ask(answers, seconds=20.0)
    assert sum(reply.body == LARGE for reply in replies) == len(answers)
    assert 2 * 12 + 3 * 4 <= clock() < 40


def holding(clock: Clock, since: float, fetch: Callable[[Message], Message | None]) -> Answer:
    """A node that holds an answer from a time on."""

    def answer(message: Message) -> Message | None:
        again = read_again(message.content)
        if again is not None and again.is_fetched:
            return fetch(message)
        return Message(held_record(9 << 20), reply_to=message) if clock() >= since else None

    return answer


@pytest.mark.parametrize("seconds", [300.0, 3600.0, 20000.0])
@pytest.mark.parametrize("num_silent", [3, 10, 12])
def test_nodes_that_hold_an_answer_and_do_not_hand_it_over_end_at_one_time_and_cost_no_other_its_own(
    num_silent: int, seconds: float
) -> None:
    clock = Clock()
    silent = holding(clock, seconds - 1, lambda message: None)
    fine = holding(clock, seconds - 1, lambda message: Message(body_record(b"here"), reply_to=message))
    grid = FakeGrid({**dict.fromkeys(range(1, 1 + num_silent), silent), 70: fine})
    made = transport(grid, clock, seconds, poll_seconds=seconds / 100)
    replies = {reply.node: reply for reply in made.ask_nodes(dict.fromkeys(grid.get_node_ids(), b""))}
    extra = min(seconds, MAX_HAND_OVER_SECONDS)
    assert replies[70].body == b"here"
    assert {replies[node].error for node in range(1, 1 + num_silent)} == {
        f"it holds its answer, which was not handed over within {extra:g} s"
    }
    assert seconds + extra <= clock() <= seconds + extra + seconds / 50


def test_three_uploads_that_do_not_end_cost_no_other_its_own() -> None:
    clock = Clock()
    with stalling() as stall:
        slow = holding(clock, 0.0, stall)
        fine = holding(clock, 100.0, lambda message: Message(body_record(b"here"), reply_to=message))
        grid = FakeGrid({1: slow, 2: slow, 3: slow, **dict.fromkeys(range(70, 77), fine)})
        times = {}
        made = transport(grid, clock, poll_seconds=10.0)
        for reply in made.ask_nodes(dict.fromkeys(grid.get_node_ids(), b"")):
            times[reply.node] = clock()
            assert reply.body == (b"here" if reply.node >= 70 else b"")
    assert max(times[node] for node in range(70, 77)) < 400
    assert 7200 <= clock() <= 7200 + 60


def test_an_answer_whose_message_flower_let_go_at_the_deadline_is_asked_for() -> None:
    def answer(message: Message) -> Message | None:
        again = read_again(message.content)
        if again is None:
            return Message(Error(3, "expired"), reply_to=message) if clock() >= 600 else None
        return Message(body_record(b"here") if again.is_fetched else held_record(4), reply_to=message)

    clock = Clock()
    grid = FakeGrid(
        {1: lambda message: answer(message) if read_again(message.content) is None or clock() > 601 else None}
    )
    (reply,) = transport(grid, clock, 600.0).ask_nodes({1: b""})
    assert reply.body == b"here"


def test_what_a_node_says_of_its_answer_at_the_deadline_counts() -> None:
    clock = Clock()

    def answer(message: Message) -> Message | None:
        again = read_again(message.content)
        if again is None or clock() < 600:
            return None
        return Message(body_record(b"here") if again.is_fetched else held_record(4), reply_to=message)

    (reply,) = transport(FakeGrid({1: answer}), clock, 600.0).ask_nodes({1: b""})
    assert (reply.body, clock()) == (b"here", 602.0)


def test_a_request_whose_time_is_over_is_not_sent_again() -> None:
    clock = Clock()

    def answer(message: Message) -> Message | None:
        if read_again(message.content) is not None:
            return Message(error_record("NotAnswered", "no"), reply_to=message) if clock() >= 600 else None
        return Message(Error(3, "expired"), reply_to=message) if clock() >= 600 else None

    grid = FakeGrid({1: answer})
    (reply,) = transport(grid, clock, 600.0).ask_nodes({1: b"request"})
    assert (reply.error_kind, reply.error) == ("Missing", "no answer within 600 s")
    assert sum(read_again(message.content) is None for message in grid.pushed) == 1


def test_a_client_app_that_crashed_is_asked_again_for_what_its_worker_did() -> None:
    def answer(message: Message) -> Message:
        again = read_again(message.content)
        if again is None:
            return Message(Error(8, "crashed"), reply_to=message)
        return Message(body_record(b"here") if again.is_fetched else held_record(4), reply_to=message)

    (reply,), grid, _ = ask({1: answer})
    assert (reply.body, len(grid.pushed)) == (b"here", 3)


def test_a_client_app_that_always_crashes_is_named_at_the_end() -> None:
    (reply,), grid, clock = ask({1: lambda message: Message(Error(8, "a secret"), reply_to=message)})
    assert (reply.error_kind, len(grid.pushed)) == ("ClientAppCrashed", 1 + MAX_TURNS)
    assert "secret" not in reply.error
    assert clock() < 30


def test_a_node_that_never_hands_over_what_it_holds_is_missing() -> None:
    (reply,), grid, _ = ask({1: lambda message: Message(held_record(9 << 20), reply_to=message)})
    assert (reply.error_kind, reply.error) == ("Missing", "it holds its answer and does not hand it over")
    assert len(grid.pushed) == 1 + MAX_TURNS


def test_a_node_that_never_knows_of_a_request_is_left_out_with_what_it_says() -> None:
    (reply,), grid, clock = ask({1: lambda message: Message(error_record("NotAnswered", "no"), reply_to=message)})
    assert (reply.error_kind, reply.error) == ("NotAnswered", "no")
    assert [read_body(message.content, max_bytes=99) for message in grid.pushed] == [b"request"] * (1 + MAX_TURNS)
    assert clock() < 30


def test_a_silent_node_is_asked_less_and_less_often_and_missing_at_the_deadline() -> None:
    clock = Clock()
    grid = Timed({1: lambda message: None}, clock)
    (reply,) = transport(grid, clock, 600.0).ask_nodes({1: b""})
    assert (reply.error_kind, reply.error) == ("Missing", "no answer within 600 s")
    assert grid.times == [0, 120, 360]
    assert clock() == 600


def test_a_node_whose_answer_is_coming_in_is_not_asked_what_became_of_it() -> None:
    with stalling() as stall:
        (reply,), grid, _ = ask({1: stall}, seconds=600.0)
    assert "still on its way" in reply.error
    assert len(grid.pushed) == 1


def test_an_answer_that_an_inquiry_overtakes_is_taken() -> None:
    """It comes between the look for it and the look for the inquiry's."""
    is_told: list[bool] = []

    def answer(message: Message) -> Message | None:
        if read_again(message.content) is None:
            return Message(body_record(b"in time"), reply_to=message) if is_told else None
        is_told.append(True)
        return Message(held_record(7), reply_to=message)

    (reply,), grid, _ = ask({1: answer})
    assert reply.body == b"in time"
    assert len(grid.pushed) == 2


def test_a_node_that_cannot_keep_its_answer_gives_it_whole() -> None:
    with worker(Asked(LARGE)) as socket:
        (socket.with_name("answers") / "1.answer").mkdir()
        (reply,), grid, _ = ask({1: Node(socket)})
    assert reply.body == LARGE
    assert len(grid.pushed) == 1


def test_a_message_that_the_superlink_takes_only_later_is_sent_again() -> None:
    class Refusing(FakeGrid):
        """Takes the first message and then none for a while."""

        num_refusals = 2

        def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
            if self.pushed and self.num_refusals:
                self.num_refusals -= 1
                raise RuntimeError("database is locked")
            return super().push_messages(messages)

    with worker(Asked(LARGE)) as socket:
        grid, clock = Refusing({1: Node(socket)}), Clock()
        (reply,) = transport(grid, clock).ask_nodes({1: b""})
    assert reply.body == LARGE
    assert (grid.num_refusals, clock()) == (0, 4)


def test_a_reply_that_the_superlink_fails_to_hand_over_is_asked_for_again() -> None:
    class Failing(FakeGrid):
        """Fails for a while, and then has forgotten the reply."""

        num_failures = 3

        def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
            replies = super().pull_messages(message_ids)
            if self.num_failures:
                self.num_failures -= 1
                raise RuntimeError("database is locked")
            return replies

    asked = Asked(SMALL)
    with worker(asked) as socket:
        grid, clock = Failing({1: Node(socket)}), Clock()
        (reply,) = transport(grid, clock).ask_nodes({1: b""})
    assert (reply.body, asked.num) == (SMALL, 1)
    assert clock() < 130  # when a silent node is asked


@pytest.mark.parametrize("seconds", [2, 30, 59])
def test_a_superlink_that_fails_to_hand_over_anything_for_a_while_costs_no_node(seconds: float) -> None:
    clock = Clock()

    class Failing(FakeGrid):
        def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
            if clock() < seconds:
                raise OSError("refused")
            return super().pull_messages(message_ids)

    grid = Failing(dict.fromkeys((1, 2, 3), lambda message: Message(body_record(b"here"), reply_to=message)))
    replies = list(transport(grid, clock).ask_nodes(dict.fromkeys((1, 2, 3), b"")))
    assert [reply.body for reply in replies] == [b"here"] * 3
    assert len(grid.pushed) == 3


class Locked(FakeGrid):
    """Its SuperLink fails to take some messages.

    Args:
        answers: by node.
        failing: the places of these pushes among all.
        takes_them: all the same, and only fails to say so.
    """

    def __init__(self, answers: dict[int, Answer], failing: Iterable[int], *, takes_them: bool = False) -> None:
        super().__init__(answers)
        self._failing = set(failing)
        self._takes_them = takes_them
        self.num_tried = 0

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        self.num_tried += 1
        if self.num_tried in self._failing:
            if self._takes_them:
                super().push_messages(messages)
            raise RuntimeError("database is locked")
        return super().push_messages(messages)


def test_a_request_that_the_superlink_fails_to_take_is_sent_again_until_its_time_is_over() -> None:
    asked = Asked(SMALL)
    with worker(asked) as socket:
        grid, clock = Locked({1: Node(socket)}, range(1, 11)), Clock()
        (reply,) = transport(grid, clock).ask_nodes({1: b""})
    assert (reply.body, asked.num) == (SMALL, 1)
    assert clock() < 200
    grid, clock = Locked({1: lambda message: None}, range(1, 1000)), Clock()
    (reply,) = transport(grid, clock).ask_nodes({1: b""})
    assert (reply.error_kind, reply.error) == ("Missing", "Flower took no message for this node")
    assert clock() == SECONDS
    assert SECONDS / 30 <= grid.num_tried <= SECONDS / 30 + 5


def test_what_flower_takes_without_saying_so_is_worked_on_once() -> None:
    """As where the SuperLink stores a message and then fails: the same message is sent, which Flower takes once."""
    asked = Asked(LARGE)
    with worker(asked) as socket:
        grid, clock = Locked({1: Node(socket)}, (1, 2, 4, 5), takes_them=True), Clock()
        (reply,) = transport(grid, clock).ask_nodes({1: b"request"})
    assert (reply.body, asked.num) == (LARGE, 1)
    request, fetch = grid.pushed[0], grid.pushed[-1]
    assert [one.metadata.message_id for one in grid.pushed] == [request.metadata.message_id] * 3 + [
        fetch.metadata.message_id
    ] * 3
    assert request.metadata.message_id != fetch.metadata.message_id


def test_what_a_node_is_asked_anew_is_another_message() -> None:
    """For Flower would not take the same one again, and the node had not got it."""
    asked = Asked(SMALL)
    with worker(asked) as socket:
        grid, clock = Locked({1: Node(socket, [REQUEST_LOST])}, (1,), takes_them=True), Clock()
        (reply,) = transport(grid, clock).ask_nodes({1: b"request"})
    assert (reply.body, asked.num) == (SMALL, 1)
    requests = [one for one in grid.pushed if read_again(one.content) is None]
    assert len({one.metadata.message_id for one in requests}) == 2


def test_a_held_answer_is_not_given_up_where_the_superlink_fails_to_take_the_messages_that_ask_for_it() -> None:
    with worker(Asked(LARGE)) as socket:
        grid, clock = Locked({1: Node(socket)}, range(2, 2 + 2 * MAX_TURNS)), Clock()
        (reply,) = transport(grid, clock).ask_nodes({1: b""})
    assert reply.body == LARGE
    assert clock() < 400  # ten pauses, 181 s, and as long as the worker takes on a busy machine


def test_failing_looks_that_are_not_in_a_row_cost_a_node_at_work_nothing() -> None:
    clock = Clock()

    class Sometimes(FakeGrid):
        """Fails twice of three times."""

        num_looks = 0

        def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
            self.num_looks += 1
            if self.num_looks % 3:
                raise RuntimeError("database is locked")
            return super().pull_messages(message_ids)

    grid = Sometimes({1: lambda message: Message(body_record(b"here"), reply_to=message) if clock() >= 100 else None})
    (reply,) = transport(grid, clock).ask_nodes({1: b""})
    assert reply.body == b"here"
    assert len(grid.pushed) == 1


def test_an_answer_that_cannot_be_read_is_lost_though_looks_for_that_to_an_inquiry_find_nothing() -> None:
    clock = Clock()

    def answer(message: Message) -> Message | None:
        if read_again(message.content) is None and clock() >= 200:
            raise ValueError
        return None

    grid = Timed({1: answer}, clock)
    (reply,) = transport(grid, clock, 600.0).ask_nodes({1: b""})
    assert (reply.error_kind, reply.error) == ("Missing", "no answer within 600 s")
    assert grid.times[:3] == [0, 120, 260]  # the third is not the second inquiry, which would be sent at 360


@pytest.mark.parametrize("is_fetch", [False, True], ids=["inquiry", "fetch"])
@pytest.mark.parametrize(
    "trouble",
    [
        lambda message: Message(Error(1, "not loaded"), reply_to=message),
        lambda message: Message(Error(2, "raised"), reply_to=message),
        lambda message: Message(error_record("Missing", "the node's worker does not answer"), reply_to=message),
    ],
    ids=["not loaded", "raised", "no worker"],
)
def test_a_client_app_that_fails_when_it_is_asked_again_costs_no_answer(
    trouble: Callable[[Message], Message], is_fetch: bool
) -> None:
    clock = Clock()
    num_failed: list[float] = []

    def answer(message: Message) -> Message | None:
        again = read_again(message.content)
        if again is None:
            content = held_record(9 << 20) if is_fetch else body_record(b"here")
            return Message(content, reply_to=message) if clock() >= (5 if is_fetch else 300) else None
        if len(num_failed) < MAX_TURNS - 1:
            num_failed.append(clock())
            return trouble(message)
        return Message(body_record(b"here"), reply_to=message)

    (reply,) = transport(FakeGrid({1: answer}), clock).ask_nodes({1: b""})
    assert reply.body == b"here"
    assert num_failed
    assert clock() <= 300


def test_a_client_app_that_always_fails_is_named_at_the_end() -> None:
    def answer(message: Message) -> Message:
        if read_again(message.content) is None:
            return Message(held_record(9 << 20), reply_to=message)
        return Message(Error(2, "a secret"), reply_to=message)

    (reply,), grid, clock = ask({1: answer})
    assert (reply.error_kind, len(grid.pushed)) == ("ClientAppRaisedException", 1 + MAX_TURNS)
    assert clock() < 60


def test_slow_pushes_take_no_longer_than_the_limit_and_no_answer_waits_for_all_of_them() -> None:
    """The SuperLink takes 100 s for each message; all of it passes here, where in earnest ten are waited for."""
    clock, seconds = Clock(), 300.0

    class Slow(FakeGrid):
        def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
            clock.now += 100
            return super().push_messages(messages)

    grid = Slow(dict.fromkeys(range(1, 11), lambda message: Message(body_record(b"here"), reply_to=message)))
    replies = []
    for reply in transport(grid, clock, seconds).ask_nodes(dict.fromkeys(range(1, 11), b"")):
        replies.append(reply)
        assert clock() < seconds + 100  # a push that began in time, and no other
    assert [reply.body for reply in replies] == [b"here"] * 3 + [b""] * 7
    assert {reply.error for reply in replies[3:]} == {"Flower took no message for this node"}


@contextmanager
def hanging(answers: dict[int, Answer], *, place: int) -> Iterator[tuple[FakeGrid, threading.Event]]:
    """A grid whose SuperLink takes one message only when the event is set."""
    is_over = threading.Event()

    class Hanging(FakeGrid):
        num_tried = 0

        def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
            self.num_tried += 1
            if self.num_tried == place:
                is_over.wait()
            return super().push_messages(messages)

    try:
        yield Hanging(answers), is_over
    finally:
        is_over.set()


def here(message: Message) -> Message:
    return Message(body_record(b"here"), reply_to=message)


def test_a_request_that_flower_takes_late_is_sent_once_and_holds_up_no_answer() -> None:
    clock = Clock()
    with hanging({1: here, 2: here, 3: here}, place=2) as (grid, is_over):
        times = {}
        for reply in transport(grid, clock).ask_nodes(dict.fromkeys((1, 2, 3), b"")):
            times[reply.node] = clock()
            assert reply.body == b"here"
            is_over.set()
    assert times[1] <= 10
    assert list(times) == [1, 2, 3]
    assert sorted(message.metadata.dst_node_id for message in grid.pushed) == [1, 2, 3]


def test_an_inquiry_that_flower_does_not_take_holds_up_no_answer() -> None:
    clock = Clock()

    def soon(message: Message) -> Message | None:
        return here(message) if clock() > 125 else None

    with hanging({1: lambda message: None, 2: soon}, place=3) as (grid, _):
        first, last = ((reply, clock()) for reply in transport(grid, clock, 600.0).ask_nodes({1: b"", 2: b""}))
    assert (first[0].node, first[0].body) == (2, b"here")
    assert first[1] <= 120 + 10 + 1
    assert (last[0].error, last[1]) == ("no answer within 600 s", 600)
