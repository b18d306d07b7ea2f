"""Messages over Flower: bytes as arrays of a type of our own, replies taken one at a time, an end for every wait.

Stands on Flower's public app API alone. A message travels in pieces that are counted from its end. Where the messages
of one phase differ in what stands first and agree in a long last part, as requests that carry the same sealed sum do,
their last pieces are the same arrays; Flower names an array by its digest, so it stores and uploads each once.

Flower drops what a node could not fetch in time, so that a node which comes back late is not asked for what nobody
waits for any more.

Flower itself waits without an end that we could set: a pull goes on while the node still uploads its answer, and every
call is tried again for as long as the SuperLink does not answer. So each call is made in a thread of its own and given
up after a time. Flower's grid bears that: it is called from several threads by Flower as well. Where the SuperLink is
dead, Flower ends the server's app within seconds, since SuperExec looks after the SuperLink's process and the app after
SuperExec's; our own ends are for one that lives and does not answer.
"""

import logging
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from confide.errors import DeployError, MessageError
from confide.transport.base import MAX_ERROR_CHARACTERS, NodeReply, Reply
from confide.transport.call import Call

MESSAGE_TYPE = "query.confide"
MAX_REPLY_BYTES = 1 << 31
"""The largest reply that is read, unless the transport is told otherwise: 2 GiB.

Flower puts a reply together before it hands it over, so what this bounds is what we copy and read, not what Flower
fetches. Flower has no bound of its own on a whole reply, and the proxy has one on a piece (`client_max_body_size`): a
registered node can fill the server's memory until its message's time is over.
"""

MISSING = "Missing"

_STYPE = "confide.message.1"
_PIECE_BYTES = 4 << 20
_BODY, _ERROR = "confide.body", "confide.error"
_KIND = re.compile("[A-Za-z][A-Za-z0-9]{0,63}")
_MAX_FAILED_PULLS = 3
_MAX_SLOW_PULLS = 2  # that go on beside the one that is waited for: each holds a part of a reply
_PULL_SECONDS = 30.0  # how long a pull is waited for, and how long all together that are on their way at the deadline
_LEAST_PULL_SECONDS = 1.0  # how long each of these is waited for at least
_ANSWER_SECONDS = 120.0  # the SuperLink's, to a question of a few bytes
_SLACK_SECONDS = 60.0  # Flower keeps a reply that came in time at least so long, while earlier ones are worked on

# Codes of flwr.app.Error, as Flower documents them; 3, 4 and 5 say that there is no answer and will be none.
_ERROR_NAMES = {
    1: "LoadClientAppException",
    2: "ClientAppRaisedException",
    3: MISSING,
    4: MISSING,
    5: MISSING,
    6: "ModFailedPrecondition",
    7: "InvalidFab",
    8: "ClientAppCrashed",
}

_logger = logging.getLogger(__name__)


def body_record(body: bytes) -> RecordDict:
    """Puts a message's bytes into a Flower record; the inverse of `read_body`."""
    first = len(body) % _PIECE_BYTES or min(len(body), _PIECE_BYTES)
    cuts = [0, *range(first, len(body), _PIECE_BYTES), len(body)]
    pieces = [body[start:end] for start, end in pairwise(cuts)]
    arrays = {
        f"{number} of {len(pieces)}": Array("uint8", (len(piece),), _STYPE, piece)
        for number, piece in enumerate(pieces)
    }
    return RecordDict({_BODY: ArrayRecord(arrays)})


def error_record(kind: str, text: str) -> RecordDict:
    """Puts the reason why there is no answer into a Flower record."""
    return RecordDict({_ERROR: ConfigRecord({"kind": kind, "text": text})})


def read_body(content: RecordDict, *, max_bytes: int) -> bytes:
    """Gives the bytes that `body_record` put into a record.

    Raises:
        MessageError: it holds anything else, a piece is missing, or it is too large.
    """
    record = content.get(_BODY)
    if list(content) != [_BODY] or not isinstance(record, ArrayRecord):
        raise MessageError(f"expected one record {_BODY}, got {len(content)} records or one of another kind")
    names = [f"{number} of {len(record)}" for number in range(len(record))]
    if not names or set(names) != set(record):
        raise MessageError(f"a message in {len(record)} pieces lacks some of them, or names them wrongly")
    pieces = [record[name] for name in names]
    if any(not _is_piece(piece) for piece in pieces):
        raise MessageError(f"a piece of a message is no array of bytes of the type {_STYPE}")
    num_bytes = sum(len(piece.data) for piece in pieces)
    if num_bytes > max_bytes:
        raise MessageError(f"a message of {num_bytes} bytes came, the limit is {max_bytes}")
    return b"".join(piece.data for piece in pieces)


def _is_piece(array: Array) -> bool:
    shape = (len(array.data),)
    return array.stype == _STYPE and array.dtype == "uint8" and array.shape == shape and len(array.data) <= _PIECE_BYTES


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """A request on its way.

    Attributes:
        seconds: how long an answer may take.
        deadline: on the transport's clock.
    """

    node: int
    seconds: float
    deadline: float


@dataclass(frozen=True, kw_only=True)
class _Pull:
    """A look for a reply that has begun.

    Attributes:
        began: on the transport's clock.
    """

    call: Call[NodeReply | None]
    began: float


class FlowerTransport:
    """Carries messages over Flower's `Grid`, from the server's app to the nodes.

    Memory does not grow with the number of clients: a request is made, pushed and forgotten before the next one is
    made, and a reply is pulled when those before it have been taken. A pull that takes long, since the node still
    uploads, goes on beside the next ones; so at most three replies are in memory, and one for each node whose upload
    was given up at its deadline and has not ended yet. Such a node is asked for nothing until it has.

    Args:
        grid: as Flower hands it to a ServerApp.
        seconds: how long an answer to a request may take, from its bytes.
        poll_seconds: between two looks for replies.
        max_reply_bytes: a longer reply counts as malformed.
        clock: seconds of a clock that never goes back.
        sleep: waits so many seconds.
        wait: waits for an event, at most so many seconds, and says whether it came.
    """

    def __init__(
        self,
        grid: Grid,
        *,
        seconds: Callable[[bytes], float],
        poll_seconds: float = 1.0,
        max_reply_bytes: int = MAX_REPLY_BYTES,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        wait: Callable[[threading.Event, float], bool] = threading.Event.wait,
    ) -> None:
        self._grid = grid
        self._seconds = seconds
        self._poll_seconds = poll_seconds
        self._max_reply_bytes = max_reply_bytes
        self._clock = clock
        self._sleep = sleep
        self._wait = wait
        self._pushing: Call[list[str]] | None = None
        self._left: dict[int, threading.Event] = {}
        self._names: dict[str, int] = {}

    def nodes(self) -> list[int]:
        """See `Introducing.nodes`.

        Raises:
            DeployError: the SuperLink does not answer.
        """
        call = Call(lambda: sorted(self._grid.get_node_ids()))
        if not self._wait(call.is_over, _ANSWER_SECONDS):
            raise DeployError(
                f"Flower's SuperLink did not say within {_ANSWER_SECONDS:g} s which nodes are there: look at "
                "superlink.log in the server's folder, stop `confide deploy server` and start it again"
            )
        return call.take()

    def introduce(self, names: Mapping[str, int]) -> None:
        """See `Introducing.introduce`.

        Raises:
            ValueError: two clients are said to be at one node.
        """
        if len(set(names.values())) != len(names):
            raise ValueError("two clients were introduced at one node")
        self._names = dict(names)

    def exchange(self, requests: Mapping[str, bytes]) -> Iterator[Reply]:
        """See `Transport.exchange`."""
        known = {client: self._names[client] for client in requests if client in self._names}
        for client in requests:
            if client not in known:
                yield Reply(client=client, error_kind=MISSING, error="at no node that takes part")
        clients = {node: client for client, node in known.items()}
        requested = self._ask((node, partial(requests.__getitem__, client)) for client, node in known.items())
        # map, since a loop's variable would keep each reply in memory until the next one is there
        yield from map(partial(_named, clients), requested)

    def ask_nodes(self, requests: Mapping[int, bytes]) -> Iterator[NodeReply]:
        """See `Introducing.ask_nodes`."""
        return self._ask((node, partial(requests.__getitem__, node)) for node in requests)

    def _ask(self, requests: Iterator[tuple[int, Callable[[], bytes]]]) -> Iterator[NodeReply]:
        waiting: dict[str, _Asked] = {}
        self._left = {node: is_over for node, is_over in self._left.items() if not is_over.is_set()}
        for node, make in requests:
            if node in self._left:
                yield _missing(node, "an answer of it that came too late is still on its way")
                continue
            request = make()
            seconds = self._seconds(request)
            message_id = self._push(node, request, seconds)
            del request
            if message_id is None:
                yield _missing(node, "Flower took no message for this node")
            else:
                waiting[message_id] = _Asked(node=node, seconds=seconds, deadline=self._clock() + seconds)
        yield from self._collect(waiting)

    def _push(self, node: int, request: bytes, seconds: float) -> str | None:
        """Gives the number of the message, or None if there is none; a push that does not end stops those after it."""
        if self._pushing is not None and not self._pushing.is_over.is_set():
            return None
        message = Message(body_record(request), node, MESSAGE_TYPE, ttl=seconds + _SLACK_SECONDS)
        call = Call(lambda: list(self._grid.push_messages([message])))
        if not self._wait(call.is_over, seconds + _SLACK_SECONDS):
            _logger.warning("the SuperLink took no message for node %d in %g s", node, seconds + _SLACK_SECONDS)
            self._pushing = call
            return None
        try:
            ids = call.take()
        except Exception as error:  # whatever goes wrong with one node, the others are asked
            _logger.warning("no message could be handed to Flower for node %d: %s", node, type(error).__name__)
            _logger.debug("pushing failed", exc_info=True)
            return None
        return ids[0] if len(ids) == 1 and ids[0] else None

    def _collect(self, waiting: dict[str, _Asked]) -> Iterator[NodeReply]:
        failed_pulls = dict.fromkeys(waiting, 0)
        slow: dict[str, _Pull] = {}
        try:
            while waiting:
                for message_id, asked in list(waiting.items()):
                    is_late = self._clock() >= asked.deadline  # before the look: what came in time is taken
                    try:
                        reply = self._look(message_id, asked, slow)
                    except Exception as error:  # what a node sends can break Flower's reader, too
                        _logger.debug("pulling failed", exc_info=True)
                        failed_pulls[message_id] += 1
                        reply = None
                        if failed_pulls[message_id] >= _MAX_FAILED_PULLS:
                            reply = _malformed(asked.node, f"Flower cannot read the reply ({type(error).__name__})")
                    if reply is None and is_late:
                        reply = _missing(asked.node, f"no answer within {asked.seconds:g} s")
                    if reply is not None:
                        del waiting[message_id]
                        yield reply
                        reply = None  # so that it is not in memory while the next one is pulled
                if waiting:
                    self._sleep(self._poll_seconds)
        finally:  # also where nobody takes any more replies
            self._left.update({waiting[message_id].node: pull.call.is_over for message_id, pull in slow.items()})

    def _look(self, message_id: str, asked: _Asked, slow: dict[str, _Pull]) -> NodeReply | None:
        """Gives the reply to one message, or None if it is not there yet.

        Args:
            message_id: of the message.
            asked: what it asked for.
            slow: pulls that go on beside others, by message; the one for this message comes from there and goes there.
        """
        pull = slow.pop(message_id, None)
        is_new = pull is None
        if pull is None:
            pull = _Pull(call=Call(partial(self._pull, message_id, asked.node)), began=self._clock())
        now = self._clock()
        end = pull.began + _PULL_SECONDS
        if is_new and len(slow) >= _MAX_SLOW_PULLS:
            end = max(end, asked.deadline)
        if now >= asked.deadline:
            end = max(asked.deadline + _PULL_SECONDS, now + _LEAST_PULL_SECONDS)
        if self._wait(pull.call.is_over, max(0.0, end - now)):
            return pull.call.take()
        if self._clock() < asked.deadline:
            slow[message_id] = pull
            return None
        self._left[asked.node] = pull.call.is_over
        return _missing(asked.node, f"its answer was still on its way after {asked.seconds:g} s")

    def _pull(self, message_id: str, node: int) -> NodeReply | None:
        """Gives the reply to one message, or None if it is not there yet."""
        for message in self._grid.pull_messages([message_id]):
            if message.has_error():
                return _flower_error(node, message.error.code)
            if (message.metadata.reply_to_message_id, message.metadata.src_node_id) != (message_id, node):
                return _malformed(node, "Flower handed over the reply to another message")
            return self._read(node, message.content)
        return None

    def _read(self, node: int, content: RecordDict) -> NodeReply:
        if list(content) == [_ERROR]:
            return _told_error(node, content[_ERROR])
        try:
            return NodeReply(node=node, body=read_body(content, max_bytes=self._max_reply_bytes))
        except MessageError as error:
            return _malformed(node, str(error))


def _named(clients: Mapping[int, str], reply: NodeReply) -> Reply:
    return Reply(client=clients[reply.node], body=reply.body, error_kind=reply.error_kind, error=reply.error)


def _flower_error(node: int, code: int) -> NodeReply:
    """What Flower reports in a node's place. Its reason may quote the node's data, so it stays unread."""
    kind = _ERROR_NAMES.get(code, "FlowerError")
    error = "Flower says that the node is away or its answer gone" if kind == MISSING else "the node's log says more"
    return NodeReply(node=node, error_kind=kind, error=f"{error} (Flower's code {code})")


def _told_error(node: int, record: object) -> NodeReply:
    """What the node itself says went wrong, cut to one printable line."""
    kind, text = (record.get("kind"), record.get("text")) if isinstance(record, ConfigRecord) else (None, None)
    if not isinstance(kind, str) or not _KIND.fullmatch(kind) or not isinstance(text, str):
        return _malformed(node, "an error was told in a form that is not ours")
    line = "".join(mark if mark.isprintable() else " " for mark in text[:MAX_ERROR_CHARACTERS])
    return NodeReply(node=node, error_kind=kind, error=line)


def _missing(node: int, why: str) -> NodeReply:
    return NodeReply(node=node, error_kind=MISSING, error=why)


def _malformed(node: int, why: str) -> NodeReply:
    return NodeReply(node=node, error_kind=MessageError.__name__, error=why)
