"""Runs a command and starts it again where it ends by itself: `python -IS keep_running.py COMMAND ARGUMENT ...`.

A SuperLink and a SuperNode start Flower's SuperExec once and never look at it again, and one call that the SuperLink's
database cannot take in time ends it: no run would be started any more, and no message worked on. This stands between
the two. It ends, with the command, when it is asked to or when the process that started it is gone. It is run by its
path and imports nothing but the standard library.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType

_LOOK_SECONDS = 0.2
_GRACE_SECONDS = 5.0
_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 30.0
_GOOD_SECONDS = 60.0
_MOST_ENDED = 64


class KeptCommand:
    """One command that is kept running.

    What the command started may look for its process, and end when there is none: one that ended is kept as the kernel
    leaves it, until 64 others have ended after it.

    Args:
        command: and its arguments.
        parent: the process that started this one; when it is gone, the command ends.
    """

    def __init__(self, command: Sequence[str], *, parent: int) -> None:
        self._command = command
        self._parent = parent
        self._is_asked = False
        self._started: list[subprocess.Popen[bytes]] = []

    def ask_to_end(self, number: int, frame: FrameType | None) -> None:
        """Lets `run` return soon; takes what a signal's handler is given."""
        del number, frame
        self._is_asked = True

    def run(self) -> None:
        """Runs the command until this is to end, and leaves none of it behind."""
        try:
            self._keep()
        finally:
            for child in self._started:
                _end(child)

    def _keep(self) -> None:
        pause = _FIRST_PAUSE_SECONDS
        while not self._is_over():
            began = time.monotonic()
            with suppress(OSError):  # as where no process can be started at present
                self._started.append(subprocess.Popen(self._command))
                while not self._is_over() and not _has_ended(self._started[-1]):
                    time.sleep(_LOOK_SECONDS)
            if self._is_over():
                return
            pause = _FIRST_PAUSE_SECONDS if time.monotonic() - began >= _GOOD_SECONDS else pause
            with suppress(OSError):  # as where the disk of the log is full
                sys.stderr.write(f"{self._command[0]} ended by itself; it is started again in {pause:g} s\n")
            self._rest(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            if len(self._started) > _MOST_ENDED:
                self._started.pop(0).wait()

    def _is_over(self) -> bool:
        return self._is_asked or os.getppid() != self._parent

    def _rest(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self._is_over() and time.monotonic() < end:
            time.sleep(_LOOK_SECONDS)


def _has_ended(child: subprocess.Popen[bytes]) -> bool:
    """Whether it ended; its number stays taken, which `child.poll` gives back.

    Where the system has no `waitid` in Python, as macOS before 3.13, it is given back, and a run of it ends.
    """
    if not hasattr(os, "waitid"):
        return child.poll() is not None
    return os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _end(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


if __name__ == "__main__":
    kept = KeptCommand(sys.argv[1:], parent=os.getppid())
    signal.signal(signal.SIGTERM, kept.ask_to_end)
    signal.signal(signal.SIGINT, kept.ask_to_end)
    kept.run()
