"""Messages over Flower: bytes as arrays of a type of our own, replies taken one at a time, an end for every wait.

Stands on Flower's public app API alone. A message travels in pieces that are counted from its end. Where the messages
of one phase differ in what stands first and agree in a long last part, as requests that carry the same sealed sum do,
their last pieces are the same arrays; Flower names an array by its digest, so it stores and uploads each once.

A message's number is Flower's digest of it, and Flower takes each number once. So what is sent again, where nobody
knows whether Flower took it, is the same to the bit, and a node gets it at most once.

Flower drops what a node could not fetch in time, so that a node which comes back late is not asked for what nobody
waits for any more.

Flower's SuperLink loses messages where many nodes write to its database at once. So a node that has a large answer says
so, and a few nodes at a time are asked to hand theirs over; and what was lost is asked for again, as
`confide.transport.errand` says.

Flower itself waits without an end that we could set: a pull goes on while the node still uploads its answer, and every
call is tried again for as long as the SuperLink does not answer. So each call is made in a thread of its own and given
up after a time; messages go out one at a time, and replies are looked for beside one that takes long. Flower's grid
bears that: it is called from several threads by Flower as well. Where the SuperLink is dead, Flower ends the server's
app within seconds, since SuperExec looks after the SuperLink's process and the app after SuperExec's; our own ends are
for one that lives and does not answer.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from confide.errors import DeployError, MessageError
from confide.transport.base import MISSING, NodeReply, Reply
from confide.transport.call import Call
from confide.transport.errand import Errand, Heard, Step, Word
from confide.transport.hearing import answer, flower_error, malformed, missing, told_error
from confide.transport.pulls import GRACE_SECONDS, LeftPulls, Pulls, StillOnItsWay

MESSAGE_TYPE = "query.confide"
MAX_REPLY_BYTES = 1 << 31
"""The largest reply that is read, unless the transport is told otherwise: 2 GiB.

Flower puts a reply together before it hands it over, so what this bounds is what we copy and read, not what Flower
fetches. Flower has no bound of its own on a whole reply, and the proxy has one on a piece (`client_max_body_size`): a
registered node can fill the server's memory until its message's time is over.
"""

LARGE_BYTES = 1 << 20
"""A node holds a longer answer until it is fetched."""

_STYPE = "confide.message.1"
_MAX_PIECE_BYTES, _SMALL_PIECE_BYTES = 4 << 20, 1 << 20
_SMALL_PIECES_BELOW = 16 << 20  # bytes: each piece is in the SuperLink's memory several times, and costs it some time
_BODY, _ERROR, _HELD, _AGAIN = "confide.body", "confide.error", "confide.held", "confide.again"
_FAILING_SECONDS = 60.0  # that looks for an answer may fail, before it counts as one that cannot be read
_ROW_SECONDS = 30.0  # that messages are sent one after the other, before replies are looked for
_MAX_FETCHES = 3  # at a time: of ten large answers at once SQLite, which lets one write at a time, lost some
_ANSWER_SECONDS = 120.0  # the SuperLink's, to a question of a few bytes
_PUSH_SECONDS = 10.0  # how long a push is waited for before replies are looked for beside it
_NOT_TAKEN = "Flower took no message for this node"
_TOO_LATE = "an answer of it that came too late is still on its way"
_SLACK_SECONDS = 60.0  # Flower keeps a reply that came in time at least so long, while earlier ones are worked on

_logger = logging.getLogger(__name__)


def body_record(body: bytes) -> RecordDict:
    """Puts a message's bytes into a Flower record; the inverse of `read_body`."""
    size = _SMALL_PIECE_BYTES if len(body) < _SMALL_PIECES_BELOW else _MAX_PIECE_BYTES
    first = len(body) % size or min(len(body), size)
    cuts = [0, *range(first, len(body), size), len(body)]
    pieces = [body[start:end] for start, end in pairwise(cuts)]
    arrays = {
        f"{number} of {len(pieces)}": Array("uint8", (len(piece),), _STYPE, piece)
        for number, piece in enumerate(pieces)
    }
    return RecordDict({_BODY: ArrayRecord(arrays)})


def error_record(kind: str, text: str) -> RecordDict:
    """Puts the reason why there is no answer into a Flower record."""
    return RecordDict({_ERROR: ConfigRecord({"kind": kind, "text": text})})


def held_record(num_bytes: int) -> RecordDict:
    """Says in a Flower record that an answer of so many bytes can be fetched."""
    return RecordDict({_HELD: ConfigRecord({"bytes": num_bytes})})


@dataclass(frozen=True, kw_only=True)
class Again:
    """Asks a node for the answer that it holds.

    Attributes:
        request: the number of the request's message.
        is_fetched: whether the answer is to come, or only word that it is there.
    """

    request: str
    is_fetched: bool


def again_record(again: Again) -> RecordDict:
    """Puts it into a Flower record; the inverse of `read_again`."""
    return RecordDict({_AGAIN: ConfigRecord({"request": again.request, "fetch": again.is_fetched})})


def read_again(content: RecordDict) -> Again | None:
    """Gives what `again_record` put into a record; None if it holds anything else."""
    record = content.get(_AGAIN)
    if list(content) != [_AGAIN] or not isinstance(record, ConfigRecord):
        return None
    request, is_fetched = record.get("request"), record.get("fetch")
    if not isinstance(request, str) or not isinstance(is_fetched, bool):
        return None
    return Again(request=request, is_fetched=is_fetched)


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
    return (
        array.stype == _STYPE
        and array.dtype == "uint8"
        and array.shape == shape
        and len(array.data) <= _MAX_PIECE_BYTES
    )


class FlowerTransport:
    """Carries messages over Flower's `Grid`, from the server's app to the nodes.

    Memory does not grow with the number of clients: a request is made, pushed and forgotten before the next one is
    made, and a reply is pulled when those before it have been taken. A pull that takes long, since the node still
    uploads, goes on beside the next ones. Nodes with a large answer are asked for it three at a time, so what is in
    memory beside one reply are large ones of three nodes, one of each node that took too long to hand its own over, and
    small ones. A node whose upload was given up is asked for nothing until it has ended.

    Args:
        grid: as Flower hands it to a ServerApp.
        seconds: how long an answer to a request may take, from its bytes. What nodes hold by then has as long again,
            and at most an hour, to be handed over, all of it together.
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
        self._pushing: Call[str] | None = None
        self._left = LeftPulls()
        self._names: dict[str, int] = {}

    def nodes(self) -> list[int]:
        """See `Introducing.nodes`.

        Raises:
            DeployError: the SuperLink does not answer, or fails.
        """
        call = Call(lambda: sorted(self._grid.get_node_ids()))
        if not self._wait(call.is_over, _ANSWER_SECONDS):
            raise DeployError(
                f"Flower's SuperLink did not say within {_ANSWER_SECONDS:g} s which nodes are there: look at "
                "superlink.log in the server's folder, stop `confide deploy server` and start it again"
            )
        try:
            return call.take()
        except Exception as error:  # as where its database is locked
            _logger.debug("asking for the nodes failed", exc_info=True)
            raise DeployError(
                f"Flower's SuperLink failed when it was asked which nodes are there ({type(error).__name__}): look at "
                "superlink.log in the server's folder"
            ) from error

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
        errands = []
        began = self._clock()
        for node, make in requests:
            request = make()
            errand = Errand(node=node, seconds=self._seconds(request), make=make, began=began)
            errands.append(errand)
            if self._may_send(errand) and self._clock() < began + _ROW_SECONDS:
                self._send(errand, body_record(request))
            del request
        yield from self._collect(errands)

    def _may_send(self, errand: Errand) -> bool:
        if self._pushing is not None and not self._pushing.is_over.is_set():
            return False
        return errand.send_at <= self._clock() < errand.deadline and not self._left.go_on(errand.node)

    def _send(self, errand: Errand, content: RecordDict) -> None:
        """Sends one message. What Flower does not take in a few seconds goes on beside looks for replies."""
        seconds = errand.deadline - self._clock() + _SLACK_SECONDS
        message = Message(content, errand.node, MESSAGE_TYPE, ttl=seconds)
        if errand.stamp is not None:
            message.metadata.created_at, message.metadata.ttl = errand.stamp
        errand.stamp = message.metadata.created_at, message.metadata.ttl
        push = Call(partial(self._push, message))
        del message
        errand.push = self._pushing = push
        if self._wait(push.is_over, _PUSH_SECONDS):
            self._pushed(errand, push)
        else:
            _logger.warning("the SuperLink has not taken a message for node %d in %g s", errand.node, _PUSH_SECONDS)

    def _push(self, message: Message) -> str:
        """Gives the message's number, or "" if Flower refuses it, as for a node that it does not know."""
        ids = list(self._grid.push_messages([message]))
        return ids[0] if len(ids) == 1 and ids[0] else ""

    def _pushed(self, errand: Errand, push: Call[str]) -> None:
        """Takes what became of a push that is over; what failed is sent again."""
        errand.push = None
        try:
            errand.pushed(push.take(), self._clock())
        except Exception as error:  # whatever goes wrong with one node, the others are asked
            _logger.warning("no message could be handed to Flower for node %d: %s", errand.node, type(error).__name__)
            _logger.debug("pushing failed", exc_info=True)
            errand.pause(self._clock())

    def _collect(self, errands: list[Errand]) -> Iterator[NodeReply]:
        pulls = Pulls[Heard](clock=self._clock, wait=self._wait, left=self._left)
        try:
            while errands:
                for errand in list(errands):
                    reply = self._visit(errand, pulls)
                    if reply is not None:
                        pulls.forget(errand.messages)
                        errands.remove(errand)
                        yield reply
                        reply = None  # so that it is not in memory while the next one is pulled
                self._go_on(errands, pulls)
                if errands:
                    self._sleep(self._poll_seconds)
        finally:  # also where nobody takes any more replies
            pulls.leave()

    def _visit(self, errand: Errand, pulls: Pulls[Heard]) -> NodeReply | None:
        """Gives what became of an errand, or None if that is open."""
        is_late = self._clock() >= errand.deadline  # before the look: what came in time is taken
        told = errand.told  # before the look, too: what an inquiry overtook has been looked for since
        for message_id in list(errand.messages):
            heard = self._look(errand, message_id, pulls)
            if heard is None:
                continue
            if heard.word is Word.ANSWER:
                return heard.reply
            if message_id not in errand.inquiries:
                return self._turn(errand, heard, pulls)
            errand.answered(message_id, heard)
        # Of several messages each look may take long, one beside the other, without an end.
        is_over = self._clock() >= errand.deadline + 2 * GRACE_SECONDS or not pulls.go_on(errand.messages)
        if told is not None and is_over:
            return self._turn(errand, told, pulls)
        if is_late and errand.told is None and is_over:
            return missing(errand.node, self._why_late(errand))
        return missing(errand.node, _NOT_TAKEN) if errand.is_refused else None

    def _why_late(self, errand: Errand) -> str:
        if not errand.messages and self._left.go_on(errand.node):
            return _TOO_LATE
        if not errand.request:
            return _NOT_TAKEN
        if errand.step is Step.FETCH:
            return f"it holds its answer, which was not handed over within {errand.end - errand.due:g} s"
        return f"no answer within {errand.seconds:g} s"

    def _turn(self, errand: Errand, heard: Heard, pulls: Pulls[Heard]) -> NodeReply | None:
        """Has the node asked for something else than before, or gives what is made of it where that was done enough."""
        if heard.word is not Word.HELD or heard is errand.told or errand.was_fetched:
            _logger.warning("a message to or from node %d was lost and is asked for again", errand.node)
        pulls.forget(errand.messages)
        return None if errand.turn(heard.word, self._clock()) else heard.reply

    def _go_on(self, errands: list[Errand], pulls: Pulls[Heard]) -> None:
        """Sends what is next, large answers being fetched from a few nodes at a time, and asks after silent ones."""
        began = self._clock()
        for errand in errands:
            if errand.push is not None and errand.push.is_over.is_set():
                self._pushed(errand, errand.push)
            now = self._clock()
            if not self._may_send(errand) or now >= began + _ROW_SECONDS:
                continue
            if errand.messages:  # an inquiry's answer comes after that to what was sent before
                if now >= errand.inquire_at and not pulls.go_on(errand.messages):
                    self._send(errand, again_record(Again(request=errand.request, is_fetched=False)))
            elif not errand.awaits_slot or sum(other.has_slot(now) for other in errands) < _MAX_FETCHES:
                self._send(errand, self._content(errand))

    def _content(self, errand: Errand) -> RecordDict:
        if errand.step is Step.REQUEST:
            return body_record(errand.make())
        return again_record(Again(request=errand.request, is_fetched=errand.step is Step.FETCH))

    def _look(self, errand: Errand, message_id: str, pulls: Pulls[Heard]) -> Heard | None:
        """Gives what came to one message, or None if nothing is there yet."""
        node = errand.node
        pull = partial(self._pull, message_id, node, is_request=errand.is_request(message_id))
        try:
            heard = pulls.look(message_id, node, errand.deadline, pull)
        except StillOnItsWay:
            seconds = errand.seconds + errand.deadline - errand.due
            return answer(missing(node, f"its answer was still on its way after {seconds:g} s"))
        except Exception as error:  # the SuperLink fails, or what a node sent breaks Flower's reader
            _logger.debug("pulling failed", exc_info=True)
            now = self._clock()
            if now < errand.failing_since.setdefault(message_id, now) + _FAILING_SECONDS:
                return None
            reply = malformed(node, f"Flower cannot read the reply ({type(error).__name__})")
            return Heard(word=Word.GONE, reply=reply)
        if not pulls.go_on([message_id]):
            errand.failing_since.pop(message_id, None)
        return heard

    def _pull(self, message_id: str, node: int, *, is_request: bool) -> Heard | None:
        for message in self._grid.pull_messages([message_id]):
            if message.metadata.reply_to_message_id != message_id:
                continue  # Flower adds what any node addresses to the server itself
            if message.has_error():
                return flower_error(node, message.error.code, is_request=is_request)
            if message.metadata.src_node_id == node:
                return self._read(node, message.content, is_request=is_request)
        return None

    def _read(self, node: int, content: RecordDict, *, is_request: bool) -> Heard:
        if list(content) == [_ERROR]:
            record = content[_ERROR]
            told = (record.get("kind"), record.get("text")) if isinstance(record, ConfigRecord) else (None, None)
            return told_error(node, *told, is_request=is_request)
        if list(content) == [_HELD]:
            return Heard(word=Word.HELD, reply=missing(node, "it holds its answer and does not hand it over"))
        try:
            return answer(NodeReply(node=node, body=read_body(content, max_bytes=self._max_reply_bytes)))
        except MessageError as error:
            return answer(malformed(node, str(error)))


def _named(clients: Mapping[int, str], reply: NodeReply) -> Reply:
    return Reply(client=clients[reply.node], body=reply.body, error_kind=reply.error_kind, error=reply.error)
