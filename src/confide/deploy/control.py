"""What an operator asks Flower's server for, through the command `flwr`: register nodes, start, list and stop runs."""

import json
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import tomli_w

from confide.deploy.processes import CONNECTION, environment, flwr_command
from confide.errors import DeployError
from confide.files import make_folder, write_atomic

_SECONDS = 60.0
_TAIL_CHARACTERS = 1500
_FLOWER_VERSION = "1.41.0"
_MODULE = "confide_app"
_KNOWN_KEY = "Public key already in use"  # as Flower words it: it has no other sign of this error

_PYPROJECT = {
    "project": {
        "name": "confide",
        "version": "1.0.0",
        "license": {"file": "LICENSE"},
        "dependencies": [f"flwr>={_FLOWER_VERSION}"],
    },
    "tool": {
        "flwr": {
            "app": {
                "publisher": "confide",
                "fab-format-version": 1,
                "flwr-version-target": _FLOWER_VERSION,
                "components": {"serverapp": f"{_MODULE}:server", "clientapp": f"{_MODULE}:client"},
                "config": {"folder": ""},
            }
        }
    },
}


@dataclass(frozen=True, kw_only=True)
class FlowerRun:
    """A run as Flower sees it.

    Attributes:
        run_id: Flower's number of it.
        status: "pending", "starting", "running", or "finished:" with "completed", "failed" or "stopped".
        details: what Flower says of it besides, or "".
    """

    run_id: int
    status: str
    details: str

    @property
    def is_over(self) -> bool:
        """Whether the server's app runs no more."""
        return self.status.startswith("finished")


@dataclass(frozen=True, kw_only=True)
class FlowerNode:
    """A node as Flower sees it.

    Attributes:
        node_id: Flower's number of it; the same as long as its key is registered.
        status: "registered", "online", "offline" or "unregistered".
    """

    node_id: int
    status: str


def thin_app(folder: Path) -> Path:
    """Writes the app that Flower carries to the nodes: two lines that import what is installed there.

    It is the same for every run and every server of one version, so that its digest is.

    Args:
        folder: to write into; made if it is not there.

    Returns:
        The folder.
    """
    make_folder(folder)
    write_atomic(folder / "pyproject.toml", tomli_w.dumps(_PYPROJECT))
    write_atomic(folder / "LICENSE", "Apache-2.0\n")
    write_atomic(
        folder / f"{_MODULE}.py",
        '"""What runs is the package confide as installed on this machine."""\n'
        "import confide.flower_app\n\nclient = confide.flower_app.client\nserver = confide.flower_app.server\n",
    )
    return folder


def register_node(home: Path, public_key: Path) -> int | None:
    """Lets a node with this key in; gives Flower's number of it, or None where the server knew the key before.

    Raises:
        DeployError: the server does not answer, or refuses the key.
    """
    try:
        answer = _ask(home, "supernode", "register", str(public_key), CONNECTION)
    except DeployError as error:
        if _KNOWN_KEY in str(error):
            return None
        raise
    return _number(answer, "node-id")


def list_nodes(home: Path) -> list[FlowerNode]:
    """The nodes that are registered.

    Raises:
        DeployError: the server does not answer.
    """
    nodes = _rows(_ask(home, "supernode", "list", CONNECTION), "nodes")
    return [FlowerNode(node_id=_number(node, "node-id"), status=str(node.get("status"))) for node in nodes]


def start_run(home: Path, app: Path, settings: Path) -> int:
    """Starts the server's app; gives Flower's number of the run.

    Args:
        home: of Flower.
        app: the folder of the app.
        settings: a TOML file that says what is different from the app's own settings.

    Raises:
        DeployError: the server does not answer, or refuses.
    """
    return _number(_ask(home, "run", str(app), CONNECTION, "--run-config", str(settings)), "run-id")


def list_runs(home: Path, run_id: int | None = None) -> list[FlowerRun]:
    """The runs that the server knows, or one of them.

    Raises:
        DeployError: the server does not answer.
    """
    chosen = () if run_id is None else ("--run-id", str(run_id))
    runs = _rows(_ask(home, "list", CONNECTION, *chosen), "runs")
    return [
        FlowerRun(
            run_id=_number(run, "run-id"),
            status=str(run.get("status")),
            details=str(run.get("status-details") or ""),
        )
        for run in runs
    ]


def stop_run(home: Path, run_id: int) -> None:
    """Ends the server's app of a run.

    Raises:
        DeployError: the server does not answer, or the run is over.
    """
    _ask(home, "stop", str(run_id), CONNECTION)


def _ask(home: Path, *arguments: str) -> Mapping[str, object]:
    command = flwr_command(*arguments, "--format", "json")
    what = f"flwr {' '.join(arguments[:2])}"
    try:
        finished = subprocess.run(
            command, env=environment(home), capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise DeployError(f"`{what}` did not end within {_SECONDS:g} s: does the server answer?") from error
    try:
        answer = json.loads(finished.stdout)
    except ValueError:
        answer = None
    if finished.returncode != 0 or not isinstance(answer, dict) or answer.get("success") is not True:
        told = re.sub(r"\x1b\[[0-9;]*m", "", f"{finished.stdout}{finished.stderr}").strip()
        raise DeployError(f"`{what}` failed (exit code {finished.returncode}):\n{told[-_TAIL_CHARACTERS:]}")
    return answer


def _rows(answer: Mapping[str, object], key: str) -> list[Mapping[str, object]]:
    rows = answer.get(key)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DeployError(f"flwr's answer has no list {key!r}: use a release of flwr from {_FLOWER_VERSION} to 1.42")
    return rows


def _number(answer: Mapping[str, object], key: str) -> int:
    """A whole number, which flwr writes as one or as text."""
    text = str(answer.get(key))
    if not text.isdecimal():
        raise DeployError(f"flwr's answer has no number {key!r}: use a release of flwr from {_FLOWER_VERSION} to 1.42")
    return int(text)
