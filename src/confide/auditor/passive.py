"""Questions without coins: what was trained on against what was not, as far as the two can be told apart."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from confide.canaries.forms import whole_text
from confide.canaries.near_duplicates import find_near_duplicates
from confide.canaries.plan import Coin
from confide.data.examples import ClientRecords, Record

KIND = "records"
NOBODY = "the data's owner"
"""Who owns records that name no client."""


@dataclass(frozen=True, kw_only=True)
class Passive:
    """Records as if coins had decided.

    Attributes:
        coins: one for each record that is asked about.
        num_duplicates: how many that were not trained on were left out, because one that was repeats them.
        names: what the data calls a coin's item, where the item's own id is another.
    """

    coins: tuple[Coin, ...]
    num_duplicates: int
    names: Mapping[str, str] = field(default_factory=dict)


def passive_coins(
    clients: Sequence[ClientRecords], most_per_client: int, *, read: Mapping[str, frozenset[str]]
) -> Passive:
    """Training rows against held-out rows of the same client.

    Args:
        clients: as trained on.
        most_per_client: rows of each kind of each client.
        read: by client, the ids of the training rows that training came to.
    """
    unlike = _unlike(
        [record for client in clients for record in client.held_out],
        [record for client in clients for record in client.train],
    )
    coins: list[Coin] = []
    num_held_out = 0
    for client in clients:
        reached = [record for record in client.train if record.record_id in read[client.name]]
        num_held_out += len(client.held_out)
        others = [record for record in client.held_out if record.record_id in unlike]
        for is_member, records in ((True, reached), (False, others)):
            coins += [_coin(record.record_id, record, client.name, is_member) for record in records[:most_per_client]]
    return Passive(coins=tuple(coins), num_duplicates=num_held_out - len(unlike))


def claimed_coins(members: Sequence[Record], non_members: Sequence[Record]) -> Passive:
    """Records that the user says were trained on, against such that were not.

    A record's own id may be its place in the file of members: items are numbered in an order that tells nothing.
    """
    unlike = _unlike(non_members, members)
    others = [record for record in non_members if record.record_id in unlike]
    marked = [(record, True) for record in members] + [(record, False) for record in others]
    marked.sort(key=lambda one: hashlib.sha256(whole_text(one[0]).encode()).digest())
    coins = []
    names = {}
    for number, (record, is_member) in enumerate(marked, start=1):
        item_id = f"record-{number:05d}"
        names[item_id] = record.record_id
        coins.append(_coin(item_id, record, record.client or NOBODY, is_member))
    return Passive(coins=tuple(coins), num_duplicates=len(non_members) - len(others), names=names)


def _unlike(records: Sequence[Record], others: Sequence[Record]) -> frozenset[str]:
    """The ids of records that none of the others repeats."""
    repeated = find_near_duplicates([whole_text(one) for one in records], [whole_text(one) for one in others])
    return frozenset(record.record_id for record, is_in in zip(records, repeated.tolist(), strict=True) if not is_in)


def _coin(item_id: str, record: Record, client: str, is_member: bool) -> Coin:
    return Coin(item_id=item_id, client=client, kind=KIND, included=is_member, copies=1, records=(record,))
