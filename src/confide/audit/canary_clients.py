"""How far the model and the opened sums lean towards canary clients, and what that says about a client's epsilon.

What is looked at is what the party of a view has: the final adapter, or every round's opened mean without what the
attacking clients sent themselves. The directions are the scorer's, which knows which of them took part.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from confide.attacks.view import SeenUpdate, View
from confide.audit.epsilon_bounds import UNDECIDED, EpsilonBound, EpsilonVerdict, beyond_coalition
from confide.audit.judging import Findings
from confide.audit.statistics import (
    SIGNIFICANCE,
    CanaryClientEpsilon,
    Floats,
    all_iterates_epsilon,
    canary_cosines,
    final_model_epsilon,
    gaussian_mechanism_epsilon,
    threshold_bound,
)
from confide.canaries.canary_clients import Direction, client_direction, held_out_direction
from confide.errors import RunError
from confide.update import Layout, Vector

SHARE = 0.5
"""Of an audit's significance, what canary clients' bounds may spend towards a claim; those of records have the rest."""

NUM_HELD_OUT = 1000
"""Directions that nobody sent, for what depends on every round: more of them cost time and say little more."""

LOOKED_FROM = ("final", "client", "coalition")
"""Names of the views that see a sum or a model in the clear."""
POPULATION = "canary-clients"
ATTACK = "cosine"
_VALUES_AT_ONCE = 1 << 24
"""Values of directions held in memory together: 128 MiB."""

_OF_FINAL = (
    "Assumes that how far the model leans towards a canary client is normally distributed; of a direction that took no "
    "part it is. The estimate is the paper's number, and no bound."
)
_OF_ROUNDS = (
    "Assumes that all rounds together have a Gaussian trade-off curve. Each canary client counts by the one round that "
    "leans towards it most, so what adds up over rounds is not seen. The estimate is the paper's number, and no bound; "
    "with many rounds it is too large."
)
_NO_ESTIMATE = (
    "There is no estimate: how far it leans is so nearly the same for all canary clients that the two fitted "
    "distributions would be told apart at any epsilon."
)

_Measure = Callable[[float], CanaryClientEpsilon]
"""What a view shows at a level of significance."""


@dataclass(frozen=True, kw_only=True)
class ClientClaim:
    """What a run says of a client's epsilon.

    Attributes:
        epsilon: the claimed one; None without a claim.
        delta: at which bounds are given, in (0, 1).
        coalition: how many clients may put together what they know of their own noise; the claim is about no more.
    """

    epsilon: float | None
    delta: float
    coalition: int


def audit_canary_clients(
    views: Sequence[View],
    *,
    names: Sequence[str],
    start: Vector,
    trained: Layout,
    claim: ClientClaim,
    seed: int,
    significance: float = SIGNIFICANCE,
) -> Findings:
    """Gives a lower bound on a client's epsilon from each view that has something to look at, or why there is none.

    Args:
        views: of "final" the last adapter is looked at, of "client" and "coalition" every round's opened mean; others
            are passed over.
        names: of the canary clients that took part in every round, at least 2.
        start: the adapter before the first round, flat float32 over the views' layout.
        trained: the slots that every round trained.
        claim: what bounds are compared with. Where more clients attack together than it is about, there is none.
        seed: of the run: directions follow from it.
        significance: the chance that any of the bounds is above the true epsilon, in (0, 1); each takes an equal share.

    Returns:
        The bounds, and for each view from which none can be computed a gap: where an adapter or a sum is what the start
        was, or not finite, or leans towards all canary clients alike.

    Guarantees:
        - A bound is "above the claim" by mistake with a chance of at most `SHARE * significance` over all of them, if
          what its note says holds. Where it is so only at the significance of `low`, it is "undecided".

    Raises:
        ValueError: there are fewer than 2 names.

    Source: as `confide.audit.statistics.epsilon_canary_clients`. We take out what attacking clients sent themselves,
        noise included, since the claim is about what they then see.
    """
    if len(names) < 2:
        raise ValueError(f"there are {len(names)} canary clients, expected at least 2")
    asked = [view for view in views if view.name in LOOKED_FROM and (_looks_at_final(view) or view.others_means)]
    found = Findings()
    for view in asked:
        seen = _seen(view, start, trained)
        try:
            measure = _measure(view, seen, names, delta=claim.delta, seed=seed)
            found.epsilons.append(_as_bound(view, measure, claim, significance=significance, num_tried=len(asked)))
        except RunError as error:
            found.epsilon_gaps.append(f"{POPULATION}, seen by {view.party}: no bound on a client's epsilon. {error}")
    return found


def _seen(view: View, start: Vector, trained: Layout) -> Sequence[Vector]:
    """What is looked at: the model's whole change, or every round's mean."""
    if _looks_at_final(view):
        return [_final_update(view, start, trained)]
    return [_checked(seen, trained) for _, seen in sorted(view.others_means.items())]


def _measure(view: View, seen: Sequence[Vector], names: Sequence[str], *, delta: float, seed: int) -> _Measure:
    num_values = seen[0].size
    inserted = _leaning((client_direction(name, num_values, seed=seed) for name in names), seen)
    if _looks_at_final(view):
        return lambda level: final_model_epsilon(inserted, num_values, delta=delta, significance=level)
    held_out = _leaning((held_out_direction(number, num_values, seed=seed) for number in range(NUM_HELD_OUT)), seen)
    return lambda level: all_iterates_epsilon(inserted, held_out, delta=delta, significance=level)


def _looks_at_final(view: View) -> bool:
    return view.name == "final"


def _final_update(view: View, start: Vector, trained: Layout) -> Vector:
    last = view.adapters[view.rounds[-1]]()
    return view.layout.gather(last, trained) - view.layout.gather(start, trained)


def _checked(seen: SeenUpdate, trained: Layout) -> Vector:
    trained.check(seen.vector)
    return seen.vector


def _leaning(directions: Iterable[Direction], updates: Sequence[Vector]) -> Floats:
    """How far the update that leans most towards each direction does so, shape (num_directions,)."""
    return np.concatenate(
        [
            np.max([canary_cosines(block, update) for update in updates], axis=0)
            for block in _blocks(directions, num_values=updates[0].size)
        ]
    )


def _blocks(directions: Iterable[Direction], *, num_values: int) -> Iterator[Floats]:
    waiting, at_once = iter(directions), max(1, _VALUES_AT_ONCE // num_values)
    while block := list(islice(waiting, at_once)):
        yield np.stack(block)


def _as_bound(
    view: View, measure: _Measure, claim: ClientClaim, *, significance: float, num_tried: int
) -> EpsilonBound:
    is_final, level = _looks_at_final(view), significance / num_tried
    measured = measure(level)
    ceiling = None if is_final else _ceiling(measured, level)
    num_attackers = len(view.own_clients)
    is_claimed = num_attackers <= claim.coalition
    claimed = claim.epsilon if is_claimed else None
    notes = [_OF_FINAL if is_final else _OF_ROUNDS]
    if measured.estimate is None:
        notes.append(_NO_ESTIMATE)
    if not is_claimed:
        notes.append(beyond_coalition(num_attackers, claim.coalition))
    if claimed is not None and ceiling is not None and ceiling <= claimed:
        notes.append(
            f"{measured.num_inserted} canary clients could not have shown more than {ceiling:.3g}, whatever the run "
            f"does: of a claim of {claimed:.3g} this says nothing."
        )
    verdict: EpsilonVerdict = "no claim"
    if claimed is not None:
        verdict = "within the claim"
        if measured.low > claimed:
            verdict = "above the claim" if measure(SHARE * level).low > claimed else "undecided"
    if verdict == "undecided":
        notes.append(UNDECIDED)
    return EpsilonBound(
        view=view.name,
        unit="client",
        method="canary-clients-final" if is_final else "canary-clients-rounds",
        population=POPULATION,
        attack=ATTACK,
        low=measured.low,
        estimate=measured.estimate,
        delta=claim.delta,
        significance=significance,
        num_tried=num_tried,
        num_in=measured.num_inserted,
        num_out=measured.num_held_out,
        ceiling=ceiling,
        claimed=claimed,
        verdict=verdict,
        note=" ".join(notes),
    )


def _ceiling(measured: CanaryClientEpsilon, significance: float) -> float:
    """The bound if every direction that took part stood above every one that did not."""
    best, others = np.full(measured.num_inserted, 2.0), np.linspace(0.0, 1.0, measured.num_held_out)
    bound = threshold_bound(best, others, gaussian_mechanism_epsilon, delta=measured.delta, significance=significance)
    return bound.epsilon
