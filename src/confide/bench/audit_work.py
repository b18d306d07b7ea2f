"""What an audit benchmark asks for and what it gives, as plain data."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from confide.bench.training import Spread


@dataclass(frozen=True, kw_only=True)
class AuditWork:
    """What every row does.

    Attributes:
        model: built-in name, `tiny-llama`, folder, GGUF file or hub id.
        num_records: synthetic records to ask about.
        num_rounds: of the federation; with the base model as round 0 there is one model more.
        max_tokens: length to which records are cut.
        max_new_tokens: of an answer.
        batch_size: records or prompts at a time.
        repeats: of every row; rows give medians.
        threads: CPU threads of torch.
        seed: of the records, the adapters and a tiny model's weights.
        device: "auto", "cpu" or "cuda".
    """

    model: str = "tiny-llama"
    num_records: int = 64
    num_rounds: int = 3
    max_tokens: int = 640
    max_new_tokens: int = 32
    batch_size: int = 8
    repeats: int = 3
    threads: int = 1
    seed: int = 0
    device: str = "auto"


@dataclass(frozen=True, kw_only=True)
class ScoringRow:
    """One way to run attacks.

    Attributes:
        name: "one", "ten", "again" or "naive".
        num_attacks: how many attacks ran.
        num_passes: records that went through a model, in one repeat.
        seconds: from the first pass to the last score.
        record_models_per_second: records times models, over the median of seconds.
    """

    name: str
    num_attacks: int
    num_passes: int
    seconds: Spread
    record_models_per_second: float


@dataclass(frozen=True, kw_only=True)
class GenerationRow:
    """One way to answer all prompts.

    Attributes:
        name: "batched" or "one by one".
        batch_size: prompts at a time.
        num_tokens: of all answers.
        seconds: for all prompts.
        tokens_per_second: over the median of seconds.
    """

    name: str
    batch_size: int
    num_tokens: int
    seconds: Spread
    tokens_per_second: float


@dataclass(frozen=True, kw_only=True)
class AuditBenchmark:
    """All that a reader needs to judge the numbers.

    Attributes:
        num_models: rounds and the base model.
        num_tokens: of the records.
        attacks: the ten, and how many models each of them needs.
        rows: scoring.
        generation: answers.
        ratios: "ten/one": cost of ten attacks in costs of one; "naive/ten": cost without what is kept in costs with it;
            "ten/again": cost of a first run in costs of a second; "batched/one by one": tokens per second.
        most_for_ten: what "ten/one" should be at most.
    """

    work: AuditWork
    machine: Mapping[str, str | int]
    versions: Mapping[str, str]
    device: str
    num_models: int
    num_tokens: int
    attacks: Mapping[str, int]
    rows: tuple[ScoringRow, ...]
    generation: tuple[GenerationRow, ...]
    ratios: Mapping[str, float]
    most_for_ten: float

    def to_dict(self) -> dict[str, object]:
        """As plain data for JSON."""
        return asdict(self)
