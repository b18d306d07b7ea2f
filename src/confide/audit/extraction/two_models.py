"""E6: two models together, the newer one's gains amplified, tuned on the attacker's own records."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from confide.attacks.decoding import DecodingScheme
from confide.attacks.extraction.generated import Generated, read_answer
from confide.attacks.extraction.prompts import Split
from confide.attacks.extraction.scoring import score_completion
from confide.attacks.extraction.two_model import Amplification, paper_sweep
from confide.audit.extraction.probe import Probe
from confide.audit.judging import Findings
from confide.update import Vector

TAUS = (0.01, 0.1, 1.0)
TOP_PS = (0.9, 1.0)
_MOST_OWN = 8
"""Own records to tune on: each costs a text for every setting."""


class Score(Protocol):
    """Turns an attack's texts, one for each split, into findings."""

    def __call__(self, attack: str, code: str, texts: Sequence[Generated], note: str) -> Findings:
        """See above."""


def audit_two_models(
    probe: Probe, splits: Sequence[Split], own: Sequence[Split], *, max_new_tokens: int, score: Score, with_base: bool
) -> Findings:
    """Completes every prompt with the final model and an older one.

    Args:
        probe: what is attacked.
        splits: prompts.
        own: the attacker's own records, cut in the same way, to choose the amplification on.
        max_new_tokens: the longest continuation.
        score: of the texts.
        with_base: whether the base model is an older one as well. The round before is, where the attacker has it.
    """
    older: dict[str, Vector | None] = {}
    if len(probe.rounds) > 1:
        older["two-model"] = probe.view.adapters[probe.rounds[-2]]()
    if with_base:
        older["two-model-base"] = None
    findings = Findings()
    for attack, adapter in older.items():
        chosen = choose_amplification(probe, probe.final, adapter, own, max_new_tokens=max_new_tokens, seed=None)
        texts = _complete(probe, (probe.final, adapter), splits, chosen, max_new_tokens)
        findings.add(score(attack, "E6", texts, f"{describe(chosen, own)}, likeliest token."))
    return findings


def choose_amplification(
    probe: Probe, newer: Vector, older: Vector | None, own: Sequence[Split], *, max_new_tokens: int, seed: int | None
) -> Amplification:
    """Chooses the amplification that brings out most of the attacker's own records, whole or in part.

    Args:
        probe: what is attacked.
        newer: the adapter of a round.
        older: of one before it; None for the base model.
        own: prompts of the attacker's own records, of which some are taken; with none it is the sweep's first setting.
        max_new_tokens: the longest continuation.
        seed: of the draws; None takes the likeliest tokens.

    Returns:
        The best of both forms of the difference and all `TAUS` under the first of `TOP_PS`, then of all `TOP_PS`: a
        whole grid would cost almost twice as many texts.
    """
    sweep = paper_sweep(TAUS, TOP_PS[:1], seed=seed)
    if not own:
        return sweep[0]
    own = own[:_MOST_OWN]
    length = min(max_new_tokens, max(len(split.remainder) for split in own))

    def best(of: Sequence[Amplification]) -> Amplification:
        """The one that brings out most; of equals the first. All settings are tried in one go."""
        every = [split for _ in of for split in own]
        texts = _complete(probe, (newer, older), every, [one for one in of for _ in own], length)
        matching = [score_completion(text, split).num_matching for text, split in zip(texts, every, strict=True)]
        sums = [sum(matching[place : place + len(own)]) for place in range(0, len(every), len(own))]
        return of[sums.index(max(sums))]

    first = best(sweep)
    return best([replace(first, scheme=DecodingScheme(name=f"top-p {top_p}", top_p=top_p)) for top_p in TOP_PS])


def describe(chosen: Amplification, own: Sequence[Split]) -> str:
    """The setting, and where it comes from, for a note."""
    how = f"chosen on {min(len(own), _MOST_OWN)} own records" if own else "as preset: no own records to tune on"
    return f"{chosen.difference}, tau {1 / chosen.beta:g}, top-p {chosen.scheme.top_p:g}, {how}"


def _complete(
    probe: Probe,
    pair: tuple[Vector, Vector | None],
    splits: Sequence[Split],
    amplification: Amplification | Sequence[Amplification],
    length: int,
) -> list[Generated]:
    newer, older = pair
    answers = probe.passes.generate_with_two(
        newer, older, [split.prompt for split in splits], amplification, max_new_tokens=length
    )
    return [
        read_answer(probe.tokenizer, answer, split.candidate_id) for answer, split in zip(answers, splits, strict=True)
    ]
