"""Known answer: a Gaussian mechanism, whose epsilon has a closed form. Canaries are unit vectors of their own, clipped
at 1, and the sum gets N(0, s^2) noise: along each canary the sum shows its coin plus noise, so mu = 1 / s."""

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import binom

from confide.audit.statistics.epsilon_choice import (
    GuessPlan,
    count_guesses,
    default_plans,
    one_run_bound,
    planned_guesses,
    threshold_bound,
)
from confide.audit.statistics.epsilon_one_run import Guesses, f_dp_epsilon, one_run_epsilon
from confide.audit.statistics.epsilon_two_sample import (
    Decisions,
    bayesian_epsilon,
    clopper_pearson_epsilon,
    gaussian_mechanism_epsilon,
)
from confide.audit.statistics.gaussian_curve import gaussian_epsilon
from confide.errors import DataError, RunError

DELTA = 1e-5
NUM_RUNS = 400
Scores = npt.NDArray[np.float64]
Coins = npt.NDArray[np.bool_]


def audit(mu: float, num: int, rng: np.random.Generator) -> tuple[Scores, Coins]:
    """One training of the Gaussian mechanism seen along every canary, in units of the noise."""
    coins = rng.random(num) < 0.5
    return mu * coins + rng.standard_normal(num), coins


def hull(points: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The corners of the upper convex hull of points (false positives, true positives)."""
    corners: list[tuple[int, int]] = []
    for x, y in sorted(points):
        while len(corners) >= 2:
            (x1, y1), (x2, y2) = corners[-2:]
            if (x2 - x1) * (y - y1) - (y2 - y1) * (x - x1) < 0:
                break
            corners.pop()
        corners.append((x, y))
    return corners


def normal_groups() -> tuple[Scores, Scores]:
    """N(2, 1) and N(0, 1), 1000 each, drawn as for the other tools."""
    rng = np.random.default_rng(0)
    return rng.normal(2, 1, 1000), rng.normal(0, 1, 1000)


def test_the_agreed_digits_and_order_on_two_normal_groups() -> None:
    """The other tool takes the best corner of the ROC's hull, each at 1 / 30 of the significance, for 30 corners.

    Which corners those are depends on the labels, so that this is no valid correction; it is done here by hand to
    compare the formulas.
    """
    members, non_members = normal_groups()
    thresholds = np.concatenate([[-np.inf], members, non_members])
    points = [(int((non_members > x).sum()), int((members > x).sum())) for x in thresholds]
    corners = hull(points)
    assert len(corners) == 30
    level = 0.05 / len(corners)
    tables = [
        Decisions(num_true_positives=true, num_members=1000, num_false_positives=false, num_non_members=1000)
        for false, true in corners
    ]
    guesses = [Guesses(num_canaries=2000, num_guesses=false + true, num_correct=true) for false, true in corners]
    exact = max(clopper_pearson_epsilon(table, delta=DELTA, significance=level) for table in tables)
    gaussian = max(gaussian_mechanism_epsilon(table, delta=DELTA, significance=level) for table in tables)
    one_run = max(one_run_epsilon(table, delta=DELTA, significance=level) for table in guesses)
    f_dp = max(f_dp_epsilon(table, delta=DELTA, significance=level) for table in guesses)
    truth = gaussian_epsilon(2.0, DELTA)
    assert round(exact, 4) == 2.9466
    assert round(gaussian, 4) == 8.5841
    assert math.floor(f_dp * 1e4) / 1e4 == 4.2978  # 4.297848
    # 2.59558: what jax-privacy 2.0.0 gives for these scores. The list of vectors says 2.5958, a digit short.
    assert one_run == pytest.approx(max(_one_run_in_plain_sums(table, level) for table in guesses), abs=1e-6)
    assert round(one_run, 4) == 2.5956
    assert round(truth, 4) == 9.9973
    assert max(exact, one_run) < f_dp < gaussian < truth


def _one_run_in_plain_sums(table: Guesses, level: float) -> float:
    """Steinke, Nasr and Jagielski 2023 as written: the epsilon at which the p-value is the level, 0 if none is."""
    right = np.arange(1, table.num_correct + 1)

    def p_value(epsilon: float) -> float:
        chance = 1 / (1 + math.exp(-epsilon))
        beta = float(binom.sf(table.num_correct - 1, table.num_guesses, chance))
        sums = binom.sf(table.num_correct - right - 1, table.num_guesses, chance) - beta
        return beta + 2 * table.num_canaries * DELTA * float(np.max(sums / right, initial=0.0))

    if table.num_guesses == 0 or p_value(0.0) > level:
        return 0.0
    return float(brentq(lambda epsilon: p_value(epsilon) - level, 0.0, 10.0, xtol=1e-9))


def test_the_valid_choice_keeps_the_order() -> None:
    members, non_members = normal_groups()
    scores, coins = np.concatenate([members, non_members]), np.arange(2000) < 1000
    exact = threshold_bound(members, non_members, clopper_pearson_epsilon, delta=DELTA).epsilon
    gaussian = threshold_bound(members, non_members, gaussian_mechanism_epsilon, delta=DELTA).epsilon
    plans = default_plans(2000)
    one_run = one_run_bound(scores, coins, plans, one_run_epsilon, delta=DELTA).epsilon
    f_dp = one_run_bound(scores, coins, plans, f_dp_epsilon, delta=DELTA).epsilon
    assert min(exact, one_run) > 2
    assert max(exact, one_run) < f_dp < gaussian < 9.9973


@pytest.mark.parametrize("mu", [0.5, 2.0])
def test_two_sample_bounds_hold_over_many_runs(mu: float) -> None:
    rng = np.random.Generator(np.random.Philox(11))
    truth = gaussian_epsilon(mu, DELTA)
    wrong = {clopper_pearson_epsilon: 0, gaussian_mechanism_epsilon: 0}
    for _ in range(NUM_RUNS):
        scores, coins = audit(mu, 400, rng)
        for bound in wrong:
            wrong[bound] += threshold_bound(scores[coins], scores[~coins], bound, delta=DELTA).epsilon > truth
    assert max(wrong.values()) <= 0.05 * NUM_RUNS


def test_the_posterior_holds_over_many_runs() -> None:
    rng = np.random.Generator(np.random.Philox(12))
    wrong = 0
    for _ in range(NUM_RUNS):
        scores, coins = audit(1.0, 400, rng)
        accused = scores > 0.5
        table = Decisions(
            num_true_positives=int((accused & coins).sum()),
            num_members=int(coins.sum()),
            num_false_positives=int((accused & ~coins).sum()),
            num_non_members=int((~coins).sum()),
        )
        wrong += bayesian_epsilon(table, delta=DELTA) > gaussian_epsilon(1.0, DELTA)
    assert wrong <= 0.05 * NUM_RUNS


@pytest.mark.parametrize("mu", [0.5, 2.0])
def test_one_run_bounds_hold_over_many_runs(mu: float) -> None:
    rng = np.random.Generator(np.random.Philox(13))
    truth = gaussian_epsilon(mu, DELTA)
    plans = (GuessPlan(num_in=50, num_out=50), GuessPlan(num_in=20, num_out=0), GuessPlan(num_in=10, num_out=10))
    wrong = {one_run_epsilon: 0, f_dp_epsilon: 0}
    for _ in range(NUM_RUNS):
        scores, coins = audit(mu, 200, rng)
        for bound in wrong:
            wrong[bound] += one_run_bound(scores, coins, plans, bound, delta=DELTA).epsilon > truth
    assert max(wrong.values()) <= 0.05 * NUM_RUNS


def test_two_thousand_canaries_find_most_of_a_gaussian_mechanisms_epsilon() -> None:
    """At mu = 1, epsilon 4.38: in the middle run both find 60 %; f-DP needs a plan for it."""
    rng = np.random.Generator(np.random.Philox(14))
    truth = gaussian_epsilon(1.0, DELTA)
    plan = planned_guesses(2000, truth, delta=DELTA)
    gaussian, f_dp, f_dp_of_several = [], [], []
    for _ in range(40):
        scores, coins = audit(1.0, 2000, rng)
        gaussian.append(
            threshold_bound(scores[coins], scores[~coins], gaussian_mechanism_epsilon, delta=DELTA).epsilon / truth
        )
        f_dp.append(one_run_bound(scores, coins, [plan], f_dp_epsilon, delta=DELTA).epsilon / truth)
        f_dp_of_several.append(
            one_run_bound(scores, coins, default_plans(2000)[4:], f_dp_epsilon, delta=DELTA).epsilon / truth
        )
    assert np.median(gaussian) >= 0.7
    assert np.median(f_dp) >= 0.6
    assert np.median(f_dp_of_several) >= 0.45  # what choosing among plans costs


def test_random_guesses_give_zero() -> None:
    rng = np.random.Generator(np.random.Philox(15))
    above = dict.fromkeys((one_run_epsilon, f_dp_epsilon, clopper_pearson_epsilon, gaussian_mechanism_epsilon), 0)
    for _ in range(NUM_RUNS):
        scores, coins = audit(0.0, 100, rng)
        for guess in (one_run_epsilon, f_dp_epsilon):
            above[guess] += one_run_bound(scores, coins, default_plans(100), guess, delta=DELTA).epsilon > 0
        for decide in (clopper_pearson_epsilon, gaussian_mechanism_epsilon):
            above[decide] += threshold_bound(scores[coins], scores[~coins], decide, delta=DELTA).epsilon > 0
    assert max(above.values()) <= 0.05 * NUM_RUNS


def test_choosing_without_a_correction_would_claim_too_much() -> None:
    """Why there is a correction: at no privacy loss the best of many plans passes 5 % when each is given all of it."""
    rng = np.random.Generator(np.random.Philox(16))
    plans = [GuessPlan(num_in=num, num_out=out) for num in range(5, 50) for out in (0, num)]
    corrected = uncorrected = 0
    for _ in range(200):
        scores, coins = audit(0.0, 100, rng)
        tables = [count_guesses(scores, coins, plan) for plan in plans]
        uncorrected += any(one_run_epsilon(table, delta=0.0) > 0 for table in tables)
        corrected += one_run_bound(scores, coins, plans, one_run_epsilon, delta=0.0).epsilon > 0
    assert uncorrected > 0.1 * 200
    assert corrected <= 0.05 * 200


def test_guesses_are_the_highest_in_and_the_lowest_out() -> None:
    scores = [5.0, 1.0, 4.0, 2.0, 3.0]
    coins = [True, True, False, False, False]
    found = count_guesses(scores, coins, GuessPlan(num_in=2, num_out=2))
    assert found == Guesses(num_canaries=5, num_guesses=4, num_correct=2)  # 5 rightly in, 4 not; 2 rightly out, 1 not
    assert count_guesses(scores, coins, GuessPlan(num_in=1, num_out=0)).num_correct == 1


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=4, max_size=20))
def test_the_order_of_the_canaries_does_not_matter(rows: list[tuple[int, bool]]) -> None:
    plan = GuessPlan(num_in=2, num_out=2)
    there = count_guesses([row[0] for row in rows], [row[1] for row in rows], plan)
    ordered = sorted(rows)
    assert count_guesses([row[0] for row in ordered], [row[1] for row in ordered], plan) == there


def test_equal_scores_show_nothing_however_the_canaries_are_listed() -> None:
    coins = np.arange(100) < 50
    found = count_guesses(np.ones(100), coins, GuessPlan(num_in=50, num_out=50))
    assert found.num_guesses == 0
    everybody = count_guesses(np.ones(100), coins, GuessPlan(num_in=100, num_out=0))
    assert (everybody.num_guesses, everybody.num_correct) == (100, 50)
    ties = threshold_bound(np.ones(50), np.ones(50), clopper_pearson_epsilon, delta=DELTA)
    assert ties.epsilon == 0.0


def test_perfect_scores_reach_what_their_number_allows() -> None:
    coins = np.arange(200) < 100
    chosen = one_run_bound(coins, coins, [GuessPlan(num_in=99, num_out=99)], one_run_epsilon, delta=DELTA)
    assert chosen.counts == Guesses(num_canaries=200, num_guesses=0, num_correct=0)  # two values: all ties
    scores = coins + np.linspace(0, 0.5, 200)
    chosen = one_run_bound(scores, coins, [GuessPlan(num_in=100, num_out=100)], one_run_epsilon, delta=DELTA)
    best = Guesses(num_canaries=200, num_guesses=200, num_correct=200)
    assert (chosen.counts, chosen.num_tried) == (best, 1)
    assert chosen.epsilon == one_run_epsilon(best, delta=DELTA)
    found = threshold_bound(scores[coins], scores[~coins], clopper_pearson_epsilon, delta=DELTA, num_thresholds=1)
    assert round(found.epsilon, 2) == 3.28


def test_thresholds_are_fixed_ranks_of_non_members() -> None:
    non_members = np.arange(100.0)
    for num in (1, 2, 7, 10):
        tried = threshold_bound([200.0], non_members, clopper_pearson_epsilon, delta=DELTA, num_thresholds=num)
        assert 1 <= tried.num_tried <= num
    assert threshold_bound([1.0], [0.0], clopper_pearson_epsilon, delta=DELTA).num_tried == 1


def test_a_claim_plans_guesses_before_any_score_is_seen() -> None:
    plan = planned_guesses(1000, 4.377, delta=DELTA)
    assert plan.num_in == plan.num_out
    assert 10 <= plan.num_in <= 200
    # The larger the claim the more canaries are told surely.
    assert planned_guesses(1000, 40.0, delta=DELTA).num_in > plan.num_in
    assert planned_guesses(2, 1.0, delta=DELTA).num_in == 1


def test_bad_arguments_are_refused() -> None:
    plan = GuessPlan(num_in=2, num_out=2)
    with pytest.raises(ValueError, match="both 0"):
        GuessPlan(num_in=0, num_out=0)
    with pytest.raises(ValueError, match="num_in is -1"):
        GuessPlan(num_in=-1, num_out=0)
    with pytest.raises(ValueError, match="2 \\+ 2 guesses for 3 canaries"):
        count_guesses([1.0, 2.0, 3.0], [True, False, True], plan)
    with pytest.raises(ValueError, match="2 coins for 4 canaries"):
        count_guesses([1.0, 2.0, 3.0, 4.0], [True, False], plan)
    with pytest.raises(RunError, match="1 of 4 values are no numbers"):
        count_guesses([1.0, math.nan, 3.0, 4.0], [True, False, True, False], plan)
    with pytest.raises(DataError, match="there are none"):
        count_guesses([], [], plan)
    with pytest.raises(ValueError, match="plans is empty"):
        one_run_bound([1.0], [True], [], one_run_epsilon, delta=DELTA)
    with pytest.raises(ValueError, match="num_thresholds is 0"):
        threshold_bound([1.0], [0.0], clopper_pearson_epsilon, delta=DELTA, num_thresholds=0)
    with pytest.raises(ValueError, match="significance is 2"):
        threshold_bound([1.0], [0.0], clopper_pearson_epsilon, delta=DELTA, significance=2.0)
