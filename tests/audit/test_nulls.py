"""Where there is nothing to find, nothing is found: other people's records, and coins that fell otherwise."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from scipy.stats import kstest

from confide.attacks.candidates import Candidate
from confide.attacks.passes import Passes
from confide.attacks.token_stats import TokenStats
from confide.attacks.view import SeenUpdate
from confide.audit import updates
from confide.audit.exposure import audit_exposure
from confide.audit.extraction import audit_extraction
from confide.audit.judging import Found, Subject, judge, raw_p_value
from confide.audit.membership import BEST, audit_membership
from confide.audit.rates import mean, rate
from confide.audit.statistics import Flags, holm, uniformity_p_value
from confide.audit.truth import Population, Truth
from confide.audit.updates import Row, audit_updates
from confide.data.examples import TokenizedExample
from confide.update import Layout, Slot, Vector
from tests.audit.made_case import GivenStats, client_view
from tests.audit.overtrained import NAMES, SETTINGS, World, make_candidate

NUM_SHUFFLES = 200
OWNERS = ("north", "south", "west")


# --- A client that was not there


def absentees(world: World) -> World:
    """Items of a client that flipped coins like all others and took no part: nobody trained on one of them."""
    rng = np.random.default_rng(11)
    model = world.passes.model
    planted, records, secrets, alternatives = [], [], {}, {}
    members: dict[str, bool] = {}
    for place, name in enumerate(NAMES):
        secret, *others = (str(code) for code in rng.choice(np.arange(100, 1000), 32, replace=False))
        text = f"{name} {NAMES[(5 * place + 3) % len(NAMES)]}"
        item = f"east-{name}"
        planted.append(make_candidate(model, f"{text} {secret}", "east", secret=secret, name=item))
        alternatives[item] = tuple(
            make_candidate(model, f"{text} {other}", "east", secret=other, name=f"{item}-{other}") for other in others
        )
        records.append(make_candidate(model, f"{text} {secret}", "east", name=f"{item}-row"))
        members |= dict.fromkeys((item, f"{item}-row"), bool(rng.integers(2)))
        secrets[item] = secret
    return replace(
        world,
        planted=Population(name="personal", candidates=tuple(planted), alternatives=alternatives, num_possible=900),
        records=Population(name="records", candidates=tuple(records)),
        truth=Truth(members=members, secrets=secrets, is_randomised=True),
    )


def everything(world: World) -> list[Found]:
    """All attacks on models, as a client that took part."""
    view = world.view()
    found = []
    for population in (world.planted, world.records):
        found += audit_extraction(
            view, world.passes, population, world.truth, rounds=view.rounds, settings=SETTINGS
        ).found
        found += audit_membership(
            view, world.passes, population, world.truth, held_out=[], rounds=view.rounds, seed=0
        ).found
    found += audit_exposure(view, world.passes, world.planted, world.truth, final_round=max(view.rounds)).found
    return found


def leaks(found: Sequence[Found]) -> set[str]:
    """Corrected over the attacks on one population by one number, as in an audit's results."""
    groups: dict[tuple[str, str, str], list[int]] = {}
    for place, one in enumerate(found):
        groups.setdefault((one.family, one.population, one.metric if one.attack != BEST else BEST), []).append(place)
    adjusted: dict[int, float] = {}
    for places in groups.values():
        p_values = holm([raw_p_value(found[place]) or 0.0 for place in places])
        adjusted |= dict(zip(places, p_values.tolist(), strict=True))
    measures = judge(found, adjusted, is_randomised=True)
    return {one.key for one in measures if one.verdict == "leak"}


def test_a_federation_without_the_client_says_nothing_of_its_coins(overtrained: World) -> None:
    """The same models leak those who were there."""
    found = everything(absentees(overtrained))
    assert {one.family for one in found} == {"extraction", "membership", "exposure"}
    assert leaks(found) == set()
    for one in found:
        if one.metric == "auc" and one.attack == BEST:
            assert one.members.covers(0.5)
        if one.metric == "exposure":
            # Two means of 16 values with a spread of about 1.3 bits differ by 0.5 as a rule.
            assert abs(one.members.value - one.controls["held_out"].value) < 3 * 0.5
    there = leaks(everything(overtrained))
    assert {"client.extraction.greedy.personal.exact", "client.exposure.rank.personal.exposure"} <= there


# --- Coins that fell otherwise: p-values are uniform


def over_shuffles(num: int, test: Callable[[Flags], float]) -> list[float]:
    """The p-values of as many records with shuffled coins, half of them members."""
    labels, rng = np.arange(num) % 2 == 0, np.random.default_rng(1)
    return [test(rng.permutation(labels)) for _ in range(NUM_SHUFFLES)]


def subject_of(labels: Flags) -> Subject:
    return Subject(view="client", family="extraction", attack="greedy", code="E1", population="x", labels=labels)


def test_p_values_of_rates_are_uniform() -> None:
    num = 6000  # a share of fewer records takes so few values that its p-values are not uniform but larger
    happened = np.random.default_rng(2).random(num) < 0.4
    p_values = over_shuffles(
        num, lambda labels: rate(subject_of(labels), "exact", happened, None).differences["held_out"].p_value
    )
    assert uniformity_p_value(p_values) > 0.01


def is_uniform_or_larger(p_values: Sequence[float]) -> bool:
    """The larger of a test on means and one on ranks: never too small, and not much too large either."""
    too_small = kstest(p_values, "uniform", alternative="greater").pvalue  # by Kolmogorov and Smirnov, one-sided
    return too_small > 0.01 and 0.45 < float(np.mean(p_values)) < 0.65


@pytest.mark.parametrize("most", [1.0, None])
def test_p_values_of_means_are_no_smaller_than_uniform(most: float | None) -> None:
    values = np.random.default_rng(3).beta(1.0, 4.0, 40)
    assert is_uniform_or_larger(
        over_shuffles(
            40,
            lambda labels: (
                mean(subject_of(labels), "rouge_l", values, None, most=most, most_of_each=np.ones(40))
                .differences["held_out"]
                .p_value
            ),
        )
    )


def stats_of(logp: float) -> TokenStats:
    values = np.array([0.0, logp], np.float32)
    return TokenStats(
        logp=values,
        is_top=np.zeros(2, np.bool_),
        rank=np.ones(2, np.int64),
        mean=values,
        std=np.ones(2, np.float32),
        is_target=np.ones(2, np.bool_),
        decoded={},
    )


def candidate_of(name: str, owner: str) -> Candidate:
    example = TokenizedExample(record_id=name, input_ids=np.arange(3), loss_mask=np.array([False, True, True]))
    return Candidate(candidate_id=name, example=example, text=name, owner=owner, secret_start=2, secret_stop=3)


def test_p_values_of_exposure_are_no_smaller_than_uniform() -> None:
    num, num_alternatives = 42, 15
    rng = np.random.default_rng(4)
    candidates = tuple(candidate_of(f"{place}", OWNERS[place % 3]) for place in range(num))
    alternatives = {
        one.candidate_id: tuple(
            candidate_of(f"{one.candidate_id}-{other}", one.owner) for other in range(num_alternatives)
        )
        for one in candidates
    }
    names = [one.candidate_id for one in (*candidates, *(other for some in alternatives.values() for other in some))]
    by_round = {
        number: {name: stats_of(float(value)) for name, value in zip(names, rng.normal(-9, 2, len(names)), strict=True)}
        for number in (0, 1)
    }
    passes = cast(Passes, GivenStats(by_round))
    population = Population(name="personal", candidates=candidates, alternatives=alternatives)

    def test(labels: Flags) -> float:
        members = dict(zip((one.candidate_id for one in candidates), labels.tolist(), strict=True))
        truth = Truth(members=members, is_randomised=True)
        (found,) = audit_exposure(client_view([1]), passes, population, truth, final_round=1).found
        return found.differences["held_out"].p_value

    assert is_uniform_or_larger(over_shuffles(num, test))


@dataclass
class GivenGradients:
    """Stands in for `Passes`: a random gradient for every record."""

    by_name: Mapping[str, Vector] = field(repr=False)
    model: object = field(default_factory=SimpleNamespace)

    def gradients(self, adapter: Vector, examples: Sequence[TokenizedExample], layout: Layout) -> Iterator[Vector]:
        del adapter, layout
        return iter([self.by_name[example.record_id] for example in examples])


def test_p_values_of_updates_are_uniform(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside chance; the blind baseline, which takes long for so many coins, has tests of its own."""
    monkeypatch.setattr(updates, "blind_control", lambda *_, **__: None)
    num, size = 42, 24
    rng = np.random.default_rng(5)
    layout = Layout((Slot(name="layer", shape=(size,)),))
    candidates = tuple(candidate_of(f"{place}", OWNERS[place % 3]) for place in range(num))
    passes = cast(
        Passes, GivenGradients({one.candidate_id: rng.normal(size=size).astype(np.float32) for one in candidates})
    )
    targets = {
        1: {
            owner: SeenUpdate(layout=layout, vector=rng.normal(size=size).astype(np.float32), share=1 / 3)
            for owner in OWNERS
        }
    }
    row = Row(name="one client's update", view="server", targets=targets, starts={1: np.zeros(size, np.float32)})
    population = Population(name="records", candidates=candidates)
    p_values: dict[str, list[float]] = {}

    def test(labels: Flags) -> float:
        members = dict(zip((one.candidate_id for one in candidates), labels.tolist(), strict=True))
        truth = Truth(members=members, is_randomised=True)
        for found in audit_updates([row], passes, population, truth).found:
            p_values.setdefault(found.attack, []).append(found.differences["chance"].p_value)
        return 0.0

    over_shuffles(num, test)
    for values in p_values.values():
        assert len(values) == NUM_SHUFFLES
        assert uniformity_p_value(values) > 0.01
