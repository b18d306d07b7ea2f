"""All clients in this process, one after the other; every message still passes as bytes."""

import logging
from collections.abc import Callable, Iterator, Mapping

from confide.errors import ConfideError, RunInterrupted
from confide.transport.base import MISSING, Reply

_logger = logging.getLogger(__name__)


class InProcessTransport:
    """Calls each client's handler in turn, in the order of the requests.

    Args:
        handlers: by client name; takes a request's bytes and gives the reply's.
    """

    def __init__(self, handlers: Mapping[str, Callable[[bytes], bytes]]) -> None:
        self._handlers = handlers

    def exchange(self, requests: Mapping[str, bytes]) -> Iterator[Reply]:
        """See `Transport.exchange`. A `RunInterrupted` passes through: it is the user's wish, no client's failure."""
        for client, request in requests.items():
            yield self._ask(client, request)

    def _ask(self, client: str, request: bytes) -> Reply:
        handler = self._handlers.get(client)
        if handler is None:
            return Reply(client=client, error_kind=MISSING, error="no such client in this process")
        try:
            return Reply(client=client, body=handler(request))
        except RunInterrupted:
            raise
        except ConfideError as error:
            return Reply(client=client, error_kind=type(error).__name__, error=str(error))
        except Exception as error:  # a client may fail in any way; the others go on without it
            # Its text may hold the client's data, so it stays on the client's side, in its own log.
            _logger.debug("client %s failed", client, exc_info=True)
            return Reply(client=client, error_kind=type(error).__name__, error="its own log (--debug) says more")
