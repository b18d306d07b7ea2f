"""M7: the error zone. Where the model still errs, did the right token's probability rise or fall in training?

At tokens that the final model gets wrong, a member's right token has mostly gained, a non-member's gained and lost.

Let E be the chosen positions whose token is not the final model's likeliest, d a position's change of log-probability
from the base to the final model in nats, up = sum of d > 0 over E, down = sum of |d| over the d < 0 in E.

The published score is up / down, and 0 where nothing in E went down. So it puts the records that were learnt best (no
error left, or all errors gaining) below all others. Two changes mend this.

- The score is log((up + c) / (down + c)) with c = `SMOOTHING`. As c -> 0 it is the logarithm of the published one, so
  with both sums far above c the order is the same; with down = 0 it is large.
- With fewer than two errors there is no zone to look at, and D = the sum of d over all chosen positions takes its
  place: with D+ and D- for its positive and negative part the score is log((D+ + c) / (D- + c)), which is
  sign(D) log(1 + |D| / c).

So both kinds stand in one ranking on one scale, the logarithm of (gained + c) / (lost + c) in nats: 0 means no change
either way and is what an untrained model gives everywhere; the sign says whether the record gained; a record of the
second kind that gained D nats ranks with one of the first kind whose errors gained D and lost nothing. Among
themselves the second kind rank as by D. The price: a short, easy record that is answered without an error and gained a
little (1 nat: score 2.4) ranks above most of the first kind. It also did gain, so this is what the reference difference
would say too.
"""

import numpy as np

from confide.attacks.membership.positions import Positions, Scores, chosen, log_prob_changes
from confide.attacks.membership.seen import Seen
from confide.attacks.token_stats import TokenStats

SMOOTHING = 0.1
"""c, in nats: what a change must exceed to count for much."""

MIN_ERRORS = 2
"""With fewer error tokens all tokens are looked at."""


def ez_scores(seen: Seen, positions: Positions, *, smoothing: float = SMOOTHING) -> Scores:
    """Gives the error-zone score of every candidate; see the module's text.

    Args:
        seen: the candidates, under the final and the base model.
        positions: which of their tokens.
        smoothing: c > 0, in nats.

    Guarantees:
        - Finite: at most log(1 + total / c) in absolute value, total = the sum of |d|.
        - 0 for every record if the final model is the base model.
        - With two errors or more and down > 0 it differs from the log of the published score by at most
          c / up + c / down.

    Source: the error-zone attack (EZ-MIA), arXiv 2601.12104, changed as the module says.
    """
    if smoothing <= 0:
        raise ValueError(f"smoothing is {smoothing}, expected more than 0")
    pairs = zip(seen.final, seen.base, strict=True)
    return np.array([_ez(final, base, positions, smoothing) for final, base in pairs], np.float64)


def published_ez_scores(seen: Seen, positions: Positions) -> Scores:
    """Gives the score as published: up / down, and 0 where no error token lost. To compare with; no attack uses it."""
    scores = []
    for final, base in zip(seen.final, seen.base, strict=True):
        gained, lost = _gained_and_lost(_error_changes(final, base, positions))
        scores.append(gained / lost if lost > 0 else 0.0)
    return np.array(scores, np.float64)


def _ez(final: TokenStats, base: TokenStats, positions: Positions, smoothing: float) -> float:
    changes = _error_changes(final, base, positions)
    if changes.size < MIN_ERRORS:
        # One pooled change, put through the same formula.
        changes = log_prob_changes(final, base, positions).sum(keepdims=True)
    gained, lost = _gained_and_lost(changes)
    return float(np.log((gained + smoothing) / (lost + smoothing)))


def _error_changes(final: TokenStats, base: TokenStats, positions: Positions) -> Scores:
    """The changes d over E."""
    return log_prob_changes(final, base, positions)[~final.is_top[chosen(final, positions)]]


def _gained_and_lost(changes: Scores) -> tuple[float, float]:
    return float(changes[changes > 0].sum()), float(-changes[changes < 0].sum())
