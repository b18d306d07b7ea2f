"""Update and Layout: one flat float32 vector, and what its coordinates mean.

An update is what travels: a client's local adapter minus the global one. Two parties that hold the same layout digest
agree on every name, order and shape, so the vector needs no further description on the wire.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from confide.errors import LayoutMismatchError, NonFiniteUpdateError

Vector = npt.NDArray[np.float32]

_MAX_SLOTS = 1 << 16
_MAX_DIMENSIONS = 4
_MAX_SIZE = 1 << 40


@dataclass(frozen=True, kw_only=True)
class Slot:
    """One named tensor's place in a flat vector."""

    name: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """The number of values."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Layout:
    """Named, ordered, shaped slots, one after the other, row-major, without gaps.

    Raises:
        LayoutMismatchError: two slots share a name.
    """

    slots: tuple[Slot, ...]

    def __post_init__(self) -> None:
        if len({slot.name for slot in self.slots}) != len(self.slots):
            raise LayoutMismatchError("a layout names a slot twice; every slot needs its own name")

    def __iter__(self) -> Iterator[Slot]:
        return iter(self.slots)

    @cached_property
    def num_values(self) -> int:
        """The length of a vector of this layout."""
        return sum(slot.size for slot in self.slots)

    @cached_property
    def digest(self) -> str:
        """SHA-256 in hexadecimal over names, order and shapes: equal digests mean equal layouts."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def to_json(self) -> str:
        """Names and shapes in order, for a party that has no model."""
        return json.dumps([[slot.name, list(slot.shape)] for slot in self.slots], separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> "Layout":
        """Reads what `to_json` wrote, from anybody.

        Raises:
            LayoutMismatchError: it is something else, or larger than any adapter.
        """
        try:
            listed = json.loads(text)
            slots = tuple(Slot(name=name, shape=tuple(shape)) for name, shape in listed)
        except (ValueError, TypeError, RecursionError) as error:
            raise LayoutMismatchError("a layout from another party cannot be read") from error
        is_sound = 0 < len(slots) <= _MAX_SLOTS and all(
            isinstance(slot.name, str)
            and 0 < len(slot.shape) <= _MAX_DIMENSIONS
            and all(type(size) is int and 0 < size <= _MAX_SIZE for size in slot.shape)
            for slot in slots
        )
        if not is_sound or sum(slot.size for slot in slots) > _MAX_SIZE:
            raise LayoutMismatchError("a layout from another party has slots that no adapter has")
        return cls(slots)

    @cached_property
    def _slices(self) -> Mapping[str, slice]:
        slices = {}
        start = 0
        for slot in self.slots:
            slices[slot.name] = slice(start, start + slot.size)
            start += slot.size
        return slices

    def slice_of(self, name: str) -> slice:
        """Where the slot `name` lies in a vector of this layout."""
        return self._slices[name]

    def select(self, names: Iterable[str]) -> "Layout":
        """The layout of only the slots in `names`, in this layout's order.

        Raises:
            LayoutMismatchError: a name is not in this layout.
        """
        wanted = set(names)
        unknown = wanted - self._slices.keys()
        if unknown:
            raise LayoutMismatchError(f"the layout has no slots {sorted(unknown)[:3]} ({len(unknown)} unknown)")
        return Layout(tuple(slot for slot in self.slots if slot.name in wanted))

    def gather(self, vector: Vector, part: "Layout") -> Vector:
        """Copies out of a vector of this layout the values of `part`, a layout made by `select`."""
        self.check(vector)
        pieces = [vector[self._slices[slot.name]] for slot in part]
        return np.concatenate(pieces) if pieces else np.empty(0, np.float32)

    def scatter(self, vector: Vector, part: "Layout", values: Vector) -> Vector:
        """Gives a copy of `vector` in which the slots of `part` hold `values`; the inverse of `gather`."""
        self.check(vector)
        part.check(values)
        result = vector.copy()
        for slot in part:
            result[self._slices[slot.name]] = values[part._slices[slot.name]]
        return result

    def flatten(self, tensors: Mapping[str, npt.NDArray[np.float32]]) -> Vector:
        """Lays named arrays into one flat float32 vector.

        Raises:
            LayoutMismatchError: names or shapes differ from the layout's; the message lists the first ones.
        """
        missing = [slot.name for slot in self.slots if slot.name not in tensors]
        extra = sorted(tensors.keys() - self._slices.keys())
        if missing or extra:
            raise LayoutMismatchError(
                f"got {len(tensors)} tensors, the layout has {len(self.slots)}. "
                f"Missing: {missing[:3] or 'none'}; unexpected: {extra[:3] or 'none'}."
            )
        vector = np.empty(self.num_values, np.float32)
        for slot in self.slots:
            tensor = tensors[slot.name]
            if tensor.shape != slot.shape:
                raise LayoutMismatchError(f"{slot.name} has shape {tensor.shape}, the layout says {slot.shape}")
            vector[self._slices[slot.name]] = tensor.reshape(-1)
        return vector

    def unflatten(self, vector: Vector) -> dict[str, npt.NDArray[np.float32]]:
        """Gives named, shaped views into `vector` (no copies): the inverse of `flatten`."""
        self.check(vector)
        return {slot.name: vector[self._slices[slot.name]].reshape(slot.shape) for slot in self.slots}

    def check(self, vector: Vector) -> None:
        """Checks that `vector` is flat float32 of this layout's length.

        Raises:
            LayoutMismatchError: it is not.
        """
        if vector.ndim != 1 or vector.dtype != np.float32 or vector.size != self.num_values:
            raise LayoutMismatchError(
                f"expected a flat float32 vector of {self.num_values} values, "
                f"got {vector.dtype} of shape {vector.shape}"
            )


@dataclass(frozen=True, kw_only=True)
class Update:
    """A client's local adapter minus the global one, flat, with the layout that names its coordinates.

    Guarantees:
        - `vector` is flat float32 of the layout's length and holds only finite values.

    Raises:
        LayoutMismatchError: the vector does not fit the layout.
        NonFiniteUpdateError: the vector holds NaN or infinity.
    """

    layout: Layout
    vector: Vector

    def __post_init__(self) -> None:
        self.layout.check(self.vector)
        if not np.isfinite(self.vector).all():
            bad = int(self.vector.size - np.isfinite(self.vector).sum())
            raise NonFiniteUpdateError(
                f"the update holds {bad} values of {self.vector.size} that are NaN or infinite. "
                "Lower train.learning_rate or set train.clip_grad_norm."
            )

    def __repr__(self) -> str:
        return f"Update({self.vector.size} values, layout {self.layout.digest[:12]})"
