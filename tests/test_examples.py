"""Every example opens with the command that runs it, and that command's configuration loads."""

import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from confide.config.load import load_config
from confide.config.schema import Config
from confide.model.load import load_base_model

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.toml"))


def load_as_its_command_says(example: Path) -> Config:
    """Loads an example with the overrides of the command in its first line."""
    words = shlex.split(example.read_text().splitlines()[0])
    assert words[:4] in (["#", "confide", command, f"examples/{example.name}"] for command in ("train", "study"))
    assert words[2] == "train" or "[study]" in example.read_text().splitlines()
    assert words[4::2] == ["--set"] * len(words[5::2])
    return load_config(example, overrides=words[5::2])


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_loads_with_the_command_it_opens_with(example: Path) -> None:
    assert load_as_its_command_says(example).run.name == example.stem


def test_the_examples_are_those_the_readme_speaks_of() -> None:
    readme = (ROOT / "README.md").read_text()
    assert {path.stem for path in EXAMPLES} == {
        "clinics",
        "medquad",
        "medquad-privacy",
        "sotu",
        "fedshield",
        "leakage-study",
        "leakage-small",
        "leakage-tofu",
        "leakage-size",
        "ladder",
        "views",
        "epsilon",
    }
    assert [path.name for path in EXAMPLES if f"examples/{path.name}" not in readme] == []


def test_fedshield_has_the_numbers_of_the_published_run_script() -> None:
    config = load_as_its_command_says(ROOT / "examples" / "fedshield.toml")
    assert (config.lora.rank, config.lora.alpha, config.lora.dropout) == (32, 64, 0.05)
    assert config.lora.average == "factors"
    assert (config.federation.rounds, config.federation.clients_per_round, config.train.local_steps) == (200, 3, 10)
    assert (config.train.batch_size, config.train.max_tokens) == (16, 512)
    assert (config.train.learning_rate, config.train.min_learning_rate) == (5e-5, 1e-6)


def test_leakage_study_has_the_numbers_of_the_papers_table_6() -> None:
    config = load_as_its_command_says(ROOT / "examples" / "leakage-study.toml")
    assert (config.lora.rank, config.lora.alpha, config.lora.dropout) == (32, 64, 0.1)  # section on defences
    assert config.lora.average == "factors"  # what plain averaging of an adapter is
    assert (config.data.clients, config.federation.rounds, config.train.local_steps) == (4, 60, 200)
    assert (config.train.batch_size, config.train.max_tokens, config.train.clip_grad_norm) == (8, 512, 1.0)
    assert (config.train.adam_beta1, config.train.adam_beta2, config.train.weight_decay) == (0.99, 0.999, 0.01)


@pytest.mark.parametrize(("name", "words"), [("fedshield", "### Input:"), ("leakage-study", "lora.average")])
def test_an_example_after_a_paper_says_what_is_different(name: str, words: str) -> None:
    head = (ROOT / "examples" / f"{name}.toml").read_text().partition("[run]")[0]
    assert "Different here" in head
    assert words in head


def test_fewer_layers_keeps_the_first_and_the_last_and_what_is_around_them(tmp_path: Path) -> None:
    smaller = tmp_path / "smaller"
    subprocess.run([sys.executable, ROOT / "examples" / "fewer_layers.py", "tiny-llama", "0", "1", smaller], check=True)
    whole = load_base_model("tiny-llama").module.state_dict()
    kept = load_base_model(str(smaller)).module.state_dict()
    renamed = {
        name.replace("layers.1.", "layers.0."): value for name, value in whole.items() if "layers.0." not in name
    }
    assert kept.keys() == renamed.keys()
    assert all(torch.equal(kept[name], value) for name, value in renamed.items())


def test_fewer_layers_refuses_to_keep_all_or_none(tmp_path: Path) -> None:
    write_fewer_layers = runpy.run_path(str(ROOT / "examples" / "fewer_layers.py"))["write_fewer_layers"]
    for first, last in ((1, 1), (0, 0), (-1, 2)):
        with pytest.raises(SystemExit, match="2 layers"):
            write_fewer_layers("tiny-llama", first, last, tmp_path / "smaller")
    assert not (tmp_path / "smaller").exists()


def test_fewer_layers_refuses_a_model_of_another_form(tmp_path: Path) -> None:
    script = ROOT / "examples" / "fewer_layers.py"
    asked: list[str | Path] = [sys.executable, script, "tiny-gpt2", "1", "0", tmp_path / "smaller"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert (done.returncode, "not of Llama's form" in done.stderr) == (1, True)
