"""A node without Flower's processes: its worker in a thread, and the client app as Flower calls it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from flwr.app import Context, Message, RecordDict

from confide.deploy.relay import serve
from confide.flower_app import client


@contextmanager
def worker(handle: Callable[[bytes], bytes]) -> Iterator[Path]:
    """A node's worker in a thread; gives the path of its socket."""
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
            thread.join()


def answer_as_client_app(socket: Path, message: Message) -> Message:
    return client(message, Context(1, message.metadata.dst_node_id, {"socket": str(socket)}, RecordDict(), {}))
