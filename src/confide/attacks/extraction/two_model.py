"""E6, the two-model attack: what the last round taught is louder in the difference of two rounds' models.

A client sees every round's global adapter. Where the newer model says a token more readily than the older one, that
token was learnt in between, even if it is not yet the likeliest: the attack moves the newer model's distribution
further along. Both models are one `AdaptedModel`, whose adapter is written before each pass; each has its own cache of
keys and values, so a token costs two passes over one position.
"""

import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal, Protocol, cast

import torch
from torch import Tensor

from confide.attacks.decoding import DecodingScheme
from confide.errors import UsageError
from confide.evaluate.generation import Answer, device_of, keep_nucleus
from confide.model.context import max_positions
from confide.model.evaluation_mode import evaluation_mode
from confide.model.load import pad_token_id
from confide.model.lora import AdaptedModel
from confide.seeds import derive_seed
from confide.update import Vector

Difference = Literal["probabilities", "logits"]

LOGIT_BETAS = (0.5, 1.0, 2.0, 4.0)
"""Strengths of the form with raw logits, whose differences have no bound.

Source: this project's list of attacks, E6.
"""


@dataclass(frozen=True, kw_only=True)
class Amplification:
    """How two models' next-token distributions become one.

    With z the logits over the scheme's temperature, pi = softmax(z), t the newer model and t-j the older one, the next
    token is drawn from pi_new, in proportion to

        "probabilities":  Top-p(pi_t) * exp(beta (pi_t - pi_{t-j}))       the paper's attack, tau = 1 / beta, j = 1
        "logits":         Top-p(pi_t) * exp(beta (z_t - z_{t-j}))         the same with raw logits; this is the softmax
                                                                          of z_t + beta (z_t - z_{t-j}) over the nucleus

    The paper multiplies Top-p(pi_t) by Softmax(d / tau). Whether that softmax runs over the vocabulary or over the
    nucleus only changes a factor that all tokens share, and renormalising pi_new takes it away: there is no choice to
    make. The same holds for renormalising Top-p(pi_t).

    Attributes:
        beta: >= 0; 0 is the newer model alone.
        difference: of what the difference is taken.
        scheme: which tokens of the newer model can be drawn at all (top-k, top-p), and the temperature of both models.
        seed: prompt number i draws from the stream (seed, "generate", i), as in `confide.evaluate.generation`; None
            takes the likeliest token of pi_new each time.

    Raises:
        ValueError: beta is out of its range.

    Source: the leakage paper (arXiv 2509.20680), section 3.3, the enhanced attack. The restriction of the "logits" form
        to likely tokens is that of contrastive decoding (Li et al. 2023, section 3.3).
    """

    beta: float
    difference: Difference
    scheme: DecodingScheme
    seed: int | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.beta) and self.beta >= 0.0):
            raise ValueError(f"beta is {self.beta}, expected a finite number >= 0")


def sweep(taus: Iterable[float], top_ps: Iterable[float], *, seed: int | None) -> list[Amplification]:
    """Gives both readings of the paper's "logits" at every strength, each with every p of top-p.

    Choose among them by the attacker's own records only.

    Args:
        taus: > 0, the softmax temperature of the difference of probabilities. The paper names none. As these differ by
            at most 1, odds change by e^2 at most at tau = 1: take small ones. Raw logits are taken times `LOGIT_BETAS`.
        top_ps: in (0, 1].
        seed: of the draws.
    """
    of_probabilities: list[tuple[Difference, float]] = [("probabilities", 1.0 / tau) for tau in taus]
    of_logits: list[tuple[Difference, float]] = [("logits", beta) for beta in LOGIT_BETAS]
    return [
        Amplification(
            beta=beta, difference=difference, scheme=DecodingScheme(name=f"top-p {top_p}", top_p=top_p), seed=seed
        )
        for (difference, beta), top_p in product([*of_probabilities, *of_logits], top_ps)
    ]


def amplified_scores(newer: Tensor, older: Tensor, amplification: Amplification) -> Tensor:
    """Gives log pi_new up to a constant, minus infinity outside the nucleus of the newer model.

    Args:
        newer: logits of the model at round t, shape (batch, vocabulary), float32 or float64.
        older: logits of the model at round t - j, same shape.
        amplification: the rule.
    """
    scheme = amplification.scheme
    newer, older = newer / scheme.temperature, older / scheme.temperature
    if amplification.difference == "probabilities":
        difference = newer.softmax(dim=-1) - older.softmax(dim=-1)
    else:
        difference = newer - older
    return _keep_drawable(newer, scheme) + amplification.beta * difference


def complete_with_two(
    model: AdaptedModel,
    newer: Vector,
    older: Vector | None,
    prompts: Sequence[Sequence[int]],
    amplification: Amplification | Sequence[Amplification],
    *,
    max_new_tokens: int,
    end_token_ids: Sequence[int],
    batch_size: int = 8,
) -> list[Answer]:
    """Lets two rounds' models together continue each prompt.

    Args:
        model: the base model with an adapter attached; which values it holds afterwards is not defined.
        newer: the adapter of round t.
        older: the adapter of round t - j; None for the base model.
        prompts: token ids, none empty.
        amplification: how the two are fused, and how tokens are drawn; one, or one for each prompt.
        max_new_tokens: the longest answer, >= 1.
        end_token_ids: an answer ends before the first of these.
        batch_size: prompts at a time. Speed only, up to float rounding.

    Returns:
        One answer per prompt, in the prompts' order.

    Guarantees:
        - With beta = 0, or with two equal adapters, the answers are those of `generate_answers` with the same
          temperature, top-p and seed (greedy without a seed).

    Raises:
        ValueError: a prompt is empty, or there are not as many amplifications.
        UsageError: the model has no positions for a prompt and the longest answer.
        LayoutMismatchError: an adapter does not fit the model.
    """
    if any(len(prompt) == 0 for prompt in prompts):
        raise ValueError("a prompt has no tokens; every prompt needs at least one, such as a begin token")
    each = [amplification] * len(prompts) if isinstance(amplification, Amplification) else amplification
    if len(each) != len(prompts):
        raise ValueError(f"{len(each)} amplifications for {len(prompts)} prompts; expected one for each")
    longest, limit = max(map(len, prompts), default=0), max_positions(model.module)
    if limit is not None and longest + max_new_tokens > limit:
        raise UsageError(
            f"a prompt of {longest} tokens and an answer of up to {max_new_tokens} need more than the model's {limit} "
            "positions. Lower max_new_tokens, or give a smaller share of each record as its prompt."
        )
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]), reverse=True)
    answers: dict[int, Answer] = {}
    with evaluation_mode(model.module), model.taking_turns((newer, older)) as put_in:
        for start in range(0, len(order), batch_size):
            indices = order[start : start + batch_size]
            pair = _Pair(model, put_in, [prompts[index] for index in indices])
            rows = _draw_rows(pair, indices, [each[index] for index in indices], max_new_tokens, set(end_token_ids))
            answers.update(zip(indices, rows, strict=True))
    return [answers[index] for index in range(len(prompts))]


class _Output(Protocol):
    logits: Tensor
    past_key_values: object


class _Pair:
    """Two adapters on one model, each with its own cache, reading the same batch token by token."""

    def __init__(self, model: AdaptedModel, put_in: Callable[[int], None], prompts: Sequence[Sequence[int]]) -> None:
        self._model = model
        self._put_in = put_in
        self._caches: list[object] = [None, None]
        self._device = device_of(model.module)
        width = max(map(len, prompts))
        ids = torch.full((len(prompts), width), pad_token_id(model.tokenizer), dtype=torch.int64)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):  # on the left, so that every row's answer begins in the same column
            ids[row, width - len(prompt) :] = torch.tensor(prompt)
            mask[row, width - len(prompt) :] = 1
        self._ids, self._mask = ids.to(self._device), mask.to(self._device)
        self._positions = (self._mask.cumsum(dim=1) - 1).clamp(min=0)
        self._accepted = inspect.signature(model.base.module.forward).parameters.keys()

    def logits(self) -> tuple[Tensor, Tensor]:
        """Next-token logits of both models, each of shape (batch, vocabulary), float32."""
        newer, older = (self._pass(number) for number in range(2))
        return newer, older

    def append(self, tokens: Tensor) -> None:
        """Adds a token to every row, shape (batch,)."""
        self._ids = tokens[:, None].to(self._device)
        self._mask = torch.cat([self._mask, torch.ones_like(self._ids)], dim=1)
        self._positions = self._positions[:, -1:] + 1

    def _pass(self, number: int) -> Tensor:
        self._put_in(number)
        # Some architectures find positions by themselves, and some always give logits for the whole prompt.
        optional: Mapping[str, object] = {"position_ids": self._positions, "logits_to_keep": 1}
        output = cast(
            _Output,
            self._model.module(
                input_ids=self._ids,
                attention_mask=self._mask,
                past_key_values=self._caches[number],
                use_cache=True,
                **{name: value for name, value in optional.items() if name in self._accepted},
            ),
        )
        self._caches[number] = output.past_key_values
        return output.logits[:, -1].float()


def _draw_rows(
    pair: _Pair, indices: Sequence[int], each: Sequence[Amplification], max_new_tokens: int, ends: set[int]
) -> list[Answer]:
    generators = {
        row: torch.Generator().manual_seed(derive_seed(seed, "generate", index))
        for row, index in enumerate(indices)
        if (seed := each[row].seed) is not None
    }
    rows: list[list[int]] = [[] for _ in indices]
    is_finished = [False] * len(indices)
    for step in range(max_new_tokens):
        scores = _scores_of_rows(*pair.logits(), each)
        for row, generator in generators.items():
            # The largest of scores plus Gumbel noise is a draw from their softmax; -log of an exponential is Gumbel.
            wait = torch.empty(scores.shape[1]).exponential_(generator=generator)
            scores[row] -= wait.log().to(scores.device)
        tokens = scores.argmax(dim=-1)
        for row, token in enumerate(tokens.tolist()):
            is_finished[row] = is_finished[row] or token in ends
            if not is_finished[row]:
                rows[row].append(token)
        if all(is_finished) or step == max_new_tokens - 1:
            break
        pair.append(tokens)
    return [Answer(token_ids=tuple(row), is_finished=done) for row, done in zip(rows, is_finished, strict=True)]


def _scores_of_rows(newer: Tensor, older: Tensor, each: Sequence[Amplification]) -> Tensor:
    """As `amplified_scores`, each row by its own amplification."""
    scores = torch.empty_like(newer)
    for amplification in dict.fromkeys(each):
        rows = [row for row, one in enumerate(each) if one == amplification]
        scores[rows] = amplified_scores(newer[rows], older[rows], amplification)
    return scores


def _keep_drawable(scores: Tensor, scheme: DecodingScheme) -> Tensor:
    """Sets to minus infinity what the scheme cannot draw; `scores` are over the temperature already."""
    if 0 < scheme.top_k < scores.shape[-1]:
        scores = scores.masked_fill(scores < scores.topk(scheme.top_k, dim=-1).values[:, -1:], -torch.inf)
    return keep_nucleus(scores, scheme.top_p)
