"""What an attack reaches when there is nothing to find: coins shuffled after the fact."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import kstest

from confide.audit.statistics.area import auc_value
from confide.audit.statistics.scores import Flags, Statistic, checked_labels, checked_owners, checked_vector
from confide.errors import DataError
from confide.seeds import stream

NUM_PERMUTATIONS = 999


@dataclass(frozen=True, kw_only=True)
class PermutationTest:
    """A statistic beside what it is with shuffled coins.

    Attributes:
        value: with the true labels.
        null_mean: mean over the shuffles. It is not 0.5 for an AUC where owners differ in their scores and in their
            share of members: then a part of `value` is "whose record", not "member".
        null_high: what 95 % of the shuffles stay below or reach.
        p_value: share of shuffles that reach `value`, the true labels counted as one of them; at least
            1 / (num_permutations + 1).
        num_permutations: how many shuffles there were.
    """

    value: float
    null_mean: float
    null_high: float
    p_value: float
    num_permutations: int


def permutation_test(
    scores: npt.ArrayLike,
    is_member: npt.ArrayLike,
    owners: Sequence[str],
    *,
    statistic: Statistic = auc_value,
    seed: int,
    num_permutations: int = NUM_PERMUTATIONS,
) -> PermutationTest:
    """Tests "members score no higher" by shuffling the labels within each owner.

    Args:
        scores: shape (num_records,), finite; higher = member.
        is_member: the truth, shape (num_records,).
        owners: whose record it is, num_records names.
        statistic: of the members' and the non-members' scores; larger = more is found.
        seed: of the run; shuffles come from a stream named after it.
        num_permutations: at least 19, which is what a p-value of 0.05 needs.

    Guarantees:
        - If within each owner every choice of members was equally likely, as with one coin per record, the p-value is
          at most p with probability at most p, for every p, statistic and sample size.
        - The same arguments give the same numbers.

    Raises:
        DataError, RunError, ValueError: as `checked_vector`; ValueError also for different lengths.

    Source: Phipson and Smyth 2010, "Permutation P-values should never be zero".
    """
    values = checked_vector(scores, name="scores")
    labels = checked_labels(is_member, values.size)
    names = checked_owners(owners, values.size)
    if num_permutations < 19:
        raise ValueError(f"num_permutations is {num_permutations}, expected at least 19")
    rng = stream(seed, "shuffled coins")
    found = statistic(values[labels], values[~labels])
    null = np.empty(num_permutations)
    for index in range(num_permutations):
        shuffled = shuffle_coins(labels, names, rng)
        null[index] = statistic(values[shuffled], values[~shuffled])
    # A shuffle that gives the same split may differ in the last bits, by the order of summation.
    reached = int(np.count_nonzero(null >= found - 1e-12 * max(1.0, abs(found))))
    return PermutationTest(
        value=found,
        null_mean=float(null.mean()),
        null_high=float(np.quantile(null, 0.95, method="higher")),
        p_value=(1 + reached) / (1 + num_permutations),
        num_permutations=num_permutations,
    )


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
