"""Sealed updates that wait for their sum lie on the disk: memory does not grow with the number of clients."""

import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import pytest

from confide.errors import RoundFailedError
from confide.parties.bodies import BodyStore, FileBodies, MemoryBodies

CHUNK = 1 << 20
CHUNKS_EACH = 4


def upload(number: int) -> list[bytes]:
    """The chunks of one client, made anew; the last one is shorter."""
    sizes = [CHUNK] * (CHUNKS_EACH - 1) + [CHUNK // 3]
    return [bytes([number + place]) * size for place, size in enumerate(sizes)]


def first_bytes_of_sums(uploads: Sequence[Sequence[bytes]]) -> list[int]:
    """Adds chunk by chunk, as the server does: what it reads is one chunk of one client at a time."""
    return [sum(one[place][0] for one in uploads) for place in range(CHUNKS_EACH)]


def peak_bytes(store: BodyStore, num_clients: int) -> int:
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        uploads = [store.keep(f"client {number}", upload(number)) for number in range(num_clients)]
        numbers = range(num_clients)
        assert first_bytes_of_sums(uploads) == [sum(number + place for number in numbers) for place in range(4)]
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


@pytest.fixture
def store(tmp_path: Path) -> FileBodies:
    return FileBodies(tmp_path / "uploads")


def test_memory_does_not_grow_with_the_number_of_clients(store: FileBodies) -> None:
    few, many = peak_bytes(store, 3), peak_bytes(store, 12)
    assert few > CHUNK
    assert many <= 1.2 * few
    assert peak_bytes(MemoryBodies(), 12) > 2 * many  # what is measured does show what is kept


def test_chunks_come_back_unchanged_and_as_often_as_they_are_read(store: FileBodies) -> None:
    kept = {name: store.keep(name, upload(number)) for number, name in enumerate(["north", "south/west"])}
    for _ in range(2):
        for number, chunks in enumerate(kept.values()):
            assert list(chunks) == upload(number)
            assert chunks[-1] == upload(number)[-1]
            assert list(chunks[1:3]) == upload(number)[1:3]


def test_a_second_upload_takes_the_place_of_the_first(store: FileBodies, tmp_path: Path) -> None:
    store.keep("north", upload(1))
    again = store.keep("north", [b"short"])
    assert list(again) == [b"short"]
    assert [path.stat().st_size for path in (tmp_path / "uploads").iterdir()] == [5]


def test_a_file_that_lost_a_part_is_noticed(store: FileBodies, tmp_path: Path) -> None:
    kept = store.keep("north", upload(1))
    (path,) = (tmp_path / "uploads").iterdir()
    path.write_bytes(path.read_bytes()[:-1])
    assert kept[0] == upload(1)[0]
    with pytest.raises(RoundFailedError, match="it lacks a part of an update"):
        kept[-1]


def test_nothing_is_left_when_a_round_is_over(store: FileBodies, tmp_path: Path) -> None:
    store.keep("north", upload(1))
    store.clear()
    assert not list((tmp_path / "uploads").iterdir())
