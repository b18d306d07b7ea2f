"""E6 in weight space: a model beyond the final one, on the way that training took, tuned on the attacker's own records.

A token costs half of what it does with two models.
"""

from collections.abc import Sequence
from dataclasses import dataclass

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
    """Completes every prompt with the final model moved on by gamma times its step from an older one.

    Gamma is chosen for the step from the round before, where the attacker has it, else from the base model; then, with
    that gamma, the older model among all of `Probe.older`. Without own records neither is.

    Args:
        probe: what is attacked.
        splits: prompts.
        own: the attacker's own records, cut in the same way, of which some are taken to choose on.
        max_new_tokens: the longest continuation.
        score: of the texts.
    """
    before, *others = probe.older
    own = own[:_MOST_OWN]
    first = _best([_move(probe, before, gamma, own, max_new_tokens) for gamma in (GAMMAS if own else GAMMAS[:1])])
    tried = [first, *(_move(probe, number, first.gamma, own, max_new_tokens) for number in others if own)]
    best = _best(tried)
    how = f"chosen on {len(own)} own records" if own else "as preset: no own records to tune on"
    if len(tried) > 1:
        how += f" (gamma for {model_name(before)}, then the best of {len(tried)} of the {probe.num_older} older models)"
    lost = f", {best.moved.lost_share:.0%} of it beyond the adapter's rank" if best.moved.lost_share else ""
    texts = probe.complete(best.moved.vector, splits, max_new_tokens)
    note = f"Gamma {best.gamma:g} from {model_name(best.older)}{lost}, {how}, likeliest token."
    return score(_ATTACK, "E6", texts, note)


@dataclass(frozen=True, kw_only=True)
class _Beyond:
    """The final model moved on from an older one, and how many tokens of own records come out."""

    older: int
    gamma: float
    moved: Extrapolated
    num_matching: int


def _best(tried: Sequence[_Beyond]) -> _Beyond:
    """The first of those that bring out most."""
    return max(tried, key=lambda one: one.num_matching)


def _move(probe: Probe, older: int, gamma: float, own: Sequence[Split], max_new_tokens: int) -> _Beyond:
    moved = extrapolate(probe.passes.model.layout, probe.final, probe.adapter(older), gamma)
    num_matching = _num_matching(probe, moved, own, max_new_tokens) if own else 0
    return _Beyond(older=older, gamma=gamma, moved=moved, num_matching=num_matching)


def _num_matching(probe: Probe, moved: Extrapolated, own: Sequence[Split], max_new_tokens: int) -> int:
    """How many tokens of own records come out."""
    length = min(max_new_tokens, max(len(split.remainder) for split in own))
    texts = probe.complete(moved.vector, own, length)
    return sum(score_completion(text, split).num_matching for text, split in zip(texts, own, strict=True))
