"""The largest epsilon that so many canaries could ever certify, if every one were told rightly.

An audit whose ceiling is 3.5 and that finds 3.4 has not shown that epsilon is at most 3.5. The canary-client audit has
no ceiling of this kind: its normal fit extrapolates, and finds what its mean is away from chance.
"""

from dataclasses import dataclass

from confide.audit.statistics.epsilon_one_run import Guesses, f_dp_epsilon, one_run_epsilon
from confide.audit.statistics.epsilon_two_sample import (
    Decisions,
    bayesian_epsilon,
    clopper_pearson_epsilon,
    gaussian_mechanism_epsilon,
)
from confide.audit.statistics.multiple import SIGNIFICANCE


@dataclass(frozen=True, kw_only=True)
class Ceilings:
    """The largest epsilon that each kind of bound can give.

    Attributes:
        clopper_pearson: of `clopper_pearson_epsilon`.
        gaussian: of `gaussian_mechanism_epsilon`.
        bayesian: of `bayesian_epsilon`.
        one_run: of `one_run_epsilon`.
        f_dp: of `f_dp_epsilon`.
    """

    clopper_pearson: float
    gaussian: float
    bayesian: float
    one_run: float
    f_dp: float


def two_sample_best(num_members: int, num_non_members: int) -> Decisions:
    """Gives the decisions of a test that is never wrong.

    Raises:
        ValueError: a number is less than 1.
    """
    return Decisions(
        num_true_positives=num_members,
        num_members=num_members,
        num_false_positives=0,
        num_non_members=num_non_members,
    )


def one_run_best(num_canaries: int) -> Guesses:
    """Gives the guesses of an auditor who knows every coin: no other table of so many canaries bounds epsilon higher.

    Raises:
        ValueError: the number is less than 1.
    """
    return Guesses(num_canaries=num_canaries, num_guesses=num_canaries, num_correct=num_canaries)


def ceilings(
    num_members: int, num_non_members: int, *, delta: float, significance: float = SIGNIFICANCE, num_tried: int = 1
) -> Ceilings:
    """Gives the largest epsilon that so many canaries could certify.

    Args:
        num_members: canaries that were in, at least 1.
        num_non_members: canaries that were out, at least 1. The one-run bounds take both groups together.
        delta: above 0 and below 1.
        significance: of the bounds, in (0, 1).
        num_tried: by how many bounds the significance is shared; see `ChosenBound`.

    Raises:
        ValueError: an argument is out of its range.
    """
    if num_tried < 1:
        raise ValueError(f"num_tried is {num_tried}, expected at least 1")
    level = significance / num_tried
    decisions = two_sample_best(num_members, num_non_members)
    guesses = one_run_best(num_members + num_non_members)
    return Ceilings(
        clopper_pearson=clopper_pearson_epsilon(decisions, delta=delta, significance=level),
        gaussian=gaussian_mechanism_epsilon(decisions, delta=delta, significance=level),
        bayesian=bayesian_epsilon(decisions, delta=delta, quantile=level),
        one_run=one_run_epsilon(guesses, delta=delta, significance=level),
        f_dp=f_dp_epsilon(guesses, delta=delta, significance=level),
    )
