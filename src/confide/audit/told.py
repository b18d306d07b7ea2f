"""Scores of canaries beside their coins: what bounds on epsilon are made from, and when none can be."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from confide.attacks.candidates import Candidate
from confide.audit.document import ViewKind
from confide.audit.statistics import Flags, Floats
from confide.audit.truth import Population, Truth


@dataclass(frozen=True, kw_only=True)
class Told:
    """What one attack, which was fixed beforehand, says from one view about canaries of one copy.

    Attributes:
        view: of which kind of party.
        population: which canaries.
        attack: whose scores.
        scores: higher = in, shape (num_canaries,), finite; made without the coins.
        coins: whether each canary was in, shape (num_canaries,); fair and independent.
    """

    view: ViewKind
    population: str
    attack: str
    scores: Floats = field(repr=False)
    coins: Flags = field(repr=False)


def coins_gap(population: Population, asked: Sequence[Candidate], truth: Truth) -> str:
    """Says in a sentence why these coins bound no record's epsilon; "" where they do.

    Args:
        population: whom the candidates are of.
        asked: those in question.
        truth: the answers.
    """
    name = population.name
    if not truth.is_randomised:
        return f"{name}: no coins decided what was trained on (audit.canaries), so nothing bounds epsilon."
    if any(truth.copies.get(one.candidate_id, 1) != 1 for one in asked):
        return f"{name}: one coin adds several copies, which says nothing about the epsilon of one record."
    if population.num_unread:
        return (
            f"{name}: training never came to {population.num_unread} of the members, which are left out, so the coins "
            "of the others are not fair, and nothing bounds epsilon. Train for more steps (train.local_steps, "
            "federation.rounds)."
        )
    return ""
