"""Cases of random numbers for scorers: models' statistics are given, and how much training helped members is known."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from confide.attacks.candidates import Candidate
from confide.attacks.token_stats import TokenStats
from confide.attacks.view import View
from confide.audit.truth import Population, Truth
from confide.data.examples import TokenizedExample
from confide.update import Layout, Vector
from tests.attacks.membership.records import NUM_ROUNDS, Made, make

ROUNDS = tuple(range(1, NUM_ROUNDS + 1))
_LAYOUT = Layout(())


@dataclass
class GivenStats:
    """Stands in for `Passes`: hands out statistics by the adapter's round (its only value) and the record's id."""

    by_round: Mapping[int, Mapping[str, TokenStats]]

    def stats(self, adapter: Vector | None, examples: Sequence[TokenizedExample]) -> list[TokenStats]:
        number = 0 if adapter is None else int(adapter[0])
        return [self.by_round[number][example.record_id] for example in examples]


@dataclass(frozen=True, kw_only=True)
class MadeCase:
    """Arguments for `audit_membership`."""

    made: Made
    passes: GivenStats
    population: Population
    truth: Truth
    held_out: tuple[TokenizedExample, ...]
    view: View = field(repr=False)

    @property
    def labels(self) -> npt.NDArray[np.bool_]:
        return self.truth.labels(self.population.candidates)

    def relabelled(self, labels: npt.NDArray[np.bool_]) -> Truth:
        names = [candidate.candidate_id for candidate in self.population.candidates]
        return replace(self.truth, members=dict(zip(names, labels.tolist(), strict=True)))

    def untrained(self) -> GivenStats:
        """The same with the base model for every round's."""
        return GivenStats(dict.fromkeys(self.passes.by_round, self.passes.by_round[0]))


def make_case(
    seed: int,
    *,
    num_candidates: int = 60,
    effect: float = 0.0,
    is_randomised: bool = True,
    num_rounds: int = NUM_ROUNDS,
) -> MadeCase:
    """Candidates of three owners under a base model and some rounds' models; see `make`."""
    made = make(seed, num_candidates=num_candidates, effect=effect)
    names = [f"record-{number:03}" for number in range(num_candidates)]
    others = [f"held-out-{number}" for number in range(len(made.seen.population_rounds[0]))]
    assert made.seen.lower is not None
    by_round = {
        number: {
            **dict(zip(names, made.seen.rounds[number], strict=True)),
            **dict(zip(others, made.seen.population_rounds[number], strict=True)),
            **dict(zip((f"lower-{name}" for name in names), made.seen.lower, strict=True)),
        }
        for number in made.seen.rounds
    }
    candidates = [
        Candidate(candidate_id=name, example=example(name), text=text, owner=owner)
        for name, text, owner in zip(names, made.seen.texts, made.seen.owners, strict=True)
    ]
    return MadeCase(
        made=made,
        passes=GivenStats(by_round),
        population=Population(
            name="records",
            candidates=tuple(candidates),
            lower=tuple(replace(one, example=example(f"lower-{one.candidate_id}")) for one in candidates),
        ),
        truth=Truth(
            members=dict(zip(names, made.is_member.tolist(), strict=True)),
            is_randomised=is_randomised,
        ),
        held_out=tuple(example(name) for name in others),
        view=client_view(range(NUM_ROUNDS + 1 - num_rounds, NUM_ROUNDS + 1)),
    )


def client_view(rounds: Sequence[int] = ROUNDS, own_clients: frozenset[str] = frozenset()) -> View:
    return View(
        name="client",
        party="a client",
        layout=_LAYOUT,
        adapters={number: partial(np.full, 1, number, np.float32) for number in rounds},
        own_clients=own_clients,
    )


def example(name: str) -> TokenizedExample:
    """A record of which only the name matters."""
    return TokenizedExample(record_id=name, input_ids=np.array([1, 2]), loss_mask=np.array([False, True]))
