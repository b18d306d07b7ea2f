import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_curve as sklearn_roc_curve

from confide.audit.statistics.proportions import clopper_pearson
from confide.audit.statistics.roc import RocPoint, roc_curve, tpr_at_fpr, tpr_value

GROUP = st.lists(st.integers(-5, 5), min_size=1, max_size=25)
RATE = st.sampled_from([0.001, 0.01, 0.05, 0.1, 0.29, 1 / 3, 0.5, 0.7, 1.0])


def slow_tpr(members: list[int], non_members: list[int], max_fpr: float) -> float:
    """The best of all thresholds, one after the other."""
    best = 0.0
    for threshold in [*members, *non_members, 100, -100]:
        false = sum(score > threshold for score in non_members)
        if false / len(non_members) <= max_fpr:
            best = max(best, sum(score > threshold for score in members) / len(members))
    return best


def at(points: tuple[RocPoint, ...], fpr: float) -> float:
    """The curve as steps."""
    return max(point.tpr for point in points if point.fpr <= fpr)


@given(GROUP, GROUP, RATE)
def test_equals_the_best_of_all_thresholds(members: list[int], non_members: list[int], max_fpr: float) -> None:
    found = tpr_at_fpr(members, non_members, max_fpr=max_fpr)
    assert found.tpr.value == slow_tpr(members, non_members, max_fpr)
    assert found.tpr.value == tpr_value(members, non_members, max_fpr=max_fpr)
    assert found.fpr.value <= max_fpr
    assert found.tpr.value == np.mean([score > found.threshold for score in members])
    assert found.fpr.value == np.mean([score > found.threshold for score in non_members])


def test_shifted_ranks_give_the_agreed_digits() -> None:
    """Non-members 0 .. 99, members 9.5 above them: 0.11 at 1 %."""
    found = tpr_at_fpr(np.arange(100) + 9.5, np.arange(100), max_fpr=0.01)
    assert found.tpr == clopper_pearson(11, 100)
    assert found.fpr == clopper_pearson(1, 100)


def test_a_rate_between_two_thresholds_is_not_interpolated() -> None:
    members, non_members = [0.5] * 10, [0.0, 1.0]
    assert tpr_value(members, non_members, max_fpr=0.49) == 0.0
    assert tpr_value(members, non_members, max_fpr=0.5) == 1.0


@pytest.mark.parametrize("allowed", range(1, 101))
def test_a_whole_number_of_false_positives_is_allowed_in_full(allowed: int) -> None:
    # 0.29 * 100 is 28.999999999999996 in floating point.
    found = tpr_at_fpr([0.0], np.arange(100), max_fpr=allowed / 100)
    assert found.fpr.value == allowed / 100


def test_says_what_the_non_members_resolve() -> None:
    few = tpr_at_fpr(np.arange(50), np.arange(1000), max_fpr=0.001)
    assert (few.num_non_members_needed, few.smallest_fpr, few.is_resolved) == (10_000, 0.01, False)
    enough = tpr_at_fpr(np.arange(50), np.arange(1000), max_fpr=0.01)
    assert (enough.num_non_members_needed, enough.is_resolved) == (1000, True)


@pytest.mark.parametrize("bad", [0.0, -0.1, 1.5, float("nan")])
def test_a_rate_out_of_range_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match=r"max_fpr is .*, expected above 0 and at most 1"):
        tpr_at_fpr([1.0], [0.0], max_fpr=bad)


@given(GROUP, GROUP)
def test_the_curve_is_sklearns_without_its_diagonals(members: list[int], non_members: list[int]) -> None:
    points = roc_curve(members, non_members)
    truth = [1] * len(members) + [0] * len(non_members)
    fpr, tpr, _ = sklearn_roc_curve(truth, members + non_members, drop_intermediate=False)
    expected = {false: tpr[fpr == false].max() for false in np.unique(fpr)}
    assert [point.fpr for point in points] == pytest.approx(list(expected))
    assert [point.tpr for point in points] == pytest.approx(list(expected.values()))


@given(GROUP, GROUP, RATE)
def test_the_curve_says_the_same_as_the_single_rate(members: list[int], non_members: list[int], max_fpr: float) -> None:
    assert at(roc_curve(members, non_members), max_fpr) == tpr_value(members, non_members, max_fpr=max_fpr)


@given(GROUP, GROUP)
def test_the_band_is_clopper_pearsons_at_every_point(members: list[int], non_members: list[int]) -> None:
    for point in roc_curve(members, non_members):
        expected = clopper_pearson(round(point.tpr * len(members)), len(members))
        assert (point.low, point.high) == (expected.low, expected.high)


def _large() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    rng = np.random.Generator(np.random.Philox(1))
    return rng.normal(1, 1, 3000), rng.normal(0, 1, 20_000)


@pytest.mark.parametrize("max_points", [3, 20, 200])
def test_a_thinned_curve_has_true_points_only_and_flatters_nowhere(max_points: int) -> None:
    members, non_members = _large()
    whole = roc_curve(members, non_members, max_points=10**6)
    thinned = roc_curve(members, non_members, max_points=max_points)
    assert set(thinned) <= set(whole)
    assert (thinned[0], thinned[-1]) == (whole[0], whole[-1])
    assert 3 <= len(thinned) <= max_points
    assert all(at(thinned, point.fpr) <= point.tpr for point in whole[:: len(whole) // 300])


def test_a_thinned_curve_keeps_the_low_end() -> None:
    members, non_members = _large()
    fprs = np.array([point.fpr for point in roc_curve(members, non_members)])
    assert fprs[:6].tolist() == [number / 20_000 for number in range(6)]
    steps = np.diff(np.log10(fprs[1:]))
    # 198 points over log10(20000) = 4.3 decades are 0.022 apart; at the low end the counts 1, 2, 3 ... are farther.
    assert steps.max() == pytest.approx(np.log10(2))
    assert steps[fprs[1:-1] > 0.01].max() < 0.05


def test_a_curve_of_two_points_is_refused() -> None:
    with pytest.raises(ValueError, match="max_points is 2, expected at least 3"):
        roc_curve([1.0], [0.0], max_points=2)
