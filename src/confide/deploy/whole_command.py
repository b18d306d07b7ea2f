"""Runs a command that ends where a part of it fails: `python -P -m confide.deploy.whole_command COMMAND ...`.

Flower's SuperNode fetches messages in one thread and tells the server that it is there in another. One call of either
that the server's database cannot take in time ends that thread with an error, and nothing else, as others go on: the
server counts the node as gone or sends it messages that it never fetches, while its process looks well. Here an error
that ends a thread ends the process, and so does the end of the command itself, so that it is started again.

A SuperNode whose run ends while it receives a message leaves the message and its app where they are: the app's reply is
taken for that of the next message, and from then on each reply leaves a message too late. It says so in its log and in
no other way; where it does, it is asked to end.
"""

import logging
import os
import signal
import sys
import threading
import traceback
from typing import NoReturn

from confide.deploy.warm_command import load_command

LEFT_BEHIND = "Run ID %s is not in `RUNNING` status. Ignoring message %s."
"""What Flower's log says, before its values are put in, where a message is left where it is."""

_LOGGER = "flwr"


class _EndWhereLeftBehind(logging.Handler):
    """Asks this process to end where a message was left behind."""

    def emit(self, record: logging.LogRecord) -> None:
        """Looks at what is logged."""
        if record.msg == LEFT_BEHIND:
            signal.raise_signal(signal.SIGTERM)


def main(command: str) -> NoReturn:
    """Runs a console script of an installed package with what is left of `sys.argv`, and ends the process with it.

    Raises:
        DeployError: there is no such command.
    """
    threading.excepthook = _end
    run = load_command(command)
    logging.getLogger(_LOGGER).addHandler(_EndWhereLeftBehind())
    sys.argv = [command, *sys.argv[2:]]
    code = 1
    try:
        run()
        code = 0
    except SystemExit as wish:
        code = wish.code if isinstance(wish.code, int) else int(wish.code is not None)
        if isinstance(wish.code, str):
            sys.stderr.write(f"{wish.code}\n")
    except BaseException:  # noqa: BLE001  whatever it is, no thread goes on without this one
        traceback.print_exc()
    finally:
        _leave(code)


def _end(failure: threading.ExceptHookArgs) -> None:
    if issubclass(failure.exc_type, SystemExit):  # a thread that ended by its own wish
        return
    try:
        threading.__excepthook__(failure)
    finally:
        _leave(1)


def _leave(code: int) -> NoReturn:
    """Ends the process without waiting for other threads, and where nothing more can be written, too."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


if __name__ == "__main__":
    main(sys.argv[1])
