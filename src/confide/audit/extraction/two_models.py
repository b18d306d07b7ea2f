"""E6: two models together, the newer one's gains amplified, tuned on the attacker's own records.

The older model is the base model, that of the round right before, or the one of all that are looked at which brings out
most of the attacker's own records. A whole search over strengths costs a text for every setting and own record, so the
models in between are tried with what was best for those two alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
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
"""What a reader must know of every number of these attacks where there are models in between and none is tried."""
CHOSEN = "two-model-chosen"
"""The attack that chooses its older model."""
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

    The base model, which everybody has, is one; that of the round before another, where the attacker has it. Where
    there are own records and models in between that are looked at, `CHOSEN` takes the one of all of them that brings
    out most of these records; of equals the first in the order of `Probe.older`.

    Args:
        probe: what is attacked.
        splits: prompts.
        own: the attacker's own records, cut in the same way, to choose the amplification and the older model on.
        max_new_tokens: the longest continuation.
        score: of the texts.
    """
    tried = _tune_all(probe, own, max_new_tokens)
    fixed, in_between = tried[:2], tried[2:]
    best = max(tried, key=lambda one: one.num_matching)
    texts = {
        one: _complete(probe, (probe.final, probe.adapter(one.older)), splits, one.amplification, max_new_tokens)
        for one in dict.fromkeys([*fixed, best])
    }
    last = f"Round {probe.rounds[-1]} against"
    caveat = f" {ONLY_THESE}" if len(tried) == len(fixed) < probe.num_older else ""
    findings = Findings()
    for one in fixed:
        attack = "two-model" if one.older else "two-model-base"
        note = f"{last} {model_name(one.older)}: {describe(one.amplification, own)}, likeliest token.{caveat}"
        findings.add(score(attack, "E6", texts[one], note))
    if in_between:
        note = (
            f"{last} {model_name(best.older)}, the best of {len(tried)} of the {probe.num_older} older models: "
            f"{describe(best.amplification, own)}, likeliest token. Those between the base model and "
            f"{model_name(probe.older[0])} are tried with the best settings of two-model and two-model-base alone."
        )
        findings.add(score(CHOSEN, "E6", texts[best], note))
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
    found, _ = _best(probe, (newer, older), settings, own, max_new_tokens)
    if seed is None:
        return found
    found, _ = _best(probe, (newer, older), [_at(found, one) for one in TEMPERATURES], own, max_new_tokens)
    return found


def describe(chosen: Amplification, own: Sequence[Split]) -> str:
    """The setting, and where it comes from, for a note."""
    how = f"chosen on {min(len(own), _MOST_OWN)} own records" if own else "as preset: no own records to tune on"
    by_tau = chosen.difference == "probabilities"
    strength = f"tau {1 / chosen.beta:g}" if by_tau else f"beta {chosen.beta:g}"
    return f"{chosen.difference}, {strength}, top-p {chosen.scheme.top_p:g}, {how}"


@dataclass(frozen=True, kw_only=True)
class _Tuned:
    """An older model, the best amplification against it, and how many tokens of own records they bring out."""

    older: int
    amplification: Amplification
    num_matching: int


def _tune_all(probe: Probe, own: Sequence[Split], max_new_tokens: int) -> list[_Tuned]:
    """The older models in the order of `Probe.older`, those in between only where there are own records."""
    settings = sweep(probe.settings.taus, probe.settings.top_ps, seed=None)
    fixed = [_tune(probe, number, settings, own, max_new_tokens) for number in probe.older[:2]]
    few = list(dict.fromkeys(one.amplification for one in fixed))
    return [*fixed, *(_tune(probe, number, few, own, max_new_tokens) for number in probe.older[2:] if own)]


def _tune(
    probe: Probe, older: int, settings: Sequence[Amplification], own: Sequence[Split], max_new_tokens: int
) -> _Tuned:
    """Chooses among settings for the final model and an older one; the first where there are no own records."""
    if not own:
        return _Tuned(older=older, amplification=settings[0], num_matching=0)
    amplification, num_matching = _best(probe, (probe.final, probe.adapter(older)), settings, own, max_new_tokens)
    return _Tuned(older=older, amplification=amplification, num_matching=num_matching)


def _best(
    probe: Probe,
    pair: tuple[Vector, Vector | None],
    settings: Sequence[Amplification],
    own: Sequence[Split],
    max_new_tokens: int,
) -> tuple[Amplification, int]:
    """The setting that brings out most of own records, the first of equals, and how many tokens it does."""
    own = own[:_MOST_OWN]
    length = min(max_new_tokens, max(len(split.remainder) for split in own))
    every = [split for _ in settings for split in own]
    texts = _complete(probe, pair, every, [one for one in settings for _ in own], length)
    matching = [score_completion(text, split).num_matching for text, split in zip(texts, every, strict=True)]
    sums = [sum(matching[place : place + len(own)]) for place in range(0, len(every), len(own))]
    most = max(sums)
    return settings[sums.index(most)], most


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
