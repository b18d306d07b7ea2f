"""M1: how well the model predicts a record; alone, against its compressed size, and against its lower-cased twin.

None of these knows what the record was worth before training: easy texts look like members.
"""

import zlib

import numpy as np

from confide.attacks.membership.positions import Positions, Scores, log_probs, mean_log_probs
from confide.attacks.membership.seen import Seen

MIN_LOSS = 1e-7
"""Nats per token, about float32's step below 1. A smaller loss counts as this much where one divides by losses, so that
a text predicted perfectly is neither infinitely nor not at all special."""


def loss_scores(seen: Seen, positions: Positions) -> Scores:
    """Gives minus the loss in nats per token: a member is predicted well.

    Source: Yeom et al. 2018, "Privacy Risk in Machine Learning", adversary 1, without a threshold.
    """
    return mean_log_probs(seen.final, positions)


def zlib_scores(seen: Seen, positions: Positions) -> Scores:
    """Gives minus the loss, summed over tokens, per byte of the zlib-compressed text: repetitive texts count less.

    `Seen.texts` holds what would be learnt, so with positions "all" a prompt counts in the sum and not in the bytes.

    Source: Carlini et al. 2021, "Extracting Training Data from Large Language Models", section 5.1; with the sum over
        tokens instead of their mean, so that both sides of the ratio grow with the length.
    """
    sums = np.array([log_probs(stats, positions).sum() for stats in seen.final], np.float64)
    num_bytes = np.array([len(zlib.compress(text.encode())) for text in seen.texts], np.float64)
    scores: Scores = sums / num_bytes
    return scores


def lowercase_scores(seen: Seen, positions: Positions) -> Scores:
    """Gives minus the loss over the lower-cased twin's loss: a member is predicted well as it was written.

    Losses below `MIN_LOSS` count as that.

    Source: Carlini et al. 2021, section 5.1.
    """
    if seen.lower is None:
        raise ValueError("the lower-cased twins are missing")
    return -loss_ratios(mean_log_probs(seen.final, positions), mean_log_probs(seen.lower, positions))


def loss_ratios(of: Scores, to: Scores) -> Scores:
    """Gives the ratio of two losses, each at least `MIN_LOSS`, from mean log-probabilities of shape (num_records,)."""
    return np.maximum(-of, MIN_LOSS) / np.maximum(-to, MIN_LOSS)
