"""What a person at a terminal sees of a run."""

import io
import re

import pytest
from rich.console import Console

from confide.cli.progress import RunDisplay, StopSwitch
from confide.train.local import StepReport


def watch(steps: list[tuple[str, int]], *, is_terminal: bool = True) -> str:
    """Runs a display through local steps of a first round of two, three clients and two steps each."""
    file = io.StringIO()
    console = Console(file=file, force_terminal=is_terminal, width=120, color_system=None)
    display = RunDisplay(console, lambda record, num_rounds: None, StopSwitch())
    with display.live():
        display.round_started(1, 2, 3)
        for client, step in steps:
            display.step(client, StepReport(step=step, num_steps=2, loss=1.5))
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


def test_nothing_moves_where_nobody_watches() -> None:
    assert watch([("north", 1)], is_terminal=False) == ""
