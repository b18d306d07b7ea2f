"""One client's whole contribution hidden: each update clipped, and noised so that the opened sum has planned noise.

Every client adds its share of the noise before sealing, on the integer grid that sealing adds on, so that nobody, the
server included, ever sees a sum with less noise than is accounted for. The share is sized for the fewest members that a
sum may have, without those who may collude: a coalition knows its own members' noise and takes it off.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from confide.errors import ConfigError, PrivacyBudgetError, SaturationError
from confide.privacy.discrete_gaussian import discrete_gaussian
from confide.privacy.events import DiscreteSum, Event
from confide.privacy.plan import Budget, Counts, Unit
from confide.privacy.randomness import NoiseSource
from confide.update import Vector

_TAIL_SHARE = 2.0**-10
"""Of delta, kept for the case that some value does not fit into the range, in any client, value or round.

Then nothing is released, and that depends on a client's own share, which no opened sum shows: so it is no part of what
the accountant counts. Let M be the mechanism with an endless range, (epsilon, delta_1)-DP, R the real one, and t the
most that the chance of a value that does not fit can be, whatever the data. For outcomes S and neighbours D and D'

    P[R(D) in S] <= P[M(D) in S] + t <= e^epsilon P[M(D') in S] + delta_1 + t
                 <= e^epsilon (P[R(D') in S] + t) + delta_1 + t.

So delta is delta_1 + (1 + e^epsilon) t, and the range is wide enough for t = _TAIL_SHARE delta / (1 + e^epsilon).
"""
_LARGEST_LEVEL = 1 << 22  # exact in float32, with room for the rounding of the range
_ROUNDING_TRIES = 64
_LEAST_SIGNAL = 0.5

Levels = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The multiples of a step, from -most to most of them, that values are sealed as.

    Attributes:
        limit: the fixed-point range, in the units of the values.
        step: limit over the number of levels on each side of zero.
        most: the largest level that is used, up to the number of levels on each side.
        epsilon: the largest one that the range is wide enough for, see `_TAIL_SHARE`.
    """

    limit: float
    step: float
    most: int
    epsilon: float


@dataclass(frozen=True, kw_only=True)
class ClientPrivacy:
    """The plan of a client that clips and noises its whole update.

    Neighbouring runs differ in that one client's update is zero in every round; that it takes part, and its weight,
    are public. The guarantee is against whoever sees opened sums and adapters, up to `coalition` clients and the server
    together.

    Attributes:
        clip_norm: bound on the L2 norm of one client's update, > 0, in the units of an update.
        noise_multiplier: standard deviation of the noise that no coalition knows, over `clip_norm`.
        num_honest: how many shares that noise has at least, >= 1.
        num_values: values that travel in a round, at most.
        grid: what values are sealed as.
        budget: what may be spent.
        source: of an upload's noise, by the upload's number.

    Source: Kairouz, Liu and Steinke 2021, "The Distributed Discrete Gaussian Mechanism for Federated Learning with
        Secure Aggregation", algorithm 1, without its rotation: the range here is wide enough for any update.
    """

    clip_norm: float
    noise_multiplier: float
    num_honest: int
    num_values: int
    grid: Grid
    budget: Budget
    source: Callable[[int], NoiseSource] = field(repr=False)
    unit: Unit = "client"
    trains_privately: bool = False
    noises_updates: bool = True

    @property
    def fixed_limit(self) -> float:
        """See `PrivacyPlan.fixed_limit`: a range that followed the updates would tell of them."""
        return self.grid.limit

    @property
    def sensitivity(self) -> int:
        """The largest L2 norm of a clipped update, in steps."""
        return math.floor(self.clip_norm / self.grid.step)

    @property
    def sigma(self) -> int:
        """Of one client's noise, in steps: rounded up, so that the sum has no less than planned."""
        return sigma_of(self.clip_norm, self.noise_multiplier, self.num_honest, self.grid.step)

    def events(self, num_uploads: int) -> list[Event]:
        """What so many rounds released."""
        if num_uploads == 0:
            return []
        return [
            DiscreteSum(
                sensitivity=self.sensitivity,
                sigma=self.sigma,
                num_shares=self.num_honest,
                num_values=self.num_values,
                count=num_uploads,
            )
        ]

    def epsilon(self, num_uploads: int) -> float:
        """Epsilon of so many uploads; infinite beyond what the grid's range is wide enough for."""
        epsilon = _epsilon(self, num_uploads)
        return epsilon if epsilon <= self.grid.epsilon else math.inf

    def spent(self, counts: Counts) -> Mapping[str, float]:
        """See `PrivacyPlan.spent`."""
        return {"epsilon": self.epsilon(counts.uploads)}

    def check_budget(self, counts: Counts) -> None:
        """See `PrivacyPlan.check_budget`; without a target, what the range is wide enough for is the most."""
        self.budget.check(_epsilon(self, counts.uploads))
        if not math.isfinite(self.epsilon(counts.uploads)):
            raise PrivacyBudgetError(
                f"one more round would bring epsilon to {_epsilon(self, counts.uploads):.4g}, and the sealing's range "
                f"was planned for {self.grid.epsilon:.4g} at the most (delta {self.budget.delta:g}): too many rounds "
                "were done twice."
            )

    def protect(self, values: Vector, weight_ratio: float, upload_number: int) -> Vector:
        """Clips, rounds to the grid, and adds this client's share of the noise.

        Args:
            values: flat float32, multiplied by the weight.
            weight_ratio: in (0, 1]; a client that counts for less is clipped to as much less.
            upload_number: of this client's uploads in the run, from 1.

        Returns:
            Flat float32, multiples of the grid's step: sealing carries exactly these.

        Guarantees:
            - Without the noise, the result's norm is at most `sensitivity` steps whatever the values are; of values of
              which one is NaN or infinite it is 0, and noise alone is left.

        Raises:
            ValueError: there are more values than `num_values`.
            SaturationError: a value with its noise does not fit into the range; nothing may be released.
        """
        if values.size > self.num_values:  # what rounding the noise costs grows with their number
            raise ValueError(f"{values.size} values are to be noised, and the plan is for {self.num_values} at most")
        if not np.isfinite(values).all():  # an error would tell what noise has to hide
            values = np.zeros_like(values)
        source = self.source(upload_number)
        clipped = round_within(values.astype(np.float64) / self.grid.step, self._bound(weight_ratio), source)
        levels = clipped + discrete_gaussian(values.size, self.sigma, source)
        if int(np.abs(levels).max(initial=0)) > self.grid.most:
            raise SaturationError("noise beyond the range that was planned for it; the round is not released")
        sealed: Vector = (levels * self.grid.step).astype(np.float32)
        if not np.array_equal(np.rint(sealed.astype(np.float64) / self.grid.step).astype(np.int64), levels):
            raise SaturationError("the range is too fine for float32; nothing is released")
        return sealed

    def _bound(self, weight_ratio: float) -> int:
        return min(self.sensitivity, math.floor(self.clip_norm * weight_ratio / self.grid.step))


def round_within(values: npt.NDArray[np.float64], bound: int, source: NoiseSource) -> Levels:
    """Scales values down to an L2 norm, and rounds them to integers at random so that each keeps its mean.

    Args:
        values: shape (n,), in steps, finite.
        bound: on the norm of the result.
        source: of the rounding; privacy does not rest on it.

    Guarantees:
        - The norm of the result is at most `bound`.
        - Values whose norm leaves room for the rounding keep their scale.
    """
    room = largest_before_rounding(values.size, bound)
    norm = float(np.sqrt(np.square(values).sum()))
    scaled = values * (room / norm) if norm > room else values
    lower = np.floor(scaled)
    for _ in range(_ROUNDING_TRIES):
        uniform = np.frombuffer(source.random_bytes(4 * values.size), np.uint32) * 2.0**-32
        rounded: Levels = (lower + (uniform < scaled - lower)).astype(np.int64)
        if _norm_is_within(rounded, bound):
            return rounded
    towards_zero: Levels = np.trunc(scaled).astype(np.int64)
    return towards_zero if _norm_is_within(towards_zero, bound) else np.zeros_like(towards_zero)


def largest_before_rounding(num_values: int, bound: int) -> float:
    """The norm that values may have so that, rounded at random, they stay within `bound` almost always; >= 0.

    Rounding adds at most a quarter a value to the mean of the squared norm; the rest is room for its spread.
    """
    return math.sqrt(max(0.0, bound**2 - num_values / 4 - 4 * bound - 4 * math.sqrt(num_values)))


def plan_grid(
    *,
    clip_norm: float,
    noise_multiplier: float,
    num_honest: int,
    num_values: int,
    num_draws: float,
    delta: float,
    epsilon: float,
    num_levels: int,
) -> Grid:
    """The finest grid that holds a clipped value and its noise, but for a small part of delta.

    Args:
        clip_norm: > 0.
        noise_multiplier: > 0.
        num_honest: >= 1.
        num_values: of a round.
        num_draws: values of all clients and rounds, each as often as it may be noised: how often noise is drawn.
        delta: of the guarantee.
        epsilon: the largest one that is claimed, >= 0: the smaller must the chance be that a value does not fit.
        num_levels: levels that sealing has on each side of zero.

    Raises:
        ConfigError: sealing has too few levels for so many values.
    """
    share = clip_norm * noise_multiplier / math.sqrt(num_honest)
    # P(|noise| > t sigma) <= 2 exp(-t^2 / 2), for discrete Gaussians too.
    log_chance = math.log(_TAIL_SHARE * delta) - float(np.logaddexp(0.0, epsilon))
    tail = math.sqrt(2.0 * (math.log(2.0 * num_draws) - log_chance))
    # Half a level for rounding sigma up, and one for rounding a value.
    reach = clip_norm + tail * share
    most = min(num_levels, _LARGEST_LEVEL)
    step = reach / (most - tail - 1)
    grid = Grid(limit=step * num_levels, step=step, most=most, epsilon=epsilon)
    sensitivity = math.floor(clip_norm / step)
    if largest_before_rounding(num_values, sensitivity) < _LEAST_SIGNAL * sensitivity:
        raise ConfigError(
            f"an update of {num_values} values, clipped to a norm of {sensitivity} steps of the sealing's grid, would "
            'be lost in rounding. Set seal.profile to "precise", use a smaller lora.rank or prune.mask, or less noise.'
        )
    return grid


def sigma_of(clip_norm: float, noise_multiplier: float, num_honest: int, step: float) -> int:
    """One client's noise in steps, rounded up."""
    return math.ceil(clip_norm * noise_multiplier / math.sqrt(num_honest) / step)


def delta_for_noise(delta: float) -> float:
    """What of delta the accountant may use: the rest is for values that do not fit into the range."""
    return delta * (1.0 - _TAIL_SHARE)


def _norm_is_within(levels: Levels, bound: int) -> bool:
    return int(np.dot(levels, levels)) <= bound * bound


@lru_cache(maxsize=4096)
def _epsilon(plan: ClientPrivacy, num_uploads: int) -> float:
    return plan.budget.costs(plan.events(num_uploads), delta_for_noise(plan.budget.delta))
