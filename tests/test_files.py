import errno
import fcntl
import os
from pathlib import Path

import pytest

from confide.errors import StorageError
from confide.files import (
    atomic_folder,
    point_link,
    remove_temporaries,
    sha256_of_file,
    sole_maker,
    write_atomic,
    write_new,
)


def full_disk(descriptor: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_writing_replaces_the_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_atomic(path, "one, quite long")
    write_atomic(path, b"two")
    assert path.read_bytes() == b"two"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_the_old_file_and_no_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    write_atomic(path, "old")
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(StorageError, match=r"cannot write .*a\.txt: No space left on device. What was saved before"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_new_file_has_its_mode_and_never_replaces_another(tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    write_new(path, b"one", mode=0o600)
    with pytest.raises(FileExistsError):
        write_new(path, b"two", mode=0o600)
    assert path.read_bytes() == b"one"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_new_file_that_a_full_disk_cuts_off_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(StorageError, match=r"cannot write .*a\.key: No space left on device"):
        write_new(tmp_path / "a.key", b"one", mode=0o600)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "0001"
    with atomic_folder(path) as folder:
        (folder / "a").write_text("1")
        assert not path.exists()
    assert (path / "a").read_text() == "1"
    with pytest.raises(ZeroDivisionError), atomic_folder(path) as folder:
        (folder / "a").write_text(str(2 / 0))
    assert (path / "a").read_text() == "1"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_the_old_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "0001"
    with atomic_folder(path) as folder:
        (folder / "a").write_text("1")
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(StorageError, match="No space left on device"), atomic_folder(path) as folder:
        (folder / "a").write_text("2")
    assert (path / "a").read_text() == "1"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_fails_inside_a_folder_is_named_by_its_final_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "0001"
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(StorageError) as caught, atomic_folder(path) as folder:
        write_atomic(folder / "a", "1")
    assert str(caught.value) == (
        f"cannot write {path / 'a'}: No space left on device. What was saved before is intact. "
        "Free some space or fix the permissions."
    )


def test_a_link_moves_in_one_step(tmp_path: Path) -> None:
    link = tmp_path / "final"
    for target in ("0001", "0002"):
        (tmp_path / target).mkdir()
        point_link(link, target)
        assert link.readlink() == Path(target)


def test_leftovers_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    (tmp_path / ".tmp-1-0001").mkdir()
    (tmp_path / ".tmp-1-0001" / "half").write_text("x")
    (tmp_path / ".tmp-2-run.json").write_text("x")
    (tmp_path / ".tmp-3-final").symlink_to("nowhere")
    (tmp_path / "keep").write_text("x")
    remove_temporaries(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["keep"]


def test_sha256_of_a_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    # FIPS 180-2, appendix B.1.
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_of_file(tmp_path / "abc") == expected


def test_what_killed_makers_of_a_path_left_is_removed_and_that_of_others_stays(tmp_path: Path) -> None:
    left = f".tmp-{'0' * 32}-first"
    (tmp_path / left / "rounds").mkdir(parents=True)
    others = [f".tmp-{'0' * 32}-first-2", f".tmp-{'0' * 32}-second", ".tmp-0123-first", "first-2", ".tmp-first"]
    for other in others:
        (tmp_path / other).mkdir()
    with sole_maker(tmp_path / "first"):
        assert not (tmp_path / left).exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(others)


def test_a_path_has_one_maker_at_a_time_so_what_a_live_one_makes_is_safe(tmp_path: Path) -> None:
    with sole_maker(tmp_path / "runs" / "first"):
        descriptor = os.open(tmp_path / "runs", os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(descriptor)


def test_where_folders_cannot_be_locked_nothing_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(descriptor: int, operation: int) -> None:
        raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    left = tmp_path / f".tmp-{'0' * 32}-first"
    left.mkdir()
    with sole_maker(tmp_path / "first"):
        assert left.exists()
