"""Keeps a process of Flower running beside this one: starts it again a few times, then says that it cannot be kept."""

import logging
import threading
import time
from collections.abc import Callable
from types import TracebackType

from confide.deploy.processes import GuardedProcess
from confide.errors import DeployError

MAX_RESTARTS = 7
"""In a row; a process that ran for a while is forgiven what was before. Together they take longer than the minute in
which Flower's server lets no node in whose SuperNode went without a word."""

_LOOK_SECONDS = 0.5
_GOOD_SECONDS = 120.0
_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 30.0

_logger = logging.getLogger(__name__)


class Keeper:
    """Watches one process from a thread, from `with` to its end.

    Args:
        start: starts the process.
        what: it is called.
        first_pause_seconds: before the first restart; doubled for each one after, up to half a minute.
    """

    def __init__(
        self, start: Callable[[], GuardedProcess], *, what: str, first_pause_seconds: float = _FIRST_PAUSE_SECONDS
    ) -> None:
        self._start = start
        self._what = what
        self._first_pause_seconds = first_pause_seconds
        self._is_over = threading.Event()
        self._failure: DeployError | None = None
        self._process = start()
        self._thread = threading.Thread(target=self._watch, name=f"keeper of {what}", daemon=True)

    def __enter__(self) -> "Keeper":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._thread.join()
        self._process.stop()

    @property
    def has_failed(self) -> bool:
        """Whether the process is gone for good."""
        return self._failure is not None

    def check(self) -> None:
        """Raises the DeployError if the process is gone for good; it ends with what the process wrote last."""
        if self._failure is not None:
            raise self._failure

    def _watch(self) -> None:
        try:
            self._keep()
        except Exception as error:  # noqa: BLE001  whatever it is, nobody would see it in this thread
            self._failure = DeployError(f"{self._what} cannot be kept running: {error}")

    def _keep(self) -> None:
        restarts, began = 0, time.monotonic()
        while not self._is_over.wait(_LOOK_SECONDS):
            if self._process.exit_code is None:
                continue
            code, tail = self._process.exit_code, self._process.tail()
            self._process.stop()
            restarts = 0 if time.monotonic() - began >= _GOOD_SECONDS else restarts
            if restarts == MAX_RESTARTS:
                self._failure = DeployError(f"{self._what} ended {restarts + 1} times, now with code {code}:\n{tail}")
                return
            pause = min(self._first_pause_seconds * 2**restarts, _LONGEST_PAUSE_SECONDS)
            _logger.warning("%s ended with code %s; starting it again in %g s", self._what, code, pause)
            if self._is_over.wait(pause):
                return
            restarts, began = restarts + 1, time.monotonic()
            self._process = self._start()
