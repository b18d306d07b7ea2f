"""What is asked of one node, until its answer is there: what was sent, what was heard, and what to send next.

Flower loses messages: where its SuperLink cannot write to its database in time, a node's reply is dropped for good,
and so is a request that a node could not fetch whole. So a node keeps its last answer, and can be asked for it:

    request    the node does what is asked, keeps its answer, and gives it; of a large one it says that it holds it
    inquiry    the node says whether it holds an answer to the request
    fetch      the node gives the answer that it holds

A node works on one message at a time, in the order in which they were sent. So an answer to a later message says that
an earlier one, if there is no answer to it, was lost.

    began         due                      end
    |  an answer  |  handing over what is  |
    |  is there   |  held by then          |

No message has more time than that, however often it is sent again, and however late Flower took it. Knows nothing of
Flower.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto

from confide.transport.base import NodeReply
from confide.transport.call import Call

MAX_TURNS = 5
"""How often a node is sent something else than the request, each time since something was lost or is held."""

MAX_HAND_OVER_SECONDS = 3600.0
"""A large answer may take as long again to be handed over as to be given, and at most so long."""

_PATIENCE_SECONDS = 120.0  # before a silent node is asked what became of the request; doubled each time
_INQUIRY_SECONDS = 60.0  # that an inquiry has at least, where its answer's time is over but not that of handing over
_PAUSE_SECONDS = 1.0  # before what failed is sent again; doubled each time
_MAX_PAUSE_SECONDS = 30.0
_MAX_SLOT_SECONDS = 300.0
_SLOTS_EACH = 5  # one slot after the other fit into the time of handing over


class Word(Enum):
    """What is said of a request: by the node, or by Flower in its place."""

    ANSWER = auto()
    """The answer, or the reason why there will be none."""
    HELD = auto()
    """The node holds an answer, which can be fetched."""
    UNKNOWN = auto()
    """The node has answered no such request."""
    GONE = auto()
    """What the node sent was lost."""


class Step(Enum):
    """What a node is sent next."""

    REQUEST = auto()
    INQUIRY = auto()
    FETCH = auto()


@dataclass(frozen=True, kw_only=True)
class Heard:
    """What came back.

    Attributes:
        reply: the answer; where there is another word, what to make of it if the node is asked no more.
    """

    word: Word
    reply: NodeReply


@dataclass(kw_only=True, eq=False)
class Errand:
    """One node's request on its way.

    Attributes:
        seconds: how long an answer may take.
        make: makes the request.
        began: when nodes began to be asked, on the transport's clock.
        push: what is being sent, as long as nobody knows whether Flower takes it.
        stamp: when the message was made that Flower may have taken without saying so, and how long it lives. What is
            sent again has the same stamp.
        is_refused: whether Flower takes no message for this node.
        step: what is to be sent, or was sent last.
        request: the number of the request's message.
        messages: those without an answer, by number, in the order in which they were sent.
        inquiries: those of them that were sent since nothing was heard.
        told: what the answer to an inquiry says.
        due: when the answer has to be there, on the same clock.
        end: when it has to be handed over.
        deadline: when what is asked now has to have come: the first of the two, the second, or a minute for an inquiry.
        inquire_at: when a silent node is asked what became of the request.
        send_at: nothing is sent before.
        failing_since: when looks for an answer began to fail, without one between that did not, by message.
        turns: see `MAX_TURNS`.
        slot_end: until when this one counts among those that are handed over; None before it is asked for.
    """

    node: int
    seconds: float
    make: Callable[[], bytes] = field(repr=False)
    began: float
    push: Call[str] | None = None
    stamp: tuple[float, float] | None = None
    is_refused: bool = False
    step: Step = Step.REQUEST
    request: str = ""
    messages: list[str] = field(default_factory=list)
    inquiries: list[str] = field(default_factory=list)
    told: Heard | None = None
    due: float = field(init=False)
    end: float = field(init=False)
    deadline: float = field(init=False)
    inquire_at: float = 0.0
    send_at: float = field(init=False)
    failing_since: dict[str, float] = field(default_factory=dict)
    turns: int = 0
    slot_end: float | None = None
    _patience: float = _PATIENCE_SECONDS
    _pause: float = _PAUSE_SECONDS

    def __post_init__(self) -> None:
        self.send_at = self.began
        self.due = self.deadline = self.began + self.seconds
        self.end = self.due + min(self.seconds, MAX_HAND_OVER_SECONDS)

    @property
    def was_fetched(self) -> bool:
        """Whether the node was asked for the answer that it holds."""
        return self.slot_end is not None

    @property
    def awaits_slot(self) -> bool:
        """Whether it is still to be asked for the first time for the answer that it holds."""
        return self.step is Step.FETCH and not self.was_fetched

    def is_request(self, message_id: str) -> bool:
        """Whether one of `messages` is the request."""
        return self.step is Step.REQUEST and message_id not in self.inquiries

    def has_slot(self, now: float) -> bool:
        """Whether it counts among those that are handed over."""
        return self.slot_end is not None and now < self.slot_end

    def pushed(self, message_id: str, now: float) -> None:
        """Takes the number of a message that was sent, or "" where Flower takes none for this node."""
        self.push = self.stamp = None
        if not message_id:
            self.is_refused = not self.request
            self.pause(now)
        elif self.messages:
            self.inquired(message_id, now)
        else:
            self.sent(message_id, now)

    def sent(self, message_id: str, now: float) -> None:
        """Notes that the step was taken."""
        if self.step is Step.REQUEST:
            self.request = message_id
        if self.awaits_slot:
            self.slot_end = now + min(_MAX_SLOT_SECONDS, (self.end - self.due) / _SLOTS_EACH)
        self.messages = [message_id]
        self.inquire_at = now + self._patience

    def inquired(self, message_id: str, now: float) -> None:
        """Notes that a silent node was asked what became of the request."""
        self.inquiries.append(message_id)
        self.messages.append(message_id)
        self._patience *= 2
        self.inquire_at = now + self._patience

    def answered(self, inquiry: str, heard: Heard) -> None:
        """Takes the answer to an inquiry: what was sent before it is looked for once more, and then counts as lost."""
        self.messages.remove(inquiry)
        self.inquiries.remove(inquiry)
        if heard.word is not Word.GONE:
            self.told = heard

    def pause(self, now: float) -> None:
        """Sends nothing for a while, a longer one each time."""
        self.send_at = now + self._pause
        self._pause = min(2 * self._pause, _MAX_PAUSE_SECONDS)

    def turn(self, word: Word, now: float) -> bool:
        """Decides what to send next, when, and how long there is for it; False if enough was sent."""
        self.turns += 1
        self.messages, self.inquiries, self.told, self.push, self.stamp = [], [], None, None, None
        self.failing_since.clear()
        if word is not Word.GONE:
            self._pause = _PAUSE_SECONDS
        elif self.step is not Step.REQUEST:  # an inquiry or a fetch failed, and would again if it were sent at once
            self.pause(now)
        if word is Word.HELD:
            self.step, self.deadline = Step.FETCH, self.end
        elif word is Word.UNKNOWN:
            self.step, self.deadline = Step.REQUEST, self.due
        elif self.step is not Step.FETCH:
            self.step, self.deadline = Step.INQUIRY, min(self.end, max(self.due, now + _INQUIRY_SECONDS))
        return self.turns <= MAX_TURNS
