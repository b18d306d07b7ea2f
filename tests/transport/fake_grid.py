"""A Grid of Flower's public interface in this process: what nodes answer is a function of the test."""

from collections.abc import Callable, Iterable
from typing import NoReturn

from flwr.app import Message
from flwr.serverapp import Grid

Answer = Callable[[Message], Message | None]


class FakeGrid(Grid):
    """Keeps what was pushed and pulled, and answers a message when it is asked for its reply.

    As Flower does, it takes the same message once, however often it is pushed.

    Args:
        answers: by node; gives the reply, None for none yet, or raises as Flower's reader would.
    """

    def __init__(self, answers: dict[int, Answer]) -> None:
        self._answers = answers
        self._ids: dict[str, str] = {}
        self._sent: dict[str, Message] = {}
        self.pushed: list[Message] = []
        self.events: list[str] = []

    def set_run(self, run: object) -> NoReturn:
        raise NotImplementedError

    @property
    def run(self) -> NoReturn:
        raise NotImplementedError

    def create_message(self, *arguments: object, **named: object) -> NoReturn:
        raise NotImplementedError

    def get_node_ids(self) -> Iterable[int]:
        return list(self._answers)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        ids = []
        for message in messages:
            node = message.metadata.dst_node_id
            self.events.append(f"push {node}")
            self.pushed.append(message)
            if node not in self._answers:
                ids.append("")
                continue
            ids.append(self._ids.setdefault(message.object_id, f"message {len(self._sent)} to {node}"))
            message.metadata.__dict__["_message_id"] = ids[-1]  # as Flower's own grid does
            self._sent[ids[-1]] = message
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        (message_id,) = message_ids  # one at a time
        message = self._sent[message_id]
        node = message.metadata.dst_node_id
        self.events.append(f"pull {node}")
        reply = self._answers[node](message)
        return [] if reply is None else [reply]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> NoReturn:
        raise NotImplementedError
