"""Client-level plans: the bound on an update, the noise on the grid, and what an opened sum then holds."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2, kstest

from confide.errors import ConfigError, PrivacyBudgetError, SaturationError
from confide.privacy.client_level import (
    ClientPrivacy,
    Grid,
    delta_for_noise,
    largest_before_rounding,
    plan_grid,
    round_within,
    sigma_of,
)
from confide.privacy.events import DiscreteSum, Event
from confide.privacy.plan import Budget, Counts
from confide.privacy.randomness import NoiseSource, SeededRandomness
from confide.seal.fixedpoint import dequantize, quantize
from confide.seal.profiles import get_profile

NUM_VALUES = 2000
COMPACT = get_profile("onetime", "compact")
HALF = {name: (1 << (get_profile("onetime", name).value_bits - 1)) - 1 for name in ("compact", "precise")}


def cost(events: Sequence[Event], delta: float) -> float:
    """A stand-in for the accountant: one for each release."""
    assert delta == delta_for_noise(1e-5)
    return float(sum(event.count for event in events))


def make_plan(
    *,
    clip_norm: float = 1.0,
    noise: float = 1.0,
    num_honest: int = 2,
    num_values: int = NUM_VALUES,
    target: float | None = None,
    most_epsilon: float = 8.0,
    profile: str = "compact",
    seed: int = 0,
    client: str = "north",
) -> ClientPrivacy:
    def source(round_number: int) -> NoiseSource:
        return SeededRandomness(seed, "test", client, round_number)

    return ClientPrivacy(
        clip_norm=clip_norm,
        noise_multiplier=noise,
        num_honest=num_honest,
        num_values=num_values,
        grid=plan_grid(
            clip_norm=clip_norm,
            noise_multiplier=noise,
            num_honest=num_honest,
            num_values=num_values,
            num_draws=1e7,
            delta=1e-5,
            epsilon=most_epsilon,
            num_levels=HALF[profile],
        ),
        budget=Budget(delta=1e-5, target_epsilon=target, costs=cost),
        source=source,
    )


def levels(plan: ClientPrivacy, values: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    return np.rint(values.astype(np.float64) / plan.grid.step).astype(np.int64)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 2**32),
    st.sampled_from([1e-6, 0.01, 0.3, 1.0, 1.2, 50.0, 1e6]),
    st.floats(0.01, 1.0),
    st.integers(1, 600),
)
def test_whatever_the_update_is_its_norm_on_the_grid_stays_within_the_sensitivity(
    seed: int, size: float, ratio: float, num_values: int
) -> None:
    plan = make_plan(num_values=num_values)
    rng = np.random.default_rng(seed)
    update = rng.standard_normal(num_values) * rng.choice([0.0, 1.0, 30.0], num_values)
    update *= size / max(float(np.linalg.norm(update)), 1e-9)
    bound = math.floor(plan.clip_norm * ratio / plan.grid.step)
    found = round_within(update / plan.grid.step, bound, SeededRandomness(seed))
    assert int(found @ found) <= bound**2 <= plan.sensitivity**2


def test_an_update_at_the_bound_comes_near_to_the_sensitivity_and_one_beyond_it_keeps_its_direction() -> None:
    plan = make_plan()
    update = np.ones(NUM_VALUES) * plan.clip_norm / math.sqrt(NUM_VALUES)
    bound = plan.sensitivity
    for factor in (1.0, 1000.0):
        found = round_within(factor * update / plan.grid.step, bound, SeededRandomness(1))
        assert 0.99 * bound <= np.linalg.norm(found) <= bound
        assert float(found @ update) >= 0.99 * float(np.linalg.norm(found) * np.linalg.norm(update))


def test_rounding_has_no_bias() -> None:
    values = np.tile([0.1, 0.25, 0.5, 0.9, -0.3, -2.75, 0.0, 3.0], 40)
    rounds = [round_within(values, 1000, SeededRandomness(7, number)) for number in range(400)]
    mean = np.mean(rounds, axis=0)
    # Variance p (1 - p) <= 1/4: five standard deviations of a mean over 400.
    assert np.abs(mean - values).max() <= 5 * 0.5 / math.sqrt(400)
    assert (np.abs(np.array(rounds) - values) < 1).all()


def test_an_update_of_zeros_is_sent_as_noise_alone_and_so_is_one_that_is_not_finite() -> None:
    plan = make_plan()
    assert (round_within(np.zeros(5), plan.sensitivity, SeededRandomness(0)) == 0).all()
    sent = levels(plan, plan.protect(np.zeros(NUM_VALUES, np.float32), 1.0, 1))
    # Of variance sigma^2: the sum of squares is chi-square, to the eye of a 99.99 % interval.
    assert chi2.ppf(5e-5, NUM_VALUES) <= float(sent @ sent) / plan.sigma**2 <= chi2.ppf(1 - 5e-5, NUM_VALUES)
    for bad in (np.nan, np.inf):
        update = np.zeros(NUM_VALUES, np.float32)
        update[3] = bad
        alone = levels(plan, plan.protect(update, 1.0, 1))
        assert chi2.ppf(5e-5, NUM_VALUES) <= float(alone @ alone) / plan.sigma**2 <= chi2.ppf(1 - 5e-5, NUM_VALUES)


@pytest.mark.parametrize("profile", ["compact", "precise"])
def test_sealing_carries_exactly_what_the_plan_gives(profile: str) -> None:
    plan, parameters = make_plan(profile=profile), get_profile("onetime", profile)
    update = np.random.default_rng(3).standard_normal(NUM_VALUES).astype(np.float32)
    sent = plan.protect(update, 1.0, 1)
    quantized = quantize(sent, plan.fixed_limit, parameters)
    assert quantized.num_saturated == 0
    assert np.array_equal(quantized.levels.astype(np.int64) - (HALF[profile] + 1), levels(plan, sent))


@pytest.mark.parametrize("num_clients", [2, 5])
def test_an_opened_sum_holds_the_clipped_updates_and_noise_of_all_shares(num_clients: int) -> None:
    plans = [make_plan(num_honest=2, client=f"c{number}") for number in range(num_clients)]
    update = np.full(NUM_VALUES, 0.5 / math.sqrt(NUM_VALUES), np.float32)
    sent = [quantize(plan.protect(update, 1.0, 4), plan.fixed_limit, COMPACT).levels for plan in plans]
    opened = dequantize(np.sum(sent, axis=0), num_clients, plans[0].fixed_limit, COMPACT)
    noise = (opened - num_clients * update) / plans[0].grid.step
    # Steps are fine beside sigma, so the sum's noise is Gaussian to this many draws; rounding adds a quarter at most.
    spread = math.sqrt(num_clients * (plans[0].sigma ** 2 + 0.25))
    assert kstest(noise / spread, "norm").pvalue > 1e-4
    assert abs(noise.std() / spread - 1) < 5 / math.sqrt(2 * NUM_VALUES)


def test_the_share_is_sized_for_the_fewest_whose_noise_counts() -> None:
    few, many = make_plan(num_honest=1), make_plan(num_honest=4)
    assert few.sigma * few.grid.step == pytest.approx(1.0, rel=1e-3)
    assert many.sigma * many.grid.step == pytest.approx(0.5, rel=1e-3)
    for plan in (few, many):
        (event,) = plan.events(3)
        assert event == DiscreteSum(
            sensitivity=plan.sensitivity,
            sigma=plan.sigma,
            num_shares=plan.num_honest,
            num_values=NUM_VALUES,
            count=3,
        )
        assert event.sigma * math.sqrt(event.num_shares) >= plan.noise_multiplier * event.sensitivity
    assert few.events(0) == []


def test_noise_differs_by_client_and_round() -> None:
    plan, other = make_plan(), make_plan(client="south")
    update = np.zeros(NUM_VALUES, np.float32)
    first = plan.protect(update, 1.0, 1)
    assert not np.array_equal(first, plan.protect(update, 1.0, 2))
    assert not np.array_equal(first, other.protect(update, 1.0, 1))


def test_a_value_beyond_the_range_is_not_released() -> None:
    plan = make_plan()
    narrow = replace(plan, grid=replace(plan.grid, most=plan.sigma))
    with pytest.raises(SaturationError, match="not released"):
        narrow.protect(np.zeros(NUM_VALUES, np.float32), 1.0, 1)


def test_the_range_holds_a_clipped_value_and_nearly_any_noise() -> None:
    plan = make_plan(num_values=3)
    # The whole update in one value, at the bound: the worst there is.
    for number in range(200):
        sent = plan.protect(np.array([1.0, 0.0, 0.0], np.float32), 1.0, number)
        assert np.abs(levels(plan, sent)).max() <= plan.grid.most <= HALF["compact"]


@pytest.mark.parametrize("most_epsilon", [0.0, 1.0, 8.0, 118.0])
def test_delta_pays_for_values_that_do_not_fit_as_often_as_epsilon_allows(most_epsilon: float) -> None:
    """That nothing is released is seen by everybody, and is no part of the sum that the accountant speaks of."""
    plan = make_plan(num_values=3, most_epsilon=most_epsilon)
    tail = (plan.grid.most - plan.sensitivity - 1) / plan.sigma
    log_chance = math.log(2 * 1e7) - tail**2 / 2
    kept = 1e-5 - delta_for_noise(1e-5)
    assert log_chance + math.log1p(math.exp(most_epsilon)) <= math.log(1.05 * kept)


def test_no_epsilon_is_given_beyond_what_the_range_is_wide_enough_for() -> None:
    plan = make_plan(most_epsilon=3.5)
    assert [plan.epsilon(number) for number in (3, 4)] == [3.0, math.inf]
    plan.check_budget(Counts(uploads=3))
    with pytest.raises(PrivacyBudgetError, match=r"epsilon to 4, and the sealing's range was planned for 3\.5"):
        plan.check_budget(Counts(uploads=4))


def test_a_grid_that_would_lose_the_update_in_rounding_is_refused() -> None:
    def grid(profile: str) -> Grid:
        return plan_grid(
            clip_norm=1.0,
            noise_multiplier=1.0,
            num_honest=1,
            num_values=2 * 10**8,
            num_draws=1e12,
            delta=1e-5,
            epsilon=8.0,
            num_levels=HALF[profile],
        )

    with pytest.raises(ConfigError, match="precise"):
        grid("compact")
    sensitivity = 1.0 / grid("precise").step
    assert largest_before_rounding(2 * 10**8, int(sensitivity)) > 0.99 * sensitivity


def test_noise_is_rounded_up() -> None:
    assert sigma_of(1.0, 1.0, 1, 0.3) == 4
    assert sigma_of(1.0, 1.0, 4, 0.25) == 2


def test_the_budget_is_checked_before_a_release() -> None:
    plan = make_plan(target=2.0)
    assert [plan.epsilon(number) for number in (0, 1, 2)] == [0.0, 1.0, 2.0]
    plan.check_budget(Counts(uploads=2))
    with pytest.raises(PrivacyBudgetError, match=r"epsilon to 3, above privacy\.target_epsilon = 2"):
        plan.check_budget(Counts(uploads=3))
    make_plan(target=None, most_epsilon=1000.0).check_budget(Counts(uploads=1000))


def test_more_values_than_were_planned_for_are_not_noised() -> None:
    plan = make_plan(num_values=3)
    assert plan.protect(np.ones(3, np.float32), 1.0, 1).size == 3
    with pytest.raises(ValueError, match="4 values are to be noised, and the plan is for 3"):
        plan.protect(np.ones(4, np.float32), 1.0, 1)
