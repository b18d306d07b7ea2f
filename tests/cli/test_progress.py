"""What a person at a terminal sees of a run."""

import io
import math
import re
import signal
from typing import Any

import pytest
from rich.console import Console

from confide.cli.progress import RunDisplay, StopSwitch, phases, round_line
from confide.records import RoundRecord
from confide.train.outcome import StepReport


def watch(steps: list[tuple[str, int]], *, is_terminal: bool = True, loss: float = 1.5) -> str:
    """Runs a display through local steps of a first round of two, three clients and two steps each."""
    file = io.StringIO()
    console = Console(file=file, force_terminal=is_terminal, width=120, color_system=None)
    display = RunDisplay(console, lambda record, num_rounds: None, StopSwitch())
    with display.live():
        display.round_started(1, 2, 3)
        for client, step in steps:
            display.step(client, StepReport(step=step, num_steps=2, loss=loss))
    return file.getvalue()


@pytest.mark.parametrize(
    ("steps", "clients", "client"),
    [
        ([("north", 1)], "0/3", r"north .* 1/2 .* loss 1\.500"),
        ([("north", 1), ("north", 2), ("south", 1)], "1/3", r"south .* 1/2 "),
        ([(name, step) for name in ("north", "south", "west") for step in (1, 2)], "3/3", r"west .* 2/2 "),
    ],
)
def test_rounds_clients_and_steps_are_counted(steps: list[tuple[str, int]], clients: str, client: str) -> None:
    shown = watch(steps)
    assert re.search(r"rounds .* 0/2 ", shown)
    assert re.search(rf"clients .* {clients} ", shown)
    assert re.search(client, shown)
    assert "left" in shown


def test_clients_that_train_again_in_a_round_are_counted_once() -> None:
    once = [(name, step) for name in ("north", "south", "west") for step in (1, 2)]
    shown = watch(once + once)
    assert "3/3" in shown
    assert not re.search(r"[4-9]/3", shown)


def test_a_loss_that_is_not_told_is_withheld_as_in_the_rounds_line() -> None:
    shown = watch([("north", 1)], loss=math.nan)
    assert re.search(r"north .* 1/2 .* loss withheld", shown)
    assert "nan" not in shown


class Gone(io.StringIO):
    """A terminal that was closed."""

    def write(self, text: str) -> int:
        raise OSError(5, "Input/output error")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("file", [io.StringIO(), Gone()], ids=["terminal", "closed"])
def test_a_signal_asks_for_a_clean_stop(number: signal.Signals, file: io.StringIO) -> None:
    outside = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # it is ignored where tests run under nohup
    try:
        stop, before = StopSwitch(), signal.getsignal(number)
        with stop.listening(Console(file=file)):
            asked = [stop.is_asked]
            signal.raise_signal(number)
            assert [*asked, stop.is_asked] == [False, True]
            signal.raise_signal(signal.SIGHUP)  # a second one: the shell's and the terminal's
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGTERM)
        assert signal.getsignal(number) == before
    finally:
        signal.signal(signal.SIGHUP, outside)


def test_a_hangup_that_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        stop = StopSwitch()
        with stop.listening(Console(file=io.StringIO())):
            signal.raise_signal(signal.SIGHUP)
            assert not stop.is_asked
    finally:
        signal.signal(signal.SIGHUP, before)


def test_nothing_moves_where_nobody_watches() -> None:
    assert watch([("north", 1)], is_terminal=False) == ""


def record(**changes: Any) -> RoundRecord:
    values: dict[str, Any] = {
        "round_number": 3,
        "cohort": ("north", "south", "west"),
        "members": ("north", "south", "west"),
        "failures": {},
        "learning_rate": 1e-3,
        "loss": 1.8342,
        "held_out_loss": None,
        "update_norm": 0.5,
        "bytes_up": 1_240_000,
        "bytes_down": 1_240_000,
        "seconds": {"local": 0.8, "total": 14.2},
        "sealing": "plain",
        "is_sealed": False,
        "server_reads": True,
        "num_values": 4,
        "sparsity": 0.0,
        "saturated": 0.0,
        "privacy": "no formal guarantee",
        "epsilon": None,
        "adapter_digest": "0" * 64,
    }
    return RoundRecord(**(values | changes))


def test_round_lines_are_aligned_whatever_the_numbers() -> None:
    small = record(round_number=1, loss=0.0123, bytes_up=9_000, seconds={"local": 0.1, "total": 0.2})
    large = record(loss=123.4, bytes_up=41_234_567_890, seconds={"local": 3600.0, "total": 12345.6}, held_out_loss=99.5)
    lines = [round_line(each, 10) for each in (small, record(), large)]
    assert [[at for at, mark in enumerate(line) if mark == "|"][:6] for line in lines[1:]] == [
        [at for at, mark in enumerate(lines[0]) if mark == "|"]
    ] * 2
    assert lines[1] == (
        "round 03/10 | clients 3/3 | loss   1.8342 | epsilon none | sent     1.24 MB | "
        "train     0.8 s | total    14.2 s"
    )
    assert lines[2].endswith(" | held-out  99.5000")


def test_seeded_noise_is_named_beside_epsilon_in_every_line() -> None:
    assert "| epsilon     4.00 | " in round_line(record(epsilon=4.0), 10)
    assert "| epsilon     4.00 (seeded noise) | " in round_line(record(epsilon=4.0, seeded_noise=True), 10)
    both = record(epsilon=4.0, client_epsilon=3.0, seeded_noise=True)
    assert "| epsilon     4.00, of a client     3.00 (seeded noise) | " in round_line(both, 10)


@pytest.mark.parametrize("is_terminal", [True, False])
def test_each_phase_of_long_work_is_told(is_terminal: bool) -> None:
    file = io.StringIO()
    with phases(Console(file=file, force_terminal=is_terminal, width=80, color_system=None), "auditing") as tell:
        tell("1/2 membership")
        first = file.getvalue()
        tell("2/2 exposure [of all]")
    if is_terminal:
        assert "auditing" in file.getvalue()
    else:  # a log: a line as each phase begins
        assert re.fullmatch(r" +0 s  auditing: 1/2 membership\n", first)
        assert re.fullmatch(r" +0 s  auditing: 2/2 exposure \[of all\]\n", file.getvalue().removeprefix(first))
