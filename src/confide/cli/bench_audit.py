"""`confide bench audit`: what ten attacks cost, in one table or as JSON."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from confide.bench.audit_work import AuditBenchmark

_ROWS = {
    "one": "1 attack, nothing kept yet",
    "ten": "10 attacks, nothing kept yet",
    "again": "10 attacks, all kept on disk",
    "naive": "10 attacks, each on its own",
}


def bench_audit_command(
    model: Annotated[
        str, typer.Option(help="Built-in name, folder, GGUF file or hub id; the default is made in memory.")
    ] = "tiny-llama",
    records: Annotated[int, typer.Option(min=1, help="Synthetic records to ask about.")] = 64,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds; with the base model there is one model more.")] = 3,
    max_tokens: Annotated[int, typer.Option(min=2, help="Length to which records are cut.")] = 640,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="The longest answer, in tokens.")] = 32,
    batch_size: Annotated[int, typer.Option(min=2, help="Records or prompts at a time.")] = 8,
    repeats: Annotated[int, typer.Option(min=1, help="Passes of each row; the table gives medians.")] = 3,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of torch.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the records and of the adapters.")] = 0,
    device: Annotated[str, typer.Option(help='"auto", "cpu" or "cuda".')] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print everything measured as one JSON object.")] = False,
) -> None:
    """Measures an audit: what ten membership attacks cost when every pass through a model is made once and kept.

    Compared with one attack, with a second run that finds everything on disk, and with ten attacks that each make
    their own passes. Then greedy answers in batches against one by one.

    Examples:
        confide bench audit

        confide bench audit --model smollm2-135m-instruct --records 16 --threads 2 --repeats 1 --json
    """
    from rich.console import Console

    from confide.bench.audit import run_audit_benchmark
    from confide.bench.audit_work import AuditWork

    console = Console(stderr=True)
    result = run_audit_benchmark(
        AuditWork(
            model=model,
            num_records=records,
            num_rounds=rounds,
            max_tokens=max_tokens,
            max_new_tokens=max_new_tokens,
            batch_size=batch_size,
            repeats=repeats,
            threads=threads,
            seed=seed,
            device=device,
        ),
        on_progress=lambda line: console.print(line, style="dim", highlight=False),
    )
    if as_json:
        typer.echo(json.dumps(result.to_dict(), indent=2))
    else:
        _print_audit(result)


def _print_audit(result: "AuditBenchmark") -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, soft_wrap=True)
    work, ratios = result.work, result.ratios
    console.print(", ".join(f"{name} {value}" for name, value in result.machine.items()))
    console.print(", ".join(f"{name} {value}" for name, value in result.versions.items()))
    console.print(
        f"{work.model}, {result.device}: {work.num_records} records ({result.num_tokens} tokens), "
        f"{result.num_models} models, batch {work.batch_size}, {work.threads} threads, seed {work.seed}; medians of "
        f"{work.repeats}"
    )
    table = Table("", "seconds", "range", "passes", "scored/s")
    for column in table.columns:
        column.justify = "left" if column is table.columns[0] else "right"
        column.no_wrap = True
    for row in result.rows:
        table.add_row(
            _ROWS[row.name],
            f"{row.seconds.median:.2f}",
            f"{row.seconds.lowest:.2f}-{row.seconds.highest:.2f}",
            str(row.num_passes),
            f"{row.record_models_per_second:.1f}",
        )
    Console(highlight=False).print(table)
    console.print("scored/s: records times models per second, by all of a row's attacks")
    console.print(
        f"10 attacks cost {ratios['ten/one']:.2f} times one (target: at most {result.most_for_ten}); each on its own "
        f"{ratios['naive/ten']:.1f} times ten together; run again, {ratios['ten/again']:.0f} times faster"
    )
    batched, single = result.generation
    console.print(
        f"answers: {batched.tokens_per_second:.0f} tokens per second in batches of {batched.batch_size}, "
        f"{single.tokens_per_second:.0f} one by one: {ratios['batched/one by one']:.1f} times as fast"
    )
