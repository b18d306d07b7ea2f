"""A node that nothing reaches for a minute, on a machine of its own made of a network namespace."""

import logging
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.namespaces import SERVER_ADDRESS, Cable
from tests.deploy.real import CONFIG, NAMES, SETTINGS, Network, needs_proc
from tests.deploy.same_members import over_the_same_members

pytestmark = [
    pytest.mark.slow,
    needs_proc,
    pytest.mark.skipif(
        os.geteuid() != 0 or shutil.which("ip") is None, reason="makes network namespaces: needs root and iproute2"
    ),
]

FIRST, SECOND, THIRD = NAMES
IMPATIENT = CONFIG.replace("train_seconds = 60.0", "train_seconds = 30.0").replace(
    "answer_seconds = 40.0", "answer_seconds = 25.0"
)
PATIENT = ("deploy.train_seconds=150", "deploy.answer_seconds=150")
PARTITION_SECONDS = 60.0
PHASE_SECONDS = 150.0
RUN_SECONDS = 420.0

_logger = logging.getLogger(__name__)


@pytest.fixture(scope="module")
def cable() -> Iterator[Cable]:
    with Cable() as made:
        yield made


@pytest.fixture(scope="module")
def net(cable: Cable, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    patch = pytest.MonkeyPatch()
    patch.setenv("NO_PROXY", SERVER_ADDRESS)
    with Network(
        tmp_path_factory.mktemp("partition"),
        IMPATIENT,
        least_members=2,
        hosts=("localhost", SERVER_ADDRESS),
        prefixes={"": cable.server, THIRD: cable.node},
        server_words=("--host", "0.0.0.0", "--public"),
    ) as made:
        yield made
    patch.undo()


@pytest.mark.parametrize("is_patient", [False, True], ids=["longer than the deadline", "within the deadline"])
def test_a_node_that_is_cut_off_for_a_minute_is_left_out_and_comes_back(
    net: Network, cable: Cable, tmp_path: Path, is_patient: bool
) -> None:
    name = "patient" if is_patient else "impatient"
    running = net.run(name, "federation.min_clients=2", *(PATIENT if is_patient else ()))
    net.members[THIRD].await_line("round 1, train: asked", PHASE_SECONDS)
    began = time.monotonic()
    cable.pull()
    try:
        time.sleep(PARTITION_SECONDS)
    finally:
        cable.plug()
    plugged = time.monotonic()
    assert running.end(RUN_SECONDS) == 0, running.output
    records = net.directory(name).records()
    _logger.info("finished %.0f s after the cable was pulled", time.monotonic() - began)
    for record in records:
        _logger.info("  %s, %.0f s, %s", record.members, record.seconds["total"], dict(record.failures))
    assert {FIRST, SECOND} <= set(records[0].members)
    assert THIRD not in records[0].members  # Flower counts it as gone, however patient the run is
    last = records[-1].members
    expected = over_the_same_members(tmp_path, IMPATIENT, SETTINGS, [record.members for record in records])
    assert net.adapters(name, last) == {expected}
    assert net.members[THIRD].is_running
    again = net.run(f"after-{name}")  # needs all; the node is back once its broken connections are given up
    assert again.end(RUN_SECONDS) == 0, again.output
    _logger.info("  the next run finished %.0f s after the cable was plugged", time.monotonic() - plugged)
    assert [record.members for record in net.directory(f"after-{name}").records()] == [NAMES, NAMES]
    if net.directory(name).info["behind"]:
        resumed = net.resume(name)
        assert resumed.end(RUN_SECONDS) == 0, resumed.output
    assert net.adapters(name) == {expected}  # at the one that was cut off, too
