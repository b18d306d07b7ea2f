"""A reply that the SuperLink cannot write in time, over real Flower: the node drops it, and it comes all the same."""

import hashlib
import json
import shutil
import sqlite3
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from confide.deploy.control import start_run, thin_app
from tests.deploy.test_loopback import running_node, running_server, wait_for

SECONDS = 300.0  # the transport asks after two minutes of silence
LOCKED_SECONDS = 9.0  # SQLite gives up after 5, the node's next call waits for the rest
REQUEST = b"request"

pytestmark = pytest.mark.slow


class LockedDatabase:
    """Somebody else's long write to the SuperLink's database, from when it is first called."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._is_locked = threading.Event()
        self.num = 0

    def __call__(self, request: bytes) -> bytes:
        self.num += 1
        if self.num == 1:
            threading.Thread(target=self._write).start()
            assert self._is_locked.wait(SECONDS)
        return request[::-1]

    def _write(self) -> None:
        database = sqlite3.connect(self._path, timeout=SECONDS, isolation_level=None)
        database.execute("BEGIN IMMEDIATE")
        self._is_locked.set()
        time.sleep(LOCKED_SECONDS)
        database.execute("ROLLBACK")
        database.close()


def phase_of(run: Path, home: Path, app: Path, deadline: float) -> dict[str, Any]:
    """Runs a run of one phase."""
    run.mkdir()
    (run / "shared").write_bytes(REQUEST)
    (run / "plan.json").write_text(json.dumps({"nodes": 1, "phases": 1, "seconds": SECONDS}))
    settings = run / "settings.toml"
    settings.write_text(tomli_w.dumps({"folder": str(run)}))
    start_run(home, app, settings)
    wait_for((run / "phases.json").exists, deadline, "the reply")
    (phase,) = json.loads((run / "phases.json").read_text())
    found: dict[str, Any] = phase
    return found


def test_a_reply_that_the_superlink_could_not_write_is_asked_for_again(tmp_path: Path) -> None:
    deadline = time.monotonic() + SECONDS
    with ExitStack() as stack:
        server = stack.enter_context(running_server(tmp_path))
        worker = LockedDatabase(server.home / "state.db")
        stack.enter_context(running_node(tmp_path / "node", server, worker))
        app = thin_app(tmp_path / "app")
        shutil.copy(Path(__file__).with_name("loopback_app.py"), app / "confide_app.py")
        phase = phase_of(tmp_path / "run", server.home, app, deadline)
        (client,) = {name for name in phase["replies"] if name not in ("nobody", "stranger")}
        digest, error_kind, _ = phase["replies"][client]
        asked = f"{client.removeprefix('client ')}:".encode() + REQUEST
        assert (digest, error_kind) == (hashlib.sha256(asked[::-1]).hexdigest(), "")
        assert worker.num == 1
        assert phase["seconds"] < SECONDS * 2 / 3
        assert "Failed to send message" in (tmp_path / "node" / "supernode.log").read_text()
        assert "database is locked" in (server.home / "superlink.log").read_text()
        again = phase_of(tmp_path / "next", server.home, app, time.monotonic() + SECONDS)
        assert again["replies"][client] == [
            digest,
            "",
            "",
        ]  # what starts apps at the server lives, or was started again
        assert again["seconds"] < phase["seconds"]
        assert worker.num == 2
