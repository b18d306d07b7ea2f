"""A file that says which process serves a folder, held with a lock: whoever reads it knows whether it still runs.

The kernel lets the lock go when the process ends, however it ends. So a number that another process got meanwhile is
never taken for it. Whoever looks takes a shared lock for an instant: that succeeds while nobody holds the file, it
disturbs no other looker, and a process that starts waits it out.
"""

import fcntl
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from confide.errors import DeployError
from confide.files import storage_error

_LOOK_SECONDS = 0.1
_KILL_SECONDS = 5.0
_START_SECONDS = 2.0  # a look is over in far less
_TRY_SECONDS = 0.02


@contextmanager
def held(path: Path, what: str) -> Iterator[None]:
    """Holds the file for the body, with this process's number in it.

    Args:
        path: of the file.
        what: is running, for the message.

    Raises:
        DeployError: another process holds it.
        StorageError: it cannot be written.
    """
    try:
        file = open(path, "a+", opener=_private)  # noqa: SIM115  entered below
    except OSError as error:
        raise storage_error(path, error) from error
    with file:
        if not _take(file):
            pid = _read_pid(file)
            which = "" if pid is None else f" (process {pid})"
            raise DeployError(f"{what} runs already{which}: see `confide deploy status`")
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
        file.truncate(0)


def holder(path: Path) -> int | None:
    """The number of the process that holds the file; None if none does, or none has written its number yet."""
    try:
        with path.open() as file:
            return None if _lock(file, fcntl.LOCK_SH) else _read_pid(file)
    except FileNotFoundError:
        return None


def stop_holder(path: Path, *, seconds: float) -> bool:
    """Asks the process that holds the file to end, and kills it after so many seconds; False if none does.

    A process that has just begun to hold the file may not have written its number over that of one that crashed, so a
    number counts when it stands there for a moment.

    Raises:
        DeployError: it cannot be ended.
    """
    pid = _steady_holder(path)
    if pid is None:
        return False
    for number, patience in ((signal.SIGTERM, seconds), (signal.SIGKILL, _KILL_SECONDS)):
        deadline = time.monotonic() + patience
        if holder(path) == pid:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                return True
            except PermissionError as error:
                raise DeployError(f"process {pid} belongs to another user: stop it as that user") from error
        while time.monotonic() < deadline:
            if holder(path) != pid:
                return True
            time.sleep(_LOOK_SECONDS)
    raise DeployError(f"process {pid} does not end")


def _steady_holder(path: Path) -> int | None:
    pid = holder(path)
    while pid is not None:
        time.sleep(_LOOK_SECONDS)
        before, pid = pid, holder(path)
        if pid == before:
            break
    return pid


def _private(name: str, flags: int) -> int:
    return os.open(name, flags, 0o600)


def _take(file: IO[str]) -> bool:
    deadline = time.monotonic() + _START_SECONDS
    while not _lock(file, fcntl.LOCK_EX):
        if time.monotonic() >= deadline:
            return False
        time.sleep(_TRY_SECONDS)
    return True


def _lock(file: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _read_pid(file: IO[str]) -> int | None:
    file.seek(0)
    text = file.read().strip()
    return int(text) if text.isdecimal() else None
