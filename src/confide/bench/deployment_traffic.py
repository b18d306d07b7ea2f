"""Counts the bytes between SuperNodes and SuperLink: a relay of TCP in front of the SuperLink.

TLS goes through it end to end, so it reads and changes nothing. What it counts are the bytes of the connections: TLS
and HTTP are in them, the headers of TCP and IP are not.
"""

import socket
import threading
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType

from confide.bench.deployment_work import Traffic

_LOOPBACK = "127.0.0.1"
_READ_BYTES = 1 << 18
_LOOK_SECONDS = 0.5
_BACKLOG = 64


@dataclass
class _Counts:
    """Bytes so far; each is added to by one thread at a time."""

    up: int = 0
    down: int = 0


class CountingRelay:
    """Passes connections on, from `with` to its end.

    Args:
        port: of loopback, where all goes.
    """

    def __init__(self, port: int) -> None:
        self._target = (_LOOPBACK, port)
        self._listener = socket.create_server((_LOOPBACK, 0), backlog=_BACKLOG)
        self._counts = _Counts()
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._accept, name="counting relay", daemon=True)

    @property
    def port(self) -> int:
        """Where it listens."""
        port: int = self._listener.getsockname()[1]
        return port

    @property
    def traffic(self) -> Traffic:
        """All bytes so far."""
        with self._lock:
            return Traffic(up=self._counts.up, down=self._counts.down)

    def __enter__(self) -> "CountingRelay":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._thread.join()
        self._listener.close()

    def _accept(self) -> None:
        self._listener.settimeout(_LOOK_SECONDS)
        while not self._is_over.is_set():
            with suppress(TimeoutError):
                near, _ = self._listener.accept()
                threading.Thread(target=self._join, args=(near,), daemon=True).start()

    def _join(self, near: socket.socket) -> None:
        """Passes a connection on both ways, until both sides have said all."""
        with near:
            try:
                far = socket.create_connection(self._target)
            except OSError:
                return
            with far:
                for one in (near, far):
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                back = threading.Thread(target=self._pass_on, args=(far, near, False), daemon=True)
                back.start()
                self._pass_on(near, far, True)
                back.join()

    def _pass_on(self, source: socket.socket, sink: socket.socket, is_up: bool) -> None:
        buffer = bytearray(_READ_BYTES)
        view = memoryview(buffer)
        with suppress(OSError):
            while num_bytes := source.recv_into(buffer):
                with self._lock:
                    if is_up:
                        self._counts.up += num_bytes
                    else:
                        self._counts.down += num_bytes
                sink.sendall(view[:num_bytes])
        for end, way in ((sink, socket.SHUT_WR), (source, socket.SHUT_RD)):
            with suppress(OSError):
                end.shutdown(way)
