import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.audit.statistics.multiple import holm

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=7)


def closed_testing(p_values: list[float]) -> list[float]:
    """The slow twin, another road to the same: a hypothesis falls if Bonferroni rejects every set it belongs to."""
    num = len(p_values)
    sets = [chosen for size in range(1, num + 1) for chosen in itertools.combinations(range(num), size)]
    of_set = {chosen: min(1.0, len(chosen) * min(p_values[index] for index in chosen)) for chosen in sets}
    return [max(value for chosen, value in of_set.items() if index in chosen) for index in range(num)]


@given(P_VALUES)
def test_equals_closed_testing_with_bonferroni(p_values: list[float]) -> None:
    np.testing.assert_allclose(holm(p_values), closed_testing(p_values), rtol=1e-12)


@given(P_VALUES)
def test_order_does_not_matter(p_values: list[float]) -> None:
    order = np.random.default_rng(len(p_values)).permutation(len(p_values))
    np.testing.assert_array_equal(holm(np.asarray(p_values)[order]), holm(p_values)[order])


@given(P_VALUES)
def test_adjusted_values_lie_between_the_given_and_bonferronis(p_values: list[float]) -> None:
    adjusted, given_values = holm(p_values), np.asarray(p_values)
    assert (adjusted >= given_values).all()
    assert (adjusted <= np.minimum(1, given_values * given_values.size)).all()


def test_one_test_needs_no_correction() -> None:
    assert holm([0.03]).tolist() == [0.03]
    assert holm([]).size == 0


def test_a_true_null_among_ten_is_rarely_rejected() -> None:
    # Independent uniform p-values: at least one of 10 falls with probability 1 - (1 - 0.005)^10 = 4.9 %.
    draws = np.random.Generator(np.random.Philox(8)).random((2000, 10))
    rejected = sum(bool((holm(draw) <= 0.05).any()) for draw in draws)
    # 98 expected, standard deviation 9.7; uncorrected it would be 803.
    assert abs(rejected - 98) <= 3 * 9.7


@pytest.mark.parametrize("bad", [[0.1, np.nan], [-0.1], [1.1, 0.2]])
def test_what_is_no_probability_is_refused(bad: list[float]) -> None:
    with pytest.raises(ValueError, match=f"1 of {len(bad)} p-values are NaN or outside 0 to 1"):
        holm(bad)
    with pytest.raises(ValueError, match=r"shape \(1, 1\)"):
        holm([[0.5]])
