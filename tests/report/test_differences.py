import math

import numpy as np
import pytest

from confide.audit.results import Estimate
from confide.report.differences import compare, difference
from tests.report.audits import audit, estimate, measure


def _wilson(count: int, num: int) -> Estimate:
    """Wilson's interval for a share, solved from |count / num - share| = 1.96 sqrt(share (1 - share) / num)."""
    z = 1.959964
    middle = (count + z**2 / 2) / (num + z**2)
    half = z * math.sqrt(count * (num - count) / num + z**2 / 4) / (num + z**2)
    return Estimate(value=count / num, low=middle - half, high=middle + half, num=num)


def test_the_difference_of_two_shares_is_newcombes() -> None:
    # Newcombe 1998, table II, contrast (a), 56/70 - 48/80, method 10: 0.0524 to 0.3339
    shown = difference(_wilson(48, 80), _wilson(56, 70))
    assert shown.value == pytest.approx(0.2)
    assert shown.low == pytest.approx(0.0524, abs=5e-5)
    assert shown.high == pytest.approx(0.3339, abs=5e-5)
    assert shown.num == 70


def test_swapping_the_runs_changes_the_sign() -> None:
    first, second = _wilson(3, 24), _wilson(15, 31)
    forth, back = difference(first, second), difference(second, first)
    assert (back.value, back.low, back.high) == pytest.approx((-forth.value, -forth.high, -forth.low))


def test_the_interval_covers_the_true_difference_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    num, shares = 60, (0.15, 0.4)
    hits = 0
    for counts in rng.binomial(num, shares, size=(2000, 2)):
        shown = difference(_wilson(int(counts[0]), num), _wilson(int(counts[1]), num))
        hits += shown.low <= shares[1] - shares[0] <= shown.high
    assert hits / 2000 == pytest.approx(0.95, abs=0.02)  # four standard errors of 0.005


def test_measures_are_matched_by_their_names_in_the_order_they_appear() -> None:
    first = audit(measures=[measure(attack="a", members=estimate(0.2)), measure(attack="b")])
    second = audit(measures=[measure(attack="c"), measure(attack="a", members=estimate(0.5))])
    rows = compare([first, second])
    assert [row.key.split(".")[2] for row in rows] == ["a", "b", "c"]
    assert rows[0].differences[0] is not None
    assert rows[0].differences[0].value == pytest.approx(0.3)
    assert rows[1].measures[1] is None
    assert rows[1].differences == (None,)
    assert rows[2].differences == (None,)


def test_measures_with_one_name_are_matched_in_their_order() -> None:
    twice = audit(measures=[measure(members=estimate(0.2)), measure(members=estimate(0.4))])
    rows = compare([twice, twice])
    assert [row.differences[0].value for row in rows if row.differences[0]] == [0.0, 0.0]
    assert len(rows) == 2
