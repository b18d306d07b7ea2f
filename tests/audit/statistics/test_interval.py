import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.audit.statistics.interval import NORMAL_QUANTILE, Interval, check_alternative


def _interval(low: float, high: float) -> Interval:
    return Interval(value=(low + high) / 2, low=low, high=high, num=10)


def test_intervals_that_touch_overlap() -> None:
    assert _interval(0.5, 0.6).overlaps(_interval(0.6, 0.7))
    assert not _interval(0.5, 0.59).overlaps(_interval(0.6, 0.7))
    assert _interval(0.5, 0.9).overlaps(_interval(0.6, 0.7))


@given(*[st.integers(0, 20)] * 4)
def test_intervals_overlap_exactly_if_a_value_lies_in_both(a: int, b: int, c: int, d: int) -> None:
    one, other = _interval(min(a, b), max(a, b)), _interval(min(c, d), max(c, d))
    assert one.overlaps(other) == any(one.covers(value) and other.covers(value) for value in range(21))
    assert one.overlaps(other) == other.overlaps(one)


def test_normal_quantile_is_the_one_in_every_table() -> None:
    assert round(NORMAL_QUANTILE, 6) == 1.959964


def test_an_unknown_alternative_is_refused() -> None:
    with pytest.raises(ValueError, match="alternative is 'less', expected 'two-sided' or 'greater'"):
        check_alternative("less")  # type: ignore[arg-type]
