"""A deployment of real processes on this machine: a SuperLink, nodes and runs, each party in a folder of its own.

Everything goes through the installed command, as an operator's does. Every wait has an end, and whatever is left when a
network ends is killed. Processes are looked for in /proc, by the folder that is in their environment.
"""

import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

import pytest
import tomli_w

from confide.config.keys import toml_value
from confide.deploy.processes import free_port
from confide.run import RunDirectory

CONFIDE = Path(sys.executable).with_name("confide")
NAMES = ("clinic-harbour", "clinic-hill", "clinic-north")
SETTINGS: Mapping[str, object] = {
    "data.source": "clinics",
    "data.clinic_letters": 6,
    "data.clinic_instructions": 2,
    "run.device": "cpu",
    "run.threads": 1,
}
"""What every member sets for itself."""

CONFIG = """
[run]
name = "trial"
seed = 3

[model]
base = "tiny-llama"

[lora]
rank = 4

[train]
local_steps = 2
batch_size = 2
max_tokens = 320

[federation]
rounds = 2

[deploy]
join_seconds = 90.0
train_seconds = 60.0
answer_seconds = 40.0
"""

COMMAND_SECONDS = 90.0
READY_SECONDS = 150.0
_STOP_SECONDS = 30.0
_LOOK_SECONDS = 0.02
_TAIL_CHARACTERS = 3000

_logger = logging.getLogger(__name__)

needs_proc = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for processes in /proc")


def wait_for(is_so: Callable[[], bool], seconds: float, what: str, *, look_seconds: float = 0.1) -> None:
    """Fails the test when something does not come in time."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, f"{what} did not come within {seconds:g} s"
        time.sleep(look_seconds)


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Fails the test when the body, with all its waits, takes longer."""

    def fail(number: int, frame: FrameType | None) -> None:
        del number, frame
        pytest.fail(f"it took longer than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, fail)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


def processes_at(folder: Path) -> dict[int, str]:
    """Command lines of living processes whose FLWR_HOME lies in a folder, by their number."""
    mark = f"FLWR_HOME={folder}".encode()
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if any(part.startswith(mark) for part in (entry / "environ").read_bytes().split(b"\0")):
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return found


def send(number: signal.Signals, pids: Sequence[int]) -> None:
    """Sends a signal to processes that may be gone."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def confide(*words: str | Path, prefix: Sequence[str] = ()) -> str:
    """Runs a command to its end and gives what it printed; the test fails if it fails."""
    command = [*prefix, str(CONFIDE), *map(str, words)]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False)
    assert finished.returncode == 0, f"{' '.join(map(str, words))}\n{finished.stdout}\n{finished.stderr}"
    return finished.stdout


def _set(policy: Path, sealing: Mapping[str, object]) -> None:
    """Puts other values into a member's policy, in the place of those that it was made with."""
    text = policy.read_text()
    for key, value in sealing.items():
        text, count = re.subn(f"(?m)^{key} = .*$", f"{key} = {toml_value(value)}", text)
        assert count == 1, f"{policy} has {key} {count} times"
    policy.write_text(text)


class Party:
    """`confide deploy server` or `client` with all that it starts.

    Args:
        folder: the party's own.
        command: "server" or "client".
        output: the file that its own output is added to.
        prefix: words before the command, to run it in another network namespace.
        words: options of the command.
    """

    def __init__(
        self, folder: Path, command: str, output: Path, *, prefix: Sequence[str] = (), words: Sequence[str] = ()
    ) -> None:
        self.folder = folder
        self.output = output
        self.prefix = prefix
        self.words = words
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._seen = 0

    @property
    def log(self) -> Path:
        """A member's node.log."""
        return self.folder / "node.log"

    @property
    def pid(self) -> int:
        """Of `confide deploy` itself: at a member the worker."""
        assert self._process is not None
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return None if self._process is None else self._process.poll()

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def flower(self, name: str = "") -> list[int]:
        """Its processes of Flower with this in their command line."""
        return [pid for pid, line in processes_at(self.folder / "flower").items() if name in line]

    def start(self) -> None:
        with self.output.open("ab") as output:
            self._process = subprocess.Popen(
                [*self.prefix, str(CONFIDE), "deploy", self._command, str(self.folder), *self.words],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def kill(self) -> None:
        """Kills the process and everything below it, as a power cut does."""
        if self.is_running:
            send(signal.SIGKILL, [self.pid])
        send(signal.SIGKILL, self.flower())
        if self._process is not None:
            self._process.wait(_STOP_SECONDS)
        wait_for(lambda: not self._kill_more(), _STOP_SECONDS, f"the end of all of {self.folder.name}")

    def ask_to_end(self) -> None:
        if self.is_running:
            send(signal.SIGCONT, [self.pid, *self.flower()])
            send(signal.SIGTERM, [self.pid])

    def end(self) -> None:
        """Waits for the end after `ask_to_end`, and kills what is left."""
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_SECONDS)
        self.kill()

    def mark(self) -> None:
        """From here on `await_line` sees what node.log gets."""
        self._seen = self.log.stat().st_size if self.log.exists() else 0

    def told(self) -> str:
        """What node.log got since the mark."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as file:
            file.seek(self._seen)
            return file.read().decode(errors="replace")

    def await_line(self, text: str, seconds: float) -> None:
        """Waits until node.log says so."""
        wait_for(lambda: text in self.told(), seconds, f"{self.folder.name}: {text!r}", look_seconds=_LOOK_SECONDS)

    def tail(self) -> str:
        """What its logs say last."""
        logs = [self.output, self.log, *(self.folder / "flower").glob("*.log")]
        return "\n".join(
            f"== {log}\n{log.read_text(errors='replace')[-_TAIL_CHARACTERS:]}" for log in logs if log.exists()
        )

    def _kill_more(self) -> list[int]:
        left = self.flower()
        send(signal.SIGKILL, left)
        return left


class Running:
    """`confide deploy run` while it goes on."""

    def __init__(self, command: Sequence[str], output: Path) -> None:
        self.began = time.monotonic()
        self._output = output
        self._start = output.stat().st_size if output.exists() else 0
        with output.open("ab") as file:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
            )

    @property
    def output(self) -> str:
        return re.sub(r"\x1b\[[0-9;]*m", "", self._output.read_bytes()[self._start :].decode(errors="replace"))

    @property
    def is_over(self) -> bool:
        return self._process.poll() is not None

    def end(self, seconds: float) -> int:
        """Waits for its end and gives the exit code; kills it and fails when that takes too long."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            pytest.fail(f"the run did not end within {seconds:g} s:\n{self.output[-_TAIL_CHARACTERS:]}")

    def interrupt(self) -> None:
        """Presses Ctrl-C."""
        send(signal.SIGINT, [self._process.pid])

    def kill(self) -> None:
        if not self.is_over:
            send(signal.SIGKILL, [self._process.pid])
        self._process.wait()


class Network:
    """A server and its members; `with` starts all and leaves nothing behind. After a failure all are killed at once.

    Args:
        folder: for all folders.
        config: what the server offers.
        names: of the members.
        least_members: what their policies ask for.
        schemes: of sealing, that their policies accept.
        hosts: names and addresses of the server; members connect to the last one.
        prefixes: words before the commands of a party, "" being the server.
        server_words: options of `confide deploy server`.
        registered: whose node keys the server is told; None for all.
        proxy_port: where members connect, if there is a proxy.
    """

    def __init__(
        self,
        folder: Path,
        config: str = CONFIG,
        *,
        names: Sequence[str] = NAMES,
        least_members: int = 3,
        schemes: Sequence[str] = ("onetime",),
        hosts: Sequence[str] = ("localhost",),
        prefixes: Mapping[str, Sequence[str]] | None = None,
        server_words: Sequence[str] = (),
        registered: Sequence[str] | None = None,
        proxy_port: int | None = None,
    ) -> None:
        self._registered = [folder / "server" / "nodes" / f"{name}.pub" for name in registered or ()]
        prefixes = prefixes or {}
        self.folder = folder
        self.home = folder / "server"
        self._prefix = prefixes.get("", ())
        self._running: list[Running] = []
        self.port = free_port()
        address = f"{hosts[-1] if len(hosts) > 1 else '127.0.0.1'}:{proxy_port or self.port}"
        named = [word for host in hosts for word in ("--host", host)]
        ports = ["--port", str(self.port), *(["--proxy-port", str(proxy_port)] if proxy_port else [])]
        confide("deploy", "init", self.home, *named, *ports, "--members", ",".join(names))
        (self.home / "config.toml").write_text(config)
        for name in names:
            self._join(folder / name, name, address, {"least_members": least_members, "schemes": schemes})
        public = sorted((self.home / "nodes").glob("*.public.json"))
        confide("keys", "roster", *public, "--out", self.home / "roster.json")
        for name in names:
            (folder / name / "roster.json").write_bytes((self.home / "roster.json").read_bytes())
        logs = folder / "logs"
        logs.mkdir()
        self.server = Party(self.home, "server", logs / "server", prefix=self._prefix, words=server_words)
        self.members = {
            name: Party(folder / name, "client", logs / name, prefix=prefixes.get(name, self._prefix)) for name in names
        }

    def _join(self, place: Path, name: str, address: str, sealing: Mapping[str, object]) -> None:
        confide("deploy", "join", place, "--name", name, "--server", address, "--ca", self.home / "ca.pem")
        for suffix in ("public.json", "pub"):
            (self.home / "nodes" / f"{name}.{suffix}").write_bytes((place / f"{name}.{suffix}").read_bytes())
        tables: dict[str, dict[str, object]] = {"node": {"name": name, "server": address}}
        for key, value in SETTINGS.items():
            section, field = key.split(".")
            tables.setdefault(section, {})[field] = value
        (place / "node.toml").write_text(tomli_w.dumps(tables))
        _set(place / "policy.toml", sealing)

    def __enter__(self) -> Self:
        try:
            self.start_server()
            confide("deploy", "register", self.home, *self._registered, prefix=self._prefix)
            for member in self.members.values():
                member.start()
        except BaseException:
            self._kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._end()
        else:
            self._kill()

    @property
    def parties(self) -> list[Party]:
        return [self.server, *self.members.values()]

    def start_server(self) -> None:
        """Starts the SuperLink and waits until it answers."""
        ready = self.server.output.read_text().count("ready at") if self.server.output.exists() else 0
        self.server.start()
        wait_for(
            lambda: self.server.output.read_text().count("ready at") > ready or not self.server.is_running,
            READY_SECONDS,
            "an answer of the SuperLink",
        )
        assert self.server.is_running, self.server.tail()

    def mend(self) -> None:
        """Starts again whoever is not running."""
        if not self.server.is_running:
            self.start_server()
        for member in self.members.values():
            if not member.is_running:
                member.start()

    def run(self, name: str, *sets: str) -> Running:
        """Starts a new run of this name."""
        for member in self.members.values():
            member.mark()
        words = [word for one in (f"run.name={name}", *sets) for word in ("--set", one)]
        return self._start_run(str(self.home / "config.toml"), *words)

    def resume(self, name: str) -> Running:
        """Goes on with a run."""
        return self._start_run("--resume", name)

    def end_runs(self) -> None:
        """Stops what still runs at the server, as Ctrl-C does."""
        left = [running for running in self._running if not running.is_over]
        for running in left:
            running.interrupt()
        for running in left:
            running.end(COMMAND_SECONDS)

    def directory(self, name: str) -> RunDirectory:
        """The server's directory of a run."""
        return RunDirectory.open(self.home / "runs" / name)

    def final(self, name: str, member: str) -> Path:
        """The folder of the last adapter of a run, at a member."""
        (folder,) = (self.folder / member / "runs").glob(f"{name}-*")
        return folder / "final"

    def adapters(self, name: str, members: Sequence[str] = NAMES) -> set[bytes]:
        """The last adapters at members: one, if all have the same."""
        return {(self.final(name, member) / "adapter_model.safetensors").read_bytes() for member in members}

    def tail(self) -> str:
        """What all logs say last."""
        return "\n".join(party.tail() for party in self.parties)

    def _start_run(self, *words: str) -> Running:
        command = [*self._prefix, str(CONFIDE), "deploy", "run", str(self.home), *words]
        self._running.append(Running(command, self.folder / "logs" / "run"))
        return self._running[-1]

    def _kill(self) -> None:
        for running in self._running:
            running.kill()
        for party in reversed(self.parties):
            party.kill()

    def _end(self) -> None:
        for running in self._running:
            running.kill()
        for party in reversed(self.parties):
            party.ask_to_end()
        for party in reversed(self.parties):
            party.end()


@contextmanager
def network(
    folder: Path, config: str = CONFIG, *, least_members: int = 3, schemes: Sequence[str] = ("onetime",)
) -> Iterator[Network]:
    """A network with everybody on loopback; when it cannot be used to the end, its logs are shown."""
    with Network(folder, config, least_members=least_members, schemes=schemes) as made:
        try:
            yield made
        except BaseException:
            _logger.warning("%s", made.tail())
            raise
