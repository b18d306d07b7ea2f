"""Families of records that begin alike: the cheapest division, against all others by brute force."""

from collections.abc import Iterator

import numpy as np
import pytest

from confide.attacks.families import _PASS, Family, Tokens, divide_into_families
from confide.seeds import stream


def _records(seed: int, num: int) -> list[Tokens]:
    """Records over a few beginnings of very different length, in any order, some of them equal or cut short."""
    rng = stream(seed, "test-families")
    beginnings = [rng.integers(0, 9, size) for size in (0, 3, 60, 60, 200)]
    return [
        np.concatenate([beginnings[rng.integers(5)], rng.integers(0, 3, rng.integers(1, 9))]).astype(np.int64)
        for _ in range(num)
    ]


def _shared(records: list[Tokens]) -> int:
    size = min(record.size for record in records) - 1
    return next((n for n in range(size) if len({int(record[n]) for record in records}) > 1), size)


def _cost(records: list[Tokens]) -> float:
    longest, shared = max(record.size for record in records), _shared(records)
    alone = float(sum(record.size for record in records)) if len(records) == 1 else np.inf
    return min(alone, _PASS + shared + len(records) * (longest - shared) if shared else np.inf)


def _divisions(num: int, largest: int) -> Iterator[list[int]]:
    """The sizes of all divisions of so many records in a row."""
    if num == 0:
        yield []
    for first in range(1, min(num, largest) + 1):
        for rest in _divisions(num - first, largest):
            yield [first, *rest]


@pytest.mark.parametrize("largest", [1, 3, 7])
@pytest.mark.parametrize("seed", range(12))
def test_no_other_division_of_sorted_records_reads_fewer_tokens(seed: int, largest: int) -> None:
    records = _records(seed, 7)
    families = divide_into_families(records, largest=largest)
    assert sorted(place for family in families for place in family.members) == list(range(7))
    assert all(len(family.members) <= largest for family in families)
    for family in families:
        of_family = [records[place] for place in family.members]
        assert (family.num_shared == 0) == (len(family.members) == 1)
        assert all((one[: family.num_shared] == of_family[0][: family.num_shared]).all() for one in of_family)
        assert all(one.size > family.num_shared for one in of_family)
    in_order = sorted(records, key=lambda record: record.tolist())
    costs = []
    for sizes in _divisions(7, largest):
        stops = np.cumsum(sizes)
        costs.append(sum(_cost(in_order[stop - size : stop]) for size, stop in zip(sizes, stops, strict=True)))
    found = sum(_cost([records[place] for place in family.members]) for family in families)
    assert found == min(costs)


def test_alternatives_to_a_secret_are_one_family() -> None:
    before, after = np.arange(100, 160), np.arange(300, 302)
    records = [np.concatenate([before, [digit, 7, digit], after]) for digit in range(10)]
    assert divide_into_families(records, largest=16) == [Family(members=tuple(range(10)), num_shared=60)]


def test_nothing_is_divided_into_nothing() -> None:
    assert divide_into_families([], largest=4) == []
