import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.errors import MessageError, SecretKeyError, StorageError
from confide.membership.ledger import FileLedger, MemoryLedger, ReleaseLedger

ONE, OTHER = "11" * 32, "22" * 32

Opener = Callable[[Path], ReleaseLedger]


def in_memory(path: Path) -> ReleaseLedger:
    return MemoryLedger()


KINDS: list[Opener] = [in_memory, FileLedger]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "releases.jsonl"


@pytest.mark.parametrize("opener", KINDS)
def test_a_round_is_released_for_one_list_of_members(opener: Opener, path: Path) -> None:
    ledger = opener(path)
    ledger.claim("r", 1, ONE)
    ledger.claim("r", 1, ONE)
    with pytest.raises(SecretKeyError, match="round 1 of run r was released for other members before"):
        ledger.claim("r", 1, OTHER)
    ledger.claim("r", 1, ONE)
    ledger.claim("r", 3, OTHER)


@pytest.mark.parametrize("opener", KINDS)
def test_rounds_only_go_forward(opener: Opener, path: Path) -> None:
    ledger = opener(path)
    ledger.claim("r", 1, ONE)
    ledger.claim("r", 5, ONE)
    for round_number in (4, 2, 1):
        with pytest.raises(SecretKeyError, match=f"round {round_number} of run r lies before round 5"):
            ledger.claim("r", round_number, ONE)
    ledger.claim("r", 5, ONE)


@pytest.mark.parametrize("opener", KINDS)
def test_runs_do_not_touch_each_other(opener: Opener, path: Path) -> None:
    ledger = opener(path)
    ledger.claim("r", 5, ONE)
    ledger.claim("s", 1, OTHER)
    ledger.claim("r", 5, ONE)
    with pytest.raises(SecretKeyError):
        ledger.claim("s", 1, ONE)


@pytest.mark.parametrize("opener", KINDS)
def test_what_could_not_be_read_again_is_not_claimed(opener: Opener, path: Path) -> None:
    ledger = opener(path)
    for run, round_number, digest in [
        ("", 1, ONE),
        ("\ud800", 1, ONE),
        ("r", 0, ONE),
        ("r", 2**32, ONE),
        ("r", 1, "x"),
    ]:
        with pytest.raises(MessageError):
            ledger.claim(run, round_number, digest)
    ledger.claim("r", 1, ONE)


@given(st.lists(st.tuples(st.sampled_from("rs"), st.integers(1, 4), st.sampled_from([ONE, OTHER])), max_size=8))
def test_a_file_restarted_before_every_claim_decides_as_memory_does(
    tmp_path_factory: pytest.TempPathFactory, claims: list[tuple[str, int, str]]
) -> None:
    path = tmp_path_factory.mktemp("ledger") / "releases.jsonl"
    memory = MemoryLedger()
    for claim in claims:
        answers = []
        for ledger in (memory, FileLedger(path)):
            try:
                ledger.claim(*claim)
                answers.append("")
            except SecretKeyError as error:
                answers.append(str(error))
        assert answers[0] == answers[1]


def test_a_restart_changes_nothing(path: Path) -> None:
    FileLedger(path).claim("r", 1, ONE)
    with pytest.raises(SecretKeyError, match="released for other members"):
        FileLedger(path).claim("r", 1, OTHER)
    FileLedger(path).claim("r", 1, ONE)
    FileLedger(path).claim("r", 2, OTHER)
    with pytest.raises(SecretKeyError, match="lies before round 2"):
        FileLedger(path).claim("r", 1, ONE)
    assert len(path.read_bytes().splitlines()) == 2
    assert json.loads(path.read_bytes().splitlines()[1])["members_digest"] == OTHER


def test_a_claim_is_on_the_disk_before_it_returns(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    real = os.fsync

    def note(descriptor: int) -> None:
        synced.append((Path(f"/proc/self/fd/{descriptor}").readlink(), path.read_bytes()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    FileLedger(path).claim("r", 1, ONE)
    assert [place for place, _ in synced] == [path.parent, path]
    assert ONE.encode() in synced[1][1]
    FileLedger(path).claim("r", 1, ONE)
    assert len(synced) == 2


@pytest.mark.parametrize("kept", [0, 1, 50, -2, -1])
def test_a_last_line_without_an_end_never_happened(path: Path, kept: int) -> None:
    ledger = FileLedger(path)
    ledger.claim("r", 1, ONE)
    before = path.read_bytes()
    ledger.claim("r", 2, ONE)
    line = path.read_bytes()[len(before) :]
    path.write_bytes(before + line[:kept])
    restarted = FileLedger(path)
    with pytest.raises(SecretKeyError, match="released for other members"):
        restarted.claim("r", 1, OTHER)
    restarted.claim("r", 2, OTHER)
    assert path.read_bytes().startswith(before)
    assert len(path.read_bytes().splitlines()) == 2
    FileLedger(path).claim("r", 2, OTHER)


def test_every_other_damage_is_refused_and_nothing_is_written(path: Path) -> None:
    ledger = FileLedger(path)
    for round_number in (1, 2, 3):
        ledger.claim("r", round_number, ONE)
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    damaged = [
        lines[0] + lines[2],
        lines[1] + lines[2],
        lines[1] + lines[0] + lines[2],
        whole + lines[2],
        whole + b"\n",
        b"\n" + whole,
        whole.replace(b" ", b""),
        bytes(len(whole)) + b"\n",
        b"[" * 100_000 + b"\n",
    ]
    damaged += [lines[1] + lines[2][:-5]]
    damaged += [whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :] for place in range(len(whole) - 1)]
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(SecretKeyError, match=r"line \d of the release ledger .*releases\.jsonl"):
            FileLedger(path).claim("r", 4, ONE)
        assert path.read_bytes() == content


def test_a_file_removed_or_put_back_while_in_use_is_noticed(path: Path) -> None:
    ledger = FileLedger(path)
    ledger.claim("r", 1, ONE)
    old = path.read_bytes()
    ledger.claim("r", 2, ONE)
    path.write_bytes(old)
    with pytest.raises(SecretKeyError, match="lost the claim of round 2"):
        ledger.claim("r", 2, OTHER)
    path.unlink()
    with pytest.raises(SecretKeyError, match="lost the claim of round 2"):
        ledger.claim("r", 3, OTHER)


def test_a_full_disk_claims_nothing_or_the_same_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FileLedger(path).claim("r", 1, ONE)

    def full_disk(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full_disk)
        with pytest.raises(StorageError, match=r"cannot write .*releases\.jsonl: No space left"):
            FileLedger(path).claim("r", 2, ONE)
    # The line may have reached the disk: then it binds.
    with pytest.raises(SecretKeyError):
        FileLedger(path).claim("r", 2, OTHER)
    FileLedger(path).claim("r", 2, ONE)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"cannot write .*/no/ledger: No such file"):
        FileLedger(tmp_path / "no" / "ledger").claim("r", 1, ONE)


def test_only_the_owner_reads_the_file(path: Path) -> None:
    FileLedger(path).claim("r", 1, ONE)
    assert path.stat().st_mode & 0o077 == 0


RACER = """
import sys
from pathlib import Path
from confide.errors import SecretKeyError
from confide.membership.ledger import FileLedger
path, mine = Path(sys.argv[1]), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
won = []
for round_number in range(1, 41):
    try:
        FileLedger(path).claim("r", round_number, mine)
        won.append(round_number)
    except SecretKeyError as error:
        assert "line" not in str(error), error
print(*won)
"""


def test_of_two_processes_one_gets_each_round(path: Path) -> None:
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(path), digest], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for digest in (ONE, OTHER)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    won = [set(map(int, racer.communicate()[0].split())) for racer in racers]
    assert all(racer.returncode == 0 for racer in racers)
    assert not won[0] & won[1]
    claims = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert {claim["round_number"] for claim in claims} == won[0] | won[1]
    assert [claim["round_number"] for claim in claims] == sorted(won[0] | won[1])


def test_a_second_process_waits_for_the_first(path: Path) -> None:
    import fcntl

    FileLedger(path).claim("r", 1, ONE)
    with path.open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        other = subprocess.Popen(
            [sys.executable, "-c", RACER, str(path), ONE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert other.stdin is not None
        other.stdin.write("go\n")
        other.stdin.flush()
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(timeout=0.7)
        assert len(path.read_bytes().splitlines()) == 1
    other.communicate()
    assert len(path.read_bytes().splitlines()) == 40
