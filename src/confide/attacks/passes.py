"""All model passes of an audit: each model reads each record once, whatever number of attacks asks.

Attacks on log-probabilities are arithmetic on `TokenStats`, and attacks on answers compare token ids. Both are kept on
disk, so that an audit that is run again, or with one attack more, starts where the last one ended. Gradients are not
kept: each is as large as the adapter.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch

from confide.attacks.candidates import PossibleSecrets
from confide.attacks.decoding import DecodingScheme
from confide.attacks.extraction.two_model import Amplification, complete_with_two
from confide.attacks.kept_answers import kept_answers
from confide.attacks.pass_keys import amplified_key, answer_key, model_digest, record_key, scheme_column, secrets_key
from confide.attacks.pass_store import Entry, PassStore
from confide.attacks.readable import check_finite, check_prompts, check_records, check_secrets, not_finite
from confide.attacks.secret_reader import SecretReader
from confide.attacks.token_reader import TokenReader
from confide.attacks.token_stats import TokenStats
from confide.data.batches import collate
from confide.data.examples import TokenizedExample
from confide.errors import NonFiniteLossError
from confide.evaluate.generation import Answer, Sampling, end_token_ids, generate_answers
from confide.model.evaluation_mode import evaluation_mode
from confide.model.load import pad_token_id
from confide.model.lora import AdaptedModel
from confide.train.forward import TargetScorer
from confide.update import Layout, Vector

Item = TypeVar("Item")
Prompts = Sequence[Sequence[int]]

_SECRETS = "logp of secrets"
_RECORDS_PER_PART = 256  # what an interrupted audit loses at most


class Passes:
    """All model passes of an audit: each (model, record) is computed once and kept on disk.

    A model is the base (its digest and dtype) with an adapter (its layout, its scale and the SHA-256 of its float32
    bytes); a record is its token ids. So a record under two names, or with another loss mask, takes one pass. Numbers
    kept from another device or library version are used as they are: they differ by float rounding.

    No call leaves a trace in the model but one: which adapter it holds is not defined afterwards.

    Args:
        model: what the adapters are written into.
        folder: where results are kept, see `PassStore`; None keeps them in memory.
        batch_size: records at a time, see `TokenReader`. Speed only, up to float rounding.
        schemes: whose probabilities `TokenStats.decoded` gives. A scheme added later takes a new pass.

    Attributes:
        model: as given.
        end_token_ids: an answer ends before any of these: what the model's tokenizer or its generation settings name as
            an end.
        num_passes: how many records, prompts, sets of secrets and gradients have really been computed by this object.

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
        self._reader = TokenReader(self._scorer, model, self._schemes, batch_size)
        self._secret_reader = SecretReader(self._scorer, model, batch_size)
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
        check_records(self.model, examples)
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

    def secrets(self, adapter: Vector | None, possible: PossibleSecrets) -> npt.NDArray[np.float64]:
        """Gives the log-probability that a model puts each of some secrets in a record's place for one.

        As `log_probability` of the whole records' `stats`, up to float rounding, with far less to read.

        Args:
            adapter: of the model's layout; None for the base model.
            possible: the secrets.

        Returns:
            Nats, <= 0, in the secrets' order, shape (num_secrets,); cannot be written to.

        Raises:
            LayoutMismatchError, DataError, NonFiniteUpdateError, NonFiniteLossError: as `stats`.
        """
        check_secrets(self.model, possible)
        model, key = model_digest(self.model, adapter), secrets_key(possible.beginning, possible.secrets)
        if not self._store.find(model, key):
            with self._holding(adapter), evaluation_mode(self.model.module):
                found = self._secret_reader.read(possible.beginning, possible.secrets)
            self.num_passes += 1
            if not np.isfinite(found).all():
                raise NonFiniteLossError(not_finite(possible.candidate_id, "a secret's log-probability"))
            self._store.add(model, {key: {_SECRETS: found}})
        return self._store.find(model, key)[_SECRETS]

    def generate(
        self,
        adapter: Vector | None,
        prompts: Prompts,
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
        model, ends = model_digest(self.model, adapter), self.end_token_ids
        check_prompts(self.model, prompts)

        def compute(missing: Prompts) -> list[Answer]:
            with self._holding(adapter):
                answers = generate_answers(
                    self.model.module,
                    missing,
                    max_new_tokens=max_new_tokens,
                    end_token_ids=ends,
                    pad_token_id=self._pad_id,
                    batch_size=self._batch_size,
                    sampling=sampling,
                )
            self.num_passes += len(missing)
            return answers

        keys = [
            answer_key(prompt, number, max_new_tokens=max_new_tokens, end_token_ids=ends, sampling=sampling)
            for number, prompt in enumerate(prompts)
        ]
        is_drawn = sampling is not None
        return kept_answers(self._store, model, keys, prompts, compute, num_tokens=len, are_drawn=is_drawn)

    def generate_with_two(
        self,
        newer: Vector,
        older: Vector | None,
        prompts: Prompts,
        amplification: Amplification | Sequence[Amplification],
        *,
        max_new_tokens: int,
    ) -> list[Answer]:
        """Lets two models together answer each prompt; see `complete_with_two`, which gives the same.

        Kept as by `generate`; each answer counts as two passes.

        Args:
            newer: the adapter of a round.
            older: of a round before it; None for the base model.
            prompts: token ids, none empty.
            amplification: how the two become one; one, or one for each prompt.
            max_new_tokens: the longest answer, >= 1.

        Raises:
            NonFiniteUpdateError: an adapter holds NaN or infinity.
            LayoutMismatchError, ValueError, DataError, UsageError: as `generate`.
        """
        model, beside, ends = model_digest(self.model, newer), model_digest(self.model, older), self.end_token_ids
        check_prompts(self.model, prompts)
        each = [amplification] * len(prompts) if isinstance(amplification, Amplification) else amplification
        requests = list(zip(prompts, each, strict=True))

        def compute(missing: Sequence[tuple[Sequence[int], Amplification]]) -> list[Answer]:
            for adapter in (newer, older):
                check_finite(adapter)
            self.num_passes += 2 * len(missing)
            return complete_with_two(
                self.model,
                newer,
                older,
                [prompt for prompt, _ in missing],
                [how for _, how in missing],
                max_new_tokens=max_new_tokens,
                end_token_ids=ends,
                batch_size=self._batch_size,
            )

        likeliest = [answer_key(one, 0, max_new_tokens=max_new_tokens, end_token_ids=ends) for one in prompts]
        keys = [
            amplified_key(key, number, beside, how)
            for number, (key, how) in enumerate(zip(likeliest, each, strict=True))
        ]
        is_drawn = any(how.seed is not None for how in each)
        return kept_answers(
            self._store,
            model,
            keys,
            requests,
            compute,
            num_tokens=lambda request: len(request[0]),
            are_drawn=is_drawn,
        )

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
        check_records(self.model, examples)
        everything = list(self.model.module.parameters())
        return (self._gradient(adapter, example, parameters, everything) for example in examples)

    def _gradient(
        self,
        adapter: Vector,
        example: TokenizedExample,
        parameters: Sequence[torch.nn.Parameter],
        everything: Sequence[torch.nn.Parameter],
    ) -> Vector:
        batch = collate([example], self._pad_id).to(self.model.base.device)
        with (
            self._holding(adapter),
            _requiring(parameters, everything),
            evaluation_mode(self.model.module),
            torch.enable_grad(),
        ):
            loss = self._scorer.loss_sum(batch) / batch.num_targets
            pieces = torch.autograd.grad(loss, parameters, materialize_grads=True)
        gradient: Vector = torch.cat([piece.reshape(-1) for piece in pieces]).float().cpu().numpy()
        self.num_passes += 1
        if not np.isfinite(gradient).all():
            raise NonFiniteLossError(not_finite(example.record_id, "a gradient"))
        return gradient

    def _score(self, examples: Sequence[TokenizedExample]) -> Sequence[Entry]:
        found = self._reader.read([example.input_ids for example in examples])
        for example, entry in zip(examples, found, strict=True):
            if not np.isfinite(entry["logp"]).all():
                raise NonFiniteLossError(not_finite(example.record_id, "a log-probability"))
        self.num_passes += len(examples)
        return found

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
            check_finite(adapter)
            self.model.write(adapter)
            yield


@contextmanager
def _requiring(parameters: Sequence[torch.nn.Parameter], everything: Sequence[torch.nn.Parameter]) -> Iterator[None]:
    """Runs the body with a gradient required of these alone of all of a model's parameters."""
    before = [parameter.requires_grad for parameter in everything]
    wanted = {id(parameter) for parameter in parameters}
    try:
        for parameter in everything:
            parameter.requires_grad_(id(parameter) in wanted)
        yield
    finally:
        for parameter, required in zip(everything, before, strict=True):
            parameter.requires_grad_(required)


def _slices(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    return (items[start : start + size] for start in range(0, len(items), size))
