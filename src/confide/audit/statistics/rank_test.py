"""The Mann-Whitney test with its exact distribution, ties included, and the normal one for large samples."""

import math

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr
from scipy.stats import rankdata

from confide.audit.statistics.scores import Floats, checked_groups

MAX_EXACT_STEPS = 2e7
"""How many additions the exact distribution may cost, less than 0.1 s: that is 50 and 50 records without ties, 10 and
430, or hundreds with two values only."""

_Ranks = npt.NDArray[np.int64]


def rank_p_value(members: npt.ArrayLike, non_members: npt.ArrayLike) -> float:
    """Gives the p-value of "AUC = 0.5" against "members score higher", in (0, 1].

    Under the null hypothesis every choice of which records are the members is equally likely; the p-value is the share
    of choices with a rank sum as large as the true one.

    Args:
        members: scores, shape (num_members,).
        non_members: scores, shape (num_non_members,).

    Guarantees:
        - Exact, with ties, as long as that costs no more than `MAX_EXACT_STEPS`; beyond, a normal approximation with
          the variance corrected for ties and a continuity correction of half a step of the rank sum. (Half a unit, as
          usual, would be far too little for scores with two values, whose rank sum jumps by half the sample.)

    Raises:
        DataError, RunError, ValueError: as `checked_vector`.

    Source: Mann and Whitney 1947; Lehmann 1975, "Nonparametrics", sections 1.2 to 1.4 (midranks, ties).
    """
    above, below = checked_groups(members, non_members)
    doubled = np.rint(2 * rankdata(np.concatenate([above, below]))).astype(np.int64)  # midranks are whole or half
    if doubled.min() == doubled.max():
        return 1.0
    step = int(np.gcd.reduce(doubled - doubled.min()))
    ranks = (doubled - doubled.min()) // step  # from 0, in whole steps of the rank sum
    observed = int(ranks[: above.size].sum())
    if above.size > below.size:  # the same choices, seen from the smaller group: P(members >= s) = P(others <= rest)
        return _tail(int(ranks.max()) - ranks, below.size, int((ranks.max() - ranks[above.size :]).sum()))
    return _tail(ranks, above.size, observed)


def _tail(ranks: _Ranks, num_chosen: int, observed: int) -> float:
    """The probability that `num_chosen` of the ranks, drawn without replacement, add up to `observed` or more."""
    largest = int(np.sort(ranks)[-num_chosen:].sum())
    if float(num_chosen) * (largest + 1) * ranks.size > MAX_EXACT_STEPS:
        return _normal_tail(ranks, num_chosen, observed)
    chances = _sum_chances(ranks, num_chosen, largest)
    return float(min(1.0, max(chances[observed:].sum(), np.finfo(np.float64).tiny)))


def _sum_chances(ranks: _Ranks, num_chosen: int, largest: int) -> Floats:
    """The chance of every sum 0 .. `largest`, going through the records and drawing or leaving each.

    Chances, not numbers of choices: those overflow from about 1,030 records on.
    """
    chances = np.zeros((num_chosen + 1, largest + 1))  # of having drawn so many, with this sum, so far
    chances[0, 0] = 1.0
    already = np.arange(num_chosen + 1)[:, None]
    for position, rank in enumerate(ranks.tolist()):
        drawing = np.clip((num_chosen - already) / (ranks.size - position), 0.0, 1.0)
        drawn = chances * drawing
        chances -= drawn
        chances[1:, rank:] += drawn[:-1, : largest + 1 - rank]
    all_drawn: Floats = chances[num_chosen]
    return all_drawn


def _normal_tail(ranks: _Ranks, num_chosen: int, observed: int) -> float:
    num = ranks.size
    mean = num_chosen * float(ranks.mean())
    variance = num_chosen * (num - num_chosen) / (num * (num - 1)) * float(np.square(ranks - ranks.mean()).sum())
    p_value = float(ndtr(-(observed - mean - 0.5) / math.sqrt(variance)))
    return max(p_value, np.finfo(np.float64).tiny)
