"""E7: what the models of all rounds give away together. A client has every one of them, not only the last."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, kw_only=True)
class UnionOverRounds:
    """What came out over all rounds.

    Attributes:
        is_extracted: shape (num_records,), bool; in some round.
        rates: shape (num_rounds,), float64; the share of records that came out in each round.
        union_rate: the share that came out in some round; at least the largest of `rates`.
        best_round: the round with the largest rate; the first of equals.
    """

    is_extracted: npt.NDArray[np.bool_]
    rates: npt.NDArray[np.float64]
    union_rate: float
    best_round: int

    @property
    def best_rate(self) -> float:
        """The largest share of any single round."""
        return float(self.rates.max())


def unite_rounds(is_extracted: npt.NDArray[np.bool_], rounds: tuple[int, ...]) -> UnionOverRounds:
    """Puts together which records each round's model gave away.

    Args:
        is_extracted: shape (num_rounds, num_records), at least one of each; the same records in the same order.
        rounds: the rounds' numbers, in the order of the rows.

    Raises:
        ValueError: the shapes do not fit, or there is nothing.

    Source: Rashid et al. 2023, "FLTrojan" (rounds before the last give away more), here without any tampering.
    """
    if is_extracted.ndim != 2 or is_extracted.size == 0 or is_extracted.shape[0] != len(rounds):
        raise ValueError(f"shape {is_extracted.shape} for {len(rounds)} rounds, expected (num_rounds, num_records)")
    rates = is_extracted.mean(axis=1)
    union: npt.NDArray[np.bool_] = np.any(is_extracted, axis=0)
    return UnionOverRounds(
        is_extracted=union,
        rates=rates,
        union_rate=float(union.mean()),
        best_round=rounds[int(np.argmax(rates))],
    )


def best_over_rounds(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Gives each record's largest value over the rounds, such as its ROUGE-L, shape (num_records,).

    The largest of many is larger than the last by chance alone: compare it with the same maximum over held-out records.

    Args:
        values: shape (num_rounds, num_records), at least one round.

    Raises:
        ValueError: a value is NaN.
    """
    if np.isnan(values).any():
        raise ValueError("a value is NaN; every record needs one in every round")
    best: npt.NDArray[np.float64] = values.max(axis=0)
    return best
