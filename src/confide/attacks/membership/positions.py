"""Which positions of a record a score reads: what was trained on, or the prompt as well."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from confide.attacks.token_stats import TokenStats
from confide.errors import DataError

Positions = Literal["targets", "all"]
"""Only where training takes its loss (the response), or every predicted token, the prompt's too."""

Scores = npt.NDArray[np.float64]


def chosen(stats: TokenStats, positions: Positions) -> npt.NDArray[np.bool_]:
    """Gives the mask of the positions to read, shape (num_tokens - 1,), at least one True.

    Raises:
        DataError: there is none: the record has a single token, or no target.
    """
    mask = stats.is_target if positions == "targets" else np.ones_like(stats.is_target)
    if not mask.any():
        raise DataError(
            f"a record of {stats.is_target.size} predicted tokens has none to read (positions: {positions}). "
            "Ask only about records that training takes a loss on."
        )
    return mask


def log_probs(stats: TokenStats, positions: Positions) -> Scores:
    """Gives the log-probabilities at the chosen positions, in nats, shape (num_chosen,)."""
    return stats.logp[chosen(stats, positions)].astype(np.float64)


def mean_log_probs(records: Sequence[TokenStats], positions: Positions) -> Scores:
    """Gives each record's mean log-probability in nats per token (minus its loss), shape (num_records,)."""
    return np.array([log_probs(stats, positions).mean() for stats in records], np.float64)


def log_prob_changes(final: TokenStats, base: TokenStats, positions: Positions) -> Scores:
    """Gives how much likelier each chosen token became, in nats, shape (num_chosen,); of the same record's stats."""
    return log_probs(final, positions) - log_probs(base, positions)
