"""The transport over real Flower on this machine: TLS, registered nodes, three workers, nine megabytes each way."""

import hashlib
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import tomli_w

from confide.deploy.certificates import KeyPlaces, issue_server_certificate, make_authority, make_node_key
from confide.deploy.control import list_nodes, list_runs, register_node, start_run, stop_run, thin_app
from confide.deploy.processes import (
    GuardedProcess,
    environment,
    free_port,
    superlink_command,
    supernode_command,
    wait_until_healthy,
    write_connection,
)
from confide.deploy.relay import serve
from confide.deploy.stand_ins import with_stand_ins
from confide.errors import DataError, DeployError
from confide.transport.flower import LARGE_BYTES

SECONDS = 150.0  # the longest wait of the whole test; it took 60 on two cores with other work
PHASES = 2
SHARED = os.urandom(LARGE_BYTES + (1 << 20))  # so that answers are large ones, which are fetched


@dataclass(frozen=True, kw_only=True)
class Server:
    """A SuperLink on loopback; `home` is what `flwr` needs to reach it."""

    home: Path
    address: str
    ca: Path


@contextmanager
def running_server(folder: Path) -> Iterator[Server]:
    home = folder / "server"
    home.mkdir(mode=0o700)
    authority = KeyPlaces(certificate=folder / "ca.pem", key=folder / "ca.key")
    own = KeyPlaces(certificate=folder / "server.pem", key=folder / "server.key")
    make_authority(authority, days=2)
    issue_server_certificate(authority, own, hosts=["localhost"], days=1)
    port = free_port()
    write_connection(home, f"127.0.0.1:{port}", authority.certificate)
    command = superlink_command(
        host="127.0.0.1",
        port=port,
        ca=authority.certificate,
        certificate=own.certificate,
        certificate_key=own.key,
        database=home / "state.db",
    )
    surroundings = with_stand_ins(environment(home), home / "bin")
    process = GuardedProcess(command, environment=surroundings, log=home / "superlink.log")
    try:
        wait_until_healthy(process, port, authority.certificate, seconds=SECONDS)
        yield Server(home=home, address=f"127.0.0.1:{port}", ca=authority.certificate)
    finally:
        process.stop()


@contextmanager
def running_node(folder: Path, server: Server, handle: Callable[[bytes], bytes]) -> Iterator[GuardedProcess]:
    """A SuperNode with its worker, which is a thread here; registered."""
    folder.mkdir(mode=0o700)
    make_node_key(private=folder / "node.key", public=folder / "node.pub", comment="")
    register_node(server.home, folder / "node.pub")
    with ExitStack() as stack:
        place = Path(stack.enter_context(TemporaryDirectory()))  # pytest's folders have paths too long for a socket
        is_over = threading.Event()
        settings = {"kept": place / "answers", "is_stopped": is_over.is_set}
        worker = threading.Thread(target=serve, args=(place / "worker", handle), kwargs=settings)
        worker.start()
        stack.callback(worker.join)
        stack.callback(is_over.set)
        yield stack.enter_context(node_process(folder, server, place / "worker"))


@contextmanager
def node_process(folder: Path, server: Server, socket: Path) -> Iterator[GuardedProcess]:
    (folder / "settings.toml").write_text(tomli_w.dumps({"socket": str(socket), "garbage": folder.name == "garbage"}))
    command = supernode_command(
        server=server.address,
        ca=server.ca,
        node_key=folder / "node.key",
        port=free_port(),
        settings=folder / "settings.toml",
    )
    process = GuardedProcess(command, environment=environment(folder), log=folder / "supernode.log")
    try:
        yield process
    finally:
        process.stop()


def wait_for(is_so: Callable[[], bool], deadline: float, what: str) -> None:
    while not is_so():
        assert time.monotonic() < deadline, f"{what} did not come in time"
        time.sleep(0.2)


def processes_at(folder: Path) -> list[str]:
    """Processes whose FLWR_HOME lies in a folder."""
    mark = f"FLWR_HOME={folder}".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if mark in (entry / "environ").read_bytes():
                found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return found


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for processes in /proc")
def test_bytes_cross_real_flower_and_nothing_is_left_running(tmp_path: Path) -> None:
    deadline = time.monotonic() + SECONDS
    asked: list[str] = []

    def transform(request: bytes) -> bytes:
        asked.append("a")
        return request[::-1]

    def fail(request: bytes) -> bytes:
        asked.append("b")
        raise DataError("this member has no rows")

    handlers = {"a": transform, "b": fail, "garbage": fail}
    with ExitStack() as stack:
        server = stack.enter_context(running_server(tmp_path))
        for name, handle in handlers.items():
            stack.enter_context(running_node(tmp_path / name, server, handle))
        app = thin_app(tmp_path / "app")
        shutil.copy(Path(__file__).with_name("loopback_app.py"), app / "confide_app.py")
        run = tmp_path / "run"
        run.mkdir()
        (run / "shared").write_bytes(SHARED)
        (run / "plan.json").write_text(json.dumps({"nodes": len(handlers), "phases": PHASES, "seconds": SECONDS / 2}))
        (tmp_path / "run.toml").write_text(tomli_w.dumps({"folder": str(run)}))
        number = start_run(server.home, app, tmp_path / "run.toml")
        wait_for((run / "phases.json").exists, deadline, "the replies of all phases")
        phases = json.loads((run / "phases.json").read_text())
        nodes = [node.node_id for node in list_nodes(server.home) if node.status == "online"]
        assert register_node(server.home, tmp_path / "a" / "node.pub") is None  # the server knows it
        assert len(list_nodes(server.home)) == len(handlers)
        wait_for(lambda: list_runs(server.home, number)[0].is_over, deadline, "the end of the run")
        assert list_runs(server.home, number)[0].status == "finished:completed"
        with pytest.raises(DeployError, match="flwr stop"):
            stop_run(server.home, number)
    assert sorted(asked) == ["a"] * PHASES + ["b"] * PHASES  # once, though every other message was sent twice
    assert len(nodes) == len(handlers)
    assert len(phases) == PHASES
    expected = {hashlib.sha256((f"{node}:".encode() + SHARED)[::-1]).hexdigest() for node in nodes}
    nothing = hashlib.sha256(b"").hexdigest()
    for phase in phases:
        replies = phase["replies"]
        assert len(replies) == len(handlers) + 2
        assert {replies[name][1] for name in ("nobody", "stranger")} == {"Missing"}
        told = sorted(tuple(replies[f"client {node}"][1:]) for node in nodes)
        assert told == [
            ("", ""),
            ("DataError", "this member has no rows"),
            ("MessageError", "expected one record confide.body, got 1 records or one of another kind"),
        ]
        digests = {replies[f"client {node}"][0] for node in nodes} - {nothing}
        assert len(digests) == 1
        assert digests < expected
    wait_for(lambda: not processes_at(tmp_path), deadline, "the end of all processes")
