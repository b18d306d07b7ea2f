"""Turns records into tokenised examples of bounded length, and counts what the bound took away."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from confide.data.examples import ClientRecords, Record, TokenizedClient, TokenizedExample
from confide.data.templates import Template


@dataclass(frozen=True, kw_only=True)
class TokenizedRecords:
    """Examples, and how many records the bound on tokens changed.

    Attributes:
        examples: in the order of the records, without the dropped ones.
        num_truncated: how many of the examples lost tokens at their end.
        num_dropped: how many records are not among the examples, because no target was left of them.
    """

    examples: tuple[TokenizedExample, ...]
    num_truncated: int
    num_dropped: int


def tokenize_records(
    records: Iterable[Record], template: Template, max_tokens: int, *, max_examples: int = 0
) -> TokenizedRecords:
    """Tokenises records and cuts each at its end to at most `max_tokens` tokens.

    Args:
        records: what to tokenise.
        template: how they read as tokens.
        max_tokens: >= 2, prompt and response together.
        max_examples: stop when there are so many examples, and look at no record behind; 0 = all.

    Raises:
        DataError: the template cannot express a record.
    """
    examples: list[TokenizedExample] = []
    num_truncated = num_dropped = 0
    for record in records:
        if max_examples and len(examples) == max_examples:
            break
        ids, mask = template.encode(record)
        if not any(mask[:max_tokens]):
            num_dropped += 1
            continue
        num_truncated += len(ids) > max_tokens
        examples.append(
            TokenizedExample(
                record_id=record.record_id,
                input_ids=np.array(ids[:max_tokens], dtype=np.int64),
                loss_mask=np.array(mask[:max_tokens], dtype=np.bool_),
            )
        )
    return TokenizedRecords(examples=tuple(examples), num_truncated=num_truncated, num_dropped=num_dropped)


def tokenize_client(client: ClientRecords, template: Template, max_tokens: int) -> TokenizedClient:
    """Tokenises a client's training and held-out records; see `tokenize_records`."""
    train = tokenize_records(client.train, template, max_tokens)
    held_out = tokenize_records(client.held_out, template, max_tokens)
    return TokenizedClient(
        name=client.name,
        train=train.examples,
        held_out=held_out.examples,
        num_truncated={"train": train.num_truncated, "held_out": held_out.num_truncated},
        num_dropped={"train": train.num_dropped, "held_out": held_out.num_dropped},
    )
