"""Flips the coins, before training: which of a client's rows and canaries go in, and which stay out.

Everything that could go in is made first, without a coin; then each item's own fair coin decides. So the items that are
in and the ones that are out have the same distribution within every client, and what an attack can tell of them, it has
from training.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from confide.canaries.forms import usual_form, whole_text
from confide.canaries.kinds.kind import CanaryKind, Place
from confide.canaries.kinds.ladder import LadderCanaries
from confide.canaries.kinds.personal import PersonalCanaries
from confide.canaries.kinds.random_tokens import RandomCanaries
from confide.canaries.kinds.reserved import ReservedCanaries
from confide.canaries.near_duplicates import find_near_duplicates
from confide.canaries.plan import Coin, CoinPlan
from confide.canaries.secret_space import SecretSpace
from confide.canaries.settings import CanarySettings
from confide.data.examples import ClientRecords, Record
from confide.errors import DataError
from confide.seeds import stream


@dataclass(frozen=True, kw_only=True)
class Flipped:
    """The clients' data as it is trained on, and the truth about it."""

    clients: tuple[ClientRecords, ...]
    plan: CoinPlan


@dataclass(frozen=True, kw_only=True)
class _Share:
    """A client's data divided by what happens to it.

    Attributes:
        coin_rows: get a coin each.
        spare_rows: are taken out for canaries that are made from the client's own rows.
    """

    client: ClientRecords
    coin_rows: tuple[Record, ...]
    spare_rows: tuple[Record, ...]
    num_pool_duplicates: int
    num_held_out_duplicates: int


def flip_coins(
    clients: Sequence[ClientRecords], settings: CanarySettings, *, reserved_tokens: Sequence[str] = ()
) -> Flipped:
    """Decides by coins which rows and canaries each client trains on.

    Args:
        clients: all of the federation, with different names and record ids.
        settings: what gets coins.
        reserved_tokens: of the base model's tokenizer; only for the kind "reserved".

    Returns:
        The clients in order. A client's training rows are the old ones, less those whose coin said "out" and those that
        canaries were made from, in their order, with the records of each canary whose coin said "in" at places drawn
        from the seed. Its held-out rows are the old ones, less those that repeat a training row.

    Guarantees:
        - Each item's coin is fair and independent of all other coins and of everything that could go in.
        - What is out, its texts and its secret, is in no client's training or held-out rows.
        - Equal arguments give equal results; two seeds give unrelated ones.

    Raises:
        DataError: a client has too few rows that nothing repeats, too few reserved tokens or other secrets are left for
            so many canaries, a record has a canary's id, or coins left a client nothing to train on.
    """
    _check_clients(clients)
    kinds = _kinds(settings, reserved_tokens)
    num_spare = settings.canaries_per_client if any(kind.needs_rows for kind in kinds.values()) else 0
    shares = _divide(clients, settings, num_spare)
    corpus = "\n".join(whole_text(row) for client in clients for row in (*client.train, *client.held_out))
    places = [
        Place(client=share.client.name, form=usual_form(share.client.train), spare_rows=share.spare_rows)
        for share in shares
    ]
    items = [_flip(_row_item(share.client.name, row), settings.seed) for share in shares for row in share.coin_rows]
    spaces: dict[str, SecretSpace] = {}
    for name, kind in kinds.items():
        invented = kind.invent(places, settings.canaries_per_client, seed=settings.seed, corpus=corpus)
        spaces[name] = invented.space
        items += [
            _flip(
                Coin(
                    item_id=canary.item_id,
                    client=canary.client,
                    kind=name,
                    included=False,
                    copies=len(canary.records),
                    records=canary.records,
                    secret=canary.secret,
                    num_choices=invented.space.size + 1,
                ),
                settings.seed,
            )
            for canary in invented.canaries
        ]
    _check_ids(clients, items)
    by_client = {share.client.name: [item for item in items if item.client == share.client.name] for share in shares}
    plan = CoinPlan(
        seed=settings.seed,
        coins=tuple(item for of_client in by_client.values() for item in of_client),
        spaces=spaces,
        pool_duplicates={share.client.name: share.num_pool_duplicates for share in shares},
        held_out_duplicates={share.client.name: share.num_held_out_duplicates for share in shares},
    )
    planted = tuple(_plant(share, by_client[share.client.name], settings.seed) for share in shares)
    return Flipped(clients=planted, plan=plan)


def _kinds(settings: CanarySettings, reserved_tokens: Sequence[str]) -> dict[str, CanaryKind]:
    """The one place that knows which name means which kind."""
    every: dict[str, CanaryKind] = {
        "personal": PersonalCanaries(),
        "random": RandomCanaries(),
        "reserved": ReservedCanaries(tokens=tuple(reserved_tokens)),
        "ladder": LadderCanaries(),
    }
    return {name: every[name] for name in settings.canary_kinds}


def _divide(clients: Sequence[ClientRecords], settings: CanarySettings, num_spare: int) -> list[_Share]:
    """Chooses the rows that get coins among those that nothing repeats, and cleans the held-out rows."""
    train = [whole_text(row) for client in clients for row in client.train]
    held_out = [whole_text(row) for client in clients for row in client.held_out]
    in_pool = iter(np.split(~find_near_duplicates(train + held_out)[: len(train)], _bounds(clients, "train")))
    is_clean = iter(np.split(~find_near_duplicates(held_out, train), _bounds(clients, "held_out")))
    shares = []
    for client in clients:
        pool = _kept(client.train, next(in_pool))
        clean = _kept(client.held_out, next(is_clean))
        num_coins = settings.records_per_client if settings.has_records else 0
        _check_pool(client, len(pool), num_coins, num_spare)
        order = stream(settings.seed, "coin rows", client.name).permutation(len(pool)).tolist()
        shares.append(
            _Share(
                client=replace(client, held_out=clean),
                coin_rows=tuple(pool[position] for position in sorted(order[:num_coins])),
                spare_rows=tuple(pool[position] for position in sorted(order[num_coins : num_coins + num_spare])),
                num_pool_duplicates=len(client.train) - len(pool),
                num_held_out_duplicates=len(client.held_out) - len(clean),
            )
        )
    return shares


def _plant(share: _Share, coins: Sequence[Coin], seed: int) -> ClientRecords:
    """A client with its training rows as the coins say."""
    client = share.client
    taken = {row.record_id for row in share.spare_rows}
    taken |= {coin.item_id for coin in coins if coin.kind == "records" and not coin.included}
    train = [row for row in client.train if row.record_id not in taken]
    rng = stream(seed, "canary places", client.name)
    for coin in coins:
        if coin.kind != "records" and coin.included:
            for record in coin.records:
                train.insert(int(rng.integers(len(train) + 1)), record)
    if not train:
        raise DataError(
            f"client {client.name} has nothing left to train on: all coins said out. Lower "
            "audit.records_per_client, or take another seed."
        )
    return replace(client, train=tuple(train))


def _row_item(client: str, row: Record) -> Coin:
    return Coin(item_id=row.record_id, client=client, kind="records", included=False, copies=1, records=(row,))


def _flip(coin: Coin, seed: int) -> Coin:
    rng = stream(seed, "coin", coin.client, coin.kind, coin.item_id)
    return replace(coin, included=bool(rng.integers(2)))


def _kept(rows: tuple[Record, ...], is_kept: npt.NDArray[np.bool_]) -> tuple[Record, ...]:
    return tuple(row for row, keeps in zip(rows, is_kept, strict=True) if keeps)


def _bounds(clients: Sequence[ClientRecords], part: str) -> list[int]:
    """Where one client's rows end and the next one's begin when they stand in a line."""
    sizes = [len(client.train if part == "train" else client.held_out) for client in clients]
    return [int(bound) for bound in np.cumsum(sizes)[:-1]]


def _check_clients(clients: Sequence[ClientRecords]) -> None:
    for client in clients:
        if not client.train:
            raise DataError(f"client {client.name} has no training row to flip coins for. Leave the client out.")


def _check_pool(client: ClientRecords, num_in_pool: int, num_coins: int, num_spare: int) -> None:
    if num_in_pool >= num_coins + num_spare:
        return
    num_repeated = len(client.train) - num_in_pool
    repeated = f", of which {num_repeated} are repeated by others (near-duplicates)" if num_repeated else ""
    spare = f" and {num_spare} for reserved-token canaries (audit.canaries_per_client)" if num_spare else ""
    raise DataError(
        f"client {client.name} has {len(client.train)} training rows{repeated}, expected at least {num_coins} for "
        f"coins (audit.records_per_client){spare}. Lower the number, or keep only the larger clients (data.clients)."
    )


def _check_ids(clients: Sequence[ClientRecords], coins: Sequence[Coin]) -> None:
    planted = {record.record_id for coin in coins if coin.kind != "records" for record in coin.records}
    for client in clients:
        for row in (*client.train, *client.held_out):
            if row.record_id in planted:
                raise DataError(
                    f"client {client.name}: the record id {row.record_id} is a canary's. Was this data planted with "
                    "canaries before? Rename the record."
                )
