"""Beginnings of records as prompts: cut by token ids of the whole record, never by tokenising a part of it again.

A text's tokens depend on what follows them, so the beginning of the text has other tokens than the beginning of the
record's: a prompt that was tokenised on its own may be one that the model never saw in training.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal

from confide.attacks.candidates import Candidate
from confide.attacks.extraction.generated import Decoder, decode_tokens

Part = Literal["learnt", "whole"]
"""Which tokens a share is a share of: those that training takes its loss on, or all of the record's."""


@dataclass(frozen=True, kw_only=True)
class Split:
    """A record cut into what the attacker gives and what the model should say.

    Attributes:
        candidate_id: the record's.
        prompt: tokens given, at least one.
        remainder: tokens that follow in the record, at least one, without its end token: a generated answer has none.
        remainder_text: the same, decoded as answers are.
        start: the remainder's first token in the record.
    """

    candidate_id: str
    prompt: tuple[int, ...] = field(repr=False)
    remainder: tuple[int, ...] = field(repr=False)
    remainder_text: str = field(repr=False)
    start: int

    @property
    def stop(self) -> int:
        """One behind the remainder's last token in the record."""
        return self.start + len(self.remainder)


def split_by_share(
    candidate: Candidate, prefix_share: float, tokenizer: Decoder, end_token_ids: Collection[int], of: Part = "learnt"
) -> Split | None:
    """Cuts a record so that the attacker gives a share of it, such as the first 80 % or 30 %.

    With "learnt", all that stands before the learnt part (an instruction) is given too, and the share counts the tokens
    that training takes its loss on. End tokens at the record's end do not count.

    Args:
        candidate: the record.
        prefix_share: in [0, 1); rounded down to whole tokens.
        tokenizer: of the model.
        end_token_ids: that end an answer.
        of: what the share counts.

    Returns:
        None where the record is too short for a prompt and a remainder of at least one token each.

    Raises:
        ValueError: the share is out of its range.

    Source: the leakage paper (arXiv 2509.20680), section 3.2: the first 80 % of a sample; appendix H: 30 %.
    """
    if not 0.0 <= prefix_share < 1.0:
        raise ValueError(f"prefix_share is {prefix_share}, expected at least 0 and below 1")
    stop = _end_of_text(candidate, end_token_ids)
    mask = candidate.example.loss_mask
    counted = [position for position in range(stop) if of == "whole" or mask[position]]
    if not counted:
        return None
    return _cut(candidate, counted[math.floor(prefix_share * len(counted))], stop, tokenizer)


def split_after(
    candidate: Candidate, num_prompt: int, num_remainder: int, tokenizer: Decoder, end_token_ids: Collection[int]
) -> Split | None:
    """Cuts out the record's first `num_prompt` tokens as prompt and the `num_remainder` behind them, both >= 1.

    Returns:
        None where the record has fewer tokens than that, end tokens not counted.

    Source: Carlini et al. 2023, "Quantifying memorization across neural language models", section 3: 50 and 50.
    """
    stop = num_prompt + num_remainder
    return _cut(candidate, num_prompt, stop, tokenizer) if stop <= _end_of_text(candidate, end_token_ids) else None


def split_at_secret(candidate: Candidate, tokenizer: Decoder) -> Split | None:
    """Cuts right before a record's planted secret; the remainder is the secret alone. None where there is no secret."""
    if candidate.secret_start is None or candidate.secret_stop is None:
        return None
    return _cut(candidate, candidate.secret_start, candidate.secret_stop, tokenizer)


def _cut(candidate: Candidate, start: int, stop: int, tokenizer: Decoder) -> Split | None:
    if not 1 <= start < stop:
        return None
    ids = candidate.example.input_ids
    remainder = tuple(int(token) for token in ids[start:stop])
    return Split(
        candidate_id=candidate.candidate_id,
        prompt=tuple(int(token) for token in ids[:start]),
        remainder=remainder,
        remainder_text=decode_tokens(tokenizer, remainder),
        start=start,
    )


def _end_of_text(candidate: Candidate, end_token_ids: Collection[int]) -> int:
    """One behind the last token that is no end token."""
    ids = candidate.example.input_ids
    stop = int(ids.size)
    while stop and int(ids[stop - 1]) in end_token_ids:
        stop -= 1
    return stop
