"""Whether so many records could show in a mean that half of the members came out whole, and how many could.

Beside controls that are above nothing, and spread, the same half moves a mean less than a share: exposure is 1.44 bits
on average where nothing was learnt. So samples are drawn from the controls that were seen.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.stats import binom

from confide.audit.statistics.drawn_means import Comparisons, compare_means, compare_paired_means
from confide.audit.statistics.multiple import SIGNIFICANCE
from confide.audit.statistics.sample_size import POWER
from confide.seeds import stream

NUM_SAMPLES = 200
_KEPT = 1024
_MAX_RECORDS = 4096
_FINE = 32  # how many are needed is said to this part of the number


@dataclass(frozen=True, kw_only=True)
class MeanControls:
    """What a mean is compared with, and what it could be at most.

    Attributes:
        others: the value of each record that was not trained on, at least one.
        most: the most that each member could show, at least one.
        base: each member's value under the base model, in the order of `most`; None where that is not compared with.
        bound: what no value is above, > 0, where none is below 0 either; None where there is no such bound.
    """

    others: tuple[float, ...]
    most: tuple[float, ...]
    base: tuple[float, ...] | None
    bound: float | None


def finds_half_in_mean(num_members: int, num_others: int, controls: MeanControls, *, num_tests: int) -> bool:
    """Whether an attack that gets the most out of half of the members would as a rule be found.

    Args:
        num_members: how many were trained on, at least 2.
        num_others: how many were not, at least 2.
        controls: as they were seen.
        num_tests: over how many attacks p-values are corrected by Holm's method, at least 1.

    Returns:
        Whether in a share of `POWER` of `NUM_SAMPLES` drawn samples both differences, from the others and from the base
        model, have intervals above zero and p-values below 0.05 also as the smallest of so many. In a sample each
        member comes out whole with probability 1/2, and has one of the others' values otherwise, but never more than
        it could show; the others have theirs, and the base model its own.

    Guarantees:
        - The same arguments give the same answer, and more tests never turn false into true.
    """
    found = _drawn(num_members, num_others, controls)
    return bool(np.mean((found.low > 0) & (found.p_values * num_tests < SIGNIFICANCE)) >= POWER)


@lru_cache(maxsize=_KEPT)
def records_for_half_in_mean(too_few: int, controls: MeanControls, *, num_tests: int) -> int | None:
    """Gives how many members, and as many others, `finds_half_in_mean` needs; None if even some thousand are too few.

    Args:
        too_few: so many of each are known to be too few, at least 1.
        controls: as they were seen.
        num_tests: as for `finds_half_in_mean`.

    Returns:
        A number with which it is found, at most one, or one part in 32, above one with which it is not.
    """
    if any(np.mean(one) >= np.mean(controls.most) for one in (controls.others, controls.base) if one is not None):
        return None  # also if all members came out whole
    low, high = too_few, max(2, 2 * too_few)
    while not finds_half_in_mean(high, high, controls, num_tests=num_tests):
        low, high = high, 2 * high
        if high > _MAX_RECORDS:
            return None
    while high - low > max(1, low // _FINE):
        middle = (low + high) // 2
        if finds_half_in_mean(middle, middle, controls, num_tests=num_tests):
            high = middle
        else:
            low = middle
    return high


@lru_cache(maxsize=_KEPT)
def _drawn(num_members: int, num_others: int, controls: MeanControls) -> Comparisons:
    """The weaker one of both comparisons in each sample."""
    rng = stream(0, "power of means")
    seen, most = np.array(controls.others), np.array(controls.most)
    others = rng.choice(seen, (NUM_SAMPLES, num_others))
    which = rng.integers(most.size, size=(NUM_SAMPLES, num_members))
    # As many come out as in a sample of each quantile: that number alone would else decide most of the answer.
    num_out = binom.ppf((np.arange(NUM_SAMPLES) + 0.5) / NUM_SAMPLES, num_members, 0.5)
    has_come_out = np.arange(num_members) < num_out[:, None]  # (NUM_SAMPLES, num_members)
    members = np.where(has_come_out, np.inf, rng.choice(seen, which.shape))
    members = np.minimum(members, most[which])
    found = compare_means(members, others, bound=controls.bound)
    if controls.base is None:
        return found
    beside_base = compare_paired_means(members, np.array(controls.base)[which], bound=controls.bound)
    return Comparisons(
        low=np.minimum(found.low, beside_base.low), p_values=np.maximum(found.p_values, beside_base.p_values)
    )
