"""E6 in weight space: a model beyond the final one, on the way that training took, tuned on the attacker's own records.

A token costs half of what it does with two models.
"""

from collections.abc import Sequence

from confide.attacks.extraction.prompts import Split
from confide.attacks.extraction.scoring import score_completion
from confide.attacks.extraction.weight_space import Extrapolated, extrapolate
from confide.audit.extraction.probe import Probe, model_name
from confide.audit.extraction.two_models import Score
from confide.audit.judging import Findings

GAMMAS = (1.0, 0.5, 2.0, 4.0)
"""How far beyond, in steps from the older model to the final one; the first where there is nothing to tune on."""
_MOST_OWN = 8
"""Own records to tune on: each costs a text for every setting."""
_ATTACK = "weight-space"


def audit_beyond(
    probe: Probe, splits: Sequence[Split], own: Sequence[Split], *, max_new_tokens: int, score: Score
) -> Findings:
    """Completes every prompt with the final model moved on by gamma times its last step.

    The last step is that from the round before, where the attacker has it, else that from the base model.

    Args:
        probe: what is attacked.
        splits: prompts.
        own: the attacker's own records, cut in the same way, of which some are taken to choose gamma on.
        max_new_tokens: the longest continuation.
        score: of the texts.
    """
    before = probe.before(probe.rounds[-1])
    older = probe.adapter(before)
    layout, own = probe.passes.model.layout, own[:_MOST_OWN]
    moved = {gamma: extrapolate(layout, probe.final, older, gamma) for gamma in (GAMMAS if own else GAMMAS[:1])}
    gamma = max(moved, key=lambda one: _num_matching(probe, moved[one], own, max_new_tokens)) if own else GAMMAS[0]
    how = f"chosen on {len(own)} own records" if own else "as preset: no own records to tune on"
    lost = f", {moved[gamma].lost_share:.0%} of it beyond the adapter's rank" if moved[gamma].lost_share else ""
    texts = probe.complete(moved[gamma].vector, splits, max_new_tokens)
    return score(_ATTACK, "E6", texts, f"Gamma {gamma:g} from {model_name(before)}{lost}, {how}, likeliest token.")


def _num_matching(probe: Probe, moved: Extrapolated, own: Sequence[Split], max_new_tokens: int) -> int:
    """How many tokens of own records come out."""
    length = min(max_new_tokens, max(len(split.remainder) for split in own))
    texts = probe.complete(moved.vector, own, length)
    return sum(score_completion(text, split).num_matching for text, split in zip(texts, own, strict=True))
