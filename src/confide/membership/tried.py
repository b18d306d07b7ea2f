"""Which sum a client tried to open for a list of members: one, and no second, also after a restart.

A server that could hand a client one sum after the other for a list whose key is released would learn a little from
which of them open.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from confide.errors import MessageError, SecretKeyError
from confide.files import storage_error, write_atomic
from confide.membership.documents import Document
from confide.membership.ledger import MAX_LISTS
from confide.membership.memberlist import MemberList

_FIELDS = ("run", "round_number", "sums")


class TriedSums:
    """Remembers, for the newest round of a run, the one sum that was tried for each list.

    Args:
        path: of a file that keeps it, made with the first claim; its folder must exist. None keeps it in memory.

    Guarantees:
        - A claim that returned once returns again for the same list and sum, until a later round is claimed.
        - For a list that was claimed with one sum, a claim with another does not return; nor does one for a round that
          lies behind.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._kept: bytes | None = None

    def claim(self, members: MemberList, sum_digest: str) -> None:
        """Claims the one try of a list; call it before opening, and open only if it returns.

        Args:
            members: the list.
            sum_digest: SHA-256 of the sum, in hexadecimal.

        Raises:
            MessageError: another sum was tried for this list, the round lies behind, or it had too many lists.
            SecretKeyError: what was kept is damaged.
            StorageError: the claim could not be written, or what was kept not be read.
        """
        round_number, tried = self._read(members.run)
        if members.round_number < round_number:
            raise MessageError(f"a sum of round {members.round_number} was opened before: it is tried no more")
        if members.round_number > round_number:
            tried = {}
        before = tried.get(members.digest)
        if before == sum_digest:
            return
        if before is not None:
            raise MessageError("another sum was given for the same list of members before")
        if len(tried) >= MAX_LISTS:
            raise MessageError(f"round {members.round_number} had {MAX_LISTS} lists of members: no more sums are tried")
        self._write(members.run, members.round_number, {**tried, members.digest: sum_digest})

    def _read(self, run: str) -> tuple[int, Mapping[str, str]]:
        """The newest round of a run and what was tried in it."""
        kept = self._kept if self._path is None else _content(self._path)
        if kept is None:
            return 0, {}
        what = "the memory of tried sums" if self._path is None else f"the memory of tried sums {self._path}"
        document = Document.parse(kept, what=what, error=SecretKeyError).expect(*_FIELDS)
        sums = document.object("sums")
        tried = {digest: sums.text(digest) for digest in sums.fields}
        return (document.integer("round_number"), tried) if document.text("run") == run else (0, {})

    def _write(self, run: str, round_number: int, tried: Mapping[str, str]) -> None:
        kept = json.dumps({"run": run, "round_number": round_number, "sums": tried}).encode()
        if self._path is None:
            self._kept = kept
        else:
            write_atomic(self._path, kept, mode=0o600)


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes() if path.exists() else None
    except OSError as error:
        raise storage_error(path, error) from error
