"""What an attack reaches when there is nothing to find: coins shuffled after the fact."""

import numpy as np
import numpy.typing as npt
from scipy.stats import kstest

from confide.audit.statistics.scores import Flags, checked_vector
from confide.errors import DataError


def shuffle_coins(is_member: Flags, owners: npt.NDArray[np.str_], rng: np.random.Generator) -> Flags:
    """Gives the labels in a random order within each owner: every owner keeps its number of members.

    Args:
        is_member: shape (num_records,).
        owners: shape (num_records,).
        rng: a stream that nothing else was drawn from; never the one that flipped the true coins.
    """
    # Tickets put an owner's records in a random order; sorted by owner first, both lists hold the same owners in step.
    places = np.lexsort((np.arange(owners.size), owners))
    drawn = np.lexsort((rng.random(owners.size), owners))
    shuffled = np.empty_like(is_member)
    shuffled[places] = is_member[drawn]
    return shuffled


def uniformity_p_value(p_values: npt.ArrayLike) -> float:
    """Gives the p-value of "these p-values are uniform on [0, 1]" by Kolmogorov and Smirnov, two-sided.

    Small means: the test that made them is wrong, either way. P-values that can only take a few values fail it with
    enough of them, rightly.

    Raises:
        DataError: there are fewer than 10, which could show nothing.
        RunError: one is NaN.
        ValueError: one is outside [0, 1].
    """
    given = checked_vector(p_values, name="p-values")
    if given.size < 10:
        raise DataError(f"{given.size} p-values cannot show that they are uniform, expected at least 10.")
    if given.min() < 0 or given.max() > 1:
        raise ValueError(f"p-values range from {given.min():g} to {given.max():g}, expected 0 to 1")
    return float(kstest(given, "uniform").pvalue)
