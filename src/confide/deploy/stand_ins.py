"""Commands of ours that Flower's processes find by the name of one of Flower's, as they look for it in PATH."""

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from confide.deploy import keep_running
from confide.deploy.processes import program
from confide.files import storage_error, write_atomic

SUPEREXEC = "flower-superexec"
"""Flower's process that starts apps; a SuperLink and a SuperNode start it once and never look at it again."""

_NO_MORE: Mapping[str, Sequence[str]] = MappingProxyType({})


def with_stand_ins(
    environment: Mapping[str, str], folder: Path, more: Mapping[str, Sequence[str]] = _NO_MORE
) -> dict[str, str]:
    """An environment of a SuperLink or a SuperNode in which SuperExec is started again where it fails.

    What is found in place of Flower's commands is written into a folder. Where a folder's files cannot be executed,
    Flower's own commands are found as before.

    Args:
        environment: of a process of Flower.
        folder: made here if it is not there, for this user alone.
        more: what is run in place of other commands, by their names; it gets the arguments that are given to those.

    Raises:
        StorageError: they cannot be written.
        MissingExtraError, DeployError: Flower is not installed as it should be.
    """
    kept = [sys.executable, "-IS", keep_running.__file__, program(SUPEREXEC)]
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise storage_error(folder, error) from error
    for name, command in {SUPEREXEC: kept, **more}.items():
        write_atomic(folder / name, f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n', mode=0o700)
    return {**environment, "PATH": os.pathsep.join([str(folder), environment["PATH"]])}
