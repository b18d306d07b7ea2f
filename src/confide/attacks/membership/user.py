"""M18: was a client part of the training? Its records are enough, also such as were never trained on.

The unit is the client, so this stands apart from the attacks on records: its scores are one per owner, and what they
are compared with are clients that took no part.
"""

from dataclasses import dataclass

import numpy as np

from confide.attacks.membership.positions import Positions, Scores
from confide.attacks.membership.reference import difference_scores
from confide.attacks.membership.seen import Seen


@dataclass(frozen=True, kw_only=True)
class UserScores:
    """One score per owner.

    Attributes:
        owners: in the order of their first record.
        scores: shape (num_owners,), in nats per token; higher = took part.
        num_records: behind each score, shape (num_owners,).
    """

    owners: tuple[str, ...]
    scores: Scores
    num_records: tuple[int, ...]


def user_scores(seen: Seen, positions: Positions = "targets") -> UserScores:
    """Gives, for every owner, the mean over its records of the loss's fall from the base to the final model.

    Args:
        seen: only fresh records, of clients that may have taken part and of others of the same kind; records that were
            trained on would measure records, not clients.
        positions: which tokens.

    Guarantees:
        - Every record of an owner counts the same, however long.
        - All scores are 0 if the final model is the base model.

    Source: Kandpal et al. 2024, "User Inference Attacks on Large Language Models", its test statistic with the mean
        log-likelihood ratio.
    """
    falls = difference_scores(seen, positions)
    owners = tuple(dict.fromkeys(seen.owners))
    masks = [np.array([owner == name for owner in seen.owners], np.bool_) for name in owners]
    return UserScores(
        owners=owners,
        scores=np.array([falls[mask].mean() for mask in masks], np.float64),
        num_records=tuple(int(mask.sum()) for mask in masks),
    )
