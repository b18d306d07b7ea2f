"""Client apps that start warm: the same command in a process of its own, and never less than the command itself."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from confide.deploy import hand_over
from confide.deploy.client_apps import COMMAND, WarmClientApps
from confide.deploy.hand_over import END, TAKEN
from confide.deploy.processes import GuardedProcess, environment
from confide.deploy.warm_command import REFUSED

SECONDS = 60.0


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder with a path that is short enough for a socket."""
    with TemporaryDirectory() as folder:
        yield Path(folder)


@contextmanager
def warm(place: Path, command: str, *modules: str) -> Iterator[GuardedProcess]:
    """A process that keeps a command loaded, at the socket "apps"."""
    arguments = [sys.executable, "-m", "confide.deploy.warm_command", str(place / "apps"), command, *modules]
    process = GuardedProcess(arguments, environment=os.environ, log=place / "log")
    try:
        yield process
    finally:
        process.stop()


def wait_for(is_so: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not is_so():
        assert time.monotonic() < deadline, f"{what} did not come in time"
        time.sleep(0.05)


def stand_in(place: Path, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-IS", hand_over.__file__, str(place / "apps"), command, *arguments],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def test_a_command_runs_in_a_fork_as_often_as_it_is_asked_for(place: Path) -> None:
    with warm(place, "confide"):
        wait_for((place / "apps").exists, "the socket")
        for _ in range(2):
            taken = stand_in(place, "/no/such/command", "--version")
            assert (taken.returncode, taken.stdout, taken.stderr) == (0, "", "")
        wait_for(lambda: (place / "log").read_text().count(version("confide")) == 2, "the output of both forks")


def test_a_fork_that_fails_harms_no_other(place: Path) -> None:
    with warm(place, "confide") as process:
        wait_for((place / "apps").exists, "the socket")
        assert stand_in(place, "/no/such/command", "no-such-subcommand").returncode == 0
        wait_for(lambda: "no-such-subcommand" in (place / "log").read_text(), "the error of a fork")
        assert stand_in(place, "/no/such/command", "--version").returncode == 0
        wait_for(lambda: version("confide") in (place / "log").read_text(), "the output of the next one")
        assert process.exit_code is None


def test_without_a_warm_process_the_command_itself_runs(place: Path) -> None:
    cold = stand_in(place, "/bin/echo", "one", "two three")
    assert (cold.returncode, cold.stdout) == (0, "one two three\n")


def test_what_is_no_list_of_texts_is_refused(place: Path) -> None:
    with warm(place, "confide") as process:
        wait_for((place / "apps").exists, "the socket")
        nested, long = b"[" * 60_000, json.dumps(["x" * 70_000]).encode()
        for sent in (b"", b"no json", b'{"a": 1}', b'["a", 1]', nested, long):
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(str(place / "apps"))
                connection.sendall(sent + END)
                assert connection.recv(1) in (REFUSED, b""), sent[:20]
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(place / "apps"))
            connection.sendall(b'["--version"]')
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(1) == REFUSED
        assert process.exit_code is None


def test_with_other_threads_nothing_is_forked_and_the_command_itself_runs(place: Path) -> None:
    (place / "threads.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n"
    )
    arguments = [sys.executable, "-m", "confide.deploy.warm_command", str(place / "apps"), "confide", "threads"]
    surroundings = {**os.environ, "PYTHONPATH": os.pathsep.join([str(place), os.environ.get("PYTHONPATH", "")])}
    process = GuardedProcess(arguments, environment=surroundings, log=place / "log")
    try:
        wait_for((place / "apps").exists, "the socket")
        cold = stand_in(place, "/bin/echo", "cold")
        assert (cold.returncode, cold.stdout) == (0, "cold\n")
    finally:
        process.stop()


def test_what_the_stand_in_no_longer_waits_for_is_not_run_a_second_time(place: Path) -> None:
    with warm(place, "confide") as process:
        wait_for((place / "apps").exists, "the socket")
        os.killpg(process.pid, signal.SIGSTOP)
        cold = stand_in(place, "/bin/echo", "--version", "once")
        assert cold.stdout == "--version once\n"
        os.killpg(process.pid, signal.SIGCONT)
        assert stand_in(place, "/no/such/command", "no-such-subcommand").returncode == 0  # served after the first one
        wait_for(lambda: "no-such-subcommand" in (place / "log").read_text(), "the error of a fork")
        assert version("confide") not in (place / "log").read_text()


def test_what_is_taken_and_not_gone_on_with_is_not_run(place: Path) -> None:
    with warm(place, "confide"):
        wait_for((place / "apps").exists, "the socket")
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(place / "apps"))
            connection.sendall(b'["--version"]' + END)
            assert connection.recv(1) == TAKEN
        assert stand_in(place, "/no/such/command", "no-such-subcommand").returncode == 0
        wait_for(lambda: "no-such-subcommand" in (place / "log").read_text(), "the error of the next one")
        assert version("confide") not in (place / "log").read_text()


def test_it_ends_with_its_guard(place: Path) -> None:
    with warm(place, "confide") as process:
        wait_for((place / "apps").exists, "the socket")
        os.kill(process.pid, signal.SIGKILL)
        wait_for(lambda: stand_in(place, "/bin/echo", "cold").stdout == "cold\n", "the end")


def test_a_folder_that_one_happens_to_stand_in_holds_no_modules_for_it(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "httpx.py").write_text("raise SystemExit('planted')")
    monkeypatch.chdir(place)
    pytest.importorskip("flwr", reason="needs the extra flower")
    with WarmClientApps(place, environment(place / "home"), place / "log") as apps:
        apps.start()
        wait_for((place / "apps").exists, "the socket")
    assert "planted" not in (place / "log").read_text()


@contextmanager
def app_at_work(place: Path) -> Iterator[tuple[WarmClientApps, socket.socket]]:
    """A client app that waits for an answer of its SuperNode; gives the SuperNode's end of the connection."""
    pytest.importorskip("flwr", reason="needs the extra flower")
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,  # takes connections and never answers
        WarmClientApps(place, environment(place / "home"), place / "log") as apps,
    ):
        apps.start()
        wait_for((place / "apps").exists, "the socket")
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        asked = [COMMAND, "--runtime-api-address", address, "--token", "none", "--insecure"]
        subprocess.run(asked, env=apps.environment, check=True, timeout=SECONDS)
        connection, _ = silent.accept()
        with connection:
            connection.settimeout(SECONDS)
            assert connection.recv(1)
            yield apps, connection


def wait_for_the_end(connection: socket.socket) -> None:
    while connection.recv(65_536):  # nothing any more once the app is gone
        pass


def test_apps_of_an_earlier_start_end_with_the_next_one(place: Path) -> None:
    with app_at_work(place) as (apps, connection):
        apps.start()
        wait_for_the_end(connection)


def loaded(log: Path) -> int:
    """The process that keeps the command loaded: of those whose output goes to this file, the guard's child."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it ended meanwhile
            if (entry / "fd" / "1").readlink() == log:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    (found,) = [one for one, parent in parents.items() if parents.get(parent) == os.getpid()]
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
def test_an_app_at_work_outlives_the_process_that_it_was_forked_from(
    place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Asked to end, it would leave its SuperNode waiting for a reply without an end."""
    with app_at_work(place) as (apps, connection):
        os.kill(loaded(place / "log"), signal.SIGKILL)
        wait_for(lambda: stand_in(place, "/bin/echo", "cold").stdout == "cold\n", "the end")
        connection.settimeout(3.0)
        with pytest.raises(TimeoutError):
            wait_for_the_end(connection)
        connection.settimeout(SECONDS)
        apps.start()
        wait_for_the_end(connection)
    assert "had ended; each message took longer" in caplog.text


def test_flowers_command_is_found_by_its_name_and_runs_warm(place: Path) -> None:
    pytest.importorskip("flwr", reason="needs the extra flower")
    with WarmClientApps(place, environment(place / "home"), place / "log") as apps:
        apps.start()
        wait_for((place / "apps").exists, "the socket")
        asked = subprocess.run([COMMAND, "--help"], env=apps.environment, capture_output=True, text=True, check=True)
        assert asked.stdout == ""
        wait_for(lambda: "--runtime-api-address" in (place / "log").read_text(), "Flower's help")
    asked = subprocess.run([COMMAND, "--help"], env=apps.environment, capture_output=True, text=True, check=True)
    assert "--runtime-api-address" in asked.stdout
    assert oct((place / "bin" / COMMAND).stat().st_mode & 0o777) == "0o700"
