"""E4: texts from the begin token alone, and how likely each is to be remembered rather than made up.

The attack draws texts and ranks them; whether one of them was trained on is for `scoring` to say.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Protocol

import numpy as np

from confide.attacks.extraction.generated import Generated, read_answer
from confide.attacks.membership.ez import ez_scores
from confide.attacks.membership.loss import zlib_scores
from confide.attacks.membership.positions import Positions, Scores
from confide.attacks.membership.reference import ratio_scores
from confide.attacks.membership.seen import Seen
from confide.attacks.membership.wbc import wbc_scores
from confide.attacks.passes import Passes
from confide.data.examples import TokenizedExample
from confide.errors import ModelError
from confide.evaluate.generation import Sampling
from confide.update import Vector

_SCORES: Mapping[str, Callable[[Seen, Positions], Scores]] = MappingProxyType(
    {"loss_ratio": ratio_scores, "zlib": zlib_scores, "ez": ez_scores, "wbc": wbc_scores}
)
_TRIGRAM = 3


class SpecialTokens(Protocol):
    """What a tokenizer says of its special tokens."""

    bos_token_id: int | None
    eos_token_id: int | None


def begin_tokens(tokenizer: SpecialTokens) -> tuple[int, ...]:
    """Gives the prompt that says nothing: the begin token, or the end token of models that begin texts with it.

    Raises:
        ModelError: the tokenizer has neither.
    """
    begin = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    if begin is None:
        raise ModelError("the tokenizer names neither a begin nor an end token, so there is no empty prompt to give.")
    return (begin,)


def generate_from_nothing(
    passes: Passes,
    adapter: Vector | None,
    begin: Sequence[int],
    *,
    num_texts: int,
    max_new_tokens: int,
    sampling: Sampling,
) -> list[Generated]:
    """Draws texts from the begin token.

    Args:
        passes: runs the model.
        adapter: whose model is attacked; None for the base model, the control.
        begin: the prompt, as `begin_tokens` gives it.
        num_texts: how many; each has a stream of its own, so the first ones do not depend on how many follow.
        max_new_tokens: the longest text.
        sampling: nucleus sampling in the paper; there is no greedy form, as all texts would be the same.

    Source: the leakage paper (arXiv 2509.20680), section 3.1, N = 30 from the begin token until the end token.
    """
    prompts = [tuple(begin)] * num_texts
    answers = passes.generate(adapter, prompts, max_new_tokens=max_new_tokens, sampling=sampling)
    return [read_answer(passes.model.tokenizer, answer) for answer in answers]


def rank_texts(
    passes: Passes, adapter: Vector | None, begin: Sequence[int], texts: Sequence[Generated]
) -> list[Generated]:
    """Gives the texts with their ranking scores, higher for what is likelier remembered; order unchanged.

    "loss_ratio" is the base model's mean loss over the attacked model's; "zlib" is the log-likelihood over the number
    of bytes that zlib needs, so that empty repetition, likely under any model, does not come first; "ez" and "wbc" are
    the membership scores of these names, M7 and M8. An empty text has minus infinity.

    Raises:
        DataError: a text is longer, with the begin token, than the model can read.

    Source: Carlini et al. 2021, "Extracting Training Data from Large Language Models", section 5.2 (a smaller model's
        loss there; here the base model's, which everybody in a federation has); for "ez" and "wbc" see `ez_scores`
        and `wbc_scores`.
    """
    filled = [index for index, text in enumerate(texts) if text.token_ids]
    examples = [_as_example(begin, texts[index], f"text-{index}") for index in filled]
    seen = Seen(
        final=passes.stats(adapter, examples),
        base=passes.stats(None, examples),
        texts=[texts[index].text for index in filled],
        owners=[""] * len(filled),  # nobody's: they are guesses of no client's records
    )
    scores = {name: score(seen, "targets") for name, score in _SCORES.items()}
    ranked = {
        index: {name: float(values[place]) for name, values in scores.items()} for place, index in enumerate(filled)
    }
    empty = dict.fromkeys(_SCORES, -math.inf)
    return [replace(text, scores=ranked.get(index, empty)) for index, text in enumerate(texts)]


def best_texts(texts: Sequence[Generated], score: str, count: int) -> list[int]:
    """Gives the places of the `count` texts with the highest score, best first, no two of them nearly the same.

    A text is left out if more than half of its trigrams of tokens occur in a better one, or if it is empty. Equal
    scores keep their order.

    Source: Carlini et al. 2021, section 6.1, which compares multisets of trigrams.
    """
    chosen: list[int] = []
    seen: list[set[tuple[int, ...]]] = []
    for place in sorted(range(len(texts)), key=lambda place: texts[place].scores[score], reverse=True):
        trigrams = _trigrams(texts[place].token_ids)
        if len(chosen) == count:
            break
        if all(2 * len(trigrams & other) <= len(trigrams) for other in seen) and trigrams:
            chosen.append(place)
            seen.append(trigrams)
    return chosen


def _as_example(begin: Sequence[int], text: Generated, record_id: str) -> TokenizedExample:
    ids = np.array([*begin, *text.token_ids], dtype=np.int64)
    return TokenizedExample(record_id=record_id, input_ids=ids, loss_mask=np.arange(ids.size) >= len(begin))


def _trigrams(token_ids: Sequence[int]) -> set[tuple[int, ...]]:
    last = max(len(token_ids) - _TRIGRAM, 0)  # a shorter text is one piece
    return {tuple(token_ids[start : start + _TRIGRAM]) for start in range(last + 1) if token_ids}
