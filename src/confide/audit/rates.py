"""Findings from what happened to each record: shares and means, beside held-out records and the base model."""

from dataclasses import replace

from confide.audit.judging import Found, Subject
from confide.audit.statistics import (
    Difference,
    Flags,
    Floats,
    Interval,
    clopper_pearson,
    mean_difference,
    mean_interval,
    paired_mean_difference,
    paired_proportion_difference,
    proportion_difference,
    rank_p_value,
    unit_mean_interval,
)
from confide.audit.statistics.proportions import square_and_add

FEWEST = 10
"""Below so many members or others, "nothing found" says nothing."""


def rate(subject: Subject, metric: str, happened: Flags, to_base: Flags | None) -> Found:
    """The share of members that something happened to, such as coming out word for word.

    Args:
        subject: what it is about, with at least one member and one other.
        metric: its name.
        happened: under the model, to each candidate.
        to_base: the same under the base model with the same prompts; None where that cannot be.
    """
    labels = subject.labels
    members, others = happened[labels], happened[~labels]
    controls = {"held_out": share_of(others)}
    differences = {
        "held_out": proportion_difference(
            int(members.sum()), members.size, int(others.sum()), others.size, alternative="greater"
        )
    }
    if to_base is not None:
        before = to_base[labels]
        controls["base"] = share_of(before)
        differences["base"] = paired_proportion_difference(members, before, alternative="greater")
    return subject.found(metric, share_of(members), controls, differences, shortage=_shortage(labels))


def mean(subject: Subject, metric: str, values: Floats, of_base: Floats | None, *, is_share: bool) -> Found:
    """The mean of a number over members, such as ROUGE-L or bits of exposure.

    Args:
        subject: what it is about, with at least two members and two others.
        metric: its name.
        values: under the model, one per candidate, finite.
        of_base: the same under the base model; None where that cannot be.
        is_share: whether values lie in [0, 1].

    Guarantees:
        - A p-value is the larger of a test on means (Welch's, Student's) and one on ranks (Mann and Whitney's,
          Wilcoxon's, exact for few records). Few records that happen to be equal have no spread, and to the first alone
          any difference between them would be certain.
        - Shares get an interval that is put together from those of the two means, which are long near none and all: two
          probabilities of one in a million and one in a billion do not differ.
    """
    labels = subject.labels
    interval = unit_mean_interval if is_share else mean_interval
    members, others = values[labels], values[~labels]
    controls = {"held_out": interval(others)}
    welch = mean_difference(members, others, alternative="greater")
    differences = {
        "held_out": Difference(
            interval=_share_difference(members, others, correlation=0.0) if is_share else welch.interval,
            p_value=max(welch.p_value, rank_p_value(members, others)),
        )
    }
    if of_base is not None:
        before = of_base[labels]
        controls["base"] = interval(before)
        paired = paired_mean_difference(members, before, alternative="greater")
        both = (
            replace(_share_difference(members, before, correlation=_correlation(members, before)), num=members.size)
            if is_share
            else paired.difference.interval
        )
        differences["base"] = Difference(interval=both, p_value=max(paired.difference.p_value, paired.wilcoxon_p_value))
    return subject.found(metric, interval(members), controls, differences, shortage=_shortage(labels))


def share_of(flags: Flags) -> Interval:
    """The share that is true, with its exact interval."""
    return clopper_pearson(int(flags.sum()), flags.size)


def _share_difference(first: Floats, second: Floats, *, correlation: float) -> Interval:
    return square_and_add(unit_mean_interval(first), unit_mean_interval(second), correlation=correlation, bound=1.0)


def _correlation(first: Floats, second: Floats) -> float:
    """Of two paired values; 0 where one of them does not vary."""
    spread = float(first.std() * second.std())  # 0 also where tiny probabilities underflow
    if spread == 0:
        return 0.0
    product = float(((first - first.mean()) * (second - second.mean())).mean())
    return min(1.0, max(-1.0, product / spread))


def _shortage(labels: Flags) -> str:
    num_members, num_others = int(labels.sum()), int((~labels).sum())
    if min(num_members, num_others) >= FEWEST:
        return ""
    return f"{num_members} members and {num_others} others; at least {FEWEST} of each are needed."
