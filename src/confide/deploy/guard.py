"""Runs one command that must not outlive whoever started it: `python -m confide.deploy.guard COMMAND ...`.

The starter holds the other end of this process's standard input and never writes to it. When it is closed, which the
kernel does however the starter dies, the command and everything it started in its process group are ended: asked to,
and what is left once the command has ended is killed. Where the command ends by itself, the others are only asked.
Needs a process group of its own: start it with `start_new_session`. Imports nothing but the standard library.
"""

import os
import select
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType

GRACE_SECONDS = 10.0
"""How long the command has to end by itself before it is killed."""

_LOOK_SECONDS = 0.2
_OF_SIGNALS = 128


class _Asked(Exception):  # noqa: N818 (a wish to stop, not a fault)
    """Somebody asked this process to stop."""


def main(command: Sequence[str]) -> int:
    """Runs the command to its end or to the starter's, and gives its exit code as a shell does."""

    def stop(number: int, frame: FrameType | None) -> None:
        del number, frame
        raise _Asked

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the starter, which ends this process in its turn
    signal.signal(signal.SIGTERM, stop)
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        while child.poll() is None:
            ready, _, _ = select.select([sys.stdin], [], [], _LOOK_SECONDS)
            if ready and not os.read(sys.stdin.fileno(), 1):
                break
    except _Asked:
        pass
    is_stopped = child.poll() is None
    _end_group(child)
    if is_stopped:
        os.killpg(0, signal.SIGKILL)  # what does not end when it is asked to; this process with it
    return child.returncode if child.returncode >= 0 else _OF_SIGNALS - child.returncode


def _end_group(child: subprocess.Popen[bytes]) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.killpg(0, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        child.wait(GRACE_SECONDS)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
