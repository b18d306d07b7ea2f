"""TensorBoard is tested with the real library; MLflow and Weights & Biases with fakes that record their calls."""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from confide.errors import ConfigError, MissingExtraError
from confide.tracking.choose import TRACKERS, finish_trackers, start_trackers
from confide.tracking.tracker import TrackedRun, numbers_in

RECORD = {"loss": 1.5, "seconds": {"train": 2}, "status": "ok", "final": True, "clients": [1, 2], "epsilon": None}
NUMBERS = {"loss": 1.5, "seconds/train": 2.0}


@dataclass
class Calls:
    """What a fake library was told, in order."""

    seen: list[tuple[object, ...]] = field(default_factory=list)

    def add(self, *call: object) -> None:
        self.seen.append(call)


def fake_mlflow(calls: Calls) -> ModuleType:
    class FakeClient:
        def __init__(self, tracking_uri: str) -> None:
            calls.add("client", tracking_uri)

        def get_experiment_by_name(self, name: str) -> None:
            return None

        def create_experiment(self, name: str) -> str:
            return "experiment-0"

        def create_run(self, experiment_id: str, run_name: str) -> SimpleNamespace:
            calls.add("create_run", experiment_id, run_name)
            return SimpleNamespace(info=SimpleNamespace(run_id="run-0"))

        def update_run(self, run_id: str, status: str) -> None:
            calls.add("update_run", run_id, status)

        def log_param(self, run_id: str, key: str, value: object) -> None:
            calls.add("param", run_id, key, value)

        def log_metric(self, run_id: str, key: str, value: float, step: int) -> None:
            calls.add("metric", run_id, key, value, step)

        def set_terminated(self, run_id: str) -> None:
            calls.add("finish", run_id)

    module = ModuleType("mlflow")
    module.__dict__["MlflowClient"] = FakeClient
    return module


def fake_wandb(calls: Calls) -> ModuleType:
    class FakeRun:
        def log(self, numbers: dict[str, float], step: int) -> None:
            calls.add("log", numbers, step)

        def finish(self) -> None:
            calls.add("finish")

    def init(**arguments: object) -> FakeRun:
        calls.add("init", arguments)
        return FakeRun()

    module = ModuleType("wandb")
    module.__dict__.update(init=init, Settings=lambda **settings: settings)
    return module


def tracked_run(folder: Path, first_step: int = 1) -> TrackedRun:
    return TrackedRun(name="ward", run_id="3f2a", folder=folder, settings={"lora.rank": 4}, first_step=first_step)


def test_only_numbers_are_logged_and_nested_names_are_joined() -> None:
    assert numbers_in(RECORD) == NUMBERS


def test_no_names_give_no_trackers(tmp_path: Path) -> None:
    assert start_trackers([], tracked_run(tmp_path)) == []
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_name_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'comet', expected some of tensorboard, mlflow, wandb"):
        start_trackers(["tensorboard", "comet"], tracked_run(tmp_path))


@pytest.mark.parametrize(
    ("name", "module"),
    [("tensorboard", "torch.utils.tensorboard"), ("mlflow", "mlflow"), ("wandb", "wandb")],
)
def test_a_missing_package_names_the_extra(
    name: str, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"loggers.*{name}.*pip install 'confide\[{name}\]'"):
        start_trackers([name], tracked_run(tmp_path))


def test_every_tracker_is_in_the_cases_above() -> None:
    assert set(TRACKERS) == {"tensorboard", "mlflow", "wandb"}


def test_a_failed_start_closes_the_trackers_started_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Calls()
    monkeypatch.setitem(sys.modules, "mlflow", fake_mlflow(calls))
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MissingExtraError):
        start_trackers(["mlflow", "wandb"], tracked_run(tmp_path))
    assert calls.seen[-1] == ("finish", "run-0")


def test_tensorboard_event_files_hold_every_round_also_over_a_resume(tmp_path: Path) -> None:
    event_accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="needs the extra tensorboard"
    )
    # The first process logs rounds 1 to 3 and dies before round 3 is saved; the second one does round 3 again.
    for first_step, losses in [(1, [3.0, 2.0, 9.0]), (3, [1.0])]:
        trackers = start_trackers(["tensorboard"], tracked_run(tmp_path, first_step))
        for step, loss in enumerate(losses, start=first_step):
            trackers[0].log({**RECORD, "loss": loss}, step)
        finish_trackers(trackers)
    reader = event_accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    reader.Reload()
    assert [(event.step, event.value) for event in reader.Scalars("loss")] == [(1, 3.0), (2, 2.0), (3, 1.0)]
    assert set(reader.Tags()["scalars"]) == set(NUMBERS)


def test_mlflow_writes_a_local_store_and_goes_on_with_the_same_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = Calls()
    monkeypatch.setitem(sys.modules, "mlflow", fake_mlflow(calls))
    for first_step in (1, 2):
        trackers = start_trackers(["mlflow"], tracked_run(tmp_path, first_step))
        trackers[0].log(RECORD, first_step)
        finish_trackers(trackers)
    store = f"sqlite:///{tmp_path}/mlflow/mlflow.db"
    assert calls.seen == [
        ("client", store),
        ("create_run", "experiment-0", "ward"),
        ("param", "run-0", "lora.rank", 4),
        ("metric", "run-0", "loss", 1.5, 1),
        ("metric", "run-0", "seconds/train", 2.0, 1),
        ("finish", "run-0"),
        ("client", store),
        ("update_run", "run-0", "RUNNING"),
        ("metric", "run-0", "loss", 1.5, 2),
        ("metric", "run-0", "seconds/train", 2.0, 2),
        ("finish", "run-0"),
    ]


@pytest.mark.parametrize(("environment", "mode"), [(None, "offline"), ("online", "online")])
def test_wandb_stays_offline_unless_the_user_says_otherwise(
    environment: str | None, mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    if environment is not None:
        monkeypatch.setenv("WANDB_MODE", environment)
    calls = Calls()
    monkeypatch.setitem(sys.modules, "wandb", fake_wandb(calls))
    trackers = start_trackers(["wandb"], tracked_run(tmp_path))
    trackers[0].log(RECORD, 1)
    finish_trackers(trackers)
    assert calls.seen == [
        (
            "init",
            {
                "project": "confide",
                "name": "ward",
                "id": "3f2a",  # not the name: two runs of one name, in two folders, stay two
                "dir": str(tmp_path),
                "config": {"lora.rank": 4},
                "mode": mode,
                "resume": "allow",
                "settings": {"silent": True},
            },
        ),
        ("log", NUMBERS, 1),
        ("finish",),
    ]
