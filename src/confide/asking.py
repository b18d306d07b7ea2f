"""Asking clients over a transport: whatever goes wrong with one becomes a reason, and the others go on."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from confide.errors import (
    MessageError,
    NonFiniteLossError,
    PrivacyBudgetError,
    RunError,
    SaturationError,
    StorageError,
)
from confide.messages import Message
from confide.parties.requests import Requests
from confide.transport.base import Transport

_logger = logging.getLogger(__name__)

STOPPING: Mapping[str, type[RunError]] = {
    error.__name__: error for error in (NonFiniteLossError, SaturationError, PrivacyBudgetError)
}
"""Failures of one client that stop the run: going on without it would hide a wrong setting, or a spent budget.

A `SaturationError` does so only once the range of the round cannot be widened any more.
"""

NO_ANSWER = "no answer"

_Answer = TypeVar("_Answer", bound=Message)
_Read = TypeVar("_Read")


@dataclass
class Wire:
    """Sends requests, decodes replies, counts bytes, and turns whatever goes wrong into a reason by client."""

    transport: Transport
    bytes_down: int = 0
    bytes_up: int = 0

    def ask(
        self,
        requests: Mapping[str, bytes],
        kind: type[_Answer],
        read: Callable[[str, _Answer], _Read],
    ) -> tuple[dict[str, _Read], dict[str, str]]:
        """Gives what `read` makes of the valid answers, and the reasons why the others are missing.

        Raises:
            RunError: a client met what must stop the run.
            StorageError: an answer could not be kept here: no fault of the client's.
        """
        answers: dict[str, _Read] = {}
        counted: set[str] = set()
        failures = dict.fromkeys(requests, NO_ANSWER)
        for reply in self.transport.exchange(Requests(list(requests), partial(self._send, requests, counted))):
            self.bytes_up += len(reply.body)
            if reply.error_kind in STOPPING:
                raise STOPPING[reply.error_kind](f"client {reply.client}: {reply.error}")
            try:
                if reply.error_kind:
                    raise MessageError(f"{reply.error_kind}: {reply.error}")
                answer = read(reply.client, kind.from_bytes(reply.body))
            except StorageError:
                raise
            except RunError as error:
                failures[reply.client] = str(error)
                _logger.warning("client %s is left out: %s", reply.client, error)
                continue
            answers[reply.client] = answer
            del failures[reply.client]
        return answers, failures

    def _send(self, requests: Mapping[str, bytes], counted: set[str], client: str) -> bytes:
        """Gives a request; a transport that sends it again, or tries to, asks for it again."""
        request = requests[client]
        if client not in counted:
            counted.add(client)
            self.bytes_down += len(request)
        return request
