"""Whether so many records could show that half of them came out, and how many could.

Half of the members is the effect of an AUC of 0.75 among rankings: half of them told for certain, and the rest guessed.
"""

from functools import lru_cache

import numpy as np
from scipy.stats import binom

from confide.audit.statistics.multiple import SIGNIFICANCE
from confide.audit.statistics.proportions import paired_proportion_difference, proportion_difference
from confide.audit.statistics.sample_size import POWER

_HALF = 0.5
_KEPT = 4096
_MAX_RECORDS = 10_000


@lru_cache(maxsize=_KEPT)  # many measures of one audit are about as many records
def finds_half(num_members: int, num_others: int, *, num_tests: int, others: int = 0, base: int | None = 0) -> bool:
    """Whether an attack that brings out half of the members would as a rule be found.

    Half of those is meant that would not come out anyway: of all where the controls bring out none.

    Args:
        num_members: how many were trained on, at least 1.
        num_others: how many were not, at least 1.
        num_tests: over how many attacks p-values are corrected by Holm's method, at least 1.
        others: how many of the others come out.
        base: how many of the members the base model brings out; None where it is not compared with.

    Returns:
        Whether with probability `POWER` both differences, from the others and from the base model, have intervals above
        zero and p-values below 0.05 also as the smallest of so many.

    Source: the tests and intervals are `proportion_difference` and `paired_proportion_difference` themselves; each
        further member that comes out makes all of them surer, so that the fewest that are enough can be looked for.
    """
    anyway = max(base or 0, round(num_members * others / num_others))
    free = num_members - anyway
    too_few, enough = -1, free + 1  # how many of the free ones come out
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        if _is_found(anyway + middle, num_members, others, num_others, base, num_tests):
            enough = middle
        else:
            too_few = middle
    return bool(binom.sf(enough - 1, free, _HALF) >= POWER)


@lru_cache(maxsize=_KEPT)
def records_for_half(*, num_tests: int, others_share: float = 0.0, base_share: float | None = 0.0) -> int | None:
    """Gives how many members, and as many others, `finds_half` needs; None if even ten thousand are too few.

    Args:
        num_tests: as for `finds_half`.
        others_share: the share of others that come out, in [0, 1].
        base_share: the share of members that the base model brings out; None where it is not compared with.

    Example:
        >>> records_for_half(num_tests=1), records_for_half(num_tests=3), records_for_half(num_tests=10)
        (12, 15, 19)
    """

    def is_enough(num: int) -> bool:
        base = None if base_share is None else round(num * base_share)
        return finds_half(num, num, num_tests=num_tests, others=round(num * others_share), base=base)

    low, high = 0, 1
    while not is_enough(high):
        low, high = high, 2 * high
        if high > _MAX_RECORDS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        if is_enough(middle):
            high = middle
        else:
            low = middle
    return high


def _is_found(came_out: int, num_members: int, others: int, num_others: int, base: int | None, num_tests: int) -> bool:
    tests = [proportion_difference(came_out, num_members, others, num_others, alternative="greater")]
    if base is not None:
        places = np.arange(num_members)
        tests.append(paired_proportion_difference(places < came_out, places < base, alternative="greater"))
    return all(test.interval.low > 0 and test.p_value * num_tests < SIGNIFICANCE for test in tests)
