"""The question: what does sealing cost, in CPU time, bytes and memory, and how exact is the sum?

One row per scheme and profile, on the same updates, each in a process of its own with one thread, so that memory can be
compared. The baseline is `published`, what the FedShield-LLM paper does, in the same run. This module starts the
processes and sums up; it imports nothing heavy.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TypeVar

from pydantic import TypeAdapter

from confide.bench.sealing_work import BASELINE, SCHEMES, ParallelRow, SealingRow, SealingWork, StreamingRow
from confide.errors import RunError, UsageError
from confide.machine import describe_machine, installed_versions

LARGE_SCHEME = "onetime/compact"
LARGE_NUM_VALUES = 100_000_000
PARALLEL_VALUES_PER_PROCESS = 1 << 22  # eight chunks each

_VERSIONED = ("confide", "numpy", "cryptography", "seal-python", "tenseal")
_TAIL_CHARACTERS = 2000
_MOST_CLIENTS = 64

Answer = TypeVar("Answer")


@dataclass(frozen=True, kw_only=True)
class SealingBenchmark:
    """All that a reader needs to judge the numbers.

    Attributes:
        num_values: of one client's update.
        num_clients: in every sum.
        repeats: of which the fastest counts.
        seed: of the updates.
        rows: in the order asked for.
        ratios: by row, over `published` of the same run; above 1 the row is better: times the speed for "seal", "add"
            and "open", times fewer bytes for "upload" and "download". Empty without `published`.
        missing: rows that could not run, and why.
        streaming: one long vector, if asked for.
        parallel: several processes, if asked for.
    """

    num_values: int
    num_clients: int
    repeats: int
    seed: int
    machine: Mapping[str, str | int]
    versions: Mapping[str, str]
    rows: tuple[SealingRow, ...]
    ratios: Mapping[str, Mapping[str, float]]
    missing: Mapping[str, str]
    streaming: StreamingRow | None
    parallel: tuple[ParallelRow, ...]

    def to_dict(self) -> dict[str, object]:
        """As plain data for JSON."""
        return asdict(self)


def run_sealing_benchmark(
    *,
    num_values: int,
    num_clients: int = 10,
    schemes: Sequence[str] | None = None,
    repeats: int = 3,
    seed: int = 0,
    large: bool = False,
    max_processes: int = 0,
    on_progress: Callable[[str], None] | None = None,
) -> SealingBenchmark:
    """Measures every row.

    Args:
        num_values: of one client's update, > 0.
        num_clients: who seal, 2 to 64.
        schemes: rows of `SCHEMES`, or schemes for all their profiles; None for all that can run here.
        repeats: passes of which the fastest counts; `published`, which is slow, has one.
        seed: of the updates.
        large: also seal one vector of 100,000,000 values.
        max_processes: also seal with 1, 2, 4 ... processes up to so many; 0 for not.
        on_progress: told about each process before it starts.

    Raises:
        UsageError: a scheme is unknown, a number is out of range, or a scheme asked for by name lacks its library.
        RunError: a process failed; the message ends with what it wrote last.
    """
    if not 2 <= num_clients <= _MOST_CLIENTS:
        raise UsageError(f"--clients is {num_clients}, expected 2 to {_MOST_CLIENTS}")
    report = on_progress or (lambda _: None)
    rows, missing = [], {}
    for scheme in expand_schemes(schemes):
        report(f"{scheme}: {num_values} values, {num_clients} clients")
        work = SealingWork(scheme=scheme, num_values=num_values, num_clients=num_clients, repeats=repeats, seed=seed)
        try:
            rows += in_own_process("row", work, SealingRow)
        except UsageError as error:
            if schemes is not None:
                raise
            missing[scheme] = str(error)
    return SealingBenchmark(
        num_values=num_values,
        num_clients=num_clients,
        repeats=repeats,
        seed=seed,
        machine=describe_machine(),
        versions=installed_versions(_VERSIONED),
        rows=tuple(rows),
        ratios=ratios_to_baseline(rows),
        missing=missing,
        streaming=_streaming(num_clients, seed, report) if large else None,
        parallel=_parallel(num_clients, seed, max_processes, report) if max_processes else (),
    )


def expand_schemes(names: Sequence[str] | None) -> list[str]:
    """Rows by their own names or their schemes'.

    Raises:
        UsageError: a name is neither.
    """
    chosen: list[str] = []
    for name in SCHEMES if names is None else names:
        found = [row for row in SCHEMES if name in (row, row.partition("/")[0])]
        if not found:
            raise UsageError(f"no scheme is called {name!r}, expected some of {', '.join(SCHEMES)}.")
        chosen += [row for row in found if row not in chosen]
    return chosen


def ratios_to_baseline(rows: Sequence[SealingRow]) -> dict[str, dict[str, float]]:
    """See `SealingBenchmark.ratios`."""
    baseline = next((row for row in rows if row.label == BASELINE), None)
    if baseline is None:
        return {}
    return {
        row.label: {
            "seal": row.seal_values_per_cpu_second / baseline.seal_values_per_cpu_second,
            "add": row.add_values_per_cpu_second / baseline.add_values_per_cpu_second,
            "open": row.open_values_per_cpu_second / baseline.open_values_per_cpu_second,
            "upload": baseline.upload_bytes_per_value / row.upload_bytes_per_value,
            "download": baseline.download_bytes_per_value / row.download_bytes_per_value,
        }
        for row in rows
        if row is not baseline
    }


def in_own_process(task: str, work: SealingWork, kind: type[Answer], *options: str) -> list[Answer]:
    """Runs `confide.bench.sealing_process` for one task and gives what it answered.

    Raises:
        UsageError: as the process does.
        RunError: the process failed.
    """
    command = [sys.executable, "-m", "confide.bench.sealing_process", task, *options]
    finished = subprocess.run(
        command,
        input=TypeAdapter(SealingWork).dump_json(work),
        capture_output=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    if finished.returncode == UsageError.exit_code:
        raise UsageError(finished.stderr.decode())
    if finished.returncode != 0:
        raise RunError(
            f"the benchmark's process for {work.scheme} ended with exit code {finished.returncode}. "
            f"It wrote last:\n{finished.stderr.decode()[-_TAIL_CHARACTERS:]}"
        )
    return TypeAdapter(list[kind]).validate_json(finished.stdout)  # type: ignore[valid-type]


def _streaming(num_clients: int, seed: int, report: Callable[[str], None]) -> StreamingRow:
    report(f"{LARGE_SCHEME}: {LARGE_NUM_VALUES} values in one vector")
    work = SealingWork(scheme=LARGE_SCHEME, num_values=LARGE_NUM_VALUES, num_clients=num_clients, repeats=1, seed=seed)
    (row,) = in_own_process("streaming", work, StreamingRow)
    return row


def _parallel(
    num_clients: int, seed: int, max_processes: int, report: Callable[[str], None]
) -> tuple[ParallelRow, ...]:
    report(f"{LARGE_SCHEME}: up to {max_processes} processes")
    work = SealingWork(
        scheme=LARGE_SCHEME,
        num_values=PARALLEL_VALUES_PER_PROCESS * max_processes,
        num_clients=num_clients,
        repeats=5,
        seed=seed,
    )
    return tuple(in_own_process("parallel", work, ParallelRow, str(max_processes)))
