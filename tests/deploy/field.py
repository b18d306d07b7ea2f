"""A deployment without a network: a server's folder, three members' folders, and a wire that a test can disturb."""

import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from confide.deploy.coordinator import coordinate_run, start_run
from confide.deploy.node import PHASES, Node
from confide.deploy.policy import Policy
from confide.deploy.run_config import load_run_config
from confide.errors import ConfideError
from confide.membership.identity import Identity
from confide.membership.roster import Roster
from confide.messages import Message, decode, read_heading
from confide.run import RunDirectory
from confide.transport.base import NodeReply, Reply
from tests.clock import Clock

NAMES = ("clinic-harbour", "clinic-hill", "clinic-north")

CONFIG = """
[run]
name = "trial"
seed = 3

[model]
base = "tiny-llama"

[lora]
rank = 4

[train]
local_steps = 1
batch_size = 2
max_tokens = 160

[federation]
rounds = 2

[deploy]
join_seconds = 1.0
"""

SETTINGS: Mapping[str, object] = {"data.source": "clinics", "data.clinic_letters": 0, "data.clinic_instructions": 6}
"""What every member sets for itself."""

Disturbance = Callable[[str, str, int], None]
"""Called as (member, phase, round number) before a request is answered, and after; may raise `Killed`."""


Change = Callable[[Message], Message | bytes]
"""What becomes of a message on its way."""


class KilledError(Exception):
    """The process is gone."""


def unchanged(message: Message) -> Message:
    """Changes nothing."""
    return message


def fine(member: str, phase: str, round_number: int) -> None:
    """Disturbs nothing."""


class Member:
    """A member's machine: a folder, and a process that can be killed and started again."""

    def __init__(self, folder: Path, identity: Identity, roster: Roster, policy: Policy | None = None) -> None:
        self.folder = folder
        self.identity = identity
        self.roster = roster
        self.policy = policy or Policy.model_validate({"sealing": {"least_members": 2}})
        self.settings: Mapping[str, object] = SETTINGS
        self.before: Disturbance = fine
        self.after: Disturbance = fine
        self.hears: Change = unchanged
        self.says: Change = unchanged
        self.node: Node | None = None

    @property
    def name(self) -> str:
        return self.identity.public.name

    @property
    def run(self) -> Path:
        """The folder of its only run."""
        (folder,) = self.folder.glob("trial-*")
        return folder

    def start(self) -> None:
        self.node = Node(
            self.folder, identity=self.identity, roster=self.roster, policy=self.policy, settings=self.settings
        )

    def kill(self) -> None:
        self.node = None

    def answer(self, request: bytes) -> bytes:
        assert self.node is not None
        request = _changed(self.hears, request)
        heading = read_heading(request)
        about = (self.name, PHASES[heading.kind], heading.round_number)
        self.before(*about)
        reply = self.node.handle(request)
        self.after(*about)
        return _changed(self.says, reply)


def _changed(change: Change, data: bytes) -> bytes:
    if change is unchanged:
        return data
    made = change(decode(data))
    return made if isinstance(made, bytes) else made.to_bytes()


class Field:
    """A server and its members; also the transport between them.

    Args:
        folder: for all folders.
        config: of the run, as TOML.
    """

    def __init__(self, folder: Path, config: str = CONFIG, names: tuple[str, ...] = NAMES) -> None:
        identities = [Identity.generate(name) for name in names]
        self.roster = Roster([identity.public for identity in identities])
        self.members = {
            identity.public.name: Member(folder / "members" / identity.public.name, identity, self.roster)
            for identity in identities
        }
        for member in self.members.values():
            member.folder.mkdir(parents=True)
            member.start()
        path = folder / "config.toml"
        path.write_text(config)
        self.run = folder / "server" / "trial"
        self.directory: RunDirectory = start_run(self.run, load_run_config(path), self.roster)
        self.sent: list[bytes] = []
        self._names: dict[str, int] = {}
        self._by_number = dict(enumerate(self.members.values(), start=7))

    @property
    def notices(self) -> list[str]:
        """What the operator was told."""
        notices = self.directory.info["notices"]
        assert isinstance(notices, list)
        return notices

    def go(self) -> None:
        """Runs the run, from where it stands."""
        self.coordinate(self.run)

    def coordinate(self, run: Path) -> None:
        """Runs a run of the server's, without waiting for anybody in earnest."""
        clock = Clock()
        coordinate_run(run, self, clock=clock, sleep=clock.sleep)

    def nodes(self) -> list[int]:
        return [number for number, member in self._by_number.items() if member.node is not None]

    def introduce(self, names: Mapping[str, int]) -> None:
        self._names = dict(names)

    def ask_nodes(self, requests: Mapping[int, bytes]) -> Iterator[NodeReply]:
        for number, request in requests.items():
            yield self._ask(number, request)

    def exchange(self, requests: Mapping[str, bytes]) -> Iterator[Reply]:
        for client in requests:
            if client not in self._names:
                yield Reply(client=client, error_kind="Missing", error="it was not introduced")
                continue
            reply = self._ask(self._names[client], requests[client])
            yield Reply(client=client, body=reply.body, error_kind=reply.error_kind, error=reply.error)

    def _ask(self, number: int, request: bytes) -> NodeReply:
        member = self._by_number[number]
        if member.node is None:
            return NodeReply(node=number, error_kind="Missing", error="no answer")
        self.sent.append(request)
        try:
            body = member.answer(request)
        except KilledError:
            member.kill()
            return NodeReply(node=number, error_kind="Missing", error="no answer")
        except ConfideError as error:
            logging.getLogger(__name__).debug("refused", exc_info=True)
            return NodeReply(node=number, error_kind=type(error).__name__, error=str(error))
        self.sent.append(body)
        return NodeReply(node=number, body=body)
