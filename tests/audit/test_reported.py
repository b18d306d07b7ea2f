"""What a sealed server is told, scored: little about single records, and sizes are named."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest

from confide.attacks.passes import Passes
from confide.attacks.updates.reported import MEASURES
from confide.attacks.view import View
from confide.audit.judging import Findings
from confide.audit.reported import ROW, audit_reported
from confide.audit.truth import Population, Truth
from confide.data.examples import TokenizedExample
from confide.model.lora import AdaptedModel
from tests.audit.overtrained import NAMES, make_candidate

CLIENTS = ("east", "north", "west")
NUM_CANDIDATES = 24


@dataclass(frozen=True, kw_only=True)
class Told:
    """Three clients that each trained on some of 24 records of one to eight words, and what the server got."""

    passes: Passes
    population: Population
    truth: Truth
    view: View

    def audit(self) -> Findings:
        return audit_reported(self.view, self.passes, self.population, self.truth, seed=0)

    def uploading(self, sizes: Sequence[int]) -> "Told":
        uploads = {1: dict(zip(CLIENTS, map(bytes, sizes), strict=True))}
        return replace(self, view=replace(self.view, uploads=uploads))


def make(model: AdaptedModel, num_members: int) -> Told:
    rng, passes = np.random.default_rng(1), Passes(model, None)
    candidates, members = [], {}
    for client in CLIENTS:
        order = rng.permutation(NUM_CANDIDATES)
        for place in range(NUM_CANDIDATES):
            text = " ".join(rng.choice(NAMES, 1 + place % 8))
            candidates.append(make_candidate(model, text, client, name=f"{client}-{place}"))
            members[f"{client}-{place}"] = bool(order[place] < num_members)
    trained = {
        client: [one.example for one in candidates if one.owner == client and members[one.candidate_id]]
        for client in CLIENTS
    }
    view = View(
        name="sealed-server",
        party="the server",
        layout=model.layout,
        figures={1: {client: report(passes, examples) for client, examples in trained.items()}},
    )
    told = Told(
        passes=passes,
        population=Population(name="records", candidates=tuple(candidates)),
        truth=Truth(members=members, is_randomised=True),
        view=view,
    )
    return told.uploading([100, 100, 100])


def report(passes: Passes, examples: Sequence[TokenizedExample]) -> dict[str, float]:
    """Of one step over everything, which is taken before anything has moved."""
    stats = passes.stats(None, examples)
    return {
        "loss": float(np.mean([-one.logp[one.is_target].mean() for one in stats])),
        "num_targets": float(sum(one.is_target.sum() for one in stats)),
        "num_examples": float(len(examples)),
    }


def test_clients_of_one_record_give_it_away_and_clients_of_many_hardly_any(model: AdaptedModel) -> None:
    """The positive control, and what is left of it: an expected AUC of 0.52 to 0.55 for twelve of 24."""
    alone, many = ({one.attack: one.members for one in make(model, count).audit().found} for count in (1, 12))
    assert set(alone) == set(many) == set(MEASURES)
    assert alone["reported loss"].value == 1.0
    assert alone["reported length"].value > 0.9  # a few others have as many tokens
    assert all(one.value < 0.65 and one.low < 0.55 for one in many.values())


def test_a_finding_says_whose_it_is_and_what_per_client_numbers_cannot_do(model: AdaptedModel) -> None:
    for one in make(model, 12).audit().found:
        assert (one.view, one.family, one.population) == ("sealed-server", "updates", ROW)
        assert one.controls.keys() == {"chance", "blind"}
        assert "the same for all of its records, so alone they tell none from another" in one.note


@pytest.mark.parametrize(
    ("sizes", "words"), [((100, 100, 100), "all uploads are of one size"), ((100, 130, 90), "differ by up to 40 bytes")]
)
def test_what_sizes_tell_is_said(model: AdaptedModel, sizes: Sequence[int], words: str) -> None:
    found = make(model, 12).uploading(sizes).audit().found
    assert all(words in one.note for one in found)


def test_only_records_of_clients_that_reported_are_asked_about(model: AdaptedModel) -> None:
    told = make(model, 12)
    figures = {1: {"east": told.view.figures[1]["east"]}}
    found = replace(told, view=replace(told.view, figures=figures)).audit().found
    assert {one.members.num for one in found} == {NUM_CANDIDATES}
    silent = replace(told, view=replace(told.view, figures={})).audit()
    assert silent.found == []
    assert "0 members and 0 others" in silent.all_warnings()[0]


def test_what_differential_privacy_withholds_is_said(model: AdaptedModel) -> None:
    told = make(model, 12)
    withheld = {1: {client: {"weight": 1.0, "num_steps": 2.0, "epsilon": 3.0} for client in CLIENTS}}
    silent = replace(told, view=replace(told.view, figures=withheld)).audit()
    assert silent.found == []
    assert "no loss and no lengths, which differential privacy withholds" in silent.all_warnings()[0]
    assert [one.family for one in silent.unmeasured] == ["updates"]
