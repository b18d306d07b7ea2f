"""The question: what does DP-SGD cost, in time and memory, over the same steps without privacy?

Three ways through equal batches: plain, DP-SGD as Confide trains (each row's gradient, by hooks), and DP-SGD with ghost
clipping to compare with. Time is measured by turns in one process, memory in a process of its own for each way. This
module starts the processes and sums up; it imports nothing heavy.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from confide.bench.own_process import ask_process
from confide.bench.privacy_work import (
    PRIVATE_WAYS,
    WAYS,
    CostOfPrivacy,
    Memory,
    PrivacyBenchmark,
    PrivacyRow,
    PrivacyWork,
    Times,
)
from confide.bench.training import spread
from confide.errors import UsageError
from confide.machine import describe_machine, installed_versions

TARGET: Mapping[str, float] = MappingProxyType({"time": 1.3, "memory": 1.5})
"""The most that private training should cost, in times of plain training."""

_PROCESS = "confide.bench.privacy_process"
_VERSIONED = ("confide", "torch", "transformers", "peft", "opacus", "numpy", "scipy")


def run_privacy_benchmark(work: PrivacyWork, *, on_progress: Callable[[str], None] | None = None) -> PrivacyBenchmark:
    """Measures all of `WAYS`.

    Raises:
        UsageError: a number is out of range, or the model or the rows are not there.
        RunError: a process failed, or the private ways do not compute the same; the message says more.
    """
    if min(work.num_rows, work.batch_size, work.repeats, work.threads) < 1:
        raise UsageError("rows, batch size, repeats and threads have to be 1 or more")
    report = on_progress or (lambda _: None)
    memory = {}
    for way, meaning in WAYS.items():
        report(f"memory: {meaning}")
        memory[way] = ask_process(_PROCESS, way, work.to_json(), Memory, threads=work.threads)
    report(f"time: {work.repeats} passes of each way, by turns")
    times = ask_process(_PROCESS, "times", work.to_json(), Times, threads=work.threads)
    return PrivacyBenchmark(
        work=work,
        machine=describe_machine(),
        versions=installed_versions(_VERSIONED),
        device=times.device,
        num_tokens=times.num_tokens,
        num_values=times.num_values,
        rows=tuple(_row(way, times, memory[way]) for way in WAYS),
        ratios={f"{way}/plain": compare(times, memory, way) for way in PRIVATE_WAYS},
        norm_difference=times.norm_difference,
        target=dict(TARGET),
    )


def compare(times: Times, memory: Mapping[str, Memory], way: str) -> CostOfPrivacy:
    """One private way against "plain"."""
    turns = list(zip(times.passes[way], times.passes["plain"], strict=True))
    time = spread([private.seconds / plain.seconds for private, plain in turns])
    peak, plain_peak = _peak_mb(memory[way]), _peak_mb(memory["plain"])
    on_top, plain_on_top = peak - _loaded_mb(memory[way]), plain_peak - _loaded_mb(memory["plain"])
    return CostOfPrivacy(
        time=time,
        cpu_time=spread([private.cpu_seconds / plain.cpu_seconds for private, plain in turns]),
        memory=peak / plain_peak,
        # A pass that the memory of loading had room for tells nothing.
        memory_of_pass=on_top / plain_on_top if plain_on_top > 0 else None,
        meets_time=time.median <= TARGET["time"],
        meets_memory=peak / plain_peak <= TARGET["memory"],
    )


def _row(way: str, times: Times, memory: Memory) -> PrivacyRow:
    seconds = spread([one.seconds for one in times.passes[way]])
    return PrivacyRow(
        name=way,
        seconds=seconds,
        cpu_seconds=spread([one.cpu_seconds for one in times.passes[way]]),
        tokens_per_second=times.num_tokens / seconds.median,
        memory=memory,
    )


def _peak_mb(memory: Memory) -> float:
    return memory.device_peak_mb or memory.peak_mb


def _loaded_mb(memory: Memory) -> float:
    return memory.device_loaded_mb if memory.device_peak_mb else memory.loaded_mb
