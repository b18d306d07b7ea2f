"""The global adapters of a run or of a folder, by the number of rounds done, each read when it is first asked for.

Views hold what reads them and must not lead back to the run, so what reads an adapter holds no path: it knows its
folder by its name within an opened one, see `confide.attacks.pass_store`.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from confide.errors import NonFiniteUpdateError
from confide.files import HeldFolder
from confide.model.adapter_files import parse_adapter
from confide.model.lora import AdaptedModel
from confide.update import Layout, Vector


class Adapters:
    """Reads each round's adapter once, when it is first asked for.

    Args:
        model: that they are for.
        folders: by the number of rounds done; 0 is the start, which changes nothing.
        rounds_per_attack: at most so many rounds are looked at by attacks over rounds, >= 1.

    Attributes:
        rounds: that there are, ascending, without 0.
        looked_at: those of them that attacks over rounds look at, the last one among them.

    Raises:
        StorageError: the folder that one stands in cannot be opened.
    """

    def __init__(self, model: AdaptedModel, folders: Mapping[int, Path], *, rounds_per_attack: int) -> None:
        paths = {number: folder.resolve() for number, folder in folders.items()}
        opened = {path: HeldFolder(path) for path in {one.parent for one in paths.values()}}
        self._readers = {
            number: _Reader(opened[path.parent], path, model.layout, model.base.name) for number, path in paths.items()
        }
        self.rounds = tuple(sorted(number for number in folders if number > 0))
        self.looked_at = spread_evenly(self.rounds, rounds_per_attack)

    @property
    def last(self) -> int:
        """The last round, whose model is under attack."""
        return self.rounds[-1]

    def has(self, number: int) -> bool:
        """Whether there is an adapter after so many rounds."""
        return number in self._readers

    def reader(self, number: int) -> Callable[[], Vector]:
        """What reads the adapter after so many rounds when it is called, and leads to nothing else; see `read`."""
        return self._readers[number]

    def read(self, number: int) -> Vector:
        """The adapter after so many rounds; it cannot be written to.

        Raises:
            ModelError: its files are missing, damaged, or of another model.
            NonFiniteUpdateError: it holds NaN or infinity.
        """
        return self._readers[number]()


class _Reader:
    """One adapter, once it was asked for."""

    def __init__(self, inside: HeldFolder, path: Path, layout: Layout, base_name: str) -> None:
        self._inside = inside
        self._name = path.name
        self._called = f"{path.parent.name}/{path.name}"  # in messages
        self._layout = layout
        self._base_name = base_name
        self._vector: Vector | None = None

    def __call__(self) -> Vector:
        if self._vector is None:
            vector = parse_adapter(
                lambda name: self._inside.read(f"{self._name}/{name}"),
                self._layout,
                self._base_name,
                folder=self._called,
            )
            if not np.isfinite(vector).all():
                raise NonFiniteUpdateError(
                    f"the adapter in {self._called} holds {np.count_nonzero(~np.isfinite(vector))} values of "
                    f"{vector.size} that are NaN or infinite: training diverged, or the file is damaged. Nothing can "
                    "be said about such a model: audit the rounds before it."
                )
            vector.flags.writeable = False
            self._vector = vector
        return self._vector


def spread_evenly(rounds: Sequence[int], most: int) -> tuple[int, ...]:
    """At most so many of the rounds, >= 1, evenly spread, the last and, of several, the first among them."""
    if len(rounds) <= most:
        return tuple(rounds)
    places = np.linspace(len(rounds) - 1, 0, most).round().astype(int).tolist()
    return tuple(rounds[place] for place in reversed(places))
