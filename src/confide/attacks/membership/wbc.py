"""M8: windows that vote. Many short stretches each say whether the final model predicts them better than the base.

Counting signs instead of averaging sizes keeps a few rare tokens from deciding.
"""

import numpy as np

from confide.attacks.membership.positions import Positions, Scores, log_prob_changes
from confide.attacks.membership.seen import Seen

WIDTHS = (2, 3, 4, 6, 9, 13, 18, 25, 32, 40)
"""Window widths in tokens, the source's geometric ladder."""


def wbc_scores(seen: Seen, positions: Positions) -> Scores:
    """Gives the share of windows in which the base model's loss is above the final model's, averaged over `WIDTHS`.

    Windows are of neighbours among the chosen positions: in a conversation with several responses one may span the end
    of a response and the start of the next. A width above the number of positions is cut to it, so a short record's
    whole length votes several times. A window in which nothing changed gives no vote.

    Returns:
        Shape (num_candidates,), in [0, 1]; 0 for every record if the final model is the base model.

    Source: the window-based comparison attack (WBC), arXiv 2601.02751.
    """
    pairs = zip(seen.final, seen.base, strict=True)
    return np.array([_votes(log_prob_changes(final, base, positions)) for final, base in pairs], np.float64)


def _votes(changes: Scores) -> float:
    """The votes from each position's gain, shape (num_chosen,)."""
    # Differences of running sums. They are exact where the gains' float32 bits fit side by side into float64, as for
    # log-probabilities above 1e-4 nats and totals below 1e4; elsewhere a window whose gains cancel exactly may vote.
    totals = np.concatenate([[0.0], np.cumsum(changes)])
    shares = []
    for width in WIDTHS:
        cut = min(width, changes.size)
        shares.append(float(np.mean(totals[cut:] - totals[:-cut] > 0)))
    return float(np.mean(shares))
