"""A run killed at any moment goes on to the same bits.

Each attempt is a forked child that counts events (a local step, a file synced or renamed, a message handled) and kills
itself with SIGKILL at a chosen one; the next attempt resumes. Events are drawn from all of a run's, so kills fall into
every phase.
"""

import json
import os
import shutil
import signal
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from confide.assess import assess_run, compare_run
from confide.build import model as build_model_module
from confide.cli.train import resume_command, train
from confide.config.schema import Config
from confide.errors import (
    ConfigError,
    MessageError,
    NonFiniteLossError,
    RunDirectoryError,
    RunInterrupted,
    StorageError,
)
from confide.federate import Observer
from confide.messages import OpenRequest
from confide.parties.client import Client
from confide.records import RoundRecord
from confide.run import RunDirectory
from confide.train.local import LocalTrainer
from confide.train.outcome import StepReport
from tests.interrupts import press_ctrl_c_at

ConfigMaker = Callable[..., Config]

SCAFFOLD = {
    "federation__server_optimizer": "scaffold",
    "train__optimizer": "sgd",
    "train__clip_grad_norm": 0.0,
    "federation__weights": "equal",
}
TWO_OF_THREE = {"federation__clients_per_round": 2, "federation__min_clients": 2, "federation__rounds": 4}
KINDS: dict[str, dict[str, Any]] = {
    "fedavg": {},
    "fedavgm": {"federation__server_optimizer": "fedavgm"},
    "fedadagrad": {"federation__server_optimizer": "fedadagrad", "federation__server_learning_rate": 0.05},
    "fedadam": {
        "federation__server_optimizer": "fedadam",
        "federation__server_learning_rate": 0.05,
        "lora__average": "alternate",
    },
    "fedyogi": {
        "federation__server_optimizer": "fedyogi",
        "federation__server_learning_rate": 0.05,
        "lora__average": "factors",
        "lora__dropout": 0.2,
    },
    "scaffold": {**SCAFFOLD, "federation__clients_per_round": 3},
    "sampled, alternate": {**TWO_OF_THREE, "lora__average": "alternate"},
    "sampled scaffold": {**TWO_OF_THREE, **SCAFFOLD},
    "sampled scaffold, alternate": {**TWO_OF_THREE, **SCAFFOLD, "lora__average": "alternate"},
    "sampled, common mask": {**TWO_OF_THREE, "prune__mask": "common", "prune__sparsity": 0.5},
    "alternate, random mask": {
        "federation__rounds": 4,
        "lora__average": "alternate",
        "prune__mask": "random",
        "prune__sparsity": 0.5,
    },
}
KILLS_PER_KIND = 4  # 44 kills in all
NUM_LAST_EVENTS = 30  # from before the last round is published to the end


class Silence(Observer):
    def round_started(self, round_number: int, num_rounds: int, num_clients: int) -> None: ...

    def round_finished(self, record: RoundRecord, num_rounds: int) -> None: ...


class Events:
    """Counts what happens in a run, and ends the process at event number `fatal`."""

    def __init__(self, fatal: int | None = None) -> None:
        self.count = 0
        self.fatal = fatal

    def happen(self) -> None:
        self.count += 1
        if self.count == self.fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(self, patch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
        """Counts an event before and after each call."""
        original = getattr(owner, name)

        def watched(*arguments: Any, **named: Any) -> Any:
            self.happen()
            result = original(*arguments, **named)
            self.happen()
            return result

        patch.setattr(owner, name, watched)

    def watch_everything(self, patch: pytest.MonkeyPatch) -> None:
        for owner, name in [
            (os, "fsync"),
            (os, "unlink"),
            (os, "rmdir"),
            (shutil, "rmtree"),
            (Path, "replace"),
            (Path, "rename"),
            (Path, "write_bytes"),
            (Path, "write_text"),
            (Client, "handle"),
            (Client, "_report_step"),
            (LocalTrainer, "train"),
            (RunDirectory, "publish"),
        ]:
            self.watch(patch, owner, name)


def in_child(body: Callable[[], None]) -> int:
    """Runs the body in a forked process and gives its exit code, or minus the signal that ended it."""
    child = os.fork()
    if child == 0:
        try:
            body()
            code = 0
        except BaseException:  # noqa: BLE001  whatever it is, the parent has to be told
            traceback.print_exc()
            code = 1
        os._exit(code)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def attempt(config: Config, fatal: int | None) -> int:
    """Starts the run, or resumes it where it is, and dies at event `fatal`."""
    folder = Path(config.run.folder) / config.run.name

    def body() -> None:
        with pytest.MonkeyPatch.context() as patch:
            Events(fatal).watch_everything(patch)
            if (folder / "run.json").exists():
                resume_command(folder)
            else:
                train(config)

    return in_child(body)


def is_finished(folder: Path) -> bool:
    return folder.exists() and json.loads((folder / "run.json").read_text())["status"] == "finished"


def artefacts(folder: Path) -> dict[str, bytes]:
    """What must be equal to the bit: adapters and states of all rounds."""
    files = sorted(path for path in (folder / "rounds").rglob("*") if path.suffix in (".safetensors",))
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "rounds.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_killed_at_random_moments_ends_in_the_same_bits(
    kind: str, make_config: ConfigMaker, tmp_path: Path
) -> None:
    settings = KINDS[kind]
    whole = make_config(run__name="whole", **settings)
    events = Events()
    with pytest.MonkeyPatch.context() as patch:
        events.watch_everything(patch)
        train(whole)
    rng = np.random.default_rng(list(KINDS).index(kind))
    killed = make_config(run__name="killed", **settings)
    folder = tmp_path / "runs"
    # One kill in each quarter of the run, counted from where the attempt before got to.
    for quarter in range(KILLS_PER_KIND):
        remaining = events.count - events.count * quarter // KILLS_PER_KIND
        fatal = int(rng.integers(1, max(2, remaining // 2)))
        assert attempt(killed, fatal) == -signal.SIGKILL, "the child was not killed; a traceback may stand above"
    if not is_finished(folder / "killed"):
        assert attempt(killed, None) == 0
    assert artefacts(folder / "killed") == artefacts(folder / "whole")
    assert losses(folder / "killed") == losses(folder / "whole")
    assert (folder / "killed" / "final").readlink() == Path(f"rounds/{whole.federation.rounds:04d}")
    assert not list(folder.rglob(".tmp-*"))


def test_kills_fall_into_every_phase(make_config: ConfigMaker, tmp_path: Path) -> None:
    """Every seventh event of a one-round run is fatal once: start, training, opening, saving, publishing.

    So is each of the last: publishing, dropping what clients keep to themselves, saying that the run is finished.
    """
    settings = {"federation__rounds": 1, "train__local_steps": 1}
    events = Events()
    with pytest.MonkeyPatch.context() as patch:
        events.watch_everything(patch)
        train(make_config(run__name="whole", **settings))
    expected = artefacts(tmp_path / "runs" / "whole")
    last = range(events.count - NUM_LAST_EVENTS, events.count + 1)
    for fatal in [*range(1, last.start, 7), *last]:
        config = make_config(run__name=f"killed-{fatal}", **settings)
        folder = tmp_path / "runs" / config.run.name
        assert attempt(config, fatal) == -signal.SIGKILL
        if not is_finished(folder):
            assert attempt(config, None) == 0
        assert is_finished(folder)
        assert artefacts(folder) == expected
        assert not list(folder.glob("rounds/*/state"))
        assert len(losses(folder)) == 1
        assert (folder / "final").readlink() == Path("rounds/0001")
        assert not list(folder.parent.rglob(".tmp-*"))


def stopped_run(config: Config) -> Path:
    """A run that was stopped in its second round."""
    original = Client._report_step

    def stop_in_round_two(self: Client, report: StepReport) -> None:
        original(self, report)
        if self.state.shared.round_number == 1:
            raise RunInterrupted("enough")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Client, "_report_step", stop_in_round_two)
        with pytest.raises(RunInterrupted):
            train(config)
    return Path(config.run.folder) / config.run.name


def test_changed_data_is_refused_and_named(make_config: ConfigMaker, tmp_path: Path, short_texts: Path) -> None:
    rows = short_texts.read_text().splitlines(keepends=True)
    path = tmp_path / "own.jsonl"
    path.write_text("".join(rows))
    folder = stopped_run(make_config(data__path=str(path)))
    path.write_text("".join([rows[0].replace("say ab", "say xy"), *rows[1:]]))
    with pytest.raises(RunDirectoryError, match=r"the data of north is not what the run .* was started with"):
        resume_command(folder)
    path.write_text("".join(reversed(rows)))  # rows without ids of their own are known by their line
    with pytest.raises(RunDirectoryError, match=r"the data of north, south, west is not what"):
        resume_command(folder)
    path.write_text("".join(rows))
    resume_command(folder)
    path.write_text("".join(reversed(rows)))
    with pytest.raises(RunDirectoryError, match="is not what the run"):
        assess_run(folder)


def test_a_run_with_rounds_that_does_not_name_its_data_is_refused(make_config: ConfigMaker) -> None:
    folder = stopped_run(make_config())
    info = json.loads((folder / "run.json").read_text())
    del info["data_digests"]
    (folder / "run.json").write_text(json.dumps(info))
    with pytest.raises(RunDirectoryError, match="has rounds but no data_digests: it is damaged"):
        resume_command(folder)


def test_what_clients_keep_to_themselves_does_not_stay_in_the_run(
    make_config: ConfigMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(**SCAFFOLD, federation__min_clients=2)
    folder = stopped_run(config)
    assert [path.parent.name for path in folder.glob("rounds/*/state")] == ["0001"]
    original = Client._open
    pending: list[int] = []

    def miss_the_last_round(self: Client, request: OpenRequest) -> bytes:
        if self.name == "south" and request.round_number == config.federation.rounds:
            pending.extend(path.stat().st_mode & 0o777 for path in folder.glob("clients/0002/pending"))
            raise MessageError("asleep")
        return original(self, request)

    monkeypatch.setattr(Client, "_open", miss_the_last_round)
    resume_command(folder)
    assert pending == [0o600]
    assert not list(folder.glob("rounds/*/state"))
    # What each released and tried stays: digests and names, which keep it from doing so twice.
    assert {path.name for path in folder.glob("clients/*/*")} == {"releases.jsonl", "tried.json"}


def test_a_stop_by_the_user_is_resumable_to_the_same_bits(
    make_config: ConfigMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(make_config(run__name="whole"))
    config = make_config(run__name="stopped")
    with monkeypatch.context() as patch:
        steps = press_ctrl_c_at(8, patch)
        with pytest.raises(RunInterrupted, match=r"every complete round is saved\. Go on with: confide resume"):
            train(config)
    info = json.loads((tmp_path / "runs" / "stopped" / "run.json").read_text())
    assert info["status"] == "interrupted"
    assert len(steps) == 8  # stopped at the very next check, not at the end of the round
    resume_command(tmp_path / "runs" / "stopped")
    assert artefacts(tmp_path / "runs" / "stopped") == artefacts(tmp_path / "runs" / "whole")


def test_a_failed_run_keeps_its_rounds_and_says_why(
    make_config: ConfigMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config()
    original = LocalTrainer.train

    def diverge_in_round_two(self: LocalTrainer, **named: Any) -> Any:
        if named["round_number"] == 2:
            named["learning_rate"] = float("inf")
        return original(self, **named)

    monkeypatch.setattr(LocalTrainer, "train", diverge_in_round_two)
    with pytest.raises(NonFiniteLossError, match=r"client north, round 2, step 2: .*Lower train.learning_rate"):
        train(config)
    folder = tmp_path / "runs" / "tiny"
    info = json.loads((folder / "run.json").read_text())
    assert info["status"] == "failed"
    assert "Lower train.learning_rate" in info["reason"]
    assert (folder / "final").readlink() == Path("rounds/0001")
    assert len(losses(folder)) == 1


@pytest.mark.parametrize(
    ("owner", "method", "file"),
    [
        (os, "open", "global.safetensors"),
        (os, "open", "adapter_model.safetensors"),
        (Path, "write_text", "record.json"),
    ],
)
def test_a_full_disk_keeps_the_old_checkpoint(
    owner: Any, method: str, file: str, make_config: ConfigMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(make_config(run__name="whole"))
    config = make_config(run__name="full")
    original: Callable[..., Any] = getattr(owner, method)

    def full_in_round_two(path: Any, *arguments: Any, **named: Any) -> Any:
        writes = method != "open" or arguments[0] & (os.O_WRONLY | os.O_RDWR)
        if file in str(path) and "0002" in str(path) and writes:
            raise OSError(28, "No space left on device")
        return original(path, *arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(owner, method, full_in_round_two)
        with pytest.raises(StorageError, match=r"No space left on device\. What was saved before is intact"):
            train(config)
    folder = tmp_path / "runs" / "full"
    assert (folder / "final").readlink() == Path("rounds/0001")
    resume_command(folder)
    assert artefacts(folder) == artefacts(tmp_path / "runs" / "whole")


def test_a_run_directory_that_exists_is_not_overwritten(make_config: ConfigMaker, tmp_path: Path) -> None:
    config = make_config(federation__rounds=1)
    train(config)
    before = artefacts(tmp_path / "runs" / "tiny")
    with pytest.raises(RunDirectoryError, match=r"exists already: resume it with `confide resume .*run.name=NAME"):
        train(config)
    assert artefacts(tmp_path / "runs" / "tiny") == before
    with pytest.raises(RunDirectoryError, match="is finished: there is nothing to resume"):
        resume_command(tmp_path / "runs" / "tiny")


def test_resume_with_a_changed_config_names_the_keys(make_config: ConfigMaker, tmp_path: Path) -> None:
    train(make_config(federation__rounds=1))
    with pytest.raises(ConfigError, match=r"(?s)another configuration:.*train.learning_rate.*0\.5.*new run"):
        resume_command(tmp_path / "runs" / "tiny", overrides=["train.learning_rate=0.5"])


def test_a_config_edited_in_the_run_directory_is_refused_and_the_keys_named(make_config: ConfigMaker) -> None:
    folder = stopped_run(make_config())
    path = folder / "config.toml"
    original = path.read_text()
    path.write_text(original.replace("learning_rate = 0.05", "learning_rate = 0.5").replace("rounds = 3", "rounds = 9"))
    message = (
        r"(?s)started with another configuration:\n    train\.learning_rate: 0\.05 -> 0\.5\n"
        r"    federation\.rounds: 3 -> 9\nUndo them in .*config\.toml, or start a new run"
    )
    with pytest.raises(ConfigError, match=message):
        resume_command(folder)
    with pytest.raises(ConfigError, match=message):  # whatever else is given: who reads the run reads this file
        resume_command(folder, overrides=["train.learning_rate=0.05", "federation.rounds=3"])
    path.write_text(original)
    resume_command(folder)


def test_keys_that_change_no_bit_may_be_edited(make_config: ConfigMaker, tmp_path: Path) -> None:
    folder = stopped_run(make_config())
    moved = folder.rename(tmp_path / "elsewhere")
    path = moved / "config.toml"
    path.write_text(path.read_text().replace(f'folder = "{tmp_path}/runs"', 'folder = "other"'))
    assert 'folder = "other"' in path.read_text()
    resume_command(moved)


@pytest.fixture
def threads_set(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What torch was told, which is not done: the number of threads of these tests stays one."""
    told: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", told.append)
    return told


def test_a_resume_computes_with_as_many_threads_as_the_start_whatever_cores_are_free(
    make_config: ConfigMaker, monkeypatch: pytest.MonkeyPatch, threads_set: list[int]
) -> None:
    monkeypatch.setattr(build_model_module, "_physical_cores", lambda: 3)
    folder = stopped_run(make_config(run__threads=0))
    monkeypatch.setattr(build_model_module, "_physical_cores", lambda: 2)
    with pytest.raises(ConfigError, match=r"(?s)another configuration:\n    run\.threads: 3 -> 2\n"):
        resume_command(folder, overrides=["run.threads=2"])
    resume_command(folder, overrides=["run.threads=3"])
    assert threads_set == [3, 3]
    assert RunDirectory.open(folder).threads == 3
    compare_run(folder, observer=Silence())
    assert threads_set[-1] == 3  # the baselines too
    assert RunDirectory.open(folder / "baselines" / "pooled").threads == 3


def test_a_resume_with_the_kept_number_of_threads_needs_no_wish(
    make_config: ConfigMaker, monkeypatch: pytest.MonkeyPatch, threads_set: list[int]
) -> None:
    monkeypatch.setattr(build_model_module, "_physical_cores", lambda: 3)
    folder = stopped_run(make_config(run__threads=0))
    monkeypatch.setattr(build_model_module, "_physical_cores", lambda: 1)
    resume_command(folder)
    assert threads_set == [3, 3]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("device", "cuda", r"started with run\.device cuda, and here it would go on with cpu: the result would be"),
        ("dtype", "torch.bfloat16", r"started with model\.dtype torch\.bfloat16, and here .* with torch\.float32"),
    ],
)
def test_a_resume_on_another_device_or_in_another_number_type_is_refused(
    key: str, value: str, message: str, make_config: ConfigMaker
) -> None:
    folder = stopped_run(make_config())
    RunDirectory.open(folder).set_status("interrupted", **{key: value})
    with pytest.raises(RunDirectoryError, match=message):
        resume_command(folder)
    assert RunDirectory.open(folder).info[key] == value


@pytest.mark.parametrize("content", ["{}", '{"name": "tiny"}'])
def test_a_run_json_without_a_status_is_said_to_be_damaged(content: str, make_config: ConfigMaker) -> None:
    folder = stopped_run(make_config())
    (folder / "run.json").write_text(content)
    with pytest.raises(RunDirectoryError, match=r"run\.json names no status: it is damaged"):
        resume_command(folder)
    with pytest.raises(RunDirectoryError, match=r"run\.json names no status: it is damaged"):
        assess_run(folder)


def test_clients_with_long_names_in_any_script_train_resume_and_compare(
    make_config: ConfigMaker, tmp_path: Path, short_texts: Path
) -> None:
    names = {"north": "東京大学医学部附属病院" * 3, "south": "Ж" * 64, "west": "Clinic No. 3, St. Mary's / left wing"}
    rows = short_texts.read_text()
    for plain, name in names.items():
        rows = rows.replace(f'"client": "{plain}"', f'"client": "{name}"')
    (tmp_path / "own.jsonl").write_text(rows)
    folder = stopped_run(make_config(data__path=str(tmp_path / "own.jsonl")))
    resume_command(folder)
    comparison = compare_run(folder, observer=Silence()).comparison
    assert comparison is not None
    assert {client.name for client in comparison.alone.clients} == set(names.values())
    told = {RunDirectory.open(path).info["name"] for path in (folder / "baselines").iterdir()}
    assert told == {"pooled", *(f"alone-{name}" for name in names.values())}


def test_what_is_no_run_directory_is_said(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match="is no run directory"):
        resume_command(tmp_path)


def test_one_process_at_a_time(make_config: ConfigMaker, tmp_path: Path) -> None:
    train(make_config(federation__rounds=1))
    directory = RunDirectory.open(tmp_path / "runs" / "tiny")
    with (
        directory.locked(),
        pytest.raises(RunDirectoryError, match="another process is working on the run"),
        RunDirectory.open(tmp_path / "runs" / "tiny").locked(),
    ):
        pass


def test_a_failure_before_the_start_leaves_no_run(make_config: ConfigMaker, tmp_path: Path) -> None:
    config = make_config(lora__targets=["no_such_layer"])
    with pytest.raises(Exception, match="no_such_layer"):
        train(config)
    assert not (tmp_path / "runs" / "tiny").exists()


def test_a_damaged_checkpoint_is_refused(make_config: ConfigMaker, tmp_path: Path) -> None:
    folder = stopped_run(make_config())
    state = folder / "rounds" / "0001" / "state" / "global.safetensors"
    data = bytearray(state.read_bytes())
    data[-1] ^= 1
    state.write_bytes(data)
    with pytest.raises(RunDirectoryError, match="does not match its digest"):
        resume_command(folder)
