"""From what was released to epsilon, and from an epsilon to the noise that keeps it.

The one module that needs dp-accounting. It is the accountant; here it is told what was released and how fine to count.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import dp_accounting
import numpy as np
from dp_accounting import mechanism_calibration, pld, rdp

from confide.errors import ConfigError
from confide.privacy.events import DiscreteSum, Event, SampledGaussian
from confide.quiet import errors_only

Accountant = Literal["pld", "rdp"]

RELATIVE_GAP = 1e-4
"""How far `noise_multiplier_for` may stay above the least noise that keeps the target, as a share of it."""

_LEAST_NOISE, _MOST_NOISE = 2.0**-10, 2.0**16
_COARSEST = 0.01  # in units of epsilon
_STEPS_IN_SPREAD = 10
_MOST_STEPS_IN_ONE = 50_000
_MOST_EXPONENT = 700.0  # of e, in float64


def accountant_for(events: Iterable[Event], wanted: Accountant = "pld") -> Accountant:
    """Says which accountant `epsilon` uses: the one wanted, or "rdp" where an event is known by its zCDP alone.

    Args:
        events: what was released.
        wanted: "pld", tight; or "rdp", looser, as an independent check.
    """
    return "rdp" if any(isinstance(event, DiscreteSum) for event in events) else wanted


def epsilon(events: Sequence[Event], delta: float, *, accountant: Accountant = "pld") -> float:
    """Gives the epsilon of everything released together.

    Args:
        events: what was released, adaptively and in this order, all with the same neighbours; equal ones are taken
            together. None: 0.
        delta: in (0, 1).
        accountant: "pld" composes privacy loss distributions, rounded up to a grid. On its grid a release's loss has a
            spread of ten steps, which costs about 0.1 % of epsilon; below sampling rates of 1e-3 it is fewer and costs
            more, as the grid has at most 5e4 steps for one release. "rdp" composes Renyi divergences at
            dp-accounting's orders. A `DiscreteSum` is known by its zCDP alone: with one of them, RDP is used whatever
            is asked for; `accountant_for` tells.

    Returns:
        An upper bound of the true epsilon, >= 0; infinity where delta is too small for what the grid leaves out
        (about 1e-15), and where the noise is too small to be computed with.

    Guarantees:
        - The same events give the same number, however they are split into equal ones.

    Raises:
        ConfigError: delta is out of range.

    Source: dp-accounting, `PLDAccountant` (Doroshenko et al. 2022, "Connect the Dots") and `RdpAccountant` (Mironov et
        al. 2019, "Renyi Differential Privacy of the Sampled Gaussian Mechanism").
    """
    if not 0.0 < delta < 1.0:
        raise ConfigError(
            f"privacy.delta is {delta:g}, expected more than 0 and less than 1: it is the probability that the "
            "guarantee fails. Set it well below one over the number of examples or clients, such as 1e-5."
        )
    return _epsilon(_taken_together(events), delta, accountant_for(events, accountant)) if events else 0.0


def noise_multiplier_for(
    target_epsilon: float,
    delta: float,
    make_events: Callable[[float], Sequence[Event]],
    *,
    accountant: Accountant = "pld",
) -> float:
    """Finds the least noise that keeps epsilon within a target.

    Args:
        target_epsilon: > 0.
        delta: in (0, 1).
        make_events: from a noise multiplier to all that the run would release; more noise must not cost more.
        accountant: as for `epsilon`.

    Returns:
        A noise multiplier, > 0.

    Guarantees:
        - `epsilon` of its events, by the same accountant, is at most `target_epsilon`.
        - It is above the least noise of which that holds by at most `RELATIVE_GAP` of it.

    Raises:
        ConfigError: an argument is out of range, or no noise between 2**-10 and 2**16 meets the target.
    """
    if not 0.0 < target_epsilon < math.inf:
        raise ConfigError(
            f"privacy.target_epsilon is {target_epsilon:g}, expected a finite number > 0. Set a positive target, or "
            'privacy.unit to "none" to train without differential privacy.'
        )

    def cost(noise: float) -> float:
        return epsilon(make_events(noise), delta, accountant=accountant)

    least = _bracket(cost, target_epsilon)
    found: float = mechanism_calibration.calibrate_dp_mechanism(
        lambda: _Costing(cost),
        lambda noise: noise,
        target_epsilon,
        delta,
        mechanism_calibration.ExplicitBracketInterval(least, 2.0 * least),
        tol=RELATIVE_GAP * least,
    )
    return found


def _bracket(cost: Callable[[float], float], target_epsilon: float) -> float:
    """A noise that costs more than the target, while twice as much noise does not."""
    noise = 1.0
    while cost(noise) > target_epsilon:
        noise *= 2.0
        if noise > _MOST_NOISE:
            raise ConfigError(
                f"privacy.target_epsilon is {target_epsilon:g}, and a noise_multiplier of {_MOST_NOISE:g} still costs "
                f"{cost(_MOST_NOISE):g}. Raise the target or privacy.delta, or train fewer rounds."
            )
    while cost(noise / 2.0) <= target_epsilon:
        noise /= 2.0
        if noise < _LEAST_NOISE:
            raise ConfigError(
                f"privacy.target_epsilon is {target_epsilon:g}, and a noise_multiplier of {_LEAST_NOISE:g}, hardly any "
                f"noise, costs only {cost(_LEAST_NOISE):g}. Set a target below that; 8 is weak already."
            )
    return noise / 2.0


@dataclass(frozen=True)
class _Costing:
    """An accountant as calibration uses one. It answers with our own epsilon, which the result will be held to."""

    cost: Callable[[float], float]
    noise: float = math.nan
    ledger: Any = dp_accounting.NoOpDpEvent()  # noqa: RUF009 (immutable)

    def compose(self, noise: float) -> "_Costing":
        """Takes the noise in place of an event."""
        return replace(self, noise=noise)

    def get_epsilon(self, delta: float) -> float:
        """What the noise costs; the delta is in `cost`."""
        del delta
        return self.cost(self.noise)


def _taken_together(events: Sequence[Event]) -> tuple[Event, ...]:
    """Equal events as one, in the order in which each kind came first."""
    counts: dict[Event, int] = {}
    for event in events:
        kind = replace(event, count=1)
        counts[kind] = counts.get(kind, 0) + event.count
    return tuple(replace(kind, count=count) for kind, count in counts.items())


@lru_cache(maxsize=4096)
def _epsilon(events: tuple[Event, ...], delta: float, accountant: Accountant) -> float:
    if accountant == "rdp":
        ledger = rdp.RdpAccountant()
    else:
        kinds = [event for event in events if isinstance(event, SampledGaussian)]
        ledger = pld.PLDAccountant(value_discretization_interval=_grid_step(kinds))
    try:
        with errors_only("absl"):  # that a Renyi order was left out: without it the bound is looser, not wrong
            for event in events:
                ledger.compose(_released_once(event), event.count)
            with np.errstate(over="ignore"):  # an epsilon of some 700 leaves float64 on the way, and is infinite
                return float(ledger.get_epsilon(delta))
    except OverflowError:  # so little noise that a number of dp-accounting's leaves float64
        return math.inf


def _released_once(event: Event) -> Any:
    """One release in dp-accounting's words; its classes carry no types."""
    if isinstance(event, DiscreteSum):
        return dp_accounting.ZCDpEvent(event.rho)
    gaussian = dp_accounting.GaussianDpEvent(event.noise_multiplier)
    if event.sampling_rate == 1.0:
        return gaussian
    return dp_accounting.PoissonSampledDpEvent(event.sampling_rate, gaussian)


def _grid_step(events: Sequence[SampledGaussian]) -> float:
    """The step of the grid of privacy losses, in units of epsilon: the finest that an event asks for and all allow.

    It does not depend on counts, so that what a run costs so far and what it was planned to cost are on one grid.
    """
    return max(min(_COARSEST, *map(_wanted_step, events)), *map(_least_step, events))


def _wanted_step(event: SampledGaussian) -> float:
    # With all examples the loss is normal with standard deviation 1 / noise. With a sample it has about the spread
    # q sqrt(exp(1 / noise**2) - 1), the chi distance, until rare large losses make that meaningless.
    exponent = min(event.noise_multiplier**-2, _MOST_EXPONENT)
    spread = min(1.0 / event.noise_multiplier, event.sampling_rate * math.sqrt(math.expm1(exponent)))
    return spread / _STEPS_IN_SPREAD


def _least_step(event: SampledGaussian) -> float:
    # The loss of one release reaches about 1 / (2 noise**2) + 8 / noise, where the tail is below 1e-15.
    return (0.5 / event.noise_multiplier**2 + 8.0 / event.noise_multiplier) / _MOST_STEPS_IN_ONE
