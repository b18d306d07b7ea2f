"""The socket between Flower's ClientApp processes and a node's worker."""

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from confide.deploy.relay import MAX_BYTES, Answer, ask, serve
from confide.errors import DataError, DeployError, RunInterrupted

SECONDS = 20.0


@contextmanager
def serving(handle: Callable[[bytes], bytes]) -> Iterator[Path]:
    is_over = threading.Event()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "worker"
        thread = threading.Thread(target=serve, args=(path, handle), kwargs={"is_stopped": is_over.is_set})
        thread.start()
        try:
            while not path.exists():
                assert thread.is_alive()
            yield path
        finally:
            is_over.set()
            thread.join(SECONDS)
            assert not thread.is_alive()
        assert not path.exists()


def caller(path: Path) -> socket.socket:
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    channel.settimeout(SECONDS)
    channel.connect(str(path))
    return channel


@pytest.mark.parametrize("num_bytes", [0, 1, 3_000_001])
def test_bytes_go_and_come_unchanged(num_bytes: int) -> None:
    request = bytes(range(256)) * (num_bytes // 256) + bytes(num_bytes % 256)
    with serving(lambda got: got[::-1] + b"!") as path:
        assert ask(path, request, SECONDS) == Answer(body=request[::-1] + b"!")


def test_an_error_of_ours_comes_with_its_text_and_another_without() -> None:
    def handle(request: bytes) -> bytes:
        raise DataError("no rows") if request == b"ours" else ZeroDivisionError("a secret")

    with serving(handle) as path:
        assert ask(path, b"ours", SECONDS) == Answer(error_kind="DataError", error="no rows")
        other = ask(path, b"other", SECONDS)
    assert other.error_kind == "ZeroDivisionError"
    assert "secret" not in other.error


def test_the_worker_survives_callers_that_die_lie_or_send_nothing() -> None:
    handled: list[bytes] = []

    def handle(request: bytes) -> bytes:
        handled.append(request)
        return bytes(8_000_000)  # more than a socket buffers: the worker is still sending when the caller is gone

    with serving(handle) as path:
        with caller(path) as silent:
            silent.sendall(b"\0\0")
        with caller(path) as cut:
            cut.sendall(struct.pack(">Q", 1000) + b"half")
        with caller(path) as liar:
            liar.sendall(struct.pack(">Q", MAX_BYTES + 1))
            assert liar.recv(1) == b""
        with caller(path) as deaf:
            deaf.sendall(struct.pack(">Q", 4) + b"deaf")
            deaf.recv(1)
        assert ask(path, b"fine", SECONDS) == Answer(body=bytes(8_000_000))
    assert handled == [b"deaf", b"fine"]


def test_asking_where_no_worker_is_says_so(tmp_path: Path) -> None:
    with pytest.raises(DeployError, match="confide deploy client"):
        ask(tmp_path / "worker", b"", SECONDS)


def test_a_worker_that_takes_too_long_is_not_waited_for() -> None:
    is_asked = threading.Event()

    def handle(request: bytes) -> bytes:
        is_asked.wait(SECONDS)
        return b""

    with serving(handle) as path:
        with pytest.raises(DeployError, match=r"within 0\.2 s"):
            ask(path, b"", 0.2)
        is_asked.set()


def test_only_this_user_can_reach_the_socket() -> None:
    with serving(lambda request: request) as path:
        assert path.stat().st_mode & 0o777 == 0o600


def test_a_folder_that_others_can_open_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with pytest.raises(DeployError, match="0700"):
        serve(tmp_path / "worker", lambda request: request, is_stopped=lambda: True)


def test_a_path_that_the_kernel_would_cut_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DeployError, match="100 bytes"):
        serve(tmp_path / ("x" * 120), lambda request: request, is_stopped=lambda: True)


def test_a_stop_by_the_user_ends_the_worker() -> None:
    def handle(request: bytes) -> bytes:
        raise RunInterrupted("stop")

    seen: list[BaseException] = []
    with TemporaryDirectory() as folder:
        path = Path(folder) / "worker"

        def run() -> None:
            try:
                serve(path, handle, is_stopped=lambda: False)
            except RunInterrupted as error:
                seen.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        while not path.exists():
            assert thread.is_alive()
        with pytest.raises(DeployError):
            ask(path, b"", SECONDS)
        thread.join(SECONDS)
    assert len(seen) == 1
