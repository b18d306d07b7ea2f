"""What happened to each record behind a number, as results keep it: enough to compare runs record by record.

Two audits of the same data and coins ask about the same records, and a difference between them is known far better from
pairs than from two separate samples.
"""

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from confide.audit.results import Asked, Number, OutcomeKind, Outcomes, Ranks
from confide.audit.statistics import Flags, Floats

_KEY_BYTES = 6
"""Of a record's key: numbers that every reader of JSON holds exactly, and no two of a thousand records alike."""

_NAME_CHARACTERS = 12


@dataclass(frozen=True, kw_only=True)
class RecordOutcomes:
    """What happened to each candidate.

    Attributes:
        kind: how the measure comes from the values, see `Outcomes`.
        records: the candidates' ids, each once.
        labels: the truth, shape (num_candidates,).
        values: under the model, shape (num_candidates,).
        base: under the base model; None where that cannot be.
        ranks: among how many values each one stands, where the values are exposures.
    """

    kind: OutcomeKind
    records: tuple[str, ...]
    labels: Flags = field(repr=False)
    values: Floats = field(repr=False)
    base: Floats | None = field(default=None, repr=False)
    ranks: Ranks | None = None


def keep_outcomes(
    outcomes: Sequence[RecordOutcomes | None], fingerprint: bytes
) -> tuple[dict[str, Asked], list[Outcomes | None]]:
    """Turns outcomes into parts of results.

    Args:
        outcomes: of measures, in any order; None for those without.
        fingerprint: of all data that the audit is about, not to be published: records' keys are made with it.

    Returns:
        The lists of records by their digests, each once, and what happened to them, in the order given.
    """
    asked: dict[str, Asked] = {}
    kept = [None if one is None else _kept(one, fingerprint, asked) for one in outcomes]
    return asked, kept


def _kept(found: RecordOutcomes, fingerprint: bytes, asked: dict[str, Asked]) -> Outcomes:
    keys = np.array([_key(record, fingerprint) for record in found.records], np.int64)
    order = np.argsort(keys)  # an order of its own: that of the data may tell what a record is
    members, others = (order[found.labels[order] == is_member] for is_member in (True, False))
    about = Asked(members=keys[members].tolist(), others=keys[others].tolist())
    name = hashlib.sha256(about.model_dump_json().encode()).hexdigest()[:_NAME_CHARACTERS]
    asked[name] = about
    values = np.unique(found.values, return_inverse=True)[1] if found.kind == "rank" else found.values
    return Outcomes(
        asked=name,
        kind=found.kind,
        members=_short(values[members]),
        others=_short(values[others]),
        base=None if found.base is None else _short(found.base[members]),
        ranks=found.ranks,
    )


def _key(record: str, fingerprint: bytes) -> int:
    return int.from_bytes(hmac.new(fingerprint, record.encode(), hashlib.sha256).digest()[:_KEY_BYTES])


def _short(values: Floats) -> list[Number]:
    """Four digits that count, or whole numbers."""
    rounded = [float(f"{value:.4g}") if value % 1 else int(value) for value in values.tolist()]
    return [int(value) if value == int(value) else value for value in rounded]
