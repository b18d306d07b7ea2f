"""A whole run of real parties with a fake training, on disk: what is told, kept, and taken up again."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from confide.errors import RoundFailedError, RunDirectoryError, RunInterrupted, StorageError
from confide.federate import Federation, Observer, restore, run, start
from confide.messages import (
    JoinReply,
    Message,
    OpenRequest,
    ReleaseRequest,
    SignRequest,
    TrainReply,
    TrainRequest,
    decode,
)
from confide.records import RoundRecord
from confide.run import RunDirectory
from confide.tracking.tracker import TrackedRun
from tests.town import LAYOUT, NAMES, FakeWriter, Town, on


class Watcher(Observer):
    """Writes down what it is told; may raise when a round is done, as a user who presses Ctrl-C does."""

    def __init__(self, done: Callable[[int], None] = lambda number: None, num_clients: int = len(NAMES)) -> None:
        self.told: list[tuple[str, int, int]] = []
        self.done = done
        self.num_clients = num_clients

    def round_started(self, round_number: int, num_rounds: int, num_clients: int) -> None:
        self.told.append(("started", round_number, num_rounds))
        assert num_clients == self.num_clients

    def round_finished(self, record: RoundRecord, num_rounds: int) -> None:
        self.told.append(("finished", record.round_number, num_rounds))
        self.done(record.round_number)


class Notebook:
    """A tracker that keeps what it is given."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, Mapping[str, object]]] = []

    def start(self, run: TrackedRun) -> None: ...

    def log(self, record: Mapping[str, object], step: int) -> None:
        self.rows.append((step, record))

    def finish(self) -> None: ...


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create(tmp_path / "town", config_toml="", name="town", seed=0, notes={})


def federation(town: Town, num_rounds: int = 4) -> Federation:
    return Federation(
        server=town.server,
        clients=list(town.clients.values()),
        transport=town.transport,
        notes=town.notes,
        sealing=town.sealing,
        layout=LAYOUT,
        writer=FakeWriter(),
        num_rounds=num_rounds,
    )


def run_to_the_end(town: Town, directory: RunDirectory, num_rounds: int = 4) -> list[RoundRecord]:
    parties = federation(town, num_rounds)
    state = restore(parties, directory) if directory.rounds() else start(parties, directory)
    return run(parties, directory, state, observer=Watcher(num_clients=len(town.names)), trackers=[])


def adapters(directory: RunDirectory) -> list[bytes]:
    return [(directory.round_folder(number) / "adapter.bin").read_bytes() for number in directory.rounds()]


def test_the_start_is_saved_as_round_zero(directory: RunDirectory) -> None:
    town = Town()
    state = start(federation(town), directory)
    assert state.round_number == 0
    assert state.current == set(NAMES)
    assert directory.rounds() == [0]
    assert adapters(directory) == [bytes(16)]
    assert directory.records() == []
    assert (directory.path / "final").readlink() == Path("rounds/0000")


def test_every_round_is_told_tracked_and_kept_in_order(directory: RunDirectory) -> None:
    town, watcher, notebook = Town(), Watcher(), Notebook()
    parties = federation(town, num_rounds=3)
    records = run(parties, directory, start(parties, directory), observer=watcher, trackers=[notebook])
    assert watcher.told == [(event, number, 3) for number in (1, 2, 3) for event in ("started", "finished")]
    assert [found.round_number for found in records] == [1, 2, 3]
    assert records == directory.records()
    lines = (directory.path / "rounds.jsonl").read_text().splitlines()
    assert [RoundRecord.from_json(line) for line in lines] == records
    assert [step for step, _ in notebook.rows] == [1, 2, 3]
    assert [row["loss"] for _, row in notebook.rows] == [found.loss for found in records]
    assert directory.rounds() == [0, 1, 2, 3]


def test_the_adapter_of_a_round_is_the_one_its_clients_hold(directory: RunDirectory) -> None:
    town = Town()
    records = run_to_the_end(town, directory)
    shared = town.clients["south"].state.shared
    assert adapters(directory)[-1] == shared.adapter.tobytes()
    assert records[-1].adapter_digest == shared.digest


def test_a_round_is_on_disk_before_it_is_told(directory: RunDirectory) -> None:
    def look(number: int) -> None:
        assert directory.last_round() == number
        assert directory.final.name == f"{number:04d}"
        assert len((directory.path / "rounds.jsonl").read_text().splitlines()) == number

    parties = federation(Town())
    run(parties, directory, start(parties, directory), observer=Watcher(look), trackers=[])


def test_a_finished_run_says_so_and_keeps_no_states(directory: RunDirectory) -> None:
    run_to_the_end(Town(), directory)
    assert (directory.info["status"], directory.info["reason"]) == ("finished", "")
    assert not list(directory.path.glob("rounds/*/state"))


@pytest.mark.parametrize("last", [0, 1, 3])
def test_four_rounds_equal_some_and_the_rest_after_a_restart(
    last: int, directory: RunDirectory, tmp_path: Path
) -> None:
    whole = RunDirectory.create(tmp_path / "whole", config_toml="", name="whole", seed=0, notes={})
    run_to_the_end(Town(), whole)

    def leave(number: int) -> None:
        if number == last:
            raise RunInterrupted("enough")

    parties = federation(Town())
    state = start(parties, directory)
    if last:
        with pytest.raises(RunInterrupted):
            run(parties, directory, state, observer=Watcher(leave), trackers=[])
    assert directory.last_round() == last
    records = run_to_the_end(Town(), directory)
    assert adapters(directory) == adapters(whole)

    # A figure's digits are on the wire, and no two runs take the same seconds.
    def untimed(found: RoundRecord) -> RoundRecord:
        return replace(found, seconds={}, bytes_up=0)

    assert [untimed(found) for found in records] == [untimed(found) for found in whole.records()]


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (RunInterrupted("enough"), "interrupted", "enough"),
        (KeyboardInterrupt(), "interrupted", "KeyboardInterrupt"),
        (RunDirectoryError("it is full"), "failed", "it is full"),
        (ZeroDivisionError("a record's text"), "failed", "ZeroDivisionError"),
    ],
)
def test_how_a_run_ended_is_kept_and_only_our_own_words_with_it(
    error: BaseException, status: str, reason: str, directory: RunDirectory
) -> None:
    def fail(number: int) -> None:
        if number == 2:
            raise error

    parties = federation(Town())
    with pytest.raises(type(error)):
        run(parties, directory, start(parties, directory), observer=Watcher(fail), trackers=[])
    assert (directory.info["status"], directory.info["reason"]) == (status, reason)
    assert directory.last_round() == 2  # it was saved before anybody was told


def test_a_round_that_fails_leaves_no_trace_and_can_be_tried_again(directory: RunDirectory, tmp_path: Path) -> None:
    town = Town(min_clients=3)
    parties = federation(town)
    state = start(parties, directory)

    def lose_two(number: int) -> None:
        if number == 2:
            town.transport.after = on(TrainReply, "east", "west")(lambda reply: None)

    with pytest.raises(RoundFailedError, match="round 3: 2 of 4 clients delivered"):
        run(parties, directory, state, observer=Watcher(lose_two), trackers=[])
    assert directory.rounds() == [0, 1, 2]
    assert "min_clients is 3" in str(directory.info["reason"])
    assert len((directory.path / "rounds.jsonl").read_text().splitlines()) == 2
    run_to_the_end(Town(min_clients=3), directory)
    undisturbed = RunDirectory.create(tmp_path / "whole", config_toml="", name="whole", seed=0, notes={})
    run_to_the_end(Town(min_clients=3), undisturbed)
    assert adapters(directory) == adapters(undisturbed)


@pytest.mark.parametrize("number", [3, 5, 10])
@pytest.mark.parametrize("kind", [TrainRequest, SignRequest, ReleaseRequest, OpenRequest])
def test_a_run_killed_in_any_phase_goes_on_to_the_same_adapters(
    kind: type[Message], number: int, directory: RunDirectory, tmp_path: Path
) -> None:
    """All parties die with the second half of the phase's messages not sent; what clients keep in files stays."""
    names = tuple(f"client {index}" for index in range(number))

    def sealed_town(folder: str) -> Town:
        return Town(names=names, scheme="onetime", folder=tmp_path / folder)

    def cut(client: str, request: bytes) -> bytes:
        message = decode(request)
        if isinstance(message, kind) and message.round_number == 2 and client > names[number // 2]:
            raise KeyboardInterrupt
        return request

    whole = RunDirectory.create(tmp_path / "whole", config_toml="", name="whole", seed=0, notes={})
    run_to_the_end(sealed_town("undisturbed"), whole, num_rounds=2)
    town = sealed_town("killed")
    parties = federation(town, num_rounds=2)
    state = start(parties, directory)
    town.transport.before = cut
    with pytest.raises(KeyboardInterrupt):
        run(parties, directory, state, observer=Watcher(num_clients=number), trackers=[])
    assert directory.last_round() == 1
    run_to_the_end(sealed_town("killed"), directory, num_rounds=2)
    assert adapters(directory) == adapters(whole)


def test_a_client_behind_at_the_stop_is_level_after_the_restart(directory: RunDirectory, tmp_path: Path) -> None:
    """Whether it catches up in a run that goes on or by being put back from disk, the adapters are the same."""

    def run_without_souths_first_opening(kept: RunDirectory, *, stops: bool) -> None:
        town = Town()
        town.transport.before = on(OpenRequest, "south")(lambda request: None)

        def after_the_first(number: int) -> None:
            town.transport.before = lambda client, request: request
            if stops:
                raise RunInterrupted("enough")

        parties = federation(town)
        run(parties, kept, start(parties, kept), observer=Watcher(after_the_first), trackers=[])

    whole = RunDirectory.create(tmp_path / "whole", config_toml="", name="whole", seed=0, notes={})
    run_without_souths_first_opening(whole, stops=False)
    with pytest.raises(RunInterrupted):
        run_without_souths_first_opening(directory, stops=True)
    assert directory.records()[0].failures == {"south": "no answer"}
    town = Town()
    state = restore(federation(town), directory)
    assert state.current == set(NAMES)
    assert town.clients["south"].state.num_seen == 2  # its training counted, though it was away
    run(federation(town), directory, state, observer=Watcher(), trackers=[])
    assert adapters(directory) == adapters(whole)


def test_a_restart_mends_the_records_the_link_and_what_is_half_written(directory: RunDirectory) -> None:
    parties = federation(Town())

    def leave(number: int) -> None:
        if number == 2:
            raise RunInterrupted("enough")

    with pytest.raises(RunInterrupted):
        run(parties, directory, start(parties, directory), observer=Watcher(leave), trackers=[])
    lines = (directory.path / "rounds.jsonl").read_text()
    (directory.path / "rounds.jsonl").write_text(lines[:-3])
    (directory.path / "final").unlink()
    (directory.path / "rounds" / ".tmp-0-0003").mkdir()
    town = Town()
    state = restore(federation(town), directory)
    assert (state.round_number, state.adapter_digest) == (2, directory.records()[-1].adapter_digest)
    assert (directory.path / "rounds.jsonl").read_text() == lines
    assert (directory.path / "final").readlink() == Path("rounds/0002")
    assert sorted(path.name for path in (directory.path / "rounds").iterdir()) == ["0000", "0001", "0002"]
    assert {client.state.shared.digest for client in town.clients.values()} == {state.adapter_digest}


def test_a_round_under_another_number_is_refused(directory: RunDirectory) -> None:
    start(federation(Town()), directory)
    directory.round_folder(0).rename(directory.round_folder(5))
    with pytest.raises(RunDirectoryError, match=r"rounds/0005 says it is round 0"):
        restore(federation(Town()), directory)


def test_clients_that_do_not_stand_where_the_folder_says_are_refused(directory: RunDirectory) -> None:
    start(federation(Town()), directory)
    town = Town()

    def claim_another(reply: JoinReply) -> bytes:
        signature = town.clients[reply.client]._keys.sign_adapter("town", 0, "00").hex()
        return replace(reply, adapter_digest="00", signature=signature).to_bytes()

    town.transport.after = on(JoinReply, *NAMES)(claim_another)
    with pytest.raises(RunDirectoryError, match=r"rounds/0000 is damaged: the clients do not stand where it says"):
        restore(federation(town), directory)


def test_a_run_with_no_rounds_left_trains_nothing(directory: RunDirectory) -> None:
    town, watcher = Town(), Watcher()
    parties = federation(town, num_rounds=0)
    assert run(parties, directory, start(parties, directory), observer=watcher, trackers=[]) == []
    assert (town.trainer.calls, watcher.told) == ([], [])
    assert directory.info["status"] == "finished"


def test_no_moment_has_a_run_called_finished_that_keeps_what_clients_keep_to_themselves(
    directory: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    def look(self: RunDirectory, status: str, **more: object) -> None:
        told.append(status)
        if status == "finished":
            assert not list(directory.path.glob("rounds/*/state"))
            assert [store.load() for store in town.stores.values()] == [None] * len(NAMES)

    town = Town()
    town.transport.before = on(OpenRequest, "south")(
        lambda request: None if request.round_number == 4 else request.to_bytes()
    )
    parties = federation(town)
    state = start(parties, directory)
    monkeypatch.setattr(RunDirectory, "set_status", look)
    run(parties, directory, state, observer=Watcher(), trackers=[])
    assert directory.records()[-1].failures == {"south": "no answer"}  # so its upload was pending to the end
    assert told == ["running", "finished"]


@pytest.mark.parametrize("has_states", [True, False])
def test_a_run_killed_after_its_last_round_is_finished_without_training(
    has_states: bool, directory: RunDirectory
) -> None:
    def die(number: int) -> None:
        if number == 4:
            raise KeyboardInterrupt

    parties = federation(Town())
    with pytest.raises(KeyboardInterrupt):
        run(parties, directory, start(parties, directory), observer=Watcher(die), trackers=[])
    (directory.path / "rounds.jsonl").write_text("")
    (directory.path / "final").unlink()
    if not has_states:
        directory.drop_state(4)
    town = Town()
    town.stores["south"].save(b"pending still")
    records = run_to_the_end(town, directory)
    assert town.stores["south"].load() is None
    assert [found.round_number for found in records] == [1, 2, 3, 4]
    assert len((directory.path / "rounds.jsonl").read_text().splitlines()) == 4
    assert town.trainer.calls == []
    assert directory.status == "finished"
    assert (directory.path / "final").readlink() == Path("rounds/0004")
    assert not list(directory.path.glob("rounds/*/state"))


def test_what_ended_a_run_is_told_also_where_its_status_cannot_be_written(
    directory: RunDirectory, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(self: RunDirectory, status: str, **more: object) -> None:
        if status == "failed":
            raise StorageError("cannot write run.json: No space left on device")

    def fail(number: int) -> None:
        raise ZeroDivisionError("the cause")

    parties = federation(Town())
    state = start(parties, directory)
    monkeypatch.setattr(RunDirectory, "set_status", full)
    with pytest.raises(ZeroDivisionError, match="the cause"):
        run(parties, directory, state, observer=Watcher(fail), trackers=[])
    assert "the run's status could not be written: cannot write run.json: No space left" in caplog.text
