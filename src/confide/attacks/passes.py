"""All model passes of an audit: each model reads each record once, whatever number of attacks asks.

Attacks on log-probabilities are arithmetic on `TokenStats`, and attacks on answers compare token ids. Both are kept on
disk, so that an audit that is run again, or with one attack more, starts where the last one ended. Gradients are not
kept: each is as large as the adapter.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch

from confide.attacks.decoding import DecodingScheme
from confide.attacks.pass_keys import TokenIds, answer_key, model_digest, record_key, scheme_column
from confide.attacks.pass_store import Entry, PassStore
from confide.attacks.token_columns import token_columns
from confide.attacks.token_stats import TokenStats
from confide.data.batches import collate
from confide.data.examples import TokenizedExample
from confide.errors import DataError, NonFiniteLossError, NonFiniteUpdateError
from confide.evaluate.generation import Answer, Sampling, end_token_ids, evaluation_mode, generate_answers
from confide.model.context import max_positions
from confide.model.load import pad_token_id
from confide.model.lora import AdaptedModel
from confide.train.forward import TargetScorer
from confide.update import Layout, Vector

Item = TypeVar("Item")

_RECORDS_PER_PART = 256  # what an interrupted audit loses at most
# Values of logits held at once, 32 MiB of float32; a handful of arrays of this size live beside it.
_LOGITS_IN_MEMORY = 1 << 23
_WHAT_TO_DO = (
    "The adapter was damaged or training diverged: leave this round out, or train again with a lower "
    "train.learning_rate."
)


class Passes:
    """All model passes of an audit: each (model, record) is computed once and kept on disk.

    A model is the base (its digest and dtype) with an adapter (its layout, its scale and the SHA-256 of its float32
    bytes); a record is its token ids. So a record under two names, or with another loss mask, takes one pass. Numbers
    kept from another device or library version are used as they are: they differ by float rounding.

    No call leaves a trace in the model but one: which adapter it holds is not defined afterwards.

    Args:
        model: what the adapters are written into.
        folder: where results are kept, see `PassStore`; None keeps them in memory.
        batch_size: records at a time, those of similar length together. Speed only, up to float rounding. Models whose
            logits are more than the output layer's take `stats` one record at a time, so that memory stays bounded.
        schemes: whose probabilities `TokenStats.decoded` gives. A scheme added later takes a new pass.

    Attributes:
        model: as given.
        end_token_ids: an answer ends before any of these: what the model's tokenizer or its generation settings name as
            an end.
        num_passes: how many records, prompts and gradients have really been computed by this object.

    Raises:
        ValueError: `batch_size` is below 1, or two schemes have one name.
    """

    def __init__(
        self,
        model: AdaptedModel,
        folder: Path | None,
        *,
        batch_size: int = 8,
        schemes: Sequence[DecodingScheme] = (),
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}, expected >= 1")
        if len({scheme.name for scheme in schemes}) != len(schemes):
            raise ValueError(f"two decoding schemes have one name: {', '.join(scheme.name for scheme in schemes)}")
        self.model = model
        self.end_token_ids = end_token_ids(model.module, (model.tokenizer.eos_token_id,))
        self.num_passes = 0
        self._store = PassStore(folder)
        self._batch_size = batch_size
        self._schemes = {scheme_column(scheme): scheme for scheme in schemes}
        self._names = {scheme.name: scheme_column(scheme) for scheme in schemes}
        self._scorer = TargetScorer(model.module)
        self._pad_id = pad_token_id(model.tokenizer)

    def stats(self, adapter: Vector | None, examples: Sequence[TokenizedExample]) -> list[TokenStats]:
        """Gives what a model says of every token of each record, prompts included.

        Args:
            adapter: of the model's layout; None for the base model.
            examples: any number.

        Returns:
            In the examples' order. The arrays may be shared between results and cannot be written to.

        Raises:
            LayoutMismatchError: the adapter does not fit the model.
            DataError: a record has more tokens, or other ones, than the model can read.
            NonFiniteUpdateError: the adapter holds NaN or infinity.
            NonFiniteLossError: the model gives NaN, or gives a token no finite log-probability.
        """
        self._check_readable(examples)
        model = model_digest(self.model, adapter)
        keys = [record_key(example.input_ids) for example in examples]
        missing = {
            key: example
            for key, example in zip(keys, examples, strict=True)
            if not self._store.find(model, key).keys() >= {"logp", *self._schemes}
        }
        order = sorted(missing, key=lambda key: missing[key].num_tokens, reverse=True)
        for part in _slices(order, _RECORDS_PER_PART):
            with self._holding(adapter), evaluation_mode(self.model.module):
                found = self._score([missing[key] for key in part])
            self._store.add(model, dict(zip(part, found, strict=True)))
        return [
            self._as_stats(self._store.find(model, key), example) for key, example in zip(keys, examples, strict=True)
        ]

    def generate(
        self,
        adapter: Vector | None,
        prompts: Sequence[Sequence[int]],
        *,
        max_new_tokens: int,
        sampling: Sampling | None = None,
    ) -> list[Answer]:
        """Answers each prompt; see `generate_answers`, which gives the same.

        Greedy answers are computed prompt by prompt where they are not known. A sampled answer depends on the prompt's
        number, so one that is not known makes all of the call's be drawn again, to the same ends.

        Args:
            adapter: of the model's layout; None for the base model.
            prompts: token ids, none empty.
            max_new_tokens: the longest answer, >= 1.
            sampling: None for greedy.

        Raises:
            LayoutMismatchError: the adapter does not fit the model.
            NonFiniteUpdateError: the adapter holds NaN or infinity.
            ValueError: a prompt is empty.
            DataError: a prompt has tokens that the model cannot read.
            UsageError: the model has no positions for a prompt and its answer.
        """
        model = model_digest(self.model, adapter)
        for number, prompt in enumerate(prompts):
            self._check_tokens(f"prompt {number}", prompt)
        ends = self.end_token_ids
        keys = [
            answer_key(prompt, number, max_new_tokens=max_new_tokens, end_token_ids=ends, sampling=sampling)
            for number, prompt in enumerate(prompts)
        ]
        missing = {key: prompt for key, prompt in zip(keys, prompts, strict=True) if not self._store.find(model, key)}
        if sampling is not None and missing:
            missing = dict(zip(keys, prompts, strict=True))
        order = sorted(missing, key=lambda key: len(missing[key]), reverse=True) if sampling is None else list(missing)
        for part in _slices(order, _RECORDS_PER_PART if sampling is None else max(1, len(order))):
            with self._holding(adapter):
                answers = generate_answers(
                    self.model.module,
                    [missing[key] for key in part],
                    max_new_tokens=max_new_tokens,
                    end_token_ids=ends,
                    pad_token_id=self._pad_id,
                    batch_size=self._batch_size,
                    sampling=sampling,
                )
            self.num_passes += len(part)
            self._store.add(model, {key: _as_entry(answer) for key, answer in zip(part, answers, strict=True)})
        return [_as_answer(self._store.find(model, key)) for key in keys]

    def gradients(self, adapter: Vector, examples: Sequence[TokenizedExample], layout: Layout) -> Iterator[Vector]:
        """Gives the gradient of each example's mean loss over its targets, one example at a time, without dropout.

        Between two gradients the model may be used for anything else.

        Args:
            adapter: of the model's layout, where the gradients are taken.
            examples: any number.
            layout: the slots to differentiate by, a part of the model's layout.

        Returns:
            In the examples' order, each flat float32 over `layout`, in nats per unit of the adapter. Computed when it
            is asked for, and not kept.

        Raises:
            LayoutMismatchError: the adapter or the layout does not fit the model.
            DataError: a record has more tokens, or other ones, than the model can read.
            NonFiniteUpdateError: the adapter holds NaN or infinity.
            NonFiniteLossError: a gradient is not finite.
        """
        self.model.layout.check(adapter)
        parameters = self.model.parameters_of(layout)
        self._check_readable(examples)
        return (self._gradient(adapter, example, parameters) for example in examples)

    def _gradient(self, adapter: Vector, example: TokenizedExample, parameters: Sequence[torch.nn.Parameter]) -> Vector:
        batch = collate([example], self._pad_id).to(self.model.base.device)
        with (
            self._holding(adapter),
            self._requiring(parameters),
            evaluation_mode(self.model.module),
            torch.enable_grad(),
        ):
            loss = self._scorer.loss_sum(batch) / batch.num_targets
            pieces = torch.autograd.grad(loss, parameters, materialize_grads=True)
        gradient: Vector = torch.cat([piece.reshape(-1) for piece in pieces]).float().cpu().numpy()
        self.num_passes += 1
        if not np.isfinite(gradient).all():
            raise NonFiniteLossError(_not_finite(example, "a gradient"))
        return gradient

    def _score(self, examples: Sequence[TokenizedExample]) -> list[Entry]:
        batch_size = self._batch_size if self._scorer.splits_head else 1
        found: list[Entry] = []
        for batch in _slices(examples, batch_size):
            columns = self._score_batch(batch)
            ends = np.cumsum([example.num_tokens - 1 for example in batch])[:-1]
            for number, example in enumerate(batch):
                # Copies, so that no record keeps its batch's arrays alive.
                entry = {name: np.split(values, ends)[number].copy() for name, values in columns.items()}
                if not np.isfinite(entry["logp"]).all():
                    raise NonFiniteLossError(_not_finite(example, "a log-probability"))
                found.append(entry)
            self.num_passes += len(batch)
        return found

    def _score_batch(self, examples: Sequence[TokenizedExample]) -> dict[str, npt.NDArray[np.generic]]:
        """Gives all columns over the tokens of a batch, record after record, without each record's first token."""
        batch = collate(examples, self._pad_id)
        every_token = replace(batch, loss_mask=batch.attention_mask.bool()).to(self.model.base.device)
        states, targets = self._scorer.states(every_token)
        rows = max(1, _LOGITS_IN_MEMORY // self._scorer.logits(states[:1]).shape[-1])
        parts = [
            token_columns(self._scorer.logits(some), ids, self._schemes)
            for some, ids in zip(states.split(rows), targets.split(rows), strict=True)
        ]
        return {name: torch.cat([part[name] for part in parts]).cpu().numpy() for name in parts[0]}

    def _as_stats(self, entry: Entry, example: TokenizedExample) -> TokenStats:
        return TokenStats(
            logp=entry["logp"],
            is_top=entry["is_top"],
            rank=entry["rank"],
            mean=entry["mean"],
            std=entry["std"],
            is_target=example.loss_mask[1:].copy(),
            decoded={name: entry[column] for name, column in self._names.items()},
        )

    @contextmanager
    def _holding(self, adapter: Vector | None) -> Iterator[None]:
        """Runs the body with an adapter in the model, or with none."""
        if adapter is None:
            with self.model.base_only():
                yield
        else:
            if not np.isfinite(adapter).all():
                raise NonFiniteUpdateError(f"the adapter holds values that are NaN or infinite. {_WHAT_TO_DO}")
            self.model.write(adapter)
            yield

    @contextmanager
    def _requiring(self, parameters: Sequence[torch.nn.Parameter]) -> Iterator[None]:
        """Runs the body with a gradient required of these of the adapter's parameters alone."""
        everything = self.model.parameters_of(self.model.layout)
        before = [parameter.requires_grad for parameter in everything]
        wanted = {id(parameter) for parameter in parameters}
        try:
            for parameter in everything:
                parameter.requires_grad_(id(parameter) in wanted)
            yield
        finally:
            for parameter, required in zip(everything, before, strict=True):
                parameter.requires_grad_(required)

    def _check_readable(self, examples: Sequence[TokenizedExample]) -> None:
        limit = max_positions(self.model.module)
        for example in examples:
            if limit is not None and example.num_tokens > limit:
                raise DataError(
                    f"record {example.record_id!r} has {example.num_tokens} tokens, but {self.model.base.name} has "
                    f"positions for {limit}. Cut records as training does (train.max_tokens)."
                )
            self._check_tokens(f"record {example.record_id!r}", example.input_ids)

    def _check_tokens(self, name: str, token_ids: TokenIds) -> None:
        num_ids = self.model.base.module.get_input_embeddings().num_embeddings
        ids = np.asarray(token_ids)
        if not ((ids >= 0) & (ids < num_ids)).all():
            raise DataError(
                f"{name} has tokens that {self.model.base.name} does not know: its ids are 0 to {num_ids - 1}. "
                "Tokenise with the model's own tokenizer."
            )


def _slices(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _as_entry(answer: Answer) -> Entry:
    return {
        "token_ids": np.array(answer.token_ids, np.int64),
        "is_finished": np.array([answer.is_finished], np.bool_),
    }


def _as_answer(entry: Entry) -> Answer:
    return Answer(
        token_ids=tuple(int(token) for token in entry["token_ids"]), is_finished=bool(entry["is_finished"][0])
    )


def _not_finite(example: TokenizedExample, what: str) -> str:
    return f"record {example.record_id!r}: {what} is NaN or infinite. {_WHAT_TO_DO}"
