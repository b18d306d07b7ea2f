"""The question: what does a sealed round over Flower add to training, and how much is that beside plain Flower?

Seconds per round, bytes on the wire and memory of each process, for several numbers of nodes and values. Both
contenders run over the same SuperLink (TLS, registered nodes, a database), by turns, with an update that is drawn and
not trained. The parties of Confide are the real ones; only model and training are not there. This module sums up.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from confide.bench.deployment_field import BenchField
from confide.bench.deployment_work import (
    BASELINES,
    CONTENDERS,
    SEALED,
    Comparison,
    DeploymentBenchmark,
    DeploymentRow,
    DeploymentWork,
    Growth,
    NotEnded,
    RunSeen,
)
from confide.bench.training import spread
from confide.deploy.processes import require_flower
from confide.errors import RunError, UsageError
from confide.machine import describe_machine, installed_versions

TARGET: Mapping[str, float] = MappingProxyType({"bytes": 1.0, "more_seconds": 10.0, "memory": 1.2})
"""Bytes at most those of plain Flower; at most so many seconds more per round (at a million values); the server's
memory at the most nodes at most so many times that at the fewest."""

SECONDS_BOUND_AT = 1_000_000
ROUND_SECONDS = 600.0
"""How long a round is waited for, unless told otherwise."""

SERVER_KINDS = ("SuperLink", "server app")

_VERSIONED = ("confide", "flwr", "numpy", "cryptography")
_FEWEST_NODES, _MOST_NODES = 2, 64


def run_deployment_benchmark(
    *,
    nodes: Sequence[int],
    values: Sequence[int],
    num_rounds: int,
    round_seconds: float = ROUND_SECONDS,
    seed: int = 0,
    on_progress: Callable[[str], None] | None = None,
) -> DeploymentBenchmark:
    """Measures all contenders at every size.

    Plain Flower does not come to an end at every size; then that is told, and the others go on.

    Args:
        nodes: numbers of nodes, each 2 to 64.
        values: lengths of an update, each > 0.
        num_rounds: of each run, at least 1.
        round_seconds: after which a round is given up, > 0.
        seed: of the updates.
        on_progress: told about each run before it starts.

    Raises:
        UsageError: a number is out of range.
        MissingExtraError: Flower is not installed.
        RunError: a process failed, or a sealed round was given up.
    """
    if (
        num_rounds < 1
        or min(values) < 1
        or round_seconds <= 0
        or not all(_FEWEST_NODES <= one <= _MOST_NODES for one in nodes)
    ):
        raise UsageError(
            f"expected {_FEWEST_NODES} to {_MOST_NODES} nodes, and values and rounds of 1 or more, and more than no "
            f"seconds; got --nodes {list(nodes)}, --values {list(values)}, --rounds {num_rounds}, --round-seconds "
            f"{round_seconds:g}"
        )
    require_flower()
    report = on_progress or (lambda _: None)
    rows: list[DeploymentRow] = []
    not_ended: list[NotEnded] = []
    for num_nodes in nodes:
        with tempfile.TemporaryDirectory(prefix="confide-bench-") as folder:
            report(f"{num_nodes} nodes: certificates, keys, registration")
            field = _new_field(Path(folder), num_nodes, round_seconds)
            for num_values in values:
                for contender, meaning in CONTENDERS.items():
                    report(f"{num_nodes} nodes, {num_values:,} values, {num_rounds} rounds: {meaning}")
                    work = DeploymentWork(
                        contender=contender,
                        num_nodes=num_nodes,
                        num_values=num_values,
                        num_rounds=num_rounds,
                        seed=seed,
                    )
                    try:
                        rows.append(sum_up(work, field.run(work)))
                        report(f"{rows[-1].seconds.median:.1f} s a round")
                    except RunError as error:
                        if contender not in BASELINES:
                            raise
                        not_ended.append(
                            NotEnded(contender=contender, num_nodes=num_nodes, num_values=num_values, reason=str(error))
                        )
                        report(f"no end: {str(error).splitlines()[0]}")
                        # The old one's database is not empty.
                        field = _new_field(Path(folder), num_nodes, round_seconds)
    return DeploymentBenchmark(
        num_rounds=num_rounds,
        seed=seed,
        round_seconds=round_seconds,
        machine=describe_machine(),
        versions=installed_versions(_VERSIONED),
        rows=tuple(rows),
        not_ended=tuple(not_ended),
        comparisons=compare(rows),
        growth=growth(rows),
        target=dict(TARGET),
    )


def _new_field(folder: Path, num_nodes: int, round_seconds: float) -> BenchField:
    return BenchField(Path(tempfile.mkdtemp(dir=folder)), num_nodes, round_seconds)


def sum_up(work: DeploymentWork, seen: RunSeen) -> DeploymentRow:
    """Medians over the rounds; the first one warms up, where there are more."""
    counted = seen.rounds[1:] or seen.rounds
    return DeploymentRow(
        contender=work.contender,
        num_nodes=work.num_nodes,
        num_values=work.num_values,
        seconds=spread([one.seconds for one in counted]),
        cpu_seconds=spread([one.cpu_seconds for one in counted]),
        bytes_up=spread([one.traffic.up / work.num_nodes for one in counted]),
        bytes_down=spread([one.traffic.down / work.num_nodes for one in counted]),
        seen=seen,
    )


def compare(rows: Sequence[DeploymentRow]) -> tuple[Comparison, ...]:
    """Confide against plain Flower, wherever both ran."""
    found = {(row.contender, row.num_nodes, row.num_values): row for row in rows}
    comparisons = []
    for (baseline, num_nodes, num_values), theirs in found.items():
        ours = found.get((SEALED, num_nodes, num_values))
        if baseline not in BASELINES or ours is None:
            continue
        ratio = _num_bytes(ours) / _num_bytes(theirs)
        more = ours.seconds.median - theirs.seconds.median
        comparisons.append(
            Comparison(
                baseline=baseline,
                num_nodes=num_nodes,
                num_values=num_values,
                bytes_ratio=ratio,
                more_seconds=more,
                meets_bytes=ratio <= TARGET["bytes"],
                meets_seconds=more <= TARGET["more_seconds"] if num_values == SECONDS_BOUND_AT else None,
            )
        )
    return tuple(comparisons)


def growth(rows: Sequence[DeploymentRow]) -> tuple[Growth, ...]:
    """The server's memory from the fewest nodes to the most, for each contender and size."""
    grown = []
    for contender, num_values in dict.fromkeys((row.contender, row.num_values) for row in rows):
        same = sorted(
            (row for row in rows if (row.contender, row.num_values) == (contender, num_values)),
            key=lambda row: row.num_nodes,
        )
        few, many = same[0], same[-1]
        if few.num_nodes == many.num_nodes:
            continue
        for kind in SERVER_KINDS:
            ratio = many.seen.memory[kind].peak_mb / few.seen.memory[kind].peak_mb
            grown.append(
                Growth(
                    contender=contender,
                    kind=kind,
                    num_values=num_values,
                    ratio=ratio,
                    is_flat=ratio <= TARGET["memory"],
                )
            )
    return tuple(grown)


def _num_bytes(row: DeploymentRow) -> float:
    return row.bytes_up.median + row.bytes_down.median
