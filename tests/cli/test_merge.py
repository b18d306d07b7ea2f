import json
import shutil
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from confide.cli.merge import merge_command
from confide.errors import ModelError, UsageError
from confide.model.load import load_base_model


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    app.command()(merge_command)
    return app


def _run(app: typer.Typer, *words: str) -> str:
    result = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_merge_says_what_went_into_which_folder(app: typer.Typer, tiny_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "merged"
    shown = _run(app, str(tiny_run), str(out), "--round", "1", "--dtype", "bfloat16")
    assert shown == f"{out}: tiny-llama with the adapter of {tiny_run / 'rounds' / '0001'}, bfloat16\n"


def test_merge_as_json_prints_the_same_as_one_object(app: typer.Typer, tiny_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "merged"
    shown = json.loads(_run(app, str(tiny_run), str(out), "--round", "1", "--json"))
    assert shown == {
        "folder": str(out),
        "base": "tiny-llama",
        "adapter": str(tiny_run / "rounds" / "0001"),
        "dtype": "float32",
    }
    assert (out / "config.json").exists()


def test_merge_refuses_what_it_cannot_do(app: typer.Typer, tiny_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "merged"
    with pytest.raises(ModelError, match="neither a run directory nor a folder with a PEFT adapter"):
        _run(app, "tiny-llama", str(out))
    with pytest.raises(UsageError, match="--dtype is 'int8', expected one of"):
        _run(app, str(tiny_run), str(out), "--dtype", "int8")
    with pytest.raises(ModelError, match="does not fit the base model"):
        _run(app, str(tiny_run), str(out), "--base", "tiny-gpt2")
    assert not out.exists()
    out.mkdir()
    (out / "notes.txt").touch()
    with pytest.raises(ModelError, match=r"exists and is not empty.*--force"):
        _run(app, str(tiny_run), str(out))
    with pytest.raises(
        ModelError, match=r"is not just a saved model \(it has notes\.txt in it\), and --force replaces"
    ):
        _run(app, str(tiny_run), str(out), "--force")
    assert [path.name for path in out.iterdir()] == ["notes.txt"]
    (out / "notes.txt").unlink()
    _run(app, str(tiny_run), str(out))
    _run(app, str(tiny_run), str(out), "--force", "--dtype", "bfloat16")
    assert json.loads((out / "config.json").read_text())["dtype"] == "bfloat16"


def test_merge_leaves_alone_what_it_merges(app: typer.Typer, tiny_run: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    saved = load_base_model("tiny-llama")
    saved.module.save_pretrained(base)
    saved.tokenizer.save_pretrained(base)
    adapter = shutil.copytree(tiny_run / "rounds" / "0002", tmp_path / "adapter")
    files = sorted([*tiny_run.rglob("*"), *base.rglob("*"), *adapter.rglob("*")])
    for source, out in [
        (tiny_run, tiny_run),
        (tiny_run, tiny_run / "merged"),
        (tiny_run, tiny_run.parent),
        (tiny_run, tiny_run / "rounds" / "0001"),
        (tiny_run / "final", tiny_run),
        (tiny_run, base),
        (tiny_run, base / "merged"),
        (adapter, adapter),
        (adapter, tmp_path),
    ]:
        with pytest.raises(ModelError, match=r"which the model is made from\. Give a folder apart from it"):
            _run(app, str(source), str(out), "--base", str(base), "--force")
    assert sorted([*tiny_run.rglob("*"), *base.rglob("*"), *adapter.rglob("*")]) == files


def test_a_quantised_base_is_refused_unless_another_is_named(app: typer.Typer, tiny_run: Path, tmp_path: Path) -> None:
    config = (tiny_run / "config.toml").read_text()
    quantised = config.replace("load_in_8bit = false", "load_in_8bit = true").replace('"cpu"', '"auto"')
    (tiny_run / "config.toml").write_text(quantised)
    try:
        with pytest.raises(ModelError, match=r"in 8 or 4 bits.*--base tiny-llama"):
            _run(app, str(tiny_run), str(tmp_path / "merged"))
        _run(app, str(tiny_run), str(tmp_path / "merged"), "--base", "tiny-llama")
    finally:
        (tiny_run / "config.toml").write_text(config)
