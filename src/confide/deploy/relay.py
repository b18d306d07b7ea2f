"""The way from Flower's short-lived ClientApp processes to the one worker of a node: a Unix socket.

The worker holds identity, model and state, and answers one request at a time. A ClientApp only passes bytes on. Both
run as the same user; nobody else can reach the socket, and the worker asks the kernel who called where it can tell.

    request    whether it is asked again (1 byte), run (8), lengths of number and body (2 and 8), number, body
    answer     whether it is kept (1 byte), lengths of kind, text and body (2, 2 and 8), kind, text, body; kind empty:
               all went well

The worker keeps what it answers, so that nothing is lost with a ClientApp that is killed. Whoever asks again waits
until the worker is done with what it was asked before.
"""

import logging
import os
import socket
import stat
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from confide.deploy.kept_answer import Answer, KeptAnswers, kept_answers
from confide.errors import ConfideError, DeployError, RunInterrupted
from confide.transport.base import MAX_ERROR_CHARACTERS
from confide.transport.hearing import NOT_ANSWERED

MAX_BYTES = 1 << 32
"""The longest request or answer: 4 GiB."""

_REQUEST = struct.Struct(">?QHQ")
_ANSWER = struct.Struct(">?HHQ")
_MAX_PATH_BYTES = 100  # the kernel takes 107 on Linux, 103 elsewhere
_READ_BYTES = 1 << 20
_STALLED_SECONDS = 30.0  # a caller that moves no byte for so long is given up
_LOOK_SECONDS = 0.5
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid, as Linux gives them

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the worker is asked.

    Attributes:
        run: Flower's number of the run.
        number: of the request's message.
        body: the request; None asks for the answer that is kept of it.
    """

    run: int
    number: str
    body: bytes | None = field(repr=False)


def serve(path: Path, handle: Callable[[bytes], bytes], *, kept: Path, is_stopped: Callable[[], bool]) -> None:
    """Answers requests one after the other until told to stop; then the socket and what was kept are gone.

    A caller that dies or stalls on the way costs nothing but its own time. A request that was answered is not worked on
    again: its answer is the one that is kept.

    Args:
        path: of the socket; its folder must be open to this user alone (mode 0700).
        handle: takes a request's bytes and gives the answer's. The text of a ConfideError goes to the caller; that of
            any other may hold the node's data and stays in this process's log.
        kept: the folder for answers; made for them, and what is in it is lost.
        is_stopped: asked about twice a second while nobody calls, and after every request.

    Raises:
        DeployError: the socket or the folder for answers cannot be made, or the socket's folder is open to others.
        RunInterrupted: `handle` raised it.
    """
    with kept_answers(kept) as answers, _listen(path) as listener:
        try:
            while not is_stopped():
                with suppress(TimeoutError):
                    caller, _ = listener.accept()
                    with caller:
                        _serve_one(caller, handle, answers)
        finally:
            path.unlink(missing_ok=True)


def ask(path: Path, asked: Asked, seconds: float) -> Answer:
    """Sends one request to the worker and waits for its answer.

    Args:
        path: of its socket.
        asked: the request.
        seconds: the longest wait.

    Raises:
        DeployError: there is no worker, it died on the way, or did not answer in time.
    """
    number, body = asked.number.encode(), asked.body or b""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel:
            channel.settimeout(seconds)
            channel.connect(str(path))
            channel.sendall(_REQUEST.pack(asked.body is None, asked.run, len(number), len(body)) + number)
            if body:  # else the worker may have answered and closed already, and to send it nothing would fail
                channel.sendall(body)
            is_kept, kind_bytes, text_bytes, body_bytes = _ANSWER.unpack(_read(channel, _ANSWER.size))
            kind, text = (_read(channel, size).decode(errors="replace") for size in (kind_bytes, text_bytes))
            return Answer(body=_read(channel, _bounded(body_bytes)), error_kind=kind, error=text, is_kept=is_kept)
    except TimeoutError as error:
        raise DeployError(f"the node's worker did not answer within {seconds:g} s") from error
    except (OSError, ValueError) as error:
        raise DeployError(
            f"the node's worker does not answer ({type(error).__name__}): is `confide deploy client` running?"
        ) from error


def _listen(path: Path) -> socket.socket:
    if len(os.fsencode(path)) > _MAX_PATH_BYTES:
        raise DeployError(f"the path of a socket may have {_MAX_PATH_BYTES} bytes, and {path} has more")
    try:
        folder = path.parent.stat()
        if folder.st_uid != os.geteuid() or stat.S_IMODE(folder.st_mode) & 0o077:
            raise DeployError(f"the folder {path.parent} of a socket must be yours and closed to others (mode 0700)")
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        unready = path.with_name(f"{path.name}.new")
        listener.bind(str(unready))
        unready.chmod(0o600)
        listener.listen()
        listener.settimeout(_LOOK_SECONDS)
        unready.rename(path)  # from here on it can be found, and whoever finds it is heard
    except OSError as error:
        raise DeployError(f"no socket can be made at {path}: {error.strerror or error}") from error
    return listener


def _serve_one(caller: socket.socket, handle: Callable[[bytes], bytes], answers: KeptAnswers) -> None:
    try:
        caller.settimeout(_STALLED_SECONDS)
        if not _is_same_user(caller):
            _logger.warning("another user called at the worker's socket and was sent away")
            return
        answer = _kept_or_made(_read_asked(caller), handle, answers)
        kind, text = answer.error_kind.encode(), answer.error.encode()
        _send(caller, _ANSWER.pack(answer.is_kept, len(kind), len(text), len(answer.body)) + kind + text)
        _send(caller, answer.body)
    except (OSError, ValueError) as error:  # a timeout is an OSError
        _logger.warning("a ClientApp went away before it had its answer (%s)", type(error).__name__)


def _read_asked(caller: socket.socket) -> Asked:
    is_again, run, number_bytes, body_bytes = _REQUEST.unpack(_read(caller, _REQUEST.size))
    number, body = _read(caller, number_bytes).decode(), _read(caller, _bounded(body_bytes))
    return Asked(run=run, number=number, body=None if is_again else body)


def _kept_or_made(asked: Asked, handle: Callable[[bytes], bytes], answers: KeptAnswers) -> Answer:
    found = answers.find(asked.run, asked.number)
    if found is not None:
        return found
    if asked.body is None:
        return Answer(error_kind=NOT_ANSWERED, error="this node holds no answer to that request")
    answer = _answer(asked.body, handle)
    return replace(answer, is_kept=answers.keep(asked.run, asked.number, answer))


def _answer(request: bytes, handle: Callable[[bytes], bytes]) -> Answer:
    try:
        return Answer(body=handle(request))
    except RunInterrupted:
        raise
    except ConfideError as error:
        text = str(error)[:MAX_ERROR_CHARACTERS].encode(errors="replace").decode()  # what has no UTF-8 goes nowhere
        return Answer(error_kind=type(error).__name__, error=text)
    except Exception as error:  # the worker outlives whatever one request does to it
        _logger.debug("a request failed", exc_info=True)
        return Answer(error_kind=type(error).__name__, error="its own log (--debug) says more")


def _is_same_user(caller: socket.socket) -> bool:
    """Whether the caller is of this user; where the kernel does not tell, the socket's folder has to do."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    credentials = caller.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, user, _ = _CREDENTIALS.unpack(credentials)
    return bool(user == os.geteuid())


def _bounded(num_bytes: int) -> int:
    if num_bytes > MAX_BYTES:
        raise ValueError(f"{num_bytes} bytes were announced, the limit is {MAX_BYTES}")
    return num_bytes


def _send(channel: socket.socket, content: bytes) -> None:
    """Sends everything; the channel's time limit is for each piece, and not for all of them."""
    left = memoryview(content)
    while left:
        left = left[channel.send(left[:_READ_BYTES]) :]


def _read(channel: socket.socket, num_bytes: int) -> bytes:
    """Reads exactly so many bytes; what is announced and does not come costs no memory."""
    pieces = []
    while num_bytes:
        piece = channel.recv(min(num_bytes, _READ_BYTES))
        if not piece:
            raise ConnectionError("the other side went away")
        pieces.append(piece)
        num_bytes -= len(piece)
    return b"".join(pieces)
