"""Known answer: the Gaussian mechanism on vectors. The opened sum is of canaries, clipped at 1, and N(0, s^2) noise,
so that a client's epsilon is that of mu = 1 / s towards whoever sees it once."""

import math

import numpy as np
import pytest

from confide.audit.statistics.epsilon_canary_clients import (
    CanaryClientEpsilon,
    all_iterates_epsilon,
    canary_cosines,
    final_model_epsilon,
    random_directions,
)
from confide.audit.statistics.gaussian_curve import gaussian_epsilon, normal_pair_epsilon
from confide.errors import DataError, RunError

DELTA = 1e-5


def estimate_of(found: CanaryClientEpsilon) -> float:
    assert found.estimate is not None
    return found.estimate


def test_directions_lie_on_the_sphere_and_point_everywhere() -> None:
    directions = random_directions(300, 50, np.random.Generator(np.random.Philox(1)))
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1.0, rtol=1e-12)
    # Coordinates have mean 0 and variance 1 / 50; 15000 of them.
    assert abs(directions.mean()) < 4 * math.sqrt(1 / 50 / 15000)
    assert directions.var() == pytest.approx(1 / 50, rel=4 * math.sqrt(2 / 15000))


def test_cosines_do_not_depend_on_the_updates_scale() -> None:
    rng = np.random.Generator(np.random.Philox(2))
    directions, update = random_directions(5, 30, rng), rng.standard_normal(30)
    expected = [float(row @ update) / float(np.linalg.norm(update)) for row in directions]
    for scale in (1.0, 1e-200, 1e200):
        np.testing.assert_allclose(canary_cosines(directions, scale * update), expected, rtol=1e-12)
    np.testing.assert_allclose(canary_cosines(directions, directions[2])[2], 1.0, rtol=1e-12)


@pytest.mark.parametrize("mu", [0.5, 2.0])
def test_the_sum_of_canaries_and_noise_shows_its_epsilon(mu: float) -> None:
    rng = np.random.Generator(np.random.Philox(3))
    num_canaries, num_params = 400, 20_000
    directions = random_directions(num_canaries, num_params, rng)
    opened = directions.sum(axis=0) + rng.standard_normal(num_params) / mu
    found = final_model_epsilon(canary_cosines(directions, opened), num_params, delta=DELTA)
    truth = gaussian_epsilon(mu, DELTA)
    # The canaries themselves are mu^2 * 400 / 20000 of the sum's squared length: 8 % at mu = 2, 4 % of the shift. The
    # mean of 400 has a standard error of 0.05, and the spread, off by 3.5 %, moves epsilon by about as much again.
    assert found.estimate == pytest.approx(truth, rel=0.25)
    assert 0.6 * truth <= found.low <= truth
    assert found.low <= estimate_of(found)
    assert (found.num_inserted, found.num_held_out) == (400, 0)


@pytest.mark.parametrize("mu", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("num", [5, 100])
def test_the_lower_bound_holds_over_many_runs(mu: float, num: int) -> None:
    """Cosines as the mechanism gives them in very many dimensions: N(mu, 1) inserted, N(0, 1) absent, over sqrt(n)."""
    rng = np.random.Generator(np.random.Philox(4))
    num_params, num_runs = 10_000, 400
    truth = gaussian_epsilon(mu, DELTA)
    wrong_final = wrong_iterates = 0
    for _ in range(num_runs):
        inserted = (mu + rng.standard_normal(num)) / math.sqrt(num_params)
        absent = rng.standard_normal(4 * num) / math.sqrt(num_params)
        wrong_final += final_model_epsilon(inserted, num_params, delta=DELTA).low > truth
        wrong_iterates += all_iterates_epsilon(inserted, absent, delta=DELTA).low > truth
    # The first spends all of its 5 %: 400 runs are above that by two standard deviations, 8.7, now and then.
    assert wrong_final <= 0.05 * num_runs + 8.7
    assert wrong_iterates <= 0.05 * num_runs


def test_many_canary_clients_find_most_of_the_epsilon() -> None:
    rng = np.random.Generator(np.random.Philox(5))
    truth = gaussian_epsilon(1.0, DELTA)
    inserted, absent = 1.0 + rng.standard_normal(2000), rng.standard_normal(20_000)
    for found in (
        final_model_epsilon(inserted / 100, 10_000, delta=DELTA),
        all_iterates_epsilon(inserted, absent, delta=DELTA),
    ):
        assert 0.75 * truth <= found.low <= truth
        assert found.estimate == pytest.approx(truth, rel=0.1)
        assert found.estimate == pytest.approx(normal_pair_epsilon(found.shift, found.spread, DELTA))


def test_seeing_every_round_shows_more_than_the_final_model() -> None:
    """Each canary takes part in one of 16 rounds, with noise of 1/4 in each: mu is 4 to all, 1 to the last one only."""
    rng = np.random.Generator(np.random.Philox(6))
    num_rounds, num_params, num_canaries = 16, 2_000, 160
    directions, held_out = random_directions(num_canaries, num_params, rng), random_directions(300, num_params, rng)
    sums = rng.standard_normal((num_rounds, num_params)) / 4
    for i, direction in enumerate(directions):
        sums[i % num_rounds] += direction
    final = final_model_epsilon(canary_cosines(directions, sums.sum(axis=0)), num_params, delta=DELTA)
    inserted = np.max([canary_cosines(directions, row) for row in sums], axis=0)
    absent = np.max([canary_cosines(held_out, row) for row in sums], axis=0)
    every = all_iterates_epsilon(inserted, absent, delta=DELTA)
    assert estimate_of(final) < estimate_of(every)
    assert final.low < every.low <= gaussian_epsilon(4.0, DELTA)
    # A maximum is not normal: the fit promises much more than there is. That is why the bound does without it.
    assert estimate_of(every) > 1.5 * gaussian_epsilon(4.0, DELTA)


def test_scale_and_place_of_all_cosines_do_not_matter_where_both_groups_are_fitted() -> None:
    rng = np.random.Generator(np.random.Philox(7))
    inserted, absent = 1 + rng.standard_normal(50), rng.standard_normal(80)
    there, back = (
        all_iterates_epsilon(inserted, absent, delta=DELTA),
        all_iterates_epsilon(3 + inserted / 1000, 3 + absent / 1000, delta=DELTA),
    )
    assert there.low == pytest.approx(back.low, rel=1e-6)
    assert there.estimate == pytest.approx(back.estimate, rel=1e-6)


@pytest.mark.parametrize("gap", [1e-3, 1e-8])
@pytest.mark.parametrize("num", [2, 12])
def test_cosines_that_are_nearly_the_same_cost_the_estimate_and_never_a_bound_that_does_without_it(
    gap: float, num: int
) -> None:
    absent = np.random.Generator(np.random.Philox(8)).standard_normal(1000) / math.sqrt(2000)
    found = all_iterates_epsilon(0.3 + np.linspace(0, gap, num), absent, delta=DELTA)
    wider = all_iterates_epsilon(0.3 + np.linspace(0, 0.1, num), absent, delta=DELTA)
    assert found.low == wider.low > 0  # all are above all others in both
    assert found.estimate is None or found.estimate > estimate_of(wider)
    assert (found.estimate is None) == (gap == 1e-8)


def test_without_any_spread_the_final_model_gives_no_bound() -> None:
    with pytest.raises(RunError, match="all 12 are so nearly the same that no epsilon is large enough"):
        final_model_epsilon(0.3 + np.linspace(0, 1e-8, 12), 2000, delta=DELTA)


def test_bad_arguments_are_refused() -> None:
    directions = np.eye(3)
    with pytest.raises(RunError, match="0 throughout"):
        canary_cosines(directions, np.zeros(3))
    with pytest.raises(RunError, match="no numbers"):
        canary_cosines(directions, [1.0, math.nan, 0.0])
    with pytest.raises(ValueError, match="expected \\(num_canaries, 4\\)"):
        canary_cosines(directions, np.ones(4))
    with pytest.raises(ValueError, match="there is 1, expected at least 2"):
        final_model_epsilon([0.1], 100, delta=DELTA)
    with pytest.raises(DataError, match="there are none"):
        final_model_epsilon([], 100, delta=DELTA)
    with pytest.raises(RunError, match="all 3 are the same"):
        final_model_epsilon([0.1, 0.1, 0.1], 100, delta=DELTA)
    with pytest.raises(RunError, match="1 of 2 values"):
        all_iterates_epsilon([0.1, math.nan], [0.0, 0.1], delta=DELTA)
    with pytest.raises(ValueError, match="num_params is 1"):
        final_model_epsilon([0.1, 0.2], 1, delta=DELTA)
    with pytest.raises(ValueError, match="delta is 0"):
        final_model_epsilon([0.1, 0.2], 100, delta=0.0)
    with pytest.raises(ValueError, match="significance is 1"):
        all_iterates_epsilon([0.1, 0.2], [0.1, 0.3], delta=DELTA, significance=1.0)
    with pytest.raises(ValueError, match="num_canaries is 0"):
        random_directions(0, 5, np.random.default_rng(1))
