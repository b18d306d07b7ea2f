"""`confide init`: writes a commented configuration to start from."""

import json
import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from confide.config.describe import starter_toml
from confide.errors import ConfigError
from confide.files import write_atomic


def init_command(
    path: Annotated[Path, typer.Argument(help="Where to write the configuration.")] = Path("confide.toml"),
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of the next steps.")] = False,
) -> None:
    """Writes a commented configuration file to start from.

    It trains a small real model on three synthetic clinics as it is; every other key stands in it as a comment, with
    its meaning, range and default.

    Examples:
        confide init
        confide init experiments/first.toml
    """
    write_starter(path, force=force)
    if as_json:
        typer.echo(json.dumps({"path": str(path)}, indent=2))
        return
    console = Console(soft_wrap=True, highlight=False)
    command_path = shlex.quote(str(path))
    console.print(f"Wrote {path}. Next:", markup=False)
    console.print(f"  confide data {command_path}     shows the clients and their data", markup=False)
    console.print(f"  confide train {command_path}    trains", markup=False)


def write_starter(path: Path, *, force: bool = False) -> None:
    """Writes the starter configuration to `path` in one step; folders on the way are made.

    Raises:
        ConfigError: `path` is a folder, or a file that exists while `force` is false, or its folder cannot be made.
        StorageError: the file cannot be written.
    """
    if path.is_dir():
        raise ConfigError(f"{path} is a folder, expected the name of a file to write: {path / 'confide.toml'}")
    if path.exists() and not force:
        raise ConfigError(
            f"{path} exists already and is left as it is. Choose another name, or replace it with --force."
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"the folder {path.parent} cannot be made: {error.strerror}. Choose another place."
        ) from error
    write_atomic(path, starter_toml(shlex.quote(str(path))))
