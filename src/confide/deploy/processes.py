"""Flower's processes: their exact command lines, their environment, and how they start and end.

Flower is used through its commands alone, as subprocesses: what it does inside changes from release to release. They
report to nobody, look for no updates and install nothing at run time.
"""

import http.client
import importlib.util
import os
import signal
import socket
import ssl
import subprocess
import sys
import sysconfig
import time
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

import tomli_w

from confide.deploy.guard import GRACE_SECONDS
from confide.errors import DeployError, MissingExtraError
from confide.files import write_atomic

LOOPBACK = "127.0.0.1"
CONNECTION = "confide"
"""The name under which `flwr` finds the server, in its config.toml."""

_QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_LOG_LEVEL": "INFO",  # confide.deploy.whole_command goes by what a SuperNode logs
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "OMP_NUM_THREADS": "1",  # they compute nothing
    "OPENBLAS_NUM_THREADS": "1",
}
LEAN = {"MALLOC_ARENA_MAX": "2", "MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072"}
"""Settings of glibc, so that what passed through a process does not stay in it: two arenas and not one for each thread,
and larger pieces are given back at once."""

_TASK_POLL_SECONDS = "0.2"
_LOOK_SECONDS = 0.2
_TAIL_CHARACTERS = 1500


def environment(home: Path) -> dict[str, str]:
    """The environment of every process of Flower.

    Args:
        home: the folder that Flower may write to, instead of one in the user's home.
    """
    scripts = sysconfig.get_path("scripts")
    direct = ",".join(part for part in (os.environ.get("NO_PROXY", ""), LOOPBACK, "::1", "localhost") if part)
    return {
        **os.environ,
        **_QUIET,
        **LEAN,
        "FLWR_HOME": str(home),
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": _TASK_POLL_SECONDS,
        "PATH": os.pathsep.join([scripts, os.environ.get("PATH", os.defpath)]),  # Flower starts commands by name
        "NO_PROXY": direct,
        "no_proxy": direct,
    }


def superlink_command(
    *, host: str, port: int, ca: Path, certificate: Path, certificate_key: Path, database: Path
) -> list[str]:
    """The server's process: TLS, registered nodes only, messages in a database on the disk.

    Args:
        host: the address it listens at.
        port: the one port for nodes, apps and control.
        ca: the CA's certificate.
        certificate: the server's.
        certificate_key: its key.
        database: the file, in a folder that is open to this user alone.
    """
    return [
        *(program("flower-superlink"), "--host", host, "--port", str(port)),
        *("--ssl-ca-certfile", str(ca), "--ssl-certfile", str(certificate), "--ssl-keyfile", str(certificate_key)),
        *("--enable-supernode-auth", "--disable-runtime-dependency-installation", "--database", str(database)),
    ]


def supernode_command(*, server: str, ca: Path, node_key: Path, port: int, settings: Path) -> list[str]:
    """A node's process, which fetches messages from the server and starts an app for each.

    Args:
        server: host:port of the server, or of the proxy before it.
        ca: the certificate of the server's CA.
        node_key: the node's private key.
        port: a free one on loopback, for its own apps.
        settings: a TOML file with what its apps are told.
    """
    return [
        *(program("flower-supernode"), "--superlink", server, "--root-certificates", str(ca)),
        *("--auth-supernode-private-key", str(node_key), "--host", LOOPBACK, "--port", str(port)),
        *("--node-config", str(settings)),
    ]


def whole(command: Sequence[str]) -> list[str]:
    """The same command of Flower's, which ends where a part of it fails (see `confide.deploy.whole_command`)."""
    path, *arguments = command
    return [sys.executable, "-P", "-m", "confide.deploy.whole_command", Path(path).name, *arguments]


def flwr_command(*arguments: str) -> list[str]:
    """A command to the server, over the connection that `write_connection` wrote."""
    return [program("flwr"), *arguments]


def local_host(host: str) -> str:
    """Where this machine reaches a server that listens at a host: at loopback, if it listens everywhere."""
    return {"0.0.0.0": LOOPBACK, "::": "::1"}.get(host, host)


def address(host: str, port: int) -> str:
    """Gives host:port, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def write_connection(home: Path, address: str, ca: Path) -> None:
    """Tells the command `flwr` where the server is.

    Args:
        home: of Flower, as in `environment`.
        address: host:port.
        ca: the CA's certificate.
    """
    connection = {"address": address, "root-certificates": str(ca.resolve())}
    write_atomic(
        home / "config.toml", tomli_w.dumps({"superlink": {"default": CONNECTION, CONNECTION: connection}}), mode=0o600
    )


def connected_host(home: Path) -> str:
    """The host of the server that `write_connection` wrote; loopback if it wrote none.

    Where it did not, the command `flwr` makes a file of its own, with connections of Flower's.

    Raises:
        DeployError: what it wrote was changed.
    """
    path = home / "config.toml"
    try:
        connection = tomllib.loads(path.read_text())["superlink"].get(CONNECTION)
        return LOOPBACK if connection is None else str(connection["address"]).rpartition(":")[0].strip("[]")
    except FileNotFoundError:
        return LOOPBACK
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DeployError(f"{path} cannot be read: start the server again, which writes it anew") from error


def require_flower() -> None:
    """Checks that Flower is installed.

    Raises:
        MissingExtraError: it is not.
    """
    if importlib.util.find_spec("flwr") is None:
        raise MissingExtraError("flwr", "flower", "a deployment")


def program(name: str) -> str:
    """The path of one of Flower's commands.

    Raises:
        MissingExtraError: Flower is not installed.
        DeployError: the command is not there.
    """
    require_flower()
    path = Path(sysconfig.get_path("scripts")) / name
    if not path.exists():
        raise DeployError(f"Flower's command {path} is not there: install it anew, pip install 'confide[flower]'")
    return str(path)


class GuardedProcess:
    """A process that never outlives this one, however this one ends (see `confide.deploy.guard`).

    Args:
        command: to run.
        environment: of the process.
        log: the file its output is added to, readable by this user alone.
    """

    def __init__(self, command: Sequence[str], *, environment: Mapping[str, str], log: Path) -> None:
        self._log = log
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "confide.deploy.guard", *command],
                stdin=subprocess.PIPE,
                stdout=descriptor,
                stderr=descriptor,
                env=dict(environment),
                start_new_session=True,
            )
        finally:
            os.close(descriptor)

    @property
    def pid(self) -> int:
        """Of the guard; the command is its child."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def stop(self) -> None:
        """Ends the command and what it started: asks first, kills after a grace."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(GRACE_SECONDS + 5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        try:
            os.killpg(self._process.pid, signal.SIGKILL)  # what a killed guard left
        except (ProcessLookupError, PermissionError):  # nobody is left; macOS says so by a refusal
            return

    def tail(self) -> str:
        """What it wrote last; "" if its log is gone."""
        try:
            with self._log.open("rb") as log:
                log.seek(max(0, self._log.stat().st_size - _TAIL_CHARACTERS))
                return log.read().decode(errors="replace")
        except OSError:
            return ""


def wait_until_healthy(process: GuardedProcess, port: int, ca: Path, *, seconds: float, host: str = LOOPBACK) -> None:
    """Waits until the server answers over TLS.

    Args:
        process: the server's.
        port: it listens at.
        ca: the CA that its certificate must be of.
        seconds: the longest wait.
        host: by which this machine reaches it.

    Raises:
        DeployError: the process ended, or there was no answer in time; with what it wrote last.
    """
    deadline = time.monotonic() + seconds
    while not is_healthy(port, ca, host=host):
        if process.exit_code is not None:
            raise DeployError(f"flower-superlink ended with exit code {process.exit_code}:\n{process.tail()}")
        if time.monotonic() >= deadline:
            raise DeployError(f"flower-superlink does not answer after {seconds:g} s. It wrote last:\n{process.tail()}")
        time.sleep(_LOOK_SECONDS)


def is_healthy(port: int, ca: Path, *, host: str = LOOPBACK) -> bool:
    """Whether the server answers at a port, with a certificate of this CA for the host.

    Args:
        port: it listens at.
        ca: the CA that its certificate must be of.
        host: by which this machine reaches it.

    Raises:
        DeployError: the CA's certificate cannot be read.
    """
    try:
        context = ssl.create_default_context(cafile=ca)
    except OSError as error:  # an ssl.SSLError too
        raise DeployError(f"{ca} holds no certificate that can be read: {error}") from error
    connection = http.client.HTTPSConnection(host, port, timeout=5, context=context)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def check_port_free(host: str, port: int) -> None:
    """Checks that a process could listen there.

    Raises:
        DeployError: the address is not of this machine, or something listens at the port.
    """
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            return
    except OSError as error:
        raise DeployError(
            f"nothing can listen at {host}:{port}: {error.strerror or error}. Stop what listens there, or choose "
            "another address of this machine or another port."
        ) from error


def free_port() -> int:
    """A port of loopback that nothing listens at now."""
    with socket.create_server((LOOPBACK, 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
