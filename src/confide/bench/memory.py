"""How much memory this process has and had, in megabytes of 10**6 bytes."""

import resource
import sys
from pathlib import Path

MB = 1_000_000
_STATUS = Path("/proc/self/status")


def resident_mb() -> float:
    """Memory now, where the system tells it; else the peak so far."""
    return _status_mb("VmRSS") or peak_resident_mb()


def peak_resident_mb() -> float:
    """The most memory this process had so far.

    `ru_maxrss` is the fall-back, because a new process may inherit the value of the one that started it.
    """
    unit = 1 if sys.platform == "darwin" else 1024
    return _status_mb("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MB


def _status_mb(field: str) -> float:
    if not _STATUS.exists():
        return 0.0
    values = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines() if ":" in line)
    return int(values[field].split()[0]) * 1024 / MB if field in values else 0.0
