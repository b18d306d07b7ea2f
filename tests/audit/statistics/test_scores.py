"""What every function that takes scores refuses, and how it says so."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from confide.audit import statistics
from confide.audit.statistics import (
    auc,
    auc_interval,
    auc_value,
    choose_attack,
    mean_difference,
    mean_interval,
    paired_auc_difference,
    paired_bootstrap,
    paired_mean_difference,
    rank_p_value,
    roc_curve,
    tpr_at_fpr,
    tpr_value,
    unit_mean_interval,
)
from confide.audit.statistics.scores import checked_flags, checked_labels, checked_owners, checked_vector
from confide.errors import DataError, RunError

Scores = npt.NDArray[np.float64]
LABELS = np.array([True, True, True, False, False, False])
OWNERS = ["a", "b", "a", "b", "a", "b"]
GOOD = np.array([0.5, 0.25, 0.75, 0.125, 0.0, 1.0])

TAKERS: dict[str, Callable[[Scores], object]] = {
    "auc": lambda scores: auc(scores, GOOD),
    "auc, others": lambda scores: auc(GOOD, scores),
    "auc_interval": lambda scores: auc_interval(GOOD, scores),
    "auc_value": lambda scores: auc_value(scores, GOOD),
    "rank_p_value": lambda scores: rank_p_value(GOOD, scores),
    "tpr_value": lambda scores: tpr_value(GOOD, scores, max_fpr=0.1),
    "tpr_at_fpr": lambda scores: tpr_at_fpr(GOOD, scores, max_fpr=0.1),
    "roc_curve": lambda scores: roc_curve(scores, GOOD),
    "paired_auc_difference": lambda scores: paired_auc_difference(scores, GOOD, LABELS),
    "paired_auc_difference, second": lambda scores: paired_auc_difference(GOOD, scores, LABELS),
    "paired_bootstrap": lambda scores: paired_bootstrap(GOOD, scores, LABELS, seed=0),
    "mean_interval": lambda scores: mean_interval(scores),
    "unit_mean_interval": lambda scores: unit_mean_interval(scores),
    "mean_difference": lambda scores: mean_difference(GOOD, scores),
    "paired_mean_difference": lambda scores: paired_mean_difference(scores, GOOD),
    "choose_attack": lambda scores: choose_attack({"good": GOOD, "bad": scores}, LABELS, OWNERS, seed=0),
}


@pytest.mark.parametrize("taker", TAKERS)
def test_scores_that_are_no_numbers_stop_everything_and_are_counted(taker: str) -> None:
    scores = np.array([0.5, np.nan, 0.75, np.inf, -np.inf, np.nan])
    with pytest.raises(RunError, match=r"4 of 6 values are no numbers \(2 NaN, 2 infinite\)"):
        TAKERS[taker](scores)


@pytest.mark.parametrize("taker", TAKERS)
def test_no_scores_at_all_are_refused(taker: str) -> None:
    with pytest.raises((DataError, ValueError), match=r"there are none, expected|expected the same records"):
        TAKERS[taker](np.array([]))


@pytest.mark.parametrize("taker", TAKERS)
def test_scores_in_two_dimensions_are_refused(taker: str) -> None:
    with pytest.raises(ValueError, match=r"has shape \(6, 1\), expected one dimension"):
        TAKERS[taker](GOOD[:, None])


@pytest.mark.parametrize("taker", [name for name in TAKERS if "paired" in name])
def test_paired_scores_of_different_records_are_refused(taker: str) -> None:
    with pytest.raises(ValueError, match="expected the same records"):
        TAKERS[taker](GOOD[:5])


def test_a_message_names_the_attack_whose_scores_are_bad() -> None:
    with pytest.raises(RunError, match="scores of bad: 1 of 6"):
        TAKERS["choose_attack"](np.array([0, 0, 0, 0, 0, np.nan]))


def test_single_precision_scores_keep_their_values() -> None:
    scores = np.array([0.1, 0.2], np.float32)
    np.testing.assert_array_equal(checked_vector(scores, name="scores"), scores.astype(np.float64))


@pytest.mark.parametrize("values", [["0.5", "1"], [0.5j, 1], [None, 1]])
def test_what_is_not_real_is_refused(values: npt.ArrayLike) -> None:
    with pytest.raises(ValueError, match="expected real numbers"):
        checked_vector(values, name="scores")


def test_truth_on_one_side_only_is_refused() -> None:
    with pytest.raises(DataError, match="there are no members"):
        checked_labels(np.zeros(4, np.bool_), 4)
    with pytest.raises(DataError, match="there are no non-members"):
        checked_labels(np.ones(4, np.bool_), 4)


def test_truth_of_other_records_is_refused() -> None:
    with pytest.raises(ValueError, match=r"is_member has shape \(6,\), expected \(5,\)"):
        checked_labels(LABELS, 5)
    with pytest.raises(ValueError, match="owners has 6 names, expected 5"):
        checked_owners(OWNERS, 5)


def test_flags_are_true_and_false_only() -> None:
    np.testing.assert_array_equal(checked_flags([0, 1, 1], name="hits"), [False, True, True])
    with pytest.raises(ValueError, match="hits holds other values than true and false"):
        checked_flags([0.0, 0.5], name="hits")
    with pytest.raises(ValueError, match="hits holds other values"):
        checked_flags([0.0, np.nan], name="hits")


def test_the_package_hands_on_exactly_what_it_lists() -> None:
    handed = {
        name
        for name, value in vars(statistics).items()
        if not name.startswith("_") and not isinstance(value, type(statistics))
    }
    assert handed == set(statistics.__all__)
    assert statistics.__all__ == sorted(statistics.__all__, key=lambda name: (not name.isupper(), name))
