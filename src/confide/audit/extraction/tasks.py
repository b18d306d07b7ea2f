"""What is given of each record: the leakage paper's tasks, cut from a population.

Shared by attacks on the final model and by those on every round's.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from confide.attacks.candidates import Candidate
from confide.attacks.extraction.disturbed import collect_words, disturb_split
from confide.attacks.extraction.generated import decode_tokens
from confide.attacks.extraction.prompts import Split, split_after, split_by_share
from confide.audit.extraction.probe import Probe, splits_of
from confide.audit.truth import Population

LONG, SHORT = 0.8, 0.3
"""The paper's shares of a record that the attacker knows."""


def cut_prefixes(probe: Probe, population: Population, share: float) -> list[Split]:
    """The beginnings of all candidates that are long enough."""
    return splits_of(population, partial(_cut, probe, share))


def cut_after(probe: Probe, num_prompt: int, num_remainder: int) -> list[Split]:
    """So many tokens as prompt and so many to come, of the candidates under attack that are as long."""
    cut = partial(
        split_after,
        num_prompt=num_prompt,
        num_remainder=num_remainder,
        tokenizer=probe.tokenizer,
        end_token_ids=probe.ends,
    )
    return splits_of(probe.asked, cut)


def disturb_prefixes(probe: Probe, splits: Sequence[Split]) -> list[Split]:
    """The same with some words replaced, of the candidates under attack."""
    words = collect_words([candidate.text for candidate in probe.asked.candidates])
    by_id = {candidate.candidate_id: candidate for candidate in probe.asked.candidates}
    return [
        disturb_split(split, by_id[split.candidate_id], words, probe.tokenizer, seed=probe.settings.seed)
        for split in splits
    ]


def within_reach(probe: Probe, split: Split) -> Split:
    """The same with a remainder of at most as many tokens as are generated: a longer one cannot come out whole."""
    remainder = split.remainder[: probe.settings.max_new_tokens]
    if len(remainder) == len(split.remainder):
        return split
    return replace(split, remainder=remainder, remainder_text=decode_tokens(probe.tokenizer, remainder))


def lengths_of(splits: Sequence[Split]) -> str:
    """How long prompts and what is compared are, in a sentence for a note; at least one split."""
    given = sum(len(split.prompt) for split in splits) / len(splits)
    compared = max(len(split.remainder) for split in splits)
    return f"Behind {given:.0f} tokens on average, {compared} tokens compared at most."


def _cut(probe: Probe, share: float, candidate: Candidate) -> Split | None:
    return split_by_share(candidate, share, probe.tokenizer, probe.ends)
