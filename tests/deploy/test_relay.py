"""The socket between Flower's ClientApp processes and a node's worker."""

import itertools
import socket
import struct
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from confide.deploy import relay
from confide.deploy.kept_answer import Answer
from confide.deploy.relay import MAX_BYTES, Asked, ask, serve
from confide.errors import DataError, DeployError, RunInterrupted
from confide.transport.hearing import NOT_ANSWERED
from tests.deploy.worker import worker

SECONDS = 20.0
NUMBERS = map(str, itertools.count())


def asked(body: bytes | None, *, run: int = 1, number: str = "") -> Asked:
    return Asked(run=run, number=number or next(NUMBERS), body=body)


def head(num_bytes: int) -> bytes:
    return struct.pack(">?QHQ", False, 1, 1, num_bytes) + b"x"


def caller(path: Path) -> socket.socket:
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    channel.settimeout(SECONDS)
    channel.connect(str(path))
    return channel


@pytest.mark.parametrize("num_bytes", [0, 1, 3_000_001])
def test_bytes_go_and_come_unchanged(num_bytes: int) -> None:
    request = bytes(range(256)) * (num_bytes // 256) + bytes(num_bytes % 256)
    with worker(lambda got: got[::-1] + b"!") as path:
        assert ask(path, asked(request), SECONDS) == Answer(body=request[::-1] + b"!", is_kept=True)


def test_an_error_of_ours_comes_with_its_text_and_another_without() -> None:
    def handle(request: bytes) -> bytes:
        raise DataError("no rows") if request == b"ours" else ZeroDivisionError("a secret")

    with worker(handle) as path:
        ours = ask(path, asked(b"ours", number="1"), SECONDS)
        assert ours == Answer(error_kind="DataError", error="no rows", is_kept=True)
        assert ask(path, asked(None, number="1"), SECONDS) == ours
        other = ask(path, asked(b"other"), SECONDS)
    assert other.error_kind == "ZeroDivisionError"
    assert "secret" not in other.error


def test_a_request_is_worked_on_once_and_its_answer_is_there_for_whoever_asks_again() -> None:
    handled: list[bytes] = []

    def handle(request: bytes) -> bytes:
        handled.append(request)
        return request * 2

    with worker(handle) as path:
        assert ask(path, asked(None, number="1"), SECONDS).error_kind == NOT_ANSWERED
        first = ask(path, asked(b"a", number="1"), SECONDS)
        other = ask(path, asked(b"b", number="1", run=2), SECONDS)
        assert (first.body, other.body) == (b"aa", b"bb")
        assert ask(path, asked(None, number="1"), SECONDS) == first
        assert ask(path, asked(b"a", number="1"), SECONDS) == first
        ask(path, asked(b"c", number="2"), SECONDS)
        assert ask(path, asked(None, number="1"), SECONDS).error_kind == NOT_ANSWERED
        assert ask(path, asked(None, number="1", run=2), SECONDS) == other
    assert handled == [b"a", b"b", b"c"]


def test_what_is_done_when_its_caller_is_gone_is_kept_and_whoever_asks_for_it_meanwhile_waits() -> None:
    is_begun, may_end = threading.Event(), threading.Event()
    handled: list[bytes] = []

    def handle(request: bytes) -> bytes:
        handled.append(request)
        is_begun.set()
        may_end.wait(SECONDS)
        return b"done"

    with worker(handle) as path:
        with pytest.raises(DeployError, match="within 0"):
            ask(path, asked(b"train", number="1"), 0.2)  # as a ClientApp that dies
        assert is_begun.wait(SECONDS)
        threading.Timer(0.2, may_end.set).start()
        assert ask(path, asked(None, number="1"), SECONDS) == Answer(body=b"done", is_kept=True)
    assert handled == [b"train"]


def test_the_worker_survives_callers_that_die_lie_or_send_nothing() -> None:
    handled: list[bytes] = []

    def handle(request: bytes) -> bytes:
        handled.append(request)
        return bytes(8_000_000)  # more than a socket buffers: the worker is still sending when the caller is gone

    with worker(handle) as path:
        with caller(path) as silent:
            silent.sendall(b"\0\0")
        with caller(path) as cut:
            cut.sendall(head(1000) + b"half")
        with caller(path) as liar:
            liar.sendall(head(MAX_BYTES + 1))
            assert liar.recv(1) == b""
        with caller(path) as deaf:
            deaf.sendall(head(4) + b"deaf")
            deaf.recv(1)
        assert ask(path, asked(b"fine"), SECONDS) == Answer(body=bytes(8_000_000), is_kept=True)
    assert handled == [b"deaf", b"fine"]


def test_a_caller_that_reads_slowly_but_never_stalls_gets_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "_STALLED_SECONDS", 0.5)
    answer = bytes(range(256)) * 80_000
    with worker(lambda _: answer) as path, caller(path) as slow:
        slow.sendall(head(1) + b"x")
        got = bytearray()
        while piece := slow.recv(1 << 20):
            got += piece
            time.sleep(0.01)  # for a hundred pieces, together twice the limit
    assert got.endswith(answer)


def test_an_error_text_that_has_no_utf8_is_told_and_kept_all_the_same() -> None:
    handled: list[bytes] = []

    def handle(request: bytes) -> bytes:
        handled.append(request)
        raise DataError("a name \ud800 of the server's")

    with worker(handle) as path:
        for _ in range(2):
            told = ask(path, asked(b"x", number="1"), SECONDS)
            assert told == Answer(error_kind="DataError", error="a name ? of the server's", is_kept=True)
    assert handled == [b"x"]


def test_asking_where_no_worker_is_says_so(tmp_path: Path) -> None:
    with pytest.raises(DeployError, match="confide deploy client"):
        ask(tmp_path / "worker", asked(b""), SECONDS)


def test_a_worker_that_takes_too_long_is_not_waited_for() -> None:
    is_asked = threading.Event()

    def handle(request: bytes) -> bytes:
        is_asked.wait(SECONDS)
        return b""

    with worker(handle) as path:
        with pytest.raises(DeployError, match=r"within 0\.2 s"):
            ask(path, asked(b""), 0.2)
        is_asked.set()


def test_only_this_user_can_reach_the_socket() -> None:
    with worker(lambda request: request) as path:
        assert path.stat().st_mode & 0o777 == 0o600


def test_a_folder_that_others_can_open_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with pytest.raises(DeployError, match="0700"):
        serve(tmp_path / "worker", lambda request: request, kept=tmp_path / "answers", is_stopped=lambda: True)


def test_a_path_that_the_kernel_would_cut_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DeployError, match="100 bytes"):
        serve(tmp_path / ("x" * 120), lambda request: request, kept=tmp_path / "answers", is_stopped=lambda: True)


def test_a_stop_by_the_user_ends_the_worker() -> None:
    def handle(request: bytes) -> bytes:
        raise RunInterrupted("stop")

    seen: list[BaseException] = []
    with TemporaryDirectory() as folder:
        path = Path(folder) / "worker"

        def run() -> None:
            try:
                serve(path, handle, kept=path.with_name("answers"), is_stopped=lambda: False)
            except RunInterrupted as error:
                seen.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        while not path.exists():
            assert thread.is_alive()
        with pytest.raises(DeployError):
            ask(path, asked(b""), SECONDS)
        thread.join(SECONDS)
    assert len(seen) == 1
