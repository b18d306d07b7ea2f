"""E6: two models together, the newer one's gains amplified, tuned on the attacker's own records.

The older model is the base model, or that of the round right before. Rounds further back, of which an attacker who sees
them all could choose one on its own records as well, are not tried: each costs a whole search over strengths, with a
text for every setting and own record.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from confide.attacks.decoding import DecodingScheme
from confide.attacks.extraction.generated import Generated, read_answer
from confide.attacks.extraction.prompts import Split
from confide.attacks.extraction.scoring import score_completion
from confide.attacks.extraction.two_model import Amplification, sweep
from confide.audit.extraction.probe import Probe, model_name
from confide.audit.judging import Findings
from confide.update import Vector

TEMPERATURES = (1.0, 0.7)
"""Of draws, where there are any; the paper names none. The first where there is nothing to choose by."""
ONLY_THESE = "Of older models the base model and that of the round right before are tried, none in between."
"""What a reader must know of every number of this attack."""
_MOST_OWN = 8
"""Own records to tune on: each costs a text for every setting."""


class Score(Protocol):
    """Turns an attack's texts, one for each split, into findings."""

    def __call__(self, attack: str, code: str, texts: Sequence[Generated], note: str) -> Findings:
        """See above."""


def audit_two_models(
    probe: Probe, splits: Sequence[Split], own: Sequence[Split], *, max_new_tokens: int, score: Score
) -> Findings:
    """Completes every prompt with the final model and an older one.

    The base model, which everybody has, is one; that of the round before another, where the attacker has it.

    Args:
        probe: what is attacked.
        splits: prompts.
        own: the attacker's own records, cut in the same way, to choose the amplification on.
        max_new_tokens: the longest continuation.
        score: of the texts.
    """
    last = probe.rounds[-1]
    before = probe.before(last)
    older = {"two-model": before, "two-model-base": 0} if before else {"two-model-base": 0}
    findings = Findings()
    for attack, number in older.items():
        adapter = probe.adapter(number)
        chosen = choose_amplification(probe, probe.final, adapter, own, max_new_tokens=max_new_tokens, seed=None)
        texts = _complete(probe, (probe.final, adapter), splits, chosen, max_new_tokens)
        pair = f"Round {last} against {model_name(number)}"
        note = f"{pair}: {describe(chosen, own)}, likeliest token. {ONLY_THESE}"
        findings.add(score(attack, "E6", texts, note))
    return findings


def choose_amplification(
    probe: Probe, newer: Vector, older: Vector | None, own: Sequence[Split], *, max_new_tokens: int, seed: int | None
) -> Amplification:
    """Chooses the amplification that brings out most of the attacker's own records, whole or in part.

    Tried are, all in one batch, both forms of the difference at all their strengths (`audit.taus`, `LOGIT_BETAS`), each
    with every top-p (`audit.top_ps`); by default 14 settings. A draw's temperature is chosen after them, for the best
    of them alone: a whole grid of all three would cost twice as many texts. Without draws a temperature would change
    no more than tau and top-p do.

    Args:
        probe: what is attacked.
        newer: the adapter of a round.
        older: of one before it; None for the base model.
        own: prompts of the attacker's own records, of which some are taken; with none it is the first setting.
        max_new_tokens: the longest continuation.
        seed: of the draws; None takes the likeliest tokens.

    Returns:
        The best; of equals the first.
    """
    settings = sweep(probe.settings.taus, probe.settings.top_ps, seed=seed)
    if not own:
        return settings[0]
    own = own[:_MOST_OWN]
    length = min(max_new_tokens, max(len(split.remainder) for split in own))

    def best(of: Sequence[Amplification]) -> Amplification:
        """The one that brings out most. All settings are tried in one go."""
        every = [split for _ in of for split in own]
        texts = _complete(probe, (newer, older), every, [one for one in of for _ in own], length)
        matching = [score_completion(text, split).num_matching for text, split in zip(texts, every, strict=True)]
        sums = [sum(matching[place : place + len(own)]) for place in range(0, len(every), len(own))]
        return of[sums.index(max(sums))]

    found = best(settings)
    return found if seed is None else best([_at(found, temperature) for temperature in TEMPERATURES])


def describe(chosen: Amplification, own: Sequence[Split]) -> str:
    """The setting, and where it comes from, for a note."""
    how = f"chosen on {min(len(own), _MOST_OWN)} own records" if own else "as preset: no own records to tune on"
    by_tau = chosen.difference == "probabilities"
    strength = f"tau {1 / chosen.beta:g}" if by_tau else f"beta {chosen.beta:g}"
    return f"{chosen.difference}, {strength}, top-p {chosen.scheme.top_p:g}, {how}"


def _at(amplification: Amplification, temperature: float) -> Amplification:
    """The same with draws at another temperature."""
    top_p = amplification.scheme.top_p
    name = f"top-p {top_p:g} at {temperature:g}"
    return replace(amplification, scheme=DecodingScheme(name=name, temperature=temperature, top_p=top_p))


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
