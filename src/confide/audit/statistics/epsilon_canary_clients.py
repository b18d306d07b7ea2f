"""Epsilon of a client, from canary clients whose updates are random directions: one training, opened sums alone.

A canary client sends a vector of the clipping norm in a direction drawn evenly from the sphere of adapter space. In so
many dimensions it disturbs nobody. How far the model, or one round's sum, leans its way is a normal variable whether it
took part or not; epsilon is that of telling the two apart. Single updates are never needed, so it works on sealed
runs. Each canary here is a client of its own. Canary records inside a client say nothing about a client's epsilon,
and several canaries that share one client's fate must not be counted as several.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import chdtri, stdtrit

from confide.audit.statistics.epsilon_choice import threshold_bound
from confide.audit.statistics.epsilon_search import check_count, check_delta, check_significance
from confide.audit.statistics.epsilon_two_sample import gaussian_mechanism_epsilon
from confide.audit.statistics.gaussian_curve import normal_pair_epsilon
from confide.audit.statistics.multiple import SIGNIFICANCE
from confide.audit.statistics.scores import Floats, checked_vector
from confide.errors import RunError


@dataclass(frozen=True, kw_only=True)
class CanaryClientEpsilon:
    """What canary clients say about the epsilon of a client, if the privacy curve is a Gaussian one; label it so.

    Attributes:
        estimate: the epsilon of the two fitted normal distributions: the paper's number. It is no bound; without any
            privacy loss it is still a little above 0. None where no epsilon is large enough: one of the two has hardly
            any spread beside the other.
        low: a lower bound; how it is made is said where it is made.
        delta: at which both hold.
        significance: the chance that `low` is above the true epsilon.
        shift: mean of the inserted canaries' cosines above that of absent ones, in standard deviations of these.
        spread: their standard deviation over that of absent ones.
        num_inserted: canary clients that took part.
        num_held_out: directions that took no part; 0 where their distribution is known.
    """

    estimate: float | None
    low: float
    delta: float
    significance: float
    shift: float
    spread: float
    num_inserted: int
    num_held_out: int


def random_directions(num_canaries: int, num_params: int, rng: np.random.Generator) -> Floats:
    """Draws directions evenly from the unit sphere, shape (num_canaries, num_params), float64.

    A canary client sends its direction times the clipping norm. Directions stay secret until the training is over.

    Raises:
        ValueError: there is no canary, or fewer than 2 parameters.
    """
    check_count(num_canaries, name="num_canaries", low=1)
    check_count(num_params, name="num_params", low=2)
    drawn = rng.standard_normal((num_canaries, num_params))
    return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True), np.float64)


def canary_cosines(directions: Floats, update: npt.ArrayLike) -> Floats:
    """Gives how far an update leans towards each canary, in [-1, 1], shape (num_canaries,).

    Args:
        directions: unit vectors, shape (num_canaries, num_params).
        update: one round's opened sum, or the final model minus the first, shape (num_params,), any scale.

    Raises:
        DataError, ValueError: as `checked_vector`; or the two differ in length.
        RunError: the update is 0 throughout, or not finite: it has no direction.
    """
    vector = checked_vector(update, name="update")
    if directions.ndim != 2 or directions.shape[1] != vector.size:
        raise ValueError(f"directions have shape {directions.shape}, expected (num_canaries, {vector.size})")
    largest = float(np.abs(vector).max())
    if largest == 0:
        raise RunError("the update is 0 throughout and has no direction: nothing was trained.")
    scaled = vector / largest  # its square neither overflows nor vanishes
    return np.asarray(directions @ (scaled / np.linalg.norm(scaled)), np.float64)


def final_model_epsilon(
    inserted: npt.ArrayLike, num_params: int, *, delta: float, significance: float = SIGNIFICANCE
) -> CanaryClientEpsilon:
    """Estimates a client's epsilon towards somebody who sees the final model only.

    Args:
        inserted: `canary_cosines` of the canaries that took part with the final model minus the first one, shape
            (num_inserted,), at least 2.
        num_params: dimension of adapter space, at least 2. A direction that took no part has a cosine that is
            N(0, 1 / num_params) in the limit; from some hundreds on the difference is below that of the fit.
        delta: above 0 and below 1.
        significance: of the lower bound, in (0, 1).

    Guarantees:
        - If the inserted cosines are normal, `low` is above the epsilon of their distribution with a chance of at most
          `significance`: half goes to the mean (Student's t), half to the spread (chi-squared).

    Raises:
        DataError: there are none.
        RunError: a cosine is NaN or infinite, or all are the same, or so nearly that no epsilon is large enough for
            the bound: they have no spread.
        ValueError: there is one only, or an argument is out of its range.

    Source: Andrew et al. 2024, "One-shot empirical privacy estimation for federated learning", the
        estimate for the final model. The lower bound is ours; the paper gives the estimate.
    """
    check_count(num_params, name="num_params", low=2)
    fitted = _Fit.of(inserted, name="inserted canaries' cosines")
    check_significance(significance)
    check_delta(delta, is_zero_allowed=False)
    null_sd = 1 / math.sqrt(num_params)
    shift, spread = fitted.mean / null_sd, fitted.sd / null_sd
    least_shift = max(0.0, fitted.mean_low(significance / 2) / null_sd)
    least_spread, most_spread = (spread * factor for factor in _spread_factors(fitted.num - 1, significance / 4))
    # At any shift epsilon is least where the spreads are equal, and it grows with the shift.
    possible_spread = min(max(1.0, least_spread), most_spread)
    low = _epsilon_if_any(least_shift, possible_spread, delta)
    if low is None:
        raise RunError(
            f"inserted canaries' cosines: all {fitted.num} are so nearly the same that no epsilon is large enough, "
            "which directions drawn at random do not give."
        )
    return CanaryClientEpsilon(
        estimate=_epsilon_if_any(shift, spread, delta),
        low=low,
        delta=delta,
        significance=significance,
        shift=shift,
        spread=spread,
        num_inserted=fitted.num,
        num_held_out=0,
    )


def all_iterates_epsilon(
    inserted: npt.ArrayLike, held_out: npt.ArrayLike, *, delta: float, significance: float = SIGNIFICANCE
) -> CanaryClientEpsilon:
    """Estimates a client's epsilon towards somebody who sees every round's sum, as clients and the server do.

    Args:
        inserted: for each canary that took part the largest of its `canary_cosines` over all rounds, shape
            (num_inserted,), at least 2.
        held_out: the same of directions that took no part, drawn as the others were, shape (num_held_out,), at
            least 2. They cost nothing: take many.
        delta: above 0 and below 1.
        significance: of the lower bound, in (0, 1).

    Guarantees:
        - `low` does not rest on the fit: it is `threshold_bound` with `gaussian_mechanism_epsilon`, which holds for any
          score if what everybody saw together has a Gaussian trade-off curve, above the true epsilon with a chance of
          at most `significance`. The canaries' cosines count as independent.
        - `estimate` does rest on it, and a maximum over rounds is not normal: with 16 rounds and a true epsilon of 24
          it can be twice that. It is given for comparison with the paper's numbers; judge by `low`.

    Raises:
        DataError, RunError, ValueError: as `final_model_epsilon`.

    Source: as `final_model_epsilon`, the estimate for all iterates: the null distribution of the maximum is fitted. We
        differ in `low`.
    """
    check_delta(delta, is_zero_allowed=False)
    fitted, null = _Fit.of(inserted, name="inserted canaries' cosines"), _Fit.of(held_out, name="held-out cosines")
    shift, spread = (fitted.mean - null.mean) / null.sd, fitted.sd / null.sd
    bound = threshold_bound(inserted, held_out, gaussian_mechanism_epsilon, delta=delta, significance=significance)
    return CanaryClientEpsilon(
        estimate=_epsilon_if_any(shift, spread, delta),
        low=bound.epsilon,
        delta=delta,
        significance=significance,
        shift=shift,
        spread=spread,
        num_inserted=fitted.num,
        num_held_out=null.num,
    )


@dataclass(frozen=True, kw_only=True)
class _Fit:
    """A normal distribution fitted to cosines."""

    mean: float
    sd: float
    num: int

    @classmethod
    def of(cls, cosines: npt.ArrayLike, *, name: str) -> "_Fit":
        values = checked_vector(cosines, name=name)
        if values.size < 2:
            raise ValueError(f"{name}: there is 1, expected at least 2 for a spread")
        if float(np.ptp(values)) <= 1e-9 * float(np.abs(values).max()):
            raise RunError(f"{name}: all {values.size} are the same, which no direction drawn at random gives.")
        return cls(mean=float(values.mean()), sd=float(values.std(ddof=1)), num=values.size)

    def mean_low(self, tail: float) -> float:
        return self.mean + float(stdtrit(self.num - 1, tail)) * self.sd / math.sqrt(self.num)


def _epsilon_if_any(shift: float, spread: float, delta: float) -> float | None:
    """As `normal_pair_epsilon`; None where it finds none, as where a spread is next to nothing beside the other."""
    try:
        return normal_pair_epsilon(shift, spread, delta)
    except (ArithmeticError, ValueError):  # no epsilon is large enough, or a ratio of the two is beyond a float
        return None


def _spread_factors(degrees: int, tail: float) -> tuple[float, float]:
    """By how much a true standard deviation is less, and more, than a measured one, each with chance `tail`."""
    return math.sqrt(degrees / float(chdtri(degrees, tail))), math.sqrt(degrees / float(chdtri(degrees, 1 - tail)))
