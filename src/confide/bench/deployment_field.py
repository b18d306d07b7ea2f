"""A deployment on this machine for the benchmark: one SuperLink, one SuperNode per node, all on loopback.

Certificates, keys and the server's database stay; the processes are started anew for every run, so that no run's memory
is in another one's figures.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import tomli_w

from confide.bench.deployment_processes import MARK, ProcessWatch
from confide.bench.deployment_traffic import CountingRelay
from confide.bench.deployment_work import (
    BASELINES,
    FAILURE_FILE,
    IDENTITY,
    MEMBERS,
    ROUNDS_FILE,
    WORK_FILE,
    DeploymentWork,
    RoundSeen,
    RunSeen,
    Traffic,
)
from confide.deploy.certificates import KeyPlaces, issue_server_certificate, make_authority, make_node_key
from confide.deploy.client_apps import WarmClientApps
from confide.deploy.control import register_node, start_run, thin_app
from confide.deploy.coordinator import start_run as make_run
from confide.deploy.processes import (
    LEAN,
    LOOPBACK,
    GuardedProcess,
    environment,
    free_port,
    superlink_command,
    supernode_command,
    wait_until_healthy,
    whole,
    write_connection,
)
from confide.deploy.run_config import load_run_config
from confide.deploy.stand_ins import with_stand_ins
from confide.errors import RunError
from confide.membership.identity import Identity
from confide.membership.roster import Roster
from confide.run import RunDirectory

_START_SECONDS = 180.0
_MEMBER_SECONDS = 1800.0
_LOOK_SECONDS = 0.05
_LOG = "log"
_TAIL_CHARACTERS = 3000
_PLAIN_APP = """import confide.bench.deployment_app

client = confide.bench.deployment_app.client
server = confide.bench.deployment_app.server
"""


@dataclass(frozen=True, kw_only=True)
class _Run:
    """A run that is on its way.

    Attributes:
        settings: for the server's app.
        num_done: rounds that are complete; -1 before the first one begins.
        failure: why it failed; "" as long as it has not.
    """

    app: Path
    settings: Mapping[str, str]
    num_done: Callable[[], int]
    failure: Callable[[], str]


class BenchField:
    """A server and its nodes.

    Args:
        folder: for all files; empty, and closed to others.
        num_nodes: how many are registered.
        round_seconds: after which a round is given up.
    """

    def __init__(self, folder: Path, num_nodes: int, round_seconds: float) -> None:
        self._round_seconds = round_seconds
        self._folder = folder
        self._home = folder / "server"
        self._home.mkdir(mode=0o700)
        self._authority = KeyPlaces(certificate=folder / "ca.pem", key=folder / "ca.key")
        self._own = KeyPlaces(certificate=folder / "server.pem", key=folder / "server.key")
        make_authority(self._authority, days=2)
        issue_server_certificate(self._authority, self._own, hosts=["localhost"], days=1)
        self._nodes = [folder / f"node-{number:02d}" for number in range(1, num_nodes + 1)]
        for node in self._nodes:
            node.mkdir(mode=0o700)
            make_node_key(private=node / "node.key", public=node / "node.pub", comment="")
        self._num_runs = 0
        self._is_plain = True
        with self._server():
            for node in self._nodes:
                register_node(self._home, node / "node.pub")

    def run(self, work: DeploymentWork) -> RunSeen:
        """Starts everything, runs one contender to its last round, and ends everything.

        Raises:
            RunError: a process failed, or a round took too long; what was written last is in the message.
        """
        self._num_runs += 1
        self._is_plain = work.contender in BASELINES
        place = self._folder / f"run-{self._num_runs}"
        place.mkdir(mode=0o700)
        (place / WORK_FILE).write_text(work.to_json())
        run = self._plain(place) if self._is_plain else self._sealed(place, work)
        with ExitStack() as stack:
            watch = stack.enter_context(ProcessWatch(self._folder))
            stack.callback(watch.end_all)
            sockets = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="confide-")))
            if not self._is_plain:
                stack.enter_context(self._members(place, sockets))
            port = stack.enter_context(self._server())
            relay = stack.enter_context(CountingRelay(port))
            for node in self._nodes:
                stack.enter_context(self._node(node, relay.port, sockets))
            settings = place / "settings.toml"
            settings.write_text(tomli_w.dumps(dict(run.settings)))
            start_run(self._home, run.app, settings)
            try:
                rounds = self._follow(run, work.num_rounds, relay, watch)
            except RunError as error:
                tail = (self._home / _LOG).read_text(errors="replace")[-_TAIL_CHARACTERS:]
                raise RunError(f"{error}\nThe SuperLink wrote last:\n{tail}") from error
            memory = watch.memory
        phases = () if self._is_plain else _phases(place / "run")
        return RunSeen(rounds=rounds, memory=memory, phases=phases)

    def _plain(self, place: Path) -> _Run:
        app = thin_app(place / "app")
        (app / "confide_app.py").write_text(_PLAIN_APP)

        def num_done() -> int:
            path = place / ROUNDS_FILE
            return len(path.read_text().splitlines()) - 1 if path.exists() else -1

        def failure() -> str:
            path = place / FAILURE_FILE
            return path.read_text() if path.exists() else ""

        return _Run(app=app, settings={"folder": str(place)}, num_done=num_done, failure=failure)

    def _sealed(self, place: Path, work: DeploymentWork) -> _Run:
        identities = [Identity.generate(node.name) for node in self._nodes]
        for identity in identities:
            own = place / MEMBERS / identity.public.name
            own.mkdir(mode=0o700, parents=True)
            identity.save(own / IDENTITY, None)
        config = place / "config.toml"
        config.write_text(tomli_w.dumps(run_config(work)))
        folder = place / "run"
        directory = make_run(folder, load_run_config(config), Roster([identity.public for identity in identities]))

        def failure() -> str:
            status = directory.status
            return "" if status in ("running", "finished") else f"{status}: {directory.info.get('reason')}"

        return _Run(
            app=thin_app(place / "app"),
            settings={"folder": str(folder)},
            num_done=lambda: max(directory.rounds(), default=-1),
            failure=failure,
        )

    def _follow(self, run: _Run, num_rounds: int, relay: CountingRelay, watch: ProcessWatch) -> tuple[RoundSeen, ...]:
        rounds: list[RoundSeen] = []
        _wait_for_round(run, 0, self._round_seconds)
        began, before, cpu_before = time.monotonic(), relay.traffic, watch.cpu_seconds
        while len(rounds) < num_rounds:
            _wait_for_round(run, len(rounds) + 1, self._round_seconds)
            now, traffic, cpu_seconds = time.monotonic(), relay.traffic, watch.cpu_seconds
            rounds.append(
                RoundSeen(
                    seconds=now - began,
                    traffic=Traffic(up=traffic.up - before.up, down=traffic.down - before.down),
                    load=os.getloadavg()[0],
                    cpu_seconds=cpu_seconds - cpu_before,
                )
            )
            began, before, cpu_before = now, traffic, cpu_seconds
        return tuple(rounds)

    @contextmanager
    def _server(self) -> Iterator[int]:
        """The SuperLink; gives its port."""
        port = free_port()
        write_connection(self._home, f"{LOOPBACK}:{port}", self._authority.certificate)
        command = superlink_command(
            host=LOOPBACK,
            port=port,
            ca=self._authority.certificate,
            certificate=self._own.certificate,
            certificate_key=self._own.key,
            database=self._home / "state.db",
        )
        surroundings = self._marked(self._home)
        if not self._is_plain:
            surroundings = with_stand_ins(surroundings, self._home / "bin")
        with self._process(command, self._home, surroundings) as process:
            wait_until_healthy(process, port, self._authority.certificate, seconds=_START_SECONDS)
            yield port

    @contextmanager
    def _node(self, node: Path, port: int, sockets: Path) -> Iterator[None]:
        settings = node / "settings.toml"
        settings.write_text(tomli_w.dumps({"socket": str(sockets / node.name)}))
        command = supernode_command(
            server=f"{LOOPBACK}:{port}",
            ca=self._authority.certificate,
            node_key=node / "node.key",
            port=free_port(),
            settings=settings,
        )
        with ExitStack() as stack:
            surroundings = self._marked(node)
            if not self._is_plain:  # that is measured as it comes
                place = sockets / f"{node.name}-apps"
                place.mkdir(mode=0o700)
                apps = stack.enter_context(WarmClientApps(place, surroundings, node / _LOG))
                apps.start()
                command, surroundings = whole(command), apps.environment
            stack.enter_context(self._process(command, node, surroundings))
            yield

    @contextmanager
    def _members(self, place: Path, sockets: Path) -> Iterator[None]:
        command = [sys.executable, "-m", "confide.bench.deployment_node", str(place), str(sockets)]
        with self._process(command, place) as process:
            deadline = time.monotonic() + _START_SECONDS
            while len(list(sockets.iterdir())) < len(self._nodes):
                if process.exit_code is not None or time.monotonic() >= deadline:
                    raise RunError(f"the members' process of the benchmark did not start:\n{process.tail()}")
                time.sleep(_LOOK_SECONDS)
            yield

    def _marked(self, home: Path) -> dict[str, str]:
        """The environment of a process; plain Flower's has not our settings for memory."""
        own = environment(home).items()
        kept = {name: value for name, value in own if not (self._is_plain and name in LEAN)}
        return {**kept, MARK: str(self._folder)}

    @contextmanager
    def _process(
        self, command: list[str], home: Path, surroundings: Mapping[str, str] | None = None
    ) -> Iterator[GuardedProcess]:
        process = GuardedProcess(command, environment=surroundings or self._marked(home), log=home / _LOG)
        try:
            yield process
        finally:
            process.stop()


def run_config(work: DeploymentWork) -> dict[str, dict[str, object]]:
    """The configuration of Confide's run: its defaults, with both of LoRA's factors travelling and no evaluation."""
    return {
        "run": {"name": "bench", "seed": work.seed},
        "model": {"base": "tiny-llama"},
        "lora": {"average": "factors"},
        "train": {"local_steps": 1},
        "evaluate": {"every_rounds": 0},
        "federation": {"rounds": work.num_rounds, "min_clients": work.num_nodes},
        "deploy": {"join_seconds": _START_SECONDS, "train_seconds": _MEMBER_SECONDS, "answer_seconds": _MEMBER_SECONDS},
    }


def _wait_for_round(run: _Run, number: int, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while run.num_done() < number:
        failure = run.failure()
        if failure or time.monotonic() >= deadline:
            why = failure or f"it took more than {seconds:g} seconds"
            raise RunError(f"round {number} of the benchmark did not end: {why}")
        time.sleep(_LOOK_SECONDS)


def _phases(folder: Path) -> tuple[Mapping[str, float], ...]:
    return tuple(record.seconds for record in RunDirectory(folder).records())
