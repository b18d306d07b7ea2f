from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial import ConvexHull
from scipy.special import expit, logit
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from confide.audit.statistics.area import Placements, auc, auc_interval, auc_value, placements
from confide.audit.statistics.nulls import uniformity_p_value
from confide.audit.statistics.proportions import clopper_pearson
from confide.audit.statistics.roc import roc_curve

Scores = npt.NDArray[np.float64]
Draw = Callable[[np.random.Generator, int, float], Scores]
GROUP = st.lists(st.integers(-5, 5), min_size=1, max_size=25)


def slow_placements(members: list[int], non_members: list[int]) -> Placements:
    """DeLong's structural components from their definition, pair by pair."""
    wins = np.array([[1.0 if x > y else 0.5 if x == y else 0.0 for y in non_members] for x in members])
    return Placements(
        members=wins.mean(axis=1),
        non_members=wins.mean(axis=0),
        won=float((wins == 1).mean()),
        lost=float((wins == 0).mean()),
    )


def hull_area(members: Scores, non_members: Scores) -> float:
    """What some tools print as the AUC: the area under the convex hull of the ROC curve."""
    points = [(point.fpr, point.tpr) for point in roc_curve(members, non_members, max_points=10**6)]
    return float(ConvexHull(np.array([(0.0, 0.0), (1.0, 0.0), *points])).volume)  # in two dimensions that is its area


@given(GROUP, GROUP)
def test_equals_sklearn(members: list[int], non_members: list[int]) -> None:
    truth = [1] * len(members) + [0] * len(non_members)
    expected = roc_auc_score(truth, members + non_members)
    assert auc_value(members, non_members) == pytest.approx(float(expected), abs=1e-12)


@given(GROUP, GROUP)
def test_placements_equal_counting_pairs(members: list[int], non_members: list[int]) -> None:
    found = placements(np.array(members, np.float64), np.array(non_members, np.float64))
    expected = slow_placements(members, non_members)
    np.testing.assert_allclose(found.members, expected.members, atol=1e-12)
    np.testing.assert_allclose(found.non_members, expected.non_members, atol=1e-12)
    assert (found.won, found.lost) == pytest.approx((expected.won, expected.lost), abs=1e-12)


@given(GROUP, GROUP)
def test_swapped_groups_give_the_mirror_image(members: list[int], non_members: list[int]) -> None:
    there, back = auc(members, non_members), auc(non_members, members)
    assert there.interval.value == pytest.approx(1 - back.interval.value, abs=1e-12)
    assert there.interval.low == pytest.approx(1 - back.interval.high, abs=1e-9)
    assert there.interval.high == pytest.approx(1 - back.interval.low, abs=1e-9)
    assert there.method == back.method


@given(GROUP, GROUP)
def test_a_monotone_map_changes_nothing(members: list[int], non_members: list[int]) -> None:
    mapped = [np.exp(np.array(group) / 3) - 7 for group in (members, non_members)]
    assert auc(*mapped) == auc(members, non_members)


@given(GROUP, GROUP)
def test_the_interval_holds_its_value_and_has_a_width(members: list[int], non_members: list[int]) -> None:
    interval = auc(members, non_members).interval
    assert 0 <= interval.low <= interval.value <= interval.high <= 1
    assert interval.high > interval.low
    assert interval.num == len(members) + len(non_members)


def test_shifted_ranks_give_the_agreed_digits() -> None:
    """Non-members 0 .. 99, members 9.5 above them: the hull's area is 0.595, the AUC 0.5905."""
    non_members = np.arange(100.0)
    assert auc_value(non_members + 9.5, non_members) == pytest.approx(0.5905, abs=1e-12)
    assert hull_area(non_members + 9.5, non_members) == pytest.approx(0.595, abs=1e-12)


def test_two_normal_groups_give_less_than_their_hull() -> None:
    """N(2, 1) against N(0, 1), 1000 each, drawn as for the other tools, whose hull gives 0.92152."""
    rng = np.random.default_rng(0)
    members, non_members = rng.normal(2, 1, 1000), rng.normal(0, 1, 1000)
    assert round(hull_area(members, non_members), 5) == 0.92152
    found = auc(members, non_members)
    assert found.interval.value == pytest.approx(
        float(roc_auc_score([1] * 1000 + [0] * 1000, [*members, *non_members]))
    )
    assert found.interval.value < 0.92152
    assert found.interval.covers(float(norm.cdf(2 / np.sqrt(2))))  # the true one, 0.92135
    assert found.method == "delong"


def test_pure_noise_is_a_half_and_not_what_its_hull_says() -> None:
    rng = np.random.Generator(np.random.Philox(3))
    pairs = [(rng.normal(size=100), rng.normal(size=100)) for _ in range(200)]
    mean = np.mean([auc_value(*pair) for pair in pairs])
    # One AUC has standard deviation sqrt(201 / 120000) = 0.041, the mean of 200 of them 0.0029.
    assert abs(mean - 0.5) < 3 * 0.0029
    assert np.mean([hull_area(*pair) for pair in pairs]) > 0.54


def test_delongs_interval_is_the_papers_variance_on_the_logit_scale() -> None:
    rng = np.random.Generator(np.random.Philox(4))
    members, non_members = rng.integers(0, 30, 40).tolist(), rng.integers(-10, 25, 60).tolist()
    slow = slow_placements(members, non_members)
    value = slow.members.mean()
    error = np.sqrt(slow.members.var(ddof=1) / 40 + slow.non_members.var(ddof=1) / 60) / (value * (1 - value))
    found = auc(members, non_members)
    assert found.method == "delong"
    expected = expit(logit(value) + np.array([-1, 1]) * norm.ppf(0.975) * error)
    assert (found.interval.low, found.interval.high) == pytest.approx(tuple(expected), abs=1e-12)


@pytest.mark.parametrize(("num", "num_others"), [(1, 1), (5, 5), (8, 50), (50, 8), (200, 200)])
def test_perfect_separation_starts_where_that_many_won_pairs_become_likely(num: int, num_others: int) -> None:
    found = auc(np.arange(num) + 1000.0, np.arange(num_others))
    assert found.method == "disjoint pairs"
    assert found.interval.high == 1.0
    assert found.interval.low == pytest.approx(0.025 ** (1 / min(num, num_others)), rel=1e-9)


def test_few_records_without_ties_have_the_interval_of_as_many_pairs() -> None:
    found = auc([3.0, 5.0, 7.0, 9.0], [2.0, 4.0, 6.0, 8.0]).interval  # 10 of 16 pairs are won, so 2.5 of 4
    assert found.value == 10 / 16
    between = (clopper_pearson(2, 4), clopper_pearson(3, 4))
    assert between[0].low < found.low < between[1].low
    assert between[0].high < found.high < between[1].high


def test_a_score_that_is_the_same_for_all_leaves_chance_and_a_doubt() -> None:
    found = auc(np.ones(30), np.ones(40))
    assert found.interval.value == 0.5
    assert found.p_value == 1.0
    # None of 30 pairs was won and none lost: each share may still be 11.6 %.
    assert found.interval.high == pytest.approx(0.5 + clopper_pearson(0, 30).high / 2)
    assert found.interval.low == pytest.approx(0.5 - clopper_pearson(0, 30).high / 2)


def _normal(rng: np.random.Generator, num: int, true_auc: float) -> Scores:
    return rng.normal(np.sqrt(2) * norm.ppf(true_auc), 1, num)


def _wide(rng: np.random.Generator, num: int, true_auc: float) -> Scores:
    return rng.normal(np.sqrt(10) * norm.ppf(true_auc), 3, num)


def _some_found(rng: np.random.Generator, num: int, true_auc: float) -> Scores:
    """A share of the members stands above everybody, the others are like non-members."""
    return np.where(rng.random(num) < 2 * true_auc - 1, rng.normal(50, 1, num), rng.normal(0, 1, num))


def _all_or_nothing(rng: np.random.Generator, num: int, true_auc: float) -> Scores:
    """Each member stands above everybody or below everybody: no distribution gives the AUC more variance."""
    return np.where(rng.random(num) < true_auc, rng.normal(50, 1, num), rng.normal(-50, 1, num))


@pytest.mark.parametrize("draw", [_normal, _wide, _some_found, _all_or_nothing])
@pytest.mark.parametrize(("num", "num_others"), [(6, 6), (8, 40), (25, 25), (120, 120)])
@pytest.mark.parametrize("true_auc", [0.5, 0.75, 0.95])
def test_the_interval_covers(draw: Draw, num: int, num_others: int, true_auc: float) -> None:
    rng = np.random.Generator(np.random.Philox(6))
    num_sets = 400
    hits = sum(
        auc_interval(draw(rng, num, true_auc), rng.normal(0, 1, num_others)).interval.covers(true_auc)
        for _ in range(num_sets)
    )
    # Of 400 sets 95 % are 380, with a standard deviation of 4.4: three of them below is 91.7 %. DeLong's own interval
    # covers in fewer than half of the sets in some of these cases.
    assert hits >= 380 - 3 * 4.4


@pytest.mark.parametrize("shares", [(0.05, 0.05), (0.3, 0.05), (0.5, 0.5), (0.05, 0.3)])
@pytest.mark.parametrize(("num", "num_others"), [(8, 8), (20, 100), (100, 20), (120, 120)])
def test_the_interval_covers_with_two_values_only(shares: tuple[float, float], num: int, num_others: int) -> None:
    rng = np.random.Generator(np.random.Philox(7))
    truth = 0.5 + (shares[0] - shares[1]) / 2
    hits = sum(
        auc_interval(rng.random(num) < shares[0], rng.random(num_others) < shares[1]).interval.covers(truth)
        for _ in range(400)
    )
    assert hits >= 380 - 3 * 4.4  # as above; DeLong's own interval covers 74 % in the second case of the first shares


def test_with_many_records_the_interval_is_not_longer_than_it_must_be() -> None:
    rng = np.random.Generator(np.random.Philox(8))
    found = [auc_interval(rng.normal(1, 1, 200), rng.normal(0, 1, 200)).interval for _ in range(400)]
    spread = np.std([interval.value for interval in found])
    length = np.mean([interval.high - interval.low for interval in found])
    # 400 values give their spread within 1 / sqrt(800) = 3.5 %; three of them.
    assert length == pytest.approx(2 * 1.96 * spread, rel=0.11)


def test_p_values_of_shuffled_coins_are_uniform() -> None:
    rng = np.random.Generator(np.random.Philox(9))
    scores = rng.standard_t(2, 120)
    p_values = []
    for _ in range(200):
        coins = rng.permutation(120) < 60
        p_values.append(auc(scores[coins], scores[~coins]).p_value)
    assert uniformity_p_value(p_values) > 0.01  # one seed in a hundred would fail


def test_dependent_scores_get_a_longer_interval_and_a_larger_p_value() -> None:
    rng = np.random.Generator(np.random.Philox(10))
    members, non_members = rng.normal(0.5, 1, 60), rng.normal(0, 1, 60)
    plain, wider = auc(members, non_members), auc(members, non_members, standard_error_factor=1.5)
    lengths = [logit(found.interval.high) - logit(found.interval.low) for found in (plain, wider)]
    assert lengths[1] == pytest.approx(1.5 * lengths[0])
    assert norm.isf(wider.p_value) == pytest.approx(norm.isf(plain.p_value) / 1.5)
    perfect = auc(np.arange(18) + 100.0, np.arange(18), standard_error_factor=1.5)
    assert perfect.interval.low == pytest.approx(0.025 ** (1 / 8))  # 18 / 1.5^2 pairs
    with pytest.raises(ValueError, match=r"standard_error_factor is 0.5, expected at least 1"):
        auc(members, non_members, standard_error_factor=0.5)
