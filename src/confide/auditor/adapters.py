"""The global adapters of a run or of a folder, by the number of rounds done, as vectors: paths stay in here."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from confide.errors import NonFiniteUpdateError
from confide.model.adapter_files import read_adapter
from confide.model.lora import AdaptedModel
from confide.update import Vector

MOST_ROUNDS = 6
"""Rounds whose models are looked at: each costs a pass over every record."""


class Adapters:
    """Reads each round's adapter once, when it is first asked for.

    Args:
        model: that they are for.
        folders: by the number of rounds done; 0 is the start, which changes nothing.
    """

    def __init__(self, model: AdaptedModel, folders: Mapping[int, Path]) -> None:
        self._model = model
        self._folders = dict(folders)
        self._known: dict[int, Vector] = {}
        self.rounds = tuple(sorted(number for number in folders if number > 0))
        self.looked_at = spread_rounds(self.rounds, MOST_ROUNDS)

    @property
    def last(self) -> int:
        """The last round, whose model is under attack."""
        return self.rounds[-1]

    def has(self, number: int) -> bool:
        """Whether there is an adapter after so many rounds."""
        return number in self._folders

    def read(self, number: int) -> Vector:
        """The adapter after so many rounds; it cannot be written to.

        Raises:
            ModelError: its files are missing, damaged, or of another model.
            NonFiniteUpdateError: it holds NaN or infinity.
        """
        if number not in self._known:
            folder = self._folders[number]
            vector = read_adapter(folder, self._model.layout, self._model.base.name)
            if not np.isfinite(vector).all():
                raise NonFiniteUpdateError(
                    f"the adapter in {folder} holds {np.count_nonzero(~np.isfinite(vector))} values of {vector.size} "
                    "that are NaN or infinite: training diverged, or the file is damaged. Nothing can be said about "
                    "such a model: audit the rounds before it."
                )
            vector.flags.writeable = False
            self._known[number] = vector
        return self._known[number]


def spread_rounds(rounds: Sequence[int], most: int) -> tuple[int, ...]:
    """At most so many of the rounds, evenly spread; the last two, which the paper's attack takes, among them."""
    return (*spread_evenly(rounds[:-1], most - 1), *rounds[-1:])


def spread_evenly(rounds: Sequence[int], most: int) -> tuple[int, ...]:
    """At most so many of the rounds, evenly spread, the first and the last among them."""
    if len(rounds) <= most:
        return tuple(rounds)
    places = np.linspace(0, len(rounds) - 1, most).round().astype(int).tolist()
    return tuple(rounds[place] for place in places)
