"""Starting and ending processes that must not outlive whoever started them."""

import fcntl
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from confide.deploy import keeper as keeper_module
from confide.deploy.certificates import KeyPlaces, make_authority
from confide.deploy.control import thin_app
from confide.deploy.guard import GRACE_SECONDS
from confide.deploy.held import held, holder, stop_holder
from confide.deploy.keeper import MAX_RESTARTS, Keeper
from confide.deploy.processes import (
    GuardedProcess,
    check_port_free,
    environment,
    free_port,
    superlink_command,
    supernode_command,
    wait_until_healthy,
    write_connection,
)
from confide.errors import DeployError, MissingExtraError

SECONDS = 20.0
IGNORING = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)"


def wait_for(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that ended and was not waited for does not."""
    try:
        os.kill(pid, 0)
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (ProcessLookupError, FileNotFoundError):
        return False


def noting_pid(folder: Path, first: str = "") -> list[str]:
    """A command that does `first`, then writes its number into the file `pid`, and stays."""
    note = f"import os, pathlib, time; pathlib.Path({str(folder / 'pid')!r}).write_text(str(os.getpid()))"
    return [sys.executable, "-c", f"{first}\n{note}\ntime.sleep(600)"]


def noted_pid(folder: Path) -> int:
    wait_for(lambda: (folder / "pid").exists() and (folder / "pid").read_text() != "")
    return int((folder / "pid").read_text())


def test_a_guarded_process_ends_when_asked_and_its_output_is_private(tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    end = f"lambda *_: (__import__('pathlib').Path({str(asked)!r}).touch(), sys.exit())"
    first = f"import signal, sys; signal.signal(signal.SIGTERM, {end})"
    process = GuardedProcess(noting_pid(tmp_path, first), environment=os.environ, log=tmp_path / "log")
    pid = noted_pid(tmp_path)
    assert is_alive(pid)
    process.stop()
    assert not is_alive(pid)
    assert asked.exists()
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600


def test_a_guarded_process_ends_with_its_starter_however_that_dies(tmp_path: Path) -> None:
    script = (
        "import os, pathlib, sys, time\n"
        "from confide.deploy.processes import GuardedProcess\n"
        f"log = pathlib.Path({str(tmp_path / 'log')!r})\n"
        f"process = GuardedProcess({noting_pid(tmp_path)!r}, environment=os.environ, log=log)\n"
        "time.sleep(600)"
    )
    starter = subprocess.Popen([sys.executable, "-c", script])
    pid = noted_pid(tmp_path)
    starter.kill()
    starter.wait()
    wait_for(lambda: not is_alive(pid))


def test_a_process_that_ignores_the_request_is_killed(tmp_path: Path) -> None:
    script = (
        "import sys; from confide.deploy import guard; guard.GRACE_SECONDS = 0.2; sys.exit(guard.main(sys.argv[1:]))"
    )
    guard = subprocess.Popen(
        [sys.executable, "-c", script, *noting_pid(tmp_path, IGNORING)], stdin=subprocess.PIPE, start_new_session=True
    )
    pid = noted_pid(tmp_path)
    assert guard.stdin is not None
    guard.stdin.close()
    assert guard.wait(SECONDS) == -signal.SIGKILL
    wait_for(lambda: not is_alive(pid))


def test_what_bears_the_request_is_killed_once_the_command_has_ended(tmp_path: Path) -> None:
    """As an app that was forked, and finishes its message where the process ends that it came from."""
    script = f"import subprocess, time; subprocess.Popen({noting_pid(tmp_path, IGNORING)!r}); time.sleep(600)"
    guard = subprocess.Popen(
        [sys.executable, "-m", "confide.deploy.guard", sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    pid = noted_pid(tmp_path)
    assert guard.stdin is not None
    guard.stdin.close()
    assert guard.wait(GRACE_SECONDS / 2) == -signal.SIGKILL
    wait_for(lambda: not is_alive(pid))


def test_what_a_killed_guard_leaves_is_ended_by_its_starter(tmp_path: Path) -> None:
    process = GuardedProcess(noting_pid(tmp_path), environment=os.environ, log=tmp_path / "log")
    pid = noted_pid(tmp_path)
    os.kill(process.pid, signal.SIGKILL)
    wait_for(lambda: process.exit_code is not None)
    process.stop()
    wait_for(lambda: not is_alive(pid))


def test_a_process_that_ends_is_started_again_and_then_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper_module, "_LOOK_SECONDS", 0.01)
    starts: list[int] = []

    def start() -> GuardedProcess:
        starts.append(1)
        command = [sys.executable, "-c", "print('no such node'); raise SystemExit(3)"]
        return GuardedProcess(command, environment=os.environ, log=tmp_path / "log")

    with Keeper(start, what="flower-supernode", first_pause_seconds=0.001) as keeper:
        wait_for(lambda: keeper.has_failed)
        with pytest.raises(DeployError, match=r"flower-supernode ended 8 times, now with code 3:\n(.|\n)*no such node"):
            keeper.check()
    assert len(starts) == 1 + MAX_RESTARTS


def test_a_process_whose_log_is_gone_is_kept_and_one_that_cannot_be_started_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper_module, "_LOOK_SECONDS", 0.01)
    log = tmp_path / "log"
    starts: list[int] = []

    def start() -> GuardedProcess:
        starts.append(1)
        if len(starts) == 3:
            raise OSError("no process can be started")
        process = GuardedProcess([sys.executable, "-c", ""], environment=os.environ, log=log)
        log.unlink()
        return process

    with Keeper(start, what="flower-supernode", first_pause_seconds=0.001) as keeper:
        wait_for(lambda: keeper.has_failed)
        with pytest.raises(DeployError, match="flower-supernode cannot be kept running: no process can be started"):
            keeper.check()
    assert len(starts) == 3


def test_what_a_process_wrote_last_is_the_end_of_its_log(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "print('a' * 100_000 + 'the end', end='')"]
    process = GuardedProcess(command, environment=os.environ, log=tmp_path / "log")
    wait_for(lambda: process.exit_code is not None)
    assert re.fullmatch("a{1000,}the end", process.tail())
    (tmp_path / "log").unlink()
    assert process.tail() == ""
    process.stop()


def test_the_holder_of_a_file_is_known_as_long_as_it_lives(tmp_path: Path) -> None:
    path = tmp_path / "server.pid"
    assert holder(path) is None
    with held(path, "the server"):
        assert holder(path) == os.getpid()
        with (
            pytest.raises(DeployError, match=f"the server runs already .process {os.getpid()}"),
            held(path, "the server"),
        ):
            pass
    assert holder(path) is None
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_number_that_nobody_holds_is_never_killed(tmp_path: Path) -> None:
    path = tmp_path / "server.pid"
    path.write_text(f"{os.getpid()}\n")  # as after a crash, with a number that another process has now
    assert not stop_holder(path, seconds=0.1)


def test_whoever_looks_all_the_time_keeps_nobody_from_starting(tmp_path: Path) -> None:
    path = tmp_path / "server.pid"
    path.write_text("")
    is_over = threading.Event()
    seen: set[int | None] = set()

    def look() -> None:
        while not is_over.is_set():
            seen.add(holder(path))

    lookers = [threading.Thread(target=look) for _ in range(2)]
    for looker in lookers:
        looker.start()
    try:
        for _ in range(100):
            with held(path, "the server"):
                pass
        with held(path, "the server"):
            wait_for(lambda: os.getpid() in seen)
    finally:
        is_over.set()
        for looker in lookers:
            looker.join()
    assert seen <= {None, os.getpid()}


def test_two_who_look_at_once_do_not_take_each_other_for_the_holder(tmp_path: Path) -> None:
    path = tmp_path / "server.pid"
    path.write_text(f"{os.getpid()}\n")  # of a process that crashed
    with path.open() as other:
        fcntl.flock(other, fcntl.LOCK_SH)  # as another looker holds it
        assert holder(path) is None
        assert not stop_holder(path, seconds=0.1)


def test_the_number_that_a_crashed_process_left_is_not_taken_for_one_that_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "server.pid"
    left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])  # got the number meanwhile
    path.write_text(f"{left.pid}\n")
    with path.open("r+") as starting:
        fcntl.flock(starting, fcntl.LOCK_EX)

        def write_own(seconds: float) -> None:
            starting.truncate(0)

        monkeypatch.setattr("confide.deploy.held.time.sleep", write_own)
        assert not stop_holder(path, seconds=0.1)
    assert left.poll() is None
    left.kill()
    left.wait()


@pytest.mark.parametrize(
    "then", ["time.sleep(600)", "import signal; signal.signal(15, signal.SIG_IGN); time.sleep(600)"]
)
def test_the_holder_is_asked_to_end_and_then_killed(tmp_path: Path, then: str) -> None:
    path = tmp_path / "client.pid"
    script = (
        "import time; from pathlib import Path; from confide.deploy.held import held\n"
        f"with held(Path({str(path)!r}), 'it'):\n    {then}"
    )
    process = subprocess.Popen([sys.executable, "-c", script])
    reaper = threading.Thread(target=process.wait)
    reaper.start()
    wait_for(lambda: holder(path) == process.pid)
    time.sleep(0.2)  # until it ignores the signal
    assert stop_holder(path, seconds=0.5)
    reaper.join(SECONDS)
    assert process.returncode in (-signal.SIGTERM, -signal.SIGKILL)


def test_the_environment_keeps_flower_quiet_and_at_home(tmp_path: Path) -> None:
    found = environment(tmp_path)
    assert found["FLWR_HOME"] == str(tmp_path)
    assert found["FLWR_TELEMETRY_ENABLED"] == "0"
    assert found["FLWR_DISABLE_UPDATE_CHECK"] == "1"
    assert found["MALLOC_ARENA_MAX"] == "2"
    assert found["FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION"] == "1"
    assert "127.0.0.1" in found["NO_PROXY"].split(",")
    assert Path(found["PATH"].split(os.pathsep)[0], "flower-superexec").exists()


def test_the_commands_authenticate_and_install_nothing(tmp_path: Path) -> None:
    link = superlink_command(
        host="127.0.0.1",
        port=9191,
        ca=tmp_path / "ca.pem",
        certificate=tmp_path / "server.pem",
        certificate_key=tmp_path / "server.key",
        database=tmp_path / "state.db",
    )
    assert {"--enable-supernode-auth", "--disable-runtime-dependency-installation"} <= set(link)
    assert "--insecure" not in link
    node = supernode_command(
        server="a.example.org:9443", ca=tmp_path / "ca.pem", node_key=tmp_path / "k", port=1234, settings=tmp_path / "n"
    )
    assert node[node.index("--host") + 1] == "127.0.0.1"
    assert node[node.index("--auth-supernode-private-key") + 1] == str(tmp_path / "k")
    assert "--insecure" not in node


def test_without_flower_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"confide\[flower\]"):
        supernode_command(server="a:1", ca=tmp_path, node_key=tmp_path, port=1, settings=tmp_path)


def test_a_taken_port_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(DeployError, match=f"127.0.0.1:{port}"):
            check_port_free("127.0.0.1", port)
    check_port_free("127.0.0.1", free_port())


def test_a_server_that_dies_is_told_with_its_last_words(tmp_path: Path) -> None:
    ca = KeyPlaces(certificate=tmp_path / "ca.pem", key=tmp_path / "ca.key")
    make_authority(ca, days=1)
    command = [sys.executable, "-c", "print('the key does not fit'); raise SystemExit(4)"]
    process = GuardedProcess(command, environment=os.environ, log=tmp_path / "log")
    with pytest.raises(DeployError, match=r"exit code 4:\n(.|\n)*the key does not fit"):
        wait_until_healthy(process, free_port(), ca.certificate, seconds=SECONDS)
    process.stop()


def test_the_connection_names_the_server_and_its_ca(tmp_path: Path) -> None:
    write_connection(tmp_path, "127.0.0.1:9191", tmp_path / "ca.pem")
    found = tomllib.loads((tmp_path / "config.toml").read_text())["superlink"]
    assert found == {
        "default": "confide",
        "confide": {"address": "127.0.0.1:9191", "root-certificates": str(tmp_path / "ca.pem")},
    }


def test_the_thin_app_is_the_same_every_time_and_holds_no_code_of_its_own(tmp_path: Path) -> None:
    first, second = thin_app(tmp_path / "a"), thin_app(tmp_path / "b")
    files = {path.name: path.read_bytes() for path in first.iterdir()}
    assert files == {path.name: path.read_bytes() for path in second.iterdir()}
    assert sorted(files) == ["LICENSE", "confide_app.py", "pyproject.toml"]
    assert "import confide.flower_app" in files["confide_app.py"].decode()
