"""M12: RMIA. Did the record gain more, against reference models, than records that were not trained on?

Probabilities are per token (the geometric mean, exp of the mean log-probability): whole texts' underflow, and differ by
length before anything else.

The references are the attacker's shadow models (see `Shadows`). With the base model as the only one, and a = 1, the
order would be that of the reference attack's difference, so that is no attack of its own.
"""

from collections.abc import Sequence

import numpy as np

from confide.attacks.membership.positions import Positions, Scores, mean_log_probs
from confide.attacks.membership.seen import Seen
from confide.attacks.token_stats import TokenStats

GAMMA = 1.0
"""How many times a population record's gain must be exceeded. Per-token ratios lie near 1, where the source's 2 would
give almost every record 0."""


def rmia_scores(seen: Seen, positions: Positions) -> Scores:
    """Gives `rmia` with the attacker's shadow models as references, for each record those trained without it."""
    if seen.shadows is None:
        raise ValueError("the shadow models are missing")
    return rmia(
        target=mean_log_probs(seen.final, positions),
        references=np.where(seen.shadows.trained_on, np.nan, _levels(seen.shadows.stats, positions)),
        population_target=mean_log_probs(seen.population_final, positions),
        population_references=_levels(seen.shadows.population, positions),
    )


def rmia(
    *,
    target: Scores,
    references: Scores,
    population_target: Scores,
    population_references: Scores,
    offline_a: float = 1.0,
    gamma: float = GAMMA,
) -> Scores:
    """Gives, for every record x, the share of population records z with [p_T(x)/p(x)] / [p_T(z)/p(z)] >= gamma.

    p(x) = ((1 + a) p_out(x) + 1 - a) / 2 with p_out the mean over references that were not trained on x. For a given
    target the score only rises with p_T(x)/p(x): the population makes it comparable between models and readable (1 -
    score is a false-positive rate) and changes the order only by ties. Records that exceed the whole population tie at
    1, so a false-positive rate below 1 / num_population cannot be resolved.

    Args:
        target: mean log-probabilities of the records under the attacked model, shape (num_records,).
        references: the same under every reference, shape (num_references, num_records); NaN where a reference was
            trained on the record and must not count. At least one per record counts; 1 to 16 is usual.
        population_target: of records that nobody trained on, under the attacked model, shape (num_population,).
        population_references: the same under the references, shape (num_references, num_population).
        offline_a: a in [0, 1], how little references trained with a record would differ from those without (p_in = a
            p_out + 1 - a). 1 takes p_out as it is. The source tunes it per data set by attacking a reference.
        gamma: > 0.

    Returns:
        Shape (num_records,), multiples of 1 / num_population in [0, 1].

    Raises:
        ValueError: a record has no reference, there is no population, or a number is out of its range.

    Source: Zarifzadeh et al. 2024, "Low-Cost High-Power Membership Inference Attacks", equations 2 to 4 and the offline
        form.
    """
    if not 0 <= offline_a <= 1 or gamma <= 0:
        raise ValueError(f"offline_a is {offline_a} and gamma {gamma}, expected 0 <= offline_a <= 1 and gamma > 0")
    if population_target.size == 0:
        raise ValueError("there is no population record to compare with")
    ratios = _ratios(target, references, offline_a)
    population = np.sort(_ratios(population_target, population_references, offline_a) * gamma)
    num_exceeded = np.searchsorted(population, ratios, side="right")
    return num_exceeded.astype(np.float64) / population.size


def _ratios(target: Scores, references: Scores, offline_a: float) -> Scores:
    """p_T / p, shape (num_records,)."""
    counts = ~np.isnan(references)
    if not counts.any(axis=0).all():
        raise ValueError("a record has no reference model that was not trained on it")
    p_out = np.where(counts, np.exp(references), 0.0).sum(axis=0) / counts.sum(axis=0)
    # Bracketed so that a = 1 gives p_out to the bit: equal models must tie.
    ratios: Scores = np.exp(target) / (((1 + offline_a) * p_out + (1 - offline_a)) / 2)
    return ratios


def _levels(models: Sequence[Sequence[TokenStats]], positions: Positions) -> Scores:
    return np.stack([mean_log_probs(records, positions) for records in models])
