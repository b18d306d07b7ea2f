"""What the deployment benchmark asks for and what it gives: the plain data between the command and its processes."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from pydantic import TypeAdapter

from confide.bench.training import Spread

PLAIN, FLAT, SEALED = "flower", "flower-flat", "confide"
CONTENDERS: Mapping[str, str] = {
    PLAIN: "Flower's FedAvg with its defaults: train and evaluate, float32, an array for each of LoRA's tensors",
    FLAT: "the same with all values in one array, which Flower carries faster",
    SEALED: "Confide's sealed round as it is deployed (client apps start warm): train, sign, release, open",
}

BASELINES = (PLAIN, FLAT)

WORK_FILE = "work.json"
"""A `DeploymentWork`, where the processes of a run find it."""

MEMBERS, IDENTITY = "members", "identity.key"
"""Where the members' process finds their secret keys: MEMBERS/NAME/IDENTITY."""

ROUNDS_FILE, FAILURE_FILE = "rounds", "failure"
"""What plain Flower's app writes: a line as each round ends, and why it failed."""


@dataclass(frozen=True, kw_only=True)
class DeploymentWork:
    """One contender's run.

    Attributes:
        contender: of `CONTENDERS`.
        num_nodes: all on this machine; each is a SuperNode of its own.
        num_values: of one client's update, float32.
        num_rounds: the first one warms up, where there are more.
        seed: of the updates; keys never come from one.
    """

    contender: str
    num_nodes: int
    num_values: int
    num_rounds: int
    seed: int

    def to_json(self) -> str:
        """As one line of JSON; `from_json` is the inverse."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "DeploymentWork":
        """The inverse of `to_json`."""
        return TypeAdapter(cls).validate_json(text)


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """Bytes on the connections between SuperNodes and SuperLink, TLS included, TCP's and IP's headers not.

    Attributes:
        up: from the nodes.
        down: to them.
    """

    up: int
    down: int


@dataclass(frozen=True, kw_only=True)
class RoundSeen:
    """A round as it looks from outside.

    Attributes:
        seconds: from the end of the round before to its end.
        traffic: of all nodes in that time, polls included.
        load: of the machine at its end, one-minute average.
        cpu_seconds: of all processes of the deployment, as far as they were seen before they ended.
    """

    seconds: float
    traffic: Traffic
    load: float
    cpu_seconds: float


@dataclass(frozen=True, kw_only=True)
class ProcessMemory:
    """What the processes of one kind needed.

    Attributes:
        num_seen: how many there were, one after the other or at a time.
        peak_mb: the most that one of them held at any time (VmHWM), in 10**6 bytes. A process that ends is looked at up
            to 0.2 seconds before.
        private_mb: the most that one of them had allocated (RssAnon), as seen five times a second: without files that
            it has mapped, of which the SuperLink maps up to 256 MiB of its database.
        rss_mb: the most that all of them held at one time; memory that they share counts several times.
    """

    num_seen: int
    peak_mb: float
    private_mb: float
    rss_mb: float


@dataclass(frozen=True, kw_only=True)
class RunSeen:
    """A contender's run as it looks from outside.

    Attributes:
        rounds: in order.
        memory: by kind of process.
        phases: what the server's records say of where the seconds went, per round; empty for plain Flower.
    """

    rounds: tuple[RoundSeen, ...]
    memory: Mapping[str, ProcessMemory]
    phases: tuple[Mapping[str, float], ...] = ()


@dataclass(frozen=True, kw_only=True)
class DeploymentRow:
    """One contender at one size.

    Attributes:
        seconds: of a round; no training is in it but the drawing of an update.
        cpu_seconds: see `RoundSeen`.
        bytes_up: per client and round.
        bytes_down: per client and round.
        seen: all that was measured.
    """

    contender: str
    num_nodes: int
    num_values: int
    seconds: Spread
    cpu_seconds: Spread
    bytes_up: Spread
    bytes_down: Spread
    seen: RunSeen


@dataclass(frozen=True, kw_only=True)
class NotEnded:
    """A run of plain Flower that came to no end.

    Attributes:
        contender: of `BASELINES`.
        reason: the round, and what stopped it or how long it was waited for.
    """

    contender: str
    num_nodes: int
    num_values: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Confide against plain Flower at one size.

    Attributes:
        baseline: of `BASELINES`.
        bytes_ratio: of all bytes per client and round; at most 1 is the target.
        more_seconds: per round; at most 10 is the target at a million values.
        meets_bytes: whether the target is met.
        meets_seconds: the same; None at other sizes.
    """

    baseline: str
    num_nodes: int
    num_values: int
    bytes_ratio: float
    more_seconds: float
    meets_bytes: bool
    meets_seconds: bool | None


@dataclass(frozen=True, kw_only=True)
class Growth:
    """How the server's memory grows with the nodes.

    Attributes:
        kind: of process.
        ratio: of its peak at the most nodes to that at the fewest; within 0.2 of 1, or below, is the target.
        is_flat: whether the target is met.
    """

    contender: str
    kind: str
    num_values: int
    ratio: float
    is_flat: bool


@dataclass(frozen=True, kw_only=True)
class DeploymentBenchmark:
    """All that a reader needs to judge the numbers.

    Attributes:
        num_rounds: of each run; the first one does not count where there are more.
        round_seconds: how long a round was waited for.
        rows: in the order in which they ran.
        not_ended: runs that have no row.
        comparisons: by size.
        growth: of the server's processes, from the fewest to the most nodes.
        target: the bounds that these are held against.
    """

    num_rounds: int
    seed: int
    machine: Mapping[str, str | int]
    versions: Mapping[str, str]
    round_seconds: float
    rows: tuple[DeploymentRow, ...]
    not_ended: tuple[NotEnded, ...]
    comparisons: tuple[Comparison, ...]
    growth: tuple[Growth, ...]
    target: Mapping[str, float]

    def to_dict(self) -> dict[str, object]:
        """As plain data for JSON."""
        return asdict(self)
