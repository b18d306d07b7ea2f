"""Watches the processes of a deployment from outside: how much memory each kind needs, and how much processor time.

A process belongs to the deployment if its environment says so (`MARK`), which all that it starts inherit.
"""

import os
import signal
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from confide.bench.deployment_work import ProcessMemory
from confide.bench.memory import MB

MARK = "CONFIDE_BENCH_FOLDER"
"""The variable that holds the deployment's folder in the environment of all its processes."""

KINDS: Mapping[str, str] = {
    "SuperLink": "flower-superlink",
    "server app": "flwr-serverapp",
    "SuperNode": "flower-supernode",
    "client app": "flwr-clientapp",
    "SuperExec": "flower-superexec",
    "worker": "confide.bench.deployment_node",
}
"""Kinds of processes by a part of their command line."""

_LOOK_SECONDS = 0.2
_SETTLED_SECONDS = 5.0
_TICKS = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")


@dataclass
class _Seen:
    """A process as it was when it was last seen."""

    kind: str
    peak_mb: float = 0.0
    private_mb: float = 0.0
    rss_mb: float = 0.0
    cpu_seconds: float = 0.0


class ProcessWatch:
    """Looks at all processes of a deployment, from `with` to its end.

    Args:
        folder: of the deployment, as in `MARK`.
    """

    def __init__(self, folder: Path) -> None:
        self._mark = f"{MARK}={folder}".encode()
        self._seen: dict[tuple[int, str], _Seen | None] = {}
        self._most_mb: dict[str, float] = {}
        self._is_over = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._watch, name="process watch", daemon=True)

    def __enter__(self) -> "ProcessWatch":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._thread.join()

    @property
    def cpu_seconds(self) -> float:
        """Of all processes so far."""
        with self._lock:
            return sum(one.cpu_seconds for one in self._seen.values() if one is not None)

    @property
    def memory(self) -> dict[str, ProcessMemory]:
        """By kind of process, so far."""
        with self._lock:
            found = [one for one in self._seen.values() if one is not None]
            return {
                kind: ProcessMemory(
                    num_seen=sum(one.kind == kind for one in found),
                    peak_mb=max(one.peak_mb for one in found if one.kind == kind),
                    private_mb=max(one.private_mb for one in found if one.kind == kind),
                    rss_mb=self._most_mb[kind],
                )
                for kind in KINDS
                if any(one.kind == kind for one in found)
            }

    def _watch(self) -> None:
        while not self._is_over.wait(_LOOK_SECONDS):
            self.look()

    def look(self) -> None:
        """Looks once."""
        now_mb: dict[str, float] = {}
        for place in _PROC.glob("[0-9]*"):
            with suppress(OSError, ValueError, IndexError):  # it ended meanwhile
                one = self._update(place)
                if one is not None:
                    now_mb[one.kind] = now_mb.get(one.kind, 0.0) + one.rss_mb
        with self._lock:
            for kind, mb in now_mb.items():
                self._most_mb[kind] = max(self._most_mb.get(kind, 0.0), mb)

    def end_all(self) -> None:
        """Kills whatever is left of the deployment: Flower keeps its server's app in a session of its own."""
        for place in _PROC.glob("[0-9]*"):
            with suppress(OSError):  # it ended meanwhile, or is somebody else's
                if self._is_of_it(place):
                    os.kill(int(place.name), signal.SIGKILL)

    def _is_of_it(self, place: Path) -> bool:
        return self._mark in (place / "environ").read_bytes().split(b"\0")

    def _update(self, place: Path) -> _Seen | None:
        # After the name in brackets: state is the first field, user and system time the 12th and 13th, start the 20th.
        fields = (place / "stat").read_text().rpartition(")")[2].split()
        key = (int(place.name), fields[19])
        known = self._seen.get(key)
        if key in self._seen and known is None:
            return None  # of somebody else, for good
        kind = self._kind(place)  # each time: until a new process runs its own program it looks like its parent
        if kind is None and time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / _TICKS < _SETTLED_SECONDS:
            return None
        if known is None or known.kind != kind:
            known = None if kind is None else _Seen(kind=kind)
            with self._lock:
                self._seen[key] = known
        if known is None:
            return None
        status = dict(line.split(":", 1) for line in (place / "status").read_text().splitlines() if ":" in line)
        if "VmHWM" in status:  # a zombie has none
            peak, now, private = (int(status[name].split()[0]) * 1024 / MB for name in ("VmHWM", "VmRSS", "RssAnon"))
            known.peak_mb, known.rss_mb, known.private_mb = peak, now, max(private, known.private_mb)
            known.cpu_seconds = (int(fields[11]) + int(fields[12])) / _TICKS
        return known

    def _kind(self, place: Path) -> str | None:
        """What a process is: one of `KINDS`, "" for another one of this deployment; None if it is somebody else's."""
        if not self._is_of_it(place):
            return None
        command = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        if "confide.deploy.guard" in command:
            return ""  # only starts and ends another one
        return next((kind for kind, part in KINDS.items() if part in command), "")
