"""E7: what the models of all rounds give away together. A client has every one of them, not only the last."""

import numpy as np
import numpy.typing as npt


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
