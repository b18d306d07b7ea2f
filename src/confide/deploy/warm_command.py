"""Keeps an installed command loaded, and runs it in a copy of itself: `python -m confide.deploy.warm_command ...`.

Flower starts its command for client apps anew for every message, and most of what that takes is Python's import of
Flower. Here one process imports it once, and forks for each message: the fork runs the very same command, by its entry
point, in a process of its own. Where this process is gone, or cannot fork safely, `hand_over` starts the command.

A fork bears SIGTERM, which its guard sends to all in its group when this process is gone: a client app that is asked
to end tells its SuperNode that it is done and leaves no reply, and the SuperNode, which waits for one, would take no
message any more. So forks finish what they do; when the whole group is stopped, the guard kills them.
"""

import gc
import importlib
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.metadata import entry_points
from pathlib import Path

from confide.deploy.hand_over import END, GO, TAKEN
from confide.errors import DeployError

REFUSED = b"0"
"""The answer where the command has to be started as it is."""

_MOST_BYTES = 65_536
_SECONDS = 5.0
_LOOK_SECONDS = 1.0
_PAUSE_SECONDS = 0.1


def main(place: Path, command: str, modules: Sequence[str]) -> None:
    """Serves until it is ended; a fork of it returns when its command does.

    Args:
        place: of the Unix socket, in a folder that is open to this user alone; made here.
        command: a console script of an installed package.
        modules: to import beforehand, beside those of the command.

    Raises:
        DeployError: there is no such command.
    """
    parent = os.getppid()
    run = load_command(command)
    for module in modules:
        importlib.import_module(module)
    sys.stdout.flush()  # else each fork would write it once more
    sys.stderr.flush()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        place.unlink(missing_ok=True)
        listener.bind(str(place))
        listener.listen()
        listener.settimeout(_LOOK_SECONDS)
        gc.collect()
        gc.freeze()  # what is loaded stays shared with the forks
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
        arguments = _next_fork(listener, parent=parent)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the guard ignores it; Flower ends orphans by it
    sys.argv = [command, *arguments]
    run()


def load_command(command: str) -> Callable[[], object]:
    """Imports what a console script of an installed package runs.

    Raises:
        DeployError: there is no such command.
    """
    found = next(iter(entry_points(group="console_scripts", name=command)), None)
    if found is None:
        raise DeployError(f"no installed package has the command {command}")
    run: Callable[[], object] = found.load()
    return run


def _next_fork(listener: socket.socket, *, parent: int) -> list[str]:
    """Forks for each connection, and returns in the fork alone, with what the command is to be told.

    Raises:
        SystemExit: the process that started this one is gone.
    """
    while os.getppid() == parent:
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            continue
        except OSError:  # as where too many files are open
            time.sleep(_PAUSE_SECONDS)
            continue
        with connection, suppress(OSError):  # whoever is not answered starts the command himself
            connection.settimeout(_SECONDS)
            arguments = _arguments(connection)
            if arguments is None or threading.active_count() > 1:  # a fork has none of the other threads
                connection.sendall(REFUSED)
            elif os.fork() == 0:
                signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
                _take(connection)
                return arguments
    raise SystemExit


def _take(connection: socket.socket) -> None:
    """Offers in a fork to run the command; ends it where nobody takes that up and the command itself is started."""
    try:
        connection.sendall(TAKEN)
        is_wanted = connection.recv(1) == GO
    except OSError:
        is_wanted = False
    if not is_wanted:
        os._exit(0)


def _arguments(connection: socket.socket) -> list[str] | None:
    """What the other end sent; None if it is no list of texts."""
    received = bytearray()
    while not received.endswith(END):
        part = connection.recv(_MOST_BYTES)
        received += part
        if not part or len(received) > _MOST_BYTES:
            return None
    try:
        values = json.loads(received)
    except (ValueError, RecursionError):
        return None
    is_list = isinstance(values, list) and all(isinstance(value, str) for value in values)
    return [str(value) for value in values] if is_list else None


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
