"""Schedules: the sparsity of a round, constant or rising over the rounds.

Sparsity is the share of an update's coordinates that are dropped, 0 to 1. `kept_count` makes a number of coordinates of
it; which ones they are is chosen in `confide.prune.masks`.
"""

import math
from dataclasses import dataclass
from typing import Protocol


class SparsitySchedule(Protocol):
    """Gives the sparsity of every round.

    Laws:
        - The result is in [0, 1) for every round from 1, also after the last round it was made for.
        - It depends on the round alone, so that every party computes the same.
    """

    def sparsity(self, round_number: int) -> float:
        """The share of coordinates dropped in round `round_number`, counted from 1."""
        ...


@dataclass(frozen=True, kw_only=True)
class ConstantSparsity:
    """The same sparsity in every round.

    Attributes:
        target: the sparsity, in [0, 1); 0 keeps everything.

    Raises:
        ValueError: `target` is out of its range.
    """

    target: float

    def __post_init__(self) -> None:
        _check_share("target", self.target)

    def sparsity(self, round_number: int) -> float:
        """See `SparsitySchedule.sparsity`."""
        _check_round(round_number)
        return self.target


@dataclass(frozen=True, kw_only=True)
class RampSparsity:
    """No pruning at first, then a straight line from an initial sparsity to a target, which is then held.

    With t = `round_number` - 1, the rounds gone by: 0 while t < `start_round`, then
    (t - start_round) / (end_round - start_round) * (target - initial_sparsity) + initial_sparsity, at most `target`.

    The paper counts its rounds from 0, and so do its start and end: both are numbers of rounds gone by. As there, a run
    of 200 rounds with its (40, 200, 0.2, 0.5) starts with 40 unpruned rounds, and its last one, t = 199, has 0.498: the
    target would be reached in round 201. Unlike there, it is not passed after that; the published code goes on rising
    and fails in round 468, where it would drop more than everything.

    Attributes:
        start_round: how many rounds go by unpruned, >= 0; may be a fraction, see `scaled_ramp`.
        end_round: after how many rounds the target is reached, more than `start_round`.
        initial_sparsity: of the first pruned round, in [0, 1).
        target: of all rounds after `end_round`, from `initial_sparsity` to below 1.

    Raises:
        ValueError: a number is out of its range.

    Source: FedShield-LLM's published code, with the defaults above; QuanCrypt-FL, equation 3.
    """

    start_round: float
    end_round: float
    initial_sparsity: float
    target: float

    def __post_init__(self) -> None:
        _check_share("initial_sparsity", self.initial_sparsity)
        _check_share("target", self.target)
        if self.target < self.initial_sparsity:
            raise ValueError(f"target is {self.target}, expected at least initial_sparsity, {self.initial_sparsity}")
        if not 0 <= self.start_round < self.end_round:
            raise ValueError(
                f"start_round is {self.start_round} and end_round {self.end_round}, expected 0 <= start < end"
            )

    def sparsity(self, round_number: int) -> float:
        """See `SparsitySchedule.sparsity`."""
        _check_round(round_number)
        gone_by = round_number - 1
        if gone_by < self.start_round:
            return 0.0
        if gone_by >= self.end_round:
            return self.target
        progress = (gone_by - self.start_round) / (self.end_round - self.start_round)
        # The last rounding of the line could step over the target by one unit.
        return min(progress * (self.target - self.initial_sparsity) + self.initial_sparsity, self.target)


def scaled_ramp(num_rounds: int, *, initial_sparsity: float = 0.2, target: float = 0.5) -> RampSparsity:
    """Gives the paper's ramp for a run of any length: a fifth of the rounds unpruned, the line over the others.

    Args:
        num_rounds: the rounds of the whole run, >= 1. With 200 it is the paper's own (40, 200).
        initial_sparsity: of the first pruned round, in [0, 1); the default is the paper's.
        target: what the line leads to, never quite reached within the run; the default is the paper's.

    Guarantees:
        - Round r of this run has the sparsity that the line over 200 rounds has at t = 200 (r - 1) / num_rounds, up to
          rounding; the start is not rounded to whole rounds.

    Raises:
        ValueError: a number is out of its range.
    """
    if num_rounds < 1:
        raise ValueError(f"num_rounds is {num_rounds}, expected at least 1")
    return RampSparsity(
        start_round=num_rounds / 5, end_round=num_rounds, initial_sparsity=initial_sparsity, target=target
    )


def kept_count(num_values: int, sparsity: float) -> int:
    """Gives how many of `num_values` coordinates, at least 1, are kept at a sparsity in [0, 1]: a half is rounded up.

    Guarantees:
        - At least one is kept, and at most all.
        - No more is kept at a higher sparsity.

    Raises:
        ValueError: a number is out of its range.
    """
    if num_values < 1:
        raise ValueError(f"num_values is {num_values}, expected at least 1: nothing can be kept of nothing")
    if not 0 <= sparsity <= 1:
        raise ValueError(f"sparsity is {sparsity}, expected 0 to 1")
    return max(1, math.floor(num_values - sparsity * num_values + 0.5))


def _check_share(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise ValueError(f"{name} is {value}, expected at least 0 and less than 1: at 1 nothing would be left to send")


def _check_round(round_number: int) -> None:
    if round_number < 1:
        raise ValueError(f"round_number is {round_number}; rounds are counted from 1")
