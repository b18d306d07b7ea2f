"""Writes a transcript while a run goes on: every reply as the server got it, and each client's own updates.

    transcript/
        PRIVATE.md                       what this folder is
        server/0007/0001-north.bin       replies of round 7 in the order in which they came, byte for byte
        clients/0001/sent-0007.safetensors     what client number 1 sealed in round 7, before sealing
        clients/0001/opened-0007.safetensors   the mean that it opened

Only a run with `audit.record = true` has one. What the server got in a round that was done again stands behind what it
got the first time; what a client kept of it is written anew.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from confide.errors import MessageError
from confide.files import storage_error, write_atomic
from confide.messages import decode
from confide.names import file_name
from confide.transport.base import Reply, Transport
from confide.update import Layout, Vector

NOTE = """# Private

This folder holds what each party of the run saw, single clients' updates included. It was written because the
configuration says `audit.record = true`. It is for the audit of this run: do not publish it, and delete it when the
audit is done.
"""


class RecordingTransport:
    """Carries messages as another transport does, and keeps every reply that comes back.

    Args:
        inner: does the carrying.
        folder: of the server's part; a folder for each round is made in it.
    """

    def __init__(self, inner: Transport, folder: Path) -> None:
        self._inner = inner
        self._folder = folder

    def exchange(self, requests: Mapping[str, bytes]) -> Iterator[Reply]:
        """See `Transport.exchange`.

        Raises:
            StorageError: a reply could not be kept; a transcript with a hole would be a false one.
        """
        for reply in self._inner.exchange(requests):
            if reply.body:
                self._keep(reply)
            yield reply

    def _keep(self, reply: Reply) -> None:
        try:
            folder = self._folder / f"{decode(reply.body).round_number:04d}"
        except MessageError:
            folder = self._folder / "unreadable"
        _make(folder)
        number = 1 + len(list(folder.glob("*.bin")))
        write_atomic(folder / f"{number:04d}-{file_name(reply.client)}.bin", reply.body)


class ClientRecorder:
    """Keeps what one client sent, before sealing, and what it opened.

    Args:
        folder: of this client's own.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def sent(self, round_number: int, layout: Layout, update: Vector, weight: float) -> None:
        """Keeps an update as it goes into sealing.

        Args:
            round_number: from 1.
            layout: of the slots that train in this round.
            update: flat float32 over `layout`, not yet multiplied by the weight; zero where a value does not travel.
            weight: public weight in the mean.
        """
        self._write(f"sent-{round_number:04d}", layout, update, weight)

    def opened(self, round_number: int, layout: Layout, mean: Vector, total_weight: float) -> None:
        """Keeps the mean update of a round's members; `total_weight` is theirs together."""
        self._write(f"opened-{round_number:04d}", layout, mean, total_weight)

    def _write(self, name: str, layout: Layout, vector: Vector, weight: float) -> None:
        _make(self._folder)
        tensors = dict(layout.unflatten(vector)) | {"weight": np.array([weight], np.float64)}
        write_atomic(self._folder / f"{name}.safetensors", save(tensors))


def start_transcript(folder: Path) -> None:
    """Makes the folder and says in it what it is.

    Raises:
        StorageError: it cannot be written.
    """
    _make(folder)
    write_atomic(folder / "PRIVATE.md", NOTE)


def client_folder(folder: Path, point: int) -> Path:
    """Where client number `point` of the roster keeps its part."""
    return folder / "clients" / f"{point:04d}"


def server_folder(folder: Path) -> Path:
    """Where the server keeps its part."""
    return folder / "server"


def _make(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(folder, error) from error
