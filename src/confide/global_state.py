"""The state that all clients hold alike: the global adapter and what the server optimiser remembers."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from confide.errors import MessageError
from confide.update import Layout, Vector

_ADAPTER = "adapter"
_ROUND = "round_number"
_MEMORY = "memory."


@dataclass(frozen=True, kw_only=True)
class GlobalState:
    """What every client computes for itself, round after round, to the same bits.

    Attributes:
        layout: of the whole adapter.
        round_number: rounds done; 0 at the start.
        adapter: the global adapter, flat over `layout`.
        memory: named vectors that live across rounds: moments of the server optimiser, SCAFFOLD's control variate.
    """

    layout: Layout
    round_number: int
    adapter: Vector = field(repr=False)
    memory: Mapping[str, Vector] = field(default_factory=dict, repr=False)

    @cached_property
    def digest(self) -> str:
        """SHA-256 in hexadecimal over all of it: equal digests mean equal states, to the bit."""
        running = hashlib.sha256(f"{self.layout.digest} {self.round_number}".encode())
        for name, vector in [(_ADAPTER, self.adapter), *sorted(self.memory.items())]:
            running.update(json.dumps([name, vector.size]).encode())
            running.update(np.ascontiguousarray(vector, "<f4").data)
        return running.hexdigest()

    def to_bytes(self) -> bytes:
        """Encodes the state (safetensors); the layout is not in it, both sides have it."""
        tensors = {_ADAPTER: self.adapter, _ROUND: np.array([self.round_number], np.int64)}
        tensors |= {_MEMORY + name: vector for name, vector in self.memory.items()}
        data: bytes = save(tensors)
        return data

    @staticmethod
    def from_bytes(data: bytes, layout: Layout) -> "GlobalState":
        """Decodes a state.

        Raises:
            MessageError: the bytes are no state of this layout.
        """
        try:
            tensors = load(data)
            adapter, number = tensors.pop(_ADAPTER), int(tensors.pop(_ROUND)[0])
        except (SafetensorError, KeyError, IndexError, ValueError, TypeError, OverflowError) as error:
            raise MessageError("these bytes hold no global state") from error
        layout.check(adapter)
        if any(vector.dtype != np.float32 or vector.ndim != 1 for vector in tensors.values()) or number < 0:
            raise MessageError("these bytes hold a global state with vectors or a round that none has")
        memory = {name.removeprefix(_MEMORY): vector for name, vector in tensors.items()}
        return GlobalState(layout=layout, round_number=number, adapter=adapter, memory=memory)
