"""Findings from rankings: how well scores tell members from others, beside chance and what the texts alone tell.

The texts' part is measured by blind baselines, which see no model. An attack's number counts only as far as its
interval does not even overlap theirs.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from confide.attacks.blind import (
    MIN_PER_LABEL,
    STANDARD_ERROR_FACTOR,
    Scores,
    blind_scores,
    blind_scores_within_owners,
    standardise_within,
)
from confide.attacks.candidates import Candidate
from confide.audit.area_samples import NEEDS_BLIND, AreaSample, LowEndSample
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
    tpr_at_fpr,
    tpr_p_value,
)
from confide.audit.truth import Population, Truth

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
        part: the half of the candidates to measure on, shape (num_candidates,); None for all.
    """
    is_half = part is not None
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
        sample=AreaSample(
            num_members=measured.num_members,
            num_others=measured.num_non_members,
            blind=controls.get("blind"),
            is_half=is_half,
        ),
        lacking="" if blind is not None else NEEDS_BLIND,
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
        The p-value of "as many members as others are above the threshold" is `tpr_p_value`'s.
    """
    labels = subject.labels
    measured = tpr_at_fpr(scores[labels], scores[~labels], max_fpr=max_fpr)
    flagged = scores > measured.threshold
    num_members, num_others = int(labels.sum()), int((~labels).sum())
    p_value = tpr_p_value(int(flagged[labels].sum()), num_members, num_others, max_fpr=max_fpr)
    controls = {"false positives": measured.fpr}
    differences = {"false positives": Difference(interval=_apart(measured.tpr, measured.fpr), p_value=p_value)}
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
        sample=LowEndSample(
            num_members=num_members, num_others=num_others, max_fpr=max_fpr, blind=controls.get("blind")
        ),
        lacking="" if blind is not None else NEEDS_BLIND,
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
