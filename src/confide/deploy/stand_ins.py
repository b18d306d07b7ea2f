"""Commands of ours that Flower's processes find by the name of one of Flower's, as they look for it in PATH."""

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from confide.deploy import keep_running
from confide.deploy.processes import program
from confide.files import storage_error, write_atomic

SUPEREXEC = "flower-superexec"
"""Flower's process that starts apps; a SuperLink and a SuperNode start it once and never look at it again."""


def with_stand_ins(
    environment: Mapping[str, str], folder: Path, commands: Mapping[str, Sequence[str]]
) -> dict[str, str]:
    """Writes commands into a folder, and gives an environment in which they are found first.

    Where a folder's files cannot be executed, Flower's own commands are found as before.

    Args:
        environment: of a process of Flower.
        folder: made here if it is not there, for this user alone.
        commands: what is run, by the name under which it is found; it gets the arguments that are given to that.

    Raises:
        StorageError: they cannot be written.
    """
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise storage_error(folder, error) from error
    for name, command in commands.items():
        write_atomic(folder / name, f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n', mode=0o700)
    return {**environment, "PATH": os.pathsep.join([str(folder), environment["PATH"]])}


def kept_superexec() -> list[str]:
    """The command that runs Flower's SuperExec and starts it again where it fails.

    Raises:
        MissingExtraError, DeployError: Flower is not installed as it should be.
    """
    return [sys.executable, "-IS", keep_running.__file__, program(SUPEREXEC)]
