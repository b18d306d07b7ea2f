"""Exposure of planted secrets from one party's view: how far above all other secrets of its form each one stands.

Among all of them where there are few enough, as in the literature: their beginnings are read once, and no bits lie
beyond the ranks. Where there are more, among `audit.alternatives` of them, each a model pass over a whole record: so
ranks show at most log2(alternatives + 1) bits, and what lies above them is left to a fit to so few.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

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
from confide.audit.results import Curve, Point, Ranks
from confide.audit.statistics import Floats
from confide.audit.truth import Population, Truth, too_few
from confide.update import Vector

ATTACK = "rank"
FITTED = "fit"
METRIC = "exposure"
_FEWEST = 2


def audit_exposure(view: View, passes: Passes, population: Population, truth: Truth, *, final_round: int) -> Findings:
    """Ranks every planted secret among others of its form; among some of them, goes beyond their number by a fit.

    Args:
        view: of the attacker.
        passes: runs the models.
        population: with `alternatives` or `every_secret`; candidates without are left alone, and so are the attacker's
            own.
        truth: the answers.
        final_round: whose model is under attack.

    Returns:
        The mean exposure in bits, of secrets that went in, of those that did not, and under the base model. By rank, it
        shows no more bits than so many others allow. Where there are known to be more possible secrets, and there are
        enough alternatives (`MIN_PER_SECRET`, `MIN_SAMPLES`), also by a distribution fitted to these; never where all
        were asked for. By rank also how it grows with the number of training records that carry a secret. With fewer
        than two secrets that went in or two that did not, a warning and nothing else.
    """
    asked = population.of_others(view.own_clients)
    adapter = view.adapters[final_round]()
    ranked = _among_all(passes, adapter, asked) if asked.every_secret else _among_some(passes, adapter, asked)
    labels = truth.labels([one.candidate for one in ranked])
    if few := too_few(asked.name, labels, _FEWEST):
        return Findings.too_few(view.name, "exposure", asked.name, few)
    subject = Subject(
        view=view.name,
        family="exposure",
        attack=ATTACK,
        code="E10",
        population=asked.name,
        labels=labels,
        records=tuple(one.candidate.candidate_id for one in ranked),
    )
    final, base = [one.final for one in ranked], [one.base for one in ranked]
    by_rank = _by_rank(final)
    findings = Findings(found=[_found_by_rank(subject, by_rank, base, asked)])
    sizes = [one.size - 1 for one in final]
    is_part = not asked.every_secret and asked.num_possible > max(sizes) + 1
    if is_part and min(sizes) >= MIN_PER_SECRET and sum(sizes) >= MIN_SAMPLES:
        findings.found.append(_found_by_fit(subject, final, base, asked.num_possible))
    copies = np.array([truth.copies.get(one.candidate.candidate_id, 1) for one in ranked])
    findings.curves.extend(_over_copies(subject, by_rank, copies, _most_bits(final)))
    return findings


@dataclass(frozen=True, kw_only=True)
class _Ranked:
    """A secret with those that it is ranked among.

    Attributes:
        final: log-probabilities in nats under the model that is attacked, shape (num_secrets,); its own comes first.
        base: the same under the base model.
    """

    candidate: Candidate
    final: Floats
    base: Floats


def _among_all(passes: Passes, adapter: Vector, asked: Population) -> list[_Ranked]:
    """Secrets among all that they could be, and that can be compared with them."""
    ranked = []
    for candidate in asked.candidates:
        make = asked.every_secret.get(candidate.candidate_id)
        possible = None if make is None else make()
        if possible is not None and len(possible.secrets) > 1:
            final, base = (passes.secrets(one, possible) for one in (adapter, None))
            ranked.append(_Ranked(candidate=candidate, final=final, base=base))
    return ranked


def _among_some(passes: Passes, adapter: Vector, asked: Population) -> list[_Ranked]:
    """Secrets among their alternatives."""
    groups = [[candidate, *others] for candidate in asked.candidates if (others := _comparable(candidate, asked))]
    final, base = (_log_probabilities(passes, one, groups) for one in (adapter, None))
    return [
        _Ranked(candidate=group[0], final=one, base=other)
        for group, one, other in zip(groups, final, base, strict=True)
    ]


def _found_by_rank(subject: Subject, bits: Floats, base: Sequence[Floats], asked: Population) -> Found:
    ranks = Ranks(fewest=min(one.size for one in base), most=max(one.size for one in base))
    if asked.every_secret:
        among = f"by its rank of all {asked.num_possible:,} secrets of its form,"
        if ranks.fewest < asked.num_possible:
            among = (
                f"by its rank of those {_span(ranks.fewest, ranks.most)} of all {asked.num_possible:,} secrets of its "
                "form that are as many tokens and leave those around them as they are,"
            )
    else:
        among = f"with {_span(ranks.fewest - 1, ranks.most - 1)} alternatives of equal length"
    note = (
        f"Bits; {among} {_can_be_shown(ranks)}. A secret that was never planted has {NULL_MEAN_BITS:.2f} on average, "
        "or less among few others."
    )
    of_each = np.log2([one.size for one in base])
    subject = replace(subject, note=note)
    return _within(ranks, mean(subject, METRIC, bits, _by_rank(base), most=_most_bits(base), most_of_each=of_each))


def _span(fewest: int, most: int) -> str:
    return f"{fewest:,}" if fewest == most else f"{fewest:,} to {most:,}"


def _can_be_shown(ranks: Ranks) -> str:
    """The bound on every value; of secrets that stand among different numbers each has its own."""
    low, high = math.log2(ranks.fewest), math.log2(ranks.most)
    if ranks.fewest == ranks.most:
        return f"at most {high:.2f} can be shown"
    return f"at most between {low:.2f} and {high:.2f} bits can be shown, by the secret"


def _within(ranks: Ranks, found: Found) -> Found:
    """The same with its ranks kept: among more, exposure goes further, and must not be compared."""
    return replace(found, outcomes=None if found.outcomes is None else replace(found.outcomes, ranks=ranks))


def _found_by_fit(subject: Subject, final: Sequence[Floats], base: Sequence[Floats], num_possible: int) -> Found:
    most = math.log2(num_possible)
    note = (
        f"Bits, at most {most:.2f}, as there are {num_possible:,} secrets of this form: estimated by a skew-normal "
        f"distribution fitted to the losses of all {sum(one.size - 1 for one in final):,} alternatives. Beyond the "
        "ranked ones' bits it holds as far as that shape does."
    )
    found = mean(
        replace(subject, attack=FITTED, note=note),
        METRIC,
        _by_fit(final, num_possible),
        _by_fit(base, num_possible),
        most=most,
    )
    return _within(Ranks(fewest=num_possible, most=num_possible), found)


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


def _log_probabilities(passes: Passes, adapter: Vector | None, groups: Sequence[Sequence[Candidate]]) -> list[Floats]:
    """Of the secrets of each group, in nats."""
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
