"""Masks: which coordinates of an update are kept.

A mask has one bool per coordinate, True = kept. `common_mask` and `random_mask` are computed from public information
only (what the global adapter did so far, the round's public seed), so that every client has the same one, nobody has to
send it, and it tells nothing about a client. `published_mask` depends on a client's own weights and is there to compare
with.

The first two need at most 12 bytes per coordinate beyond their input, `published_mask` as many per coordinate of the
largest tensor; 100 million coordinates take seconds.
"""

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt

from confide.errors import NonFiniteUpdateError
from confide.update import Layout, Vector

Mask = npt.NDArray[np.bool_]
_Keys = npt.NDArray[np.uint32]

_TieBreaker = Callable[[Mask, int], Mask]  # from the candidates and a number, so many of them


def common_mask(accumulated: Vector, num_kept: int, *, exploration: float, rng: np.random.Generator) -> Mask:
    """Keeps the coordinates that the global adapter moved most, and a seeded share of all others.

    Args:
        accumulated: the accumulated global update that every client knows, flat float32, finite. All zero, as before
            the first round, makes the mask purely seeded.
        num_kept: how many coordinates to keep, 1 to all.
        exploration: the share of the kept places, 0 to 1, that is not given by magnitude but drawn evenly among the
            other coordinates; rounded to whole places, a half up, but at least one place if it is above 0.
        rng: a public stream of the round, the same at every client: `stream(seed, "mask", round_number)`.

    Returns:
        A mask with exactly `num_kept` coordinates kept.

    Guarantees:
        - Equal arguments give equal bits on every machine: magnitudes are compared as integers, and random numbers are
          taken from the stream as it is specified.
        - The `num_kept - explored` largest magnitudes are kept; among equal ones the stream decides.
        - With `exploration` above 0 no coordinate is shut out for ever. One outside the top part is kept in a round
          with probability p = explored / (num_values - num_kept + explored), so it waits 1/p rounds on average and
          longer than r rounds with probability (1 - p)^r. With a tenth of the places explored:

              sparsity    p       rounds to wait, mean    more than (1 in 1000)
              0.5         0.091   11                      73
              0.9         0.011   91                      626

    Raises:
        NonFiniteUpdateError: `accumulated` holds NaN or infinity.
        ValueError: a number is out of its range.
    """
    _check_vector(accumulated)
    _check_count(num_kept, accumulated.size)
    num_explored = explored_count(num_kept, exploration)
    draw = partial(_draw, rng=rng)
    mask = _largest(accumulated, num_kept - num_explored, draw)
    mask |= draw(~mask, num_explored)
    return mask


def random_mask(num_values: int, num_kept: int, rng: np.random.Generator) -> Mask:
    """Keeps `num_kept` coordinates, every set of that size with the same probability.

    Args:
        num_values: the length of the mask.
        num_kept: 1 to `num_values`.
        rng: a public stream of the round; see `common_mask`. Equal streams give equal bits on every machine.

    Raises:
        ValueError: `num_kept` is out of its range.
    """
    _check_count(num_kept, num_values)
    return _draw(np.ones(num_values, np.bool_), num_kept, rng)


def published_mask(weights: Vector, layout: Layout, sparsity: float) -> Mask:
    """Keeps the largest magnitudes of every tensor apart, as the published code does with a client's own weights.

    Args:
        weights: a client's adapter, not its update, flat float32 over `layout`, finite.
        layout: where the tensors lie.
        sparsity: share of every tensor that is dropped, 0 to 1; the number is rounded as Python's `round` does, a half
            to the even neighbour.

    Guarantees:
        - In every tensor the same coordinates are kept as by `torch.nn.utils.prune.l1_unstructured` with this amount.
          Where magnitudes are equal that function leaves open which go; here the earlier ones stay.

    Raises:
        LayoutMismatchError: `weights` does not fit the layout.
        NonFiniteUpdateError: `weights` holds NaN or infinity.
        ValueError: `sparsity` is out of its range.

    Source: FedShield-LLM's published code, `prune_utils.py`: L1 masks per tensor, on weights.
    """
    layout.check(weights)
    _check_vector(weights)
    if not 0 <= sparsity <= 1:
        raise ValueError(f"sparsity is {sparsity}, expected 0 to 1")
    mask = np.empty(weights.size, np.bool_)
    for slot in layout:
        place = layout.slice_of(slot.name)
        mask[place] = _largest(weights[place], slot.size - round(sparsity * slot.size), _first)
    return mask


def explored_count(num_kept: int, exploration: float) -> int:
    """Gives how many of `num_kept` places `common_mask` draws instead of giving them by magnitude.

    Raises:
        ValueError: `exploration` is out of its range, 0 to 1.
    """
    if not 0 <= exploration <= 1:
        raise ValueError(f"exploration is {exploration}, expected 0 to 1")
    return max(1, math.floor(exploration * num_kept + 0.5)) if exploration > 0 else 0


def _largest(values: Vector, count: int, break_tie: _TieBreaker) -> Mask:
    """Keeps the `count` largest magnitudes."""
    if count == 0:
        return np.zeros(values.size, np.bool_)
    keys = _magnitude_keys(values)
    keys.partition(values.size - count)
    threshold = keys[values.size - count]
    keys = _magnitude_keys(values)  # anew: partition moved them, and a copy would be kept for nothing
    mask: Mask = keys > threshold
    ties: Mask = keys == threshold
    del keys
    mask |= break_tie(ties, count - int(np.count_nonzero(mask)))
    return mask


def _magnitude_keys(values: Vector) -> _Keys:
    """The bits of a float32 without its sign: integers in the order of the magnitudes.

    Unlike floats they compare alike on every machine, also where subnormal numbers are set to count as zero.
    """
    keys: _Keys = np.ascontiguousarray(values).view(np.uint32) & np.uint32(0x7FFF_FFFF)
    return keys


def _first(candidates: Mask, count: int) -> Mask:
    """Keeps the first `count` of the candidates."""
    mask = np.zeros(candidates.size, np.bool_)
    mask[np.flatnonzero(candidates)[:count]] = True
    return mask


def _draw(candidates: Mask, count: int, rng: np.random.Generator) -> Mask:
    """Keeps `count` of the candidates: those with the smallest tickets, and of equal tickets the earlier ones."""
    num_candidates = int(np.count_nonzero(candidates))
    if count == num_candidates:
        return candidates
    mask = np.zeros(candidates.size, np.bool_)
    if count > 0:
        tickets = _tickets(num_candidates, rng)
        threshold = np.partition(tickets, count - 1)[count - 1]
        drawn = tickets < threshold
        missing = count - int(np.count_nonzero(drawn))
        drawn[np.flatnonzero(tickets == threshold)[:missing]] = True
        mask[candidates] = drawn
    return mask


def _tickets(count: int, rng: np.random.Generator) -> _Keys:
    """Independent even 32-bit numbers.

    Taken from the bit generator itself: numpy promises that its output stays the same from release to release, which it
    does not of the methods of `Generator`.
    """
    words = rng.bit_generator.random_raw((count + 1) // 2)
    return words.astype("<u8", copy=False).view("<u4")[:count]


def _check_vector(values: Vector) -> None:
    if not np.isfinite(values).all():
        raise NonFiniteUpdateError("a mask cannot be made by magnitude: a value is NaN or infinite")


def _check_count(num_kept: int, num_values: int) -> None:
    if not 1 <= num_kept <= num_values:
        raise ValueError(f"num_kept is {num_kept}, expected 1 to {num_values}, the number of coordinates")
