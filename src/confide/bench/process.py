"""One task of the training benchmark in a process of its own; started by `confide.bench.training`, not by people.

    python -m confide.bench.process TASK FOLDER <WORK

TASK is a contender's name, "start" or "equal-batches", WORK a `TrainingWork` as JSON; see own_process.py.
"""

import time
from pathlib import Path
from typing import Protocol

import torch

from confide.bench.confide_pass import ConfidePass
from confide.bench.memory import MB, peak_resident_mb, resident_mb
from confide.bench.own_process import answer_task
from confide.bench.plain_pass import PlainPass, mean_target_loss, rows_in_order, with_new_adapter, with_saved_adapter
from confide.bench.trl_pass import TrlPass
from confide.bench.work import EqualBatches, PassResult, StartingPoint, TrainingWork
from confide.data.clinics import generate_clinics
from confide.data.examples import Record, TokenizedExample
from confide.data.sources import load_records
from confide.data.templates import make_template
from confide.data.tokenize import tokenize_records
from confide.errors import UsageError
from confide.model.load import BaseModel, load_base_model
from confide.seeds import stream

_TEMPLATE = "alpaca"


class TrainingPass(Protocol):
    """A contender, ready to train: everything but the pass itself is done when it is made."""

    def run(self) -> list[float]:
        """Trains on every row once; gives the loss of each step, or nothing where it is not at hand."""

    def save(self, folder: Path) -> None:
        """Writes the trained adapter in PEFT's format."""


def main() -> None:
    """Runs the task that the command line names."""
    answer_task(_run_task)


def _run_task(task: str, work_json: str, folder: Path) -> PassResult | EqualBatches | StartingPoint:
    work = TrainingWork.from_json(work_json)
    torch.set_num_threads(work.threads)
    if task == "start":
        return measure_start(work)
    if task == "equal-batches":
        return compare_on_equal_batches(work, folder)
    return measure_pass(task, work, folder)


def measure_pass(contender: str, work: TrainingWork, folder: Path) -> PassResult:
    """Trains on every row once and measures it."""
    base = load_base_model(work.model, device=work.device, load_in_8bit=contender == "confide-8bit")
    device, dtype = base.device, base.dtype
    examples = read_examples(work, base)
    contestant = _make_pass(contender, work, base, examples, folder)
    _touch_all_weights(base, examples[0])
    del base
    loaded_mb = resident_mb()
    seconds, step_losses = _timed(contestant, device)
    # The system counts a peak a few pages late.
    peak_mb, device_peak_mb = max(peak_resident_mb(), loaded_mb), _device_peak_mb(device)
    contestant.save(folder / "adapter")
    del contestant
    num_tokens = sum(example.num_tokens for example in examples)
    return PassResult(
        contender=contender,
        seconds=seconds,
        num_tokens=num_tokens,
        tokens_per_second=num_tokens / seconds,
        loaded_mb=loaded_mb,
        peak_mb=peak_mb,
        device_peak_mb=device_peak_mb,
        loss_after=_loss(work, examples, folder / "adapter"),
        step_losses=tuple(step_losses),
        device=f"{_device_name(device)}, {str(dtype).removeprefix('torch.')}",
    )


def compare_on_equal_batches(work: TrainingWork, folder: Path) -> EqualBatches:
    """Lets Confide train, then the plain loop on the same batches from the same adapter."""
    base = load_base_model(work.model, device=work.device)
    examples = read_examples(work, base)
    own = ConfidePass(base, examples, work=work)
    own.save(folder / "start")
    own_losses = own.run()
    batches = own.batches()
    del base, own
    base = load_base_model(work.model, device=work.device)
    model = with_saved_adapter(base.module, folder / "start")
    plain = PlainPass(model, examples, batches, pad_token_id=base.tokenizer.pad_token_id, work=work)
    plain_losses = plain.run()
    differences = [abs(ours - theirs) / theirs for ours, theirs in zip(own_losses, plain_losses, strict=True)]
    return EqualBatches(confide=tuple(own_losses), plain=tuple(plain_losses), max_relative_difference=max(differences))


def measure_start(work: TrainingWork) -> StartingPoint:
    """Measures the base model's loss over all rows."""
    base = load_base_model(work.model, device=work.device)
    examples = read_examples(work, base)
    loss = mean_target_loss(base.module, examples, work.batch_size, base.tokenizer.pad_token_id)
    return StartingPoint(loss=loss, num_tokens=sum(example.num_tokens for example in examples))


def read_examples(work: TrainingWork, base: BaseModel) -> tuple[TokenizedExample, ...]:
    """The rows of the pass as tokens: the same for every contender.

    Raises:
        UsageError: there are fewer rows than asked for.
    """
    records = _read_records(work)
    order = stream(work.seed, "bench-rows").permutation(len(records))
    chosen = [records[int(row)] for row in order]
    examples = tokenize_records(chosen, make_template(_TEMPLATE, base.tokenizer), work.max_tokens).examples
    if len(examples) < work.num_rows:
        raise UsageError(
            f"{work.data_path or 'the synthetic clinics'} gives {len(examples)} rows with a response within "
            f"{work.max_tokens} tokens, expected at least {work.num_rows}. Lower --rows or raise --max-tokens."
        )
    return examples[: work.num_rows]


def _read_records(work: TrainingWork) -> list[Record]:
    if work.data_path:
        return load_records("auto", work.data_path)
    return generate_clinics(seed=work.seed)


def _make_pass(
    contender: str, work: TrainingWork, base: BaseModel, examples: tuple[TokenizedExample, ...], folder: Path
) -> TrainingPass:
    if contender in ("confide", "confide-8bit"):
        return ConfidePass(base, examples, work=work)
    model = with_new_adapter(base.module, work)
    if contender == "plain":
        batches = rows_in_order(len(examples), work.batch_size)
        return PlainPass(model, examples, batches, pad_token_id=base.tokenizer.pad_token_id, work=work)
    return TrlPass(
        model,
        base.tokenizer,
        examples,
        work=work,
        checkpoints_gradients=contender == "trl-defaults",
        folder=folder / "trl",
    )


@torch.no_grad()
def _touch_all_weights(base: BaseModel, example: TokenizedExample) -> None:
    """Reads the weights from disk and starts the threads, which would else count as the first step's time.

    Calls the decoder alone: TRL has changed the output layer by now, and logits would raise the peak of memory.
    """
    ids = torch.from_numpy(example.input_ids[:16])[None, :].to(base.device)
    base.module.base_model(input_ids=ids, use_cache=False)


def _timed(contestant: TrainingPass, device: torch.device) -> tuple[float, list[float]]:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
    began = time.perf_counter()
    losses = contestant.run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began, losses


def _loss(work: TrainingWork, examples: tuple[TokenizedExample, ...], adapter: Path) -> float:
    """The loss over all rows with a saved adapter on a freshly loaded base model."""
    base = load_base_model(work.model, device=work.device)
    model = with_saved_adapter(base.module, adapter)
    return mean_target_loss(model, examples, work.batch_size, base.tokenizer.pad_token_id)


def _device_peak_mb(device: torch.device) -> float:
    return torch.cuda.max_memory_allocated(device) / MB if device.type == "cuda" else 0.0


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


if __name__ == "__main__":
    main()
