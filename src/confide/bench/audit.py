"""The question: what do ten attacks on a model cost, when each (model, record) is computed once, and when it is not?

An audit of a small federation on synthetic records: every attack asks how likely each record is under the global models
of some rounds. "One" is the attack that needs all models, with nothing kept yet; "ten" are all, from the same start;
"again" finds everything on disk; "naive" lets each attack make the passes it needs, as if it were alone. All take
turns, in one process, and score the same records with the same functions. Apart from that, greedy generation in batches
against prompt by prompt.
"""

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch

from confide.attacks.membership import MEMBERSHIP_ATTACKS, MembershipAttack, Seen
from confide.attacks.passes import Passes
from confide.bench.audit_work import AuditBenchmark, AuditWork, GenerationRow, ScoringRow
from confide.bench.training import Spread
from confide.data.clinics import generate_clinics
from confide.data.examples import TokenizedExample
from confide.data.templates import make_template
from confide.data.tokenize import tokenize_records
from confide.errors import UsageError
from confide.evaluate.metrics import response_text
from confide.machine import describe_machine, installed_versions
from confide.model.load import load_base_model
from confide.model.lora import AdaptedModel, LoraSettings, attach_lora
from confide.seeds import stream
from confide.update import Vector

ATTACKS = (
    "loss",
    "zlib",
    "min_k",
    "min_k_plus_plus",
    "reference",
    "reference_ratio",
    "ez",
    "wbc",
    "largest_gain",
    "summed_gain",
)
ONE_ATTACK = "summed_gain"
"""It needs every model, so that one attack and ten need the same passes."""
MOST_FOR_TEN = 1.2
"""What ten attacks should cost at most, in costs of one."""

_TEMPLATE = "alpaca"
_VERSIONED = ("confide", "torch", "transformers", "peft", "numpy", "safetensors")


@dataclass(frozen=True, kw_only=True)
class Lab:
    """What all rows share.

    Attributes:
        model: with room for an adapter.
        adapters: by round; 0 is the base model.
        examples: the records.
        texts: of each record, what would be learnt.
        prompts: of the records, each once.
        batch_size: records or prompts at a time.
    """

    model: AdaptedModel
    adapters: Mapping[int, Vector | None]
    examples: Sequence[TokenizedExample]
    texts: Sequence[str]
    prompts: Sequence[Sequence[int]]
    batch_size: int

    def passes(self, folder: Path | None) -> Passes:
        """Passes that keep their results in a folder, or only in memory."""
        return Passes(self.model, folder, batch_size=self.batch_size)


def run_audit_benchmark(work: AuditWork, *, on_progress: Callable[[str], None] | None = None) -> AuditBenchmark:
    """Measures every row, `repeats` times in turns, after one round of all that is not counted.

    Raises:
        UsageError: a number is out of range, or there are too few synthetic records.
        ModelError: the model cannot be loaded.
    """
    if min(work.num_records, work.num_rounds, work.repeats, work.threads, work.max_new_tokens) < 1:
        raise UsageError("records, rounds, repeats, threads and new tokens have to be 1 or more")
    report = on_progress or (lambda _: None)
    with _threads(work.threads):
        report(f"loading {work.model}")
        lab = make_lab(work)
        runs: dict[str, list[_Run]] = {}
        for repeat in range(work.repeats + 1):
            report(f"scoring: {f'pass {repeat} of {work.repeats}' if repeat else 'warming up'}")
            for name, run in score_in_turns(lab).items():
                runs.setdefault(name, []).extend([run] if repeat else [])
        generation = tuple(_generation_row(lab, work, size, report) for size in (work.batch_size, 1))
    rows = tuple(_scoring_row(lab, name, found) for name, found in runs.items())
    return AuditBenchmark(
        work=work,
        machine=describe_machine(),
        versions=installed_versions(_VERSIONED),
        device=str(lab.model.base.device),
        num_models=len(lab.adapters),
        num_tokens=sum(example.num_tokens for example in lab.examples),
        attacks={name: len(models_needed(MEMBERSHIP_ATTACKS[name], lab.adapters)) for name in ATTACKS},
        rows=rows,
        generation=generation,
        ratios=compare(rows, generation),
        most_for_ten=MOST_FOR_TEN,
    )


def make_lab(work: AuditWork) -> Lab:
    """Loads the model, draws adapters, makes records.

    Raises:
        UsageError: there are too few synthetic records.
        ModelError: the model cannot be loaded.
    """
    base = load_base_model(work.model, device=work.device, seed=work.seed)
    model = attach_lora(base, LoraSettings(), seed=work.seed)
    start = model.read()
    adapters: dict[int, Vector | None] = {0: None}
    for number in range(1, work.num_rounds + 1):
        step = stream(work.seed, "bench-adapter", number).standard_normal(start.size, dtype=np.float32)
        adapters[number] = start + np.float32(0.01) * step
    records = generate_clinics(seed=work.seed)
    template = make_template(_TEMPLATE, base.tokenizer)
    examples = tokenize_records(records, template, work.max_tokens, max_examples=work.num_records).examples
    if len(examples) < work.num_records:
        raise UsageError(
            f"the synthetic clinics give {len(examples)} records with a response within {work.max_tokens} tokens, "
            f"expected {work.num_records}. Lower --records or raise --max-tokens."
        )
    by_id = {record.record_id: record for record in records}
    asked_about = [by_id[example.record_id] for example in examples]
    return Lab(
        model=model,
        adapters=adapters,
        examples=examples,
        texts=[response_text(record) for record in asked_about],
        prompts=list(dict.fromkeys(tuple(template.prompt(record)) for record in asked_about)),
        batch_size=work.batch_size,
    )


def models_needed(attack: MembershipAttack, rounds: Iterable[int]) -> list[int]:
    """Which rounds' models an attack reads, ascending."""
    numbers = sorted(rounds)
    if "rounds" in attack.needs:
        return numbers
    return [numbers[0], numbers[-1]] if "base" in attack.needs else numbers[-1:]


@dataclass(frozen=True)
class _Run:
    seconds: float
    num_passes: int
    num_attacks: int


def score_in_turns(lab: Lab) -> dict[str, _Run]:
    """Runs every row of `ScoringRow` once."""
    attacks = [MEMBERSHIP_ATTACKS[name] for name in ATTACKS]
    runs = {}
    with tempfile.TemporaryDirectory(prefix="confide-bench-") as name:
        folder = Path(name)
        runs["one"] = _timed(lab, [lab.passes(folder / "one")], [MEMBERSHIP_ATTACKS[ONE_ATTACK]])
        runs["ten"] = _timed(lab, [lab.passes(folder / "ten")], attacks)
        runs["again"] = _timed(lab, [lab.passes(folder / "ten")], attacks)
    runs["naive"] = _timed(lab, [lab.passes(None) for _ in attacks], attacks)
    return runs


def _timed(lab: Lab, passes: Sequence[Passes], attacks: Sequence[MembershipAttack]) -> _Run:
    """Runs attacks, each with its own passes, or all with one."""
    _wait_for(lab.model)
    began = time.perf_counter()
    for number, attack in enumerate(attacks):
        score(attack, passes[number % len(passes)], lab)
    return _Run(time.perf_counter() - began, sum(one.num_passes for one in passes), len(attacks))


def score(attack: MembershipAttack, passes: Passes, lab: Lab) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Scores every record, with passes only through the models that the attack needs."""
    rounds = {
        number: passes.stats(lab.adapters[number], lab.examples) for number in models_needed(attack, lab.adapters)
    }
    final = rounds[max(rounds)]
    seen = Seen(
        final=final,
        base=rounds.get(0, final),  # attacks that do not need it do not read it
        rounds=rounds if "rounds" in attack.needs else {},
        texts=lab.texts,
        owners=[""] * len(lab.texts),
    )
    return attack.scores(seen)


def compare(rows: Sequence[ScoringRow], generation: Sequence[GenerationRow]) -> dict[str, float]:
    """See `AuditBenchmark.ratios`."""
    seconds = {row.name: row.seconds.median for row in rows}
    speed = {row.name: row.tokens_per_second for row in generation}
    return {
        "ten/one": seconds["ten"] / seconds["one"],
        "naive/ten": seconds["naive"] / seconds["ten"],
        "ten/again": seconds["ten"] / seconds["again"],
        "batched/one by one": speed["batched"] / speed["one by one"],
    }


def _scoring_row(lab: Lab, name: str, runs: Sequence[_Run]) -> ScoringRow:
    seconds = _spread([run.seconds for run in runs])
    return ScoringRow(
        name=name,
        num_attacks=runs[0].num_attacks,
        num_passes=runs[0].num_passes,
        seconds=seconds,
        record_models_per_second=len(lab.examples) * len(lab.adapters) / seconds.median,
    )


def _generation_row(lab: Lab, work: AuditWork, batch_size: int, report: Callable[[str], None]) -> GenerationRow:
    name = "one by one" if batch_size == 1 else "batched"
    adapter = lab.adapters[work.num_rounds]
    seconds, num_tokens = [], 0
    for repeat in range(work.repeats + 1):
        report(f"answers, {name}: {f'pass {repeat} of {work.repeats}' if repeat else 'warming up'}")
        passes = Passes(lab.model, None, batch_size=batch_size)
        _wait_for(lab.model)
        began = time.perf_counter()
        answers = passes.generate(adapter, lab.prompts, max_new_tokens=work.max_new_tokens)
        seconds.append(time.perf_counter() - began)
        num_tokens = sum(len(answer.token_ids) + answer.is_finished for answer in answers)
    spread = _spread(seconds[1:])
    return GenerationRow(
        name=name,
        batch_size=batch_size,
        num_tokens=num_tokens,
        seconds=spread,
        tokens_per_second=num_tokens / spread.median,
    )


def _spread(values: Sequence[float]) -> Spread:
    return Spread(median=median(values), lowest=min(values), highest=max(values))


def _wait_for(model: AdaptedModel) -> None:
    """Lets a GPU finish what came before; results come back as numpy arrays, so a row's end needs no waiting."""
    if model.base.device.type == "cuda":
        torch.cuda.synchronize(model.base.device)


@contextmanager
def _threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
