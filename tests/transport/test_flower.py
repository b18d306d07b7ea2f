"""The transport over Flower, against a grid in this process."""

import threading
import time
import tracemalloc
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager

import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, RecordDict

from confide.errors import DeployError, MessageError
from confide.transport.base import MAX_ERROR_CHARACTERS, NodeReply
from confide.transport.errand import MAX_TURNS
from confide.transport.flower import FlowerTransport, body_record, error_record, read_again, read_body
from confide.transport.pulls import LeftPulls
from tests.clock import Clock as Ticking
from tests.transport.fake_grid import Answer, FakeGrid

PIECE, SMALL = 4 << 20, 1 << 20
LIMIT = 64 << 20
MOMENT = 0.5
LOOK = 0.002

pytestmark = pytest.mark.usefixtures("flower_task")


class Clock(Ticking):
    """Time that passes only when somebody sleeps."""

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        if not all_calls_hang():
            time.sleep(0.001)  # so that other threads get on

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Takes what hangs, and what does not come within a moment, for something that never comes."""
        end = time.monotonic() + (MOMENT if seconds else 0.0)
        while time.monotonic() < end and not all_calls_hang():
            if event.wait(LOOK):
                return True
        if event.is_set():  # asked last: a call that is over does not hang
            return True
        self.now += seconds
        return False


_hanging: dict[threading.Thread, threading.Event] = {}


def hang(until: threading.Event) -> None:
    """Waits, so that a `Clock` knows of it."""
    _hanging[threading.current_thread()] = until
    until.wait()
    del _hanging[threading.current_thread()]


def all_calls_hang() -> bool:
    """Whether no call to Flower that goes on can get on."""
    calls = [thread for thread in threading.enumerate() if thread.name == "a call to Flower"]
    return all(thread in _hanging and not _hanging[thread].is_set() for thread in calls)


def transport(
    answers: dict[int, Answer],
    *,
    seconds: float = 10.0,
    max_reply_bytes: int = LIMIT,
    clock: Clock | None = None,
    grid: FakeGrid | None = None,
) -> tuple[FlowerTransport, FakeGrid]:
    grid, clock = grid or FakeGrid(answers), clock or Clock()
    made = FlowerTransport(
        grid,
        seconds=lambda request: seconds,
        poll_seconds=1.0,
        max_reply_bytes=max_reply_bytes,
        clock=clock,
        sleep=clock.sleep,
        wait=clock.wait,
    )
    return made, grid


def saying(content: RecordDict | Callable[[bytes], RecordDict]) -> Answer:
    def answer(message: Message) -> Message:
        request = read_body(message.content, max_bytes=LIMIT)
        return Message(content(request) if callable(content) else content, reply_to=message)

    return answer


def never(message: Message) -> None:
    return None


def breaking(message: Message) -> Message:
    raise ValueError("a secret in an object that Flower cannot read")


def after(num_pulls: int, answer: Answer) -> Answer:
    pulls = iter(range(num_pulls))
    return lambda message: None if next(pulls, None) is not None else answer(message)


def ask_one(answer: Answer, *, max_reply_bytes: int = LIMIT) -> NodeReply:
    made, _ = transport({7: answer}, max_reply_bytes=max_reply_bytes)
    (reply,) = made.ask_nodes({7: b"request"})
    return reply


def pieces(record: RecordDict) -> list[bytes]:
    return [array.data for array in record.array_records["confide.body"].values()]


@pytest.mark.parametrize(
    ("num_bytes", "longest"),
    [
        *[(number, number) for number in (0, 1, SMALL - 1, SMALL)],
        *[(number, SMALL) for number in (SMALL + 1, 2 * SMALL, 2 * SMALL + 5, 4 * PIECE - 1)],
        *[(number, PIECE) for number in (4 * PIECE, 4 * PIECE + 5)],
    ],
)
def test_bytes_come_back_from_a_record_unchanged(num_bytes: int, longest: int) -> None:
    body = (bytes(range(251)) * (num_bytes // 251 + 1))[:num_bytes]
    record = body_record(body)
    assert read_body(record, max_bytes=num_bytes) == body
    assert max(len(piece) for piece in pieces(record)) == longest


@pytest.mark.parametrize(("size", "num_pieces"), [(SMALL, 2), (PIECE, 4)])
def test_messages_with_an_equal_end_have_equal_last_pieces(size: int, num_pieces: int) -> None:
    shared = bytes(num_pieces * size)
    short, long = pieces(body_record(b"to north" + shared)), pieces(body_record(b"to south, and more" + shared))
    assert short[1:] == long[1:] == [bytes(size)] * num_pieces
    assert (short[0], long[0]) == (b"to north", b"to south, and more")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (RecordDict(), "got 0 records"),
        (RecordDict({"confide.body": ConfigRecord({"a": 1})}), "one of another kind"),
        (RecordDict({"other": ArrayRecord()}), "expected one record"),
        (RecordDict({"confide.body": ArrayRecord()}), "lacks some"),
        (
            RecordDict({"confide.body": ArrayRecord({"1 of 2": Array("uint8", (1,), "confide.message.1", b"a")})}),
            "lacks",
        ),
        (
            RecordDict({"confide.body": ArrayRecord({"0 of 1": Array("uint8", (1,), "numpy.ndarray", b"a")})}),
            "no array",
        ),
        (
            RecordDict({"confide.body": ArrayRecord({"0 of 1": Array("int8", (1,), "confide.message.1", b"a")})}),
            "no array",
        ),
        (
            RecordDict({"confide.body": ArrayRecord({"0 of 1": Array("uint8", (9,), "confide.message.1", b"a")})}),
            "no arr",
        ),
        (body_record(bytes(101)), "101 bytes came, the limit is 100"),
        (error_record("no kind", "text"), "not ours"),
        (RecordDict({"confide.error": ConfigRecord({"kind": "DataError"})}), "not ours"),
        (RecordDict({"confide.error": ArrayRecord()}), "not ours"),
    ],
)
def test_a_malformed_reply_is_an_error_of_that_node(content: RecordDict, why: str) -> None:
    reply = ask_one(saying(content), max_reply_bytes=100)
    assert reply.error_kind == "MessageError"
    assert why in reply.error
    assert reply.body == b""


def test_a_reply_that_flower_cannot_read_is_given_up_and_says_nothing_of_its_content() -> None:
    made, grid = transport({1: breaking, 2: saying(body_record(b"fine"))}, seconds=600.0)
    replies = {reply.node: reply for reply in made.ask_nodes({1: b"", 2: b""})}
    assert replies[1].error_kind == "MessageError"
    assert "secret" not in replies[1].error
    assert replies[2].body == b"fine"
    assert grid.events.count("push 1") == 1 + MAX_TURNS


@pytest.mark.parametrize(
    ("code", "kind"), [(5, "Missing"), (3, "Missing"), (2, "ClientAppRaisedException"), (77, "FlowerError")]
)
def test_what_flower_reports_of_a_node_becomes_a_reply_without_its_text(code: int, kind: str) -> None:
    reply = ask_one(lambda message: Message(Error(code, "<'a secret'>"), reply_to=message))
    assert reply.error_kind == kind
    assert str(code) in reply.error
    assert "secret" not in reply.error


def test_the_reply_to_another_message_is_no_answer() -> None:
    earlier: list[Message] = []

    def answer(message: Message) -> Message:
        earlier.append(message)
        return Message(body_record(b"an old answer"), reply_to=earlier[0])

    made, _ = transport({1: answer})
    (first,) = made.ask_nodes({1: b""})
    (second,) = made.ask_nodes({1: b""})
    assert first.body == b"an old answer"
    assert (second.error_kind, second.error, second.body) == ("Missing", "no answer within 10 s", b"")


def strangers_error() -> Message:
    return Message(Error(2, "from a stranger"), reply_to=Message(RecordDict(), 1, "query.confide"))


@pytest.mark.parametrize(
    "stray",
    [lambda: Message(body_record(b"from a stranger"), 1, "query.confide"), strangers_error],
    ids=["content", "error"],
)
def test_what_another_node_sends_to_the_server_is_no_answer_of_this_one(stray: Callable[[], Message]) -> None:
    class Strayed(FakeGrid):
        """Gives what a stranger sent with every reply, as Flower does, and before there is one."""

        def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
            return [stray(), *super().pull_messages(message_ids)]

    made, _ = transport({}, grid=Strayed({1: after(2, saying(body_record(b"here")))}))
    (reply,) = made.ask_nodes({1: b""})
    assert (reply.error_kind, reply.body) == ("", b"here")


def test_an_error_told_by_a_node_comes_as_one_bounded_line() -> None:
    reply = ask_one(saying(error_record("DataError", "no\nrows\x1b[31m" + "x" * 10000)))
    assert reply.error_kind == "DataError"
    assert reply.error.startswith("no rows [31mx")
    assert len(reply.error) == MAX_ERROR_CHARACTERS == 8000


def test_whoever_does_not_answer_in_time_is_missing_and_the_others_are_not() -> None:
    made, _ = transport({1: never, 2: after(3, saying(body_record(b"late"))), 3: saying(body_record(b"soon"))})
    replies = list(made.ask_nodes({1: b"", 2: b"", 3: b""}))
    assert [reply.node for reply in replies] == [3, 2, 1]
    assert (replies[2].error_kind, replies[2].error) == ("Missing", "no answer within 10 s")


def test_an_answer_that_is_there_at_the_deadline_is_taken() -> None:
    made, _ = transport({1: after(10, saying(body_record(b"just in time")))})
    (reply,) = made.ask_nodes({1: b""})
    assert reply.body == b"just in time"


def test_a_message_lives_little_longer_than_its_deadline() -> None:
    made, grid = transport({1: saying(body_record(b""))}, seconds=10.0)
    list(made.ask_nodes({1: b""}))
    assert [message.metadata.ttl for message in grid.pushed] == [70.0]
    assert grid.pushed[0].metadata.message_type == "query.confide"


def test_a_node_that_flower_does_not_know_is_missing() -> None:
    made, _ = transport({1: saying(body_record(b"here"))})
    replies = {reply.node: reply for reply in made.ask_nodes({1: b"", 9: b""})}
    assert replies[9].error_kind == "Missing"
    assert replies[1].body == b"here"


class Stall:
    """Uploads that go on until the test is over, as Flower waits for them; `end` ends them."""

    def __init__(self) -> None:
        self.ended = threading.Event()
        self.num_begun = 0

    def __call__(self, message: Message) -> Message:
        self.num_begun += 1
        hang(self.ended)
        return Message(body_record(b"too late"), reply_to=message)


@contextmanager
def stalling() -> Iterator[Stall]:
    stall = Stall()
    try:
        yield stall
    finally:
        stall.ended.set()


def expiring(clock: Clock, answer: Answer) -> Answer:
    """An answer that Flower keeps until its message's time is over."""

    def pulled(message: Message) -> Message | None:
        if clock() > message.metadata.ttl:
            return Message(Error(3, "expired"), reply_to=message)
        return answer(message)

    return pulled


@pytest.mark.parametrize("num_stalled", [1, 2, 3, 8])
def test_an_upload_that_does_not_end_costs_nobody_else_the_answer_and_ends_at_the_deadline(num_stalled: int) -> None:
    clock = Clock()
    fine = expiring(clock, saying(body_record(b"here")))
    with stalling() as stall:
        stalled = dict.fromkeys(range(1, 1 + num_stalled), stall)
        made, _ = transport({**stalled, 70: fine, 80: fine}, seconds=600.0, clock=clock)
        replies = {reply.node: reply for reply in made.ask_nodes(dict.fromkeys([*stalled, 70, 80], b""))}
    assert [replies[node].body for node in (70, 80)] == [b"here"] * 2
    for node in stalled:
        assert (replies[node].error_kind, replies[node].body) == ("Missing", b"")
    assert "still on its way after 600 s" in replies[1].error
    assert 600 <= clock() <= 600 + 60 + 30


@pytest.mark.parametrize("num_stalled", [1, 5])
def test_no_look_is_waited_for_long_however_late_its_own_deadline_is(num_stalled: int) -> None:
    clock, seconds = Clock(), dict.fromkeys(range(1, 1 + num_stalled), 3600.0) | {70: 100.0, 80: 120.0}
    fine = expiring(clock, after(2, saying(body_record(b"here"))))
    with stalling() as stall:
        grid = FakeGrid({**dict.fromkeys(range(1, 1 + num_stalled), stall), 70: fine, 80: fine})
        made = FlowerTransport(
            grid,
            seconds=lambda request: float(request),
            poll_seconds=5.0,
            clock=clock,
            sleep=clock.sleep,
            wait=clock.wait,
        )
        times = {}
        for reply in made.ask_nodes({node: str(number).encode() for node, number in seconds.items()}):
            times[reply.node] = clock()
            assert reply.body == (b"here" if reply.node in (70, 80) else b"")
    assert max(times[70], times[80]) < 60
    assert clock() <= 3600 + 60


def test_every_pull_that_is_not_over_counts_and_its_node_is_asked_for_nothing_until_it_is() -> None:
    """A node whose upload begins after an inquiry, and which answers the inquiry at once."""
    clock = Clock()
    with stalling() as stall:

        def answer(message: Message) -> Message | None:
            if read_again(message.content) is not None:
                return Message(body_record(b"here"), reply_to=message)
            return stall(message) if clock() >= 121 else None

        made, grid = transport({1: answer}, seconds=600.0, clock=clock)
        replies = [next(iter(made.ask_nodes({1: b""}))) for _ in range(4)]
        assert replies[0].body == b"here"
        assert {reply.error for reply in replies[1:]} == {"an answer of it that came too late is still on its way"}
        assert stall.num_begun == 1
        assert len(grid.pushed) == 2


def test_several_pulls_of_a_node_are_waited_for() -> None:
    left, first, second = LeftPulls(), threading.Event(), threading.Event()
    left.add(1, first)
    left.add(1, second)
    second.set()
    assert left.go_on(1)
    assert not left.go_on(2)
    first.set()
    assert not left.go_on(1)


def test_nothing_is_sent_to_a_node_within_an_exchange_either_while_a_pull_of_it_goes_on() -> None:
    """Its answer is lost, and an answer to an inquiry begins and does not end."""
    clock = Clock()
    with stalling() as stall:

        def answer(message: Message) -> Message | None:
            if read_again(message.content) is not None:
                return stall(message)
            return Message(Error(3, "gone"), reply_to=message) if clock() >= 125 else None

        made, grid = transport({1: answer}, seconds=600.0, clock=clock)
        (reply,) = made.ask_nodes({1: b""})
    assert (reply.error_kind, reply.error) == ("Missing", "an answer of it that came too late is still on its way")
    assert stall.num_begun == 1
    assert len(grid.pushed) == 2


def test_answers_are_taken_while_two_uploads_go_on_and_not_only_at_their_deadline() -> None:
    clock = Clock()
    with stalling() as stall:
        made, _ = transport({1: stall, 2: stall, 3: saying(body_record(b"here"))}, seconds=3600.0, clock=clock)
        first = next(iter(made.ask_nodes({1: b"", 2: b"", 3: b""})))
    assert (first.node, first.body) == (3, b"here")
    assert clock() <= 120


def test_a_slow_upload_that_ends_before_the_deadline_is_taken() -> None:
    clock = Clock()
    with stalling() as stall:

        def there_at_last(message: Message) -> Message:
            stall.ended.set()
            return Message(body_record(b"soon"), reply_to=message)

        made, grid = transport({1: stall, 2: there_at_last}, seconds=600.0, clock=clock)
        replies = [(reply.node, reply.body) for reply in made.ask_nodes({1: b"", 2: b""})]
    assert replies == [(2, b"soon"), (1, b"too late")]
    assert grid.events.count("pull 1") == 1


def test_an_upload_that_goes_on_when_nobody_takes_more_replies_is_waited_for_before_the_node_is_asked_again() -> None:
    clock = Clock()
    with stalling() as stall:
        made, _ = transport({1: stall, 2: saying(body_record(b"here"))}, seconds=600.0, clock=clock)
        replies = made.ask_nodes({1: b"", 2: b""})
        assert next(iter(replies)).node == 2
        assert isinstance(replies, Generator)
        replies.close()
        second = {reply.node: reply for reply in made.ask_nodes({1: b"", 2: b""})}
    assert second[2].body == b"here"
    assert second[1].error == "an answer of it that came too late is still on its way"
    assert stall.num_begun == 1


def test_a_node_whose_upload_still_goes_on_is_asked_when_that_has_ended() -> None:
    """As where training is asked again in a wider range while an update comes in."""
    stall = Stall()
    answers: Iterator[Answer] = iter([stall, saying(body_record(b"again"))])

    class Ending(Clock):
        def sleep(self, seconds: float) -> None:
            super().sleep(seconds)
            if self.now > 100:
                stall.ended.set()

    clock = Ending()
    made, grid = transport(
        {1: lambda message: next(answers)(message), 2: saying(body_record(b"here"))}, seconds=600.0, clock=clock
    )
    replies = made.ask_nodes({1: b"first", 2: b"first"})
    assert next(iter(replies)).node == 2
    assert isinstance(replies, Generator)
    replies.close()
    assert clock() < 100
    (reply,) = made.ask_nodes({1: b"second"})
    assert reply.body == b"again"
    assert [read_body(message.content, max_bytes=9) for message in grid.pushed] == [b"first", b"first", b"second"]
    assert 100 < clock() < 600


def test_a_node_whose_upload_was_given_up_is_asked_again_when_it_has_ended() -> None:
    stall = Stall()
    answers: list[Answer] = [stall, saying(body_record(b"again"))]
    made, grid = transport({1: lambda message: answers[0](message)})
    (late,) = made.ask_nodes({1: b"first"})
    (refused,) = made.ask_nodes({1: b"second"})
    assert (late.error_kind, refused.error_kind) == ("Missing", "Missing")
    assert "came too late is still on its way" in refused.error
    assert len(grid.pushed) == 1
    answers.pop(0)
    stall.ended.set()
    for thread in threading.enumerate():
        if thread.name == "a call to Flower":
            thread.join(10.0)
    (answered,) = made.ask_nodes({1: b"third"})
    assert answered.body == b"again"


class Silent(FakeGrid):
    """A grid whose SuperLink lives and answers nothing, as long as it is told to."""

    def __init__(self, answers: dict[int, Answer]) -> None:
        super().__init__(answers)
        self.speaks = threading.Event()

    def get_node_ids(self) -> Iterable[int]:
        hang(self.speaks)
        return super().get_node_ids()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        hang(self.speaks)
        return super().push_messages(messages)


def test_a_superlink_that_does_not_answer_is_waited_for_only_so_long() -> None:
    clock = Clock()
    grid = Silent({1: saying(body_record(b"")), 2: saying(body_record(b""))})
    made, _ = transport({}, clock=clock, grid=grid)
    try:
        with pytest.raises(DeployError, match="did not say within 120 s which nodes are there"):
            made.nodes()
        assert clock() == 120
        replies = list(made.ask_nodes({1: b"", 2: b""}))
        assert [reply.error_kind for reply in replies] == ["Missing", "Missing"]
        assert clock() == 120 + 10  # the second is not even tried
    finally:
        grid.speaks.set()


def test_a_superlink_that_fails_to_say_which_nodes_are_there_is_an_error_of_ours() -> None:
    class Failing(FakeGrid):
        def get_node_ids(self) -> Iterable[int]:
            raise RuntimeError("database is locked")

    made, _ = transport({}, grid=Failing({}))
    with pytest.raises(DeployError, match=r"failed when it was asked which nodes are there \(RuntimeError\)"):
        made.nodes()


def is_large(reply: NodeReply) -> bool:
    return len(reply.body) == 2 * PIECE


def peak_bytes(num_nodes: int, *, is_slow: bool) -> int:
    """The most memory that a round of large answers takes, on top of what is there before."""
    nodes = range(1, 1 + num_nodes)
    large = saying(lambda request: body_record(bytes(2 * PIECE)))  # made anew for each
    answers = {node: after(node % 3, large) for node in nodes}
    clock = Clock()
    with stalling() as stall:
        made, _ = transport({**answers, **({1: stall} if is_slow else {})}, seconds=600.0, clock=clock)
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            assert sum(map(is_large, made.ask_nodes(dict.fromkeys(nodes, b"request")))) == num_nodes - is_slow
            return tracemalloc.get_traced_memory()[1] - before
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("is_slow", [False, True])
def test_memory_does_not_grow_with_the_number_of_nodes(is_slow: bool) -> None:
    few, many = peak_bytes(3, is_slow=is_slow), peak_bytes(12, is_slow=is_slow)
    assert few > 2 * PIECE
    assert many <= 1.2 * few


class Lazy(Mapping[str, bytes]):
    """Requests that are made when they are asked for; says when into the grid's events."""

    def __init__(self, grid: FakeGrid, names: list[str]) -> None:
        self._grid, self._names = grid, names

    def __getitem__(self, name: str) -> bytes:
        self._grid.events.append(f"make {name}")
        return name.encode()

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def test_requests_are_made_one_at_a_time_and_replies_pulled_when_those_before_are_taken() -> None:
    made, grid = transport({1: saying(body_record), 2: saying(body_record)})
    made.introduce({"north": 1, "south": 2})
    replies = []
    for reply in made.exchange(Lazy(grid, ["north", "south"])):
        grid.events.append(f"take {reply.client}")
        replies.append(reply.body)
    assert grid.events == [
        *("make north", "push 1", "make south", "push 2"),
        *("pull 1", "take north", "pull 2", "take south"),
    ]
    assert replies == [b"north", b"south"]


def test_clients_are_asked_at_the_nodes_they_were_introduced_at() -> None:
    made, _ = transport({1: saying(body_record(b"of 1")), 2: saying(body_record(b"of 2"))})
    made.introduce({"north": 1, "gone": 5})
    made.introduce({"north": 2})
    replies = {reply.client: reply for reply in made.exchange({"north": b"", "gone": b""})}
    assert replies["north"].body == b"of 2"
    assert replies["gone"].error_kind == "Missing"
    assert made.nodes() == [1, 2]


def test_two_clients_cannot_be_at_one_node() -> None:
    made, _ = transport({})
    with pytest.raises(ValueError, match="two clients"):
        made.introduce({"north": 1, "south": 1})


def test_reading_refuses_what_is_too_large() -> None:
    with pytest.raises(MessageError, match="the limit is 3"):
        read_body(body_record(b"four"), max_bytes=3)
