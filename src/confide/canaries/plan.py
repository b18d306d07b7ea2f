"""What the coins said: the truth that only scorers may read, as it is kept on disk."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import TypeAdapter, ValidationError

from confide.canaries.secret_space import SecretSpace
from confide.data.examples import Record
from confide.errors import RunDirectoryError


@dataclass(frozen=True, kw_only=True)
class Coin:
    """One item and how its coin fell.

    Attributes:
        item_id: unique within the run; of a client's own row its `record_id`.
        client: whose training data it goes into, or would have.
        kind: of `KINDS`.
        included: whether it went in; fair and independent of all others.
        copies: how many records it has: 1, or the number of notes about a person.
        records: what went in if included, and is nowhere in training or held-out data otherwise. The first is the form
            that attackers are asked about.
        secret: the planted value, in every one of the records; None for a client's own row.
        num_choices: from how many secrets this one could have come, itself included; None without a secret.
    """

    item_id: str
    client: str
    kind: str
    included: bool
    copies: int
    records: tuple[Record, ...] = field(repr=False)
    secret: str | None = field(default=None, repr=False)
    num_choices: int | None = None


@dataclass(frozen=True, kw_only=True)
class CoinPlan:
    """All coins of a run.

    Attributes:
        seed: of the coins.
        coins: client by client in the order of the data, kinds in the order of `KINDS`.
        spaces: by kind that has secrets: what a secret could have been instead, for exposure.
        pool_duplicates: by client: how many training rows got no chance of a coin, because another training or held-out
            row of any client repeats them.
        held_out_duplicates: by client: how many held-out rows were removed, because a training row of any client
            repeats them.
    """

    seed: int
    coins: tuple[Coin, ...]
    spaces: Mapping[str, SecretSpace] = field(default_factory=dict)
    pool_duplicates: Mapping[str, int] = field(default_factory=dict)
    held_out_duplicates: Mapping[str, int] = field(default_factory=dict)

    def to_json(self) -> str:
        """The plan as JSON text."""
        return _ADAPTER.dump_json(self, indent=1).decode()

    @staticmethod
    def from_json(text: str) -> "CoinPlan":
        """Reads a plan back.

        Raises:
            RunDirectoryError: the text is no plan.
        """
        try:
            return _ADAPTER.validate_json(text)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            place = ".".join(map(str, first["loc"])) or "the text"
            raise RunDirectoryError(
                f"the plan of coins cannot be read: {place}: {first['msg']}. Train again with canaries, or audit "
                "without."
            ) from None  # the cause holds data


_ADAPTER = TypeAdapter(CoinPlan)
