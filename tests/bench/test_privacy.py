"""The benchmark of private training on a tiny model. `make test` runs the whole command once, processes included."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import pytest
import torch
import typer
from typer.testing import CliRunner

from confide.bench import privacy_process
from confide.bench.privacy import TARGET, compare, run_privacy_benchmark
from confide.bench.privacy_process import measure_memory, measure_times
from confide.bench.privacy_ways import Lab, make_lab, make_steps, norms_of_first_step, run_pass
from confide.bench.privacy_work import PRIVATE_WAYS, WAYS, Memory, PassTime, PrivacyWork, Times
from confide.cli.bench_privacy import bench_privacy_command
from confide.errors import RunError, UsageError
from confide.train.steps import MicroBatches, RoundSteps

WORK = PrivacyWork(num_rows=5, max_tokens=400, batch_size=2, repeats=4)


@pytest.fixture(scope="module")
def lab() -> Lab:
    made = make_lab(WORK)
    rng = np.random.default_rng(1)  # with B at zero, the gradient of A would be zero
    return replace(made, start=rng.normal(0, 0.1, made.start.size).astype(np.float32))


def ids(batches: Sequence[MicroBatches]) -> list[list[list[str]]]:
    return [[[example.record_id for example in batch] for batch in step] for step in batches]


def gradient(lab: Lab, steps: RoundSteps, batches: MicroBatches) -> npt.NDArray[np.float32]:
    lab.model.write(lab.start)
    with steps.running():
        steps.make_gradient(batches)
    found = [parameter.grad for parameter in lab.objective.parameters]
    flat = np.concatenate([part.numpy().reshape(-1) for part in found if part is not None])
    for parameter in lab.objective.parameters:
        parameter.grad = None
    return flat


def test_work_survives_the_way_to_another_process() -> None:
    assert PrivacyWork.from_json(replace(WORK, average="freeze-a").to_json()) == replace(WORK, average="freeze-a")


def test_every_way_reads_the_same_batches_which_are_the_rows_in_order(lab: Lab) -> None:
    batches = [ids(make_steps(lab, WORK, way, 5).batches) for way in WAYS]
    assert batches[0] == batches[1] == batches[2]
    assert all(len(step) == 1 for step in batches[0])  # one forward pass
    rows = [example.record_id for example in lab.examples]
    assert [set(step[0]) for step in batches[0]] == [set(rows[:2]), set(rows[2:4]), set(rows[4:])]


def test_as_many_rows_as_the_dropout_seed_has_coins_are_no_exception(lab: Lab) -> None:
    many = replace(lab, examples=[*lab.examples, *lab.examples] * 6 + [*lab.examples][:3])
    assert len(many.examples) == 63
    steps = make_steps(many, replace(WORK, batch_size=32), "hooks", 63).batches
    assert [sum(len(batch) for batch in step) for step in steps] == [32, 31]


@pytest.mark.parametrize("average", ["factors", "freeze-a"])
def test_ghost_clipping_gives_the_gradient_and_the_norms_of_hooks(average: Literal["factors", "freeze-a"]) -> None:
    work = replace(WORK, average=average, noise_multiplier=1e-9)
    lab = make_lab(work)
    lab = replace(lab, start=np.random.default_rng(1).normal(0, 0.1, lab.start.size).astype(np.float32))
    norms = {way: norms_of_first_step(lab, work, way) for way in PRIVATE_WAYS}
    np.testing.assert_allclose(norms["ghost"], norms["hooks"], rtol=1e-4)
    assert norms["hooks"].max() > 1.05 * norms["hooks"].min()
    bound = float(norms["hooks"].mean())  # one row is clipped, the other is not
    found = {}
    for way in PRIVATE_WAYS:
        steps = make_steps(lab, replace(work, clip_norm=bound), way, 5)
        found[way] = gradient(lab, steps, [*steps.batches[0], *steps.batches[1]])
    assert float(np.linalg.norm(found["hooks"])) > 0.1 * bound
    # Float32 on two ways, and Opacus adds a millionth to a norm before it divides by it.
    assert float(np.linalg.norm(found["ghost"] - found["hooks"])) < 1e-4 * bound


def test_private_ways_draw_noise_that_no_seed_repeats_and_the_plain_way_none(lab: Lab) -> None:
    ends: dict[str, list[bytes]] = {way: [] for way in WAYS}
    for way in WAYS:
        for _ in range(2):
            assert run_pass(lab, WORK, way, 5).cpu_seconds > 0
            ends[way].append(lab.model.read().tobytes())
    assert ends["plain"][0] == ends["plain"][1] != lab.start.tobytes()
    assert ends["hooks"][0] != ends["hooks"][1]
    assert ends["ghost"][0] != ends["ghost"][1]


def test_ghost_clipping_leaves_no_hook_behind(lab: Lab) -> None:
    def state() -> tuple[int, set[str]]:
        modules = list(lab.model.module.modules())
        names = {name for one in [*modules, *lab.model.module.parameters()] for name in vars(one)}
        return sum(len(one._forward_hooks) + len(one._backward_hooks) for one in modules), names

    before = state()
    run_pass(lab, WORK, "ghost", 3)
    assert state() == before


def test_ghost_clipping_outside_of_its_hooks_is_refused(lab: Lab) -> None:
    steps = make_steps(lab, WORK, "ghost", 2)
    with pytest.raises(RuntimeError, match="inside `running`"):
        steps.make_gradient(steps.batches[0])


def test_turns_start_from_another_way_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, int]] = []

    def fake_pass(lab: Lab, work: PrivacyWork, way: str, num_rows: int) -> PassTime:
        calls.append((way, num_rows))
        return PassTime(seconds=len(calls), cpu_seconds=1.0)

    monkeypatch.setattr(privacy_process, "run_pass", fake_pass)
    times = measure_times(WORK)
    plain, hooks, ghost = WAYS
    assert calls[0] == (plain, 2)  # a step that is not counted; those of the private ways gave norms
    turns = [plain, hooks, ghost, hooks, ghost, plain, ghost, plain, hooks, plain, hooks, ghost]
    assert calls[1:] == [(way, 5) for way in turns]
    seconds = {way: tuple(one.seconds for one in found) for way, found in times.passes.items()}
    assert seconds == {
        plain: (2.0, 7.0, 9.0, 11.0),
        hooks: (3.0, 5.0, 10.0, 12.0),
        ghost: (4.0, 6.0, 8.0, 13.0),
    }
    assert times.norm_difference < 1e-4
    assert times.device == "cpu, float32"


def test_ways_that_do_not_compute_the_same_are_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    norms = {"hooks": np.array([1.0, 2.0]), "ghost": np.array([1.0, 2.2])}
    monkeypatch.setattr(privacy_process, "run_pass", lambda *_: PassTime(seconds=1.0, cpu_seconds=1.0))
    monkeypatch.setattr(privacy_process, "norms_of_first_step", lambda lab, work, way: norms[way])
    with pytest.raises(RunError, match=r"differ by up to 10 % from those of hooks"):
        measure_times(WORK)


@pytest.mark.parametrize("way", WAYS)
def test_memory_is_measured_before_and_after_a_pass(way: str) -> None:
    memory = measure_memory(replace(WORK, num_rows=2), way)
    assert memory.peak_mb >= memory.loaded_mb > 50
    assert memory.device_peak_mb == 0.0 or torch.cuda.is_available()


def passes_of(*seconds: float, cpu: float) -> tuple[PassTime, ...]:
    return tuple(PassTime(seconds=one, cpu_seconds=cpu) for one in seconds)


TIMES = Times(
    passes={
        "plain": passes_of(1.0, 4.0, 2.0, cpu=1.0),
        "hooks": passes_of(1.2, 5.2, 3.0, cpu=1.1),
        "ghost": passes_of(2.0, 8.0, 4.2, cpu=1.4),
    },
    num_tokens=600,
    num_values=7,
    norm_difference=1e-6,
    device="cpu, float32",
)


def memory_of(loaded: float, peak: float) -> Memory:
    return Memory(loaded_mb=loaded, peak_mb=peak, device_loaded_mb=0.0, device_peak_mb=0.0)


MEMORY = {"plain": memory_of(400, 500), "hooks": memory_of(450, 750), "ghost": memory_of(450, 751)}


def test_ratios_are_taken_within_a_turn_and_held_against_the_target() -> None:
    hooks = compare(TIMES, MEMORY, "hooks")
    assert (hooks.time.lowest, hooks.time.median, hooks.time.highest) == pytest.approx((1.2, 1.3, 1.5))
    assert (hooks.cpu_time.lowest, hooks.cpu_time.highest) == pytest.approx((1.1, 1.1))
    assert (hooks.memory, hooks.memory_of_pass) == pytest.approx((1.5, 3.0))
    assert hooks.meets_time
    assert hooks.meets_memory
    ghost = compare(TIMES, MEMORY, "ghost")
    assert ghost.time.median == pytest.approx(2.0)
    assert not ghost.meets_time
    assert not ghost.meets_memory
    assert compare(TIMES, MEMORY | {"plain": memory_of(400, 400)}, "hooks").memory_of_pass is None


def test_with_a_gpu_its_memory_is_compared() -> None:
    on_device = {way: replace(one, device_loaded_mb=100.0, device_peak_mb=300.0) for way, one in MEMORY.items()}
    on_device["hooks"] = replace(on_device["hooks"], device_peak_mb=360.0)
    hooks = compare(TIMES, on_device, "hooks")
    assert (hooks.memory, hooks.memory_of_pass) == pytest.approx((1.2, 1.3))


class FakeProcesses:
    """Answer at once."""

    def __init__(self) -> None:
        self.tasks: list[str] = []

    def __call__(self, module: str, task: str, work: str, kind: type, *, threads: int) -> Times | Memory:
        assert PrivacyWork.from_json(work).threads == threads
        self.tasks.append(task)
        return TIMES if task == "times" else MEMORY[task]


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> FakeProcesses:
    fake = FakeProcesses()
    monkeypatch.setattr("confide.bench.privacy.ask_process", fake)
    return fake


def test_memory_of_each_way_has_a_process_and_all_times_have_one(processes: FakeProcesses) -> None:
    told: list[str] = []
    result = run_privacy_benchmark(replace(WORK, repeats=3), on_progress=told.append)
    assert processes.tasks == ["plain", "hooks", "ghost", "times"]
    assert told[-1] == "time: 3 passes of each way, by turns"
    assert [row.name for row in result.rows] == list(WAYS)
    assert [row.seconds.median for row in result.rows] == [2.0, 3.0, 4.2]
    assert [row.cpu_seconds.median for row in result.rows] == [1.0, 1.1, 1.4]
    assert [row.tokens_per_second for row in result.rows] == pytest.approx([300, 200, 600 / 4.2])
    assert [row.memory.peak_mb for row in result.rows] == [500, 750, 751]
    assert result.ratios.keys() == {"hooks/plain", "ghost/plain"}
    assert result.target == TARGET == {"time": 1.3, "memory": 1.5}


def test_numbers_out_of_range_and_unknown_ways_are_refused(lab: Lab) -> None:
    with pytest.raises(UsageError, match="have to be 1 or more"):
        run_privacy_benchmark(replace(WORK, repeats=0))
    with pytest.raises(UsageError, match="no way is called 'jax', expected one of plain, hooks, ghost"):
        make_steps(lab, WORK, "jax", 2)


@pytest.mark.usefixtures("processes")
def test_the_command_prints_json_and_a_table_that_says_which_target_is_met() -> None:
    app = typer.Typer()
    app.command()(bench_privacy_command)
    finished = CliRunner().invoke(app, ["--json", "--rows", "5", "--average", "freeze-a"])
    result = json.loads(finished.stdout)
    assert {"machine", "versions", "work", "device", "rows", "ratios", "target", "norm_difference"} <= result.keys()
    assert result["work"]["average"] == "freeze-a"
    assert result["ratios"]["ghost/plain"]["meets_memory"] is False
    table = CliRunner().invoke(app, ["--rows", "5"]).stdout
    assert "hooks/plain: 1.30 times the time (1.20-1.50; target: at most 1.3, met; of the processor 1.10)" in table
    assert "1.50 times the memory (3.00 beyond what was loaded) (target: at most 1.5, met)" in table
    assert "ghost/plain: 2.00 times the time (2.00-2.10; target: at most 1.3, NOT met; of the processor 1.40)" in table
    assert "(target: at most 1.5, NOT met)" in table
    assert "…" not in table  # no number is cut off
