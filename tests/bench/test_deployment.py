"""The deployment benchmark without a network: its parts, and the sums it makes. A run over Flower takes minutes."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import tomli_w
import typer
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from safetensors.numpy import load_file
from typer.testing import CliRunner

from confide.bench import deployment_app
from confide.bench.deployment import compare, growth, run_deployment_benchmark, sum_up
from confide.bench.deployment_arrays import draw_update, make_layout, make_start
from confide.bench.deployment_field import run_config
from confide.bench.deployment_node import Member
from confide.bench.deployment_processes import MARK, ProcessWatch
from confide.bench.deployment_traffic import CountingRelay
from confide.bench.deployment_work import (
    FLAT,
    PLAIN,
    SEALED,
    DeploymentRow,
    DeploymentWork,
    ProcessMemory,
    RoundSeen,
    RunSeen,
    Traffic,
)
from confide.cli.bench_deployment import bench_deployment_command
from confide.deploy.coordinator import coordinate_run, start_run
from confide.deploy.run_config import load_run_config
from confide.errors import RunError, UsageError
from confide.membership.identity import Identity
from confide.membership.roster import Roster
from confide.run import RunDirectory
from confide.transport.base import NodeReply, Reply

TOLERANCE = 2 * 0.25 / 2**16  # half a step of 16 bits in the first round's range of 0.25, in each of two rounds
WORK = DeploymentWork(contender=SEALED, num_nodes=3, num_values=70_000, num_rounds=2, seed=4)


@pytest.mark.parametrize("num_values", [1, 8191, 8192, 10_000, 1_000_000, 17_000_000])
def test_a_layout_has_exactly_the_values_asked_for(num_values: int) -> None:
    layout = make_layout(num_values)
    assert layout.num_values == num_values
    assert len(layout.slots) <= 129


def test_seventeen_million_values_are_the_adapter_of_llama_2_7b_with_rank_32() -> None:
    first, second, *_ = make_layout(17_000_000).slots
    assert first.shape == (32, 4096)
    assert second.shape == (4096, 32)


def test_work_survives_the_way_to_another_process() -> None:
    assert DeploymentWork.from_json(WORK.to_json()) == WORK


def test_updates_differ_by_client_and_round_and_come_again() -> None:
    update = draw_update(4, "a", 1, 70_000)
    assert np.array_equal(update, draw_update(4, "a", 1, 70_000))
    assert not np.array_equal(update, draw_update(4, "b", 1, 70_000))
    assert not np.array_equal(update, draw_update(4, "a", 2, 70_000))
    assert np.abs(update).max() <= 1e-3
    assert np.unique(update).size > 65_000  # nothing repeats that Flower could send once


class Wire:
    """Carries messages to members in this process."""

    def __init__(self, members: Mapping[int, Member]) -> None:
        self._members = members
        self._names: dict[str, int] = {}

    def nodes(self) -> list[int]:
        return list(self._members)

    def introduce(self, names: Mapping[str, int]) -> None:
        self._names = dict(names)

    def ask_nodes(self, requests: Mapping[int, bytes]) -> Iterator[NodeReply]:
        for node, request in requests.items():
            yield NodeReply(node=node, body=self._members[node].handle(request))

    def exchange(self, requests: Mapping[str, bytes]) -> Iterator[Reply]:
        for client in requests:
            yield Reply(client=client, body=self._members[self._names[client]].handle(requests[client]))


def test_the_members_of_the_benchmark_run_real_sealed_rounds(tmp_path: Path) -> None:
    identities = [Identity.generate(name) for name in ("a", "b", "c")]
    config = tmp_path / "config.toml"
    config.write_text(tomli_w.dumps(run_config(WORK)))
    start_run(tmp_path / "run", load_run_config(config), Roster([identity.public for identity in identities]))
    places = [tmp_path / identity.public.name for identity in identities]
    for place in places:
        place.mkdir()
    members = [Member(place, identity, WORK) for place, identity in zip(places, identities, strict=True)]
    coordinate_run(tmp_path / "run", Wire(dict(enumerate(members))))
    directory = RunDirectory(tmp_path / "run")
    assert directory.status == "finished"
    assert [(record.is_sealed, record.num_values, len(record.members)) for record in directory.records()] == [
        (True, WORK.num_values + 1, 3)  # the largest value travels, too
    ] * WORK.num_rounds
    layout = make_layout(WORK.num_values)
    means = [
        np.mean([draw_update(WORK.seed, name, number, WORK.num_values) for name in "abc"], axis=0) for number in (1, 2)
    ]
    (path,) = places[0].glob("*/rounds/0002/adapter_model.safetensors")
    change = layout.flatten(load_file(path)) - make_start(layout)
    assert np.abs(change - (means[0] + means[1])).max() < TOLERANCE
    assert np.abs(means[0]).max() > 5 * TOLERANCE  # so that a lost update would show
    assert np.abs(means[1]).max() > 5 * TOLERANCE


@pytest.fixture
def flower_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Flower's processes set before an app runs; no message can be made without it."""
    for name in ("task_id", "run_id", "node_id"):
        monkeypatch.setattr(f"flwr.supercore.task_identity.TaskIdentity._{name}", 1)


@pytest.mark.usefixtures("flower_task")
def test_plain_flowers_client_adds_the_update_to_the_arrays_and_reports_a_loss() -> None:
    layout = make_layout(9000)
    arrays = ArrayRecord({name: Array(array) for name, array in layout.unflatten(make_start(layout)).items()})
    content = RecordDict({"arrays": arrays, "config": ConfigRecord({"server-round": 2})})
    context = Context(1, 7, {}, RecordDict(), {})
    reply = deployment_app.client(Message(content, 7, "train"), context)
    sent, metrics = reply.content["arrays"], reply.content["metrics"]
    assert isinstance(sent, ArrayRecord)
    assert isinstance(metrics, MetricRecord)
    flat = np.concatenate([sent[slot.name].numpy().reshape(-1) for slot in layout])
    assert flat.dtype == np.float32
    assert np.array_equal(flat, make_start(layout) + draw_update(0, "7", 2, 9000))
    assert metrics["num-examples"] == 1
    reply = deployment_app.client(Message(content, 7, "evaluate"), context)
    assert list(reply.content) == ["metrics"]


def test_the_relay_passes_everything_on_and_counts_each_way() -> None:
    def answer_twice_as_much(listener: socket.socket) -> None:
        channel, _ = listener.accept()
        with channel:
            asked = b""
            while piece := channel.recv(1 << 16):
                asked += piece
            channel.sendall(asked * 2)

    request = os.urandom(300_001)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer_twice_as_much, args=(listener,))
        thread.start()
        with CountingRelay(listener.getsockname()[1]) as relay:
            with socket.create_connection(("127.0.0.1", relay.port)) as channel:
                channel.sendall(request)
                channel.shutdown(socket.SHUT_WR)
                answer = b"".join(iter(lambda: channel.recv(1 << 16), b""))
            thread.join()
            assert answer == request * 2
            assert relay.traffic == Traffic(up=len(request), down=2 * len(request))


def test_a_server_that_is_not_there_closes_the_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with CountingRelay(port) as relay, socket.create_connection(("127.0.0.1", relay.port)) as channel:
        assert channel.recv(1) == b""
        assert relay.traffic == Traffic(up=0, down=0)


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for processes in /proc")
def test_processes_of_a_deployment_are_seen_by_kind_and_others_are_not(tmp_path: Path) -> None:
    allocate = "import sys; kept = b'1' * 60_000_000; print('ready', flush=True); sys.stdin.read()"

    def start(name: str, folder: Path) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-c", allocate, name],
            env={**os.environ, MARK: str(folder)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    processes = [
        start("flower-supernode", tmp_path),
        start("flower-supernode", tmp_path),
        start("flower-superlink", tmp_path / "other"),
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
        watch = ProcessWatch(tmp_path)
        watch.look()
        memory = watch.memory
        assert list(memory) == ["SuperNode"]
        assert memory["SuperNode"].num_seen == 2
        assert 60 < memory["SuperNode"].peak_mb < 120
        assert 60 < memory["SuperNode"].private_mb <= memory["SuperNode"].peak_mb
        assert memory["SuperNode"].rss_mb > 120
        assert watch.cpu_seconds >= 0
        watch.end_all()
        assert [process.wait() for process in processes[:2]] == [-signal.SIGKILL] * 2
        assert processes[2].poll() is None
    finally:
        for process in processes:
            process.communicate()


def row(contender: str, num_nodes: int, *, seconds: float, num_bytes: int, superlink_mb: float) -> DeploymentRow:
    work = DeploymentWork(contender=contender, num_nodes=num_nodes, num_values=1_000_000, num_rounds=3, seed=0)
    return sum_up(work, run_seen(num_nodes, seconds=seconds, num_bytes=num_bytes, superlink_mb=superlink_mb))


def run_seen(num_nodes: int, *, seconds: float, num_bytes: int, superlink_mb: float) -> RunSeen:
    def one(factor: float) -> RoundSeen:
        half = int(num_bytes * num_nodes * factor) // 2
        return RoundSeen(
            seconds=seconds * factor, traffic=Traffic(up=half, down=half), load=0.5, cpu_seconds=seconds * factor
        )

    memory = {
        "SuperLink": ProcessMemory(num_seen=1, peak_mb=superlink_mb, private_mb=superlink_mb, rss_mb=superlink_mb),
        "server app": ProcessMemory(num_seen=1, peak_mb=150.0, private_mb=140.0, rss_mb=150.0),
    }
    return RunSeen(rounds=(one(100.0), one(1.0), one(0.5)), memory=memory)


def test_the_first_round_warms_up_and_bytes_are_per_client() -> None:
    summed = row(SEALED, 10, seconds=20.0, num_bytes=4_000_000, superlink_mb=200.0)
    assert (summed.seconds.median, summed.seconds.highest) == pytest.approx((15.0, 20.0))
    assert summed.bytes_up.median == pytest.approx(1_500_000)
    assert summed.bytes_down.highest == pytest.approx(2_000_000)
    work = DeploymentWork(contender=SEALED, num_nodes=3, num_values=1, num_rounds=1, seed=0)
    only = RunSeen(rounds=(RoundSeen(seconds=3.0, traffic=Traffic(up=3, down=6), load=0, cpu_seconds=1),), memory={})
    assert sum_up(work, only).seconds.median == 3.0


ROWS = [
    row(PLAIN, 3, seconds=10.0, num_bytes=12_000_000, superlink_mb=200.0),
    row(SEALED, 3, seconds=20.0, num_bytes=4_000_000, superlink_mb=200.0),
    row(PLAIN, 10, seconds=20.0, num_bytes=12_000_000, superlink_mb=240.0),
    row(SEALED, 10, seconds=40.0, num_bytes=12_000_001 * 2, superlink_mb=241.0),
]


def test_sizes_are_held_against_the_targets() -> None:
    few, many = compare(ROWS)
    assert few.bytes_ratio == pytest.approx(1 / 3)
    assert few.more_seconds == pytest.approx(7.5)
    assert few.meets_bytes
    assert few.meets_seconds is True
    assert not many.meets_bytes
    assert many.more_seconds == pytest.approx(15.0)
    assert many.meets_seconds is False
    assert [(one.contender, one.kind, one.is_flat) for one in growth(ROWS)] == [
        (PLAIN, "SuperLink", True),
        (PLAIN, "server app", True),
        (SEALED, "SuperLink", False),
        (SEALED, "server app", True),
    ]
    assert compare(ROWS[:1]) == ()
    assert growth(ROWS[:2]) == ()


class FakeField:
    """Answers at once; remembers what was asked."""

    asked: list[DeploymentWork]
    stuck: str

    def __init__(self, folder: Path, num_nodes: int, round_seconds: float) -> None:
        assert folder.is_dir()
        self._round_seconds = round_seconds
        self._num_nodes = num_nodes

    def run(self, work: DeploymentWork) -> RunSeen:
        assert work.num_nodes == self._num_nodes
        self.asked.append(work)
        if work.contender == self.stuck:
            raise RunError(f"round 1 did not end: it took more than {self._round_seconds:g} seconds\nand a log")
        seconds = 30.0 if work.contender == SEALED else 10.0
        return run_seen(work.num_nodes, seconds=seconds, num_bytes=work.num_values, superlink_mb=200.0)


@pytest.fixture
def field(monkeypatch: pytest.MonkeyPatch) -> type[FakeField]:
    FakeField.asked, FakeField.stuck = [], ""
    monkeypatch.setattr("confide.bench.deployment.BenchField", FakeField)
    return FakeField


def test_both_contenders_run_at_every_size_by_turns(field: type[FakeField]) -> None:
    told: list[str] = []
    result = run_deployment_benchmark(nodes=[3, 10], values=[1_000_000, 50], num_rounds=3, on_progress=told.append)
    assert [(work.contender, work.num_nodes, work.num_values) for work in field.asked] == [
        (contender, nodes, values)
        for nodes in (3, 10)
        for values in (1_000_000, 50)
        for contender in (PLAIN, FLAT, SEALED)
    ]
    assert len(told) == 2 + 12 + 12
    assert told[2] == "7.5 s a round"
    assert [(one.num_values, one.meets_seconds) for one in result.comparisons] == [
        (1_000_000, False),
        (1_000_000, False),
        (50, None),
        (50, None),
    ] * 2
    assert [one.baseline for one in result.comparisons[:2]] == [PLAIN, FLAT]
    assert result.machine
    assert "flwr" in result.versions


def test_plain_flower_that_comes_to_no_end_is_told_and_the_others_go_on(field: type[FakeField]) -> None:
    field.stuck = PLAIN
    told: list[str] = []
    result = run_deployment_benchmark(
        nodes=[3], values=[1_000_000], num_rounds=1, round_seconds=7.0, on_progress=told.append
    )
    assert [row.contender for row in result.rows] == [FLAT, SEALED]
    app = typer.Typer()
    app.command()(bench_deployment_command)
    assert "3 nodes, 10,000 values: flower came to no end: round 1 did" in CliRunner().invoke(app, ["--quick"]).stdout
    (lost,) = result.not_ended
    assert (lost.contender, lost.num_nodes, lost.num_values) == (PLAIN, 3, 1_000_000)
    assert "more than 7 seconds" in lost.reason
    assert [one.baseline for one in result.comparisons] == [FLAT]
    assert "no end: round 1 did not end: it took more than 7 seconds" in told


def test_sealed_rounds_that_come_to_no_end_are_an_error(field: type[FakeField]) -> None:
    field.stuck = SEALED
    with pytest.raises(RunError, match="did not end"):
        run_deployment_benchmark(nodes=[3], values=[5], num_rounds=1)


def test_a_number_of_seconds_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="--round-seconds 0"):
        run_deployment_benchmark(nodes=[3], values=[5], num_rounds=1, round_seconds=0.0)


@pytest.mark.parametrize(("nodes", "values", "rounds"), [([1], [5], 1), ([65], [5], 1), ([3], [0], 1), ([3], [5], 0)])
def test_numbers_out_of_range_are_refused(nodes: list[int], values: list[int], rounds: int) -> None:
    with pytest.raises(UsageError, match="expected 2 to 64 nodes"):
        run_deployment_benchmark(nodes=nodes, values=values, num_rounds=rounds)


@pytest.mark.usefixtures("field")
def test_the_command_prints_json_and_tables_that_say_which_target_is_met() -> None:
    app = typer.Typer()
    app.command()(bench_deployment_command)
    result = json.loads(CliRunner().invoke(app, ["--quick", "--json"]).stdout)
    assert {"machine", "versions", "rows", "comparisons", "growth", "target", "seed", "num_rounds"} <= result.keys()
    assert [(row["num_nodes"], row["num_values"]) for row in result["rows"]] == [(3, 10_000)] * 3
    assert len(result["rows"][0]["seen"]["rounds"]) == 3
    table = CliRunner().invoke(app, ["--nodes", "3", "--nodes", "10", "--values", "1000000"]).stdout
    assert "3 nodes, 1,000,000 values: 1.00 times the bytes of flower (at most 1: met)" in table
    assert "+15.0 seconds per round (at most 10: NOT met)" in table
    assert "confide, SuperLink, 1,000,000 values: 1.00 times the memory" in table
    assert "…" not in table  # no number is cut off
