"""Findings from rankings: how well scores tell members from others, beside chance and what the texts alone tell.

The texts' part is measured by blind baselines, which see no model. An attack's number counts only as far as its
interval does not even overlap theirs.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from scipy.special import ndtri
from scipy.stats import hypergeom

from confide.attacks.blind import (
    MIN_PER_LABEL,
    STANDARD_ERROR_FACTOR,
    Scores,
    blind_scores,
    blind_scores_within_owners,
    standardise_within,
)
from confide.attacks.candidates import Candidate
from confide.audit.judging import Found, Subject
from confide.audit.results import Curve, Point
from confide.audit.statistics import (
    Difference,
    Flags,
    Interval,
    auc,
    auc_value,
    paired_auc_difference,
    paired_proportion_difference,
    roc_curve,
    shortage,
    tpr_at_fpr,
)
from confide.audit.statistics.interval import NORMAL_QUANTILE
from confide.audit.statistics.sample_size import POWER, hanley_mcneil_variance
from confide.audit.truth import Population, Truth

WORTH_FINDING = 0.75
"""An audit that could not find an AUC of this size says so instead of "no evidence"."""
NEEDS_BLIND = f"The blind baseline needs {MIN_PER_LABEL} members and as many others; without it nothing is a leak."
_CHANCE = 0.5
_KEPT_POPULATIONS = 16


def blind_control(population: Population, asked: Sequence[Candidate], truth: Truth, *, seed: int) -> Scores | None:
    """Gives the scores of the blind baseline that tells most about these candidates; None with too few records.

    Args:
        population: all candidates; the classifiers learn from all of them. An attacker who is one of the clients knows
            its own.
        asked: the candidates in question.
        truth: the answers.
        seed: of the run.

    Returns:
        Shape (num_asked,). The best of three, so rather too good: what is compared with it has to be better still.
        Without coins they are judged within each owner, see `comparable`.
    """
    labels = truth.labels(population.candidates)
    if min(np.count_nonzero(labels), np.count_nonzero(~labels)) < MIN_PER_LABEL:
        return None
    about = truth.labels(asked)
    if not about.any() or about.all():
        return None
    found = _blind(
        tuple(candidate.text for candidate in population.candidates),
        tuple(labels.tolist()),
        None if truth.is_randomised else tuple(candidate.owner for candidate in population.candidates),
        seed,
    )
    places = {candidate.candidate_id: place for place, candidate in enumerate(population.candidates)}
    chosen = [places[candidate.candidate_id] for candidate in asked]
    return max((scores[chosen] for scores in found), key=lambda scores: auc_value(scores[about], scores[~about]))


def comparable(scores: Scores, owners: Sequence[str], *, is_randomised: bool) -> Scores:
    """Gives scores as they are compared between records: as they are, or within each owner where no coins decided.

    With fair coins every owner has about as many members as others. Without, "member" partly means "record of client
    k", and a score that tells clients apart would pass for one that tells members.
    """
    return scores if is_randomised else standardise_within(scores, owners)


def area(subject: Subject, scores: Scores, blind: Scores | None, *, part: Flags | None = None) -> Found:
    """The AUC of scores, beside chance and the blind baseline's.

    Args:
        subject: what it is about.
        scores: shape (num_candidates,), finite, higher = member.
        blind: of the same candidates; None where there are too few for it: then nothing is called a leak.
        part: which candidates to measure on, shape (num_candidates,); None for all.
    """
    part = np.ones(subject.labels.size, np.bool_) if part is None else part
    outcomes = subject.outcomes("rank", scores, part=part)
    labels, scores = subject.labels[part], scores[part]
    measured = auc(scores[labels], scores[~labels])
    chance = Interval(value=_CHANCE, low=_CHANCE, high=_CHANCE, num=labels.size)
    controls = {"chance": chance}
    differences = {"chance": Difference(interval=_apart(measured.interval, chance), p_value=measured.p_value)}
    if blind is not None:
        blind = blind[part]
        control = auc(blind[labels], blind[~labels], standard_error_factor=STANDARD_ERROR_FACTOR).interval
        paired = paired_auc_difference(scores, blind, labels)
        controls["blind"] = control
        differences["blind"] = Difference(
            interval=_apart(measured.interval, control),
            p_value=paired.p_value / 2 if paired.interval.value > 0 else 1 - paired.p_value / 2,
        )
    return subject.found(
        "auc",
        measured.interval,
        controls,
        differences,
        shortage=_shortage(measured.num_members, measured.num_non_members, controls.get("blind")),
        barred="" if blind is not None else NEEDS_BLIND,
        outcomes=outcomes,
    )


def low_end(subject: Subject, scores: Scores, blind: Scores | None, *, max_fpr: float) -> Found:
    """The share of members found at a small false-positive rate, beside that rate and what the blind baseline finds.

    Args:
        subject: what it is about.
        scores: shape (num_candidates,), finite, higher = member.
        blind: as for `area`.
        max_fpr: which the others resolve, see `smallest_fpr`.

    Returns:
        The p-value of "as many members as others are above the threshold" is exact: under the null hypothesis the
        highest t + k of all records are any t + k of them, and the test asks how likely at most k others are among
        them. Equal scores only make it larger.
    """
    labels = subject.labels
    measured = tpr_at_fpr(scores[labels], scores[~labels], max_fpr=max_fpr)
    flagged = scores > measured.threshold
    num_found, num_others = int(flagged[labels].sum()), int((~labels).sum())
    num_allowed = int(max_fpr * num_others + 1e-9)
    p_value = float(hypergeom.cdf(num_allowed, labels.size, num_others, num_found + num_allowed))
    controls = {"false positives": measured.fpr}
    differences = {
        "false positives": Difference(
            interval=_apart(measured.tpr, measured.fpr), p_value=min(1.0, max(p_value, 1e-300))
        )
    }
    if blind is not None:
        other = tpr_at_fpr(blind[labels], blind[~labels], max_fpr=max_fpr)
        controls["blind"] = other.tpr
        differences["blind"] = Difference(
            interval=_apart(measured.tpr, other.tpr),
            p_value=paired_proportion_difference(
                flagged[labels], blind[labels] > other.threshold, alternative="greater"
            ).p_value,
        )
    return subject.found(
        f"tpr@{max_fpr:g}",
        measured.tpr,
        controls,
        differences,
        shortage="" if blind is not None else NEEDS_BLIND,
        barred="" if blind is not None else NEEDS_BLIND,
        outcomes=subject.outcomes("flag", flagged),
    )


def roc(subject: Subject, series: str, scores: Scores, *, part: Flags | None = None) -> Curve:
    """The ROC curve of scores; of the part of the candidates that `area` takes."""
    part = np.ones(subject.labels.size, np.bool_) if part is None else part
    labels, scores = subject.labels[part], scores[part]
    return Curve(
        view=subject.view,
        family=subject.family,
        attack=subject.attack,
        population=subject.population,
        metric="tpr",
        name="roc",
        series=series,
        points=[
            Point(x=point.fpr, y=point.tpr, low=point.low, high=point.high)
            for point in roc_curve(scores[labels], scores[~labels])
        ],
    )


@lru_cache(maxsize=_KEPT_POPULATIONS)  # every view and every family asks about the same populations
def _blind(
    texts: tuple[str, ...], labels: tuple[bool, ...], owners: tuple[str, ...] | None, seed: int
) -> tuple[Scores, ...]:
    if owners is None:
        return tuple(blind_scores(texts, labels, seed=seed).values())
    return tuple(blind_scores_within_owners(texts, labels, owners, seed=seed).values())


def _apart(found: Interval, control: Interval) -> Interval:
    """The difference with an interval that lies above zero only if the two intervals do not overlap."""
    return Interval(
        value=found.value - control.value, low=found.low - control.high, high=found.high - control.low, num=found.num
    )


def _shortage(num_members: int, num_others: int, blind: Interval | None) -> str:
    """Why the records are too few; "" if an AUC of `WORTH_FINDING` would be found above chance and the texts' part."""
    few = shortage(num_members, num_others, auc=WORTH_FINDING)
    if blind is None:
        return f"{few} {NEEDS_BLIND}".strip()
    if few or _would_be_found(num_members, num_others, blind.high):
        return few
    if blind.value >= WORTH_FINDING:
        return (
            f"The texts alone tell members with an AUC of {blind.value:.2f}; a model's part cannot be told from that."
        )
    factor = 1.0
    while not _would_be_found(
        int(factor * num_members), int(factor * num_others), blind.value + (blind.high - blind.value) / factor**0.5
    ):
        factor *= 1.1
    return (
        f"The blind baseline's interval reaches {blind.high:.2f}; for an AUC of {WORTH_FINDING:.2f} to lie above it, "
        f"about {factor * num_members:.0f} members and {factor * num_others:.0f} others are needed."
    )


def _would_be_found(num_members: int, num_others: int, bound: float) -> bool:
    """Whether, with the power of `shortage`, the interval of an AUC of `WORTH_FINDING` would lie above a bound."""
    error = hanley_mcneil_variance(WORTH_FINDING, num_members, num_others) ** 0.5
    return bool(WORTH_FINDING - (NORMAL_QUANTILE + float(ndtri(POWER))) * error > bound)
