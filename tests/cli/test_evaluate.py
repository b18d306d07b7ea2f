import json
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from confide.assess import assess_run, compare_run
from confide.baselines import plan_baselines
from confide.build import build_records
from confide.cli.evaluate import evaluate_command
from confide.cli.train import train
from confide.config.load import dump_toml, parse_config
from confide.config.schema import Config
from confide.errors import DataError, RunDirectoryError
from confide.evaluate.metrics import is_exact_match
from confide.federate import Observer
from confide.records import RoundRecord
from confide.run import RunDirectory

MODELS = ["base", "alone", "federated", "pooled"]


class Rounds(Observer):
    def __init__(self) -> None:
        self.finished: list[int] = []

    def round_started(self, round_number: int, num_rounds: int, num_clients: int) -> None:
        pass

    def round_finished(self, record: RoundRecord, num_rounds: int) -> None:
        self.finished.append(record.round_number)


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    app.command()(evaluate_command)
    return app


def _evaluate(app: typer.Typer, *words: str) -> str:
    result = CliRunner().invoke(app, list(words), env={"COLUMNS": "200"}, catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_evaluate_shows_every_client_and_the_whole(app: typer.Typer, tiny_run: Path) -> None:
    shown = _evaluate(app, str(tiny_run))
    for word in ("north", "south", "west", "overall", "perplexity", "ROUGE-L", "exact match", "multiple choice"):
        assert word in shown


def test_evaluate_as_json_prints_what_it_saves(app: typer.Typer, tiny_run: Path) -> None:
    printed = json.loads(_evaluate(app, str(tiny_run), "--json"))
    assert printed == json.loads((tiny_run / "evaluation.json").read_text())
    assert printed["round"] == 2
    assert list(printed["federated"]["clients"]) == ["north", "south", "west"]
    assert printed["federated"]["clients"]["west"]["num_choice"] == 2
    assert printed["federated"]["clients"]["north"]["num_exact_match"] == 2
    assert printed["federated"]["overall"]["num_examples"] == 6


def test_limits_given_replace_those_of_the_run(app: typer.Typer, tiny_run: Path) -> None:
    words = ["--max-examples", "1", "--max-new-tokens", "0", "--json"]
    overall = json.loads(_evaluate(app, str(tiny_run), *words))["federated"]["overall"]
    assert (overall["num_examples"], overall["num_answered"], overall["rouge_l"]) == (3, 0, None)


def test_baselines_are_trained_once_and_shown_side_by_side(app: typer.Typer, tiny_run: Path) -> None:
    shown = _evaluate(app, str(tiny_run), "--baselines")
    assert all(model in shown for model in MODELS)
    assert "held-out loss" in shown
    rounds = Rounds()
    again = compare_run(tiny_run, observer=rounds)
    assert rounds.finished == []
    saved = json.loads((tiny_run / "comparison.json").read_text())
    assert saved == json.loads(json.dumps(again.to_json()))
    assert saved["verdict"] in " ".join(shown.split())


@contextmanager
def _stopped_after(run: Path, number: int) -> Iterator[None]:
    """Hides the later rounds of a finished run, and what tells of them."""
    hidden = [folder for folder in sorted((run / "rounds").iterdir()) if int(folder.name) > number]
    told, final = (run / "rounds.jsonl").read_text(), (run / "final").readlink()
    for folder in hidden:
        folder.rename(run / f"aside-{folder.name}")
    (run / "final").unlink()
    (run / "rounds.jsonl").write_text("".join(told.splitlines(keepends=True)[:number]))
    try:
        yield
    finally:
        for folder in hidden:
            (run / f"aside-{folder.name}").rename(folder)
        (run / "final").symlink_to(final)
        (run / "rounds.jsonl").write_text(told)


def test_alone_each_client_is_measured_with_its_own_model(tiny_run: Path) -> None:
    comparison = compare_run(tiny_run, observer=Rounds()).comparison
    assert comparison is not None
    losses = {name: [c.scores.value("loss") for c in evaluation.clients] for name, evaluation in comparison.models}
    assert len({tuple(values) for values in losses.values()}) == len(MODELS)
    # As if south had stopped after round 1: then that is its own model. The others are as they were.
    with _stopped_after(tiny_run / "baselines" / "alone-south", 1):
        undone = compare_run(tiny_run, observer=Rounds()).comparison
    assert undone is not None
    changed = [
        before.name
        for before, after in zip(comparison.alone.clients, undone.alone.clients, strict=True)
        if before.scores.value("loss") != after.scores.value("loss")
    ]
    assert changed == ["south"]


def test_the_untrained_round_scores_as_the_base_model(tiny_run: Path) -> None:
    comparison = compare_run(tiny_run, observer=Rounds()).comparison
    assert comparison is not None
    with _stopped_after(tiny_run, 0):
        untrained = assess_run(tiny_run).federated
    assert untrained.to_json() == comparison.base.to_json()


def test_baselines_of_a_run_that_is_not_finished_are_refused(tiny_run: Path) -> None:
    info = (tiny_run / "run.json").read_text()
    (tiny_run / "run.json").write_text(info.replace('"finished"', '"interrupted"'))
    try:
        with pytest.raises(RunDirectoryError, match=r"is interrupted, expected finished.*confide resume"):
            compare_run(tiny_run, observer=Rounds())
    finally:
        (tiny_run / "run.json").write_text(info)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match="is no run directory"):
        assess_run(tmp_path)


def test_a_run_that_kept_nothing_aside_is_refused(make_config: Callable[..., Config]) -> None:
    run = train(make_config(data__held_out=0.0, federation__rounds=1))
    with pytest.raises(DataError, match=r"none of the 3 clients has held-out records.*data\.held_out"):
        assess_run(run)


@pytest.mark.parametrize("optimizer", ["fedavgm", "fedadam", "scaffold"])
def test_a_baselines_own_configuration_can_be_read_again(optimizer: str, make_config: Callable[..., Config]) -> None:
    settings: dict[str, dict[str, Any]] = {
        "fedavgm": {"federation__server_momentum": 0.5},
        "fedadam": {"federation__server_beta2": 0.9},
    }
    scaffold: dict[str, Any] = {"train__optimizer": "sgd", "federation__weights": "equal", "train__clip_grad_norm": 0.0}
    config = make_config(federation__server_optimizer=optimizer, **settings.get(optimizer, scaffold))
    clients = build_records(config)
    for baseline in plan_baselines(config, clients, {client.name: 2 for client in clients}):
        assert parse_config(tomllib.loads(dump_toml(baseline.config))) == baseline.config


def test_a_client_alone_takes_the_local_steps_that_it_took_in_the_federation(
    make_config: Callable[..., Config],
) -> None:
    """Five rounds of one client each: nobody is in all of them, and with the seed 0 one client is in none."""
    one_each = {"federation__clients_per_round": 1, "federation__min_clients": 1, "seal__scheme": "plain"}
    run = train(make_config(federation__rounds=5, evaluate__max_new_tokens=1, **one_each))
    rounds = Counter(member for record in RunDirectory.open(run).records() for member in record.members)
    assert sum(rounds.values()) == 5
    assert len(rounds) == 2
    comparison = compare_run(run, observer=Rounds()).comparison
    found = {folder.name: RunDirectory.open(folder).last_round() for folder in (run / "baselines").iterdir()}
    assert found == {"pooled": 5} | {f"alone-{name}": count for name, count in rounds.items()}
    assert comparison is not None
    (idle,) = {client.name for client in comparison.alone.clients} - rounds.keys()
    base, alone = (
        next(client.scores.value("loss") for client in evaluation.clients if client.name == idle)
        for evaluation in (comparison.base, comparison.alone)
    )
    assert alone == base


def test_the_exact_match_that_evaluate_describes_is_the_one_it_measures(app: typer.Typer, tiny_run: Path) -> None:
    described = json.loads(_evaluate(app, str(tiny_run), "--json"))["measures"]["exact_match"]
    assert "equal the record's short answer" in described
    assert not is_exact_match("Asthma", "The answer is asthma")
    assert is_exact_match("Asthma", "the asthma!")
    assert "a number, whose last number equals it" in described
    assert is_exact_match("18", "9 and 9 make 18")
