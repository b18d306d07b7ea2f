import json
import tomllib
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from confide.cli.init import init_command, write_starter
from confide.config.describe import starter_toml
from confide.config.load import load_config
from confide.errors import ConfigError

app = typer.Typer()
app.command("init")(init_command)


def test_init_writes_a_configuration_that_loads_and_names_the_next_commands(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "first.toml"
    result = CliRunner().invoke(app, [str(path)])
    assert result.exit_code == 0
    assert load_config(path).run.name == "clinics"
    assert f"Wrote {path}." in result.stdout
    assert f"confide data '{path}'" in result.stdout
    assert f"confide train '{path}'" in result.stdout


def test_init_without_a_path_writes_confide_toml_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, [])
    assert result.exit_code == 0
    assert Path("confide.toml").read_text() == starter_toml()
    assert "confide train confide.toml" in result.stdout


def test_init_as_json_prints_where_it_wrote_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "first.toml"
    result = CliRunner().invoke(app, [str(path), "--json"])
    assert json.loads(result.stdout) == {"path": str(path)}
    assert load_config(path).run.name == "clinics"
    again = CliRunner().invoke(app, [str(path), "--json"])
    assert isinstance(again.exception, ConfigError)
    assert again.stdout == ""


def test_init_leaves_an_existing_file_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "confide.toml"
    path.write_text("mine")
    with pytest.raises(ConfigError, match=r"confide\.toml exists already and is left as it is.*--force"):
        write_starter(path)
    assert path.read_text() == "mine"


def test_force_replaces_an_existing_file(tmp_path: Path) -> None:
    path = tmp_path / "confide.toml"
    path.write_text("mine")
    assert CliRunner().invoke(app, [str(path), "--force"]).exit_code == 0
    assert tomllib.loads(path.read_text())["model"] == {"base": "smollm2-135m-instruct"}
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is a folder, expected the name of a file to write: .*confide\.toml"):
        write_starter(tmp_path, force=True)


def test_a_place_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"the folder .*file/sub cannot be made: .*Choose another place"):
        write_starter(tmp_path / "file" / "sub" / "confide.toml")
