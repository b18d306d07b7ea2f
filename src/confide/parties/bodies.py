"""Where the server keeps sealed updates until it adds them: their number is that of the clients, its memory is not."""

from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Protocol, overload

from confide.errors import RoundFailedError
from confide.files import make_folder, storage_error
from confide.names import file_name


class BodyStore(Protocol):
    """Keeps the sealed chunks of one upload for each client."""

    def keep(self, client: str, bodies: Sequence[bytes]) -> Sequence[bytes]:
        """Keeps a client's chunks, in place of those before; gives them back, in order, as often as they are read."""
        ...


class MemoryBodies:
    """In memory: for federations of one process, whose clients hold more than this anyway."""

    def keep(self, client: str, bodies: Sequence[bytes]) -> Sequence[bytes]:
        """See `BodyStore.keep`."""
        del client
        return bodies


class FileBodies:
    """In a file for each client, read chunk by chunk.

    Args:
        folder: of the files; made if it is not there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, client: str, bodies: Sequence[bytes]) -> Sequence[bytes]:
        """See `BodyStore.keep`.

        Raises:
            StorageError: the disk is full, or the folder cannot be written.
        """
        make_folder(self._folder)
        path = self._folder / f"{file_name(client)}.sealed"
        try:
            with path.open("wb") as file:
                for body in bodies:
                    file.write(body)
        except OSError as error:
            raise storage_error(path, error) from error
        return _InFile(path, [0, *accumulate(map(len, bodies))])

    def clear(self) -> None:
        """Removes the files of a round that is over."""
        for path in self._folder.glob("*.sealed"):
            path.unlink(missing_ok=True)


class _InFile(Sequence[bytes]):
    """The chunks of one file; each is read when it is asked for.

    Args:
        path: of the file.
        ends: where the chunks start, and where the last one ends.
    """

    def __init__(self, path: Path, ends: Sequence[int]) -> None:
        self._path = path
        self._ends = ends

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __iter__(self) -> Iterator[bytes]:
        return (self[chunk] for chunk in range(len(self)))

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[bytes]: ...
    def __getitem__(self, index: int | slice) -> bytes | Sequence[bytes]:
        if isinstance(index, slice):
            return [self[chunk] for chunk in range(*index.indices(len(self)))]
        chunk = range(len(self))[index]
        start, end = self._ends[chunk : chunk + 2]
        try:
            with self._path.open("rb") as file:
                file.seek(start)
                body = file.read(end - start)
        except OSError as error:
            raise storage_error(self._path, error) from error
        if len(body) != end - start:
            raise RoundFailedError(f"{self._path} was changed while the round went on: it lacks a part of an update")
        return body
