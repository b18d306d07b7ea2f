"""`confide deploy register`, `run`, `status` and `stop`: what an operator does while the server is up."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from confide.cli.deploy_processes import CLIENT_PID, SERVER_LOG, SERVER_PID
from confide.cli.train import AsJson, Overrides

if TYPE_CHECKING:
    from confide.deploy.folders import ServerFolder
    from confide.run import RunDirectory

ServerArgument = Annotated[Path, typer.Argument(help="The server's folder.")]
AnyFolder = Annotated[Path, typer.Argument(help="A server's or a member's folder.")]

_STOP_SECONDS = 30.0
_END_SECONDS = 60.0


def register_command(
    folder: ServerArgument,
    keys: Annotated[
        list[Path] | None, typer.Argument(help="Public node keys (NAME.pub); without any, all in the folder's nodes/.")
    ] = None,
) -> None:
    """Lets nodes connect: tells the running server their public keys.

    A node that is registered can fetch messages. Who takes part in a run is said by the roster alone. Keys that the
    server knows are left as they are, so the command can be given again when a member joins.

    Examples:
        confide deploy register federation

        confide deploy register federation federation/nodes/north.pub
    """
    from confide.deploy.control import register_node
    from confide.deploy.folders import ServerFolder
    from confide.errors import UsageError

    server = ServerFolder.load(folder)
    chosen = keys or list(server.node_keys().values())
    if not chosen:
        raise UsageError(f"{server.nodes} holds no member's files: put their NAME.pub and NAME.public.json there")
    if lacking := [str(key) for key in chosen if not key.is_file()]:
        raise UsageError(f"there is no file {', '.join(lacking)}: give the public node keys (NAME.pub) of members")
    _require_answer(server)
    for key in chosen:
        node = register_node(server.flower, key)
        typer.echo(f"{key}: " + ("registered before" if node is None else f"node {node}"))


def run_command(
    folder: ServerArgument,
    config: Annotated[Path | None, typer.Argument(help="The run's configuration; not with --resume.")] = None,
    resume: Annotated[
        str | None, typer.Option(metavar="RUN", help="Go on with this run of the folder, from its last complete round.")
    ] = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Runs a run with the members that are connected, and shows each round until it is finished.

    The run itself lives in a process of the server. Ctrl-C stops it cleanly; what is complete is saved and --resume
    goes on from there.

    Examples:
        confide deploy run federation federation/config.toml

        confide deploy run federation --resume clinics
    """
    from confide.cli.progress import StopSwitch, print_round
    from confide.cli.train import print_record
    from confide.deploy.control import list_runs, start_run, thin_app
    from confide.deploy.folders import ServerFolder
    from confide.deploy.following import NotStartedError, follow_run
    from confide.deploy.starting import num_rounds
    from confide.errors import ConfideError, RunInterrupted
    from confide.files import write_atomic

    server = ServerFolder.load(folder)
    _require_answer(server)
    directory = _new_run(server, config, resume, overrides or [])
    rounds = num_rounds(directory)
    show = print_record if as_json else print_round
    stop = StopSwitch()
    console = Console(stderr=True)
    settings = server.flower / f"run-{directory.path.name}.toml"
    try:
        write_atomic(settings, _settings(directory), mode=0o600)
        flower_run = start_run(server.flower, thin_app(server.flower / "app"), settings)
    except BaseException as error:
        _undo_start(server, directory, is_new=resume is None, error=error)
        raise
    typer.echo(f"{directory.path}: started, as Flower's run {flower_run}; waiting for the members", err=True)
    with stop.listening(console):
        try:
            follow_run(
                directory,
                look=lambda: list_runs(server.flower, flower_run)[0],
                show=lambda record: show(record, rounds),
                tell=lambda notice: typer.echo(f"    {notice}", err=True),
                check=stop.check,
            )
        except RunInterrupted as error:
            _stop_app(server, flower_run)
            _settle(directory, "stopped at the operator's wish")
            raise RunInterrupted(f"{error}. Go on with: {_again(folder, directory)}") from error
        except ConfideError as error:
            if isinstance(error, NotStartedError):  # else it could start unseen, much later
                _stop_app(server, flower_run)
            _settle(directory, str(error).partition("\n")[0])
            raise
    typer.echo(f"run: {directory.path}")


def status_command(
    folder: AnyFolder,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a text.")] = False,
) -> None:
    """Says what runs: the process of the folder, and at a server its nodes and runs.

    Examples:
        confide deploy status federation

        confide deploy status north --json
    """
    found = _server_status(folder) if (folder / "server.toml").exists() else _client_status(folder)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    for key, value in found.items():
        if isinstance(value, list):
            typer.echo(f"{key}:")
            for one in value:
                typer.echo("    " + "  ".join(str(part) for part in one.values() if part != ""))
        else:
            typer.echo(f"{key + ':':10s} {'-' if value is None else value}")


def stop_command(folder: AnyFolder) -> None:
    """Stops the process of a folder: the server with its runs, or a member's client.

    Examples:
        confide deploy stop federation
    """
    from confide.deploy.folder_checks import check_is_party
    from confide.deploy.held import stop_holder

    check_is_party(folder)
    found = [name for name in (SERVER_PID, CLIENT_PID) if stop_holder(folder / "flower" / name, seconds=_STOP_SECONDS)]
    typer.echo(f"{folder}: {'stopped' if found else 'nothing was running'}")


def _new_run(server: "ServerFolder", config: Path | None, resume: str | None, overrides: list[str]) -> "RunDirectory":
    from confide.deploy.starting import resume_run, start_new_run
    from confide.errors import UsageError

    if resume is not None:
        if config is not None or overrides:
            raise UsageError("--resume goes on with the run as it was started: leave out CONFIG and --set")
        return resume_run(server, resume)
    if config is None:
        raise UsageError("give the run's configuration, or --resume RUN")
    return start_new_run(server, config, overrides)


def _settings(directory: "RunDirectory") -> str:
    import tomli_w

    return tomli_w.dumps({"folder": str(directory.path.resolve())})


def _require_answer(server: "ServerFolder") -> None:
    """Checks that the server answers, before anything is made for a run and before `flwr` makes a config.toml."""
    from confide.deploy.processes import connected_host, is_healthy
    from confide.errors import DeployError

    if not is_healthy(server.port, server.ca, host=connected_host(server.flower)):
        raise DeployError(f"the server of {server.path} does not answer: start it with `confide deploy server`")


def _undo_start(server: "ServerFolder", directory: "RunDirectory", *, is_new: bool, error: BaseException) -> None:
    """Settles a run that could not be started: a new one goes if nothing runs, any other is marked as interrupted.

    Flower may have started the server's app although its answer did not come. That app holds the run's lock, or it
    finds no run when it comes to it.
    """
    from confide.deploy.following import note_death
    from confide.errors import RunDirectoryError, StorageError

    why = str(error).partition("\n")[0] or type(error).__name__
    try:
        if is_new and not directory.rounds() and _is_idle(server):
            with directory.locked():
                directory.discard()  # nothing was trained: leave no half-made run in the way of the next try
            return
        note_death(directory, f"it was not started: {why}")
    except RunDirectoryError:
        typer.echo(
            f"warning: Flower started {directory.path} all the same; it goes on, and `confide deploy status` shows it",
            err=True,
        )
        return
    except StorageError as unsaid:
        typer.echo(f"warning: {directory.path} cannot be marked as interrupted: {unsaid}", err=True)
    typer.echo(f"{directory.path} is kept. Go on with: {_again(server.path, directory)}", err=True)


def _stop_app(server: "ServerFolder", flower_run: int) -> None:
    from confide.deploy.control import stop_run
    from confide.errors import DeployError

    try:
        stop_run(server.flower, flower_run)
    except DeployError as failure:  # it may be over by now, or the server gone
        typer.echo(f"warning: {failure}", err=True)


def _is_idle(server: "ServerFolder") -> bool:
    """Whether Flower certainly runs no app now."""
    from confide.deploy.control import list_runs
    from confide.errors import DeployError

    try:
        return all(run.is_over for run in list_runs(server.flower))
    except DeployError:
        return False


def _again(folder: Path, directory: "RunDirectory") -> str:
    return f"confide deploy run {folder} --resume {directory.path.name}"


def _settle(directory: "RunDirectory", reason: str) -> None:
    """Waits until no process works on the run, and notes that it was interrupted if its own process could not."""
    import time

    from confide.deploy.following import note_death
    from confide.errors import RunDirectoryError

    deadline = time.monotonic() + _END_SECONDS
    while True:
        try:
            note_death(directory, reason)
            return
        except RunDirectoryError:
            if time.monotonic() >= deadline:
                typer.echo(f"warning: a process still works on {directory.path}", err=True)
                return
        time.sleep(0.5)


def _server_status(folder: Path) -> dict[str, object]:
    from confide.deploy.control import list_nodes
    from confide.deploy.folders import ServerFolder
    from confide.deploy.held import holder
    from confide.deploy.processes import connected_host, is_healthy
    from confide.errors import DeployError
    from confide.run import RunDirectory

    server = ServerFolder.load(folder)
    healthy = is_healthy(server.port, server.ca, host=connected_host(server.flower))
    nodes: list[dict[str, object]] | None = []
    try:
        if healthy:
            nodes = [{"node": node.node_id, "status": node.status} for node in list_nodes(server.flower)]
    except DeployError as error:  # what else is known helps to find out why
        typer.echo(f"warning: nobody knows which nodes are there: {error}", err=True)
        nodes = None
    directories = [RunDirectory(path.parent) for path in sorted(server.runs.glob("*/run.json"))]
    return {
        "process": holder(server.flower / SERVER_PID),
        "answers": healthy,
        "log": str(server.flower / SERVER_LOG),
        "nodes": nodes,
        "runs": [_run_status(one) for one in directories],
    }


def _run_status(directory: "RunDirectory") -> dict[str, object]:
    from confide.errors import RunDirectoryError

    found: dict[str, object] = {"name": directory.path.name}
    try:
        info = directory.info
    except RunDirectoryError as error:
        return {**found, "status": "damaged", "rounds": max([0, *directory.rounds()]), "reason": str(error)}
    behind = info.get("behind")
    names = [str(name) for name in behind] if isinstance(behind, list) else []
    reason = str(info.get("reason") or "").partition("\n")[0]
    if names:
        reason = "; ".join([f"its last adapter is not at {', '.join(names)}", *([reason] if reason else [])])
    return {**found, "status": info["status"], "rounds": max([0, *directory.rounds()]), "reason": reason}


def _client_status(folder: Path) -> dict[str, object]:
    from confide.deploy.folders import NodeFolder
    from confide.deploy.held import holder
    from confide.membership.roster import Roster

    own = NodeFolder.load(folder)
    return {
        "name": own.name,
        "process": holder(own.flower / CLIENT_PID),
        "server": own.server,
        "roster": Roster.load(own.roster).fingerprint if own.roster.exists() else None,
        "log": str(own.log),
    }
