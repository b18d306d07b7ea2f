"""Answers that a node's worker has given, in files, for when one is asked for once more.

What is kept was sent to the server, or is about to be: it is sealed where updates are. The files are the node's user's
alone, and go when the worker starts and when it ends. Of each run there is the last answer, and of a few runs.
"""

import hashlib
import shutil
import struct
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from confide.errors import DeployError

MAX_KEPT = 4
"""Runs whose last answers are kept."""

_SIZES = struct.Struct(">HHH")  # of the request's number, kind and text, which stand before the body
_DIGEST_BYTES = 32  # SHA-256 of all that follows, at the beginning


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the worker answered: bytes, or the reason why there are none, as in `confide.transport.base.Reply`.

    Attributes:
        is_kept: whether it can be asked for again.
    """

    body: bytes = field(default=b"", repr=False)
    error_kind: str = ""
    error: str = ""
    is_kept: bool = False


class KeptAnswers:
    """The answers in a folder.

    Args:
        folder: which nobody else writes to.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, run: int, request: str, answer: Answer) -> bool:
        """Keeps an answer in place of the run's one before; False if it could not be written.

        Args:
            run: Flower's number of the run.
            request: the number of the request's message.
            answer: to it.
        """
        words = [word.encode() for word in (request, answer.error_kind, answer.error)]
        parts = [_SIZES.pack(*map(len, words)), *words, answer.body]
        try:
            # Not synced: what a crash of the machine leaves of it goes at the next start.
            with tempfile.NamedTemporaryFile(dir=self._folder, delete=False) as file:  # for this user alone
                unready = Path(file.name)
                try:
                    file.writelines([_digest(parts), *parts])
                    file.flush()
                    unready.replace(self._place(run))
                except OSError:
                    unready.unlink()
                    raise
            newest = sorted(self._folder.glob("*.answer"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
            for path in newest[MAX_KEPT:]:
                path.unlink()
        except OSError:
            return False
        return True

    def find(self, run: int, request: str) -> Answer | None:
        """Gives the answer to a request, if it is the one that is kept of the run."""
        try:
            with self._place(run).open("rb") as file:
                digest, sizes = file.read(_DIGEST_BYTES), file.read(_SIZES.size)
                if len(sizes) < _SIZES.size:
                    return None
                number, kind, text = (file.read(size) for size in _SIZES.unpack(sizes))
                if number != request.encode():  # most often, and then nothing large is read
                    return None
                body = file.read()
        except OSError:
            return None
        if _digest([sizes, number, kind, text, body]) != digest:
            return None
        return Answer(body=body, error_kind=kind.decode(), error=text.decode(), is_kept=True)

    def _place(self, run: int) -> Path:
        return self._folder / f"{run}.answer"


@contextmanager
def kept_answers(folder: Path) -> Iterator[KeptAnswers]:
    """Keeps answers in a folder while the body runs; what an earlier process left there goes first.

    Raises:
        DeployError: the folder cannot be made, or not emptied.
    """
    _remove(folder)
    try:
        folder.mkdir(mode=0o700)
    except OSError as error:
        raise DeployError(f"{folder} cannot be made for a node's answers: {error.strerror}") from error
    try:
        yield KeptAnswers(folder)
    finally:
        _remove(folder)


def _remove(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        raise DeployError(f"{folder}, where a node keeps its answers, cannot be removed: {error.strerror}") from error


def _digest(parts: Iterable[bytes]) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.digest()
