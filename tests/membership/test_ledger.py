import errno
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.errors import SecretKeyError, StorageError
from confide.membership.ledger import MAX_LISTS, FileLedger, MemoryLedger, ReleaseLedger
from confide.membership.memberlist import Entry, MemberList
from confide.membership.roster import MAX_MEMBERS

Ledger = Callable[[], ReleaseLedger]
ANEW = "a round key was released before in another list.* every member must upload anew"


def members(
    run: str, round_number: int, names: str, *key_ids: str, weight: float = 1.0, limit: float = 1.0
) -> MemberList:
    """A list of clients with names of one letter each; their keys are called after them if not told."""
    return MemberList(
        run=run,
        round_number=round_number,
        roster_digest=bytes(32),
        sealing_digest=bytes(32),
        num_values=10,
        limit=limit,
        reference_weight=2.0,
        entries=tuple(
            Entry(client=name, weight=weight, key_id=key_id, upload_digest="03" * 32)
            for name, key_id in zip(names, key_ids or [name.encode().hex() for name in names], strict=True)
        ),
    )


def one(round_number: int, run: str = "r") -> MemberList:
    return members(run, round_number, "abc")


def other(round_number: int, run: str = "r") -> MemberList:
    return members(run, round_number, "abd", "f1", "f2", "f3")


def in_memory() -> Ledger:
    ledger = MemoryLedger()
    return lambda: ledger


def in_file(path: Path) -> Ledger:
    ledger = FileLedger(path)
    return lambda: ledger


def restarted(path: Path) -> Ledger:
    return lambda: FileLedger(path)


@pytest.fixture(params=["memory", "file", "restarted"])
def ledger(request: pytest.FixtureRequest, path: Path) -> Ledger:
    """Gives the ledger to claim from next: the same one, or one of a process that was just started."""
    return {"memory": in_memory(), "file": in_file(path), "restarted": restarted(path)}[request.param]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "releases.jsonl"


def test_a_round_is_released_for_one_set_of_members(ledger: Ledger) -> None:
    ledger().claim(one(1))
    ledger().claim(one(1))
    for others in (
        other(1),
        members("r", 1, "ab", "f1", "f2"),
        members("r", 1, "abcd", "f1", "f2", "f3", "f4"),
        members("r", 1, "abc", "f1", "f2", "f3", weight=0.5),
    ):
        with pytest.raises(SecretKeyError, match="round 1 of run r was released for other members before"):
            ledger().claim(others)
    ledger().claim(one(1))
    ledger().claim(other(3))


def test_a_round_done_again_with_new_keys_only_is_released(ledger: Ledger) -> None:
    lists = [one(1), members("r", 1, "abc", "f1", "f2", "f3"), members("r", 1, "abc", "f4", "f5", "f6")]
    for anew in lists:
        ledger().claim(anew)
    for again in (*lists, *reversed(lists)):
        ledger().claim(again)


def test_a_server_that_has_one_member_upload_again_and_again_gets_one_sum(ledger: Ledger) -> None:
    """The attack: sums of the other members' keys and of ever new ternary keys of one member give the others' away."""
    lists = [members("r", 1, "abc", "a0", "b0", f"c{number}") for number in range(20)]
    released = []
    for attempt in (*lists, *lists):
        try:
            ledger().claim(attempt)
            released.append(attempt)
        except SecretKeyError as error:
            assert re.search(ANEW, str(error))  # noqa: PT017
    assert released == [lists[0], lists[0]]


@pytest.mark.parametrize(
    "key_ids",
    [
        ("61", "f2", "f3"),
        ("f1", "f2", "63"),
        ("f1", "61", "f3"),
        ("e1", "f2", "f3"),
        ("f1", "f2", "e2"),
        ("f1", "f2", ""),
        ("", "", ""),
        ("f1", "f2", "f1"),
    ],
)
def test_a_key_is_released_in_one_list(ledger: Ledger, key_ids: tuple[str, ...]) -> None:
    ledger().claim(one(1))
    ledger().claim(members("r", 1, "abc", "e1", "e2", "e3"))
    with pytest.raises(SecretKeyError, match=ANEW):
        ledger().claim(members("r", 1, "abc", *key_ids))
    ledger().claim(members("r", 1, "abc", "f1", "f2", "f3"))  # what is refused uses up no key


def test_the_same_keys_in_a_list_that_differs_otherwise_are_refused(ledger: Ledger) -> None:
    ledger().claim(one(1))
    with pytest.raises(SecretKeyError, match=ANEW):
        ledger().claim(members("r", 1, "abc", limit=0.5))


def test_key_ids_of_other_rounds_and_runs_are_other_keys(ledger: Ledger) -> None:
    ledger().claim(one(1))
    ledger().claim(one(2))
    ledger().claim(one(1, "s"))
    ledger().claim(members("s", 1, "abc", "f1", "f2", "f3"))
    ledger().claim(members("r", 2, "abc", "f1", "f2", "f3"))


def test_a_first_list_may_have_keys_without_names(ledger: Ledger) -> None:
    ledger().claim(members("r", 1, "abc", "", "", ""))
    ledger().claim(members("r", 1, "abc", "", "", ""))
    ledger().claim(one(1))


def test_lists_of_a_round_are_bounded(ledger: Ledger) -> None:
    lists = [members("r", 1, "ab", f"a{number:04}", f"b{number:04}") for number in range(MAX_LISTS + 1)]
    for number in range(MAX_LISTS):
        ledger().claim(lists[number])
    with pytest.raises(SecretKeyError, match=f"round 1 of run r was released for {MAX_LISTS} lists before"):
        ledger().claim(lists[MAX_LISTS])
    ledger().claim(lists[0])
    ledger().claim(lists[MAX_LISTS - 1])
    ledger().claim(members("s", 1, "ab"))
    ledger().claim(members("r", 2, "ab"))
    ledger().claim(members("r", 2, "ab", "f1", "f2"))


def test_rounds_only_go_forward(ledger: Ledger) -> None:
    ledger().claim(one(1))
    ledger().claim(one(5))
    for round_number in (4, 2, 1):
        with pytest.raises(SecretKeyError, match=f"round {round_number} of run r lies before round 5"):
            ledger().claim(one(round_number))
    ledger().claim(one(5))


def test_runs_do_not_touch_each_other(ledger: Ledger) -> None:
    ledger().claim(one(5))
    ledger().claim(other(1, "s"))
    ledger().claim(one(5))
    with pytest.raises(SecretKeyError):
        ledger().claim(one(1, "s"))


def test_the_largest_list_is_written_and_read_again(path: Path) -> None:
    largest = MemberList(
        run="漢" * 42,
        round_number=2**32 - 1,
        roster_digest=bytes(32),
        sealing_digest=bytes(32),
        num_values=10,
        limit=1.0,
        reference_weight=2.0,
        entries=tuple(
            Entry(client=f"client {number}", weight=1.0, key_id=f"{number:064x}", upload_digest="03" * 32)
            for number in range(MAX_MEMBERS)
        ),
    )
    FileLedger(path).claim(largest)
    FileLedger(path).claim(largest)
    assert len(path.read_bytes().splitlines()) == 1


any_list = st.builds(
    members,
    st.sampled_from("rs"),
    st.sampled_from([1, 1, 1, 2]),
    st.sampled_from(["ab", "ab", "ab", "ac"]),
    st.sampled_from(["", *"0123456789abcdef"]),
    st.sampled_from(["", *"0123456789abcdef"]),
    weight=st.sampled_from([1.0, 1.0, 1.0, 0.5]),
    limit=st.sampled_from([1.0, 1.0, 0.5]),
)


@given(st.lists(any_list, max_size=12).flatmap(lambda lists: st.permutations(lists + lists[:4])))
def test_a_file_decides_as_memory_does_and_no_key_is_in_two_lists(
    tmp_path_factory: pytest.TempPathFactory, claims: list[MemberList]
) -> None:
    folder = tmp_path_factory.mktemp("ledger")
    ledgers = [in_memory(), in_file(folder / "kept.jsonl"), restarted(folder / "restarted.jsonl")]
    released: list[MemberList] = []
    for claim in claims:
        answers = []
        for ledger in ledgers:
            try:
                ledger().claim(claim)
                answers.append("")
            except SecretKeyError as error:
                answers.append(str(error))
        assert len(set(answers)) == 1
        if not answers[0]:
            released.append(claim)
    for at, later in enumerate(released):
        before = [earlier for earlier in released[:at] if earlier.run == later.run]
        assert all(earlier.round_number <= later.round_number for earlier in before)
        for earlier in before:
            if earlier.round_number == later.round_number and earlier != later:
                assert earlier.members_digest == later.members_digest
                assert not {entry.key_id for entry in earlier.entries} & {entry.key_id for entry in later.entries}


def test_a_restart_changes_nothing(path: Path) -> None:
    FileLedger(path).claim(one(1))
    with pytest.raises(SecretKeyError, match="released for other members"):
        FileLedger(path).claim(other(1))
    FileLedger(path).claim(one(1))
    FileLedger(path).claim(other(2))
    with pytest.raises(SecretKeyError, match="lies before round 2"):
        FileLedger(path).claim(one(1))
    assert len(path.read_bytes().splitlines()) == 2
    written = json.loads(path.read_bytes().splitlines()[1])
    del written["check"]
    assert written == {
        "run": "r",
        "round_number": 2,
        "members_digest": other(2).members_digest,
        "list_digest": other(2).digest,
        "key_ids": ["f1", "f2", "f3"],
    }


def test_a_claim_is_on_the_disk_before_it_returns(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    real = os.fsync

    def note(descriptor: int) -> None:
        synced.append((Path(f"/proc/self/fd/{descriptor}").readlink(), path.read_bytes()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    FileLedger(path).claim(one(1))
    assert [place for place, _ in synced] == [path.parent, path]
    assert one(1).digest.encode() in synced[1][1]
    FileLedger(path).claim(members("r", 1, "abc", "f1", "f2", "f3"))
    assert [place for place, _ in synced[2:]] == [path]
    assert len(synced[2][1].splitlines()) == 2


def test_a_claim_that_a_killed_process_left_unsynced_is_synced_before_it_returns(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def killed(descriptor: int) -> None:
        raise Killed

    synced = []
    real = os.fsync

    def note(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        real(descriptor)

    monkeypatch.setattr(os, "fsync", killed)
    with pytest.raises(Killed):
        FileLedger(path).claim(one(1))
    assert path.read_bytes() == b""
    monkeypatch.setattr(os, "fsync", note)
    FileLedger(path).claim(one(1))
    assert synced == [path.parent, path]
    FileLedger(path).claim(one(1))
    assert synced == [path.parent, path, path]


@pytest.mark.parametrize("kept", [0, 1, 50, -2, -1])
def test_a_last_line_without_an_end_never_happened(path: Path, kept: int) -> None:
    ledger = FileLedger(path)
    ledger.claim(one(1))
    before = path.read_bytes()
    ledger.claim(one(2))
    line = path.read_bytes()[len(before) :]
    path.write_bytes(before + line[:kept])
    after = FileLedger(path)
    with pytest.raises(SecretKeyError, match="released for other members"):
        after.claim(other(1))
    after.claim(other(2))
    assert path.read_bytes().startswith(before)
    assert len(path.read_bytes().splitlines()) == 2
    FileLedger(path).claim(other(2))


def test_every_other_damage_is_refused_and_nothing_is_written(path: Path) -> None:
    ledger = FileLedger(path)
    for round_number in (1, 2, 3):
        ledger.claim(one(round_number))
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
            FileLedger(path).claim(one(4))
        assert path.read_bytes() == content


def test_a_file_removed_or_put_back_while_in_use_is_noticed(path: Path) -> None:
    ledger = FileLedger(path)
    ledger.claim(one(1))
    old = path.read_bytes()
    ledger.claim(one(2))
    path.write_bytes(old)
    with pytest.raises(SecretKeyError, match="lost the claim of round 2"):
        ledger.claim(other(2))
    path.unlink()
    with pytest.raises(SecretKeyError, match="lost the claim of round 2"):
        ledger.claim(other(3))


def test_one_list_of_many_put_back_while_in_use_is_noticed(path: Path) -> None:
    ledger = FileLedger(path)
    ledger.claim(one(1))
    old = path.read_bytes()
    again = members("r", 1, "abc", "f1", "f2", "f3")
    ledger.claim(again)
    ledger.claim(one(1))
    new = path.read_bytes()
    path.write_bytes(old)
    for attempt in (one(1), members("r", 1, "abc", "f1", "f2", "f4"), again):
        with pytest.raises(SecretKeyError, match="lost the claim of round 1"):
            ledger.claim(attempt)
    path.unlink()
    FileLedger(path).claim(again)
    with pytest.raises(SecretKeyError, match="lost the claim of round 1"):
        ledger.claim(again)
    path.write_bytes(new)
    FileLedger(path).claim(members("r", 1, "abc", "e1", "e2", "e3"))  # another process's claim is no loss
    ledger.claim(again)
    FileLedger(path).claim(one(2))
    ledger.claim(other(3))


def test_a_file_of_the_old_form_is_refused(path: Path) -> None:
    path.write_text('{"run": "r", "round_number": 1, "members_digest": "' + "11" * 32 + '", "check": "00"}\n')
    with pytest.raises(SecretKeyError, match=r"line 1 of the release ledger .* must have exactly the fields"):
        FileLedger(path).claim(one(1))


@pytest.mark.parametrize("key_ids", [None, "ab", 1, [1], [["ab"]], {"ab": 1}])
def test_key_ids_of_another_type_are_refused(path: Path, key_ids: object) -> None:
    FileLedger(path).claim(one(1))
    path.write_text(json.dumps(json.loads(path.read_bytes()) | {"key_ids": key_ids}) + "\n")
    with pytest.raises(SecretKeyError, match=r"line 1 of the release ledger .*key_ids must be a list of texts"):
        FileLedger(path).claim(one(1))


def test_a_full_disk_claims_nothing_or_the_same_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FileLedger(path).claim(one(1))

    def full_disk(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full_disk)
        with pytest.raises(StorageError, match=r"cannot write .*releases\.jsonl: No space left"):
            FileLedger(path).claim(one(2))
    # The line may have reached the disk: then it binds.
    with pytest.raises(SecretKeyError):
        FileLedger(path).claim(other(2))
    FileLedger(path).claim(one(2))


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"cannot write .*/no/ledger: No such file"):
        FileLedger(tmp_path / "no" / "ledger").claim(one(1))


def test_only_the_owner_reads_the_file(path: Path) -> None:
    FileLedger(path).claim(one(1))
    assert path.stat().st_mode & 0o077 == 0


RACER = """
import sys
from dataclasses import replace
from pathlib import Path
from confide.errors import SecretKeyError
from confide.membership.ledger import FileLedger
from confide.membership.memberlist import MemberList
path, mine = Path(sys.argv[1]), MemberList.from_bytes(bytes.fromhex(sys.argv[2]))
print("ready", flush=True)
sys.stdin.readline()
won = []
for round_number in range(1, 41):
    try:
        FileLedger(path).claim(replace(mine, round_number=round_number))
        won.append(round_number)
    except SecretKeyError as error:
        assert "line" not in str(error), error
print(*won)
"""


def start_racer(path: Path, mine: MemberList) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", RACER, str(path), mine.to_bytes().hex()]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("second", [other(1), members("r", 1, "abc", "61", "f2", "f3")])
def test_of_two_processes_one_gets_each_round(path: Path, second: MemberList) -> None:
    racers = [start_racer(path, mine) for mine in (one(1), second)]
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

    FileLedger(path).claim(one(1))
    with path.open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        waiting = start_racer(path, one(1))
        assert waiting.stdin is not None
        waiting.stdin.write("go\n")
        waiting.stdin.flush()
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(timeout=0.7)
        assert len(path.read_bytes().splitlines()) == 1
    waiting.communicate()
    assert len(path.read_bytes().splitlines()) == 40
