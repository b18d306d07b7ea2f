"""Bounds on a client's epsilon from a hand-made mechanism: canary updates, Gaussian noise, and nothing else."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import binom

from confide.attacks.view import SeenUpdate, View, ViewName
from confide.audit import canary_clients
from confide.audit.canary_clients import SHARE, ClientClaim, audit_canary_clients
from confide.audit.epsilon_bounds import UNDECIDED, Claim, EpsilonBound
from confide.audit.epsilons import epsilon_bounds
from confide.audit.judging import Findings
from confide.audit.statistics import canary_cosines, final_model_epsilon, gaussian_epsilon
from confide.audit.told import Told
from confide.canaries.canary_clients import canary_client_names, client_direction
from confide.update import Layout, Slot, Vector

LAYOUT = Layout((Slot(name="a", shape=(5,)), Slot(name="b", shape=(40, 50))))
TRAINED = LAYOUT.select(["b"])
START = np.linspace(-1, 1, LAYOUT.num_values, dtype=np.float32)
DELTA = 1e-3
NAMES = canary_client_names(16)


def opened(seed: int, *, rounds: int, noise: float, length: float = 1.0, only: int | None = None) -> list[Vector]:
    """Each round's mean over canary clients, with noise of this standard deviation over the bound of 1 in their sum.

    Args:
        only: the one round in which canary clients take part; None is all.
    """
    rng = np.random.default_rng(seed)
    canaries = sum(length * client_direction(name, TRAINED.num_values, seed=seed) for name in NAMES)
    return [
        ((canaries if only in (None, number) else 0) + noise * rng.standard_normal(TRAINED.num_values)).astype(
            np.float32
        )
        / np.float32(len(NAMES))
        for number in range(rounds)
    ]


def final_view(means: list[Vector]) -> View:
    adapter = LAYOUT.scatter(START, TRAINED, LAYOUT.gather(START, TRAINED) + np.sum(means, axis=0, dtype=np.float32))
    return View(name="final", party="whoever", layout=LAYOUT, adapters={len(means): lambda: adapter})


def client_view(means: list[Vector], *attackers: str) -> View:
    name: ViewName = "coalition" if len(attackers) > 1 else "client"
    seen = {number: SeenUpdate(layout=TRAINED, vector=mean, share=1.0) for number, mean in enumerate(means, start=1)}
    return View(name=name, party="clients", layout=LAYOUT, own_clients=frozenset(attackers), others_means=seen)


def found_in(*views: View, seed: int, claimed: float | None = None, names: tuple[str, ...] = NAMES) -> Findings:
    return audit_canary_clients(
        views,
        names=names,
        start=START,
        trained=TRAINED,
        claim=ClientClaim(epsilon=claimed, delta=DELTA, coalition=1),
        seed=seed,
    )


def audited(
    *views: View, seed: int, claimed: float | None = None, names: tuple[str, ...] = NAMES
) -> list[EpsilonBound]:
    found = found_in(*views, seed=seed, claimed=claimed, names=names)
    assert found.epsilon_gaps == []
    return found.epsilons


def found_at(view: View, significance: float, *, seed: int) -> float:
    """The bound of this view alone at a significance."""
    (bound,) = audit_canary_clients(
        [view],
        names=NAMES,
        start=START,
        trained=TRAINED,
        claim=ClientClaim(epsilon=None, delta=DELTA, coalition=1),
        seed=seed,
        significance=significance,
    ).epsilons
    return bound.low


def the_same_to_all(names: tuple[str, ...], *, seed: int) -> Vector:
    """An update that leans towards all of them alike, up to float32."""
    directions = np.stack([client_direction(name, TRAINED.num_values, seed=seed) for name in names])
    return np.asarray(np.linalg.pinv(directions) @ np.ones(len(names)), np.float32)


def claim_of(rounds: int, noise: float) -> float:
    """The exact epsilon of a client whose update of length 1 is added to noise in so many rounds."""
    return gaussian_epsilon(math.sqrt(rounds) / noise, DELTA)


def test_the_bound_is_that_of_the_cosines_with_what_the_model_learnt() -> None:
    means = opened(3, rounds=4, noise=1.5)
    (found,) = audited(final_view(means), seed=3)
    directions = np.stack([client_direction(name, TRAINED.num_values, seed=3) for name in NAMES])
    total = np.sum(means, axis=0, dtype=np.float64)
    expected = final_model_epsilon(canary_cosines(directions, total), TRAINED.num_values, delta=DELTA)
    # The adapter holds the sum in float32 around 1: some 1e-7 of each value of about 0.2.
    assert found.low == pytest.approx(expected.low, rel=1e-4)
    assert found.estimate == pytest.approx(expected.estimate, rel=1e-4)
    assert (found.method, found.num_in, found.num_out, found.ceiling) == ("canary-clients-final", 16, 0, None)
    assert found.key == "final.epsilon.canary-clients-final.canary-clients"
    assert found.unit == "client"


def test_the_leaning_is_what_theory_says() -> None:
    """mu = sqrt(rounds) / noise, a little less for the other canaries, which are noise to each."""
    rounds, noise = 4, 1.0
    shifts = []
    for seed in range(20):
        total = np.sum(opened(seed, rounds=rounds, noise=noise), axis=0, dtype=np.float64)
        directions = np.stack([client_direction(name, TRAINED.num_values, seed=seed) for name in NAMES])
        shifts.append(final_model_epsilon(canary_cosines(directions, total), TRAINED.num_values, delta=DELTA).shift)
    expected = math.sqrt(rounds) / math.sqrt(noise**2 + rounds * len(NAMES) / TRAINED.num_values)
    assert np.mean(shifts) == pytest.approx(expected, abs=4 / math.sqrt(20 * len(NAMES)))


@pytest.mark.parametrize(("look", "num_runs"), [(final_view, 80), (client_view, 15)], ids=["final", "rounds"])
def test_a_true_claim_is_called_false_no_more_often_than_said(
    look: Callable[[list[Vector]], View], num_runs: int
) -> None:
    """The claim is exact, without any slack."""
    claimed = claim_of(2, 1.0)
    found = [
        audited(look(opened(seed, rounds=2, noise=1.0)), seed=seed, claimed=claimed)[0] for seed in range(num_runs)
    ]
    num_false = sum(one.verdict == "above the claim" for one in found)
    assert num_false <= binom.ppf(0.999, num_runs, 0.05)
    assert {one.significance for one in found} == {0.05}


def test_with_bounds_on_records_beside_them_a_true_claim_is_called_false_no_more_often_than_said() -> None:
    """Both claims are exact: of a record, seen once with mu 1, and of a client, seen in two rounds."""
    num_runs, num_false = 50, 0
    of_record = Claim(unit="example", epsilon=gaussian_epsilon(1.0, DELTA), delta=DELTA)
    for seed in range(num_runs):
        rng = np.random.default_rng([seed, 1])
        coins = rng.random(60) < 0.5
        scores = coins + rng.standard_normal(60)
        told = Told(view="final", population="random", attack="a", scores=scores, coins=coins)
        bounds = epsilon_bounds([told], of_record, delta=DELTA, share=1 - SHARE)
        bounds += audited(final_view(opened(seed, rounds=2, noise=1.0)), seed=seed, claimed=claim_of(2, 1.0))
        num_false += any(one.verdict == "above the claim" for one in bounds)
    assert num_false <= binom.ppf(0.99, num_runs, 0.05)


def test_a_bound_that_is_above_the_claim_only_before_the_correction_is_undecided() -> None:
    view = final_view(opened(4, rounds=3, noise=0.5))
    (alone,) = audited(view, seed=4)
    corrected = found_at(view, 0.05 * SHARE, seed=4)
    assert corrected < alone.low
    for claimed, verdict in (
        (0.999 * corrected, "above the claim"),
        (1.001 * corrected, "undecided"),
        (0.999 * alone.low, "undecided"),
        (1.001 * alone.low, "within the claim"),
    ):
        (found,) = audited(view, seed=4, claimed=claimed)
        assert found.verdict == verdict
        assert (UNDECIDED in found.note) == (verdict == "undecided")
        assert (found.low, found.significance) == (alone.low, 0.05)


@pytest.mark.parametrize(
    ("noise", "length"), [(0.35, 1.0), (0.7, 10.0)], ids=["half of the noise", "ten times the length, not clipped"]
)
def test_a_false_claim_is_found_out(noise: float, length: float) -> None:
    means = opened(1, rounds=3, noise=noise, length=length)
    for bound in audited(final_view(means), seed=1, claimed=claim_of(3, 0.7)):
        assert bound.verdict == "above the claim"
        assert bound.low > claim_of(3, 0.7)


def test_one_round_that_leans_is_seen_by_who_sees_every_round() -> None:
    means = opened(5, rounds=12, noise=0.3, only=4)
    final, rounds = audited(final_view(means), client_view(means, "north"), seed=5, claimed=1.0)
    assert rounds.method == "canary-clients-rounds"
    assert rounds.num_out == canary_clients.NUM_HELD_OUT
    assert rounds.low > final.low


def test_the_bound_of_every_direction_above_all_others_is_the_ceiling() -> None:
    means = opened(5, rounds=2, noise=0.02)
    found = audited(client_view(means, "north"), client_view(means, "south"), seed=5)
    assert [one.low for one in found] == [one.ceiling for one in found]
    assert found[0].low > 0


def test_bounds_share_the_significance_and_so_are_each_lower() -> None:
    means = opened(2, rounds=3, noise=0.5)
    (alone,) = audited(final_view(means), seed=2)
    together = audited(final_view(means), client_view(means, "north"), client_view(means, "north", "south"), seed=2)
    assert [one.num_tried for one in (alone, *together)] == [1, 3, 3, 3]
    assert 0 < together[0].low < alone.low
    assert together[0].estimate == alone.estimate


def test_nothing_is_claimed_against_more_clients_than_the_guarantee_is_about() -> None:
    means = opened(2, rounds=3, noise=0.1)
    one, two = audited(client_view(means, "north"), client_view(means, "north", "south"), seed=2, claimed=0.5)
    assert (one.claimed, one.verdict) == (0.5, "above the claim")
    assert (two.claimed, two.verdict) == (None, "no claim")
    assert "2 clients know more noise than the guarantee covers, which is against 1 (privacy.coalition)" in two.note


def test_without_a_claim_there_is_a_bound_and_no_verdict() -> None:
    (found,) = audited(final_view(opened(2, rounds=3, noise=0.1)), seed=2)
    assert found.low > 0
    assert (found.claimed, found.verdict) == (None, "no claim")


def test_directions_of_another_seed_find_nothing() -> None:
    (found,) = audited(final_view(opened(2, rounds=3, noise=0.1)), seed=3)
    assert found.low == 0


def test_how_many_directions_are_held_at_once_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    view = client_view(opened(2, rounds=2, noise=1.0))
    whole = audited(view, seed=2)
    monkeypatch.setattr(canary_clients, "_VALUES_AT_ONCE", 7 * TRAINED.num_values)
    assert audited(view, seed=2) == whole


def test_who_sees_no_sum_in_the_clear_has_no_bound() -> None:
    blind = client_view([])
    server = View(name="sealed-server", party="the server", layout=LAYOUT)
    assert audited(blind, server, seed=1) == []


def test_where_no_estimate_can_be_computed_the_bound_stands_and_the_note_says_why() -> None:
    view = client_view([the_same_to_all(NAMES, seed=3)], "north")
    (found,) = audited(view, seed=3, claimed=1.0)
    assert found.estimate is None
    assert found.low == found.ceiling
    assert found.verdict == "above the claim"
    assert "There is no estimate: how far it leans is so nearly the same for all canary clients" in found.note
    (usual,) = audited(client_view(opened(3, rounds=1, noise=1.0), "north"), seed=3)
    assert usual.estimate is not None
    assert "no estimate" not in usual.note


def test_where_no_bound_can_be_computed_a_gap_says_so_and_other_views_have_theirs() -> None:
    alike, nothing = the_same_to_all(NAMES, seed=3), np.zeros(TRAINED.num_values, np.float32)
    for means, why in (
        ([alike], "so nearly the same that no epsilon is large enough"),
        ([nothing], "0 throughout"),
        ([alike * np.float32(np.nan)], "no numbers"),
    ):
        found = found_in(final_view(means), client_view(opened(3, rounds=1, noise=1.0), "north"), seed=3, claimed=1.0)
        assert [one.view for one in found.epsilons] == ["client"]
        (gap,) = found.epsilon_gaps
        assert gap.startswith("canary-clients, seen by whoever: no bound on a client's epsilon. ")
        assert why in gap


def test_one_canary_client_is_too_few() -> None:
    with pytest.raises(ValueError, match="there are 1 canary clients, expected at least 2"):
        audited(final_view(opened(1, rounds=1, noise=1.0)), seed=1, names=NAMES[:1])
