"""A SuperLink that takes long for every look: the deadline holds all the same. No real time passes."""

import threading

import pytest

from confide.transport import pulls
from confide.transport.flower import FlowerTransport
from tests.clock import Clock
from tests.transport.fake_grid import FakeGrid

pytestmark = pytest.mark.usefixtures("flower_task")


class At:
    """An event that comes at a time of the clock."""

    def __init__(self, clock: Clock, at: float) -> None:
        self._clock, self.at = clock, at

    def is_set(self) -> bool:
        return self._clock.now >= self.at


@pytest.mark.parametrize("latency", [5.0, 9.5, 15.0, 40.0])
@pytest.mark.parametrize("num_nodes", [1, 3, 10, 64])
def test_silent_nodes_end_at_their_deadline_though_every_look_takes_long(
    num_nodes: int, latency: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()

    class SlowCall:
        def __init__(self, function: object) -> None:
            self.is_over = At(clock, clock.now + latency)

        def take(self) -> None:
            return None

    def wait(event: threading.Event | At, seconds: float) -> bool:
        if isinstance(event, threading.Event):  # a push: the grid takes it at once
            return event.wait(10)
        if event.at <= clock.now + seconds:
            clock.now = max(clock.now, event.at)
            return True
        clock.now += seconds
        return False

    def sleep(seconds: float) -> None:
        clock.now += seconds
        assert clock.now < 4000, "no end"

    monkeypatch.setattr(pulls, "Call", SlowCall)
    made = FlowerTransport(
        FakeGrid(dict.fromkeys(range(1, num_nodes + 1), lambda message: None)),
        seconds=lambda request: 600.0,
        clock=clock,
        sleep=sleep,
        wait=wait,
    )
    replies = list(made.ask_nodes(dict.fromkeys(range(1, num_nodes + 1), b"")))
    assert {reply.error_kind for reply in replies} == {"Missing"}
    assert clock.now <= 600 + 90
