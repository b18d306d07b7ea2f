"""Members and the server killed between any two steps of a run: it goes on, and ends as one never disturbed."""

import shutil
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from confide.deploy.coordinator import Coordinator
from confide.errors import DeployError, PrivacyBudgetError, RoundFailedError, RunDirectoryError, StorageError
from confide.membership.roster import Roster
from confide.messages import FinishRequest, Message
from confide.parties.bodies import FileBodies
from confide.parties.server import ServerState
from confide.round import RoundResult
from confide.run import RunDirectory
from tests.deploy.field import CONFIG, NAMES, Field, KilledError, fine

FIRST, SECOND, THIRD = NAMES
TWO_ARE_ENOUGH = CONFIG.replace("rounds = 2", "rounds = 2\nmin_clients = 2")


def _final(field: Field, name: str = FIRST) -> bytes:
    final = field.members[name].run / "final"
    assert final.resolve().name == "0002"
    return (final / "adapter_model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    field = Field(tmp_path_factory.mktemp("undisturbed"))
    field.go()
    return _final(field)


def _once(member: str, phase: str, round_number: int) -> Callable[[str, str, int], None]:
    """Kills the member's process the first time that it gets there."""
    done: list[bool] = []

    def disturb(name: str, at: str, number: int) -> None:
        if not done and (name, at, number) == (member, phase, round_number):
            done.append(True)
            raise KilledError

    return disturb


@pytest.mark.parametrize("phase", ["train", "sign", "release", "open"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_member_killed_in_a_phase_fails_the_round_and_a_resume_ends_as_if_nothing_was(
    tmp_path: Path, undisturbed: bytes, phase: str, when: str
) -> None:
    field = Field(tmp_path)
    member = field.members[SECOND]
    setattr(member, when, _once(SECOND, phase, 1))
    with pytest.raises(RoundFailedError):
        field.go()
    assert field.directory.status == "failed"
    member.start()
    field.go()
    assert field.directory.status == "finished"
    assert {_final(field, name) for name in NAMES} == {undisturbed}
    assert [record.members for record in field.directory.records()] == [NAMES, NAMES]


@pytest.mark.parametrize("phase", ["train", "sign"])
def test_a_round_goes_on_without_a_member_that_dies_before_its_list_is_signed(tmp_path: Path, phase: str) -> None:
    field = Field(tmp_path, TWO_ARE_ENOUGH)
    field.members[THIRD].before = _once(THIRD, phase, 2)
    field.go()
    records = field.directory.records()
    assert [record.members for record in records] == [NAMES, NAMES[:2]]
    assert THIRD in records[1].failures
    assert _final(field, FIRST) == _final(field, SECOND)


def test_a_member_that_says_its_budget_is_spent_ends_no_run_that_has_none(tmp_path: Path) -> None:
    def lie(name: str, at: str, number: int) -> None:
        del name
        if (at, number) == ("train", 2):
            raise PrivacyBudgetError("spent")

    field = Field(tmp_path, TWO_ARE_ENOUGH)
    field.members[THIRD].before = lie
    with pytest.raises(PrivacyBudgetError, match=f"client {THIRD}: spent"):
        field.go()
    assert field.directory.status == "failed"
    field.members[THIRD].before = fine
    field.go()
    assert field.directory.status == "finished"
    assert field.directory.last_round() == 2


@pytest.mark.parametrize("phase", ["release", "open"])
def test_a_round_is_completed_with_a_member_that_dies_after_its_list_is_signed(
    tmp_path: Path, undisturbed: bytes, phase: str
) -> None:
    field = Field(tmp_path, TWO_ARE_ENOUGH)
    field.members[THIRD].before = _once(THIRD, phase, 2)
    field.go()
    assert [record.members for record in field.directory.records()] == [NAMES, NAMES]
    assert _final(field, FIRST) == undisturbed
    assert field.directory.status == "finished"
    assert field.directory.info["behind"] == [THIRD]
    assert f"its last adapter is not at {THIRD}: start what is missing" in field.notices[-1]


@pytest.mark.parametrize("away", [None, FIRST])
def test_a_member_that_missed_the_last_opening_gets_the_last_adapter_by_a_resume(
    tmp_path: Path, undisturbed: bytes, away: str | None
) -> None:
    field = Field(tmp_path, TWO_ARE_ENOUGH)
    field.members[THIRD].before = _once(THIRD, "open", 2)
    field.go()
    assert {RunDirectory(field.members[name].run).status for name in NAMES} == {"running"}  # they could hand it over
    if away is not None:
        field.members[away].kill()
    field.members[THIRD].start()
    field.go()
    assert field.directory.status == "finished"
    assert field.directory.info["behind"] == []
    assert field.directory.last_round() == 2
    assert {_final(field, name) for name in NAMES} == {undisturbed}
    there = [name for name in NAMES if name != away]
    assert {RunDirectory(field.members[name].run).status for name in there} == {"finished"}


def test_a_member_that_fails_in_the_last_opening_and_is_there_gets_the_last_adapter_at_once(
    tmp_path: Path, undisturbed: bytes
) -> None:
    def fail(name: str, at: str, number: int) -> None:
        if (at, number) == ("open", 2):
            raise StorageError(f"{name} has no space left")

    field = Field(tmp_path, TWO_ARE_ENOUGH)
    field.members[THIRD].before = fail
    field.go()
    assert THIRD in field.directory.records()[-1].failures
    assert field.directory.info["behind"] == []
    assert {_final(field, name) for name in NAMES} == {undisturbed}
    assert {RunDirectory(field.members[name].run).status for name in NAMES} == {"finished"}


@pytest.mark.parametrize("who", ["", THIRD])
def test_killed_before_the_last_round_is_the_final_one_it_becomes_so_by_a_resume(
    tmp_path: Path, undisturbed: bytes, monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    field = Field(tmp_path)
    publish = RunDirectory.publish
    done: list[bool] = []

    def killed(self: RunDirectory, number: int) -> None:
        is_it = self.path == field.run if not who else self.path.parent == field.members[who].folder
        if is_it and number == 2 and not done:
            done.append(True)
            raise KilledError if who else KeyboardInterrupt
        publish(self, number)

    monkeypatch.setattr(RunDirectory, "publish", killed)
    with pytest.raises(RoundFailedError if who else KeyboardInterrupt):
        field.go()
    directory = field.directory if not who else RunDirectory(field.members[who].run)
    assert (directory.last_round(), (directory.path / "final").resolve().name) == (2, "0001")
    if who:
        field.members[who].start()
    field.go()
    assert field.directory.status == "finished"
    assert (field.run / "final").resolve().name == "0002"
    assert {_final(field, name) for name in NAMES} == {undisturbed}


def test_a_resume_without_the_member_that_lacks_the_last_adapter_ends_the_run_for_good(tmp_path: Path) -> None:
    field = Field(tmp_path, TWO_ARE_ENOUGH)
    field.members[THIRD].before = _once(THIRD, "open", 2)
    field.go()
    field.go()
    assert field.directory.status == "finished"
    assert field.directory.info["behind"] == []
    assert f"not at {THIRD}: any other member that took part has it" in str(field.directory.info["reason"])
    statuses = {name: RunDirectory(field.members[name].run).status for name in NAMES}
    assert statuses == {FIRST: "finished", SECOND: "finished", THIRD: "running"}


def test_the_last_adapter_is_handed_over_later_where_none_that_has_it_is_there(
    tmp_path: Path, undisturbed: bytes
) -> None:
    field = Field(tmp_path, TWO_ARE_ENOUGH)
    field.members[THIRD].before = _once(THIRD, "open", 2)
    field.go()
    for name in NAMES[:2]:
        field.members[name].kill()
    with pytest.raises(RoundFailedError, match="no member is there that has the last adapter"):
        field.go()
    field.members[THIRD].start()
    with pytest.raises(RoundFailedError, match="no member is there that has the last adapter"):
        field.go()
    assert field.directory.info["behind"] == [THIRD]
    field.members[SECOND].start()  # one that has it is enough
    field.go()
    assert field.directory.status == "finished"
    assert {_final(field, name) for name in NAMES} == {undisturbed}


def test_a_member_that_never_took_part_keeps_no_other_from_finishing(tmp_path: Path) -> None:
    field = Field(tmp_path, TWO_ARE_ENOUGH)
    field.members[THIRD].kill()
    field.go()
    assert field.directory.info["behind"] == []
    assert {RunDirectory(field.members[name].run).status for name in NAMES[:2]} == {"finished"}


def test_a_member_does_not_finish_after_a_round_that_it_lacks(tmp_path: Path, undisturbed: bytes) -> None:
    field = Field(tmp_path)

    def too_far(message: Message) -> Message:
        return replace(message, round_number=3) if isinstance(message, FinishRequest) else message

    field.members[THIRD].hears = too_far
    field.go()
    assert {_final(field, name) for name in NAMES} == {undisturbed}
    statuses = {name: RunDirectory(field.members[name].run).status for name in NAMES}
    assert statuses == {FIRST: "finished", SECOND: "finished", THIRD: "running"}


def test_a_disk_of_the_servers_that_is_full_is_no_fault_of_a_members(
    tmp_path: Path, undisturbed: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    field = Field(tmp_path, TWO_ARE_ENOUGH)
    keep = FileBodies.keep

    def full(self: FileBodies, client: str, bodies: Sequence[bytes]) -> Sequence[bytes]:
        if client == THIRD:
            raise StorageError("no space left")
        return keep(self, client, bodies)

    monkeypatch.setattr(FileBodies, "keep", full)
    with pytest.raises(StorageError, match="no space left"):
        field.go()
    assert field.directory.status == "failed"
    monkeypatch.undo()
    field.go()
    assert [record.members for record in field.directory.records()] == [NAMES, NAMES]
    assert {_final(field, name) for name in NAMES} == {undisturbed}


def test_a_member_that_was_away_catches_up(tmp_path: Path) -> None:
    field = Field(tmp_path, TWO_ARE_ENOUGH.replace("rounds = 2", "rounds = 3"))
    member = field.members[THIRD]
    member.before = _once(THIRD, "train", 1)

    def back_again(name: str, phase: str, number: int) -> None:
        if (phase, number) == ("train", 2) and member.node is None:
            member.start()

    field.members[FIRST].before = back_again
    field.go()
    assert [record.members for record in field.directory.records()] == [NAMES[:2], NAMES[:2], NAMES]
    last = {(field.members[name].run / "rounds" / "0003" / "adapter_model.safetensors").read_bytes() for name in NAMES}
    assert len(last) == 1


@pytest.mark.parametrize("phase", ["offer", "train", "sign", "release", "open"])
@pytest.mark.parametrize(
    "who", [FIRST, pytest.param(SECOND, marks=pytest.mark.slow), pytest.param(THIRD, marks=pytest.mark.slow)]
)
def test_the_server_killed_in_a_phase_ends_as_if_nothing_was(
    tmp_path: Path, undisturbed: bytes, phase: str, who: str
) -> None:
    """Killed as soon as one member has answered: after the first, the second or the last one."""
    field = Field(tmp_path)
    done: list[bool] = []

    def disturb(name: str, at: str, number: int) -> None:
        if not done and (name, at) == (who, phase):
            done.append(True)
            raise KeyboardInterrupt

    field.members[who].after = disturb
    with pytest.raises(KeyboardInterrupt):
        field.go()
    field.go()
    assert field.directory.status == "finished"
    assert {_final(field, name) for name in NAMES} == {undisturbed}
    assert [record.members for record in field.directory.records()] == [NAMES, NAMES]


def test_the_server_killed_before_it_has_written_a_round_down_finishes_it(
    tmp_path: Path, undisturbed: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    field = Field(tmp_path)
    save = Coordinator._save

    def killed(self: Coordinator, result: RoundResult, began: float, present: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Coordinator, "_save", killed)
    with pytest.raises(KeyboardInterrupt):
        field.go()
    monkeypatch.setattr(Coordinator, "_save", save)
    assert field.directory.last_round() == 0
    field.go()
    assert {_final(field, name) for name in NAMES} == {undisturbed}
    first = field.directory.records()[0]
    assert first.members == NAMES
    assert first.update_norm is None  # the members had told it to the server that died


def test_a_run_directory_put_back_from_a_backup_is_refused(tmp_path: Path) -> None:
    field = Field(tmp_path)
    field.members[FIRST].before = lambda name, phase, number: _stop_at(phase, number)
    with pytest.raises(KeyboardInterrupt):
        field.go()
    folder = field.run / "rounds"
    for name in ("0001", "0002"):
        if (folder / name).exists():
            (folder / name).rename(tmp_path / name)
    (field.run / "opening").unlink(missing_ok=True)
    with pytest.raises(RunDirectoryError, match="put back from a backup"):
        field.go()


def _stop_at(phase: str, number: int) -> None:
    if (phase, number) == ("train", 2):
        raise KeyboardInterrupt


def test_a_server_killed_while_it_ends_a_run_ends_it_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    field = Field(tmp_path)
    finish = Coordinator._finish

    def killed(self: Coordinator, state: ServerState) -> None:
        finish(self, state)  # the members have heard it
        raise KeyboardInterrupt

    monkeypatch.setattr(Coordinator, "_finish", killed)
    with pytest.raises(KeyboardInterrupt):
        field.go()
    assert RunDirectory.open(field.members[FIRST].run).status == "finished"
    monkeypatch.setattr(Coordinator, "_finish", finish)
    field.go()
    assert field.directory.status == "finished"


def test_an_opening_that_nobody_has_opened_is_opened_by_those_that_are_there(
    tmp_path: Path, undisturbed: bytes
) -> None:
    """The members are bound to the list that they released for: no other list of the round could be opened."""
    field = Field(tmp_path, TWO_ARE_ENOUGH)

    def killed(name: str, phase: str, number: int) -> None:
        if phase == "open":
            raise KeyboardInterrupt

    field.members[FIRST].before = killed
    with pytest.raises(KeyboardInterrupt):
        field.go()
    field.members[FIRST].before = fine
    field.members[THIRD].kill()
    field.go()
    assert [record.members for record in field.directory.records()] == [NAMES, NAMES[:2]]
    assert _final(field, FIRST) == _final(field, SECOND)


def test_a_run_goes_on_from_what_was_saved_though_most_that_are_there_are_behind(tmp_path: Path) -> None:
    field = Field(tmp_path, TWO_ARE_ENOUGH)
    for name in (SECOND, THIRD):
        field.members[name].before = _once(name, "open", 1)
    field.members[THIRD].before = fine
    field.members[SECOND].before = _once(SECOND, "open", 1)
    field.members[FIRST].after = lambda name, phase, number: _stop_at(phase, number)
    with pytest.raises(KeyboardInterrupt):
        field.go()
    assert field.directory.last_round() == 1
    field.members[FIRST].after = fine
    field.members[THIRD].kill()  # of the two that are there now one is behind
    field.members[SECOND].start()
    field.go()
    assert [record.members for record in field.directory.records()] == [NAMES, NAMES[:2]]
    assert _final(field, FIRST) == _final(field, SECOND)


def test_a_member_killed_while_a_kept_round_is_taken_up_costs_a_resume_more(tmp_path: Path, undisturbed: bytes) -> None:
    field = Field(tmp_path)

    def killed(name: str, phase: str, number: int) -> None:
        if phase == "open":
            raise KeyboardInterrupt

    field.members[FIRST].before = killed
    with pytest.raises(KeyboardInterrupt):  # the server, before anybody has opened the sum
        field.go()
    field.members[FIRST].before = fine
    field.members[THIRD].before = _once(THIRD, "open", 1)
    with pytest.raises(RoundFailedError, match="only 2 clients opened the sum"):
        field.go()
    field.members[THIRD].start()
    field.go()
    assert [record.members for record in field.directory.records()] == [NAMES, NAMES]
    assert {_final(field, name) for name in NAMES} == {undisturbed}


@pytest.mark.parametrize("lost", ["the folder", "the terms", "the ledger", "the list"])
def test_a_member_that_lost_what_it_released_takes_no_further_part(tmp_path: Path, lost: str) -> None:
    field = Field(tmp_path)
    member = field.members[FIRST]

    def lose(name: str, phase: str, number: int) -> None:
        if (phase, number) == ("train", 2):
            ledgers = list((member.run / "clients").rglob("releases.jsonl"))
            assert len(ledgers) == 1
            if lost == "the folder":
                shutil.rmtree(member.run)
            else:
                {
                    "the terms": member.run / "terms",
                    "the ledger": ledgers[0],
                    "the list": member.folder / "accepted",
                }[lost].unlink()
            member.start()
            raise KeyboardInterrupt

    member.before = lose
    with pytest.raises(KeyboardInterrupt):
        field.go()
    member.before = fine
    with pytest.raises(RoundFailedError, match=r"2 of 3 members are there.*RunDirectoryError"):
        field.go()
    assert lost == "the folder" or (member.run / "clients").is_dir()


def test_a_run_of_an_earlier_roster_does_not_go_on_at_a_member_that_has_a_new_one(tmp_path: Path) -> None:
    field = Field(tmp_path)
    member = field.members[FIRST]

    def change(name: str, phase: str, number: int) -> None:
        if (phase, number) == ("train", 2):
            member.roster = Roster([field.members[name].identity.public for name in (FIRST, SECOND)])
            member.start()

    member.before = change
    with pytest.raises(RoundFailedError, match=f"another roster than {FIRST} holds: it adds {THIRD}"):
        field.go()
    assert field.directory.last_round() == 1


def _failing_looks(field: Field, monkeypatch: pytest.MonkeyPatch, places: Collection[int]) -> None:
    """Has the network fail to say who is there, at these looks."""
    nodes, looks = field.nodes, count(1)

    def look() -> list[int]:
        if next(looks) in places:
            raise DeployError("the SuperLink failed")
        return nodes()

    monkeypatch.setattr(field, "nodes", look)
    monkeypatch.setattr("confide.deploy.coordinator._LOOK_SECONDS", 0.01)


def test_a_network_that_fails_to_say_who_is_there_costs_no_run(
    tmp_path: Path, undisturbed: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    field = Field(tmp_path)
    _failing_looks(field, monkeypatch, {1, 2, 4})  # as members are waited for, and before a round
    field.go()
    assert {_final(field, name) for name in NAMES} == {undisturbed}
    assert field.notices.count("nobody is looked for at present: the SuperLink failed") == 2


def test_a_network_that_never_says_who_is_there_is_the_cause_that_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    field = Field(tmp_path)
    _failing_looks(field, monkeypatch, range(1, 10000))
    with pytest.raises(RoundFailedError, match=r"0 of 3 members are there.*the network: the SuperLink failed"):
        field.go()
    assert field.directory.status == "failed"
