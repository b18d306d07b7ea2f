"""Divides records among clients, and each client's records into training and held-out ones.

Scheme names are those of flwr-datasets. Every draw comes from a stream named by the seed, and records are put in the
order of their ids first, so the same records give the same division in whatever order they are read.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from confide.data.examples import ClientRecords, Record
from confide.errors import ConfigError, DataError
from confide.names import MAX_NAME_BYTES, name_problem
from confide.seeds import stream

NEEDED_FIELD: Mapping[str, str] = {"natural": "client", "dirichlet": "label", "shards": "label"}
"""What a scheme reads of every record beside its place; a scheme that is not listed reads nothing."""

SCHEMES = ("natural", "iid", "dirichlet", "shards", "quantity-skew")
"""The names that `partition_records` knows."""

_MAX_DIRICHLET_DRAWS = 200
_MAX_SHOWN_CHARACTERS = 40

Groups = dict[str, list[Record]]


def partition_records(
    records: Sequence[Record],
    *,
    scheme: str,
    seed: int,
    num_clients: int = 0,
    dirichlet_alpha: float = 0.5,
    shards_per_client: int = 2,
    size_exponent: float = 1.0,
    min_rows_per_client: int = 2,
    max_rows_per_client: int = 0,
    held_out: float = 0.1,
) -> list[ClientRecords]:
    """Divides records among clients.

    Args:
        records: all records, with unique ids.
        scheme: "natural" (each record belongs to its `client`), "iid" (at random, sizes differ by at most one),
            "dirichlet" (each label is shared out in proportions drawn from a symmetric Dirichlet distribution),
            "shards" (records sorted by label are cut into equal shards, and each client gets some at random), or
            "quantity-skew" (at random, in unequal sizes).
        seed: of the run.
        num_clients: how many clients; natural keeps the largest ones (ties by name), and 0 keeps all.
        dirichlet_alpha: > 0; large gives every client the same label mix, small gives every label to few clients.
        shards_per_client: >= 1, for "shards"; about the number of labels a client sees.
        size_exponent: >= 0, for "quantity-skew"; the i-th client's size is proportional to i ** -size_exponent.
        min_rows_per_client: >= 1; a client with fewer is an error.
        max_rows_per_client: how many records a client keeps at most, chosen at random; 0 keeps all.
        held_out: share of a client's records kept aside for measuring, in [0, 1); rounded, but at least one record
            if the share is above 0, and never all: a client with one record trains on it.

    Returns:
        The clients in the order of their names. Clients that no data names are "client-1" and so on, with leading
        zeros so that names sort by number. Records stand in the order of their ids.

    Guarantees:
        - No record is in two places: neither two clients nor both parts of one.
        - Without a cap, and without clients that natural leaves out, every record is somewhere.
        - The result depends on the set of records and the arguments, not on the records' order.

    Raises:
        DataError: records lack the client or label that the scheme reads, what they name as a client cannot be its
            name (see `name_problem`), there are fewer records or clients than asked for, or a client ends up with
            fewer than `min_rows_per_client`.
        ConfigError: no scheme has this name, or it needs a number of clients and has none.
    """
    if scheme not in SCHEMES:
        raise ConfigError(f"data.partition is {scheme!r}, expected one of: {', '.join(SCHEMES)}.")
    ordered = sorted(records, key=lambda record: record.record_id)
    if scheme in NEEDED_FIELD:
        _check_field(ordered, scheme, NEEDED_FIELD[scheme])
    if scheme == "natural":
        groups = _natural(ordered, num_clients)
    else:
        _check_num_clients(scheme, num_clients, min_rows_per_client, len(ordered))
        rng = stream(seed, "partition", scheme)
        if scheme == "dirichlet":
            shares = _dirichlet(ordered, num_clients, dirichlet_alpha, min_rows_per_client, rng)
        elif scheme == "shards":
            shares = _shards(ordered, num_clients, shards_per_client, rng)
        else:
            exponent = size_exponent if scheme == "quantity-skew" else 0.0
            shares = _cut(_shuffled(ordered, rng), np.arange(1.0, num_clients + 1) ** -exponent)
        groups = dict(zip(_client_names(num_clients), shares, strict=True))
    _check_sizes(groups, min_rows_per_client, scheme)
    return [
        _split_client(name, _capped(name, groups[name], max_rows_per_client, seed), held_out, seed)
        for name in sorted(groups)
    ]


def _natural(records: list[Record], num_clients: int) -> Groups:
    groups: Groups = {}
    for record in records:
        groups.setdefault(str(record.client), []).append(record)
    if num_clients > len(groups):
        raise DataError(
            f"data.clients is {num_clients}, but the data names {len(groups)} clients. Lower data.clients, or set it "
            "to 0 for all of them."
        )
    _check_names(groups)
    largest = sorted(groups, key=lambda name: (-len(groups[name]), name))
    return {name: groups[name] for name in largest[: num_clients or None]}


def _dirichlet(
    records: list[Record], num_clients: int, dirichlet_alpha: float, min_rows: int, rng: np.random.Generator
) -> list[list[Record]]:
    """Shares out label by label; draws again until no client has too few records.

    Source: Hsu et al. 2019, "Measuring the Effects of Non-Identical Data Distribution for Federated Visual
        Classification", as in flwr-datasets: proportions are drawn per label, so that no record is used twice or left
        out; the price is that sizes differ too.
    """
    by_label: Groups = {}
    for record in records:
        by_label.setdefault(str(record.label), []).append(record)
    for _ in range(_MAX_DIRICHLET_DRAWS):
        shares: list[list[Record]] = [[] for _ in range(num_clients)]
        for of_label in by_label.values():
            proportions = rng.dirichlet(np.full(num_clients, dirichlet_alpha))
            for share, part in zip(shares, _cut(_shuffled(of_label, rng), proportions), strict=True):
                share += part
        if min(map(len, shares)) >= min_rows:
            return shares
    raise DataError(
        f"with data.dirichlet_alpha {dirichlet_alpha:g} and {len(by_label)} labels, every one of "
        f"{_MAX_DIRICHLET_DRAWS} draws left one of the {num_clients} clients with fewer than {min_rows} records. Raise "
        "data.dirichlet_alpha, or lower data.clients or data.min_rows_per_client."
    )


def _shards(
    records: list[Record], num_clients: int, shards_per_client: int, rng: np.random.Generator
) -> list[list[Record]]:
    """Source: McMahan et al. 2017, "Communication-Efficient Learning of Deep Networks", section 3 (pathological)."""
    by_label = sorted(_shuffled(records, rng), key=lambda record: str(record.label))
    shards = _cut(by_label, np.ones(num_clients * shards_per_client))
    dealt = rng.permutation(len(shards)).reshape(num_clients, shards_per_client)
    return [[record for shard in hand for record in shards[shard]] for hand in dealt]


def _cut(records: list[Record], proportions: npt.NDArray[np.float64]) -> list[list[Record]]:
    """Cuts a list into parts of about these proportions, in order; every record is in one part."""
    cumulative = np.cumsum(proportions)
    bounds = np.round(len(records) * cumulative / cumulative[-1]).astype(int)
    return [records[start:end] for start, end in zip([0, *bounds[:-1]], bounds, strict=True)]


def _shuffled(records: list[Record], rng: np.random.Generator) -> list[Record]:
    return [records[position] for position in rng.permutation(len(records))]


def _capped(name: str, records: list[Record], max_rows: int, seed: int) -> list[Record]:
    if not max_rows or len(records) <= max_rows:
        return records
    return _in_order(records, stream(seed, "cap", name).permutation(len(records))[:max_rows])


def _split_client(name: str, records: list[Record], held_out: float, seed: int) -> ClientRecords:
    wanted = max(round(held_out * len(records)), int(held_out > 0))
    num_held_out = min(wanted, len(records) - 1)  # whatever the share, there is something to train on
    records = sorted(records, key=lambda record: record.record_id)
    positions = stream(seed, "held-out", name).permutation(len(records))
    return ClientRecords(
        name=name,
        train=tuple(_in_order(records, positions[num_held_out:])),
        held_out=tuple(_in_order(records, positions[:num_held_out])),
    )


def _in_order(records: list[Record], positions: npt.NDArray[np.int64]) -> list[Record]:
    return [records[position] for position in np.sort(positions)]


def _client_names(num_clients: int) -> list[str]:
    width = len(str(num_clients))
    return [f"client-{number:0{width}d}" for number in range(1, num_clients + 1)]


def _check_field(records: list[Record], scheme: str, field: str) -> None:
    without = [record.record_id for record in records if getattr(record, field) is None]
    if without:
        raise DataError(
            f"the partition {scheme} reads the {field} of every record, but {len(without)} of {len(records)} have "
            f"none (the first: {without[0]}). Set data.{field}_column to the column that names it, or choose another "
            "data.partition."
        )


def _check_names(names: Iterable[str]) -> None:
    for name in names:
        if problem := name_problem(name):
            shown = ascii(name if len(name) <= _MAX_SHOWN_CHARACTERS else f"{name[:_MAX_SHOWN_CHARACTERS]}...")
            raise DataError(
                f"the client name {shown} {problem}. Expected 1 to {MAX_NAME_BYTES} bytes of printable text in Unicode "
                "normal form C (NFC), without space at either end. Change it in the data (the column "
                "data.client_column; in a folder, the file's name), or choose another data.partition."
            )


def _check_num_clients(scheme: str, num_clients: int, min_rows: int, num_records: int) -> None:
    if num_clients < 1:
        raise ConfigError(f"data.clients is {num_clients}, expected >= 1: the partition {scheme} needs to be told.")
    if num_clients * min_rows > num_records:
        raise DataError(
            f"{num_clients} clients with at least {min_rows} records each need {num_clients * min_rows} records, the "
            f"data has {num_records}. Lower data.clients or data.min_rows_per_client."
        )


def _check_sizes(groups: Groups, min_rows: int, scheme: str) -> None:
    small = sorted(name for name, records in groups.items() if len(records) < min_rows)
    if not small:
        return
    num_large = len(groups) - len(small)
    keys = {
        "natural": f"set data.clients to {num_large} to keep the larger ones" if num_large else "check the data",
        "shards": "lower data.clients or data.shards_per_client",
        "quantity-skew": "lower data.clients or data.size_exponent",
    }
    raise DataError(
        f"client {small[0]!r} has {len(groups[small[0]])} records, expected at least {min_rows} "
        f"({len(small)} of {len(groups)} clients have fewer). Lower data.min_rows_per_client, or "
        f"{keys.get(scheme, 'lower data.clients')}."
    )
