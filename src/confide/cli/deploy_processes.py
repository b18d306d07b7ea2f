"""`confide deploy server` and `confide deploy client`: the two processes that stay up, until they are stopped."""

import logging
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from confide.cli.progress import StopSwitch
    from confide.deploy.folders import NodeFolder, ServerFolder
    from confide.deploy.node import Node
    from confide.deploy.processes import GuardedProcess

SERVER_PID, CLIENT_PID = "server.pid", "client.pid"
SERVER_LOG, NODE_LOG = "superlink.log", "supernode.log"

_START_SECONDS = 180.0
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def server_command(
    folder: Annotated[Path, typer.Argument(help="The server's folder, from `confide deploy init`.")],
    host: Annotated[str, typer.Option(help="The address to listen at; another than loopback needs --public.")] = (
        "127.0.0.1"
    ),
    public: Annotated[
        bool, typer.Option("--public", help="Listen where others can reach the server. Read the warning it prints.")
    ] = False,
) -> None:
    """Starts Flower's SuperLink with TLS and registered nodes only, and stays until it is stopped.

    It listens on this machine alone; members come through a reverse proxy that lets the paths of nodes through and
    nothing else (nginx.conf in the folder, for a server at 127.0.0.1). Stop it with Ctrl-C or `confide deploy stop`.

    Examples:
        confide deploy server federation
    """
    from confide.cli.progress import StopSwitch
    from confide.deploy.certificates import check_is_for
    from confide.deploy.folders import ServerFolder
    from confide.deploy.held import held
    from confide.deploy.processes import (
        GuardedProcess,
        address,
        check_port_free,
        environment,
        local_host,
        superlink_command,
        wait_until_healthy,
        write_connection,
    )
    from confide.deploy.stand_ins import with_stand_ins
    from confide.errors import UsageError

    server = ServerFolder.load(folder)
    if host not in _LOOPBACK:
        if not public:
            raise UsageError(
                f"--host {host} can be reached from elsewhere.\n{_warning(server)}\nTo do it anyway: --public"
            )
        typer.echo(f"warning: {_warning(server)}", err=True)
    reached = local_host(host)
    check_is_for(server.certificate, reached)
    stop = StopSwitch()
    with held(server.flower / SERVER_PID, f"the server of {folder}"), stop.listening(Console(stderr=True)):
        check_port_free(host, server.port)
        write_connection(server.flower, address(reached, server.port), server.ca)
        command = superlink_command(
            host=host,
            port=server.port,
            ca=server.ca,
            certificate=server.certificate,
            certificate_key=server.certificate_key,
            database=server.database,
        )
        surroundings = with_stand_ins(environment(server.flower), server.flower / "bin")
        process = GuardedProcess(command, environment=surroundings, log=server.flower / SERVER_LOG)
        try:
            wait_until_healthy(process, server.port, server.ca, seconds=_START_SECONDS, host=reached)
            typer.echo(f"ready at {address(host, server.port)}; log: {server.flower / SERVER_LOG}")
            _wait(process, stop)
        finally:
            process.stop()


def client_command(
    folder: Annotated[Path, typer.Argument(help="The member's folder, from `confide deploy join`.")],
    passphrase_file: Annotated[
        Path | None, typer.Option(help="The passphrase of identity.key is in this file (one line end is left out).")
    ] = None,
) -> None:
    """Takes part: answers the server's requests with this member's data, within its policy, until it is stopped.

    Model, data and keys stay in this process. It starts Flower's SuperNode, which connects to the server; no port of
    this machine is opened to others. Stop it with Ctrl-C or `confide deploy stop`: it ends at the next step.

    Examples:
        confide deploy client north

        confide deploy client north --passphrase-file secrets/passphrase
    """
    from confide.cli.progress import StopSwitch
    from confide.deploy.folders import NodeFolder
    from confide.deploy.held import held
    from confide.deploy.processes import require_flower

    require_flower()
    own = NodeFolder.load(folder)
    stop = StopSwitch()
    console = Console(stderr=True)
    with held(own.flower / CLIENT_PID, f"the client of {folder}"):
        node = _load_node(own, passphrase_file, stop)
        _log_to(own.log)
        with stop.listening(console):
            typer.echo(f"roster of {len(node.roster.names)} members, fingerprint: {node.roster.fingerprint}")
            typer.echo(f"{own.name}: connecting to {own.server}; log: {own.log}")
            _serve(own, node, stop)


def _serve(own: "NodeFolder", node: "Node", stop: "StopSwitch") -> None:
    import tomli_w

    from confide.deploy.client_apps import WarmClientApps
    from confide.deploy.keeper import Keeper
    from confide.deploy.processes import GuardedProcess, environment, free_port, supernode_command, whole
    from confide.deploy.relay import serve
    from confide.errors import RunInterrupted
    from confide.files import write_atomic

    log = own.flower / NODE_LOG
    with (
        tempfile.TemporaryDirectory(prefix="confide-") as place,  # its mode is 0700, its path short
        WarmClientApps(Path(place), environment(own.flower), log) as apps,
    ):
        socket = Path(place) / "worker"
        settings = own.flower / "node.toml"
        write_atomic(settings, tomli_w.dumps({"socket": str(socket)}), mode=0o600)

        def start() -> GuardedProcess:
            command = supernode_command(
                server=own.server, ca=own.ca, node_key=own.node_key, port=free_port(), settings=settings
            )
            apps.start()
            return GuardedProcess(whole(command), environment=apps.environment, log=log)

        with Keeper(start, what="flower-supernode") as keeper:
            try:
                serve(socket, node.handle, kept=own.answers, is_stopped=lambda: stop.is_asked or keeper.has_failed)
            except RunInterrupted:
                typer.echo("stopped in the middle of a request; what was saved before is intact", err=True)
        keeper.check()


def _load_node(own: "NodeFolder", passphrase_file: Path | None, stop: "StopSwitch") -> "Node":
    from confide.deploy.node import Node
    from confide.deploy.policy import Policy
    from confide.errors import KeyFileError
    from confide.membership.identity import Identity, read_public_half
    from confide.membership.roster import Roster, read_bounded

    roster, policy = Roster.load(own.require_roster()), Policy.load(own.policy)
    _, is_encrypted = read_public_half(own.identity)
    passphrase = None
    if is_encrypted and passphrase_file is not None:
        passphrase = read_bounded(passphrase_file, KeyFileError).removesuffix(b"\n").removesuffix(b"\r")
    elif is_encrypted:
        passphrase = str(typer.prompt(f"Passphrase of {own.identity}", hide_input=True, err=True)).encode()
    return Node(
        own.runs,
        identity=Identity.load(own.identity, passphrase),
        roster=roster,
        policy=policy,
        settings=own.overrides,
        on_step=lambda *step: stop.check(),  # noqa: ARG005  what the step was makes no difference
    )


def _log_to(path: Path) -> None:
    """Lets the package's log go into a file of the member, for this user alone."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s"))
    logger = logging.getLogger("confide")
    logger.addHandler(handler)
    logger.setLevel(min(logging.INFO, logging.getLogger().getEffectiveLevel()))


def _wait(process: "GuardedProcess", stop: "StopSwitch") -> None:
    import time

    from confide.errors import DeployError

    while not stop.is_asked:
        if process.exit_code is not None:
            raise DeployError(f"flower-superlink ended with exit code {process.exit_code}:\n{process.tail()}")
        time.sleep(0.5)


def _warning(server: "ServerFolder") -> str:
    return (
        f"whoever reaches port {server.port} can run code of his own at every member: Flower lets everybody who "
        "reaches it start a run, and an app is code. TLS and registered nodes do not change that. Leave the server on "
        f"loopback, and let members come through a proxy that passes on nothing but the paths of nodes: {server.nginx}"
    )
