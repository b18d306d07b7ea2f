"""Epsilon equals dp-accounting called directly, published values and formulas worked out here, and obeys its laws."""

import itertools
import logging
import math
import sys
from collections.abc import Callable, Sequence

import dp_accounting
import numpy as np
import pytest
from dp_accounting import pld, rdp
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import optimize, special, stats

from confide.errors import ConfigError
from confide.privacy.accounting import RELATIVE_GAP, Accountant, accountant_for, epsilon, noise_multiplier_for
from confide.privacy.events import DiscreteSum, Event, SampledGaussian

# What the grid of losses costs, as a share of epsilon; `epsilon` states about 0.1 %. Measured: 0.02 % to 0.15 %.
GRID_COST = 2e-3


def steps(noise_multiplier: float, sampling_rate: float = 1.0, count: int = 1) -> SampledGaussian:
    return SampledGaussian(noise_multiplier=noise_multiplier, sampling_rate=sampling_rate, count=count)


def sums(noise_multiplier: float, count: int = 1) -> DiscreteSum:
    """Sums of three shares whose noise together is `noise_multiplier` times a sensitivity of 1000 steps."""
    sigma = noise_multiplier * 1000 / math.sqrt(3)
    return DiscreteSum(sensitivity=1000, sigma=sigma, num_shares=3, num_values=5000, count=count)


def gaussian_epsilon(noise_multiplier: float, delta: float) -> float:
    """Of one release, exactly (Balle and Wang 2018, theorem 8), in logarithms so that large epsilons fit."""
    mu = 1 / noise_multiplier

    def excess(candidate: float) -> float:
        first = special.log_ndtr(mu / 2 - candidate / mu)
        second = candidate + special.log_ndtr(-mu / 2 - candidate / mu)
        return float(first + np.log1p(-np.exp(second - first)) - math.log(delta))

    return float(optimize.brentq(excess, 0.0, mu**2 / 2 + 10 * mu, xtol=1e-10))


def renyi_bound(order: int, event: SampledGaussian) -> float:
    """Of sampled Gaussian steps at an integer order (Mironov et al. 2019, section 3.3), by summing a binomial."""
    k = np.arange(order + 1)
    weights = stats.binom.logpmf(k, order, event.sampling_rate) + (k**2 - k) / (2 * event.noise_multiplier**2)
    return event.count * float(special.logsumexp(weights)) / (order - 1)


# --- against references ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "direct"),
    [
        (
            steps(1.3, 0.02, 700),
            dp_accounting.SelfComposedDpEvent(
                dp_accounting.PoissonSampledDpEvent(0.02, dp_accounting.GaussianDpEvent(1.3)), 700
            ),
        ),
        (steps(2.0, 1.0, 5), dp_accounting.SelfComposedDpEvent(dp_accounting.GaussianDpEvent(2.0), 5)),
    ],
)
def test_epsilon_is_dp_accountings_own(event: Event, direct: dp_accounting.DpEvent) -> None:
    ours = epsilon([event], 1e-5)
    reference = pld.PLDAccountant(value_discretization_interval=3e-4).compose(direct).get_epsilon(1e-5)
    assert reference <= ours * (1 + 1e-6)
    assert ours <= reference * (1 + GRID_COST)
    by_rdp = rdp.RdpAccountant().compose(direct).get_epsilon(1e-5)
    assert epsilon([event], 1e-5, accountant="rdp") == pytest.approx(by_rdp, rel=1e-12)


def test_epsilon_of_sums_is_dp_accountings_own_for_their_zcdp() -> None:
    rho = 1 / (2 * 4.0**2)
    reference = rdp.RdpAccountant().compose(dp_accounting.ZCDpEvent(rho), 12).get_epsilon(1e-6)
    assert epsilon([sums(4.0, 12)], 1e-6) == pytest.approx(reference, rel=1e-9)


# About 5,400, 33, 10.0, 5.7, 4.4 and 2.0: the noise of the leakage paper (the first four), which reports no epsilon.
@pytest.mark.parametrize(
    ("noise", "known"), [(0.01, 5426), (0.2, 33.1), (0.5, 10.0), (0.8, 5.68), (1.0, 4.38), (2.0, 1.99)]
)
def test_epsilon_of_one_release_is_the_analytic_one(noise: float, known: float) -> None:
    exact = gaussian_epsilon(noise, 1e-5)
    assert exact == pytest.approx(known, rel=2e-3)
    assert exact <= epsilon([steps(noise)], 1e-5) <= exact * (1 + GRID_COST)


@pytest.mark.parametrize("count", [4, 100])
def test_releases_without_sampling_are_one_of_less_noise(count: int) -> None:
    exact = gaussian_epsilon(3.0 / math.sqrt(count), 1e-6)
    assert exact <= epsilon([steps(3.0, 1.0, count)], 1e-6) <= exact * (1 + GRID_COST)


# The table of TensorFlow Privacy's MNIST tutorial: batch 256 of 60000, delta 1e-5.
@pytest.mark.parametrize(("noise", "epochs", "published"), [(1.3, 15, 1.19), (1.1, 60, 3.01), (0.7, 45, 7.10)])
def test_the_classic_mnist_runs_cost_what_was_published(noise: float, epochs: int, published: float) -> None:
    event = steps(noise, 256 / 60000, epochs * 60000 // 256)
    bounds = {order: renyi_bound(order, event) for order in range(2, 65)}
    # The table's conversion (Mironov 2017, proposition 3), and the tighter one of Canonne et al. 2020 in use today.
    classic = min(bound - math.log(1e-5) / (order - 1) for order, bound in bounds.items())
    assert classic == pytest.approx(published, abs=0.03)
    tighter = min(
        bound + math.log1p(-1 / order) - math.log(1e-5 * order) / (order - 1) for order, bound in bounds.items()
    )
    by_rdp = epsilon([event], 1e-5, accountant="rdp")
    assert by_rdp == pytest.approx(tighter, rel=0.01)  # the accountant has orders in between, too
    assert by_rdp <= tighter * (1 + 1e-9)
    assert epsilon([event], 1e-5) < by_rdp < published


# --- laws -----------------------------------------------------------------------------------------------------------


@settings(max_examples=12, deadline=None)
@given(
    noise=st.floats(0.5, 8.0),
    rate=st.one_of(st.just(1.0), st.floats(0.005, 1.0)),
    count=st.integers(1, 400),
    delta=st.sampled_from([1e-4, 1e-5, 1e-7]),
)
@example(noise=0.546875, rate=0.96875, count=368, delta=1e-4)
def test_rdp_is_never_below_pld(noise: float, rate: float, count: int, delta: float) -> None:
    event = steps(noise, rate, count)
    by_pld, by_rdp = epsilon([event], delta), epsilon([event], delta, accountant="rdp")
    if math.isinf(by_pld):  # e to this power is no number of float64
        assert by_rdp > math.log(sys.float_info.max)
        return
    # RDP itself may give 0 where delta alone covers the whole difference; the grid then leaves some rest.
    assert by_pld <= by_rdp * (1 + GRID_COST) + 1e-3


@pytest.mark.parametrize("accountant", ["pld", "rdp"])
def test_epsilon_falls_with_noise_and_delta_and_grows_with_steps_and_sampling(accountant: Accountant) -> None:
    def cost(noise: float = 1.2, rate: float = 0.05, count: int = 200, delta: float = 1e-5) -> float:
        return epsilon([steps(noise, rate, count)], delta, accountant=accountant)

    def is_falling(values: list[float]) -> bool:
        return all(before > after for before, after in itertools.pairwise(values))

    assert is_falling([cost(noise=noise) for noise in (0.6, 1.0, 1.2, 5.0)])
    assert is_falling([cost(delta=delta) for delta in (1e-8, 1e-6, 1e-5, 1e-3)])
    assert is_falling([cost(count=count) for count in (300, 200, 1)])
    assert is_falling([cost(rate=rate) for rate in (1.0, 0.5, 0.05, 0.01)])


def test_epsilon_of_sums_falls_with_noise_and_grows_with_rounds() -> None:
    costs = [epsilon([sums(noise, 10)], 1e-5) for noise in (0.5, 1.0, 2.0, 8.0)]
    assert costs == sorted(costs, reverse=True)
    costs = [epsilon([sums(2.0, count)], 1e-5) for count in (1, 2, 10, 100)]
    assert costs == sorted(costs)
    assert len(set(costs)) == 4


@pytest.mark.parametrize("make", [lambda count: steps(1.0, 0.1, count), lambda count: sums(2.0, count)])
def test_splitting_equal_events_changes_nothing(make: Callable[[int], Event]) -> None:
    assert epsilon([make(3), make(1), make(6)], 1e-5) == epsilon([make(10)], 1e-5)


@pytest.mark.parametrize("accountant", ["pld", "rdp"])
def test_different_events_compose(accountant: Accountant) -> None:
    first, second = steps(1.0, 0.05, 50), steps(2.0, 0.2, 50)
    both = epsilon([first, second, first], 1e-5, accountant=accountant)
    direct = (
        rdp.RdpAccountant() if accountant == "rdp" else pld.PLDAccountant(value_discretization_interval=5e-4)
    ).compose(
        dp_accounting.ComposedDpEvent(
            [
                dp_accounting.SelfComposedDpEvent(
                    dp_accounting.PoissonSampledDpEvent(rate, dp_accounting.GaussianDpEvent(noise)), count
                )
                for noise, rate, count in ((1.0, 0.05, 100), (2.0, 0.2, 50))
            ]
        )
    )
    assert both == pytest.approx(direct.get_epsilon(1e-5), rel=GRID_COST)
    assert both > epsilon([second], 1e-5, accountant=accountant)


def test_one_known_by_its_zcdp_alone_makes_all_be_counted_by_rdp() -> None:
    mixed: list[Event] = [steps(1.0, 0.1, 10), sums(5.0)]
    assert accountant_for(mixed) == accountant_for(mixed, "pld") == "rdp"
    assert accountant_for(mixed[:1]) == "pld"
    assert accountant_for(mixed[:1], "rdp") == "rdp"
    assert epsilon(mixed, 1e-5) == epsilon(mixed, 1e-5, accountant="rdp") > epsilon(mixed[:1], 1e-5, accountant="rdp")


def test_nothing_released_costs_nothing() -> None:
    assert epsilon([], 1e-5) == 0.0


def test_the_library_prints_no_remarks_and_its_logger_stays_as_it_was(caplog: pytest.LogCaptureFixture) -> None:
    """These steps make it leave out fractional orders, about each of which it would say so."""
    logger = logging.getLogger("absl")
    logger.addHandler(caplog.handler)
    try:
        with caplog.at_level(logging.INFO, logger="absl"):
            assert math.isfinite(epsilon([steps(0.5, 0.05, 2001)], 1e-5, accountant="rdp"))
            assert logger.level == logging.INFO
    finally:
        logger.removeHandler(caplog.handler)
    assert caplog.records == []


# --- noise for a target -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [8.0, 2.0, 0.5])
@pytest.mark.parametrize(
    "make",
    [
        lambda noise: [steps(noise, 0.05, 100)],
        lambda noise: [steps(noise)],
        lambda noise: [sums(noise, 20)],
        lambda noise: [steps(noise, 0.02, 30), steps(2 * noise, 0.1, 10)],
    ],
)
def test_found_noise_keeps_the_target_and_hardly_less_would_not(
    target: float, make: Callable[[float], Sequence[Event]]
) -> None:
    noise = noise_multiplier_for(target, 1e-5, make)
    assert epsilon(make(noise), 1e-5) <= target < epsilon(make(noise * (1 - RELATIVE_GAP)), 1e-5)


def test_found_noise_keeps_the_target_by_the_accountant_asked_for() -> None:
    noise = noise_multiplier_for(3.0, 1e-5, lambda noise: [steps(noise, 0.05, 100)], accountant="rdp")
    assert 0.99 * 3.0 < epsilon([steps(noise, 0.05, 100)], 1e-5, accountant="rdp") <= 3.0


def test_found_noise_of_one_release_is_the_analytic_one() -> None:
    noise = noise_multiplier_for(gaussian_epsilon(1.7, 1e-5), 1e-5, lambda noise: [steps(noise)])
    assert 1.7 <= noise <= 1.7 * (1 + GRID_COST + RELATIVE_GAP)


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delta", [0.0, 1.0, -1e-5, 2.0, math.nan])
def test_a_delta_that_is_no_probability_is_refused(delta: float) -> None:
    with pytest.raises(ConfigError, match=r"privacy\.delta is .*more than 0 and less than 1.*Set it"):
        epsilon([steps(1.0)], delta)
    with pytest.raises(ConfigError, match=r"privacy\.delta is"):
        epsilon([], delta)
    with pytest.raises(ConfigError, match=r"privacy\.delta is"):
        noise_multiplier_for(1.0, delta, lambda noise: [steps(noise)])


@pytest.mark.parametrize("target", [0.0, -1.0, math.nan, math.inf])
def test_a_target_that_is_no_positive_number_is_refused(target: float) -> None:
    with pytest.raises(ConfigError, match=r"privacy\.target_epsilon is .*expected a finite number > 0"):
        noise_multiplier_for(target, 1e-5, lambda noise: [steps(noise)])


def test_a_target_that_no_noise_reaches_is_refused_with_what_it_would_cost() -> None:
    with pytest.raises(ConfigError, match=r"target_epsilon is 1, and .* still costs 4.7.*Raise the target"):
        noise_multiplier_for(1.0, 1e-5, lambda noise: [steps(noise), steps(1.0)], accountant="rdp")


def test_a_target_that_needs_no_noise_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"target_epsilon is 5, and .* costs only 4.3.*Set a target below"):
        noise_multiplier_for(5.0, 1e-5, lambda noise: [steps(1.0)])
