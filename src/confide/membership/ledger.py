"""What a client has released, so that no two released sums of a round share a key: also after a restart.

A round's sum opens for one set of members: who could make a client release for two sets that differ by one client would
learn that client's update. And no round key may be in two released lists. Were only names and weights compared, a
server could have one member upload again and again while the uploads and keys of the others stay: the released key sums
then differ by that one member's keys alone. Round keys are ternary, so each sum bounds every coefficient of the others'
summed key, and after some twenty lists nearly all of them are known, and with them every upload of that one member. So
a round that is done again needs a new upload under a new key from every member; the sums then share no key.

The first claim of a list is on the disk before anything is released.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from confide.errors import SecretKeyError
from confide.files import storage_error
from confide.membership.documents import Document
from confide.membership.memberlist import MemberList

MAX_LISTS = 64
"""Lists of one run and round: bounds the file and what a claim has to read."""

_FIELDS = ("run", "round_number", "members_digest", "list_digest", "key_ids", "check")
_START = "0" * 64


class ReleaseLedger(Protocol):
    """Remembers for which lists of members a client released its share of their summed key.

    Laws:
        - All claims of one run and round that return have the same members with the same weights.
        - Of all lists of one run and round whose claims return, no two have a key id in common; all key ids of all
          but the first are named, each once.
        - A claim that returned once returns again, until a later round is claimed.
        - A round below the highest one claimed of its run is refused.
        - At most `MAX_LISTS` lists of one run and round are claimed.
    """

    def claim(self, members: MemberList) -> None:
        """Claims a round for one list of members; call it before the release, and release only if it returns.

        Args:
            members: the list, with its run, round and key ids.

        Raises:
            SecretKeyError: the round is claimed for other members, for another list with one of the keys, or too often;
                or it lies behind.
            StorageError: the claim could not be written; the list may be claimed nevertheless.
        """
        ...


@dataclass(frozen=True)
class _Claim:
    round_number: int
    members_digest: str
    list_digest: str
    key_ids: tuple[str, ...]

    @classmethod
    def of(cls, members: MemberList) -> "_Claim":
        key_ids = tuple(entry.key_id for entry in members.entries)
        return cls(members.round_number, members.members_digest, members.digest, key_ids)


_Claims = tuple[_Claim, ...]
"""All claims of one run's highest round, in order."""


class MemoryLedger:
    """A ledger that forgets when the process ends: for tests, and for runs in one process."""

    def __init__(self) -> None:
        self._highest: dict[str, _Claims] = {}

    def claim(self, members: MemberList) -> None:
        """See `ReleaseLedger`."""
        claim = _Claim.of(members)
        before = self._highest.get(members.run, ())
        if _is_new(before, members.run, claim):
            self._highest[members.run] = _with(before, claim)


class FileLedger:
    """A ledger in a file: a line of JSON for each list, each bound to all lines before it by SHA-256.

    The file is locked and read anew for every claim, so that processes that share it obey the laws together. A last
    line without an end is a write that never finished: its claim never returned, so the line is dropped. Any other
    damage is refused, as is a file that lost a claim since this object made it.

    Args:
        path: of the file, made with the first claim; its folder must exist.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._made: dict[str, _Claims] = {}

    def claim(self, members: MemberList) -> None:
        """See `ReleaseLedger`.

        Raises:
            SecretKeyError: also if the file is damaged or lost a claim.
        """
        run, claim = members.run, _Claim.of(members)
        with self._locked() as file:
            lines = _whole_lines(file.read())
            claims, last_check = self._read(lines)
            if _is_new(claims.get(run, ()), run, claim):
                _append(file, sum(map(len, lines)), _line(run, claim, last_check))
            os.fsync(file.fileno())  # also if not new: who wrote the line may have been killed before it was synced
            made = self._made.get(run, ())
            self._made[run] = made if claim in made else _with(made, claim)

    @contextmanager
    def _locked(self) -> Iterator[BinaryIO]:
        try:
            with open(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600), "r+b", buffering=0) as file:  # noqa: PTH123
                fcntl.flock(file, fcntl.LOCK_EX)
                if os.fstat(file.fileno()).st_size == 0:  # perhaps made by a process that was killed before this
                    _sync_folder(self._path.parent)
                yield file
        except OSError as error:
            raise storage_error(self._path, error) from error

    def _read(self, lines: list[bytes]) -> tuple[dict[str, _Claims], str]:
        """Gives the claims of the highest round of each run, and the last line's check."""
        claims: dict[str, _Claims] = {}
        check = _START
        for number, line in enumerate(lines, start=1):
            check = self._read_line(number, line, check, claims)
        for run, made in self._made.items():
            found, round_number = claims.get(run, ()), made[-1].round_number
            if not found or (found[-1].round_number <= round_number and not set(made) <= set(found)):
                raise SecretKeyError(
                    f"the release ledger {self._path} lost the claim of round {round_number}: it was removed "
                    "or put back while in use. Nothing is released; end this run and start a new one."
                )
        return claims, check

    def _read_line(self, number: int, line: bytes, check: str, claims: dict[str, _Claims]) -> str:
        """Adds a line's claim to `claims` and gives the line's check."""
        what = f"line {number} of the release ledger {self._path}"
        document = Document.parse(line, what=what, error=SecretKeyError).expect(*_FIELDS)
        run = document.text("run")
        claim = _Claim(
            document.integer("round_number"),
            document.text("members_digest"),
            document.text("list_digest"),
            _texts(document, "key_ids"),
        )
        if line != _line(run, claim, check):
            raise SecretKeyError(
                f"{what} is damaged or was changed. Without it nobody knows what was released, so nothing is: put the "
                "file back as it was, or start a new run with a new ledger."
            )
        claims[run] = _with(claims.get(run, ()), claim)
        return document.text("check")


def _is_new(before: _Claims, run: str, claim: _Claim) -> bool:
    """Whether a claim may be made and has to be written; False if it was made before.

    Raises:
        SecretKeyError: it may not be made.
    """
    if not before or claim.round_number > before[-1].round_number:
        return True
    if claim in before:
        return False
    highest = before[-1].round_number
    if claim.round_number < highest:
        raise SecretKeyError(
            f"round {claim.round_number} of run {run} lies before round {highest}, which is released already. "
            "Nothing is released."
        )
    if claim.members_digest != before[0].members_digest:
        raise SecretKeyError(
            f"round {claim.round_number} of run {run} was released for other members before: a second list of one "
            "round would show what the lists differ by. Nothing is released."
        )
    if not _has_only_new_keys(before, claim):
        raise SecretKeyError(
            f"round {claim.round_number} of run {run}: a round key was released before in another list, or has no name "
            "of its own. Two sums with a key in common would show the other keys, so every member must upload anew. "
            "Nothing is released."
        )
    if len(before) >= MAX_LISTS:
        raise SecretKeyError(
            f"round {claim.round_number} of run {run} was released for {MAX_LISTS} lists before; it is done again no "
            "more. Nothing is released; go on with the next round, or start a new run."
        )
    return True


def _has_only_new_keys(before: _Claims, claim: _Claim) -> bool:
    """Whether every key of a list is named, stands in it once, and in no list before."""
    released = {key_id for other in before for key_id in other.key_ids}
    key_ids = set(claim.key_ids)
    return len(key_ids) == len(claim.key_ids) and "" not in key_ids and key_ids.isdisjoint(released)


def _with(before: _Claims, claim: _Claim) -> _Claims:
    """The claims of the highest round, after one more; those of earlier rounds are no longer needed."""
    is_same_round = before and before[-1].round_number == claim.round_number
    return (*before, claim) if is_same_round else (claim,)


def _line(run: str, claim: _Claim, check_before: str) -> bytes:
    fields: dict[str, str | int | tuple[str, ...]] = {
        "run": run,
        "round_number": claim.round_number,
        "members_digest": claim.members_digest,
        "list_digest": claim.list_digest,
        "key_ids": claim.key_ids,
    }
    fields["check"] = hashlib.sha256((check_before + json.dumps(fields)).encode()).hexdigest()
    return json.dumps(fields).encode() + b"\n"


def _texts(document: Document, name: str) -> tuple[str, ...]:
    value = document.fields[name]
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise document.error(f"{document.what}: {name} must be a list of texts")
    return tuple(value)


def _whole_lines(content: bytes) -> list[bytes]:
    """The lines with their ends; without a last one that has none."""
    return content[: content.rfind(b"\n") + 1].splitlines(keepends=True)


def _append(file: BinaryIO, end: int, line: bytes) -> None:
    """Writes a line where the last whole one ends, over what a write that never finished left; not yet to the disk."""
    file.seek(end)
    file.truncate()
    if file.write(line) != len(line):
        raise OSError("only a part was written")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
