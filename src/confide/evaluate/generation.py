"""Answers to prompts: batched generation with a key-value cache, greedy or sampled from a named stream per prompt.

Every setting that changes the text is given here: what a model's own generation defaults say (temperature, repetition
penalty, sampling) is overridden, so that two models are compared under the same rule.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
import torch

from confide.errors import UsageError
from confide.model.context import max_positions
from confide.model.evaluation_mode import evaluation_mode
from confide.quiet import errors_only
from confide.seeds import derive_seed


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How tokens are drawn instead of taking the likeliest.

    Attributes:
        temperature: > 0; the logits are divided by it.
        top_p: in (0, 1]; only the likeliest tokens that together reach this probability can be drawn.
        seed: of the stream; prompt number i draws from the stream (seed, "generate", i).

    Raises:
        ValueError: a number is out of its range.
    """

    temperature: float
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.temperature > 0.0:
            raise ValueError(f"temperature is {self.temperature}, expected > 0; for greedy answers give no sampling")
        if not 0.0 < self.top_p <= 1.0:
            raise ValueError(f"top_p is {self.top_p}, expected more than 0 and at most 1")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a model said to one prompt.

    Attributes:
        token_ids: without the end token.
        is_finished: whether the model ended by itself; False where `max_new_tokens` cut it off.
    """

    token_ids: tuple[int, ...]
    is_finished: bool


def generate_answers(
    module: torch.nn.Module,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    end_token_ids: Sequence[int],
    pad_token_id: int,
    batch_size: int = 8,
    sampling: Sampling | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[Answer]:
    """Answers each prompt.

    Args:
        module: a causal language model of transformers, bare or wrapped by peft.
        prompts: token ids, none empty.
        max_new_tokens: the longest answer, >= 1.
        end_token_ids: an answer ends before the first of these, at least one; see `end_token_ids`.
        pad_token_id: any valid id; what is padded is masked.
        batch_size: prompts at a time; prompts of similar length share a batch. Speed only, up to float rounding.
        sampling: None for greedy (the likeliest token each time, deterministic).
        progress: called with the number of prompts done since the last call.

    Returns:
        One answer per prompt, in the prompts' order.

    Raises:
        ValueError: a prompt is empty.
        UsageError: the model has no positions for a prompt and an answer of the longest length behind it.
    """
    if any(len(prompt) == 0 for prompt in prompts):
        raise ValueError("a prompt has no tokens; every prompt needs at least one, such as a begin token")
    longest, limit = max(map(len, prompts), default=0), max_positions(module)
    if limit is not None and longest + max_new_tokens > limit:
        raise UsageError(
            f"a prompt of {longest} tokens and an answer of up to {max_new_tokens} need {longest + max_new_tokens} "
            f"positions, but the model has {limit}. Lower --max-new-tokens (in a configuration: "
            "evaluate.max_new_tokens), or shorten the prompt (train.max_tokens bounds those of held-out rows)."
        )
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]), reverse=True)
    answers: dict[int, Answer] = {}
    for start in range(0, len(order), batch_size):
        indices = order[start : start + batch_size]
        rows = _generate_batch(
            module,
            [prompts[index] for index in indices],
            [] if sampling is None else [_Draw(sampling, indices)],
            max_new_tokens=max_new_tokens,
            end_token_ids=end_token_ids,
            pad_token_id=pad_token_id,
        )
        for index, row in zip(indices, rows, strict=True):
            answers[index] = _cut_at_end(row, end_token_ids)
        if progress is not None:
            progress(len(indices))
    return [answers[index] for index in range(len(prompts))]


def end_token_ids(module: torch.nn.Module, stop_ids: Sequence[int]) -> tuple[int, ...]:
    """Gives every token that ends an answer: the template's `stop_ids`, and those the model's own settings name.

    Chat models often name several (end of text, end of turn).
    """
    config = cast(_Generates, module).generation_config
    named = config.eos_token_id if config is not None else None
    listed = [] if named is None else [named] if isinstance(named, int) else named
    return tuple(sorted({*stop_ids, *listed}))


def device_of(module: torch.nn.Module) -> torch.device:
    """Gives the device that a module's inputs belong on."""
    return next(module.parameters()).device


class _NamesEndTokens(Protocol):
    eos_token_id: int | list[int] | None


class _Generates(Protocol):
    generation_config: _NamesEndTokens | None

    def generate(
        self,
        *,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        logits_processor: Sequence["_Draw"],
        max_new_tokens: int,
        min_length: int,
        do_sample: bool,
        num_beams: int,
        use_cache: bool,
        repetition_penalty: float,
        no_repeat_ngram_size: int,
        eos_token_id: list[int],
        pad_token_id: int,
    ) -> torch.Tensor: ...


class _Draw:
    """Turns logits into scores whose largest is a draw from the softmax, each row from its own generator.

    Adding independent standard Gumbel noise to logits and taking the largest draws from their softmax. A row's draws
    then depend on nothing but its own generator: neither on the batch it shares nor on the device.
    """

    def __init__(self, sampling: Sampling, indices: Sequence[int]) -> None:
        self._sampling = sampling
        self._generators = [
            torch.Generator().manual_seed(derive_seed(sampling.seed, "generate", index)) for index in indices
        ]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        del input_ids
        logits = keep_nucleus(scores.float() / self._sampling.temperature, self._sampling.top_p)
        waits = torch.stack([torch.empty(scores.shape[1]).exponential_(generator=g) for g in self._generators])
        return logits - waits.log().to(scores.device)  # (batch, vocabulary); -log of an exponential is Gumbel


def keep_nucleus(logits: torch.Tensor, top_p: float) -> torch.Tensor:
    """Sets to minus infinity all but the likeliest tokens that together reach `top_p`; at least one is kept.

    Of several tokens that are exactly as likely as the last one of them, those with the lower id come first, as in a
    stable sort and in `confide.attacks.decoding.draw_log_probabilities`.

    Args:
        logits: shape (batch, vocabulary), float32 or float64.
        top_p: in (0, 1].
    """
    if top_p == 1.0:
        return logits
    # On CPUs numpy sorts a large vocabulary's values many times faster than torch, which also sorts their places.
    is_on_cpu = logits.device.type == "cpu"
    ordered = (
        torch.from_numpy(np.sort(logits.detach().numpy())).flip(-1)
        if is_on_cpu
        else logits.sort(descending=True).values
    )
    probabilities = ordered.softmax(dim=-1)
    is_beyond = probabilities.cumsum(dim=-1) - probabilities >= top_p  # what comes before it reaches top_p already
    least = ordered.masked_fill(is_beyond, torch.inf).amin(dim=-1, keepdim=True)
    is_above, is_equal = logits > least, logits == least
    room = (~is_beyond).sum(dim=-1, keepdim=True) - is_above.sum(dim=-1, keepdim=True)
    is_kept = is_above | (is_equal & (is_equal.cumsum(dim=-1) <= room))
    return logits.masked_fill(~is_kept, -torch.inf)


def _generate_batch(
    module: torch.nn.Module,
    prompts: Sequence[Sequence[int]],
    draws: Sequence[_Draw],
    *,
    max_new_tokens: int,
    end_token_ids: Sequence[int],
    pad_token_id: int,
) -> list[list[int]]:
    longest = max(len(prompt) for prompt in prompts)
    input_ids = torch.full((len(prompts), longest), pad_token_id, dtype=torch.int64)
    attention_mask = torch.zeros_like(input_ids)
    for row, prompt in enumerate(prompts):  # on the left, so that every row's answer begins in the same column
        input_ids[row, longest - len(prompt) :] = torch.tensor(prompt)
        attention_mask[row, longest - len(prompt) :] = 1
    device = device_of(module)
    with evaluation_mode(module), errors_only("transformers.generation"):
        # What is not said here is taken from the model's own settings: all that would change the text is said. Nor
        # has transformers to remark on those settings, which are overridden on purpose.
        output = cast(_Generates, module).generate(
            input_ids=input_ids.to(device),
            attention_mask=attention_mask.to(device),
            logits_processor=draws,
            max_new_tokens=max_new_tokens,
            min_length=0,
            do_sample=False,
            num_beams=1,
            use_cache=True,
            repetition_penalty=1.0,
            no_repeat_ngram_size=0,
            eos_token_id=list(end_token_ids),
            pad_token_id=pad_token_id,
        )
    rows: list[list[int]] = output[:, longest:].tolist()
    return rows


def _cut_at_end(row: Sequence[int], end_ids: Sequence[int]) -> Answer:
    ends = set(end_ids)
    for position, token in enumerate(row):
        if token in ends:
            return Answer(token_ids=tuple(row[:position]), is_finished=True)
    return Answer(token_ids=tuple(row), is_finished=False)
