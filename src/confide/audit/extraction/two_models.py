"""E6: two models together, the newer one's gains amplified, tuned on the attacker's own records."""

from collections.abc import Sequence
from typing import Protocol

from confide.attacks.extraction.generated import Generated, read_answer
from confide.attacks.extraction.prompts import Split
from confide.attacks.extraction.scoring import score_completion
from confide.attacks.extraction.two_model import Amplification, complete_with_two, paper_sweep
from confide.audit.extraction.probe import Probe
from confide.audit.judging import Findings
from confide.update import Vector

TAUS = (0.01, 0.1, 1.0)
TOP_P = 0.9
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
        own: the attacker's own records, cut in the same way, to choose tau and the form of the difference on; with none
            the first setting of the sweep is taken.
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
        chosen = _tune(probe, adapter, own[:_MOST_OWN], max_new_tokens)
        how = f"chosen on {min(len(own), _MOST_OWN)} own records" if own else "as preset: no own records to tune on"
        note = f"{chosen.difference}, tau {1 / chosen.beta:g}, top-p {chosen.scheme.top_p:g}, likeliest token; {how}."
        findings.add(score(attack, "E6", _complete(probe, adapter, splits, chosen, max_new_tokens), note))
    return findings


def _tune(probe: Probe, older: Vector | None, own: Sequence[Split], max_new_tokens: int) -> Amplification:
    """The amplification that brings out most of the attacker's own records, whole or in part."""
    sweep = paper_sweep(TAUS, (TOP_P,), seed=None)
    if not own:
        return sweep[0]
    length = min(max_new_tokens, max(len(split.remainder) for split in own))

    def num_matching(amplification: Amplification) -> int:
        texts = _complete(probe, older, own, amplification, length)
        return sum(score_completion(text, split).num_matching for text, split in zip(texts, own, strict=True))

    return max(sweep, key=num_matching)


def _complete(
    probe: Probe, older: Vector | None, splits: Sequence[Split], amplification: Amplification, length: int
) -> list[Generated]:
    answers = complete_with_two(
        probe.passes.model,
        probe.final,
        older,
        [split.prompt for split in splits],
        amplification,
        max_new_tokens=length,
        end_token_ids=probe.ends,
        batch_size=probe.settings.batch_size,
    )
    return [
        read_answer(probe.tokenizer, answer, split.candidate_id) for answer, split in zip(answers, splits, strict=True)
    ]
