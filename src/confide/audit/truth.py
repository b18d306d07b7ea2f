"""What attacks are scored against: which candidates were trained on. Scorers open it; attacks never see it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from confide.attacks.candidates import Candidate, PossibleSecrets
from confide.plural import plural


@dataclass(frozen=True, kw_only=True)
class Truth:
    """The answers, by a candidate's id.

    Attributes:
        members: whether it was trained on.
        copies: how many training records carry it if it was: more than 1 for canaries that were repeated.
        secrets: the planted secret, where there is one.
        is_randomised: whether fair coins decided who is a member. Without them members may differ from others in more
            than training, and nothing can be said for certain.
    """

    members: Mapping[str, bool] = field(repr=False)
    copies: Mapping[str, int] = field(default_factory=dict, repr=False)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    is_randomised: bool

    def labels(self, candidates: Sequence[Candidate]) -> npt.NDArray[np.bool_]:
        """Whether each candidate is a member, shape (num_candidates,)."""
        return np.array([self.members[candidate.candidate_id] for candidate in candidates], np.bool_)


@dataclass(frozen=True, kw_only=True)
class Population:
    """Candidates of one kind, members and others alike.

    Attributes:
        name: "records", or a kind of canary.
        candidates: in an order that tells nothing.
        lower: the lower-cased twin of each candidate, in the same order; None where there are none.
        alternatives: for each candidate the same record with other secrets of the same form, some of all that there
            are; none for plain records, nor where `every_secret` has all.
        every_secret: for each candidate all secrets of the same form in its place, made when called; none for plain
            records, nor where there are too many.
        num_possible: how many secrets of that form there are in all; 0 where nobody knows.
        num_unread: members that are left out because training never came to them. Where there are any, the coins of the
            others are no longer fair.
    """

    name: str
    candidates: tuple[Candidate, ...] = field(repr=False)
    lower: tuple[Candidate, ...] | None = field(default=None, repr=False)
    alternatives: Mapping[str, tuple[Candidate, ...]] = field(default_factory=dict, repr=False)
    every_secret: Mapping[str, Callable[[], PossibleSecrets]] = field(default_factory=dict, repr=False)
    num_possible: int = 0
    num_unread: int = 0

    @property
    def has_secrets(self) -> bool:
        """Whether secrets were planted that can be ranked among others."""
        return bool(self.alternatives or self.every_secret)

    @property
    def ids(self) -> tuple[str, ...]:
        """The candidates' ids, in their order."""
        return tuple(candidate.candidate_id for candidate in self.candidates)

    def of_others(self, owners: frozenset[str]) -> "Population":
        """The candidates that belong to none of these clients: what they would attack."""
        chosen = [i for i, candidate in enumerate(self.candidates) if candidate.owner not in owners]
        return Population(
            name=self.name,
            candidates=tuple(self.candidates[i] for i in chosen),
            lower=None if self.lower is None else tuple(self.lower[i] for i in chosen),
            alternatives=self.alternatives,
            every_secret=self.every_secret,
            num_possible=self.num_possible,
            num_unread=self.num_unread,
        )


def too_few(population: str, labels: npt.NDArray[np.bool_], fewest: int) -> str:
    """Says in a sentence that there are fewer members or others than an attack needs; "" if there are enough.

    Args:
        population: its name.
        labels: the truth about all candidates in question, shape (num_candidates,), also with none.
        fewest: how many of each are needed.
    """
    num_members, num_others = int(labels.sum()), int((~labels).sum())
    if min(num_members, num_others) >= fewest:
        return ""
    return (
        f"{population}: {plural(num_members, 'member')} and {plural(num_others, 'other')} to ask about; at least "
        f"{fewest} of each are needed. Nothing was measured."
    )
