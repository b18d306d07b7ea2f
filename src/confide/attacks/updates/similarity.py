"""M15: does a record's gradient point where an update went? Cosine, cosine by layer, and gradient difference.

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
from confide.update import Layout, Vector

Scores = npt.NDArray[np.float64]
MEASURES = ("cosine", "layer cosine", "difference")


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
        are in [-1, 1], the difference is in units of a learning rate. An update of zeros scores 0 everywhere, as does a
        gradient of zeros: it says nothing.

    Guarantees:
        - With an update turned around every score changes its sign. So one that has nothing to do with the records, as
          likely to point one way as the other, ranks them at chance, however well their gradients' lengths alone tell
          members from others: that would be the model's leak and not the update's.

    Raises:
        NonFiniteUpdateError: a target holds NaN or infinity.

    Source: Li, Li and Ribeiro, "Effective passive membership inference attacks in federated learning against
        overparameterized models", ICLR 2023: cosine with the update, and gradient difference |G|^2 - |G - g|^2 > 0, the
        same as <g, G> > |g|^2 / 2, with G the sum of the gradients that made the update. We see u = G times an unknown
        c > 0, so the test is <g, u> / |g|^2 > c / 2, and its left side, which does not hold c, is the score: the
        records in the order in which the published test would pick them as c falls. To put u itself, or u scaled to fit
        the records' mean gradient, in the place of G leaves <g, G> so small beside |g|^2 that the score is -|g|^2 and
        does not look at the update. Cosine by layer is the mean over slots with any movement.
    """
    found = {measure: np.zeros((len(examples), len(targets))) for measure in MEASURES}
    for target in targets:
        if not np.isfinite(target.vector).all():
            raise NonFiniteUpdateError(f"the {target.name} of round {target.round_number} holds NaN or infinity")
    groups: dict[tuple[int, Layout], list[int]] = {}
    for number, target in enumerate(targets):
        groups.setdefault((target.round_number, target.layout), []).append(number)
    for (round_number, layout), numbers in groups.items():
        directions = [-targets[number].vector for number in numbers]
        gradients = passes.gradients(starts[round_number], examples, layout)
        for row, gradient in enumerate(gradients):
            for number, direction in zip(numbers, directions, strict=True):
                for measure, score in _scores(gradient, direction, layout).items():
                    found[measure][row, number] = score
    return found


def _scores(gradient: Vector, direction: Vector, layout: Layout) -> dict[str, float]:
    by_slot = [
        _products(gradient[layout.slice_of(slot.name)], direction[layout.slice_of(slot.name)]) for slot in layout
    ]
    inner, squared, moved = np.array(by_slot).T  # each (num_slots,)
    return {
        "cosine": _cosine(inner.sum(), squared.sum(), moved.sum()),
        "layer cosine": float(np.mean([_cosine(*parts) for parts in by_slot if parts[2] > 0]) if moved.any() else 0.0),
        "difference": inner.sum() / squared.sum() if squared.any() else 0.0,
    }


def _products(gradient: Vector, direction: Vector) -> tuple[float, float, float]:
    """<g, u>, |g|^2 and |u|^2, in float64."""
    g, u = gradient.astype(np.float64), direction.astype(np.float64)
    return float(g @ u), float(g @ g), float(u @ u)


def _cosine(inner: float, squared: float, moved: float) -> float:
    norm = float(np.sqrt(squared) * np.sqrt(moved))
    return inner / norm if norm > 0 else 0.0
