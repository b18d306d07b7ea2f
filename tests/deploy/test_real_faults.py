"""What goes wrong between organisations, on real processes: each fault ends in a round without the member or in a clear
error in time, and `confide deploy run --resume` ends as a run over the same members that nothing disturbed.

With `--log-cli-level INFO` each fault's seconds and words are shown.
"""

import logging
import os
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from confide.deploy.stand_ins import SUPEREXEC
from tests.deploy.one_process import run_in_one_process
from tests.deploy.real import (
    CONFIG,
    NAMES,
    SETTINGS,
    Network,
    Party,
    Running,
    needs_proc,
    network,
    processes_at,
    send,
    wait_for,
)
from tests.deploy.same_members import over_the_same_members

pytestmark = [pytest.mark.slow, needs_proc]

FIRST, SECOND, THIRD = NAMES
OTHERS = (FIRST, SECOND)
QUICK = CONFIG.replace("train_seconds = 60.0", "train_seconds = 30.0").replace(
    "answer_seconds = 40.0", "answer_seconds = 25.0"
)
TWO_ARE_ENOUGH = "federation.min_clients=2"
PHASE_SECONDS = 150.0
"""The longest wait for a phase to come."""
GONE_SECONDS = 200.0
"""How long a run may take to notice that its server is gone: two looks, 30 s apart, of 60 s at most each."""
RUN_SECONDS = 420.0
"""The longest run: 2 rounds of 4 phases and 4 phases beside them, each up to its deadline."""

LOCKED_SECONDS = 30.0
"""A node sends a heartbeat every 20 to 22 s, which the server refuses after 5 s of a locked database."""

_logger = logging.getLogger(__name__)

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts or makes network namespaces: needs root")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("faults")


@pytest.fixture(scope="module")
def shared(place: Path) -> Iterator[Network]:
    with network(place, QUICK, least_members=2) as made:
        yield made
    wait_for(lambda: not processes_at(place), 10.0, "the end of all processes")


@pytest.fixture
def net(shared: Network) -> Iterator[Network]:
    shared.mend()
    yield shared
    shared.end_runs()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    final = run_in_one_process(tmp_path_factory.mktemp("one"), QUICK, SETTINGS)
    return (final / "adapter_model.safetensors").read_bytes()


def failed(running: Running, seconds: float, fault: str, since: float) -> str:
    """Waits for a run to fail, and gives what it told."""
    assert running.end(seconds) != 0, running.output
    told = running.output.strip()
    _logger.info("%s: failed after %.0f s: %s", fault, time.monotonic() - since, told)
    return told


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def finished(running: Running, net: Network, name: str, fault: str, since: float) -> list[tuple[str, ...]]:
    """Waits for a run to finish, and gives who was in each round."""
    assert running.end(RUN_SECONDS) == 0, running.output
    directory = net.directory(name)
    assert directory.status == "finished"
    records = directory.records()
    _logger.info("%s: finished after %.0f s", fault, time.monotonic() - since)
    for record in records:
        _logger.info("  %s, %.0f s, %s", record.members, record.seconds["total"], dict(record.failures))
    return [record.members for record in records]


def test_two_rounds_give_the_adapter_of_one_process_bit_for_bit(net: Network, undisturbed: bytes) -> None:
    running = net.run("calm")
    assert finished(running, net, "calm", "none", running.began) == [NAMES, NAMES]
    assert net.adapters("calm") == {undisturbed}


def test_a_member_killed_in_training_is_left_out_of_the_run(net: Network, tmp_path: Path) -> None:
    member = net.members[THIRD]
    running = net.run("training", TWO_ARE_ENOUGH)
    member.await_line("round 1, train: asked", PHASE_SECONDS)
    member.kill()
    killed = time.monotonic()
    assert "round 1, train: answered" not in member.told()
    members = finished(running, net, "training", "member killed in training", killed)
    assert members == [OTHERS, OTHERS]
    assert net.adapters("training", OTHERS) == {over_the_same_members(tmp_path, QUICK, SETTINGS, members)}
    assert THIRD in net.directory("training").records()[0].failures


@pytest.mark.parametrize(
    "line", ["round 1, train: answered", "round 1, open: asked"], ids=["after its upload", "in opening"]
)
def test_a_round_that_needs_a_killed_member_fails_and_a_resume_ends_as_if_nothing_was(
    net: Network, undisturbed: bytes, line: str
) -> None:
    name = "after-upload" if "train" in line else "opening"
    member = net.members[SECOND]
    running = net.run(name)
    member.await_line(line, PHASE_SECONDS)
    member.kill()
    killed = time.monotonic()
    told = failed(running, RUN_SECONDS, f"member killed at {line!r}, all needed", killed)
    assert SECOND in told
    assert f"--resume {name}" in told
    member.start()
    again = net.resume(name)
    assert finished(again, net, name, "  resumed", again.began) == [NAMES, NAMES]
    assert net.adapters(name) == {undisturbed}


def test_a_round_is_completed_with_a_member_killed_between_upload_and_release(net: Network, undisturbed: bytes) -> None:
    member = net.members[SECOND]
    running = net.run("release", TWO_ARE_ENOUGH)
    member.await_line("round 2, sign: answered", PHASE_SECONDS)
    wait_for(lambda: any("round 2, release: asked" in net.members[name].told() for name in NAMES), 60.0, "release")
    member.kill()
    killed = time.monotonic()
    members = finished(running, net, "release", "member killed between upload and release", killed)
    assert members == [NAMES, NAMES]
    assert net.adapters("release", (FIRST, THIRD)) == {undisturbed}
    assert net.directory("release").info["behind"] == [SECOND]
    member.start()
    again = net.resume("release")
    assert finished(again, net, "release", "  started again, and its last adapter handed over", again.began) == members
    assert net.adapters("release") == {undisturbed}


def test_a_node_that_is_restarted_costs_at_most_the_rounds_that_begin_meanwhile(net: Network, tmp_path: Path) -> None:
    member = net.members[SECOND]
    running = net.run("restarted", TWO_ARE_ENOUGH)
    # Whoever is asked to release is shown the signatures of all: this member's has arrived.
    net.members[FIRST].await_line("round 1, release: asked", PHASE_SECONDS)
    stopped = time.monotonic()
    member.ask_to_end()
    member.end()
    member.start()
    members = finished(running, net, "restarted", "node stopped and started", stopped)
    assert members[0] == NAMES  # its upload counts, though it was away when its sum was opened
    assert set(members[1]) >= {FIRST, THIRD}
    assert net.adapters("restarted", members[1]) == {over_the_same_members(tmp_path, QUICK, SETTINGS, members)}
    if net.directory("restarted").info["behind"]:
        again = net.resume("restarted")
        finished(again, net, "restarted", "  its last adapter handed over", again.began)
    member.await_line("finish: answered", 1.0)
    assert len(net.adapters("restarted")) == 1


def test_a_run_whose_server_is_killed_says_so_and_a_resume_ends_as_if_nothing_was(
    net: Network, undisturbed: bytes
) -> None:
    running = net.run("server")
    net.members[FIRST].await_line("round 1, sign: answered", PHASE_SECONDS)
    net.server.kill()
    killed = time.monotonic()
    told = failed(running, GONE_SECONDS, "SuperLink killed", killed)
    assert "the server is gone" in told
    net.start_server()
    assert all(member.is_running for member in net.members.values())
    again = net.resume("server")
    assert finished(again, net, "server", "  started again and resumed", again.began) == [NAMES, NAMES]
    assert net.adapters("server") == {undisturbed}


def test_a_run_whose_superlink_alone_is_killed_says_so_and_a_resume_ends_as_if_nothing_was(
    net: Network, undisturbed: bytes
) -> None:
    """What else ran at the server finds out by itself, and leaves the run to those who go on with it."""
    running = net.run("link")
    net.members[FIRST].await_line("round 1, sign: answered", PHASE_SECONDS)
    guards = net.server.flower("confide.deploy.guard")
    (link,) = [pid for pid in net.server.flower("flower-superlink") if parent_of(pid) in guards]
    send(signal.SIGKILL, [link])
    killed = time.monotonic()
    told = failed(running, GONE_SECONDS, "SuperLink alone killed", killed)
    assert "resume link" in told
    wait_for(lambda: not net.server.is_running and not net.server.flower(), 30.0, "the end of all of the server")
    net.start_server()
    again = net.resume("link")
    assert finished(again, net, "link", "  started again and resumed", again.began) == [NAMES, NAMES]
    assert net.adapters("link") == {undisturbed}


def superexec_of(party: Party) -> int:
    """Flower's SuperExec, the child of what keeps it running."""
    keepers = party.flower("keep_running.py")
    (found,) = [pid for pid in party.flower(SUPEREXEC) if parent_of(pid) in keepers]
    return found


def test_what_starts_flowers_apps_is_started_again_at_the_server_and_at_a_node(
    net: Network, undisturbed: bytes
) -> None:
    """One call that the SuperLink's database cannot take in time ends it, and nothing of Flower's looks at it again."""
    member = net.members[THIRD]
    running = net.run("superexec")
    member.await_line("round 1, train: asked", PHASE_SECONDS)
    before = {party: superexec_of(party) for party in (net.server, member)}
    send(signal.SIGKILL, list(before.values()))
    killed = time.monotonic()
    members = finished(running, net, "superexec", "SuperExec killed at the server and at a node", killed)
    assert members == [NAMES, NAMES]
    assert net.adapters("superexec") == {undisturbed}
    assert all(superexec_of(party) != pid for party, pid in before.items())
    again = net.run("superexec-next")  # needs the server's
    assert finished(again, net, "superexec-next", "  the next run", again.began) == [NAMES, NAMES]
    assert net.adapters("superexec-next") == {undisturbed}


def test_a_database_that_is_locked_for_longer_than_a_heartbeat_costs_no_member_for_good(
    net: Network, undisturbed: bytes
) -> None:
    running = net.run("locked")
    net.members[FIRST].await_line("round 1, train: answered", PHASE_SECONDS)
    began = time.monotonic()
    database = sqlite3.connect(net.server.folder / "flower" / "state.db", timeout=PHASE_SECONDS, isolation_level=None)
    database.execute("BEGIN IMMEDIATE")
    time.sleep(LOCKED_SECONDS)
    database.execute("ROLLBACK")
    database.close()
    exit_code = running.end(RUN_SECONDS)
    _logger.info("database locked for %.0f s: exit code %d: %s", LOCKED_SECONDS, exit_code, running.output.strip())
    _logger.info("  after %.0f s", time.monotonic() - began)
    assert any("flower-supernode ended with code" in member.told() for member in net.members.values())
    if exit_code != 0:
        assert "resume locked" in running.output
        again = net.resume("locked")
        finished(again, net, "locked", "  resumed", again.began)
    assert [record.members for record in net.directory("locked").records()] == [NAMES, NAMES]
    assert net.adapters("locked") == {undisturbed}


def test_a_run_whose_server_app_is_killed_says_so_and_a_resume_ends_as_if_nothing_was(
    net: Network, undisturbed: bytes
) -> None:
    running = net.run("app")
    net.members[FIRST].await_line("round 1, release: answered", PHASE_SECONDS)
    pids = net.server.flower("flwr-serverapp")
    assert pids
    send(signal.SIGKILL, pids)
    killed = time.monotonic()
    told = failed(running, GONE_SECONDS, "server app killed", killed)
    assert "died" in told
    again = net.resume("app")
    assert finished(again, net, "app", "  resumed", again.began) == [NAMES, NAMES]
    assert net.adapters("app") == {undisturbed}


def test_a_member_slower_than_the_deadline_is_left_out_of_that_round(net: Network, tmp_path: Path) -> None:
    member = net.members[THIRD]
    running = net.run("slow", TWO_ARE_ENOUGH)
    member.await_line("round 1, train: asked", PHASE_SECONDS)
    send(signal.SIGSTOP, [member.pid])
    stopped = time.monotonic()
    net.members[FIRST].await_line("round 1, open: answered", PHASE_SECONDS)
    send(signal.SIGCONT, [member.pid])
    members = finished(running, net, "slow", "member slower than train_seconds", stopped)
    assert members[0] == OTHERS
    assert "no answer within 30 s" in net.directory("slow").records()[0].failures[THIRD]
    assert net.adapters("slow", members[1]) == {over_the_same_members(tmp_path, QUICK, SETTINGS, members)}


@pytest.fixture
def small_disk(net: Network) -> Iterator[Path]:
    """The third member's folder on a disk of 16 MB; gives the file that fills it."""
    member = net.members[THIRD]
    member.ask_to_end()
    member.end()
    kept = member.folder.with_name("kept")
    shutil.copytree(member.folder, kept)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m,mode=0700", "none", member.folder], check=True)
    try:
        shutil.copytree(kept, member.folder, dirs_exist_ok=True)
        member.start()
        yield member.folder / "filling"
    finally:
        member.kill()
        subprocess.run(["umount", "-l", member.folder], check=True)
        shutil.rmtree(kept)


def fill(path: Path) -> None:
    """Writes until nothing fits any more."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass
    assert shutil.disk_usage(path).free == 0


@needs_root
def test_a_full_disk_at_a_node_stops_a_run_that_needs_it_and_a_resume_ends_as_if_nothing_was(
    net: Network, undisturbed: bytes, small_disk: Path
) -> None:
    member = net.members[THIRD]
    running = net.run("full")
    member.await_line("round 1, sign: answered", PHASE_SECONDS)
    fill(small_disk)
    since = time.monotonic()
    told = failed(running, RUN_SECONDS, "disk full at a node", since)
    assert THIRD in told
    assert "StorageError" in told
    small_disk.unlink()
    again = net.resume("full")
    assert finished(again, net, "full", "  space made, resumed", again.began) == [NAMES, NAMES]
    assert net.adapters("full") == {undisturbed}


def test_a_member_whose_client_apps_start_cold_from_the_middle_of_a_message_loses_nothing(
    net: Network, undisturbed: bytes
) -> None:
    member = net.members[THIRD]
    running = net.run("cold")
    member.await_line("round 1, train: asked", PHASE_SECONDS)
    send(signal.SIGSTOP, [member.pid])  # so that the message is being worked on
    warm, guards = member.flower("confide.deploy.warm_command"), member.flower("confide.deploy.guard")
    (loaded,) = [pid for pid in warm if parent_of(pid) in guards and pid not in guards]
    send(signal.SIGKILL, [loaded])
    killed = time.monotonic()
    wait_for(lambda: loaded not in member.flower(), 20.0, "its end")
    time.sleep(1.0)  # in which its guard asks all that is left of it to end
    send(signal.SIGCONT, [member.pid])
    assert finished(running, net, "cold", "process that keeps client apps loaded killed", killed) == [NAMES, NAMES]
    assert net.adapters("cold") == {undisturbed}
    assert not member.flower("confide.deploy.warm_command")
