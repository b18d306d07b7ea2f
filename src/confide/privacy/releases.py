"""How often a client has released something that its guarantee must answer for; kept where a restart finds it."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

from confide.errors import RunDirectoryError
from confide.files import make_folder, storage_error, write_atomic
from confide.privacy.plan import Counts

_OWNER_ONLY = 0o600


class Releases(Protocol):
    """Counts releases. A release counts from just before it leaves: one that may have left has been counted."""

    @property
    def counts(self) -> Counts:
        """So many so far."""
        ...

    def set(self, counts: Counts) -> None:
        """Notes that there are so many now; on the disk, where they are kept there, before this returns."""
        ...


class MemoryReleases:
    """For clients that live and die with the process."""

    def __init__(self) -> None:
        self.counts = Counts()

    def set(self, counts: Counts) -> None:
        """See `Releases.set`."""
        self.counts = counts


class FileReleases:
    """In a file of the client's own.

    Args:
        path: of the file; its folder is made.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def counts(self) -> Counts:
        """See `Releases.counts`.

        Raises:
            RunDirectoryError: the file is damaged: nobody knows what was released.
            StorageError: it cannot be read.
        """
        try:
            text = self._path.read_text()
        except FileNotFoundError:
            return Counts()
        except OSError as error:
            raise storage_error(self._path, error) from error
        try:
            content = json.loads(text)
            counts = Counts(trainings=content["trainings"], uploads=content["uploads"])
        except (ValueError, KeyError, TypeError) as error:
            raise self._damaged() from error
        if not (_is_count(counts.trainings) and _is_count(counts.uploads)):
            raise self._damaged()
        return counts

    def set(self, counts: Counts) -> None:
        """See `Releases.set`.

        Raises:
            StorageError: it cannot be written; nothing may be released then.
        """
        make_folder(self._path.parent)
        write_atomic(self._path, json.dumps(asdict(counts)) + "\n", mode=_OWNER_ONLY)

    def _damaged(self) -> RunDirectoryError:
        return RunDirectoryError(
            f"{self._path} is damaged, so what this client's guarantee has cost so far is not known. Restore the file "
            "from a backup, or start a new run."
        )


def _is_count(count: object) -> bool:
    return isinstance(count, int) and not isinstance(count, bool) and count >= 0
