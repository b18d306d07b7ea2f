"""Which clients took part, and fresh records of each: what user inference asks about."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from confide.audit.truth import Population
from confide.auditor.reader import Reader
from confide.data.examples import ClientRecords
from confide.records import RoundRecord


@dataclass(frozen=True, kw_only=True)
class Participation:
    """Clients as what is asked about.

    Attributes:
        fresh: records that nobody trained on, of every client.
        took_part: by client, whether an update of its is in some round's sum.
        is_drawn: whether chance alone decided: no client that did not take part was ever asked to.
    """

    fresh: Population = field(repr=False)
    took_part: Mapping[str, bool]
    is_drawn: bool


def find_participation(
    clients: Sequence[ClientRecords], rounds: Sequence[RoundRecord], reader: Reader, *, most_per_client: int
) -> Participation | None:
    """Gives who took part in some round; None where everybody did, so that there is nothing to tell apart.

    Args:
        clients: all of the federation.
        rounds: every round's record.
        reader: makes candidates.
        most_per_client: fresh records of each client.
    """
    members = {name for record in rounds for name in record.members}
    asked = {name for record in rounds for name in record.cohort}
    took_part = {client.name: client.name in members for client in clients}
    if all(took_part.values()):
        return None
    candidates = [
        reader.candidate(record.record_id, record, client.name)
        for client in clients
        for record in client.held_out[:most_per_client]
    ]
    fresh = Population(name="clients", candidates=tuple(one for one in candidates if one is not None))
    return Participation(fresh=fresh, took_part=took_part, is_drawn=asked == members)
