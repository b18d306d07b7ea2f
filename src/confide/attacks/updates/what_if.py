"""What an update would look like under a defence that the run did not have: pruned, noised, or averaged with others.

For the table of what each defence buys: the same attack on the same update, changed in one thing.
"""

from collections.abc import Sequence

import numpy as np

from confide.prune.masks import published_mask
from confide.update import Layout, Vector


def without_smallest(update: Vector, sparsity: float) -> Vector:
    """The update with the share `sparsity` of its smallest values set to zero, over all tensors together.

    Args:
        update: flat float32.
        sparsity: in [0, 1).
    """
    num_dropped = int(sparsity * update.size)
    kept = update.copy()
    kept[np.argsort(np.abs(update), kind="stable")[:num_dropped]] = 0
    return kept


def with_pruned_weights(start: Vector, update: Vector, layout: Layout, sparsity: float) -> Vector:
    """The update as it arrives where clients set the smallest of their weights to zero, tensor by tensor.

    A weight that is set to zero moves by all that it was, so its place in the update holds minus its start: as a rule
    much more than training moved it, and nothing that training did.

    Args:
        start: the adapter that the round started from, flat float32 over `layout`.
        update: flat float32 over `layout`.
        layout: of both.
        sparsity: share of every tensor that is set to zero, 0 to 1.

    Raises:
        LayoutMismatchError: the update does not fit the layout.
        NonFiniteUpdateError: a weight is NaN or infinite.
        ValueError: `sparsity` is out of its range.

    Source: FedShield-LLM's published code, which prunes LoRA weights and not updates: theta_k times its L1 mask, per
        tensor; see `published_mask`. What the server gets is that minus theta_{t-1}, which it has.
    """
    weights = start + update
    return np.where(published_mask(weights, layout, sparsity), weights, np.float32(0)) - start


def without_zeroed(start: Vector, update: Vector) -> Vector:
    """The update with 0 in the places of weights that arrived as 0: what they were before says nothing of training.

    What anyone does who has the adapter that the round started from: the zeros show where a client pruned.

    Args:
        start: that adapter, flat float32, in the update's layout.
        update: as it arrived, flat float32.
    """
    return np.where(start + update == 0, np.float32(0), update)


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
