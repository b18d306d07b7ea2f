"""What a client has released, so that it never releases for a second member list of a round: also after a restart.

A round's sum opens for one list of members. Who could make a client release for two lists that differ by one client
would learn that client's update; so the first claim of a round is on the disk before anything is released.
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

from confide.errors import MessageError, SecretKeyError
from confide.files import storage_error
from confide.membership.documents import Document
from confide.membership.memberlist import HEX_DIGEST, MAX_ROUND, check_run

_FIELDS = ("run", "round_number", "members_digest", "check")
_START = "0" * 64


class ReleaseLedger(Protocol):
    """Remembers for which members a client released its share of a round's key.

    Laws:
        - Of all claims of one run and round with different members, one at most returns.
        - A claim that returned once returns again, until a later round is claimed.
        - A round below the highest one claimed of its run is refused.
    """

    def claim(self, run: str, round_number: int, members_digest: str) -> None:
        """Claims a round for one set of members; call it before the release, and release only if it returns.

        Args:
            run: the run's id.
            round_number: from 1.
            members_digest: see `MemberList.members_digest`.

        Raises:
            SecretKeyError: the round is claimed for others, or lies behind.
            StorageError: the claim could not be written; the round may be claimed nevertheless.
            MessageError: run, round or digest are not of their form.
        """
        ...


@dataclass(frozen=True)
class _Claim:
    round_number: int
    members_digest: str

    @classmethod
    def of(cls, run: str, round_number: int, members_digest: str) -> "_Claim":
        """Checks that what is claimed can be written and read again."""
        check_run(run)
        if not 1 <= round_number <= MAX_ROUND or not HEX_DIGEST.fullmatch(members_digest):
            raise MessageError(f"a claim needs a round in 1..{MAX_ROUND} and a digest of 64 hexadecimal digits")
        return cls(round_number, members_digest)


class MemoryLedger:
    """A ledger that forgets when the process ends: for tests, and for runs in one process."""

    def __init__(self) -> None:
        self._highest: dict[str, _Claim] = {}

    def claim(self, run: str, round_number: int, members_digest: str) -> None:
        """See `ReleaseLedger`."""
        claim = _Claim.of(run, round_number, members_digest)
        if _is_new(self._highest.get(run), run, claim):
            self._highest[run] = claim


class FileLedger:
    """A ledger in a file: a line of JSON for each claim, each bound to all lines before it by SHA-256.

    The file is locked and read anew for every claim, so that processes that share it obey the laws together. A last
    line without an end is a write that never finished: its claim never returned, so the line is dropped. Any other
    damage is refused, as is a file that lost a claim since this object made it.

    Args:
        path: of the file, made with the first claim; its folder must exist.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._made: dict[str, _Claim] = {}

    def claim(self, run: str, round_number: int, members_digest: str) -> None:
        """See `ReleaseLedger`.

        Raises:
            SecretKeyError: also if the file is damaged or lost a claim.
        """
        claim = _Claim.of(run, round_number, members_digest)
        with self._locked() as file:
            lines = _whole_lines(file.read())
            claims, last_check = self._read(lines)
            if _is_new(claims.get(run), run, claim):
                _append(file, sum(map(len, lines)), _line(run, claim, last_check))
            self._made[run] = claim

    @contextmanager
    def _locked(self) -> Iterator[BinaryIO]:
        try:
            is_new = not self._path.exists()
            with open(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600), "r+b", buffering=0) as file:  # noqa: PTH123
                fcntl.flock(file, fcntl.LOCK_EX)
                if is_new:
                    _sync_folder(self._path.parent)
                yield file
        except OSError as error:
            raise storage_error(self._path, error) from error

    def _read(self, lines: list[bytes]) -> tuple[dict[str, _Claim], str]:
        """Gives the highest claim of each run and the last line's check."""
        claims: dict[str, _Claim] = {}
        check = _START
        for number, line in enumerate(lines, start=1):
            check = self._read_line(number, line, check, claims)
        for run, made in self._made.items():
            found = claims.get(run)
            if found is None or (found != made and found.round_number <= made.round_number):
                raise SecretKeyError(
                    f"the release ledger {self._path} lost the claim of round {made.round_number}: it was removed "
                    "or put back while in use. Nothing is released; end this run and start a new one."
                )
        return claims, check

    def _read_line(self, number: int, line: bytes, check: str, claims: dict[str, _Claim]) -> str:
        """Adds a line's claim to `claims` and gives the line's check."""
        what = f"line {number} of the release ledger {self._path}"
        document = Document.parse(line, what=what, error=SecretKeyError).expect(*_FIELDS)
        run = document.text("run")
        claim = _Claim(document.integer("round_number"), document.text("members_digest"))
        if line != _line(run, claim, check):
            raise SecretKeyError(
                f"{what} is damaged or was changed. Without it nobody knows what was released, so nothing is: put the "
                "file back as it was, or start a new run with a new ledger."
            )
        claims[run] = claim
        return document.text("check")


def _is_new(highest: _Claim | None, run: str, claim: _Claim) -> bool:
    """Whether a claim has to be written; False if it is the same as the last."""
    if highest is None or claim.round_number > highest.round_number:
        return True
    if claim == highest:
        return False
    if claim.round_number == highest.round_number:
        raise SecretKeyError(
            f"round {claim.round_number} of run {run} was released for other members before: a second list of one "
            "round would show what the lists differ by. Nothing is released."
        )
    raise SecretKeyError(
        f"round {claim.round_number} of run {run} lies before round {highest.round_number}, which is released already. "
        "Nothing is released."
    )


def _line(run: str, claim: _Claim, check_before: str) -> bytes:
    fields: dict[str, str | int] = {
        "run": run,
        "round_number": claim.round_number,
        "members_digest": claim.members_digest,
    }
    fields["check"] = hashlib.sha256((check_before + json.dumps(fields)).encode()).hexdigest()
    return json.dumps(fields).encode() + b"\n"


def _whole_lines(content: bytes) -> list[bytes]:
    """The lines with their ends; without a last one that has none."""
    return content[: content.rfind(b"\n") + 1].splitlines(keepends=True)


def _append(file: BinaryIO, end: int, line: bytes) -> None:
    """Writes a line where the last whole one ends, over what a write that never finished left there."""
    file.seek(end)
    file.truncate()
    if file.write(line) != len(line):
        raise OSError("only a part was written")
    os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
