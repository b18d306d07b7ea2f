"""M15: does a record's gradient point where an update went? Cosine, cosine by layer, gradient difference, and joint.

A step of training on a record moves the adapter against that record's gradient, so an update that was trained on it
lies more along that direction than chance. Works on one client's update and, weaker, on a mean of several.

An update is a gradient times a factor that nobody outside knows exactly: learning rate, number of steps, and with Adam
another one for every value. No score here needs it: if every update is multiplied by the same positive number, records
keep their order.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from confide.attacks.passes import Passes
from confide.data.examples import TokenizedExample
from confide.errors import NonFiniteUpdateError
from confide.seeds import stream
from confide.update import Layout, Vector

Scores = npt.NDArray[np.float64]
MEASURES = ("cosine", "layer cosine", "difference", "joint")
RIDGE = 0.3
"""Of the joint solve, in squared lengths of a unit gradient: what is counted as noise in every direction.

Fixed, so that no update decides about its own attack. Measured on gradients of texts of random words, of random letters
and of rare ones, with noise of half a gradient's length, and with records of unequal weight: bounds on epsilon with 0.1
and 1 are up to half lower or much the same. 0.001 loses four fifths of them or more to noise where gradients are much
alike, and 3 up to two thirds to other records, as it comes close to the plain cosine.
"""
_MOST_KEPT = 2**26
_MOST_COORDINATES = 2**20


@dataclass(frozen=True, kw_only=True)
class Target:
    """An update that was seen, and where it started.

    Attributes:
        name: of what was seen, e.g. "client update".
        round_number: in which it was made.
        layout: of the slots that moved.
        vector: flat float32 over `layout`: new minus old.
    """

    name: str
    round_number: int
    layout: Layout
    vector: Vector = field(repr=False)


def score_updates(
    passes: Passes,
    starts: Mapping[int, Vector],
    examples: Sequence[TokenizedExample],
    targets: Sequence[Target],
) -> dict[str, Scores]:
    """Scores every record against every target.

    Args:
        passes: gives the gradients; one backward pass for each record, round and set of slots.
        starts: the global adapter that each target's round started from, by round.
        examples: records to ask about.
        targets: updates that were seen.

    Returns:
        By measure of `MEASURES`: shape (num_examples, num_targets), float64; higher speaks for membership. The cosines
        are in [-1, 1], the difference is in units of a learning rate, the joint score in unit gradients for an update
        of length 1. An update of zeros scores 0 everywhere, as does a gradient of zeros: it says nothing.

    Guarantees:
        - With an update turned around every score changes its sign. So one that has nothing to do with the records, as
          likely to point one way as the other, ranks them at chance, however well their gradients' lengths alone tell
          members from others: that would be the model's leak and not the update's.
        - The joint score of records whose gradients are orthogonal to all others' is their cosine, by one factor for
          all of them. Records with the same gradient share what is found in that direction.

    Raises:
        NonFiniteUpdateError: a target holds NaN or infinity.

    Source: Li, Li and Ribeiro, "Effective passive membership inference attacks in federated learning against
        overparameterized models", ICLR 2023: cosine with the update, and gradient difference |G|^2 - |G - g|^2 > 0, the
        same as <g, G> > |g|^2 / 2, with G the sum of the gradients that made the update. We see u = G times an unknown
        c > 0, so the test is <g, u> / |g|^2 > c / 2, and its left side, which does not hold c, is the score: the
        records in the order in which the published test would pick them as c falls. To put u itself, or u scaled to fit
        the records' mean gradient, in the place of G leaves <g, G> so small beside |g|^2 that the score is -|g|^2 and
        does not look at the update. Cosine by layer is the mean over slots with any movement.

        Joint: ridge regression (Hoerl and Kennard 1970) of the update's direction on all examples' unit gradients A,
        (A'A + r I)^-1 A' u / |u|: each record's share in the update with the others' shares taken out. The white-box
        score of Steinke, Nasr and Jagielski, "Privacy auditing with one (1) training run" (arXiv 2305.08846), is the
        inner product with canaries' gradients that are orthogonal by choice; those of texts are not, and what one
        record adds to another's inner product is more than clipped training's noise. It knows of the examples that are
        given, and of nothing else that may be in the update. The update's length is divided out: it holds the learning
        rate and the number of rows that a client divides by, which are no evidence, and where noise hides rows it is
        nearly the noise's length, the same for all clients and rounds. So means over rounds and orders over clients
        are as comparable as those of cosines.
    """
    found = {measure: np.zeros((len(examples), len(targets))) for measure in MEASURES}
    for target in targets:
        if not np.isfinite(target.vector).all():
            raise NonFiniteUpdateError(f"the {target.name} of round {target.round_number} holds NaN or infinity")
    groups: dict[tuple[int, Layout], list[int]] = {}
    for number, target in enumerate(targets):
        groups.setdefault((target.round_number, target.layout), []).append(number)
    for (round_number, layout), numbers in groups.items():
        directions = [_Pieces(-targets[number].vector, layout) for number in numbers]
        gradients = passes.gradients(starts[round_number], examples, layout)
        overlaps = _Overlaps(len(examples), layout.num_values)
        for row, gradient in enumerate(gradients):
            overlaps.add(row, gradient)
            pieces = _Pieces(gradient.astype(np.float64), layout)
            for number, direction in zip(numbers, directions, strict=True):
                for measure, score in _scores(pieces, direction).items():
                    found[measure][row, number] = score
        found["joint"][:, numbers] = overlaps.solve(found["cosine"][:, numbers])
    return found


class _Overlaps:
    """The inner products of all unit gradients with each other.

    Keeps at most `_MOST_KEPT` float32 values (256 MiB). Longer gradients are kept as count sketches (Charikar, Chen and
    Farach-Colton 2002): every coordinate is added, with a random sign, to a random one of fewer, which leaves an inner
    product as it is but for an error of about one over the root of their number, 0.001 for a million.
    """

    def __init__(self, num_gradients: int, num_values: int) -> None:
        self._width = min(num_values, _MOST_COORDINATES, max(1, _MOST_KEPT // max(1, num_gradients)))
        self._is_sketched = self._width < num_values
        if self._is_sketched:
            rng = stream(0, "count sketch", num_values, self._width)
            self._buckets = rng.integers(self._width, size=num_values, dtype=np.int32)
            self._signs = rng.choice(np.array([-1, 1], np.int8), num_values)
        self._kept = np.zeros((num_gradients, self._width), np.float32)

    def add(self, row: int, gradient: Vector) -> None:
        """Keeps the direction of one gradient; of one of zeros nothing."""
        unit = gradient.astype(np.float64)
        length = np.linalg.norm(unit)
        if length == 0:
            return
        unit /= length
        self._kept[row] = self._sketch(unit) if self._is_sketched else unit

    def solve(self, inner: Scores) -> Scores:
        """Takes inner products of unit gradients with directions to the gradients' shares in these.

        Args:
            inner: shape (num_gradients, num_directions).
        """
        overlaps = (self._kept @ self._kept.T).astype(np.float64)
        return np.linalg.solve(overlaps + RIDGE * np.eye(len(overlaps)), inner).astype(np.float64)

    def _sketch(self, unit: Scores) -> Scores:
        return np.bincount(self._buckets, weights=self._signs * unit, minlength=self._width).astype(np.float64)


class _Pieces:
    """A vector by its slots; float32 or float64, as it is large.

    Attributes:
        values: each slot's.
        squared: their squared lengths in float64, shape (num_slots,).
    """

    def __init__(self, vector: Vector | Scores, layout: Layout) -> None:
        self.values = [vector[layout.slice_of(slot.name)] for slot in layout]
        self.squared: Scores = np.array([_product(piece, piece) for piece in self.values])


def _product(one: Vector | Scores, other: Vector | Scores) -> float:
    """In float64."""
    return float(one.astype(np.float64, copy=False) @ other.astype(np.float64, copy=False))


def _scores(gradient: _Pieces, direction: _Pieces) -> dict[str, float]:
    inner = np.array([_product(g, u) for g, u in zip(gradient.values, direction.values, strict=True)])
    squared, moved = gradient.squared, direction.squared  # each (num_slots,), as is inner
    has_moved = moved > 0
    by_slot = [_cosine(*parts) for parts in zip(inner[has_moved], squared[has_moved], moved[has_moved], strict=True)]
    return {
        "cosine": _cosine(inner.sum(), squared.sum(), moved.sum()),
        "layer cosine": float(np.mean(by_slot)) if by_slot else 0.0,
        "difference": inner.sum() / squared.sum() if squared.any() else 0.0,
    }


def _cosine(inner: float, squared: float, moved: float) -> float:
    norm = float(np.sqrt(squared) * np.sqrt(moved))
    return inner / norm if norm > 0 else 0.0
