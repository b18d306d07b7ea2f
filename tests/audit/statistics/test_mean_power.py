"""Whether so many records could show in a mean that half of them came out whole."""

from dataclasses import replace

import numpy as np
import pytest

from confide.audit.statistics import (
    MeanControls,
    finds_half,
    finds_half_in_mean,
    records_for_half,
    records_for_half_in_mean,
)


def controls(num: int, *, low: float = 0.3, high: float = 0.6) -> MeanControls:
    """Values that spread evenly, 0.1 to 0.2 under the base model."""
    others, base = np.linspace(low, high, num).tolist(), np.linspace(0.1, 0.2, num).tolist()
    return MeanControls(others=tuple(others), most=(1.0,) * num, base=tuple(base), bound=1.0)


NOTHING = MeanControls(others=(0.0,), most=(1.0,), base=(0.0,), bound=1.0)


@pytest.mark.parametrize("num_tests", [3, 10])
def test_beside_controls_that_show_nothing_a_mean_needs_as_many_records_as_a_share(num_tests: int) -> None:
    assert records_for_half_in_mean(5, NOTHING, num_tests=num_tests) == records_for_half(num_tests=num_tests)


def test_controls_above_nothing_need_more_and_more_until_none_are_enough() -> None:
    needed = [
        records_for_half_in_mean(5, replace(controls(20, low=low, high=high), base=None), num_tests=3)
        for low, high in ((0.0, 0.2), (0.5, 0.7), (0.8, 0.98), (1.0, 1.0))
    ]
    assert needed[-1] is None
    known = [num for num in needed if num is not None]
    assert known == sorted(set(known))
    assert finds_half(15, 15, num_tests=3)
    assert known[0] > 15


def test_what_is_said_to_be_needed_is_enough_and_one_less_is_not() -> None:
    for num_tests in (1, 9):
        num = records_for_half_in_mean(5, controls(20), num_tests=num_tests)
        assert num is not None
        assert num < 64  # up to there it is looked for one by one
        assert finds_half_in_mean(num, num, controls(20), num_tests=num_tests)
        assert not finds_half_in_mean(num - 1, num - 1, controls(20), num_tests=num_tests)


def test_more_tests_never_turn_too_few_into_enough() -> None:
    for num in (12, 18, 24, 30, 60):
        enough = [finds_half_in_mean(num, num, controls(20), num_tests=num_tests) for num_tests in range(1, 60)]
        assert enough == sorted(enough, reverse=True)


def test_few_of_one_side_are_too_few_whatever_there_is_of_the_other() -> None:
    assert not finds_half_in_mean(8, 500, controls(20), num_tests=3)
    assert not finds_half_in_mean(500, 2, controls(20), num_tests=3)


def test_members_show_no_more_than_each_of_them_can() -> None:
    free = controls(20)
    capped = replace(free, most=tuple(0.65 + 0 * value for value in free.most))
    assert (records_for_half_in_mean(5, capped, num_tests=3) or 0) > (
        records_for_half_in_mean(5, free, num_tests=3) or 0
    )


def test_a_base_model_that_shows_as_much_leaves_nothing_to_find() -> None:
    assert records_for_half_in_mean(5, replace(controls(20), base=(1.0,) * 20), num_tests=1) is None
    assert finds_half_in_mean(100, 100, replace(controls(20), base=None), num_tests=1)


def test_without_a_bound_half_is_found_by_t_intervals() -> None:
    gains = MeanControls(
        others=tuple(np.linspace(-0.05, 0.05, 18).tolist()), most=(0.6,) * 14, base=(0.0,) * 14, bound=None
    )
    needed = records_for_half_in_mean(5, gains, num_tests=4)
    assert needed is not None
    assert 12 <= needed <= 40
    assert records_for_half_in_mean(5, replace(gains, most=(0.0,) * 14), num_tests=4) is None
