"""A call that may take for ever, made so that its caller need not: in a thread of its own."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

_Result = TypeVar("_Result")


class Call(Generic[_Result]):
    """One call that has begun.

    Whoever waits for it no longer leaves it behind: it goes on by itself, and nobody gets what it gives. Its own thread
    does not keep the process from ending; what it calls may have others, and Flower's pulls have.

    Args:
        function: what is called; nothing of it is kept once it is over.
    """

    def __init__(self, function: Callable[[], _Result]) -> None:
        self.is_over = threading.Event()
        """Set when there is a result or an error."""
        self._results: list[_Result] = []
        self._error: BaseException | None = None
        threading.Thread(target=self._run, args=(function,), name="a call to Flower", daemon=True).start()

    def take(self) -> _Result:
        """Hands over the result of a call that is over, once; raises what the call raised."""
        if self._error is not None:
            raise self._error
        return self._results.pop()

    def _run(self, function: Callable[[], _Result]) -> None:
        try:
            self._results.append(function())
        except BaseException as error:  # noqa: BLE001  `take` raises it where somebody sees it
            self._error = error
        finally:
            self.is_over.set()
