"""Which records a model had better read together, because they begin alike.

The alternatives to a planted secret are the same record with another number in it, so most of a model's work on each is
the same. Read as a family, the common beginning is read once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

Tokens = npt.NDArray[np.int64]

_PASS = 32  # what one more pass of a model costs, in tokens: small batches use a processor badly


@dataclass(frozen=True, kw_only=True)
class Family:
    """Some records, and how many tokens all of them begin with; each has at least one more.

    Attributes:
        members: places in the sequence that was divided, one or more.
        num_shared: 0 for a record that is read alone.
    """

    members: tuple[int, ...]
    num_shared: int


def divide_into_families(records: Sequence[Tokens], *, largest: int) -> list[Family]:
    """Divides records so that a model reads as few tokens as can be; families take records that sort together.

    Args:
        records: token ids, shape (num_tokens,) each, at least one token.
        largest: the most members of a family, >= 1.

    Returns:
        Families that have every record once. Those that share too little to be worth a pass of their own are alone.
    """
    order = sorted(range(len(records)), key=lambda place: tuple(records[place].tolist()))
    shared = [_num_shared(records[one], records[other]) for one, other in pairwise(order)]
    # least[n]: the fewest tokens for the first n in order; last[n]: the family that ends there.
    least, last = [0.0], list[Family]()
    for stop in range(1, len(order) + 1):
        longest = records[order[stop - 1]].size
        best, family = least[stop - 1] + longest, Family(members=(order[stop - 1],), num_shared=0)
        beginning = longest
        for start in range(stop - 2, max(stop - largest, 0) - 1, -1):
            longest, beginning = max(longest, records[order[start]].size), min(beginning, shared[start])
            if beginning == 0:
                break
            cost = least[start] + _PASS + beginning + (stop - start) * (longest - beginning)
            if cost < best:
                best, family = cost, Family(members=tuple(order[start:stop]), num_shared=beginning)
        least.append(best)
        last.append(family)
    families, stop = [], len(order)
    while stop:
        families.append(last[stop - 1])
        stop -= len(families[-1].members)
    return families[::-1]


def _num_shared(one: Tokens, other: Tokens) -> int:
    """How many tokens two records begin with, and each has another behind them."""
    size = min(one.size, other.size) - 1
    differs = np.flatnonzero(one[:size] != other[:size])
    return int(differs[0]) if differs.size else size
