"""M14: the loss over the rounds. Who sees every global model sees a record being learnt in the rounds it took part in.

With LL_t the mean log-probability after round t, a_t = LL_t - LL_{t-1} is what round t gained. Where rounds are missing
the step goes from the last known one.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from confide.attacks.membership.positions import Positions, Scores, mean_log_probs
from confide.attacks.membership.seen import Seen
from confide.attacks.token_stats import TokenStats

MIN_STD = 1e-6
"""Nats per token, about the rounding of a mean of float32 log-probabilities: a round in which the population's gains
vary less than this (such as one that changed nothing) is standardised by this."""


def largest_gain_scores(seen: Seen, positions: Positions) -> Scores:
    """Gives the largest gain of a single round, max_t a_t, in nats per token.

    Source: the observation that later rounds dilute a record's signal, arXiv 2602.16596; the maximum is ours.
    """
    scores: Scores = _gains(seen.rounds, positions).max(axis=0)
    return scores


def summed_gain_scores(seen: Seen, positions: Positions) -> Scores:
    """Gives all gains without the losses, the sum over rounds of max(a_t, 0), in nats per token.

    Source: as `largest_gain_scores`.
    """
    scores: Scores = np.maximum(_gains(seen.rounds, positions), 0).sum(axis=0)
    return scores


def standardised_gain_scores(seen: Seen, positions: Positions) -> Scores:
    """Gives the mean over rounds of (a_t - mean_z a_t) / sd_z a_t, over the population z of records not trained on.

    What a round taught about the kind of text is taken off, and loud rounds do not drown quiet ones. Only rounds that
    the candidates are known in count. sd is the sample standard deviation, at least `MIN_STD`.

    Source: arXiv 2602.16596 for the sequence of models; the standardisation by population records is ours.
    """
    numbers = seen.round_numbers
    population = _gains({number: seen.population_rounds[number] for number in numbers}, positions)
    centre = population.mean(axis=1, keepdims=True)  # (num_steps, 1)
    spread = np.maximum(population.std(axis=1, ddof=1, keepdims=True), MIN_STD)
    scores: Scores = ((_gains(seen.rounds, positions) - centre) / spread).mean(axis=0)
    return scores


def _gains(rounds: Mapping[int, Sequence[TokenStats]], positions: Positions) -> Scores:
    """a_t, shape (num_rounds - 1, num_records)."""
    levels = np.stack([mean_log_probs(rounds[number], positions) for number in sorted(rounds)])
    return np.diff(levels, axis=0)
