"""E8: a client looks for other clients' personal data with what stands before its own.

Organisations of one kind write alike: "can be reached at" comes before a phone number here and there. The attacker
takes the few tokens before each personal string in its own records, lets the global model go on from them many times,
and collects what looks like personal data. Its own data is all that it needs.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from confide.attacks.extraction.generated import Decoder, Generated, decode_tokens, read_answer
from confide.attacks.extraction.recogniser import Found, Recogniser
from confide.attacks.passes import Passes
from confide.data.examples import TokenizedExample
from confide.evaluate.generation import Sampling
from confide.update import Vector


@dataclass(frozen=True, kw_only=True)
class OwnPrefix:
    """What stands before personal data in the attacker's own records.

    Attributes:
        token_ids: the last tokens before it, at least one.
        count: how often they stand before personal data.
    """

    token_ids: tuple[int, ...] = field(repr=False)
    count: int


@dataclass(frozen=True, kw_only=True)
class Harvest:
    """What an attacker collected.

    Attributes:
        generated: every text, prefix by prefix.
        found: the different strings recognised in them.
        own: those of the attacker's own records, which it knew before.
    """

    generated: tuple[Generated, ...] = field(repr=False)
    found: frozenset[Found] = field(repr=False)
    own: frozenset[Found] = field(repr=False)

    @property
    def num_generations(self) -> int:
        """How many texts it took."""
        return len(self.generated)


def collect_prefixes(
    examples: Sequence[TokenizedExample], recogniser: Recogniser, tokenizer: Decoder, *, num_context_tokens: int
) -> list[OwnPrefix]:
    """Collects the tokens before each recognised string, the most frequent first, in the records' order among equals.

    Args:
        examples: the attacker's own records.
        recogniser: tells what is personal data.
        tokenizer: of the model.
        num_context_tokens: the longest prefix, >= 1; fewer where the record begins. A short one stands before more
            strings, a long one says more.
    """
    counts: Counter[tuple[int, ...]] = Counter()
    for example in examples:
        ids = [int(token) for token in example.input_ids]
        for occurrence in recogniser.occurrences(decode_tokens(tokenizer, ids)):
            stop = num_tokens_before(ids, occurrence.start, tokenizer)
            if stop:
                counts[tuple(ids[max(0, stop - num_context_tokens) : stop])] += 1
    return [OwnPrefix(token_ids=token_ids, count=count) for token_ids, count in counts.most_common()]


def harvest(
    passes: Passes,
    adapter: Vector | None,
    own_examples: Sequence[TokenizedExample],
    recogniser: Recogniser,
    *,
    num_context_tokens: int,
    num_samples: int,
    budget: int,
    max_new_tokens: int,
    sampling: Sampling,
) -> Harvest:
    """Samples continuations of the attacker's own prefixes and collects what looks like personal data.

    Args:
        passes: runs the model.
        adapter: whose model is attacked; None for the base model: what it says with the same prompts is no leak.
        own_examples: the attacker's records.
        recogniser: tells what is personal data, in own records and in what the model says.
        num_context_tokens: the longest prefix, >= 1.
        num_samples: continuations of each prefix, >= 1.
        budget: the most continuations in all; the most frequent prefixes come first.
        max_new_tokens: the longest continuation.
        sampling: how tokens are drawn.

    Returns:
        The strings of all continuations, the attacker's own among them: scores take these away.

    Raises:
        ValueError: the budget does not pay for one prefix.

    Source: FedPII, arXiv 2506.06060, strategies 1 (contextual prefixes) and 2 (frequency-prioritised).
    """
    if not 1 <= num_samples <= budget:
        raise ValueError(f"a budget of {budget} for {num_samples} samples of each prefix, expected at least one prefix")
    tokenizer = passes.model.tokenizer
    prefixes = collect_prefixes(own_examples, recogniser, tokenizer, num_context_tokens=num_context_tokens)
    prompts = [prefix.token_ids for prefix in prefixes[: budget // num_samples] for _ in range(num_samples)]
    answers = passes.generate(adapter, prompts, max_new_tokens=max_new_tokens, sampling=sampling)
    generated = tuple(read_answer(tokenizer, answer) for answer in answers)
    return Harvest(
        generated=generated,
        found=_find_in(recogniser, [text.text for text in generated]),
        own=_find_in(recogniser, [decode_tokens(tokenizer, example.input_ids.tolist()) for example in own_examples]),
    )


def _find_in(recogniser: Recogniser, texts: Sequence[str]) -> frozenset[Found]:
    return frozenset(found for text in texts for found in recogniser.find(text))


def num_tokens_before(ids: Sequence[int], offset: int, tokenizer: Decoder) -> int:
    """Counts the tokens that end at or before a character of the decoded text, without one that lies across it."""
    return bisect_right(range(1, len(ids) + 1), offset, key=lambda count: len(decode_tokens(tokenizer, ids[:count])))
