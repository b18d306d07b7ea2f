"""The interface of every logger, and the two plain things it takes: who the run is, and a round's numbers."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class TrackedRun:
    """What a tracker is told about a run before its first round.

    Attributes:
        name: the run's name, which another run elsewhere may have too.
        run_id: the run's own id; a resumed run keeps it.
        folder: the run directory; a tracker writes only below it.
        settings: the configuration, one entry a key, e.g. {"train.learning_rate": 0.0002}.
        first_step: the first round that will be logged, counted from 1; above 1 when a run is resumed.
    """

    name: str
    run_id: str
    folder: Path
    settings: Mapping[str, object] = field(default_factory=dict)
    first_step: int = 1


class Tracker(Protocol):
    """Repeats a run's numbers to one logging library.

    Laws: `start` comes first, once; `log` once a round with growing steps; `finish` last, also after a failure. Nothing
    leaves the machine unless the user told the library so. A record may hold anything; only its numbers are logged.
    """

    def start(self, run: TrackedRun) -> None:
        """Opens the log of this run, going on with the old one when `run.first_step` is above 1."""
        ...

    def log(self, record: Mapping[str, object], step: int) -> None:
        """Logs the numbers of one round's record (see `numbers_in`) under the round number `step`."""
        ...

    def finish(self) -> None:
        """Writes out what is pending and closes the log."""
        ...


def numbers_in(record: Mapping[str, object], prefix: str = "") -> dict[str, float]:
    """Gives the numbers of a record by name; a nested mapping's names are joined with a slash.

    Truth values, texts, missing values and lists are left out: lists hold figures of single clients, which stay in the
    run directory.

    Example:
        >>> numbers_in({"loss": 1.5, "seconds": {"train": 2}, "failed": ["a"], "final": False})
        {'loss': 1.5, 'seconds/train': 2.0}
    """
    return dict(_numbers(record, prefix))


def _numbers(record: Mapping[str, object], prefix: str) -> Iterator[tuple[str, float]]:
    for name, value in record.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}{name}", float(value)
