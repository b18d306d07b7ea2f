"""What a benchmark of private training asks for and what it gives, as plain data."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Literal

from pydantic import TypeAdapter

from confide.bench.training import Spread
from confide.bench.work import TrainingWork

WAYS: Mapping[str, str] = MappingProxyType(
    {
        "plain": "the same steps without privacy",
        "hooks": "DP-SGD as Confide trains: each row's gradient, by Opacus' hooks",
        "ghost": "DP-SGD with Opacus' ghost clipping: norms only, and a second way back",
    }
)
PRIVATE_WAYS = ("hooks", "ghost")


@dataclass(frozen=True, kw_only=True)
class PrivacyWork:
    """What every way does: one pass over the same rows, in the same steps.

    Attributes:
        model: built-in name, `tiny-llama`, folder, GGUF file or hub id.
        num_rows: synthetic records to train on.
        max_tokens: length to which they are cut.
        batch_size: rows of one step, which is one forward pass.
        average: which factors are trained: "factors" both, "freeze-a" B alone, as `lora.average` has it.
        repeats: passes of each way that are timed.
        threads: CPU threads of torch.
        seed: of the rows, the adapter and a tiny model's weights; noise never comes from one.
        clip_norm: bound on one row's gradient.
        noise_multiplier: standard deviation of the noise over it.
        device: "auto", "cpu" or "cuda".
    """

    model: str = "tiny-llama"
    num_rows: int = 24
    max_tokens: int = 640
    batch_size: int = 8
    average: Literal["factors", "freeze-a"] = "factors"
    repeats: int = 5
    threads: int = 1
    seed: int = 0
    clip_norm: float = 1.0
    noise_multiplier: float = 1.0
    device: str = "auto"

    @property
    def training(self) -> TrainingWork:
        """The same rows, adapter and optimiser as the benchmark of training has."""
        return TrainingWork(
            model=self.model,
            num_rows=self.num_rows,
            max_tokens=self.max_tokens,
            batch_size=self.batch_size,
            threads=self.threads,
            seed=self.seed,
            device=self.device,
        )

    def to_json(self) -> str:
        """As one line of JSON; `from_json` is the inverse."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "PrivacyWork":
        """The inverse of `to_json`."""
        return TypeAdapter(cls).validate_json(text)


@dataclass(frozen=True, kw_only=True)
class PassTime:
    """One pass: on the wall, and of the processor over all threads, which other work on the machine hardly moves."""

    seconds: float
    cpu_seconds: float


@dataclass(frozen=True, kw_only=True)
class Times:
    """All ways by turns in one process.

    Attributes:
        passes: by way; the passes of one position belong to one turn.
        num_tokens: real tokens of a pass, padding excluded.
        num_values: that are trained.
        norm_difference: the most, over the first step's rows, by which the two private ways differ on the norm of a
            row's gradient, relative: they compute the same.
        device: what it ran on, with the number type of the base model's weights.
    """

    passes: Mapping[str, tuple[PassTime, ...]]
    num_tokens: int
    num_values: int
    norm_difference: float
    device: str


@dataclass(frozen=True, kw_only=True)
class Memory:
    """One pass of one way in a process of its own.

    Attributes:
        loaded_mb: before the pass, with model, rows and libraries loaded (RSS; 10**6 B).
        peak_mb: the most memory the process ever had up to the end of the pass (RSS).
        device_loaded_mb, device_peak_mb: GPU memory allocated before the pass and at most; 0 without a GPU.
    """

    loaded_mb: float
    peak_mb: float
    device_loaded_mb: float
    device_peak_mb: float


@dataclass(frozen=True, kw_only=True)
class PrivacyRow:
    """One way.

    Attributes:
        name: of `WAYS`.
        seconds: of a pass.
        cpu_seconds: of the processor, over all threads.
        tokens_per_second: real tokens over the median of seconds.
        memory: of a process that does nothing else.
    """

    name: str
    seconds: Spread
    cpu_seconds: Spread
    tokens_per_second: float
    memory: Memory


@dataclass(frozen=True, kw_only=True)
class CostOfPrivacy:
    """One private way against plain training.

    Attributes:
        time: seconds of a pass over those of the plain pass of the same turn.
        cpu_time: the same of the processor's time, which says more where the machine has other work; without a GPU.
        memory: peak over peak: of the GPU where there is one, else of the process.
        memory_of_pass: the same of what came on top of what was loaded; None where the plain pass needed no more.
        meets_time, meets_memory: whether the median of `time`, and `memory`, are within the target.
    """

    time: Spread
    cpu_time: Spread
    memory: float
    memory_of_pass: float | None
    meets_time: bool
    meets_memory: bool


@dataclass(frozen=True, kw_only=True)
class PrivacyBenchmark:
    """All that a reader needs to judge the numbers.

    Attributes:
        num_tokens, num_values, norm_difference, device: as in `Times`.
        rows: one for each way.
        ratios: by "hooks/plain" and "ghost/plain".
        target: the most that "time" and "memory" should be.
    """

    work: PrivacyWork
    machine: Mapping[str, str | int]
    versions: Mapping[str, str]
    device: str
    num_tokens: int
    num_values: int
    rows: tuple[PrivacyRow, ...]
    ratios: Mapping[str, CostOfPrivacy]
    norm_difference: float
    target: Mapping[str, float]

    def to_dict(self) -> dict[str, object]:
        """As plain data for JSON."""
        return asdict(self)
