"""What a client carries from round to round, as bytes too, and where it keeps what must survive a crash."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from confide.errors import MessageError
from confide.files import storage_error, write_atomic
from confide.global_state import GlobalState
from confide.membership.memberlist import Entry
from confide.messages import MAX_WIDENINGS, pack_parts, unpack_parts
from confide.update import Vector

_CLIENT = "client"
_NUM_SEEN = "num_seen"
_NUM_SUMS = "num_sums"
_ROUND = "round_number"
_CONTROL = "control."
_REMAINDER = "remainder."
_OWNER_ONLY = 0o600


@dataclass(frozen=True, kw_only=True)
class ClientState:
    """What a client carries from round to round.

    Attributes:
        shared: the global state, equal at all clients.
        num_seen: examples read so far: where its walk over its data stands.
        num_sums: how many opened sums hold an upload of its.
        controls: SCAFFOLD's c_i by trained layout's digest; empty otherwise.
        remainders: what of its updates has not travelled yet (error feedback), by trained layout's digest.
    """

    shared: GlobalState
    num_seen: int = 0
    num_sums: int = 0
    controls: Mapping[str, Vector] = field(default_factory=dict, repr=False)
    remainders: Mapping[str, Vector] = field(default_factory=dict, repr=False)


def pack_own(client: str, state: ClientState) -> bytes:
    """Encodes what is a client's own; the global state is not in it, only which round it belongs to."""
    name = np.frombuffer(client.encode(), np.uint8)
    numbers = {_NUM_SEEN: state.num_seen, _NUM_SUMS: state.num_sums, _ROUND: state.shared.round_number}
    tensors = {what: np.array([number], np.int64) for what, number in numbers.items()}
    vectors = {_CONTROL + digest: vector for digest, vector in state.controls.items()}
    vectors |= {_REMAINDER + digest: vector for digest, vector in state.remainders.items()}
    data: bytes = save({_CLIENT: name} | tensors | vectors)
    return data


def unpack_own(data: bytes, client: str, shared: GlobalState) -> ClientState:
    """Decodes what `pack_own` gave, beside the global state that the client holds.

    Raises:
        MessageError: the bytes are damaged, or another client's.
    """
    try:
        tensors: Mapping[str, Vector] = load(data)
        num_seen, _ = int(tensors[_NUM_SEEN][0]), int(tensors[_ROUND][0])
        num_sums = int(tensors[_NUM_SUMS][0]) if _NUM_SUMS in tensors else 0  # runs of before did not keep it
        name = tensors[_CLIENT].tobytes()
    except (SafetensorError, KeyError, IndexError, ValueError, TypeError, OverflowError) as error:
        raise MessageError("a client's saved state is damaged") from error
    if name != client.encode():
        raise MessageError(f"what is to be the state of client {client} is another client's")
    return ClientState(
        shared=shared,
        num_seen=num_seen,
        num_sums=num_sums,
        controls=_named(tensors, _CONTROL),
        remainders=_named(tensors, _REMAINDER),
    )


@dataclass(frozen=True, kw_only=True)
class Pending:
    """What takes effect once the sum that a client's upload went into has opened.

    Attributes:
        state: the client's state then; its global state is the one before the round.
        entry: how the upload must be listed.
        reference_weight: what its weight was divided by.
        widening: how often the round's range was doubled before the upload was sealed in it.
    """

    state: ClientState
    entry: Entry
    reference_weight: float
    widening: int

    def to_bytes(self) -> bytes:
        """Encodes it, without the global state."""
        listed = {**asdict(self.entry), "reference_weight": self.reference_weight, "widening": self.widening}
        return pack_parts({"listed": json.dumps(listed).encode(), "own": pack_own(self.entry.client, self.state)})

    @staticmethod
    def from_bytes(data: bytes, shared: GlobalState) -> "Pending | None":
        """Decodes it beside the global state that the client holds; None if it belongs to another round.

        Raises:
            MessageError: the bytes are damaged.
        """
        try:
            parts = unpack_parts(data)
            listed = json.loads(parts["listed"])
            reference_weight = float(listed.pop("reference_weight"))
            widening = listed.pop("widening")
            entry = Entry(**listed)
            if not 0 < reference_weight < math.inf:
                raise ValueError("a reference weight is a positive number")
            if widening not in range(MAX_WIDENINGS + 1):
                raise ValueError("a range is doubled a few times at most")
        except (
            MessageError,
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
            OverflowError,
            RecursionError,
        ) as error:
            raise MessageError("what a client kept of an upload is damaged") from error
        if "own" not in parts:
            raise MessageError("what a client kept of an upload is damaged")
        state = unpack_own(parts["own"], entry.client, shared)
        if round_of(parts["own"]) != shared.round_number:
            return None
        return Pending(state=state, entry=entry, reference_weight=reference_weight, widening=int(widening))


class PendingStore(Protocol):
    """Keeps a `Pending` or a `Kept`: a client restarted amid a round goes on as if nothing had happened."""

    def save(self, pending: bytes | None) -> None:
        """Replaces what is kept; None forgets it."""
        ...

    def load(self) -> bytes | None:
        """What is kept."""
        ...


class MemoryPending:
    """For clients that live and die with the process."""

    def __init__(self) -> None:
        self._pending: bytes | None = None

    def save(self, pending: bytes | None) -> None:
        """See `PendingStore.save`."""
        self._pending = pending

    def load(self) -> bytes | None:
        """See `PendingStore.load`."""
        return self._pending


class FilePending:
    """In a file of the client's own, which nobody else may read.

    Args:
        path: of the file; its folder is made.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def save(self, pending: bytes | None) -> None:
        """See `PendingStore.save`; atomic.

        Raises:
            StorageError: the disk is full, or the file cannot be written or read.
        """
        try:
            if pending is None:
                self._path.unlink(missing_ok=True)
                return
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(self._path, error) from error
        write_atomic(self._path, pending, mode=_OWNER_ONLY)

    def load(self) -> bytes | None:
        """See `PendingStore.load`."""
        try:
            return self._path.read_bytes() if self._path.exists() else None
        except OSError as error:
            raise storage_error(self._path, error) from error


def round_of(own: bytes) -> int:
    """The round after which `pack_own` was called."""
    return int(load(own)[_ROUND][0])


def _named(tensors: Mapping[str, Vector], prefix: str) -> dict[str, Vector]:
    return {name.removeprefix(prefix): vector for name, vector in tensors.items() if name.startswith(prefix)}
