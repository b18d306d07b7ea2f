"""Exposure of planted secrets from one party's view: how far above all other secrets of its form each one stands.

The literature ranks among all possible secrets, up to a million, or fits a distribution to ten thousand. Here it is
`audit.alternatives` of them, 64 by default, as each is a model pass over a whole record for every secret and model: so
ranks show at most log2(alternatives + 1) bits, and what lies above them is left to a fit to so few.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from confide.attacks.candidates import Candidate
from confide.attacks.extraction.exposure import (
    MIN_PER_SECRET,
    MIN_SAMPLES,
    NULL_MEAN_BITS,
    exposure,
    exposures_by_samples,
)
from confide.attacks.extraction.probabilistic import log_probability
from confide.attacks.passes import Passes
from confide.attacks.token_stats import TokenStats
from confide.attacks.view import View
from confide.audit.judging import Findings, Found, Subject
from confide.audit.rates import bounded_mean_interval, mean
from confide.audit.results import Curve, Point
from confide.audit.statistics import Floats
from confide.audit.truth import Population, Truth, too_few
from confide.update import Vector

ATTACK = "rank"
FITTED = "fit"
METRIC = "exposure"
_FEWEST = 2


def audit_exposure(view: View, passes: Passes, population: Population, truth: Truth, *, final_round: int) -> Findings:
    """Ranks every planted secret among others of its form, and goes beyond their number by a fitted distribution.

    Args:
        view: of the attacker.
        passes: runs the models.
        population: with `alternatives`; candidates without are left alone, and so are the attacker's own.
        truth: the answers.
        final_round: whose model is under attack.

    Returns:
        The mean exposure in bits, of secrets that went in, of those that did not, and under the base model. By rank, it
        shows no more bits than so many alternatives allow. Where there are known to be more possible secrets, and there
        are enough alternatives (`MIN_PER_SECRET`, `MIN_SAMPLES`), also by a distribution fitted to these. By rank also
        how it grows with the number of training records that carry a secret. With fewer than two secrets that went in
        or two that did not, a warning and nothing else.
    """
    asked = population.of_others(view.own_clients)
    ranked = [candidate for candidate in asked.candidates if _comparable(candidate, asked)]
    labels = truth.labels(ranked)
    if few := too_few(asked.name, labels, _FEWEST):
        return Findings.too_few(view.name, "exposure", asked.name, few)
    final, base = (
        _log_probabilities(passes, adapter, ranked, asked) for adapter in (view.adapters[final_round](), None)
    )
    subject = Subject(
        view=view.name,
        family="exposure",
        attack=ATTACK,
        code="E10",
        population=asked.name,
        labels=labels,
        records=tuple(candidate.candidate_id for candidate in ranked),
    )
    by_rank = _by_rank(final)
    findings = Findings(found=[_found_by_rank(subject, by_rank, base)])
    sizes = [one.size - 1 for one in final]
    if asked.num_possible > max(sizes) + 1 and min(sizes) >= MIN_PER_SECRET and sum(sizes) >= MIN_SAMPLES:
        findings.found.append(_found_by_fit(subject, final, base, asked.num_possible))
    copies = np.array([truth.copies.get(candidate.candidate_id, 1) for candidate in ranked])
    findings.curves.extend(_over_copies(subject, by_rank, copies, _most_bits(final)))
    return findings


def _found_by_rank(subject: Subject, bits: Floats, base: Sequence[Floats]) -> Found:
    fewest, most = min(one.size - 1 for one in base), _most_bits(base)
    note = (
        f"Bits; with {fewest} alternatives of equal length at most {np.log2(fewest + 1):.2f} can be shown. A secret "
        f"that was never planted has {NULL_MEAN_BITS:.2f} on average, or less among few others."
    )
    return mean(replace(subject, note=note), METRIC, bits, _by_rank(base), most=most)


def _found_by_fit(subject: Subject, final: Sequence[Floats], base: Sequence[Floats], num_possible: int) -> Found:
    most = math.log2(num_possible)
    note = (
        f"Bits, at most {most:.2f}, as there are {num_possible:,} secrets of this form: estimated by a skew-normal "
        f"distribution fitted to the losses of all {sum(one.size - 1 for one in final):,} alternatives. Beyond the "
        "ranked ones' bits it holds as far as that shape does."
    )
    return mean(
        replace(subject, attack=FITTED, note=note),
        METRIC,
        _by_fit(final, num_possible),
        _by_fit(base, num_possible),
        most=most,
    )


def _over_copies(subject: Subject, bits: Floats, copies: npt.NDArray[np.int64], most: float) -> list[Curve]:
    """Exposure by the number of copies, where there are several numbers with two secrets or more."""
    chosen = {number: subject.labels & (copies == number) for number in sorted(set(copies[subject.labels].tolist()))}
    intervals = {
        number: bounded_mean_interval(bits[which], most=most) for number, which in chosen.items() if which.sum() > 1
    }
    if len(intervals) < 2:
        return []
    return [
        Curve(
            view=subject.view,
            family=subject.family,
            attack=subject.attack,
            population=subject.population,
            metric=METRIC,
            name="copies",
            series="members",
            points=[
                Point(x=number, y=one.value, low=one.low, high=one.high, num=one.num)
                for number, one in intervals.items()
            ],
        )
    ]


def _most_bits(values: Sequence[Floats]) -> float:
    return math.log2(max(one.size for one in values))


def _by_rank(values: Sequence[Floats]) -> Floats:
    return np.array([exposure(float(one[0]), one) for one in values])


def _by_fit(values: Sequence[Floats], num_possible: int) -> Floats:
    return exposures_by_samples(
        np.array([one[0] for one in values]), [one[1:] for one in values], num_candidates=num_possible
    )


def _log_probabilities(
    passes: Passes, adapter: Vector | None, ranked: Sequence[Candidate], asked: Population
) -> list[Floats]:
    """Of each secret and behind it those of its alternatives, in nats."""
    groups = [[candidate, *_comparable(candidate, asked)] for candidate in ranked]
    stats = iter(passes.stats(adapter, [one.example for group in groups for one in group]))
    return [np.array([_of_secret(one, next(stats)) for one in group]) for group in groups]


def _of_secret(candidate: Candidate, stats: TokenStats) -> float:
    start, stop = candidate.secret_start, candidate.secret_stop
    if start is None or stop is None:
        raise ValueError(f"candidate {candidate.candidate_id} has no secret to rank")
    return log_probability(stats, start, stop)


def _comparable(candidate: Candidate, asked: Population) -> list[Candidate]:
    """The alternatives whose secret has as many tokens: a longer one is less likely for its length alone."""
    others = asked.alternatives.get(candidate.candidate_id, ())
    return [other for other in others if _secret_tokens(other) == _secret_tokens(candidate) > 0]


def _secret_tokens(candidate: Candidate) -> int:
    if candidate.secret_start is None or candidate.secret_stop is None:
        return -1
    return candidate.secret_stop - candidate.secret_start
