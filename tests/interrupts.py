"""A user who presses Ctrl-C while clients train."""

import os
import signal

import pytest

from confide.parties.client import Client
from confide.train.outcome import StepReport


def press_ctrl_c_at(step: int, patch: pytest.MonkeyPatch) -> list[StepReport]:
    """Sends this process an interrupt at a local step, counted over all clients; gives the steps that are done."""
    original = Client._report_step
    done: list[StepReport] = []

    def report_step(self: Client, report: StepReport) -> None:
        done.append(report)
        if len(done) == step:
            os.kill(os.getpid(), signal.SIGINT)
        original(self, report)

    patch.setattr(Client, "_report_step", report_step)
    return done
