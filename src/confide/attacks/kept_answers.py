"""Answers of models, kept on disk: which of them have to be computed, and in what form they are kept."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from confide.attacks.pass_store import Entry, PassStore
from confide.evaluate.generation import Answer

Request = TypeVar("Request")
ANSWERS_PER_PART = 256
"""What an interrupted audit loses at most, where each answer stands alone."""


def kept_answers(
    store: PassStore,
    model: str,
    keys: Sequence[bytes],
    requests: Sequence[Request],
    compute: Callable[[Sequence[Request]], list[Answer]],
    *,
    num_tokens: Callable[[Request], int],
    are_drawn: bool,
) -> list[Answer]:
    """Gives the answers that are known, and has the others computed and kept.

    Args:
        store: what is known.
        model: digest of the model that answers.
        keys: what decides each answer.
        requests: what is to be answered, one for each key.
        compute: answers some of them, in their order.
        num_tokens: of a request's prompt: long ones come first, so that those of a batch are of a length.
        are_drawn: whether an answer depends on its request's number. Then one that is not known makes all of them be
            drawn again, to the same ends; otherwise each is computed once, even if asked for twice.

    Returns:
        One answer per request, in their order.
    """
    missing = {key: request for key, request in zip(keys, requests, strict=True) if not store.find(model, key)}
    if are_drawn and missing:
        missing = dict(zip(keys, requests, strict=True))
    order = list(missing) if are_drawn else sorted(missing, key=lambda key: num_tokens(missing[key]), reverse=True)
    size = max(1, len(order)) if are_drawn else ANSWERS_PER_PART
    for start in range(0, len(order), size):
        part = order[start : start + size]
        answers = compute([missing[key] for key in part])
        store.add(model, {key: _as_entry(answer) for key, answer in zip(part, answers, strict=True)})
    return [_as_answer(store.find(model, key)) for key in keys]


def _as_entry(answer: Answer) -> Entry:
    return {
        "token_ids": np.array(answer.token_ids, np.int64),
        "is_finished": np.array([answer.is_finished], np.bool_),
    }


def _as_answer(entry: Entry) -> Answer:
    return Answer(
        token_ids=tuple(int(token) for token in entry["token_ids"]), is_finished=bool(entry["is_finished"][0])
    )
