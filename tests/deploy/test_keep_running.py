"""What stands in for Flower's SuperExec and keeps it running, and what ends a SuperNode that is no longer whole."""

import importlib.util
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

import pytest

from confide.deploy import keep_running
from confide.deploy.processes import environment
from confide.deploy.stand_ins import SUPEREXEC, with_stand_ins
from confide.deploy.whole_command import LEFT_BEHIND

SECONDS = 30.0


def wait_for(is_so: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not is_so():
        assert time.monotonic() < deadline, f"{what} did not come in time"
        time.sleep(0.05)


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def is_dead(pid: int) -> bool:
    """Whether it ended and nobody has asked for its exit code, as in a container whose first process asks for none."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return state.startswith("Z")


@pytest.fixture
def noting(tmp_path: Path) -> list[str]:
    """A command that notes its process and its arguments, and stays."""
    script = (
        "import os, sys, time\n"
        f"open({str(tmp_path / 'started')!r}, 'a').write(f'{{os.getpid()}} {{sys.argv[1:]}}\\n')\n"
        "time.sleep(600)\n"
    )
    return [sys.executable, "-c", script]


@pytest.fixture
def kept(tmp_path: Path, noting: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    with (tmp_path / "told").open("wb") as told:
        process = subprocess.Popen([sys.executable, "-IS", keep_running.__file__, *noting, "a b", "c"], stderr=told)
    yield process
    with suppress(ProcessLookupError):
        process.terminate()
    process.wait(SECONDS)


def started(folder: Path) -> list[int]:
    path = folder / "started"
    return [int(line.split()[0]) for line in path.read_text().splitlines()] if path.exists() else []


def start_of(folder: Path, number: int) -> int:
    """Waits for a start, from 1, and gives its process."""
    wait_for(lambda: len(started(folder)) >= number, f"start {number}")
    return started(folder)[number - 1]


def test_a_command_that_ends_is_started_again_with_its_arguments(tmp_path: Path, kept: subprocess.Popen[bytes]) -> None:
    for number in (1, 2):
        os.kill(start_of(tmp_path, number), signal.SIGKILL)
    start_of(tmp_path, 3)
    assert {line.partition(" ")[2] for line in (tmp_path / "started").read_text().splitlines()} == {"['a b', 'c']"}
    told = (tmp_path / "told").read_text()
    assert "ended by itself; it is started again in 1 s" in told
    assert "ended by itself; it is started again in 2 s" in told


def test_what_looks_for_the_process_that_started_it_still_finds_it(
    tmp_path: Path, kept: subprocess.Popen[bytes]
) -> None:
    """As Flower's server app does, which would end a run with it."""
    first = start_of(tmp_path, 1)
    os.kill(first, signal.SIGKILL)
    start_of(tmp_path, 2)
    assert is_there(first)
    kept.terminate()
    assert kept.wait(SECONDS) == 0
    assert not any(is_there(pid) for pid in started(tmp_path))


def test_it_ends_with_the_process_that_started_it(tmp_path: Path, noting: list[str]) -> None:
    command = [sys.executable, "-IS", keep_running.__file__, *noting]
    script = f"import subprocess, time; print(subprocess.Popen({command!r}).pid, flush=True); time.sleep(600)"
    starter = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert starter.stdout is not None
    own = int(starter.stdout.readline())
    start_of(tmp_path, 1)
    starter.kill()
    starter.wait()
    starter.stdout.close()
    wait_for(lambda: not is_there(started(tmp_path)[0]), "the end of the command")
    wait_for(lambda: not is_there(own) or is_dead(own), "its own end")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no device that is always full")
def test_a_command_is_started_again_where_nothing_can_be_written(tmp_path: Path, noting: list[str]) -> None:
    with Path("/dev/full").open("wb") as full:
        process = subprocess.Popen([sys.executable, "-IS", keep_running.__file__, *noting], stderr=full)
    os.kill(start_of(tmp_path, 1), signal.SIGKILL)
    assert start_of(tmp_path, 2)
    process.terminate()
    process.wait(SECONDS)


def test_one_that_cannot_be_started_is_tried_again(tmp_path: Path, noting: list[str]) -> None:
    command = tmp_path / "command"
    process = subprocess.Popen([sys.executable, "-IS", keep_running.__file__, str(command)], stderr=subprocess.DEVNULL)
    time.sleep(0.5)
    command.write_text(f"#!/bin/sh\nexec {shlex.join(noting)}\n")
    command.chmod(0o700)
    assert start_of(tmp_path, 1)
    process.terminate()
    process.wait(SECONDS)


def test_one_that_bears_being_asked_is_killed(tmp_path: Path) -> None:
    script = (
        "import os, signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"open({str(tmp_path / 'started')!r}, 'a').write(f'{{os.getpid()}}\\n')\ntime.sleep(600)\n"
    )
    process = subprocess.Popen([sys.executable, "-IS", keep_running.__file__, sys.executable, "-c", script])
    start_of(tmp_path, 1)
    process.terminate()
    process.wait(SECONDS)
    assert not is_there(started(tmp_path)[0])


def test_superexec_is_found_by_its_name_and_is_flowers(tmp_path: Path) -> None:
    pytest.importorskip("flwr", reason="needs the extra flower")
    surroundings = with_stand_ins(environment(tmp_path), tmp_path / "bin")
    assert oct((tmp_path / "bin").stat().st_mode & 0o777) == "0o700"
    process = subprocess.Popen(
        [SUPEREXEC], env=surroundings, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    assert process.stderr is not None
    told = ""
    while "started again in 1 s" not in told:
        line = process.stderr.readline()
        assert line, told  # else it ended
        told += line
    process.terminate()
    process.communicate(timeout=SECONDS)
    assert "--runtime-api-address is required" in told


@pytest.mark.parametrize(
    ("part", "rest", "code"),
    [
        ("raise ValueError('heartbeat')", "time.sleep(600)", 1),
        ("raise SystemExit(3)", "pass", 0),
        ("time.sleep(600)", "raise ValueError('heartbeat')", 1),
        ("time.sleep(600)", "raise SystemExit", 0),
        ("time.sleep(600)", "raise SystemExit(4)", 4),
        ("time.sleep(600)", "sys.exit('ValueError: heartbeat')", 1),
    ],
)
def test_a_command_ends_with_its_main_thread_and_with_an_error_in_any(
    tmp_path: Path, part: str, rest: str, code: int
) -> None:
    ended = run_parts(tmp_path, part, rest, stderr=subprocess.PIPE)
    assert ended.returncode == code, ended.stderr
    assert ended.stdout == "['parts', '--host', 'a']\n"
    assert ("ValueError: heartbeat" in ended.stderr) == ("ValueError" in part + rest)


def test_a_supernode_that_leaves_a_message_behind_is_asked_to_end(tmp_path: Path) -> None:
    say = f"logging.getLogger('flwr').warning({LEFT_BEHIND!r}, 1, 'a')"
    prepare = "import logging, signal; signal.signal(signal.SIGTERM, lambda *given: sys.exit(7))"
    ended = run_parts(tmp_path, "pass", f"{prepare}; {say}; time.sleep(600)", stderr=subprocess.PIPE)
    assert ended.returncode == 7, ended.stderr
    other = say.replace("Ignoring message", "Ignoring reply message")  # of that one nothing is left
    assert run_parts(tmp_path, "pass", f"{prepare}; {other}", stderr=subprocess.PIPE).returncode == 0


def test_flower_says_so_where_it_leaves_a_message_behind() -> None:
    """In these words: with others, the SuperNode would be taken for whole."""
    pytest.importorskip("flwr", reason="needs the extra flower")
    found = importlib.util.find_spec("flwr.supernode.start_client_internal")
    assert found is not None
    assert found.origin is not None
    assert f'"{LEFT_BEHIND}"' in Path(found.origin).read_text()
    assert environment(Path())["FLWR_LOG_LEVEL"] == "INFO"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no device that is always full")
@pytest.mark.parametrize(
    ("part", "rest"),
    [
        ("raise ValueError", "time.sleep(600)"),
        ("time.sleep(600)", "raise ValueError"),
        ("time.sleep(600)", "sys.exit('a')"),
    ],
)
def test_a_command_ends_with_any_part_where_nothing_can_be_written(tmp_path: Path, part: str, rest: str) -> None:
    with Path("/dev/full").open("w") as full:
        assert run_parts(tmp_path, part, rest, stderr=full).returncode == 1


def run_parts(tmp_path: Path, part: str, rest: str, *, stderr: IO[str] | int) -> subprocess.CompletedProcess[str]:
    """Runs a command of two threads."""
    (tmp_path / "parts.py").write_text(
        f"import sys, threading, time\ndef part():\n    {part}\ndef main():\n    print(sys.argv)\n"
        f"    thread = threading.Thread(target=part)\n    thread.start()\n    {rest}\n"
    )
    info = tmp_path / "parts-1.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: parts\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[console_scripts]\nparts = parts:main\n")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-P", "-m", "confide.deploy.whole_command", "parts", "--host", "a"],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        timeout=SECONDS,
        check=False,
    )
