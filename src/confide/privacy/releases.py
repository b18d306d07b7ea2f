"""How often a client has released something that its guarantee must answer for; kept where a restart finds it."""

import json
from pathlib import Path
from typing import Protocol

from confide.errors import RunDirectoryError
from confide.files import make_folder, storage_error, write_atomic

_OWNER_ONLY = 0o600


class Releases(Protocol):
    """Counts releases. A release counts from just before it leaves: one that may have left has been counted."""

    @property
    def count(self) -> int:
        """So many so far."""
        ...

    def add(self) -> None:
        """Counts one more; on the disk, where it is kept there, before this returns."""
        ...


class MemoryReleases:
    """For clients that live and die with the process."""

    def __init__(self) -> None:
        self.count = 0

    def add(self) -> None:
        """See `Releases.add`."""
        self.count += 1


class FileReleases:
    """In a file of the client's own.

    Args:
        path: of the file; its folder is made.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def count(self) -> int:
        """See `Releases.count`.

        Raises:
            RunDirectoryError: the file is damaged: nobody knows what was released.
            StorageError: it cannot be read.
        """
        try:
            text = self._path.read_text()
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise storage_error(self._path, error) from error
        try:
            count = json.loads(text)["releases"]
        except (ValueError, KeyError, TypeError) as error:
            raise self._damaged() from error
        if not isinstance(count, int) or isinstance(count, bool) or count < 0:
            raise self._damaged()
        return count

    def add(self) -> None:
        """See `Releases.add`.

        Raises:
            StorageError: it cannot be written; nothing may be released then.
        """
        content = json.dumps({"releases": self.count + 1}) + "\n"
        make_folder(self._path.parent)
        write_atomic(self._path, content, mode=_OWNER_ONLY)

    def _damaged(self) -> RunDirectoryError:
        return RunDirectoryError(
            f"{self._path} is damaged, so what this client's guarantee has cost so far is not known. Restore the file "
            "from a backup, or start a new run."
        )
