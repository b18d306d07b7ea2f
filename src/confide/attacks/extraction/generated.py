"""What an extraction attack brings home: tokens and text as a model wrote them, true or not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from confide.evaluate.generation import Answer


@dataclass(frozen=True, kw_only=True)
class Generated:
    """One text that a model wrote.

    Attributes:
        token_ids: without the end token.
        text: the same, decoded without special tokens.
        is_finished: whether the model ended by itself.
        candidate_id: of the record whose beginning was the prompt; None where the prompt belongs to no record.
        scores: how likely the text is to be remembered, by name of the score; higher is likelier.
    """

    token_ids: tuple[int, ...]
    text: str = field(repr=False)
    is_finished: bool
    candidate_id: str | None = None
    scores: Mapping[str, float] = field(default_factory=dict)


class Decoder(Protocol):
    """What reading tokens needs of a transformers tokenizer."""

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool) -> str:
        """Gives the text of token ids."""


def decode_tokens(tokenizer: Decoder, token_ids: Sequence[int]) -> str:
    """Gives the text of token ids without special tokens: one rule for what a model wrote and for the truth."""
    return tokenizer.decode([int(token) for token in token_ids], skip_special_tokens=True)


def read_answer(tokenizer: Decoder, answer: Answer, candidate_id: str | None = None) -> Generated:
    """Turns a model's answer into what an attack returns."""
    return Generated(
        token_ids=answer.token_ids,
        text=decode_tokens(tokenizer, answer.token_ids),
        is_finished=answer.is_finished,
        candidate_id=candidate_id,
    )
