"""What a client reports about itself, held against each record: does the record look like that client's data?

A number about a client is the same for all of its records, so alone it tells none of them from another. What can tell
is a record's own number beside it: a mean of few records lies a little nearer to each of them than to any other.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float64]
Figures = Mapping[int, Mapping[str, Mapping[str, float]]]

FIGURES = frozenset({"loss", "num_examples", "num_targets"})
"""What a client must have told to be held against its records."""
MEASURES = ("reported loss", "reported length")


def score_reported(
    figures: Figures, owners: Sequence[str], losses: Sequence[float], lengths: Sequence[int]
) -> dict[str, Scores]:
    """Scores every record by how well it fits what its owner reported first.

    Args:
        figures: by round and client: "loss" (nats per target token, mean over local steps), "num_examples" and
            "num_targets" (of all steps together).
        owners: of each record; every one of them reported in some round.
        losses: of each record under the model that the first round started from, in nats per target token.
        lengths: of each record, in target tokens.

    Returns:
        By measure of `MEASURES`: shape (num_records,), float64; higher speaks for membership.

    Guarantees:
        - Records of one owner with equal loss and length have equal scores, whatever was reported.

    Raises:
        KeyError: an owner reported nothing.

    Source: the likelihood ratio of two normal distributions. Of n records with variance s^2 the distance of a record to
        their mean has variance s^2 (1 - 1/n) if it is one of them and s^2 (1 + 1/n) if not, so log p_in / p_out is
        (1 - z^2) / n with z = distance / s, up to terms in 1/n^3. Here s is that of all records of the owner.
    """
    first = {owner: _first(figures, owner) for owner in set(owners)}
    means = {
        MEASURES[0]: {owner: told["loss"] for owner, told in first.items()},
        MEASURES[1]: {owner: told["num_targets"] / told["num_examples"] for owner, told in first.items()},
    }
    sizes = np.array([first[owner]["num_examples"] for owner in owners])
    names = np.array(owners, np.str_)
    found = {}
    for (measure, by_owner), values in zip(means.items(), (losses, lengths), strict=True):
        values_of = np.asarray(values, np.float64)
        spread = np.array([values_of[names == owner].std() for owner in owners])
        distance = np.abs(values_of - np.array([by_owner[owner] for owner in owners]))
        scaled = np.divide(distance, spread, out=np.zeros_like(distance), where=spread > 0)
        found[measure] = (1 - scaled**2) / sizes
    return found


def _first(figures: Figures, owner: str) -> Mapping[str, float]:
    for _, by_client in sorted(figures.items()):
        if owner in by_client:
            return by_client[owner]
    raise KeyError(owner)
