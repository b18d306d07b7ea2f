"""What `--help` shows: every command and every group of commands has an example to copy."""

import pytest
from click.testing import Result
from typer.testing import CliRunner

from confide.cli.main import app

GROUPS = {"": "confide train confide.toml", "models": "confide models list", "bench": "confide bench training"}
GROUPS |= {"keys": "confide keys new north", "deploy": "confide deploy init server"}


def show_help(*words: str) -> Result:
    return CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "100"})


@pytest.mark.parametrize(("group", "example"), GROUPS.items())
def test_the_help_of_a_group_has_an_example(group: str, example: str) -> None:
    result = show_help(*group.split())
    assert result.exit_code == 0
    assert "Examples:" in result.stdout
    assert example in result.stdout
