"""Keeps what models said of records, on disk and in memory, so that no pass is made twice.

A store is a folder with one folder per model, and in it parts: safetensors files that are written once, whole, and
never changed. A part holds numbers under digests; no text and no name. Numbers can still tell: the answers a model gave
may be what it memorised, and whoever guesses a short record can check the guess by its digest. The folder is as
confidential as the data.

Attacks are given what holds a store, and the folder stands in the directory of the run that they attack, beside what
they must not know: its configuration with the seed of the coins, and the transcript. So a store holds no path. It opens
its folder once and keeps the descriptor. That keeps an attack from reading by mistake what its party does not see; no
object keeps Python code that means to from opening files.
"""

import hashlib
import logging
import os
import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from confide.files import HeldFolder, make_folder, storage_error

Column = npt.NDArray[Any]
Entry = Mapping[str, Column]

_FORMAT = "confide passes 1"
_SUFFIX = ".safetensors"
_DIGEST_BYTES = 32
_PART = re.compile(rf"[0-9a-f]{{{2 * _DIGEST_BYTES}}}{re.escape(_SUFFIX)}")
_VALUES, _LENGTHS = "values ", "lengths "

_log = logging.getLogger(__name__)


class PassStore:
    """Entries by model and key. An entry is a few named one-dimensional arrays.

    What was read or added stays in memory, as arrays that cannot be written to. Several processes may use a folder at
    once: each part appears whole under a name of its own, and a process reads a model's parts when it first asks for
    that model.

    A part's name is the SHA-256 of its bytes. A part that is cut off or changed, is of another model or of another
    version of the format, is left where it is, named in the log, and its entries count as not there: they are computed
    again. Files that are not named as parts are not looked at.

    Args:
        folder: made if it is not there; None keeps everything in memory alone.

    Raises:
        StorageError: the folder cannot be made or opened.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = None if folder is None else _Folder(folder)
        self._entries: dict[str, dict[bytes, Entry]] = {}

    def find(self, model: str, key: bytes) -> Entry:
        """Gives the columns that are kept under a key, none where there are none.

        Args:
            model: digest in hexadecimal of everything that decides what the model says.
            key: SHA-256 of everything else that decides the entry.
        """
        return self._of_model(model).get(key, {})

    def add(self, model: str, entries: Mapping[bytes, Entry]) -> None:
        """Keeps entries, in one part. Columns that a key has already stay beside the new ones.

        Args:
            model: as in `find`.
            entries: all with the same column names; arrays of one dimension and of any length.

        Raises:
            StorageError: the part could not be written; nothing was added.
        """
        if not entries:
            return
        if self._folder is not None:
            content = _pack(model, entries)
            self._folder.write(model, f"{hashlib.sha256(content).hexdigest()}{_SUFFIX}", content)
        self._merge(model, entries)

    def _of_model(self, model: str) -> dict[bytes, Entry]:
        if model not in self._entries:
            self._entries[model] = {}
            for name in self._parts(model):
                entries = self._read(model, name)
                if entries is None:
                    _log.warning(
                        "%s/%s of the kept passes is damaged or not of this model: what it holds is computed again",
                        model,
                        name,
                    )
                else:
                    self._merge(model, entries)
        return self._entries[model]

    def _parts(self, model: str) -> list[str]:
        names = [] if self._folder is None else self._folder.names(model)
        return sorted(name for name in names if _PART.fullmatch(name))

    def _read(self, model: str, name: str) -> dict[bytes, Entry] | None:
        return None if self._folder is None else _unpack(self._folder.read(model, name), name, model)

    def _merge(self, model: str, entries: Mapping[bytes, Entry]) -> None:
        known = self._of_model(model)
        for key, entry in entries.items():
            for values in entry.values():
                values.flags.writeable = False
            known[key] = {**known.get(key, {}), **entry}


class _Folder:
    """A folder with one folder per model in it, by its descriptor and not by its name."""

    def __init__(self, path: Path) -> None:
        make_folder(path)
        self._held = HeldFolder(path)

    def names(self, model: str) -> list[str]:
        """The files of a model."""
        with self._of_model(model) as folder:
            if folder is None:
                return []
            with os.scandir(folder) as files:
                return [file.name for file in files]

    def read(self, model: str, name: str) -> bytes:
        """All bytes of a file."""
        return self._held.read(f"{model}/{name}")

    def write(self, model: str, name: str, content: bytes) -> None:
        """Writes a file as `write_atomic` does: a temporary sibling, fsync, rename, fsync of the folder.

        Raises:
            StorageError: it cannot be written.
        """
        path, temporary = f"{model}/{name}", f"{model}/.tmp-{uuid.uuid4().hex}-{name}"
        try:
            with suppress(FileExistsError):
                os.mkdir(model, dir_fd=self._held.descriptor)
            with open(temporary, "wb", opener=self._held.open) as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path, src_dir_fd=self._held.descriptor, dst_dir_fd=self._held.descriptor)
            with self._of_model(model) as folder:
                if folder is not None:
                    os.fsync(folder)
        except OSError as error:
            with suppress(FileNotFoundError, NotADirectoryError):
                os.unlink(temporary, dir_fd=self._held.descriptor)
            raise storage_error(Path(path), error) from error

    @contextmanager
    def _of_model(self, model: str) -> Iterator[int | None]:
        """The descriptor of a model's folder; None if there is none."""
        try:
            folder = self._held.open(model, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            yield None
            return
        try:
            yield folder
        finally:
            os.close(folder)


def _origin(model: str) -> npt.NDArray[np.uint8]:
    return np.frombuffer(hashlib.sha256(f"{_FORMAT}\n{model}".encode()).digest(), np.uint8)


def _pack(model: str, entries: Mapping[bytes, Entry]) -> bytes:
    """Lays each column of all entries end to end."""
    tensors: dict[str, Column] = {
        "origin": _origin(model),
        "keys": np.frombuffer(b"".join(entries), np.uint8).reshape(len(entries), _DIGEST_BYTES),
    }
    for name in next(iter(entries.values())):
        columns = [entry[name] for entry in entries.values()]
        tensors[f"{_VALUES}{name}"] = np.concatenate(columns)
        tensors[f"{_LENGTHS}{name}"] = np.array([column.size for column in columns], np.int64)
    content: bytes = save(tensors)
    return content


def _unpack(content: bytes, name: str, model: str) -> dict[bytes, Entry] | None:
    """Gives a part's entries, or None if it is not a whole part of this model."""
    if hashlib.sha256(content).hexdigest() != name.removesuffix(_SUFFIX):
        return None
    try:
        tensors: dict[str, Column] = load(content)
    except SafetensorError:
        return None
    if not np.array_equal(tensors.get("origin", np.empty(0)), _origin(model)):
        return None
    keys = [row.tobytes() for row in tensors["keys"]]
    columns = {
        name.removeprefix(_VALUES): np.split(values, np.cumsum(tensors[_LENGTHS + name.removeprefix(_VALUES)])[:-1])
        for name, values in tensors.items()
        if name.startswith(_VALUES)
    }
    return {key: {name: parts[number] for name, parts in columns.items()} for number, key in enumerate(keys)}
