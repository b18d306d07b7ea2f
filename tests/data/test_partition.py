from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from confide.data.examples import ClientRecords, Record, Text
from confide.data.partition import NEEDED_FIELD, SCHEMES, partition_records
from confide.errors import ConfigError, DataError

LABELS = ("asthma", "burn", "cold", "gout")


def make_records(num_records: int, num_owners: int = 5) -> list[Record]:
    return [
        Record(
            record_id=f"row-{number:04d}",
            content=Text(text="note"),
            client=f"ward-{number % num_owners}",
            label=LABELS[number % len(LABELS)],
        )
        for number in range(num_records)
    ]


def ids(client: ClientRecords) -> list[str]:
    return [record.record_id for record in (*client.train, *client.held_out)]


def labels(client: ClientRecords) -> Counter[str | None]:
    return Counter(record.label for record in (*client.train, *client.held_out))


def divide(
    records: list[Record], scheme: str, num_clients: int = 5, seed: int = 0, **options: float
) -> list[ClientRecords]:
    # A Dirichlet draw that is not extreme, so that few clients come out empty.
    arguments: dict[str, float] = {"dirichlet_alpha": 5.0, "min_rows_per_client": 1, **options}
    return partition_records(records, scheme=scheme, num_clients=num_clients, seed=seed, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("scheme", SCHEMES)
@settings(max_examples=25, deadline=None)
@given(
    num_records=st.integers(60, 120),
    num_clients=st.integers(1, 5),
    seed=st.integers(0, 2**32),
    held_out=st.sampled_from([0.0, 0.1, 0.5, 0.9]),
)
def test_every_record_is_in_exactly_one_place(
    scheme: str, num_records: int, num_clients: int, seed: int, held_out: float
) -> None:
    records = make_records(num_records, num_owners=num_clients)
    clients = divide(records, scheme, num_clients, seed, held_out=held_out)
    assert len(clients) == num_clients
    placed = [record_id for client in clients for record_id in ids(client)]
    assert sorted(placed) == [record.record_id for record in records]


@pytest.mark.parametrize("scheme", SCHEMES)
@settings(max_examples=15, deadline=None)
@given(order=st.permutations(range(60)), seed=st.integers(0, 2**32))
def test_the_order_of_records_changes_nothing(scheme: str, order: list[int], seed: int) -> None:
    records = make_records(60)
    shuffled = [records[position] for position in order]
    options = {"max_rows_per_client": 9}
    assert divide(shuffled, scheme, seed=seed, **options) == divide(records, scheme, seed=seed, **options)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_another_seed_gives_another_division(scheme: str) -> None:
    records = make_records(100)
    assert divide(records, scheme, seed=0) != divide(records, scheme, seed=1)


@pytest.mark.parametrize("scheme", SCHEMES)
@settings(max_examples=15, deadline=None)
@given(max_rows=st.integers(1, 30), seed=st.integers(0, 2**32))
def test_a_cap_keeps_a_subset_of_what_a_client_would_have(scheme: str, max_rows: int, seed: int) -> None:
    records = make_records(100)
    uncapped = {client.name: set(ids(client)) for client in divide(records, scheme, seed=seed)}
    for client in divide(records, scheme, seed=seed, max_rows_per_client=max_rows):
        assert len(ids(client)) == min(max_rows, len(uncapped[client.name]))
        assert set(ids(client)) <= uncapped[client.name]


@settings(max_examples=100, deadline=None)
@given(num_records=st.integers(1, 60), held_out=st.floats(0, 0.99))
def test_held_out_records_are_the_share_but_never_all_nor_none_of_two(num_records: int, held_out: float) -> None:
    (client,) = divide(make_records(num_records), "iid", 1, held_out=held_out)
    assert len(client.train) + len(client.held_out) == num_records
    if held_out == 0 or num_records == 1:
        assert not client.held_out
    else:
        assert 1 <= len(client.held_out) <= num_records - 1
        assert abs(len(client.held_out) - round(held_out * num_records)) <= 1


def test_natural_clients_own_what_their_name_stands_on() -> None:
    for client in divide(make_records(50), "natural", 0):
        assert {record.client for record in (*client.train, *client.held_out)} == {client.name}


def test_natural_keeps_the_largest_clients_and_of_equals_the_first_by_name() -> None:
    sizes = {"c": 5, "a": 3, "b": 3, "d": 1}
    records = [
        Record(record_id=f"{owner}{number}", content=Text(text="t"), client=owner)
        for owner, size in sizes.items()
        for number in range(size)
    ]
    names = [[client.name for client in divide(records, "natural", num)] for num in (0, 1, 2, 3)]
    assert names == [["a", "b", "c", "d"], ["c"], ["a", "c"], ["a", "b", "c"]]


@settings(max_examples=25, deadline=None)
@given(num_records=st.integers(7, 100), num_clients=st.integers(1, 7))
def test_iid_sizes_differ_by_at_most_one(num_records: int, num_clients: int) -> None:
    sizes = [len(ids(client)) for client in divide(make_records(num_records), "iid", num_clients)]
    assert max(sizes) - min(sizes) <= 1


def test_clients_without_a_name_are_numbered_so_that_names_sort() -> None:
    names = [client.name for client in divide(make_records(100), "iid", 12)]
    assert names == [f"client-{number:02d}" for number in range(1, 13)]
    assert [client.name for client in divide(make_records(100), "shards", 2)] == ["client-1", "client-2"]


def test_a_large_dirichlet_alpha_gives_every_client_the_same_label_mix() -> None:
    for client in divide(make_records(4000), "dirichlet", 4, dirichlet_alpha=1e6):
        for label in LABELS:
            # A share's standard deviation is below sqrt(1/(4 * 4e6)) = 0.00025, so 250 rows of a label move by 1 or 2.
            assert abs(labels(client)[label] - 250) <= 5


def test_a_tiny_dirichlet_alpha_gives_every_label_to_one_client() -> None:
    clients = divide(make_records(4000), "dirichlet", 3, dirichlet_alpha=1e-3, seed=1)
    for label in LABELS:
        # The largest of 3 shares is below 0.99 with a probability of about 3 * 1e-3 * log(99), 1.4 % for each label.
        assert max(labels(client)[label] for client in clients) >= 990


def test_dirichlet_skew_falls_as_alpha_grows() -> None:
    def skew(alpha: float) -> float:
        largest = [
            max(labels(client).values()) / len(ids(client))
            for seed in range(5)
            for client in divide(make_records(400), "dirichlet", 4, seed, dirichlet_alpha=alpha)
        ]
        return sum(largest) / len(largest)

    skews = [skew(alpha) for alpha in (0.1, 1.0, 100.0)]
    assert skews == sorted(skews, reverse=True)


def test_shards_give_a_client_at_most_as_many_labels_as_it_has_shards_and_one_more_each() -> None:
    records = make_records(400)  # 100 of each of 4 labels
    for shards_per_client in (1, 2):
        for client in divide(records, "shards", 8, shards_per_client=shards_per_client):
            assert len(ids(client)) == 50
            assert len(labels(client)) <= shards_per_client  # 8 or 16 shards cut each label evenly, none spans two


@settings(max_examples=25, deadline=None)
@given(exponent=st.floats(0, 2), num_clients=st.integers(1, 6))
def test_quantity_skew_sizes_follow_the_power_law(exponent: float, num_clients: int) -> None:
    sizes = [
        len(ids(client)) for client in divide(make_records(600), "quantity-skew", num_clients, size_exponent=exponent)
    ]
    total = sum(rank**-exponent for rank in range(1, num_clients + 1))
    for rank, size in enumerate(sizes, 1):
        assert abs(size - 600 * rank**-exponent / total) <= 1


@pytest.mark.parametrize(("scheme", "field"), NEEDED_FIELD.items())
def test_a_record_without_what_the_partition_reads_is_named(scheme: str, field: str) -> None:
    records = make_records(20)
    records[3] = replace(records[3], client=None) if field == "client" else replace(records[3], label=None)
    expected = (
        rf"partition {scheme} reads the {field} .* 1 of 20 have none \(the first: row-0003\)\. Set data\.{field}_col"
    )
    with pytest.raises(DataError, match=expected):
        divide(records, scheme)


@pytest.mark.parametrize("scheme", sorted({*SCHEMES} - {"natural"}))
def test_more_clients_than_rows_are_refused(scheme: str) -> None:
    with pytest.raises(DataError, match=r"4 clients with at least 2 records each need 8 records, the data has 7"):
        divide(make_records(7), scheme, 4, min_rows_per_client=2)
    with pytest.raises(ConfigError, match=rf"data\.clients is 0, expected >= 1: the partition {scheme}"):
        divide(make_records(7), scheme, 0)


def test_more_clients_than_the_data_names_are_refused() -> None:
    with pytest.raises(DataError, match=r"data\.clients is 6, but the data names 5 clients"):
        divide(make_records(50), "natural", 6)


def test_a_natural_client_with_too_few_rows_is_named_with_how_many_to_keep() -> None:
    records = [*make_records(50), Record(record_id="x", content=Text(text="t"), client="tiny")]
    expected = r"client 'tiny' has 1 records, expected at least 2 \(1 of 6 .*set data\.clients to 5 to keep the larger"
    with pytest.raises(DataError, match=expected):
        divide(records, "natural", 0, min_rows_per_client=2)
    assert len(divide(records, "natural", 5, min_rows_per_client=2)) == 5


def test_a_dirichlet_draw_that_cannot_fill_every_client_says_what_to_change() -> None:
    one_label = [replace(record, label="cold") for record in make_records(50)]
    with pytest.raises(
        DataError, match=r"with data\.dirichlet_alpha 0\.0001 and 1 labels, .* Raise data\.dirichlet_al"
    ):
        divide(one_label, "dirichlet", 10, dirichlet_alpha=1e-4)


def test_a_skew_that_leaves_a_client_empty_says_what_to_change() -> None:
    with pytest.raises(DataError, match=r"client 'client-\d' has \d records, .*data\.size_exponent"):
        divide(make_records(20), "quantity-skew", 8, size_exponent=3.0, min_rows_per_client=2)


def test_an_unknown_partition_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"data\.partition is 'even', expected one of: natural, iid, dirichlet"):
        divide(make_records(20), "even")


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("東" * 43, r"the client name '\\u6771.*\.\.\.' is longer than 128 bytes"),
        ("north ", "the client name 'north ' is not printable text without space at either end"),
        ("no\nrth", r"the client name 'no\\nrth' is not printable text"),
        ("e\u0301", r"the client name 'e\\u0301' is not in Unicode normal form C"),
    ],
)
def test_what_cannot_be_a_clients_name_is_refused(name: str, problem: str) -> None:
    records = [Record(record_id=str(number), content=Text(text="a"), client=name) for number in range(3)]
    with pytest.raises(DataError, match=rf"{problem}.*Expected 1 to 128 bytes.*data\.client_column"):
        partition_records(records, scheme="natural", seed=0)
    assert len(partition_records(records, scheme="iid", seed=0, num_clients=1)) == 1  # which reads no client


def test_a_clients_name_may_be_in_any_script() -> None:
    names = ["東" * 42, "Clinic No. 3, St. Mary's", "é"]
    records = [
        Record(record_id=f"{name}-{number}", content=Text(text="a"), client=name) for name in names for number in "12"
    ]
    assert [client.name for client in partition_records(records, scheme="natural", seed=0)] == sorted(names)
