"""E2, (n, p)-discoverable extraction: how many samples bring a text out, from one forward pass and no sampling.

Everything is in log space: a text of fifty tokens easily has a probability below the smallest float.
"""

import math

import numpy as np
import numpy.typing as npt

from confide.attacks.token_stats import TokenStats

Floats = npt.NDArray[np.float64]


def log_probability(stats: TokenStats, start: int, stop: int, *, scheme: str | None = None) -> float:
    """Gives the log-probability that a model continues a record's first `start` tokens with those up to `stop`.

    Args:
        stats: of the whole record under the model.
        start: first token of the continuation, >= 1 (the first token of a record has no probability).
        stop: one behind its last token.
        scheme: decoding scheme that draws the tokens, a name in `stats.decoded`; None for the model's own
            distribution (temperature 1, nothing cut off).

    Returns:
        log p_z in nats, <= 0; -inf where the scheme never draws one of the tokens.

    Raises:
        ValueError: the range is empty or outside the record, or a value is NaN.
    """
    values = stats.logp if scheme is None else stats.decoded[scheme]
    if not 1 <= start < stop <= values.size + 1:
        raise ValueError(f"tokens {start} to {stop} of a record of {values.size + 1}, expected 1 <= start < stop")
    total = float(values[start - 1 : stop - 1].sum(dtype=np.float64))
    if math.isnan(total):
        raise ValueError("a log-probability is NaN; the model's pass over this record failed")
    return min(total, 0.0)  # the sum of rounded values of certain tokens may end up a hair above


def num_samples_needed(log_p_z: Floats | float, success_probability: float) -> Floats:
    """Gives the fewest samples of which at least one is the text with the asked probability.

    n = ceil(log(1 - p) / log(1 - p_z)).

    Args:
        log_p_z: any shape, nats, <= 0.
        success_probability: p, in (0, 1).

    Returns:
        Same shape, float64, >= 1: a whole number as long as float64 tells them apart; inf for a text that is never
        drawn, or beyond float64.

    Raises:
        ValueError: a number is out of its range or NaN.

    Source: Hayes et al. 2024, "Measuring memorization through probabilistic discoverable extraction", section 3.
    """
    if not 0.0 < success_probability < 1.0:
        raise ValueError(f"success_probability is {success_probability}, expected between 0 and 1")
    log_needed = math.log(-math.log1p(-success_probability)) - _log_hazard(log_p_z)
    with np.errstate(over="ignore"):  # beyond float64 it is infinite, which is what is meant
        return np.maximum(np.ceil(np.exp(log_needed)), 1.0)


def success_within(log_p_z: Floats | float, num_samples: Floats | float) -> Floats:
    """Gives the probability that at least one of `num_samples` samples is the text: 1 - (1 - p_z)^n.

    Args:
        log_p_z: nats, <= 0; broadcasts against `num_samples`.
        num_samples: n, > 0.

    Returns:
        float64 in [0, 1], exact to rounding for the smallest probabilities too.

    Raises:
        ValueError: a number is out of its range or NaN.

    Source: as `num_samples_needed`.
    """
    numbers = np.asarray(num_samples, dtype=np.float64)
    if not (numbers > 0).all():
        raise ValueError("num_samples has a value that is not > 0")
    with np.errstate(over="ignore"):  # a certain text has an infinite hazard
        return -np.expm1(-np.exp(_log_hazard(log_p_z) + np.log(numbers)))


def _log_hazard(log_p_z: Floats | float) -> Floats:
    """log(-log(1 - p_z)): for small p_z it is log p_z itself; inf for p_z = 1, -inf for 0."""
    values = np.asarray(log_p_z, dtype=np.float64)
    if not (values <= 0.0).all():  # NaN too
        raise ValueError("a log-probability is NaN or above 0")
    with np.errstate(divide="ignore", under="ignore"):
        p_z = np.exp(values)
        # log1p(-p) = -p (1 + p/2 + ...): below 1e-17 the difference is below float64, and exp may underflow.
        return np.where(values < -40.0, values, np.log(-np.log1p(-p_z)))
