"""`confide bench`: what training and sealing cost, and what an attack finds; in one table or as JSON."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from confide.bench.key_recovery import KeyRecovery
    from confide.bench.sealing import SealingBenchmark
    from confide.bench.sealing_work import SealingRow
    from confide.bench.training import TrainingBenchmark

_TABLE_WIDTH = 108  # a number cut off would be worse than a line that wraps


def bench_training_command(
    model: Annotated[
        str, typer.Option(help="Built-in name, folder, GGUF file or hub id of the base model.")
    ] = "smollm2-135m-instruct",
    data: Annotated[
        Path | None, typer.Option(help="File of records (JSON Lines, CSV, Parquet); without it, synthetic clinics.")
    ] = None,
    rows: Annotated[int, typer.Option(min=1, help="Rows of the pass, the first after a shuffle with the seed.")] = 48,
    max_tokens: Annotated[int, typer.Option(min=2, help="Length to which examples are cut.")] = 256,
    batch_size: Annotated[int, typer.Option(min=1, help="Examples in one step.")] = 8,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of torch.")] = 2,
    repeats: Annotated[int, typer.Option(min=1, help="Passes of each contender; the table gives medians.")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the shuffle and of the adapter.")] = 0,
    device: Annotated[str, typer.Option(help='"auto", "cpu" or "cuda"; CUDA trains on bfloat16 weights.')] = "auto",
    contender: Annotated[
        list[str] | None,
        typer.Option(help="Who runs, repeated for several: trl, trl-defaults, plain, confide, confide-8bit."),
    ] = None,
    equal_batches: Annotated[
        bool, typer.Option(help="Also compare the losses of Confide and of the plain loop on the same batches.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything measured as one JSON object.")] = False,
) -> None:
    """Measures one pass of LoRA training: seconds, real tokens per second, peak memory, loss after the pass.

    LoRA of rank 16 on q_proj and v_proj, both factors trained, AdamW, loss on responses. Every pass runs in a process
    of its own and the contenders take turns. Comparing with TRL needs the extra "bench".

    Examples:
        confide bench training --data medquad.jsonl.gz

        confide bench training --model tiny-llama --rows 8 --max-tokens 768 --threads 1 --repeats 1 --json

        confide bench training --contender plain --contender confide
    """
    from rich.console import Console

    from confide.bench.training import DEFAULT_CONTENDERS, run_training_benchmark
    from confide.bench.work import TrainingWork

    console = Console(stderr=True)
    result = run_training_benchmark(
        TrainingWork(
            model=model,
            data_path=str(data) if data is not None else "",
            num_rows=rows,
            max_tokens=max_tokens,
            batch_size=batch_size,
            threads=threads,
            seed=seed,
            device=device,
        ),
        contenders=contender or DEFAULT_CONTENDERS,
        repeats=repeats,
        checks_equal_batches=equal_batches,
        on_progress=lambda line: console.print(line, style="dim", highlight=False),
    )
    if as_json:
        typer.echo(json.dumps(result.to_dict(), indent=2))
    else:
        _print_table(result)


def bench_sealing_command(
    values: Annotated[int, typer.Option(min=1, help="Values of one client's update.")] = 1 << 20,
    clients: Annotated[int, typer.Option(min=2, max=64, help="Clients who seal, and whose sum is opened.")] = 10,
    schemes: Annotated[
        list[str] | None,
        typer.Option(
            help="Rows to measure, repeated for several: plain, published, shared, onetime, or one profile as in "
            "onetime/compact."
        ),
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Passes, of which the fastest counts; published has one.")] = 3,
    large: Annotated[bool, typer.Option("--large", help="Also seal one vector of 100,000,000 values.")] = False,
    processes: Annotated[
        int, typer.Option(min=0, help="Also seal with 1, 2, 4 ... worker processes, up to so many.")
    ] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the updates; keys and noise never come from one.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything measured as one JSON object.")] = False,
) -> None:
    """Measures sealing: values per CPU second, bytes per value, key material, memory, error of the sum.

    One row per scheme and profile, each in a process of its own with one thread, compared with what the FedShield-LLM
    paper does (published, which needs the extra "published") in the same run.

    Examples:
        confide bench sealing --values 1048576

        confide bench sealing --values 65536 --schemes onetime/compact --schemes published --json

        confide bench sealing --schemes onetime/compact --large --processes 4
    """
    from rich.console import Console

    from confide.bench.sealing import run_sealing_benchmark

    console = Console(stderr=True)
    result = run_sealing_benchmark(
        num_values=values,
        num_clients=clients,
        schemes=schemes,
        repeats=repeats,
        seed=seed,
        large=large,
        max_processes=processes,
        on_progress=lambda line: console.print(line, style="dim", highlight=False),
    )
    if as_json:
        typer.echo(json.dumps(result.to_dict(), indent=2))
    else:
        _print_sealing(result)


def bench_key_recovery_command(
    clients: Annotated[int, typer.Option(min=2, max=64, help="Clients in every sum.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the updates; keys and noise never come from one.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything measured as one JSON object.")] = False,
) -> None:
    """Demonstrates how approximate decryption leaks the secret key, and that exact decryption does not.

    The attack of Li and Micciancio (EUROCRYPT 2021) on two sealed sums and their results: it finds the key of scheme
    published, and the same equations find nothing in shared and onetime. Needs the extra "published".

    Examples:
        confide bench key-recovery
    """
    from confide.bench.key_recovery import run_key_recovery

    result = run_key_recovery(num_clients=clients, seed=seed)
    if as_json:
        typer.echo(json.dumps(result.to_dict(), indent=2))
    else:
        _print_key_recovery(result)


def _print_sealing(result: "SealingBenchmark") -> None:
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    _print_facts(result.machine, result.versions)
    console.print(
        f"{result.num_values:,} values, {result.num_clients} clients, seed {result.seed}; the fastest of "
        f"{result.repeats} passes; CPU time of one thread"
    )
    Console(width=max(_TABLE_WIDTH, console.width), highlight=False).print(_sealing_table(result.rows))
    console.print(
        "seal, add, open: millions of values per CPU second, add per client; up, down: bytes per value of all that a "
        "client sends\nand gets in a round; vector: of its sealed values alone, in whole frames; key: bytes of key "
        "material for each client and\nround; MB: memory while sealing, beyond the vector; errors of the sum"
    )
    for name, reason in result.missing.items():
        console.print(f"without {name}, and so without ratios: {reason}")
    for name, ratio in result.ratios.items():
        console.print(
            f"{name} / published: seal {ratio['seal']:.1f}, add {ratio['add']:.0f}, open {ratio['open']:.1f} times as "
            f"fast; {ratio['upload']:.1f} times fewer bytes up, {ratio['download']:.1f} down"
        )
    if result.streaming is not None:
        row = result.streaming
        console.print(
            f"{row.scheme}, {row.num_values:,} values ({row.vector_mb:.0f} MB) in one vector, frame by frame: at most "
            f"{row.memory_beyond_vector_mb:.0f} MB beyond the vector, {row.seal_values_per_cpu_second / 1e6:.1f} M "
            f"values per CPU second with signing, {row.upload_bytes_per_value:.2f} bytes per value"
        )
    for one in result.parallel:
        console.print(
            f"{one.scheme}, {one.num_values:,} values, worker processes {one.num_processes}: "
            f"{one.seal_values_per_second / 1e6:.1f} M values per second on the wall clock, {one.speed_up:.2f} times "
            f"one process; handing out takes {100 * one.handing_out_share:.1f} % of the CPU time of sealing"
        )


def _sealing_table(rows: "Sequence[SealingRow]") -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    names = ("", "seal", "add", "open", "up", "down", "vector", "key", "MB", "max error", "RMS error")
    table = Table(*names, box=SIMPLE_HEAD, pad_edge=False)
    for column in table.columns:
        column.no_wrap = True
        column.justify = "left" if column is table.columns[0] else "right"
    for row in rows:
        table.add_row(
            row.label,
            _three_digits(row.seal_values_per_cpu_second / 1e6),
            _three_digits(row.add_values_per_cpu_second / 1e6),
            _three_digits(row.open_values_per_cpu_second / 1e6),
            f"{row.upload_bytes_per_value:.2f}",
            f"{row.download_bytes_per_value:.2f}",
            f"{row.vector_bytes_per_value:.2f}",
            f"{row.key_bytes_per_peer:.0f}",
            f"{row.seal_memory_mb:.0f}",
            f"{row.max_abs_error:.1e}",
            f"{row.rms_error:.1e}",
        )
    return table


def _three_digits(number: float) -> str:
    return f"{number:.0f}" if number >= 100 else f"{number:#.3g}"


def _print_key_recovery(result: "KeyRecovery") -> None:
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    _print_facts(result.machine, result.versions)
    console.print(f"sums of {result.num_clients} clients, seed {result.seed}")
    for attempt in result.attempts:
        label = f"{attempt.scheme}/{attempt.profile}" if attempt.profile else attempt.scheme
        console.print(
            f"{label}: {'KEY RECOVERED' if attempt.is_recovered else 'no key'} from {attempt.tried}\n"
            f"    {100 * attempt.possible_share:.1f} % of the candidate's coefficients can be a key's; it opens "
            f"{100 * attempt.opened_share:.1f} % of one client's values; {attempt.cpu_seconds:.2f} s"
        )


def _print_facts(machine: Mapping[str, str | int], versions: Mapping[str, str]) -> None:
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    console.print(", ".join(f"{name} {value}" for name, value in machine.items()))
    console.print(", ".join(f"{name} {value}" for name, value in versions.items()))


def _print_table(result: "TrainingBenchmark") -> None:
    from rich.console import Console

    console = Console(highlight=False)
    work = result.work
    _print_facts(result.machine, result.versions)
    console.print(
        f"{work.model}, {work.data_path or 'synthetic clinics'}: {work.num_rows} rows of at most {work.max_tokens} "
        f"tokens ({result.start.num_tokens} in all), batch {work.batch_size}, {work.threads} threads, "
        f"seed {work.seed}, {result.passes[0].device}; loss before {result.start.loss:.4f}"
    )
    console.print(_table(result))
    for name, ratio in result.ratios.items():
        console.print(f"{name}: {ratio:.2f} times the tokens per second")
    if result.equal_batches is not None:
        difference = result.equal_batches.max_relative_difference
        console.print(f"same batches: losses of confide and plain differ by at most {difference:.1e} (relative)")


def _table(result: "TrainingBenchmark") -> "Table":
    from rich.table import Table

    table = Table("contender", "seconds", "tokens/s", "range", "peak MB", "loaded MB", "loss after")
    for column in table.columns:
        column.no_wrap = True
        column.justify = "left" if column is table.columns[0] else "right"
    for name, speed in result.speed.items():
        passes = sorted((p for p in result.passes if p.contender == name), key=lambda p: p.tokens_per_second)
        middle = passes[len(passes) // 2]
        memory = middle.device_peak_mb or result.peak_mb[name].median
        table.add_row(
            name,
            f"{middle.seconds:.1f}",
            f"{speed.median:.1f}",
            f"{speed.lowest:.0f}-{speed.highest:.0f}",
            f"{memory:.0f}",
            f"{middle.loaded_mb:.0f}",
            f"{middle.loss_after:.4f}",
        )
    return table
