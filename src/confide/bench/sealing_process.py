"""One task of the sealing benchmark in a process of its own; started by `confide.bench.sealing`, not by people.

    python -m confide.bench.sealing_process TASK <WORK >ANSWER

TASK is "row", "streaming" or "parallel", the last with the largest number of worker processes behind it; WORK is a
`SealingWork` and ANSWER a list of rows, as JSON. An error raised on purpose goes to the standard error, with its exit
code.
"""

import json
import sys
import time
from dataclasses import asdict, dataclass

from pydantic import TypeAdapter

from confide.bench.memory import MB
from confide.bench.sealing_row import Bench, make_bench, make_update, measure_row, seal_and_drop
from confide.bench.sealing_work import ParallelRow, SealingRow, SealingWork, StreamingRow
from confide.errors import ConfideError, UsageError
from confide.seal.onetime import OneTimeClient
from confide.seal.parallel import SealingWorkers
from confide.seal.profiles import get_profile
from confide.seal.scheme import ClientSealing
from confide.update import Vector


def main() -> None:
    """Runs the task that the command line names."""
    task, *options = sys.argv[1:]
    work = TypeAdapter(SealingWork).validate_json(sys.stdin.read())
    try:
        answers = _run_task(task, work, options)
    except ConfideError as error:
        sys.stderr.write(str(error))
        sys.exit(error.exit_code)
    sys.stdout.write(json.dumps([asdict(answer) for answer in answers]))


def _run_task(
    task: str, work: SealingWork, options: list[str]
) -> list[SealingRow] | list[StreamingRow] | list[ParallelRow]:
    if task == "row":
        return [measure_row(work)]
    if task == "streaming":
        return [measure_streaming(work)]
    return measure_parallel(work, max_processes=int(options[0]))


def measure_streaming(work: SealingWork) -> StreamingRow:
    """Seals one long vector, chunk by chunk."""
    bench = make_bench(work.scheme, work.num_clients)
    seal_and_drop(bench, make_update(work.seed, 0, 1))  # so that the library's own memory is not counted
    update = make_update(work.seed, 0, work.num_values)
    alone = seal_and_drop(bench, update)
    return StreamingRow(
        scheme=work.scheme,
        num_values=work.num_values,
        vector_mb=update.nbytes / MB,
        memory_beyond_vector_mb=alone.memory_mb,
        seal_values_per_cpu_second=work.num_values / (alone.seconds + alone.frame_seconds),
        upload_bytes_per_value=alone.num_bytes / work.num_values,
    )


def measure_parallel(work: SealingWork, *, max_processes: int) -> list[ParallelRow]:
    """Seals one vector with 1, 2, 4 ... worker processes, up to a number.

    Raises:
        UsageError: the scheme is not `onetime`.
    """
    scheme, _, profile = work.scheme.partition("/")
    if scheme != "onetime":
        raise UsageError(f"several processes seal scheme onetime only, not {scheme}")
    bench = make_bench(work.scheme, work.num_clients)
    update = make_update(work.seed, 0, work.num_values)
    here = min(_time(bench, bench.client, update).cpu_seconds for _ in range(work.repeats))
    rows: list[ParallelRow] = []
    for num_processes in process_numbers(max_processes):
        with SealingWorkers(get_profile(scheme, profile), num_processes) as workers:
            client = OneTimeClient(get_profile(scheme, profile), bench.roster, bench.threshold, sealer=workers)
            _time(bench, client, update[: num_processes * client.chunk_values])  # starts them up
            times = [_time(bench, client, update) for _ in range(work.repeats)]
        speed = work.num_values / min(one.seconds for one in times)
        rows.append(
            ParallelRow(
                scheme=work.scheme,
                num_processes=num_processes,
                num_values=work.num_values,
                seal_values_per_second=speed,
                speed_up=speed / rows[0].seal_values_per_second if rows else 1.0,
                handing_out_share=min(one.cpu_seconds for one in times) / here,
            )
        )
    return rows


def process_numbers(most: int) -> list[int]:
    """1, 2, 4 and so on below `most`, and `most`."""
    return [*(1 << power for power in range((most - 1).bit_length())), most]


@dataclass(frozen=True, kw_only=True)
class _Times:
    """Of sealing one vector, frames not included: on the wall, and in CPU time of this process alone."""

    seconds: float
    cpu_seconds: float


def _time(bench: Bench, client: ClientSealing, update: Vector) -> _Times:
    sealing = client.begin(bench.context(0, update.size))
    began, cpu_began = time.perf_counter(), time.process_time()
    for _ in sealing.chunks(update):
        pass
    return _Times(seconds=time.perf_counter() - began, cpu_seconds=time.process_time() - cpu_began)


if __name__ == "__main__":
    main()
