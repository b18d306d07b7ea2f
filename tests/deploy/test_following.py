"""Following a run from outside its process."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from confide.deploy.control import FlowerRun
from confide.deploy.following import NotStartedError, follow_run, note_death
from confide.errors import DeployError, RunDirectoryError, RunInterrupted
from confide.records import RoundRecord
from confide.run import RunDirectory


def record(number: int) -> RoundRecord:
    return RoundRecord(
        round_number=number,
        cohort=("a",),
        members=("a",),
        failures={},
        learning_rate=0.1,
        loss=1.0,
        held_out_loss=None,
        update_norm=1.0,
        bytes_up=1,
        bytes_down=1,
        seconds={"total": 1.0},
        sealing="onetime",
        is_sealed=True,
        server_reads=False,
        num_values=1,
        sparsity=0.0,
        saturated=0.0,
        privacy="none",
        epsilon=None,
        adapter_digest="",
    )


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create(tmp_path / "run", config_toml="", name="run", seed=0, notes={"id": "1"})


class Follower:
    """Follows a run in whose life something happens each second."""

    def __init__(self, directory: RunDirectory, *events: Callable[[], object]) -> None:
        self.shown: list[int] = []
        self.told: list[str] = []
        self.seconds = 0.0
        self._directory = directory
        self._events = iter(events)

    def follow(self, look: Callable[[], FlowerRun], check: Callable[[], None] = lambda: None) -> None:
        follow_run(
            self._directory,
            look=look,
            show=lambda one: self.shown.append(one.round_number),
            tell=self.told.append,
            check=check,
            sleep=self._sleep,
            clock=lambda: self.seconds,
        )

    def _sleep(self, seconds: float) -> None:
        self.seconds += seconds
        assert self.seconds < 1000
        next(self._events, lambda: None)()


def flower(status: str, details: str = "") -> Callable[[], FlowerRun]:
    return lambda: FlowerRun(run_id=1, status=status, details=details)


def silent() -> FlowerRun:
    raise DeployError("`flwr list` failed")


def add_half_a_line(directory: RunDirectory) -> None:
    with (directory.path / "rounds.jsonl").open("a") as file:
        file.write('{"round_number": 3, ')


def test_each_round_from_now_on_is_shown_once_until_the_run_is_finished(directory: RunDirectory) -> None:
    directory.append_record(record(1))
    follower = Follower(
        directory,
        lambda: directory.append_record(record(2)),
        lambda: add_half_a_line(directory),
        lambda: (directory.path / "rounds.jsonl").write_text(
            "".join(f"{record(number).to_json()}\n" for number in (1, 2, 3))
        ),
        lambda: directory.set_status("finished"),
    )
    follower.follow(flower("running"))
    assert follower.shown == [2, 3]


def test_each_notice_is_told_once(directory: RunDirectory) -> None:
    follower = Follower(
        directory,
        lambda: directory.set_status("running", notices=["a", "b"], num_notices=2),
        lambda: None,
        lambda: directory.set_status("running", notices=["b", "c"], num_notices=3),
        lambda: directory.set_status("finished", notices=["c", "d"], num_notices=4),
    )
    follower.follow(flower("running"))
    assert follower.told == ["a", "b", "c", "d"]


def test_a_run_that_fails_is_told_with_its_reason_and_what_to_do(directory: RunDirectory) -> None:
    follower = Follower(directory, lambda: directory.set_status("failed", reason="2 of 3 clients delivered"))
    with pytest.raises(DeployError, match=r"has failed: 2 of 3 clients delivered\nGo on with: .* --resume run"):
        follower.follow(flower("running"))


def test_a_server_app_that_died_is_noticed(directory: RunDirectory) -> None:
    with pytest.raises(DeployError, match=r"died \(finished:failed; killed\)(.|\n)*--resume run"):
        Follower(directory).follow(flower("finished:failed", "killed"))


def test_an_app_that_ends_just_after_it_finished_did_not_die(directory: RunDirectory) -> None:
    def look() -> FlowerRun:
        directory.set_status("finished")
        return FlowerRun(run_id=1, status="finished:completed", details="")

    Follower(directory).follow(look)


def test_a_server_that_is_gone_is_noticed_and_one_silent_moment_is_none(directory: RunDirectory) -> None:
    with pytest.raises(DeployError, match=r"the server is gone: `flwr list` failed\nStart it again"):
        Follower(directory).follow(silent)
    answers = iter([silent, flower("running"), silent, flower("finished:stopped")])
    with pytest.raises(DeployError, match=r"died \(finished:stopped"):
        Follower(directory).follow(lambda: next(answers)())


def test_the_operator_can_stop_following(directory: RunDirectory) -> None:
    def check() -> None:
        raise RunInterrupted("stopped")

    with pytest.raises(RunInterrupted):
        Follower(directory).follow(flower("running"), check)


def test_a_death_is_noted_unless_a_process_works_on_the_run(directory: RunDirectory) -> None:
    with directory.locked(), pytest.raises(RunDirectoryError):
        note_death(directory, "killed")
    note_death(directory, "killed")
    assert (directory.status, directory.info["reason"]) == ("interrupted", "killed")
    directory.set_status("finished", reason="")
    note_death(directory, "killed")
    assert directory.status == "finished"


@pytest.mark.parametrize("status", ["pending", "starting"])
def test_an_app_that_flower_does_not_start_is_no_wait_without_an_end(directory: RunDirectory, status: str) -> None:
    follower = Follower(directory)
    with pytest.raises(NotStartedError, match=rf"within 120 s \(it says: {status}\)\. Stop the server and start it"):
        follower.follow(flower(status))
    assert 120 <= follower.seconds <= 160


def test_an_app_that_starts_late_is_followed(directory: RunDirectory) -> None:
    def look() -> FlowerRun:
        return flower("pending" if follower.seconds < 119 else "running")()

    follower = Follower(directory, *[lambda: None] * 300, lambda: directory.set_status("finished"))
    follower.follow(look)
    assert follower.seconds == 301


@pytest.mark.parametrize("status", ["interrupted", "finished"])
def test_an_app_that_flower_starts_for_a_run_that_was_given_up_does_nothing(
    directory: RunDirectory, status: str
) -> None:
    flower_app = pytest.importorskip("confide.flower_app", reason="needs the extra flower")
    directory.set_status(status, reason="as made by the test")
    context = SimpleNamespace(run_config={"folder": str(directory.path)})
    with pytest.raises(RunDirectoryError, match=rf"run is {status}, and was not taken up again: nothing is done"):
        flower_app.server(None, context)
    assert directory.status == status
