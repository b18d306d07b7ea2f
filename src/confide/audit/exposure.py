"""Exposure of planted secrets from one party's view: how far above all other secrets of its form each one stands."""

from collections.abc import Sequence

import numpy as np

from confide.attacks.candidates import Candidate
from confide.attacks.extraction.exposure import NULL_MEAN_BITS, exposure
from confide.attacks.extraction.probabilistic import log_probability
from confide.attacks.passes import Passes
from confide.attacks.token_stats import TokenStats
from confide.attacks.view import View
from confide.audit.judging import Findings, Subject
from confide.audit.rates import mean
from confide.audit.results import Curve, Point
from confide.audit.statistics import Floats, mean_interval
from confide.audit.truth import Population, Truth, too_few
from confide.update import Vector

ATTACK = "rank"
_FEWEST = 2


def audit_exposure(view: View, passes: Passes, population: Population, truth: Truth, *, final_round: int) -> Findings:
    """Ranks every planted secret among others of its form.

    Args:
        view: of the attacker.
        passes: runs the models.
        population: with `alternatives`; candidates without are left alone, and so are the attacker's own.
        truth: the answers.
        final_round: whose model is under attack.

    Returns:
        The mean exposure in bits, of secrets that went in, of those that did not, and under the base model; and how it
        grows with the number of training records that carry a secret. With fewer than two secrets that went in or two
        that did not, a warning and nothing else.
    """
    asked = population.of_others(view.own_clients)
    ranked = [candidate for candidate in asked.candidates if _comparable(candidate, asked)]
    labels = truth.labels(ranked)
    if few := too_few(asked.name, labels, _FEWEST):
        return Findings(warnings=[f"Exposure, {few}"])
    final = _exposures(passes, view.adapters[final_round](), ranked, asked)
    base = _exposures(passes, None, ranked, asked)
    fewest = min(len(_comparable(candidate, asked)) for candidate in ranked)
    subject = Subject(
        view=view.name,
        family="exposure",
        attack=ATTACK,
        code="E10",
        population=asked.name,
        labels=labels,
        note=(
            f"Bits, at most {np.log2(fewest + 1):.1f}: ranked among {fewest} or more others of equal length. A secret "
            f"that was never planted has {NULL_MEAN_BITS:.2f} on average, or less among few others."
        ),
    )
    findings = Findings(found=[mean(subject, "exposure", final, base, is_share=False)])
    copies = np.array([truth.copies.get(candidate.candidate_id, 1) for candidate in ranked])
    numbers = [number for number in sorted(set(copies[labels].tolist())) if (labels & (copies == number)).sum() > 1]
    if len(numbers) > 1:
        points = []
        for number in numbers:
            interval = mean_interval(final[labels & (copies == number)])
            points.append(Point(x=number, y=interval.value, low=interval.low, high=interval.high))
        findings.curves.append(
            Curve(
                view=view.name,
                family="exposure",
                attack=ATTACK,
                population=asked.name,
                metric="exposure",
                name="copies",
                series="members",
                points=points,
            )
        )
    return findings


def _exposures(passes: Passes, adapter: Vector | None, ranked: Sequence[Candidate], asked: Population) -> Floats:
    groups = [[candidate, *_comparable(candidate, asked)] for candidate in ranked]
    every = [one for group in groups for one in group]
    stats = iter(passes.stats(adapter, [one.example for one in every]))
    found = []
    for group in groups:
        values = np.array([_of_secret(one, next(stats)) for one in group])
        found.append(exposure(float(values[0]), values))
    return np.array(found)


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
