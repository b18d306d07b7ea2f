"""`confide bench privacy`: what DP-SGD costs over training without privacy, in one table or as JSON."""

import json
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from confide.bench.privacy_work import PrivacyBenchmark


def bench_privacy_command(
    model: Annotated[
        str, typer.Option(help="Built-in name, folder, GGUF file or hub id; the default is made in memory.")
    ] = "tiny-llama",
    rows: Annotated[int, typer.Option(min=1, help="Synthetic records of a pass.")] = 24,
    max_tokens: Annotated[int, typer.Option(min=2, help="Length to which records are cut.")] = 640,
    batch_size: Annotated[int, typer.Option(min=1, help="Records in one step, which is one forward pass.")] = 8,
    average: Annotated[
        Literal["factors", "freeze-a"], typer.Option(help="What is trained: both factors, or B alone.")
    ] = "factors",
    repeats: Annotated[int, typer.Option(min=1, help="Timed passes of each row; the table gives medians.")] = 5,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of torch.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Seed of records and adapter; noise never comes from one.")] = 0,
    device: Annotated[str, typer.Option(help='"auto", "cpu" or "cuda".')] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print everything measured as one JSON object.")] = False,
) -> None:
    """Measures private training: seconds, real tokens per second, peak memory, against the same steps without privacy.

    Three rows on equal batches: plain, DP-SGD as Confide trains (the gradient of each record, by hooks), and DP-SGD
    with Opacus' ghost clipping. LoRA of rank 16 on q_proj and v_proj. Times are taken by turns in one process, memory
    in a process of its own for each row.

    Examples:
        confide bench privacy

        confide bench privacy --model smollm2-135m-instruct --rows 8 --max-tokens 128 --repeats 1 --json
    """
    from rich.console import Console

    from confide.bench.privacy import run_privacy_benchmark
    from confide.bench.privacy_work import PrivacyWork

    console = Console(stderr=True)
    result = run_privacy_benchmark(
        PrivacyWork(
            model=model,
            num_rows=rows,
            max_tokens=max_tokens,
            batch_size=batch_size,
            average=average,
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
        _print_privacy(result)


def _print_privacy(result: "PrivacyBenchmark") -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, soft_wrap=True)
    work, target = result.work, result.target
    console.print(", ".join(f"{name} {value}" for name, value in result.machine.items()))
    console.print(", ".join(f"{name} {value}" for name, value in result.versions.items()))
    console.print(
        f"{work.model}, {result.device}: {work.num_rows} records ({result.num_tokens} tokens), batch "
        f"{work.batch_size}, {result.num_values:,} trained values ({work.average}), {work.threads} threads, seed "
        f"{work.seed}; medians of {work.repeats}"
    )
    table = Table("", "seconds", "range", "CPU s", "tokens/s", "loaded MB", "peak MB")
    for column in table.columns:
        column.justify = "left" if column is table.columns[0] else "right"
        column.no_wrap = True
    for row in result.rows:
        table.add_row(
            row.name,
            f"{row.seconds.median:.3f}",
            f"{row.seconds.lowest:.3f}-{row.seconds.highest:.3f}",
            f"{row.cpu_seconds.median:.3f}",
            f"{row.tokens_per_second:.0f}",
            f"{row.memory.device_loaded_mb or row.memory.loaded_mb:.0f}",
            f"{row.memory.device_peak_mb or row.memory.peak_mb:.0f}",
        )
    Console(highlight=False).print(table)
    for name, cost in result.ratios.items():
        on_top = "" if cost.memory_of_pass is None else f" ({cost.memory_of_pass:.2f} beyond what was loaded)"
        console.print(
            f"{name}: {cost.time.median:.2f} times the time ({cost.time.lowest:.2f}-{cost.time.highest:.2f}; target: "
            f"at most {target['time']}, {_met(cost.meets_time)}; of the processor {cost.cpu_time.median:.2f}), "
            f"{cost.memory:.2f} times the memory{on_top} (target: at most {target['memory']}, "
            f"{_met(cost.meets_memory)})"
        )
    console.print(
        "hooks: DP-SGD as Confide trains; ghost: Opacus' ghost clipping, to compare with. Their norms of the first "
        f"step's records differ by at most {result.norm_difference:.1e} (relative)"
    )


def _met(is_met: bool) -> str:
    return "met" if is_met else "NOT met"
