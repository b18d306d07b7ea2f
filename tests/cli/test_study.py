"""`confide study` as a user meets it."""

import json
import math
import shlex
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from confide.assess import measure_utility
from confide.auditor import results_path
from confide.cli import train as train_module
from confide.cli.audit import read_results
from confide.cli.main import run as run_cli
from confide.config.load import dump_toml
from confide.config.schema import Config
from confide.privacy.randomness import SEEDED_MEANS
from confide.run import RunDirectory
from tests.recorded import recorded_config

STUDY = """
[study]
measures = ["final.membership.loss.records.auc"]
[study.variants]
plain = []
short = ["federation.rounds=1"]
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study's file, whose runs are not there yet."""
    folder = tmp_path_factory.mktemp("study")
    config = recorded_config(
        folder, federation__rounds=2, train__local_epochs=1, audit__views=["final"], audit__attacks=["membership"]
    )
    (folder / "study.toml").write_text(STUDY + dump_toml(config))
    return folder / "study.toml"


def confide(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["confide", *map(str, words)])
    with pytest.raises(SystemExit) as stop:
        run_cli()
    return int(stop.value.code or 0)


def test_a_study_trains_and_audits_what_is_missing_and_nothing_twice(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = study.parent / "runs"
    assert confide(monkeypatch, "study", study, "--only", "plain") == 0
    assert "| measure | plain |" in capsys.readouterr().out
    audited = read_results(runs / "recorded-plain")
    assert shlex.split(audited.command)[:4] == ["confide", "audit", str(runs / "recorded-plain"), "--set"]
    assert audited.run.command == f"confide study {study} --only plain"
    assert not (runs / "recorded-short").exists()
    before = {path: path.read_bytes() for path in (runs / "recorded-plain").rglob("*") if path.is_file()}
    assert confide(monkeypatch, "study", study) == 0
    out, err = capsys.readouterr()
    assert "| measure | plain | short |" in out
    assert "recorded-plain was audited already" in err.replace("\n", " ")
    assert before == {path: path.read_bytes() for path in (runs / "recorded-plain").rglob("*") if path.is_file()}
    assert [len(RunDirectory.open(runs / f"recorded-{name}").records()) for name in ("plain", "short")] == [2, 1]
    assert read_results(runs / "recorded-short").run.num_rounds == 1
    assert "recorded-short" in (runs / "recorded.html").read_text()
    assert confide(monkeypatch, "study", study, "--set", 'audit.attacks=["exposure", "membership"]') == 0
    assert read_results(runs / "recorded-plain").settings["attacks"] == ["exposure", "membership"]
    shutil.rmtree(results_path(runs / "recorded-plain").parent)
    assert confide(monkeypatch, "study", study, "--no-train") == 2
    assert "was not audited yet" in capsys.readouterr().err
    assert confide(monkeypatch, "study", study) == 0
    assert "| measure | plain | short |" in capsys.readouterr().out


def test_training_a_study_s_file_says_that_its_variants_are_left_out(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trained: list[Config] = []
    monkeypatch.setattr(train_module, "train", lambda config, **_: trained.append(config))
    assert confide(monkeypatch, "train", study) == 0
    assert "has a table [study], which `confide train` leaves alone" in capsys.readouterr().err
    plain = study.with_name("plain.toml")
    plain.write_text(study.read_text().removeprefix(STUDY))
    assert confide(monkeypatch, "train", plain) == 0
    assert capsys.readouterr().err == ""
    assert trained[0] == trained[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--only", "long"), "has no variant 'long'. There are plain, short."),
        (("--set", "federation.rounds=5"), "was started with another configuration"),
    ],
)
def test_what_does_not_fit_the_study_ends_with_2(
    study: Path,
    words: tuple[str, ...],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if words[0] == "--set":
        confide(monkeypatch, "study", study, "--only", "plain")
        capsys.readouterr()
    assert confide(monkeypatch, "study", study, *words) == 2
    assert message in capsys.readouterr().err.replace("\n", " ")


def rows_of(output: str) -> list[list[str]]:
    """The rows of a printed Markdown table, without its head."""
    lines = [line for line in output.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_a_study_of_usefulness_trains_measures_and_draws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = recorded_config(tmp_path, federation__rounds=1, train__local_epochs=1, audit__record=False)
    path = tmp_path / "study.toml"
    private = '"privacy.unit=example", "privacy.target_epsilon=8", "privacy.delta=1e-3"'
    variants = f'plain = []\nrow = [{private}]\nseeded = [{private}, "privacy.randomness=seeded"]'
    path.write_text(f"[study]\nutility = true\nseeds = [0, 1]\n[study.variants]\n{variants}\n" + dump_toml(config))
    runs = tmp_path / "runs"
    assert confide(monkeypatch, "study", path, "--no-train") == 2
    assert "variant plain was not trained yet" in capsys.readouterr().err
    assert confide(monkeypatch, "study", path) == 0
    out = capsys.readouterr().out
    plain, row, seeded = rows_of(out)
    assert (plain[0], plain[2], row[0]) == ("plain", "no guarantee", "row")
    assert seeded[2] == f"{row[2]} (seeded noise)"
    assert f"Note: {SEEDED_MEANS}." in out.splitlines()
    assert 7.5 < float(row[2]) <= 8.0
    assert (plain[5], row[5]) == ("2", "2")
    assert (runs / "recorded.svg").read_text().startswith("<svg")
    assert sorted(run.name for run in runs.glob("recorded-*")) == [
        f"recorded-{name}-seed{seed}" for name in ("plain", "row", "seeded") for seed in (0, 1)
    ]
    measured = json.loads((runs / "recorded-plain-seed1" / "utility.json").read_text())
    evaluation, base = measure_utility(runs / "recorded-plain-seed1")
    assert measured == {"loss": evaluation.overall.value("loss"), "base_loss": base.overall.value("loss")}
    assert measured["loss"] != measured["base_loss"]
    shutil.rmtree(runs / "recorded-row-seed1")
    assert confide(monkeypatch, "study", path, "--no-train") == 0
    plain, row, _ = rows_of(capsys.readouterr().out)
    assert (plain[5], row[5]) == ("2", "1")  # what is there is shown, and how much that is


def test_a_study_stops_at_a_loss_that_is_not_finite_and_says_of_which_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = recorded_config(tmp_path, federation__rounds=1, train__local_epochs=1, audit__record=False)
    path = tmp_path / "study.toml"
    path.write_text("[study]\nutility = true\nseeds = [0]\n[study.variants]\nplain = []\n" + dump_toml(config))
    diverged = SimpleNamespace(overall=SimpleNamespace(value=lambda name: math.inf))
    monkeypatch.setattr("confide.assess.measure_utility", lambda run: (diverged, diverged))
    assert confide(monkeypatch, "study", path) == 1
    told = " ".join(capsys.readouterr().err.split())
    assert "recorded-plain-seed0: the held-out loss is inf" in told
    assert "Lower train.learning_rate" in told
    assert not (tmp_path / "runs" / "recorded-plain-seed0" / "utility.json").exists()
