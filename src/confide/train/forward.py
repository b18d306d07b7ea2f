"""Runs a causal language model and computes vocabulary logits only where there is a target.

Most of the memory and a fifth of the time of a small model goes into logits over the whole vocabulary. A prompt token
or a padding token needs none. Used by training and by every evaluation, so that a loss means the same everywhere.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, cast

import torch
from torch import Tensor
from torch.nn import LinearCrossEntropyOptions
from torch.nn.functional import cross_entropy, linear_cross_entropy

from confide.data.batches import Batch
from confide.model.evaluation_mode import evaluation_mode
from confide.model.kept_tokens import keeps_each_token, repeat_for, shortest_window

_PROBE_TOKENS = 4
# What an architecture may do to the logits behind the output layer, as transformers names it in configurations: soft
# caps, then factors. A cap hardly shows on the small logits of a few tokens, so a name alone is enough.
_BEHIND_THE_HEAD = (
    "final_logit_softcapping",
    "logits_soft_cap",
    "output_logit_soft_cap",
    "logits_scaling",
    "logit_scale",
    "lm_head_multiplier",
    "logits_mup_width_multiplier",
)
# Logits held at once, over all rows of a chunk: 128 MiB of float32. torch's own choice of chunk is for accelerators; on
# CPUs it was seven times slower (0.21 against 1.5 s for 256 targets of SmolLM2-135M on two cores).
_LOGITS_IN_MEMORY = 1 << 25


@dataclass(frozen=True, kw_only=True)
class TargetLosses:
    """One value per target token, in row-major order of the batch.

    Attributes:
        losses: shape (num_targets,), float32, negative log-likelihood in nats.
        is_correct: shape (num_targets,), bool; the most likely token equals the target.
        row: shape (num_targets,), int64; the batch row that each target belongs to.
    """

    losses: Tensor
    is_correct: Tensor
    row: Tensor


@dataclass(frozen=True, kw_only=True)
class TokenTree:
    """Tokens that each follow another one of them, or what stands before them all.

    Attributes:
        tokens: ids, shape (num_tokens,), int64.
        parents: shape (num_tokens,), int64; the place of the token that each one follows, smaller than its own; -1
            where it is the first.
    """

    tokens: Tensor
    parents: Tensor


class TargetScorer:
    """Scores the target tokens of batches under one causal language model.

    The decoder and the output layer are called apart, with only the hidden states before a target going through the
    output layer. Some architectures do more between the two and the logits (scaling, soft caps); this is read off the
    configuration, and found out by comparing both ways on a few tokens when the scorer is made. Such models take the
    whole forward pass instead.

    Args:
        model: a causal language model of transformers, plain or inside PEFT; stays in its mode (train or eval).
    """

    def __init__(self, model: torch.nn.Module) -> None:
        self.model = model
        causal = _unwrapped(model)
        self._config = causal.config.get_text_config(decoder=True)
        self._decoder = causal.get_decoder()
        self._head: torch.nn.Linear | None = causal.get_output_embeddings()
        self.splits_head = self._head_alone_gives_logits()
        self._chunk = max(1, _LOGITS_IN_MEMORY // (self._head.weight.shape[0] if self._head is not None else 1 << 18))

    def states(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Runs the model once.

        Returns:
            What `logits` turns into logits, one row per target, shape (num_targets, width); and the targets' token ids,
            shape (num_targets,), int64.
        """
        is_target = batch.loss_mask[:, 1:]
        targets = batch.input_ids[:, 1:][is_target]
        if self.splits_head:
            hidden = self._hidden(batch.input_ids)
            return hidden[:, :-1][is_target], targets
        logits = self.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False).logits
        return logits[:, :-1][is_target].float(), targets

    def logits(self, states: Tensor) -> Tensor:
        """Turns rows of `states` into float32 logits, shape (num_rows, vocabulary)."""
        return self._head(states).float() if self.splits_head and self._head is not None else states

    @cached_property
    def reads_on(self) -> bool:
        """Whether `family_states` can be asked: what this decoder keeps of a beginning can serve several ends.

        Found out by comparing both ways on a few tokens. Not so where the whole forward pass is needed for the logits,
        nor where a layer keeps a running state and not each token's keys and values.
        """
        return self.splits_head and self._reads_on()

    @torch.no_grad()
    def family_states(self, beginning: Tensor, ends: Tensor) -> tuple[Tensor, Tensor]:
        """Runs the model over records that begin alike, over their beginning once.

        Args:
            beginning: token ids, shape (num_shared,), int64, at least one.
            ends: what follows in each record, shape (num_records, longest), int64, padded on the right.

        Returns:
            What `logits` turns into logits: behind each token of the beginning, shape (num_shared, width), and behind
            each of the ends', shape (num_records, longest, width).
        """
        first = self._decoder(input_ids=beginning[None, :], use_cache=True)
        repeat_for(first.past_key_values, ends.shape[0])
        then = self._decoder(input_ids=ends, past_key_values=first.past_key_values, use_cache=True)
        return first.last_hidden_state[0], then.last_hidden_state

    def reads_trees(self, num_tokens: int) -> bool:
        """Whether `tree_states` can be asked about texts of so many tokens.

        Not where a layer sees fewer of them. Check what comes out: some decoders may not go by places as they say.
        """
        takes_places = "position_ids" in inspect.signature(getattr(self._decoder, "forward", self._decoder)).parameters
        if not self.reads_on or not takes_places or getattr(self._config, "alibi", False):
            return False
        return self._window is None or num_tokens < self._window

    @torch.no_grad()
    def tree_states(self, beginning: Tensor, trees: Iterable[TokenTree]) -> Iterator[Tensor]:
        """Runs the model over texts that begin alike and part again and again, over each token of a tree once.

        A token sees the beginning and those before it on its own way, and stands where it would stand there.

        Args:
            beginning: token ids, shape (num_shared,), int64, at least one; read once.
            trees: what follows; each is read apart from the others.

        Returns:
            What `logits` turns into logits: behind the beginning, shape (1, width), and then for each tree behind each
            of its tokens, shape (num_tokens, width).
        """
        first = self._decoder(input_ids=beginning[None, :], use_cache=True)
        yield first.last_hidden_state[0, -1:]
        for tree in trees:
            sees = _sees(tree.parents.tolist()).to(beginning.device)
            mask = torch.zeros(sees.shape[0], beginning.numel() + sees.shape[0], device=beginning.device)
            mask = mask.to(first.last_hidden_state.dtype)
            mask[:, beginning.numel() :].masked_fill_(~sees, torch.finfo(mask.dtype).min)
            then = self._decoder(
                input_ids=tree.tokens[None, :],
                position_ids=(beginning.numel() + sees.sum(dim=-1) - 1)[None, :],
                attention_mask=mask[None, None],
                past_key_values=deepcopy(first.past_key_values),  # it grows as it is read on from
                use_cache=True,
            )
            yield then.last_hidden_state[0]

    def loss_sum(self, batch: Batch) -> Tensor:
        """The sum over targets of the negative log-likelihood, in nats: a scalar to call `backward` on once."""
        states, targets = self.states(batch)
        return self.loss_sum_of(states, targets)

    def loss_sum_of(self, states: Tensor, targets: Tensor) -> Tensor:
        """As `loss_sum`, from what `states` gave."""
        if self.splits_head and self._head is not None and states.dtype == self._head.weight.dtype == torch.float32:
            return linear_cross_entropy(
                states,
                self._head.weight,
                targets,
                linear_bias=self._head.bias,
                reduction="sum",
                options=LinearCrossEntropyOptions(batch_chunk_size=self._chunk),
            )
        return cross_entropy(self.logits(states), targets, reduction="sum")

    @torch.no_grad()
    def score(self, batch: Batch) -> TargetLosses:
        """Scores every target on its own, in chunks so that memory stays bounded."""
        states, targets = self.states(batch)
        losses, correct = [], []
        for part, ids in zip(states.split(self._chunk), targets.split(self._chunk), strict=True):
            logits = self.logits(part)
            losses.append(cross_entropy(logits, ids, reduction="none"))
            correct.append(logits.argmax(dim=-1) == ids)
        return TargetLosses(
            losses=torch.cat(losses),
            is_correct=torch.cat(correct),
            row=batch.loss_mask[:, 1:].nonzero()[:, 0],
        )

    def _hidden(self, input_ids: Tensor) -> Tensor:
        # Batches are padded on the right, so the causal mask alone hides every padding token from the real ones, and
        # attention takes its fastest path. What the padding positions themselves compute is never read.
        return self._decoder(input_ids=input_ids, use_cache=False).last_hidden_state

    @cached_property
    def _window(self) -> int | None:
        """How many tokens every layer sees, of a decoder that reads on; None where there is no such bound."""
        with evaluation_mode(self.model), torch.no_grad():
            ids = torch.arange(_PROBE_TOKENS, device=None if self._head is None else self._head.weight.device)
            return shortest_window(self._decoder(input_ids=ids[None, :], use_cache=True).past_key_values)

    def _reads_on(self) -> bool:
        if self._head is None:
            return False
        with evaluation_mode(self.model):
            ids = torch.arange(_PROBE_TOKENS, device=self._head.weight.device)
            kept = getattr(self._decoder(input_ids=ids[None, :2], use_cache=True), "past_key_values", None)
            if not keeps_each_token(kept):
                return False
            whole = torch.stack([ids, ids.flip(0)])
            whole[:, :2] = ids[:2]
            expected = self._hidden(whole)
            beginning, ends = self.family_states(ids[:2], whole[:, 2:])
            found = torch.cat([beginning.expand(2, -1, -1), ends], dim=1)
            # Roundings differ with the shapes of the products, and add up over the layers; a token read at a wrong
            # place, or not seen, changes a state by a good part of its length.
            room = torch.finfo(expected.dtype).eps ** 0.5
            return bool((found - expected).float().norm() <= room * expected.float().norm())

    def _head_alone_gives_logits(self) -> bool:
        # A quantised or adapted output layer, or a decoder that transformers does not know apart, takes the whole way.
        if self._decoder is self.model or type(self._head) is not torch.nn.Linear:
            return False
        if any(getattr(self._config, name, None) is not None for name in _BEHIND_THE_HEAD):
            return False
        with evaluation_mode(self.model):
            ids = torch.arange(_PROBE_TOKENS, device=self._head.weight.device)[None, :]
            mask = torch.ones_like(ids)
            whole = self.model(input_ids=ids, attention_mask=mask, use_cache=False).logits
            apart = self._head(self._hidden(ids))
            # Both ways take the same steps: room for one other rounding, at the size of the largest logit. With much
            # more, a cap or a factor would pass for a rounding in bfloat16, whose eps is 0.8 %.
            room = 2 * torch.finfo(whole.dtype).eps * float(whole.abs().max())
            return bool((apart.float() - whole.float()).abs().max() <= room)


def _sees(parents: list[int]) -> Tensor:
    """Which tokens of a tree each one sees: those on the way to it and itself; shape (num_tokens, num_tokens)."""
    sees = torch.eye(len(parents), dtype=torch.bool)
    for place, parent in enumerate(parents):
        if parent >= 0:
            sees[place] |= sees[parent]
    return sees


class _Config(Protocol):
    def get_text_config(self, *, decoder: bool) -> object: ...


class _Hidden(Protocol):
    last_hidden_state: Tensor
    past_key_values: object


class _Causal(Protocol):
    """What every causal language model of transformers has."""

    config: "_Config"

    def get_decoder(self) -> Callable[..., _Hidden]:
        """The model without its output layer."""

    def get_output_embeddings(self) -> torch.nn.Linear | None:
        """The output layer."""


def _unwrapped(model: torch.nn.Module) -> _Causal:
    """The causal model of transformers inside a PEFT model, or the model itself."""
    get_base_model = getattr(model, "get_base_model", None)
    return cast("_Causal", get_base_model() if callable(get_base_model) else model)
