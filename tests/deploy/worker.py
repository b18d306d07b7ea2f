"""A node's worker in a thread."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from confide.deploy import relay

_SECONDS = 20.0
_LOOK_SECONDS = 0.01  # so long a worker takes to notice that it is over; half a second outside of tests


@contextmanager
def worker(handle: Callable[[bytes], bytes]) -> Iterator[Path]:
    """Gives the path of its socket."""
    is_over = threading.Event()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "worker"
        settings = {"kept": path.with_name("answers"), "is_stopped": is_over.is_set}
        thread = threading.Thread(target=relay.serve, args=(path, handle), kwargs=settings)
        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(relay, "_LOOK_SECONDS", _LOOK_SECONDS)
                thread.start()
                while not path.exists():
                    assert thread.is_alive()
                    time.sleep(0.001)
            yield path
        finally:
            is_over.set()
            thread.join(_SECONDS)
            assert not thread.is_alive()
