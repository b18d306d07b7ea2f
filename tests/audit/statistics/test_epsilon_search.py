import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.audit.statistics.epsilon_search import (
    check_count,
    check_delta,
    check_significance,
    largest_holding,
)


@given(st.floats(0, 1e9))
def test_the_largest_value_is_found_from_below(root: float) -> None:
    found = largest_holding(lambda x: x <= root)
    assert found <= root
    assert root - found <= 1e-9 * max(1.0, root)


def test_a_condition_that_never_holds_gives_zero() -> None:
    assert largest_holding(lambda _: False) == 0.0


def test_a_condition_without_an_end_is_reported() -> None:
    with pytest.raises(ArithmeticError, match="no largest value"):
        largest_holding(lambda _: True)


@pytest.mark.parametrize("delta", [-1e-9, 1.0, math.nan])
def test_a_delta_that_is_no_probability_is_refused(delta: float) -> None:
    with pytest.raises(ValueError, match="delta is"):
        check_delta(delta, is_zero_allowed=True)


def test_a_delta_of_zero_is_for_bounds_without_a_gaussian_curve() -> None:
    check_delta(0.0, is_zero_allowed=True)
    with pytest.raises(ValueError, match=r"delta is 0\.0, expected above 0"):
        check_delta(0.0, is_zero_allowed=False)


@pytest.mark.parametrize("significance", [0.0, 1.0, math.nan])
def test_a_significance_that_decides_nothing_is_refused(significance: float) -> None:
    with pytest.raises(ValueError, match="significance is"):
        check_significance(significance)


@pytest.mark.parametrize("count", [-1, 6, 2.5, math.nan])
def test_an_impossible_count_is_named(count: float) -> None:
    with pytest.raises(ValueError, match=r"num_things is .*, expected a whole number, 0 to 5"):
        check_count(count, name="num_things", low=0, high=5)
