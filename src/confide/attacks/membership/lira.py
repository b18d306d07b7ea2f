"""M11: LiRA. Is the record's statistic more like that of shadow models trained with it, or without it?

The shadows are LoRA fine-tunings with the target's settings, 4 to 16 of them, each on a random half of the candidates
(offline: on none of them). `Shadows` brings their statistics; who audits trains them.
"""

import numpy as np
import numpy.typing as npt

from confide.attacks.membership.positions import Positions, Scores, mean_log_probs
from confide.attacks.membership.seen import Seen, Shadows

MIN_STD = 1e-6
"""Nats per token: a smaller pooled standard deviation counts as this."""

_Mask = npt.NDArray[np.bool_]


def online_lira_scores(seen: Seen, positions: Positions) -> Scores:
    """Gives `online_lira` of mean log-probabilities under the final model and the shadows."""
    return online_lira(mean_log_probs(seen.final, positions), *_shadow_statistics(seen.shadows, positions))


def offline_lira_scores(seen: Seen, positions: Positions) -> Scores:
    """Gives `offline_lira` of mean log-probabilities under the final model and the shadows without the record."""
    return offline_lira(mean_log_probs(seen.final, positions), *_shadow_statistics(seen.shadows, positions))


def online_lira(target: Scores, shadows: Scores, trained_on: _Mask) -> Scores:
    """Gives log N(s; mu_in, sd_in) - log N(s; mu_out, sd_out) for every record.

    Args:
        target: the records' statistic s under the attacked model, shape (num_records,), higher = better predicted.
        shadows: the same under every shadow, shape (num_shadows, num_records).
        trained_on: whether that shadow was trained on that record, same shape; for each record at least one True and
            one False.

    Returns:
        Shape (num_records,), in nats.

    Raises:
        ValueError: a record has no shadow with it or none without it, or there are too few shadows for any spread.

    Source: Carlini et al. 2022, "Membership Inference Attacks From First Principles", algorithm 1. The means are per
        record; the two standard deviations are pooled over records (within a record, around its own mean), since a
        few shadows give no variance per record. Its fixed variance also counts the spread between records.
    """
    with_record, without_record = _gaussian(shadows, trained_on), _gaussian(shadows, ~trained_on)
    scores: Scores = _log_density(target, *with_record) - _log_density(target, *without_record)
    return scores


def offline_lira(target: Scores, shadows: Scores, trained_on: _Mask) -> Scores:
    """Gives (s - mu_out) / sd_out: how far the statistic lies above what shadows without the record give.

    Arguments and errors are those of `online_lira`; only shadows without a record count for it.

    Source: Carlini et al. 2022, section on the offline attack: 1 - P(Z > s), Z ~ N(mu_out, sd_out). That is a rising
        function of this z, so the order is the same, and z does not end at 1.0 where the record stands out most.
    """
    centre, spread = _gaussian(shadows, ~trained_on)
    return (target - centre) / spread


def _gaussian(shadows: Scores, mask: _Mask) -> tuple[Scores, float]:
    """Means per record, shape (num_records,), and the pooled standard deviation, over the masked shadows."""
    counts = mask.sum(axis=0)
    if not counts.all():
        raise ValueError(f"{int((counts == 0).sum())} of {counts.size} records have no shadow on one side")
    num_free = int(counts.sum()) - counts.size
    if num_free < 1:
        raise ValueError("no record has two shadows on the same side: train at least two more for a spread")
    centre: Scores = np.where(mask, shadows, 0.0).sum(axis=0) / counts
    squares = np.where(mask, np.square(shadows - centre), 0.0).sum()
    return centre, max(float(np.sqrt(squares / num_free)), MIN_STD)


def _log_density(values: Scores, centre: Scores, spread: float) -> Scores:
    """The logarithm of N(values; centre, spread), without its constant."""
    density: Scores = -np.square((values - centre) / spread) / 2 - np.log(spread)
    return density


def _shadow_statistics(shadows: Shadows | None, positions: Positions) -> tuple[Scores, _Mask]:
    if shadows is None:
        raise ValueError("the shadow models are missing")
    return np.stack([mean_log_probs(records, positions) for records in shadows.stats]), shadows.trained_on
