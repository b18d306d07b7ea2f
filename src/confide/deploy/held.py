"""A file that says which process serves a folder, held with a lock: whoever reads it knows whether it still runs.

The kernel lets the lock go when the process ends, however it ends. So a number that another process got meanwhile is
never taken for it.
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
        if not _lock(file):
            raise DeployError(f"{what} runs already (process {_read_pid(file)}): see `confide deploy status`")
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
        file.truncate(0)


def holder(path: Path) -> int | None:
    """The number of the process that holds the file; None if none does."""
    try:
        with path.open("r+") as file:
            return None if _lock(file) else _read_pid(file)
    except FileNotFoundError:
        return None


def stop_holder(path: Path, *, seconds: float) -> bool:
    """Asks the process that holds the file to end, and kills it after so many seconds; False if none does.

    Raises:
        DeployError: it cannot be ended.
    """
    pid = holder(path)
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


def _private(name: str, flags: int) -> int:
    return os.open(name, flags, 0o600)


def _lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _read_pid(file: IO[str]) -> int | None:
    file.seek(0)
    text = file.read().strip()
    return int(text) if text.isdecimal() else None
