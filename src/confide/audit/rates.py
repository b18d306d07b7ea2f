"""Findings from what happened to each record: shares and means, beside held-out records and the base model."""

from dataclasses import replace
from functools import partial

import numpy as np

from confide.audit.judging import Found, Subject
from confide.audit.samples import MeanSample, ShareSample
from confide.audit.statistics import (
    Difference,
    Flags,
    Floats,
    Interval,
    MeanControls,
    clopper_pearson,
    mean_difference,
    mean_interval,
    paired_mean_difference,
    paired_proportion_difference,
    paired_share_mean_difference,
    proportion_difference,
    rank_p_value,
    share_mean_difference,
    unit_mean_interval,
)


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
    return subject.found(
        metric,
        share_of(members),
        controls,
        differences,
        sample=ShareSample(
            num_members=members.size,
            num_others=others.size,
            num_others_out=int(others.sum()),
            num_base_out=None if to_base is None else int(to_base[labels].sum()),
        ),
        outcomes=subject.outcomes("flag", happened, to_base),
    )


def mean(
    subject: Subject,
    metric: str,
    values: Floats,
    of_base: Floats | None,
    *,
    most: float | None,
    most_of_each: Floats | None = None,
) -> Found:
    """The mean of a number over members, such as ROUGE-L or bits of exposure.

    Args:
        subject: what it is about, with at least two members and two others.
        metric: its name.
        values: under the model, one per candidate, finite.
        of_base: the same under the base model; None where that cannot be.
        most: what no value is above, where none is below 0 either: 1 for shares; None where there is no such bound.
        most_of_each: what each record can show at most, one per candidate; None where that is `most` for all.

    Raises:
        ValueError: neither `most` nor `most_of_each` is given.

    Guarantees:
        - A p-value is the larger of a test on means (Welch's, Student's) and one on ranks (Mann and Whitney's,
          Wilcoxon's, exact for few records). Few records that happen to be equal have no spread, and to the first alone
          any difference between them would be certain.
        - Bounded values get intervals that are long near none and all, also for a few that are equal; and the
          difference one that is put together from those of the two means: two probabilities of one in a million and one
          in a billion do not differ.
    """
    if most_of_each is None:
        if most is None:
            raise ValueError(f"{metric} has no bound: expected most_of_each, what each record can show at most")
        most_of_each = np.full(values.size, most)
    labels = subject.labels
    interval = mean_interval if most is None else partial(bounded_mean_interval, most=most)
    members, others = values[labels], values[~labels]
    controls = {"held_out": interval(others)}
    welch = mean_difference(members, others, alternative="greater")
    differences = {
        "held_out": Difference(
            interval=welch.interval
            if most is None
            else scaled(share_mean_difference(members / most, others / most), most),
            p_value=max(welch.p_value, rank_p_value(members, others)),
        )
    }
    if of_base is not None:
        before = of_base[labels]
        controls["base"] = interval(before)
        paired = paired_mean_difference(members, before, alternative="greater")
        both = (
            paired.difference.interval
            if most is None
            else scaled(paired_share_mean_difference(members / most, before / most), most)
        )
        differences["base"] = Difference(interval=both, p_value=max(paired.difference.p_value, paired.wilcoxon_p_value))
    return subject.found(
        metric,
        interval(members),
        controls,
        differences,
        sample=MeanSample(
            num_members=members.size,
            num_others=others.size,
            controls=MeanControls(
                others=tuple(others.tolist()),
                most=tuple(most_of_each[labels].tolist()),
                base=None if of_base is None else tuple(of_base[labels].tolist()),
                bound=most,
            ),
        ),
        outcomes=subject.outcomes("share" if most == 1 else "number", values, of_base),
    )


def bounded_mean_interval(values: Floats, *, most: float) -> Interval:
    """The mean of values from 0 to `most`, > 0, with an interval in there: never of no width, see `unit_mean_interval`.

    Args:
        values: at least one, shape (num_values,).
        most: the bound.
    """
    return scaled(unit_mean_interval(values / most), most)


def scaled(interval: Interval, factor: float) -> Interval:
    """The same in another unit; factor > 0."""
    return replace(interval, value=interval.value * factor, low=interval.low * factor, high=interval.high * factor)


def share_of(flags: Flags) -> Interval:
    """The share that is true, with its exact interval."""
    return clopper_pearson(int(flags.sum()), flags.size)
