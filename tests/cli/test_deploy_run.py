"""`confide deploy run` where Flower does not start the run, or does not say whether it did."""

import json
from contextlib import ExitStack
from pathlib import Path

import pytest

from confide.cli import deploy_run
from confide.cli.deploy_run import register_command, run_command, status_command, stop_command
from confide.deploy.control import FlowerNode, FlowerRun
from confide.deploy.folder_settings import ServerSection
from confide.deploy.folders import ServerFolder
from confide.deploy.following import NotStartedError
from confide.deploy.new_folders import make_server_folder
from confide.deploy.starting import resume_run, start_new_run
from confide.errors import DeployError, DeployFolderError, RunDirectoryError, RunInterrupted, UsageError
from confide.membership import identity as identity_module
from confide.membership.roster import Roster
from confide.run import RunDirectory

CONFIG = '[run]\nname = "trial"\n[model]\nbase = "tiny-llama"\n'
SILENT = "`flwr run` did not end within 60 s"


class Flower:
    """What the command `flwr` says.

    Attributes:
        live: statuses of the runs that it lists; None if it does not answer.
        failure: what starting a run raises; None if it starts.
        stopping: what stopping a run raises.
    """

    def __init__(self) -> None:
        self.live: list[str] | None = []
        self.failure: BaseException | None = DeployError(f"{SILENT}: does the server answer?")
        self.stopping: DeployError | None = None

    def start_run(self, home: Path, app: Path, settings: Path) -> int:
        if self.failure is not None:
            raise self.failure
        return 5

    def list_runs(self, home: Path, run_id: int | None = None) -> list[FlowerRun]:
        if self.live is None:
            raise DeployError("`flwr list` failed")
        return [FlowerRun(run_id=5, status=status, details="") for status in self.live]

    def stop_run(self, home: Path, run_id: int) -> None:
        if self.stopping is not None:
            raise self.stopping


@pytest.fixture
def flower(monkeypatch: pytest.MonkeyPatch) -> Flower:
    made = Flower()
    for name in ("start_run", "list_runs", "stop_run"):
        monkeypatch.setattr(f"confide.deploy.control.{name}", getattr(made, name))
    monkeypatch.setattr("confide.deploy.processes.is_healthy", lambda port, ca, *, host: True)
    return made


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ServerFolder:
    monkeypatch.setattr(identity_module, "_SCRYPT_COST", 2)
    settings = ServerSection(hosts=("localhost",), members=("north", "south", "west"), try_out=True)
    made = make_server_folder(tmp_path / "server", settings=settings)
    made.config.write_text(CONFIG)
    return made


def kept(server: ServerFolder) -> RunDirectory:
    """A run that was started once and stopped before its first round."""
    made = deploy_run._new_run(server, server.config, None, [])
    made.set_status("interrupted", reason="as made by the test")
    return made


def status(server: ServerFolder) -> str:
    return RunDirectory.open(server.runs / "trial").status


def test_a_server_that_does_not_answer_leaves_nothing_behind(
    server: ServerFolder, flower: Flower, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("confide.deploy.processes.is_healthy", lambda port, ca, *, host: False)
    with pytest.raises(DeployError, match="does not answer: start it with `confide deploy server`"):
        run_command(server.path, server.config)
    assert not list(server.runs.iterdir())


def test_nothing_is_registered_at_a_server_that_does_not_answer(
    server: ServerFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For `flwr` would make a config.toml that is not ours."""
    asked: list[Path] = []
    monkeypatch.setattr("confide.deploy.control.register_node", lambda home, key: asked.append(key))
    with pytest.raises(DeployError, match="does not answer: start it with `confide deploy server`"):
        register_command(server.path)
    assert not asked
    assert not (server.flower / "config.toml").exists()


def test_a_key_that_is_not_there_is_named_and_none_is_registered(
    server: ServerFolder, flower: Flower, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Path] = []

    def register(home: Path, key: Path) -> int | None:
        asked.append(key)
        return 7 if asked == [key] else None

    monkeypatch.setattr("confide.deploy.control.register_node", register)
    there = next(iter(server.node_keys().values()))
    with pytest.raises(UsageError, match=r"there is no file nosuch\.pub: give the public node keys"):
        register_command(server.path, [there, Path("nosuch.pub")])
    assert not asked
    register_command(server.path, [there])
    assert asked == [there]
    assert capsys.readouterr().out == f"{there}: node 7\n"
    register_command(server.path)  # a member more has come: those that the server knows are in no one's way
    assert asked[1:] == list(server.node_keys().values())
    assert capsys.readouterr().out == "".join(f"{key}: registered before\n" for key in asked[1:])


def test_a_name_that_is_taken_and_one_that_no_run_has_are_refused_with_the_commands_of_a_deployment(
    server: ServerFolder,
) -> None:
    with pytest.raises(RunDirectoryError, match=r"has no run 'trial'; its runs are: none"):
        resume_run(server, "trial")
    kept(server)
    with pytest.raises(RunDirectoryError, match=r"confide deploy run .*/server --resume trial`"):
        start_new_run(server, server.config, [])
    with pytest.raises(RunDirectoryError, match=r"has no run '\.\./trial'; its runs are: trial"):
        resume_run(server, "../trial")
    assert start_new_run(server, server.config, ["run.name=second"]).path == server.runs / "second"


def test_a_finished_run_is_gone_on_with_only_where_a_member_lacks_its_last_adapter(
    server: ServerFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    made = kept(server)
    made.set_status("finished", ended="", behind=[])
    with pytest.raises(RunDirectoryError, match="is finished: there is nothing to go on with"):
        resume_run(server, "trial")
    made.set_status("finished", behind=["north"])
    status_command(server.path)
    assert "    trial  finished  0  its last adapter is not at north; as made by the test\n" in capsys.readouterr().out
    assert resume_run(server, "trial").status == "running"


def test_the_status_says_what_is_known_where_not_all_is(
    server: ServerFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def locked(home: Path) -> list[FlowerNode]:
        raise DeployError("flwr supernode took more than 60 s")

    kept(server)
    (server.runs / "lost").mkdir()
    (server.runs / "lost" / "run.json").write_text("{")
    monkeypatch.setattr("confide.deploy.processes.is_healthy", lambda *_, **__: True)
    monkeypatch.setattr("confide.deploy.control.list_nodes", locked)
    status_command(server.path, as_json=True)
    told = capsys.readouterr()
    found = json.loads(told.out)
    assert [(run["name"], run["status"]) for run in found["runs"]] == [("lost", "damaged"), ("trial", "interrupted")]
    assert (found["answers"], found["nodes"]) == (True, None)
    assert "nobody knows which nodes are there: flwr supernode took more than 60 s" in told.err


def test_a_member_sees_the_fingerprint_of_the_roster_that_it_works_with(
    server: ServerFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    status_command(server.try_out / "north")
    assert f"roster:    {Roster.load(server.roster).fingerprint}\n" in capsys.readouterr().out
    (server.try_out / "north" / "roster.json").unlink()
    status_command(server.try_out / "north")
    assert "roster:    -\n" in capsys.readouterr().out


def test_only_a_party_of_a_deployment_can_be_stopped(
    server: ServerFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(DeployFolderError, match="neither a server's folder nor a member's") as refused:
        stop_command(tmp_path / "none")
    assert refused.value.exit_code == 2
    server.certificate.unlink()  # a folder that is not whole can be stopped all the same
    for folder in (server.path, server.try_out / "north"):
        stop_command(folder)
        assert capsys.readouterr().out == f"{folder}: nothing was running\n"


@pytest.mark.parametrize("live", [[], ["finished:completed", "finished:failed"]])
def test_a_new_run_goes_when_nothing_runs(server: ServerFolder, flower: Flower, live: list[str]) -> None:
    flower.live = live
    with pytest.raises(DeployError, match=SILENT):
        run_command(server.path, server.config)
    assert not (server.runs / "trial").exists()


@pytest.mark.parametrize("live", [None, ["pending"], ["finished:completed", "running"]])
def test_a_new_run_that_flower_may_have_started_is_kept_and_marked(
    server: ServerFolder, flower: Flower, live: list[str] | None, capsys: pytest.CaptureFixture[str]
) -> None:
    flower.live = live
    with pytest.raises(DeployError, match=SILENT):
        run_command(server.path, server.config)
    assert status(server) == "interrupted"
    assert RunDirectory.open(server.runs / "trial").info["reason"] == f"it was not started: {flower.failure}"
    assert f"confide deploy run {server.path} --resume trial" in capsys.readouterr().err


def test_a_run_that_flower_did_start_stays_as_it_is(
    server: ServerFolder, flower: Flower, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with ExitStack() as app:

        def start(home: Path, folder: Path, settings: Path) -> int:
            app.enter_context(RunDirectory.open(server.runs / "trial").locked())
            raise DeployError(SILENT)

        monkeypatch.setattr("confide.deploy.control.start_run", start)
        with pytest.raises(DeployError, match=SILENT):
            run_command(server.path, server.config)
    assert status(server) == "running"
    assert "trial all the same; it goes on" in capsys.readouterr().err


@pytest.mark.parametrize("failure", [DeployError(SILENT), KeyboardInterrupt(), OSError("no space left")])
def test_a_run_that_is_taken_up_again_is_never_removed(
    server: ServerFolder, flower: Flower, failure: BaseException
) -> None:
    before = {
        path.name: path.read_bytes() for path in kept(server).path.iterdir() if path.name in ("terms", "run.json")
    }
    assert "terms" in before
    flower.failure = failure
    with pytest.raises(type(failure)):
        run_command(server.path, resume="trial")
    assert (server.runs / "trial" / "terms").read_bytes() == before["terms"]
    assert status(server) == "interrupted"


def test_a_run_that_cannot_be_stopped_is_settled_all_the_same(
    server: ServerFolder, flower: Flower, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*arguments: object, **named: object) -> None:
        raise RunInterrupted("stopped at your wish")

    flower.failure, flower.stopping = None, DeployError("`flwr stop` failed")
    monkeypatch.setattr("confide.deploy.following.follow_run", interrupted)
    with pytest.raises(RunInterrupted, match=r"Go on with: confide deploy run .* --resume trial"):
        run_command(server.path, server.config)
    assert status(server) == "interrupted"
    assert "`flwr stop` failed" in capsys.readouterr().err


def test_an_app_that_flower_did_not_start_in_time_is_stopped(
    server: ServerFolder, flower: Flower, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def not_started(*arguments: object, **named: object) -> None:
        raise NotStartedError("not within 120 s")

    flower.failure, flower.stopping = None, DeployError("`flwr stop` failed")
    monkeypatch.setattr("confide.deploy.following.follow_run", not_started)
    with pytest.raises(NotStartedError):
        run_command(server.path, server.config)
    assert status(server) == "interrupted"
    assert "warning: `flwr stop` failed" in capsys.readouterr().err
