"""Finds the tokens of a planted secret in a tokenised record."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from confide.data.examples import TokenizedExample


class Decoder(Protocol):
    """What locating needs of a transformers tokenizer."""

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool, clean_up_tokenization_spaces: bool) -> str:
        """Gives the text of some tokens."""


def secret_token_range(example: TokenizedExample, tokenizer: Decoder, secret: str) -> tuple[int, int] | None:
    """Gives where a secret stands in a record's tokens.

    Args:
        example: the record as it is trained on.
        tokenizer: that made it.
        secret: not empty.

    Returns:
        The first token with a part of the secret and one behind the last, as positions in `example.input_ids`; tokens
        at either end may hold more than the secret, such as the blank before it. Where it occurs more than once, the
        first occurrence that training learns whole, else the first. None where it does not stand in the record, for
        example because a bound on tokens cut it off.
    """
    ids = example.input_ids.tolist()

    def decode(num_tokens: int) -> str:
        return tokenizer.decode(ids[:num_tokens], skip_special_tokens=False, clean_up_tokenization_spaces=False)

    text = decode(len(ids))
    ranges = [_range(text, start, start + len(secret), decode, len(ids)) for start in _occurrences(text, secret)]
    learnt = [(start, stop) for start, stop in ranges if example.loss_mask[start:stop].all()]
    return next(iter(learnt + ranges), None)


def _occurrences(text: str, part: str) -> Iterator[int]:
    position = text.find(part)
    while position >= 0:
        yield position
        position = text.find(part, position + 1)


def _range(text: str, start: int, end: int, decode: Callable[[int], str], num_tokens: int) -> tuple[int, int]:
    """The tokens that hold text[start:end], where `decode` gives the text of the first so many tokens."""
    low, high = 0, num_tokens  # the fewest tokens that give all of text[:end], by bisection: once there it stays
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if decode(middle).startswith(text[:end]) else (middle + 1, high)
    first = low - 1
    while first > 0 and not text[:start].startswith(decode(first)):  # half a character decodes to something else
        first -= 1
    return first, low
