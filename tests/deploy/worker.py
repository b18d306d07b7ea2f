"""A node's worker in a thread."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from confide.deploy.relay import serve

_SECONDS = 20.0


@contextmanager
def worker(handle: Callable[[bytes], bytes]) -> Iterator[Path]:
    """Gives the path of its socket."""
    is_over = threading.Event()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "worker"
        settings = {"kept": path.with_name("answers"), "is_stopped": is_over.is_set}
        thread = threading.Thread(target=serve, args=(path, handle), kwargs=settings)
        thread.start()
        try:
            while not path.exists():
                assert thread.is_alive()
            yield path
        finally:
            is_over.set()
            thread.join(_SECONDS)
            assert not thread.is_alive()
