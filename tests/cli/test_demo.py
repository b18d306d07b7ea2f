"""The demo on a tiny model: what it shows, and that machine output stands alone on standard output."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from confide.assess import compare_run
from confide.build import model as build_model_module
from confide.cli.demo import demo_command
from confide.cli.train import train
from confide.config.load import load_config
from confide.errors import DataError
from confide.federate import Observer
from confide.model.load import BaseModel, load_base_model
from confide.records import RoundRecord

SMALL = [
    'model.base="tiny-llama"',
    "data.clinic_letters=8",
    "data.clinic_instructions=4",
    "data.held_out=0.2",
    "lora.rank=2",
    "train.local_steps=1",
    "train.max_tokens=640",
    "federation.rounds=1",
    "evaluate.max_examples=1",
    "evaluate.max_new_tokens=4",
    "run.threads=1",
]


class Silence(Observer):
    def round_started(self, round_number: int, num_rounds: int, num_clients: int) -> None: ...

    def round_finished(self, record: RoundRecord, num_rounds: int) -> None: ...


def run_demo(folder: Path, *words: str) -> Result:
    app = typer.Typer()
    app.command()(demo_command)
    overrides = [word for setting in SMALL for word in ("--set", setting)]
    arguments = ["--folder", str(folder), *overrides, *words]
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"}, catch_exceptions=False)
    assert result.exit_code == 0
    return result


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def plain(folder: Path) -> Result:
    return run_demo(folder)


@pytest.fixture(scope="module")
def machine(folder: Path, plain: Result) -> Result:
    return run_demo(folder, "--json")


def test_the_demo_shows_rounds_answers_and_the_comparison(plain: Result, folder: Path) -> None:
    for words in ("round 1/1", "before:", "after:", "federated", "pooled", f"confide generate {folder / 'demo'}"):
        assert words in plain.stdout


def test_the_demo_as_json_is_one_object_with_what_the_run_says(machine: Result, folder: Path) -> None:
    shown = json.loads(machine.stdout)
    run = folder / "demo-2"  # the plain one before it took the first name
    assert shown["run"] == str(run)
    assert shown["rounds"] == [json.loads(line) for line in (run / "rounds.jsonl").read_text().splitlines()]
    assert shown["comparison"] == json.loads((run / "comparison.json").read_text())
    assert shown["record"].keys() == {"instruction", "expected", "before", "after"}
    assert shown["seconds"] > 0


def test_with_json_the_human_reads_the_same_on_standard_error(machine: Result) -> None:
    for words in ("round 1/1", "before:", "after:", "pooled", "confide generate"):
        assert words in machine.stderr


def test_the_demo_loads_its_model_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []

    def load(name: str, **options: Any) -> BaseModel:
        loaded.append(name)
        return load_base_model(name, **options)

    monkeypatch.setattr(build_model_module, "load_base_model", load)
    run_demo(tmp_path)
    assert loaded == ["tiny-llama"]


def test_one_model_for_all_gives_the_same_as_a_model_loaded_for_each(machine: Result, folder: Path) -> None:
    shown = json.loads(machine.stdout)
    again = train(load_config(folder / "demo-2" / "config.toml", ['run.name="again"']))
    adapters = [run / "final" / "adapter_model.safetensors" for run in (folder / "demo-2", again)]
    assert adapters[0].read_bytes() == adapters[1].read_bytes()
    comparison = json.loads(json.dumps(compare_run(again, observer=Silence()).to_json()))
    assert {**comparison, "run": "demo-2"} == shown["comparison"]


def set_keys(*settings: str) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


def test_records_that_are_no_instructions_leave_the_answers_out_with_a_word(tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl"
    rows = [{"text": f"note {number} of {name}", "client": name} for name in ("a", "b", "c") for number in range(5)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    own_data = ("data.source=jsonl", f"data.path={path}", "data.clinic_letters=40", "data.clinic_instructions=20")
    result = run_demo(tmp_path, *set_keys(*own_data), "--json")
    assert json.loads(result.stdout)["record"] is None
    assert "left out: no record that was kept aside is an instruction" in result.stderr


def test_a_demo_that_keeps_nothing_aside_is_refused_before_it_trains(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no client keeps any aside\. Set data\.held_out above 0"):
        run_demo(tmp_path, *set_keys("data.held_out=0", "evaluate.every_rounds=0"))
    assert not (tmp_path / "demo").exists()


def test_a_folder_may_have_any_name(tmp_path: Path) -> None:
    folder = tmp_path / """d'm"x é = [1]"""
    result = run_demo(folder, *set_keys("evaluate.max_new_tokens=1", "data.clinic_letters=4"))
    assert (folder / "demo" / "run.json").exists()
    assert f"confide generate {shlex.quote(str(folder / 'demo'))} " in result.stdout
