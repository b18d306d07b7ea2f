"""What an update would look like under a defence that the run did not have: pruned, noised, or averaged with others.

For the table of what each defence buys: the same attack on the same update, changed in one thing.
"""

from collections.abc import Sequence

import numpy as np

from confide.update import Vector


def pruned(update: Vector, sparsity: float) -> Vector:
    """The update with the share `sparsity` of its smallest values set to zero.

    Args:
        update: flat float32.
        sparsity: in [0, 1).
    """
    num_dropped = int(sparsity * update.size)
    kept = update.copy()
    kept[np.argsort(np.abs(update), kind="stable")[:num_dropped]] = 0
    return kept


def noised(update: Vector, ratio: float, rng: np.random.Generator) -> Vector:
    """The update plus Gaussian noise whose expected L2 norm is `ratio` times the update's."""
    stddev = ratio * float(np.linalg.norm(update)) / np.sqrt(update.size)
    noisy: Vector = update + np.float32(stddev) * rng.standard_normal(update.size, np.float32)
    return noisy


def mean_of(updates: Sequence[Vector], shares: Sequence[float]) -> Vector:
    """The mean of updates by their shares, which need not add up to 1; computed in float64, given as float32."""
    weights = np.asarray(shares, np.float64)
    total = np.zeros(updates[0].size)
    for update, weight in zip(updates, weights / weights.sum(), strict=True):
        total += weight * update.astype(np.float64)
    mean: Vector = total.astype(np.float32)
    return mean


def without_own(mean: Vector, own: Vector, share: float) -> Vector:
    """The mean of the others: what is left when one's own part is taken out.

    Args:
        mean: of all members.
        own: update that entered it.
        share: of `own` in the mean, in (0, 1).

    Raises:
        ValueError: the share is not between 0 and 1; of 1 there are no others.
    """
    if not 0 < share < 1:
        raise ValueError(f"share is {share}, expected more than 0 and less than 1")
    others: Vector = ((mean.astype(np.float64) - share * own.astype(np.float64)) / (1 - share)).astype(np.float32)
    return others
