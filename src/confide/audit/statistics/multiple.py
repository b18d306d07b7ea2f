"""Several tests at once: how small p-values must be when the smallest of many is what gets reported."""

import numpy as np
import numpy.typing as npt

from confide.audit.statistics.scores import Floats

SIGNIFICANCE = 0.05
"""Below it a corrected p-value rules out chance."""


def holm(p_values: npt.ArrayLike) -> Floats:
    """Gives Holm's adjusted p-values, shape (num_tests,), in the order of the arguments.

    Args:
        p_values: of all tests that were run, also the ones nobody will mention, shape (num_tests,), each in [0, 1].

    Guarantees:
        - Rejecting what is at most 0.05 rejects any true null hypothesis with probability at most 0.05, whatever the
          dependence between the tests.
        - No adjusted value is smaller than its p-value or larger than 1; the order stays.

    Raises:
        ValueError: one is NaN or outside [0, 1]; or there is more than one dimension.

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure".
    """
    given = np.asarray(p_values, np.float64)
    if given.ndim != 1:
        raise ValueError(f"p_values has shape {given.shape}, expected one dimension")
    num_bad = int(np.count_nonzero(~((given >= 0) & (given <= 1))))
    if num_bad:
        raise ValueError(f"{num_bad} of {given.size} p-values are NaN or outside 0 to 1")
    order = np.argsort(given, kind="stable")
    scaled = given[order] * np.arange(given.size, 0, -1)
    adjusted = np.empty_like(given)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(scaled))
    return adjusted
