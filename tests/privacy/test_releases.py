"""What a client has released is counted before it leaves, and never forgotten."""

from pathlib import Path

import pytest

from confide.errors import RunDirectoryError, StorageError
from confide.privacy.plan import Counts
from confide.privacy.releases import FileReleases, MemoryReleases


def test_a_restarted_client_goes_on_counting(tmp_path: Path) -> None:
    path = tmp_path / "own" / "noised.json"
    first = FileReleases(path)
    assert first.counts == Counts()
    first.set(Counts(trainings=1, uploads=2))
    first.set(Counts(trainings=2, uploads=3))
    assert FileReleases(path).counts == first.counts == Counts(trainings=2, uploads=3)
    assert path.stat().st_mode & 0o077 == 0


def test_memory_counts_as_well() -> None:
    releases = MemoryReleases()
    releases.set(Counts(uploads=1))
    assert releases.counts == Counts(uploads=1)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"trainings": 1}',
        '{"trainings": 1, "uploads": -1}',
        '{"trainings": true, "uploads": 1}',
        '{"trainings": 1, "uploads": 1.5}',
    ],
)
def test_a_damaged_count_stops_the_client(content: str, tmp_path: Path) -> None:
    path = tmp_path / "noised.json"
    path.write_text(content)
    with pytest.raises(RunDirectoryError, match="not known"):
        _ = FileReleases(path).counts


def test_what_cannot_be_counted_is_not_released(tmp_path: Path) -> None:
    path = tmp_path / "file" / "noised.json"
    path.parent.write_text("no folder")
    with pytest.raises(StorageError):
        FileReleases(path).set(Counts(trainings=1))
