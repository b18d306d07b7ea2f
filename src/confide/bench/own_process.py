"""One task of a benchmark in a Python process of its own: how it is started, and how it answers.

The task's name and a folder stand on the command line, the work comes as JSON on the standard input. The answer goes to
FOLDER/answer.json; an error raised on purpose to FOLDER/error.txt, with its exit code. Imports nothing heavy, so that
the starting process's memory is in nobody's figure.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import TypeAdapter

from confide.errors import ConfideError, RunError, UsageError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_TAIL_CHARACTERS = 2000

Answer = TypeVar("Answer")


def ask_process(module: str, task: str, work: str, kind: type[Answer], *, threads: int) -> Answer:
    """Runs `python -m MODULE TASK FOLDER` and gives what it answered.

    Args:
        module: whose `main` calls `answer_task`.
        task: what it is to do.
        work: on what, as JSON.
        kind: of the answer, a dataclass.
        threads: of the libraries that read OMP_NUM_THREADS.

    Raises:
        UsageError: the task raised one.
        RunError: it raised another error, or crashed; the message ends with what it wrote last.
    """
    with tempfile.TemporaryDirectory(prefix="confide-bench-") as folder:
        answer = Path(folder) / "answer.json"
        command = [sys.executable, "-m", module, task, folder]
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
        finished = subprocess.run(command, input=work, capture_output=True, text=True, env=environment, check=False)
        reason = Path(folder) / "error.txt"
        if reason.exists():
            error = UsageError if finished.returncode == UsageError.exit_code else RunError
            raise error(f"{task}: {reason.read_text()}")
        if finished.returncode != 0 or not answer.exists():
            raise RunError(
                f"the benchmark's process for {task!r} ended with exit code {finished.returncode}. "
                f"It wrote last:\n{finished.stderr[-_TAIL_CHARACTERS:]}"
            )
        return TypeAdapter(kind).validate_json(answer.read_text())


def answer_task(run: Callable[[str, str, Path], "DataclassInstance"]) -> None:
    """The other side: runs the task that the command line names and answers.

    Args:
        run: (task, work as JSON, folder for its files) -> answer.
    """
    task, folder = sys.argv[1], Path(sys.argv[2])
    try:
        answer = run(task, sys.stdin.read(), folder)
    except ConfideError as error:
        (folder / "error.txt").write_text(str(error))
        sys.exit(error.exit_code)
    (folder / "answer.json").write_text(json.dumps(asdict(answer)))
