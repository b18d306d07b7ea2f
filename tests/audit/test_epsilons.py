"""Known answer: a Gaussian mechanism, whose scores are a coin's mu plus standard noise and whose epsilon is in the
books."""

import math

import numpy as np
import pytest

from confide.audit.document import ViewKind
from confide.audit.epsilon_bounds import UNDECIDED, Claim, EpsilonBound
from confide.audit.epsilons import canaries_needed, epsilon_bounds
from confide.audit.statistics import (
    default_plans,
    f_dp_epsilon,
    gaussian_epsilon,
    gaussian_mu,
    one_run_bound,
    one_run_epsilon,
    planned_guesses,
)
from confide.audit.told import Told, coins_gap
from confide.audit.truth import Population, Truth
from tests.audit.made_case import make_case

DELTA = 1e-5
METHODS = ("one-run", "f-dp", "clopper-pearson", "gaussian", "bayesian")


def seen(
    mu: float,
    num: int = 200,
    *,
    seed: int = 0,
    attack: str = "a",
    view: ViewKind = "client",
    population: str = "random",
) -> Told:
    rng = np.random.default_rng(seed)
    coins = rng.random(num) < 0.5
    scores = mu * coins + rng.standard_normal(num)
    return Told(view=view, population=population, attack=attack, scores=scores, coins=coins)


def claimed(mu: float, unit: str = "example") -> Claim:
    return Claim.model_validate({"unit": unit, "epsilon": gaussian_epsilon(mu, DELTA), "delta": DELTA})


def by_method(bounds: list[EpsilonBound]) -> dict[str, EpsilonBound]:
    return {bound.method: bound for bound in bounds}


def test_there_is_a_bound_of_each_method_for_each_view_and_population() -> None:
    told = [seen(1.0), seen(1.0, attack="b"), seen(1.0, view="final"), seen(1.0, population="reserved")]
    keys = [bound.key for bound in epsilon_bounds(told, None, delta=DELTA)]
    assert keys == [
        f"{place}.epsilon.{method}.{population}"
        for place, population in (("client", "random"), ("final", "random"), ("client", "reserved"))
        for method in METHODS
    ]


def test_nothing_told_gives_no_bound() -> None:
    assert epsilon_bounds([], claimed(1.0), delta=DELTA) == []


@pytest.mark.parametrize("claim", [claimed(1.0), None])
def test_one_run_bounds_are_those_of_the_statistics_with_shared_significance(claim: Claim | None) -> None:
    pair = [seen(2.0), seen(1.0, attack="b", seed=1)]
    found = by_method(epsilon_bounds(pair, claim, delta=DELTA))
    for name, bound in (("one-run", one_run_epsilon), ("f-dp", f_dp_epsilon)):
        plans = (
            default_plans(200)
            if claim is None
            else (planned_guesses(200, claim.epsilon, delta=DELTA, significance=0.025),)
        )
        expected = [
            one_run_bound(one.scores, one.coins, plans, bound, delta=DELTA, significance=0.025).epsilon for one in pair
        ]
        assert found[name].low == max(expected)
        assert found[name].attack == "ab"[int(np.argmax(expected))]
        assert found[name].num_tried == 2 * len(plans)
        assert found[name].significance == 0.05


def test_counts_are_those_of_the_attack_that_is_named() -> None:
    few, many = seen(0.0, num=50), seen(3.0, num=300, attack="b")
    for bound in epsilon_bounds([few, many], None, delta=DELTA):
        assert (bound.attack, bound.num_in, bound.num_out) == ("b", many.coins.sum(), (~many.coins).sum())


@pytest.mark.parametrize("mu", [0.0, 1.0])
def test_true_claims_are_called_false_and_bounds_are_wrong_no_more_often_than_stated(mu: float) -> None:
    num_runs, num_above, num_wrong = 100, 0, dict.fromkeys(METHODS, 0)
    for seed in range(num_runs):
        bounds = epsilon_bounds([seen(mu, 100, seed=seed)], claimed(mu), delta=DELTA)
        num_above += any(bound.verdict == "above the claim" for bound in bounds)
        for bound in bounds:
            num_wrong[bound.method] += bound.low > gaussian_epsilon(mu, DELTA) + 1e-9
    by_chance = 3 * math.sqrt(0.05 * 0.95 * num_runs)  # of a count whose mean is 5
    assert num_above <= 0.05 * num_runs
    assert all(count <= 0.05 * num_runs + by_chance for count in num_wrong.values())


def test_a_false_claim_is_called_false() -> None:
    for seed in range(5):
        bounds = by_method(epsilon_bounds([seen(2.0, 1000, seed=seed)], claimed(1.0), delta=DELTA))
        assert bounds["gaussian"].verdict == "above the claim"
        assert bounds["f-dp"].claimed == claimed(1.0).epsilon
        assert bounds["f-dp"].low > claimed(1.0).epsilon


def test_more_bounds_compared_ask_for_more_before_a_claim_is_called_false() -> None:
    alone = by_method(epsilon_bounds([seen(2.0, 1000)], claimed(1.0), delta=DELTA))["gaussian"]
    among_many = by_method(epsilon_bounds([seen(2.0, 1000)], claimed(1.0), delta=DELTA, share=1e-12))["gaussian"]
    assert (alone.verdict, among_many.verdict) == ("above the claim", "undecided")
    assert alone.low == among_many.low
    assert UNDECIDED in among_many.note
    assert UNDECIDED not in alone.note


def test_without_a_claim_nothing_is_above_it() -> None:
    for bound in epsilon_bounds([seen(5.0, 1000)], None, delta=DELTA):
        assert (bound.verdict, bound.claimed) == ("no claim", None)


def test_a_party_that_a_claim_does_not_cover_is_not_compared_with_it() -> None:
    told = [seen(5.0, 400), seen(5.0, 400, view="coalition")]
    beyond: dict[ViewKind, str] = {"coalition": "They are too many."}
    bounds = epsilon_bounds(told, claimed(1.0), delta=DELTA, not_covered=beyond)
    assert {bound.view for bound in bounds if bound.verdict == "no claim"} == {"coalition"}
    assert {bound.view for bound in bounds if bound.verdict == "above the claim"} == {"client"}
    assert {bound.view for bound in bounds if "They are too many." in bound.note} == {"coalition"}


def test_perfect_scores_reach_the_ceiling_and_none_exceed_it() -> None:
    coins = np.arange(200) % 2 == 0
    perfect = Told(view="final", population="random", attack="a", scores=coins.astype(np.float64), coins=coins)
    spread = Told(
        view="final", population="random", attack="a", scores=coins + np.arange(200) / 1000, coins=coins
    )  # no ties
    for claim in (None, claimed(1.0)):
        for bound in epsilon_bounds([spread], claim, delta=DELTA):
            assert bound.ceiling is not None
            assert bound.low == pytest.approx(bound.ceiling, abs=1e-6)
        for mu in (0.0, 1.0, 4.0):
            for bound in epsilon_bounds([seen(mu), perfect], claim, delta=DELTA):
                assert bound.ceiling is not None
                assert bound.low <= bound.ceiling + 1e-6


def test_a_claim_about_a_record_is_about_a_record() -> None:
    assert claimed(1.0).of_a_record() == claimed(1.0)


@pytest.mark.parametrize("mu", [0.1, 0.5, 1.0])
def test_what_a_clients_claim_says_of_a_record_holds_for_the_worst_record(mu: float) -> None:
    """The worst record turns its client's contribution round, from one end of the bound to the other: twice the mu."""
    record = claimed(mu, "client").of_a_record()
    assert record is not None
    assert (record.unit, record.epsilon) == ("example", 2 * claimed(mu).epsilon)
    assert gaussian_epsilon(2 * mu, record.delta) <= record.epsilon
    assert gaussian_mu(record.epsilon, record.delta) >= 2 * mu


def test_nothing_follows_for_a_record_from_a_weak_claim_about_clients() -> None:
    assert Claim(unit="client", epsilon=20.0, delta=DELTA).of_a_record() is None
    assert Claim(unit="client", epsilon=5000.0, delta=DELTA).of_a_record() is None
    for bound in epsilon_bounds([seen(5.0)], Claim(unit="client", epsilon=20.0, delta=DELTA), delta=DELTA):
        assert (bound.verdict, bound.claimed, bound.unit) == ("no claim", None, "example")
        assert "nothing follows for one record" in bound.note


def test_a_clients_claim_is_refuted_only_at_the_delta_that_follows_from_it() -> None:
    claim = claimed(0.5, "client")
    bounds = by_method(epsilon_bounds([seen(0.9, 2000)], claim, delta=DELTA))
    assert {bound.verdict for bound in bounds.values()} == {"within the claim"}  # 0.9 < 2 * 0.5
    bounds = by_method(epsilon_bounds([seen(4.0, 2000)], claim, delta=DELTA))
    assert bounds["gaussian"].verdict == "above the claim"
    assert bounds["gaussian"].claimed == 2 * claim.epsilon
    limit = claim.of_a_record()
    assert limit is not None
    assert bounds["gaussian"].delta == limit.delta > DELTA
    assert "The claim is about clients" in bounds["gaussian"].note


def test_a_clients_claim_that_is_true_is_not_passed_by_a_bound_at_a_smaller_delta() -> None:
    """A record that replaces another shows twice the client's mu: more than twice its epsilon at the same delta."""
    claim = claimed(1.0, "client")
    for bound in epsilon_bounds([seen(2.0, 4000)], claim, delta=DELTA):
        assert bound.verdict == "within the claim"
        assert bound.claimed is not None
        assert bound.low <= bound.claimed


def test_about_as_many_canaries_as_are_said_to_be_needed_are_enough_and_fewer_are_not() -> None:
    for bound in epsilon_bounds([seen(1.0, 100)], None, delta=DELTA):
        assert bound.ceiling is not None
        needed = canaries_needed(bound, bound.ceiling + 0.5)
        assert needed is not None
        assert needed > 100
        enough, fewer = (
            by_method(epsilon_bounds([seen(1.0, num)], None, delta=DELTA))[bound.method].ceiling
            for num in (int(1.15 * needed), int(0.8 * needed))
        )
        assert enough is not None
        assert fewer is not None
        assert fewer < bound.ceiling + 0.5 < enough
        assert canaries_needed(bound, 1e6) is None


def test_coins_that_bound_nothing_are_named() -> None:
    case = make_case(0, num_candidates=20)
    asked = case.population.candidates
    assert coins_gap(case.population, asked, case.truth) == ""
    passive = make_case(0, num_candidates=20, is_randomised=False)
    assert "no coins decided" in coins_gap(case.population, asked, passive.truth)
    ladder = Truth(members=case.truth.members, copies={asked[3].candidate_id: 2}, is_randomised=True)
    assert "one coin adds several copies" in coins_gap(case.population, asked, ladder)
    unread = Population(name="random", candidates=asked, num_unread=3)
    assert "came to 3 of the members" in coins_gap(unread, asked, case.truth)
    assert coins_gap(unread.of_others(frozenset({"nobody"})), asked, case.truth) != ""


def test_bounds_are_finite_and_not_negative_whatever_the_scores() -> None:
    coins = np.arange(40) % 2 == 0
    for scores in (np.zeros(40), -coins.astype(float), np.arange(40.0)):
        told = Told(view="final", population="random", attack="a", scores=scores, coins=coins)
        for bound in epsilon_bounds([told], claimed(1.0), delta=DELTA):
            assert 0 <= bound.low < math.inf
            assert bound.verdict == "within the claim"
