"""M2: the least likely tokens of a record. A text that was not trained on has some surprising ones."""

from collections.abc import Iterable

import numpy as np

from confide.attacks.membership.positions import Positions, Scores, chosen, log_probs
from confide.attacks.membership.seen import Seen
from confide.attacks.token_stats import TokenStats

SHARE = 0.2
"""The share of tokens that counts, as the sources recommend."""

MIN_STD = 1e-4
"""Nats. A smaller standard deviation, of a position where the model is all but certain, counts as this: float32 rounds
log-probabilities near 0 to about 1e-7, and a quotient of that by less would be noise."""


def min_k_scores(seen: Seen, positions: Positions, *, share: float = SHARE) -> Scores:
    """Gives the mean log-probability, in nats, of the `share` least likely tokens of each record, at least one token.

    Args:
        seen: the candidates.
        positions: which of their tokens.
        share: in (0, 1]; int(share * num_chosen) tokens count, as in the source, but at least one: the published code
            takes the mean of none in a short text and gives NaN.

    Source: Shi et al. 2024, "Detecting Pretraining Data from Large Language Models", equation 1.
    """
    return _lowest_means((log_probs(stats, positions) for stats in seen.final), share)


def min_k_plus_plus_scores(seen: Seen, positions: Positions, *, share: float = SHARE) -> Scores:
    """Gives the mean over the `share` lowest standardised log-probabilities (logp - mean) / std, at least one token.

    `mean` and `std` are of log p under the model's own distribution at that position. A `std` below `MIN_STD` counts as
    `MIN_STD`: a token that the model is certain of gets 0 (it is as likely as expected) and not 0 / 0, one that it had
    ruled out a large negative number and not minus infinity.

    Source: Zhang et al. 2025, "Min-K%++", equation 3; the floor under std is ours.
    """
    return _lowest_means((_standardised(stats, positions) for stats in seen.final), share)


def _standardised(stats: TokenStats, positions: Positions) -> Scores:
    mask = chosen(stats, positions)
    above_mean = stats.logp[mask].astype(np.float64) - stats.mean[mask].astype(np.float64)
    scores: Scores = above_mean / np.maximum(stats.std[mask].astype(np.float64), MIN_STD)
    return scores


def _lowest_means(records: Iterable[Scores], share: float) -> Scores:
    if not 0 < share <= 1:
        raise ValueError(f"share is {share}, expected more than 0 and at most 1")
    return np.array([np.sort(values)[: max(1, int(share * values.size))].mean() for values in records], np.float64)
