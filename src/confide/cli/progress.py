"""How a run shows itself on the terminal: one aligned line a round, and live bars where a person is watching."""

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from confide.errors import RunInterrupted
from confide.privacy.randomness import SEEDED_NOISE

if TYPE_CHECKING:
    from confide.records import RoundRecord
    from confide.train.outcome import StepReport

_MEGA = 1e6


def round_line(record: "RoundRecord", num_rounds: int) -> str:
    """One round as one line: the same numbers as its record, at the same place in every line of a run.

    The held-out loss stands last, since not every round has one.
    """
    width, cohort = len(str(num_rounds)), len(record.cohort)
    parts = [
        f"round {record.round_number:0{width}d}/{num_rounds}",
        f"clients {len(record.members):{len(str(cohort))}d}/{cohort}",
        "loss withheld" if record.loss is None else f"loss {record.loss:8.4f}",
        _epsilon(record),
        f"sent {record.bytes_up / _MEGA:8.2f} MB",
        f"train {record.seconds['local'] or record.seconds['train']:7.1f} s",  # private clients do not tell their time
        f"total {record.seconds['total']:7.1f} s",
    ]
    if record.held_out_loss is not None:
        parts.append(f"held-out {record.held_out_loss:8.4f}")
    return " | ".join(parts)


def _epsilon(record: "RoundRecord") -> str:
    if record.epsilon is None:
        return "epsilon none"
    of_client = "" if record.client_epsilon is None else f", of a client {record.client_epsilon:8.2f}"
    return f"epsilon {record.epsilon:8.2f}{of_client}" + (f" ({SEEDED_NOISE})" if record.seeded_noise else "")


def print_round(record: "RoundRecord", num_rounds: int) -> None:
    """Prints a round's line, and who was left out of it and why."""
    print_line(Console(), round_line(record, num_rounds))
    for client, reason in record.failures.items():
        print_line(Console(), f"    left out: {client}: {reason}")


def print_line(console: Console, text: str) -> None:
    """Prints text as it is: no markup, no colours, no wrapping."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


class StopSwitch:
    """Remembers that the user pressed Ctrl-C, so that training can stop at the next step.

    Inside `listening`, the first SIGINT, SIGTERM or SIGHUP asks for a clean stop; a second one stops at once, unless it
    is a SIGHUP, of which a terminal that closes may send two. Where SIGHUP is ignored, as under nohup, it stays so.
    """

    def __init__(self) -> None:
        self._asked = False

    @contextmanager
    def listening(self, console: Console) -> Iterator[None]:
        """Catches the signals for the body, then puts the old handlers back."""

        def ask(number: int, frame: FrameType | None) -> None:
            del frame
            if self._asked and number != signal.SIGHUP:
                raise KeyboardInterrupt
            is_first, self._asked = not self._asked, True
            with suppress(OSError):  # the terminal may be gone
                if is_first:
                    console.print(f"\n{signal.Signals(number).name}: stopping at the next step (again: at once)")

        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            numbers.append(signal.SIGHUP)
        before = {number: signal.signal(number, ask) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @property
    def is_asked(self) -> bool:
        """Whether a stop was asked for."""
        return self._asked

    def check(self) -> None:
        """Raises `RunInterrupted` if a stop was asked for."""
        if self._asked:
            raise RunInterrupted("stopped at your wish; every complete round is saved")


class RunDisplay:
    """Shows rounds, and live bars for rounds, clients and steps where the console is a terminal.

    Args:
        console: for the bars and messages (stderr).
        show_round: called with each round's record and the number of rounds, to print it.
        stop: checked after every step.
    """

    def __init__(self, console: Console, show_round: "Callable[[RoundRecord, int], None]", stop: StopSwitch) -> None:
        self._show_round = show_round
        self._stop = stop
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._rounds: TaskID | None = None
        self._clients: TaskID | None = None
        self._steps: TaskID | None = None
        self._client = ""
        self._trained: set[str] = set()

    @contextmanager
    def live(self) -> Iterator["RunDisplay"]:
        """Shows the bars for the body."""
        with self._progress:
            yield self

    def round_started(self, round_number: int, num_rounds: int, num_clients: int) -> None:
        """See `Observer`."""
        if self._rounds is None or self._clients is None or self._progress.finished:
            self._clear()
            self._rounds = self._progress.add_task("rounds", total=num_rounds, note="", completed=round_number - 1)
            self._clients = self._progress.add_task("clients", total=num_clients, note="")
        self._progress.reset(self._clients, total=num_clients)
        self._trained.clear()
        self._stop.check()

    def round_finished(self, record: "RoundRecord", num_rounds: int) -> None:
        """See `Observer`."""
        if self._rounds is not None:
            self._progress.update(self._rounds, completed=record.round_number)
        if record.round_number == num_rounds:
            self._clear()
        self._show_round(record, num_rounds)

    def step(self, client: str, report: "StepReport") -> None:
        """Called after each local step of a client; stops the run if the user asked for it."""
        if self._steps is None:
            self._steps = self._progress.add_task("", total=report.num_steps, note="")
        if client != self._client or report.step == 1:
            self._client = client
            self._progress.reset(self._steps, total=report.num_steps, description=client)
        note = "loss withheld" if math.isnan(report.loss) else f"loss {report.loss:.3f}"
        self._progress.update(self._steps, completed=report.step, note=note)
        if self._clients is not None and report.step == report.num_steps:
            self._trained.add(client)  # once, also where a round is trained again
            self._progress.update(self._clients, completed=len(self._trained))
        self._stop.check()

    def _clear(self) -> None:
        for task in (self._rounds, self._clients, self._steps):
            if task is not None:
                self._progress.remove_task(task)
        self._rounds = self._clients = self._steps = None


@contextmanager
def timed(console: Console, what: str) -> Iterator[None]:
    """Says what is going on and how long it took."""
    began = time.perf_counter()
    with console.status(what):
        yield
    print_line(console, f"{what}: {time.perf_counter() - began:.1f} s")


@contextmanager
def phases(console: Console, what: str) -> Iterator[Callable[[str], None]]:
    """Shows which phase a long work is in: live where a person is watching, elsewhere a line each, with the time.

    Returns:
        To be told each phase as it begins.
    """
    if console.is_terminal:
        with console.status(what) as status:
            yield lambda phase: status.update(escape(f"{what}: {phase}"))
        return
    began = time.perf_counter()
    yield lambda phase: print_line(console, f"{time.perf_counter() - began:7.0f} s  {what}: {phase}")
