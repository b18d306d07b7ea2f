"""`confide privacy`: the numbers are the accountant's, for the rows that training would see."""

import json
from pathlib import Path

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from confide.agreed import most_values_sent
from confide.build.model import build_model
from confide.build.privacy import Choice, build_privacy
from confide.canaries.canary_clients import canary_client_names
from confide.cli.privacy import privacy_command, remarks
from confide.config.load import load_config
from confide.errors import ConfigError, UsageError
from confide.privacy.accounting import epsilon
from confide.privacy.client_level import ClientPrivacy
from confide.privacy.events import SampledGaussian
from confide.privacy.randomness import SEEDED_MEANS

app = typer.Typer()
app.command("privacy")(privacy_command)

ROWS = {"north": 20, "south": 8, "east": 12}


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rows = [
        {"instruction": "Dose?", "response": f"{n} mg", "client": name} for name, k in ROWS.items() for n in range(k)
    ]
    Path("wards.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = tmp_path / "wards.toml"
    path.write_text(
        '[model]\nbase = "tiny-llama"\n[data]\npath = "wards.jsonl"\ntemplate = "plain"\nheld_out = 0.0\n'
        "[train]\nmax_tokens = 32\nlocal_steps = 3\nbatch_size = 4\n[federation]\nrounds = 2\n"
    )
    return path


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result


def test_epsilon_is_the_accountants_for_the_client_with_the_fewest_rows(config: Path) -> None:
    shown = json.loads(run(config, "--delta", 1e-3, "--noise", 1.5, "--json").stdout)
    assert (shown["unit"], shown["rounds"], shown["rows"]) == ("example", 2, ROWS)
    (choice,) = shown["choices"]
    step = SampledGaussian(noise_multiplier=1.5, sampling_rate=4 / 8, count=3)
    assert choice["epsilon_round"] == pytest.approx(epsilon([step], 1e-3))
    assert choice["epsilon_run"] == pytest.approx(epsilon([step] * 2, 1e-3))


def test_a_target_is_kept_and_nearly_reached(config: Path) -> None:
    for unit in ("example", "client"):
        shown = json.loads(run(config, "--unit", unit, "--epsilon", 3, "--epsilon", 1, "--json").stdout)
        assert shown["unit"] == unit
        assert [one["asked"] for one in shown["choices"]] == ["epsilon 3", "epsilon 1"]
        for one, target in zip(shown["choices"], (3, 1), strict=True):
            assert 0.98 * target < one["epsilon_run"] <= target
            assert one["epsilon_round"] < one["epsilon_run"]


def test_without_a_question_it_shows_targets_and_the_papers_noise(config: Path) -> None:
    lines = run(config).stdout.splitlines()
    assert "3 clients with 8 to 20 rows each" in lines[0]
    asked = [" ".join(line.split()[:2]) for line in lines[3:11]]
    assert asked == [f"epsilon {one}" for one in (8, 4, 2, 1)] + [f"noise {one}" for one in (0.01, 0.2, 0.5, 0.8)]


def test_noise_for_whole_clients_warns_of_few_of_them(config: Path) -> None:
    shown = run(config, "--unit", "client", "--noise", 1.0).stdout
    assert "caution, noise 1: the noise of a round's mean is" in shown


IMPOSSIBLE = "noise 500"
"""On the grid of 16 bits an update of this model is a few steps long then."""


def test_a_choice_that_is_not_possible_has_a_row_and_a_reason_and_the_others_their_numbers(config: Path) -> None:
    alone = ("--unit", "client", "--noise", 500)
    with pytest.raises(ConfigError) as refused:
        run(config, *alone)
    lines = run(config, *alone, "--epsilon", 8).stdout.splitlines()
    possible, not_possible = (line.split() for line in lines[3:5])
    assert (possible[:2], not_possible) == (["epsilon", "8"], ["noise", "500", "not", "possible"])
    assert float(possible[-1]) <= 8
    assert f"not possible, {IMPOSSIBLE}: {refused.value}" in lines
    shown = json.loads(run(config, *alone, "--epsilon", 8, "--json").stdout)["choices"]
    assert [one["not_possible"] for one in shown] == ["", str(refused.value)]
    assert [one["epsilon_run"] is None for one in shown] == [False, True]
    assert (shown[1]["noise_multiplier"], shown[1]["epsilon_round"], shown[1]["warnings"]) == (None, None, [])


def test_where_no_choice_is_possible_the_first_error_is_raised_and_nothing_shown(config: Path) -> None:
    errors = []
    for noises in ((500,), (500, 900), (900, 500)):
        given = [word for noise in noises for word in ("--noise", noise)]
        with pytest.raises(ConfigError) as refused:
            run(config, "--unit", "client", *given)
        errors.append(str(refused.value))
    assert errors[0] == errors[1] != errors[2]
    with pytest.raises(ConfigError, match=r"^privacy\.delta is 0\.5, and there are 3 clients"):
        run(config, "--unit", "client", "--delta", 0.5)


def test_a_remark_names_the_choices_that_it_is_about_and_equal_ones_stand_once() -> None:
    found = [
        Choice(asked="epsilon 2", noise_multiplier=1.0, epsilon_round=1.0, epsilon_run=2.0, warnings=("Long.",)),
        Choice(asked="epsilon 1", not_possible="Too much."),
        Choice(asked="noise 1", noise_multiplier=1.0, epsilon_round=1.0, epsilon_run=2.0, warnings=("Long.",)),
        Choice(asked="noise 9", noise_multiplier=9.0, epsilon_round=0.1, epsilon_run=0.2, warnings=("Longer.",)),
    ]
    assert remarks(found, seeded_noise=False) == [
        *("caution, epsilon 2, noise 1: Long.", "not possible, epsilon 1: Too much.", "caution, noise 9: Longer."),
    ]


@pytest.mark.parametrize("unit", ["example", "client"])
def test_seeded_noise_is_named_beside_epsilon(config: Path, unit: str) -> None:
    seeded = ("privacy.unit=client", "privacy.target_epsilon=4", "privacy.randomness=seeded")
    given = [part for word in seeded for part in ("--set", word)]
    asked = ("--unit", unit, "--epsilon", 4)
    assert f"{SEEDED_MEANS} (privacy.randomness)" in run(config, *given, *asked).stdout.splitlines()
    assert json.loads(run(config, *given, *asked, "--json").stdout)["seeded_noise"] is True
    assert "seed" not in run(config, *asked).stdout
    assert json.loads(run(config, *asked, "--json").stdout)["seeded_noise"] is False


@pytest.mark.parametrize("bad", [("--noise", 0), ("--epsilon", -1)])
def test_no_noise_is_refused(config: Path, bad: tuple[str, float]) -> None:
    with pytest.raises(UsageError, match="without noise there is no finite epsilon"):
        run(config, *bad)


def test_a_delta_that_is_too_large_for_the_rows_is_refused(config: Path) -> None:
    with pytest.raises(ConfigError, match="rows that client north trains on"):
        run(config, "--delta", 0.2)


@pytest.mark.parametrize(
    ("unit", "words", "key"),
    [
        ("client", ("seal.scheme=plain", "federation.min_clients=2"), "seal.scheme"),
        ("client", ("seal.scheme=plain", "federation.min_clients=1"), "federation.min_clients"),
        ("client", ("evaluate.every_rounds=1",), "evaluate.every_rounds"),
        ("example", ("lora.dropout=0.1",), "lora.dropout"),
        ("example", ("train.gradient_checkpointing=true",), "train.gradient_checkpointing"),
    ],
)
def test_no_epsilon_is_given_where_training_would_be_refused(
    config: Path, unit: str, words: tuple[str, ...], key: str
) -> None:
    given = [part for word in words for part in ("--set", word)]
    with pytest.raises(ConfigError, match=key):
        run(config, *given, "--unit", unit, "--epsilon", 8)


@pytest.mark.parametrize("unit", ["example", "client"])
def test_of_a_run_with_both_units_each_is_looked_at_alone(config: Path, unit: str) -> None:
    both = ("privacy.unit=both", "privacy.target_epsilon=8", "privacy.client_target_epsilon=6")
    given = [part for word in (*both, "privacy.client_clip_norm=0.5") for part in ("--set", word)]
    asked = ("--unit", unit, "--epsilon", 3, "--json")
    assert json.loads(run(config, *given, *asked).stdout) == json.loads(run(config, *asked).stdout)


def test_the_configurations_unit_is_taken_if_none_is_named(config: Path) -> None:
    given = ("--set", "privacy.unit=client", "--set", "privacy.target_epsilon=1.0", "--noise", 2.0, "--json")
    assert json.loads(run(config, *given).stdout)["unit"] == "client"


CANARIES = ("privacy.unit=client", "privacy.noise_multiplier=2", "federation.weights=equal", "audit.record=true")


@pytest.mark.parametrize("number", [0, 10])
def test_canary_clients_count_as_they_do_in_training(config: Path, number: int) -> None:
    words = [*CANARIES, f"audit.canary_clients={number}", f"federation.min_clients={3 + number}", "privacy.delta=0.01"]
    given = [part for word in words for part in ("--set", word)]
    shown = json.loads(run(config, *given, "--noise", 2, "--json").stdout)
    assert (shown["rows"], shown["canary_clients"]) == (ROWS, number)
    (choice,) = shown["choices"]
    settings, names = load_config(config, words), [*ROWS, *canary_client_names(number)]
    num_values = most_values_sent(settings, build_model(settings).layout)
    trained = build_privacy(settings, dict.fromkeys(names, 1), num_values=num_values)
    plan = trained.plans["north"]
    assert isinstance(plan, ClientPrivacy)
    assert choice["epsilon_run"] == plan.epsilon(2)
    assert tuple(choice["warnings"]) == trained.warnings != ()
    first = run(config, *given, "--noise", 2).stdout.splitlines()[0]
    assert ("8 to 20 rows each and 10 canary clients;" in first) == (number == 10)


def test_canary_clients_are_clients_that_delta_is_held_to_and_have_no_rows(config: Path) -> None:
    words = [*CANARIES, "audit.canary_clients=10", "federation.min_clients=13", "privacy.delta=0.08"]
    given = [part for word in words for part in ("--set", word)]
    with pytest.raises(ConfigError, match="there are 13 clients"):
        run(config, *given, "--noise", 2)
    rows, without = (
        run(config, *more, "--delta", 0.01, "--unit", "example", "--noise", 2, "--json").stdout for more in (given, ())
    )
    assert json.loads(rows)["choices"] == json.loads(without)["choices"]
