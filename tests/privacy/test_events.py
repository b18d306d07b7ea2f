"""Events are plain data; what a sum of discrete Gaussian shares guarantees is held to exact convolutions."""

import json
import math
import subprocess
import sys
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from confide.errors import ConfigError
from confide.privacy.events import DiscreteSum, Event, SampledGaussian

_REACH = 60  # steps on each side; where mass below 1e-300 is lost it is no part of any sum here


def law_of_sum(sigma: float, num_shares: int) -> npt.NDArray[np.float64]:
    """Probabilities of the sum of shares, by convolution of one share's, on -num_shares reach to num_shares reach."""
    support = np.arange(-_REACH, _REACH + 1)
    share = np.exp(-(support**2) / (2 * sigma**2))
    share /= share.sum()
    total = share
    for _ in range(num_shares - 1):
        total = np.convolve(total, share)
    return total


def renyi_divergence(law: npt.NDArray[np.float64], shift: int, order: float) -> float:
    """Of the law from itself moved by `shift`, by summing where both are above underflow."""
    here, moved = law[shift:], law[:-shift]
    both = (here > 0) & (moved > 0)
    terms = order * np.log(here[both]) + (1 - order) * np.log(moved[both])
    return float(np.log(np.exp(terms).sum()) / (order - 1))


@pytest.mark.parametrize("sigma", [0.5, 0.6, 0.8, 1.0, 2.0])
@pytest.mark.parametrize("num_shares", [1, 2, 3, 5])
@pytest.mark.parametrize("shifts", [(1,), (2,), (1, 1), (2, 1, 1), (1,) * 8])
def test_no_order_of_renyi_divergence_is_above_the_order_times_rho(
    sigma: float, num_shares: int, shifts: tuple[int, ...]
) -> None:
    law = law_of_sum(sigma, num_shares)
    norm = math.sqrt(sum(shift**2 for shift in shifts))
    event = DiscreteSum(sensitivity=norm, sigma=sigma, num_shares=num_shares, num_values=len(shifts))
    for order in (1.001, 1.1, 1.5, 2.0, 3.0, 8.0):
        # Coordinates are independent, so their divergences add up.
        divergence = sum(renyi_divergence(law, shift, order) for shift in shifts)
        assert divergence <= order * event.rho * (1 + 1e-9)


def test_without_the_correction_for_sums_rho_would_be_too_small() -> None:
    law = law_of_sum(0.5, 2)
    uncorrected = 1 / (2 * 2 * 0.5**2)
    assert renyi_divergence(law, 1, 3.0) > 3.0 * uncorrected * 1.05


@pytest.mark.parametrize("num_shares", [1, 2, 5])
def test_rho_is_attained_where_the_correction_vanishes(num_shares: int) -> None:
    """At integer orders one discrete Gaussian attains its bound; from sigma = 3 on a sum is one, but for 1e-37."""
    event = DiscreteSum(sensitivity=2, sigma=3.0, num_shares=num_shares, num_values=1)
    assert renyi_divergence(law_of_sum(3.0, num_shares), 2, 2.0) == pytest.approx(2.0 * event.rho, rel=1e-9)
    assert event.rho == pytest.approx(2**2 / (2 * num_shares * 3.0**2), rel=1e-12)


def test_rho_is_the_papers_formula() -> None:
    """Both branches of the minimum, with numbers worked out by hand: two shares have tau = 10 exp(-pi^2 sigma^2)."""
    tau = 10 * math.exp(-(math.pi**2) * 0.64)
    small = DiscreteSum(sensitivity=1, sigma=0.8, num_shares=2, num_values=1)
    assert small.rho == pytest.approx((1 / (math.sqrt(2) * 0.8) + tau) ** 2 / 2)
    large = DiscreteSum(sensitivity=20, sigma=0.8, num_shares=2, num_values=100)
    assert large.rho == pytest.approx((20**2 / (2 * 0.64) + 2 * tau * 100) / 2)


@pytest.mark.parametrize(
    "event",
    [
        SampledGaussian(noise_multiplier=1.1, sampling_rate=256 / 60000, count=14062),
        DiscreteSum(sensitivity=1023, sigma=700, num_shares=3, num_values=4096, count=7),
    ],
)
def test_events_survive_json(event: Event) -> None:
    assert type(event)(**json.loads(json.dumps(asdict(event)))) == event


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"noise_multiplier": 0.0}, ConfigError, "privacy.noise_multiplier is 0, expected .* without noise"),
        ({"noise_multiplier": math.nan}, ConfigError, "privacy.noise_multiplier is nan"),
        ({"noise_multiplier": math.inf}, ConfigError, "privacy.noise_multiplier is inf"),
        ({"noise_multiplier": 1.0, "sampling_rate": 0.0}, ValueError, "sampling_rate is 0.0"),
        ({"noise_multiplier": 1.0, "sampling_rate": 1.5}, ValueError, "sampling_rate is 1.5"),
        ({"noise_multiplier": 1.0, "count": 0}, ValueError, "count is 0"),
    ],
)
def test_steps_that_cannot_be_are_refused(values: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        SampledGaussian(**values)


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"sigma": 0.0}, ConfigError, "noise of one share.* is 0, expected .* Set privacy.unit"),
        ({"sigma": 0.49}, ConfigError, "0.49 steps .* expected at least 0.5.* finer seal.profile"),
        ({"sensitivity": 0}, ValueError, "sensitivity is 0"),
        ({"num_shares": 0}, ValueError, "num_shares is 0"),
        ({"num_values": 0}, ValueError, "num_values is 0"),
        ({"count": 0}, ValueError, "count is 0"),
    ],
)
def test_sums_that_cannot_be_are_refused(changed: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        DiscreteSum(**{"sensitivity": 1, "sigma": 1.0, "num_shares": 2, "num_values": 1, **changed})


@pytest.mark.parametrize("module", ["confide.privacy.plan", "confide.privacy.events", "confide.config.load"])
def test_the_accounting_library_is_not_loaded_before_it_is_needed(module: str) -> None:
    script = f"import sys, {module}; sys.exit('dp_accounting' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
