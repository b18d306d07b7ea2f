"""Wilcoxon's test against all signs one by one, and against scipy where that is exact or normal."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata, wilcoxon

from confide.audit.statistics.interval import Alternative
from confide.audit.statistics.nulls import uniformity_p_value
from confide.audit.statistics.scores import Floats
from confide.audit.statistics.signed_rank_test import MAX_EXACT_RECORDS, signed_rank_p_value

ALTERNATIVES: tuple[Alternative, ...] = ("two-sided", "greater")


def by_all_signs(differences: Floats, alternative: Alternative) -> float:
    """A slow twin: zeros have ranks and no side."""
    ranks = rankdata(np.abs(differences))
    moving = ranks[differences != 0]
    sums = [float(moving[list(signs)].sum()) for signs in itertools.product([False, True], repeat=moving.size)]
    observed = float(ranks[differences > 0].sum())
    above, below = (
        sum(is_there) / len(sums) for is_there in ([one >= observed for one in sums], [one <= observed for one in sums])
    )
    return above if alternative == "greater" else min(1.0, 2 * min(above, below))


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=8), st.sampled_from(ALTERNATIVES))
def test_with_zeros_and_ties_it_is_the_share_of_all_signs(values: list[int], alternative: Alternative) -> None:
    differences = np.array(values, np.float64)
    assert signed_rank_p_value(differences, alternative) == pytest.approx(by_all_signs(differences, alternative))


@pytest.mark.parametrize("alternative", ALTERNATIVES)
@pytest.mark.parametrize("num", [25, 50])
def test_without_ties_it_is_scipys_exact_test(num: int, alternative: Alternative) -> None:
    differences = np.random.default_rng(num).normal(0.2, 1, num)
    expected = wilcoxon(differences, alternative=alternative, method="exact").pvalue
    assert signed_rank_p_value(differences, alternative) == pytest.approx(float(expected))


@pytest.mark.parametrize("alternative", ALTERNATIVES)
def test_of_many_records_it_is_scipys_normal_approximation(alternative: Alternative) -> None:
    differences = np.random.default_rng(1).integers(-8, 10, 2 * MAX_EXACT_RECORDS).astype(np.float64)
    expected = wilcoxon(differences, alternative=alternative, zero_method="pratt", method="approx").pvalue
    assert signed_rank_p_value(differences, alternative) == pytest.approx(float(expected))


def test_the_two_methods_meet_where_one_takes_over() -> None:
    differences = np.random.default_rng(2).integers(-8, 9, MAX_EXACT_RECORDS).astype(np.float64)
    expected = wilcoxon(differences, alternative="greater", zero_method="pratt", method="approx").pvalue
    # The normal distribution's error for sums of 200 symmetric terms is of order 1 / 200.
    assert signed_rank_p_value(differences, "greater") == pytest.approx(float(expected), abs=5e-3)


def test_under_the_null_hypothesis_p_values_are_uniform() -> None:
    rng = np.random.default_rng(3)
    assert uniformity_p_value([signed_rank_p_value(rng.normal(size=30), "greater") for _ in range(200)]) > 0.01
