"""Writing files so that a reader finds the old content or the new one, never a part.

The rule for every file of a run directory: write to a temporary sibling, fsync, rename, fsync the folder.
"""

import fcntl
import hashlib
import os
import re
import shutil
import uuid
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from confide.errors import StorageError

_TEMPORARY_PREFIX = ".tmp-"
_TEMPORARY_MARK = re.compile(rf"^{re.escape(_TEMPORARY_PREFIX)}[0-9a-f]{{32}}-")


def write_atomic(path: Path, content: bytes | str, *, mode: int = 0o666) -> None:
    """Replaces `path` by `content` in one step.

    Args:
        path: of the file.
        content: what it holds then.
        mode: who may read and write it, less what the umask takes away.

    Raises:
        StorageError: the disk is full or the folder cannot be written; the old file is intact.
    """
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f"{_TEMPORARY_PREFIX}{uuid.uuid4().hex}-{path.name}")
    try:
        with open(temporary, "wb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise storage_error(path, error) from error


def write_new(path: Path, content: bytes, *, mode: int) -> None:
    """Writes a file that was not there before, in one step.

    Args:
        path: of the file.
        content: what it holds.
        mode: who may read and write it, less what the umask takes away.

    Guarantees:
        - What is at `path` already is never replaced: unlike a rename, the link that makes the file appear fails then.

    Raises:
        FileExistsError: there is something at `path`.
        StorageError: it cannot be written.
    """
    temporary = path.with_name(f"{_TEMPORARY_PREFIX}{uuid.uuid4().hex}-{path.name}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        try:
            with open(descriptor, "wb") as file:  # noqa: PTH123  a descriptor, not a path
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            path.hardlink_to(temporary)
        finally:
            temporary.unlink()
        _sync(path.parent)
    except FileExistsError:
        raise
    except OSError as error:
        raise storage_error(path, error) from error


@contextmanager
def atomic_folder(path: Path, *, replace: bool = True) -> Iterator[Path]:
    """Yields a temporary folder that becomes `path` when the body ends without an error.

    A folder already at `path` is replaced; with `replace` false, one that appeared meanwhile is an error.

    Raises:
        StorageError: the disk is full or the place cannot be written; an older folder at `path` is intact unless the
            failure came while it was being swapped, in which case it is complete or gone, never half written.
    """
    temporary = path.with_name(f"{_TEMPORARY_PREFIX}{uuid.uuid4().hex}-{path.name}")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        sync_tree(temporary)
        if replace and path.exists():
            shutil.rmtree(path)
        temporary.rename(path)
        _sync(path.parent)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise storage_error(path, error) from error
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


@contextmanager
def sole_maker(path: Path) -> Iterator[None]:
    """Lets one process at a time make `path`, and first removes what killed ones left of it.

    Whoever makes a path so waits for the others: it is for the work of an instant. Where a file system cannot lock a
    folder, nobody waits and nothing is removed.

    Raises:
        StorageError: the folder that `path` will be in cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path.parent, os.O_RDONLY)
    except OSError as error:
        raise storage_error(path, error) from error
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            # With the lock in hand no other process is making it: what lies here was left by a killed one.
            _remove([one for one in path.parent.glob(f"{_TEMPORARY_PREFIX}*") if _final_name(one.name) == path.name])
        yield
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Makes a folder and those it stands in, where they are not there.

    Raises:
        StorageError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(folder, error) from error


class HeldFolder:
    """A folder by its descriptor and not by its name: who holds it has no path to what lies beside it.

    Raises:
        StorageError: there is no such folder, or it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        try:
            self.descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise storage_error(path, error) from error
        weakref.finalize(self, os.close, self.descriptor)

    def open(self, name: str, flags: int) -> int:
        """Opens what lies in it, by its name within the folder; an opener for the builtin `open`."""
        return os.open(name, flags, 0o666, dir_fd=self.descriptor)

    def read(self, name: str) -> bytes:
        """A file's bytes."""
        with open(name, "rb", opener=self.open) as file:
            return file.read()


def sync_tree(folder: Path) -> None:
    """Waits until everything in `folder` is on the disk."""
    for path in sorted(folder.rglob("*")):
        _sync(path)
    _sync(folder)


def point_link(link: Path, target: str) -> None:
    """Makes the symbolic link `link` point at `target` (relative to the link's folder) in one step."""
    temporary = link.with_name(f"{_TEMPORARY_PREFIX}{uuid.uuid4().hex}-{link.name}")
    try:
        temporary.symlink_to(target)
        temporary.replace(link)
        _sync(link.parent)
    except OSError as error:
        raise storage_error(link, error) from error


def remove_temporaries(folder: Path) -> None:
    """Removes what a killed process left half written directly under `folder`."""
    _remove(folder.glob(f"{_TEMPORARY_PREFIX}*"))


def _remove(leftovers: Iterable[Path]) -> None:
    for leftover in leftovers:
        if leftover.is_dir() and not leftover.is_symlink():
            shutil.rmtree(leftover)
        else:
            leftover.unlink()


def sha256_of_file(path: Path) -> str:
    """Gives the SHA-256 of a file's content in hexadecimal, reading it in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def storage_error(path: Path, error: OSError) -> StorageError:
    """Says which file could not be written, why, and what to do; inside a temporary folder, by its final path."""
    final = Path(*map(_final_name, path.parts))
    return StorageError(
        f"cannot write {final}: {error.strerror or error}. What was saved before is intact. "
        "Free some space or fix the permissions."
    )


def _final_name(name: str) -> str:
    """The name that a temporary file or folder gets in the end."""
    return _TEMPORARY_MARK.sub("", name)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
