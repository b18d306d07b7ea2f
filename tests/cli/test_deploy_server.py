"""`confide deploy server` before a process that stands for the SuperLink: where it listens and is looked for."""

import socket
import ssl
import threading
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from confide.cli.deploy_processes import server_command
from confide.cli.deploy_run import status_command
from confide.deploy import processes
from confide.deploy.control import FlowerNode
from confide.deploy.folder_settings import ServerSection
from confide.deploy.folders import ServerFolder
from confide.deploy.new_folders import make_server_folder
from confide.deploy.processes import LOOPBACK, connected_host, free_port, is_healthy, local_host
from confide.errors import DeployError, DeployFolderError, UsageError

OTHER = "127.0.0.2"  # an address of this machine that is not the one of loopback that is looked at by default


class Listener:
    """Answers GET /health over TLS, at one address only, until it is closed."""

    def __init__(self, host: str, port: int, folder: ServerFolder) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(folder.certificate, folder.certificate_key)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.create_server((host, port), family=family)
        self.num_asked = 0
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                caller, _ = self._socket.accept()
            except OSError:
                return
            with suppress(OSError), self._context.wrap_socket(caller, server_side=True) as channel:
                self.num_asked += channel.recv(4096).startswith(b"GET /health ")
                channel.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


class SuperLink:
    """Stands for a process that listens where its command says, and ends when it was found healthy."""

    folder: ServerFolder

    def __init__(self, command: Sequence[str], *, environment: Mapping[str, str], log: Path) -> None:
        del environment, log
        host, port = (command[command.index(word) + 1] for word in ("--host", "--port"))
        self._listener = Listener(host, int(port), self.folder)

    @property
    def exit_code(self) -> int | None:
        return 7 if self._listener.num_asked else None

    def stop(self) -> None:
        self._listener.close()

    def tail(self) -> str:
        return "its last words"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ServerFolder:
    settings = ServerSection(hosts=("federation.example.org", OTHER), port=free_port())
    made = make_server_folder(tmp_path / "server", settings=settings)
    monkeypatch.setattr(SuperLink, "folder", made, raising=False)
    monkeypatch.setattr(processes, "GuardedProcess", SuperLink)
    monkeypatch.setattr(processes, "program", str)
    return made


@pytest.fixture
def listeners() -> Iterator[list[Listener]]:
    made: list[Listener] = []
    yield made
    for one in made:
        one.close()


def require(host: str) -> None:
    try:
        processes.check_port_free(host, free_port())
    except DeployError:
        pytest.skip(f"this machine has no address {host}")


@pytest.mark.parametrize(
    ("host", "reached", "address"),
    [
        (LOOPBACK, LOOPBACK, LOOPBACK),
        ("::1", "::1", "[::1]"),
        (OTHER, OTHER, OTHER),
        ("0.0.0.0", LOOPBACK, LOOPBACK),
        ("::", "::1", "[::1]"),
    ],
)
def test_the_server_is_looked_for_where_it_listens(
    server: ServerFolder, listeners: list[Listener], host: str, reached: str, address: str
) -> None:
    require(host)
    with pytest.raises(DeployError, match="exit code 7:\nits last words"):  # it was found: the wait for it is over
        server_command(server.path, host=host, public=True)
    connection = tomllib.loads((server.flower / "config.toml").read_text())["superlink"]["confide"]
    assert connection["address"] == f"{address}:{server.port}"
    assert local_host(host) == connected_host(server.flower) == reached
    listeners.append(Listener(host, server.port, server))
    assert is_healthy(server.port, server.ca, host=reached)


def test_the_status_asks_where_the_server_listens(
    server: ServerFolder, listeners: list[Listener], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    require(OTHER)
    monkeypatch.setattr("confide.deploy.control.list_nodes", lambda home: [FlowerNode(node_id=1, status="online")])
    with pytest.raises(DeployError, match="exit code 7"):
        server_command(server.path, host=OTHER, public=True)
    listeners.append(Listener(OTHER, server.port, server))
    assert not is_healthy(server.port, server.ca)
    capsys.readouterr()
    status_command(server.path)
    assert "answers:   True" in capsys.readouterr().out


def test_a_host_that_the_certificate_is_not_for_is_refused_before_anything_starts(server: ServerFolder) -> None:
    with pytest.raises(DeployFolderError, match=r"is not for 192\.0\.2\.9, .* it is for .*127\.0\.0\.2.*deploy renew"):
        server_command(server.path, host="192.0.2.9", public=True)
    assert not (server.flower / "server.pid").exists()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", OTHER])
def test_what_others_can_reach_needs_to_be_asked_for(server: ServerFolder, host: str) -> None:
    with pytest.raises(UsageError, match="can run code of his own at every member"):
        server_command(server.path, host=host, public=False)


def test_a_connection_that_was_changed_by_hand_is_refused(server: ServerFolder) -> None:
    assert connected_host(server.flower) == LOOPBACK
    (server.flower / "config.toml").write_text("[superlink]\nconfide = 3\n")
    with pytest.raises(DeployError, match="start the server again"):
        connected_host(server.flower)


def test_a_file_that_flower_made_without_our_connection_counts_as_none(server: ServerFolder) -> None:
    (server.flower / "config.toml").write_text('[superlink]\ndefault = "local"\n[superlink.local]\nnum-nodes = 3\n')
    assert connected_host(server.flower) == LOOPBACK
    status_command(server.path)
