"""Looks for replies that may take long: each in a call of its own, so that a slow upload holds up no others."""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from confide.transport.call import Call

_PULL_SECONDS = 10.0  # how long a pull is waited for in line, where no other goes on; of n + 1 at once each 1 / (n + 1)
_LATE_SECONDS = 1.0  # the same, where the deadline is over
GRACE_SECONDS = 30.0
"""How long a pull that is on its way at its deadline may still go on."""

_Found = TypeVar("_Found")


class StillOnItsWay(Exception):  # noqa: N818 (what is so at a deadline, not a fault)
    """A reply had begun to come in when its time was over."""


class LeftPulls:
    """Pulls that nobody waits for any more and that go on, by node."""

    def __init__(self) -> None:
        self._pulls: dict[int, list[threading.Event]] = {}

    def add(self, node: int, is_over: threading.Event) -> None:
        """Notes one, with the event of its end."""
        self._pulls.setdefault(node, []).append(is_over)

    def go_on(self, node: int) -> bool:
        """Whether there is any of a node."""
        running = [is_over for is_over in self._pulls.pop(node, []) if not is_over.is_set()]
        if running:
            self._pulls[node] = running
        return bool(running)


@dataclass(frozen=True, kw_only=True)
class _Pull(Generic[_Found]):
    """A look for a reply that has begun.

    Attributes:
        began: on the clock.
    """

    node: int
    call: Call[_Found | None]
    began: float


class Pulls(Generic[_Found]):
    """The looks for the replies of one exchange.

    A pull is waited for in line for a few seconds, and then goes on beside the next ones. The more do, the shorter is
    the wait, so that with 64 of them all begin within a minute. After that it costs no time to look for it.

    Args:
        clock: seconds of a clock that never goes back.
        wait: waits for an event, at most so many seconds, and says whether it came.
        left: is told of every pull that is given up before it is over.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        wait: Callable[[threading.Event, float], bool],
        left: LeftPulls,
    ) -> None:
        self._clock = clock
        self._wait = wait
        self._left = left
        self._slow: dict[str, _Pull[_Found]] = {}

    def look(self, message_id: str, node: int, deadline: float, pull: Callable[[], _Found | None]) -> _Found | None:
        """Gives what was found, or None if it is not there yet.

        Args:
            message_id: for whose reply is looked.
            node: whose reply it is.
            deadline: on the clock.
            pull: looks, for as long as it takes.

        Raises:
            StillOnItsWay: it was there in part at the deadline, had half a minute more, and is given up.
            Exception: whatever `pull` raises.
        """
        begun = self._slow.pop(message_id, None)
        slow = begun or _Pull(node=node, call=Call(pull), began=self._clock())
        most = _PULL_SECONDS if slow.began < deadline else _LATE_SECONDS
        in_line = 0.0 if begun is not None else most / (1 + len(self._slow))
        if self._wait(slow.call.is_over, in_line):
            return slow.call.take()
        self._slow[message_id] = slow
        if self._clock() < max(deadline, slow.began) + GRACE_SECONDS:
            return None
        self.forget([message_id])
        raise StillOnItsWay

    def go_on(self, message_ids: Iterable[str]) -> bool:
        """Whether the reply to any of these messages is on its way."""
        return any(message_id in self._slow for message_id in message_ids)

    def forget(self, message_ids: Iterable[str]) -> None:
        """Waits no longer for replies that are not needed any more."""
        for message_id in message_ids:
            pull = self._slow.pop(message_id, None)
            if pull is not None:
                self._left.add(pull.node, pull.call.is_over)

    def leave(self) -> None:
        """Gives up whatever is on its way."""
        self.forget(list(self._slow))
