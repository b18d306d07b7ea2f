"""What all kinds of canaries share: the places they are made for, and what is made."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from confide.canaries.forms import Form
from confide.canaries.secret_space import SecretSpace
from confide.data.examples import Record


@dataclass(frozen=True, kw_only=True)
class Place:
    """One client, as far as canaries need to know it.

    Attributes:
        form: that most of its training rows have.
        spare_rows: training rows that were set aside for kinds that make canaries from the client's own.
    """

    client: str
    form: Form
    spare_rows: tuple[Record, ...] = field(default=(), repr=False)


@dataclass(frozen=True, kw_only=True)
class Canary:
    """Something to plant, before its coin is flipped.

    Attributes:
        item_id: unique within the run.
        records: what goes in if the coin says so; the first is the form that attackers are asked about.
        secret: what they hold that nothing else does.
    """

    item_id: str
    client: str
    records: tuple[Record, ...] = field(repr=False)
    secret: str = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Invented:
    """All canaries of one kind, and what their secrets could have been instead."""

    canaries: tuple[Canary, ...]
    space: SecretSpace


class CanaryKind(Protocol):
    """A kind of canary.

    Laws: every place gets the same number of canaries; secrets are pairwise different, and no secret stands in the
    corpus or in another canary; the space holds none of them; the same arguments give the same canaries. Nothing
    depends on coins, which are flipped later.
    """

    needs_rows: bool
    """Whether canaries are made from the places' spare rows, one row each."""

    def invent(self, places: Sequence[Place], num_per_place: int, *, seed: int, corpus: str) -> Invented:
        """Makes canaries, place after place.

        Args:
            places: the clients.
            num_per_place: >= 1; where `needs_rows`, every place has as many spare rows.
            seed: of all draws.
            corpus: all text of all clients, where no secret may stand.

        Raises:
            DataError: there are not enough different secrets.
        """


def canary_id(kind: str, client: str, index: int) -> str:
    """The item id of a client's canary, from 0."""
    return f"canary-{kind}-{client}-{index:03d}"
