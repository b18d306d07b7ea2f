import itertools
import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import hypergeom, mannwhitneyu, rankdata

from confide.audit.statistics import rank_test
from confide.audit.statistics.rank_test import rank_p_value

Scores = npt.NDArray[np.float64]
FEW = st.lists(st.integers(0, 4), min_size=1, max_size=6)


def slow_p_value(members: npt.ArrayLike, non_members: npt.ArrayLike) -> float:
    """The share of all choices of members with a rank sum as large as theirs."""
    first = np.asarray(members, np.float64)
    ranks: list[float] = rankdata(np.concatenate([first, np.asarray(non_members, np.float64)])).tolist()
    observed = sum(ranks[: first.size])
    sums = [sum(choice) for choice in itertools.combinations(ranks, first.size)]
    return sum(total >= observed for total in sums) / len(sums)  # halves add up exactly


@given(FEW, FEW)
def test_small_samples_are_exact_with_ties(members: list[int], non_members: list[int]) -> None:
    # Up to 924 chances, each a product of at most 12 rounded factors.
    assert rank_p_value(members, non_members) == pytest.approx(slow_p_value(members, non_members), abs=1e-12)


@pytest.mark.parametrize(("num", "num_others"), [(3, 40), (40, 3), (20, 25), (50, 50)])
def test_samples_without_ties_equal_scipys_exact_test(num: int, num_others: int) -> None:
    rng = np.random.Generator(np.random.Philox(num))
    members, others = rng.normal(0.4, 1, num), rng.normal(0, 1, num_others)
    expected = mannwhitneyu(members, others, alternative="greater", method="exact").pvalue
    assert rank_p_value(members, others) == pytest.approx(float(expected), rel=1e-9)


def test_large_samples_without_ties_equal_scipys_normal_approximation() -> None:
    rng = np.random.Generator(np.random.Philox(1))
    members, others = rng.normal(0.1, 1, 300), rng.normal(0, 1, 400)
    expected = mannwhitneyu(members, others, alternative="greater", method="asymptotic").pvalue
    assert rank_p_value(members, others) == pytest.approx(float(expected), rel=1e-9)


def test_scores_with_two_values_give_fishers_test() -> None:
    members, others = np.repeat([1.0, 0.0], [5, 95]), np.zeros(100)
    tail = float(hypergeom.sf(4, 200, 5, 100))
    assert rank_p_value(members, others) == pytest.approx(tail, rel=1e-9)
    # What the usual continuity correction of half a unit makes of it: less than half.
    usual = float(mannwhitneyu(members, others, alternative="greater", method="asymptotic").pvalue)
    assert usual < tail / 2


def test_normal_approximation_of_scores_with_two_values_is_not_too_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank_test, "MAX_EXACT_STEPS", 0)
    members, others = np.repeat([1.0, 0.0], [60, 440]), np.repeat([1.0, 0.0], [40, 460])
    exact = float(hypergeom.sf(59, 1000, 100, 500))
    # The normal distribution follows a hypergeometric one of 100 draws to some percent at this distance (2 sd).
    assert rank_p_value(members, others) == pytest.approx(exact, rel=0.03)


def test_exact_and_normal_distribution_agree_where_one_takes_over(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.Generator(np.random.Philox(2))
    members, others = rng.normal(0.3, 1, 40), rng.normal(0, 1, 40)
    exact = rank_p_value(members, others)
    monkeypatch.setattr(rank_test, "MAX_EXACT_STEPS", 0)
    # The error of the normal tail at 40 + 40 is of order 1 / 400 in absolute terms.
    assert rank_p_value(members, others) == pytest.approx(exact, abs=2.5e-3)
    assert rank_p_value(members, others) != exact


@given(FEW, FEW)
def test_the_two_directions_overlap_in_what_was_observed(members: list[int], non_members: list[int]) -> None:
    upper = rank_p_value(members, non_members)
    lower = rank_p_value([-score for score in members], [-score for score in non_members])
    assert upper + lower >= 1 - 1e-12
    assert 0 < upper <= 1
    assert 0 < lower <= 1


def test_equal_scores_show_nothing() -> None:
    assert rank_p_value([1.0] * 5, [1.0] * 7) == 1.0


def test_complete_separation_has_the_smallest_p_value_there_is() -> None:
    assert rank_p_value([5, 6, 7], [1, 2, 3, 4]) == pytest.approx(1 / math.comb(7, 3), rel=1e-12)


def test_thousands_of_records_with_one_hit_do_not_overflow() -> None:
    members, others = np.zeros(1500), np.zeros(1500)
    members[0] = 1.0
    assert rank_p_value(members, others) == pytest.approx(0.5, abs=1e-9)
