"""The question: how fast is a pass of LoRA training, and in how much memory: Confide, TRL, a plain loop?

Every pass runs in a process of its own, so that memory can be compared and nothing warms up for the next; contenders
take turns, so that a busy moment of the machine hits all of them alike. This module starts the processes and sums up;
it imports nothing heavy, so that its own memory is in nobody's figure.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from types import MappingProxyType
from typing import TypeVar

from confide.bench.own_process import ask_process
from confide.bench.work import EqualBatches, PassResult, StartingPoint, TrainingWork
from confide.errors import UsageError
from confide.machine import describe_machine, installed_versions

CONTENDERS: Mapping[str, str] = MappingProxyType(
    {
        "trl": "TRL's SFTTrainer, gradient checkpointing off as in the other rows",
        "trl-defaults": "TRL's SFTTrainer as it comes: gradient checkpointing on",
        "plain": "a plain loop over transformers and peft",
        "confide": "Confide's local training",
        "confide-8bit": "Confide's local training on a base model held in 8 bits (CUDA only)",
    }
)
DEFAULT_CONTENDERS = ("trl", "trl-defaults", "plain", "confide")
BASELINES = ("trl", "trl-defaults", "plain")

_VERSIONED = ("confide", "torch", "transformers", "peft", "trl", "datasets", "accelerate", "bitsandbytes")

Answer = TypeVar("Answer", PassResult, EqualBatches, StartingPoint)


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Median, lowest and highest over the repeats."""

    median: float
    lowest: float
    highest: float


@dataclass(frozen=True, kw_only=True)
class TrainingBenchmark:
    """All that a reader needs to judge the numbers.

    Attributes:
        start: the rows, and the loss before any pass.
        passes: every pass that ran, in order.
        speed: real tokens per second by contender.
        peak_mb: peak memory by contender (RSS).
        ratios: Confide's median speed over each baseline's: above 1 Confide is faster.
        equal_batches: None when not asked for.
    """

    work: TrainingWork
    machine: Mapping[str, str | int]
    versions: Mapping[str, str]
    start: StartingPoint
    passes: tuple[PassResult, ...]
    speed: Mapping[str, Spread]
    peak_mb: Mapping[str, Spread]
    ratios: Mapping[str, float]
    equal_batches: EqualBatches | None

    def to_dict(self) -> dict[str, object]:
        """As plain data for JSON."""
        return asdict(self)


def run_training_benchmark(
    work: TrainingWork,
    *,
    contenders: Sequence[str] = DEFAULT_CONTENDERS,
    repeats: int = 3,
    checks_equal_batches: bool = True,
    on_progress: Callable[[str], None] | None = None,
) -> TrainingBenchmark:
    """Runs every contender `repeats` times, taking turns, and sums up.

    Args:
        work: the pass that everybody does.
        contenders: names of `CONTENDERS`, in order.
        repeats: passes of each, at least 1.
        checks_equal_batches: also run Confide and the plain loop on the same batches and compare their losses.
        on_progress: told about each process before it starts.

    Raises:
        UsageError: a name is unknown, or the model, the data or a package is not there.
        RunError: a process failed; the message ends with what it wrote last.
    """
    unknown = [name for name in contenders if name not in CONTENDERS]
    if unknown:
        raise UsageError(f"no contender is called {unknown[0]!r}, expected some of {', '.join(CONTENDERS)}.")
    report = on_progress or (lambda _: None)
    report("the loss before")
    start = _in_own_process("start", work, StartingPoint)
    passes = []
    for repeat in range(repeats):
        for name in contenders:
            report(f"pass {repeat + 1} of {repeats}: {CONTENDERS[name]}")
            passes.append(_in_own_process(name, work, PassResult))
    equal = None
    if checks_equal_batches:
        report("the same batches through Confide and through the plain loop")
        equal = _in_own_process("equal-batches", work, EqualBatches)
    return _sum_up(work, start, passes, equal)


def _sum_up(
    work: TrainingWork, start: StartingPoint, passes: Sequence[PassResult], equal: EqualBatches | None
) -> TrainingBenchmark:
    names = list(dict.fromkeys(result.contender for result in passes))
    speed = {name: spread([p.tokens_per_second for p in passes if p.contender == name]) for name in names}
    peak = {name: spread([p.peak_mb for p in passes if p.contender == name]) for name in names}
    ratios = {
        f"confide/{baseline}": speed["confide"].median / speed[baseline].median
        for baseline in BASELINES
        if "confide" in speed and baseline in speed
    }
    return TrainingBenchmark(
        work=work,
        machine=describe_machine(),
        versions=installed_versions(_VERSIONED),
        start=start,
        passes=tuple(passes),
        speed=speed,
        peak_mb=peak,
        ratios=ratios,
        equal_batches=equal,
    )


def spread(values: Sequence[float]) -> Spread:
    """Of at least one value."""
    return Spread(median=median(values), lowest=min(values), highest=max(values))


def _in_own_process(task: str, work: TrainingWork, kind: type[Answer]) -> Answer:
    """Runs `confide.bench.process` for one task and gives what it answered."""
    return ask_process("confide.bench.process", task, work.to_json(), kind, threads=work.threads)
