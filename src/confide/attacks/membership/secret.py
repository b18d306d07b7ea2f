"""D9: how much likelier what was planted became, at its own tokens alone, where nothing else hides it."""

from collections.abc import Sequence

import numpy as np

from confide.attacks.membership.positions import Scores
from confide.attacks.membership.seen import Seen
from confide.attacks.token_stats import TokenStats


def secret_gains(seen: Seen, ranges: Sequence[tuple[int, int]]) -> Scores:
    """Gives the fall of the loss from the base to the final model, summed over the planted tokens, in nats.

    Args:
        seen: canaries under both models.
        ranges: first planted token and one behind the last, in each canary's tokens.

    Returns:
        Shape (num_candidates,), higher = trained on; 0 where nothing was trained. A record's first token is predicted
        from nothing and counts for nothing.

    Raises:
        ValueError: there is not one range per candidate.

    Source: Panda et al. 2025, "Privacy Auditing of Large Language Models" (arXiv 2503.06808), where the score is the
        loss at the new token. Here the base model's loss there is taken off, which every attacker has as well: reserved
        tokens start from different losses.
    """
    return np.array(
        [
            _sum(final, *place) - _sum(base, *place)
            for final, base, place in zip(seen.final, seen.base, ranges, strict=True)
        ],
        np.float64,
    )


def _sum(stats: TokenStats, start: int, stop: int) -> float:
    return float(stats.logp[max(start - 1, 0) : stop - 1].sum(dtype=np.float64))  # position i is of token i + 1
