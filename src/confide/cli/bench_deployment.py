"""`confide bench deployment`: what sealed rounds over Flower cost beside plain Flower, in one table or as JSON."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from confide.bench.deployment_work import DeploymentBenchmark, DeploymentRow

_NODES, _VALUES, _ROUNDS = (3, 10), (1_000_000, 17_000_000), 3
_QUICK_NODES, _QUICK_VALUES, _QUICK_ROUNDS = (3,), (10_000,), 1
_MB = 1e6
_TABLE_WIDTH = 120  # a number cut off would be worse than a line that wraps


def bench_deployment_command(
    nodes: Annotated[list[int] | None, typer.Option(help="Nodes, repeated for several; 3 and 10.")] = None,
    values: Annotated[
        list[int] | None,
        typer.Option(
            help="Values of an update, repeated for several; 1000000 and 17000000, which is Llama-2-7B with rank 32."
        ),
    ] = None,
    rounds: Annotated[
        int | None, typer.Option(min=1, help="Rounds of each run, 3; the first one does not count.")
    ] = None,
    round_seconds: Annotated[
        float | None,
        typer.Option(help="After so long, 600, a round is given up: Flower's own does not end at every size."),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Sizes for a look at whether it runs: 3 nodes, 10,000 values, one round.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the updates; keys never come from one.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything measured as one JSON object.")] = False,
) -> None:
    """Measures a round between organisations: seconds beyond training, bytes on the wire, memory of each process.

    Everything runs on this machine: a SuperLink with TLS, registered nodes and a database, a SuperNode per node, and
    by turns Flower's own FedAvg with its defaults, with an array for each tensor and with all values in one array, and
    Confide's sealed rounds. No model is trained; an update is drawn. Needs the extra "flower", a machine with nothing
    else to do, and for ten nodes and 17 million values 20 GB of memory; all sizes take an hour.

    Examples:
        confide bench deployment --quick

        confide bench deployment --nodes 3 --nodes 10 --values 1000000 --json
    """
    from rich.console import Console

    from confide.bench.deployment import ROUND_SECONDS, run_deployment_benchmark

    console = Console(stderr=True)
    result = run_deployment_benchmark(
        nodes=nodes or (_QUICK_NODES if quick else _NODES),
        values=values or (_QUICK_VALUES if quick else _VALUES),
        num_rounds=rounds or (_QUICK_ROUNDS if quick else _ROUNDS),
        round_seconds=ROUND_SECONDS if round_seconds is None else round_seconds,
        seed=seed,
        on_progress=lambda line: console.print(line, style="dim", highlight=False),
    )
    if as_json:
        typer.echo(json.dumps(result.to_dict(), indent=2))
    else:
        _print_deployment(result)


def _print_deployment(result: "DeploymentBenchmark") -> None:
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    console.print(", ".join(f"{name} {value}" for name, value in result.machine.items()))
    console.print(", ".join(f"{name} {value}" for name, value in result.versions.items()))
    console.print(
        f"{result.num_rounds} rounds each, seed {result.seed}; medians, the first round not counted where there are "
        "more; MB are 10**6 bytes; memory: of the largest process of a kind"
    )
    _print_rounds(result)
    _print_memory(result)
    _print_targets(console, result)


def _print_rounds(result: "DeploymentBenchmark") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("", "nodes", "values", "seconds", "range", "CPU s", "MB up", "MB down", "load")
    for column in table.columns:
        column.justify = "left" if column is table.columns[0] else "right"
        column.no_wrap = True
    for row in result.rows:
        table.add_row(
            row.contender,
            str(row.num_nodes),
            f"{row.num_values:,}",
            f"{row.seconds.median:.1f}",
            f"{row.seconds.lowest:.1f}-{row.seconds.highest:.1f}",
            f"{row.cpu_seconds.median:.1f}",
            f"{row.bytes_up.median / _MB:.2f}",
            f"{row.bytes_down.median / _MB:.2f}",
            f"{max(one.load for one in row.seen.rounds):.1f}",
        )
    Console(highlight=False, width=_TABLE_WIDTH).print(table)


def _print_memory(result: "DeploymentBenchmark") -> None:
    from rich.console import Console
    from rich.table import Table

    from confide.bench.deployment_processes import KINDS

    table = Table("peak MB", "nodes", "values", *KINDS)
    for column in table.columns:
        column.justify = "left" if column is table.columns[0] else "right"
        column.no_wrap = True
    for row in result.rows:
        table.add_row(row.contender, str(row.num_nodes), f"{row.num_values:,}", *(_peak(row, kind) for kind in KINDS))
    Console(highlight=False, width=_TABLE_WIDTH).print(table)


def _peak(row: "DeploymentRow", kind: str) -> str:
    memory = row.seen.memory.get(kind)
    return "" if memory is None else f"{memory.peak_mb:.0f}"


def _print_targets(console: "Console", result: "DeploymentBenchmark") -> None:
    target = result.target
    for lost in result.not_ended:
        reason = lost.reason.splitlines()[0]
        console.print(f"{lost.num_nodes} nodes, {lost.num_values:,} values: {lost.contender} came to no end: {reason}")
    for one in result.comparisons:
        bound = "" if one.meets_seconds is None else f" (at most {target['more_seconds']:g}: {_met(one.meets_seconds)})"
        console.print(
            f"{one.num_nodes} nodes, {one.num_values:,} values: {one.bytes_ratio:.2f} times the bytes of "
            f"{one.baseline} (at most {target['bytes']:g}: {_met(one.meets_bytes)}), "
            f"{one.more_seconds:+.1f} seconds per round{bound}"
        )
    for grown in result.growth:
        console.print(
            f"{grown.contender}, {grown.kind}, {grown.num_values:,} values: {grown.ratio:.2f} times the memory "
            f"with the most nodes (at most {target['memory']:g}: {_met(grown.is_flat)})"
        )


def _met(is_met: bool) -> str:
    return "met" if is_met else "NOT met"
