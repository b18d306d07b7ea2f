"""Findings from rankings: what stands beside them, and tests that hold."""

import itertools
import re
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from confide.attacks.blind import STANDARD_ERROR_FACTOR
from confide.audit.area_samples import NEEDS_BLIND, AreaSample
from confide.audit.areas import area, blind_control, comparable, low_end, roc
from confide.audit.judging import Subject, judge, raw_p_value
from confide.audit.statistics import Interval, auc
from tests.audit.made_case import make_case


def subject(labels: npt.NDArray[np.bool_]) -> Subject:
    return Subject(view="client", family="membership", attack="loss", code="M1", population="records", labels=labels)


def drawn(seed: int, *, num: int = 60, effect: float = 0.0) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(num) % 2 == 0)
    return labels, rng.normal(size=num) + effect * labels


@given(st.integers(0, 50), st.floats(0, 3), st.floats(0, 3))
def test_above_the_blind_baseline_means_that_intervals_do_not_overlap(
    seed: int, effect: float, blind_effect: float
) -> None:
    labels, scores = drawn(seed, effect=effect)
    _, blind = drawn(seed + 1000, effect=0.0)
    blind = blind + blind_effect * labels
    found = area(subject(labels), scores, blind)
    control = found.controls["blind"]
    assert found.members.value == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert (found.differences["blind"].interval.low > 0) == (found.members.low > control.high)
    assert found.differences["blind"].interval.value == pytest.approx(found.members.value - control.value)


def test_the_blind_baselines_interval_is_widened_for_folds_that_err_together() -> None:
    labels, scores = drawn(0, effect=1.0)
    _, blind = drawn(1)
    found = area(subject(labels), scores, blind).controls["blind"]
    assert found == auc(blind[labels], blind[~labels], standard_error_factor=STANDARD_ERROR_FACTOR).interval
    plain = auc(blind[labels], blind[~labels]).interval
    assert found.high - found.low > 1.3 * (plain.high - plain.low)


def test_a_blind_baseline_that_is_better_gives_a_large_p_value_and_not_a_small_one() -> None:
    labels, scores = drawn(2, num=200)
    found = area(subject(labels), scores, scores + 3.0 * labels)
    assert found.differences["blind"].p_value > 0.99


def test_without_a_blind_baseline_a_finding_lacks_it_for_want_of_records() -> None:
    labels, scores = drawn(3, effect=5.0)
    for found in (area(subject(labels), scores, None), low_end(subject(labels), scores, None, max_fpr=0.5)):
        assert (found.barred, found.lacking) == ("", NEEDS_BLIND)
        assert found.sample.shortage(1)
        assert "blind" not in found.controls


@pytest.mark.parametrize("max_fpr", [0.2, 0.4])
def test_the_low_end_is_tested_by_going_through_all_coins(max_fpr: float) -> None:
    labels, scores = drawn(4, num=12, effect=1.0)
    found = low_end(subject(labels), scores, None, max_fpr=max_fpr)
    rates = []
    for chosen in itertools.combinations(range(12), 6):
        coins = np.isin(np.arange(12), chosen)
        threshold = np.sort(scores[~coins])[6 - 1 - int(max_fpr * 6 + 1e-9)]
        rates.append(np.mean(scores[coins] > threshold))
    p_value = float(np.mean(np.array(rates) >= found.members.value))
    assert found.differences["false positives"].p_value == pytest.approx(p_value, rel=1e-9)


def test_equal_scores_find_nobody_and_are_no_evidence() -> None:
    labels, _ = drawn(5)
    found = low_end(subject(labels), np.zeros(60), np.zeros(60), max_fpr=0.5)
    assert found.members.value == 0.0
    assert raw_p_value(found) == 1.0


def test_the_low_end_needs_more_true_positives_than_the_blind_baseline() -> None:
    labels, scores = drawn(6, num=200, effect=4.0)
    alone = low_end(subject(labels), scores, drawn(7, num=200)[1], max_fpr=0.1)
    assert all(difference.interval.low > 0 for difference in alone.differences.values())
    beside = low_end(subject(labels), scores, scores, max_fpr=0.1)
    assert beside.differences["blind"].interval.low < 0
    assert beside.differences["blind"].p_value == 1.0


def test_a_part_is_measured_as_if_there_were_nothing_else() -> None:
    labels, scores = drawn(8, effect=1.0)
    _, blind = drawn(9)
    part = np.arange(60) < 40
    found = area(subject(labels), scores, blind, part=part)
    alone = area(subject(labels[part]), scores[part], blind[part])
    assert replace(found, sample=alone.sample) == alone
    assert isinstance(alone.sample, AreaSample)
    assert found.sample == replace(alone.sample, is_half=True)
    assert roc(subject(labels), "members", scores, part=part) == roc(subject(labels[part]), "members", scores[part])


def test_a_blind_control_of_a_view_is_that_of_the_whole_population_at_its_candidates() -> None:
    case = make_case(0, num_candidates=40)
    everything = blind_control(case.population, case.population.candidates, case.truth, seed=0)
    asked = case.population.candidates[:30]
    found = blind_control(case.population, asked, case.truth, seed=0)
    assert everything is not None
    assert found is not None
    assert found.shape == (30,)
    assert np.isfinite(found).all()
    # The best of three, so never worse than the one that is best on all.
    labels = case.truth.labels(asked)
    assert roc_auc_score(labels, found) >= roc_auc_score(labels, everything[:30]) - 1e-12


def test_with_too_few_or_one_sided_candidates_there_is_no_blind_control() -> None:
    case = make_case(0, num_candidates=18)
    assert blind_control(case.population, case.population.candidates, case.truth, seed=0) is None
    case = make_case(0, num_candidates=40)
    members = [one for one in case.population.candidates if case.truth.members[one.candidate_id]]
    assert blind_control(case.population, members, case.truth, seed=0) is None


def test_scores_are_taken_within_owners_only_where_no_coins_decided() -> None:
    scores = np.array([1.0, 2.0, 11.0, 12.0])
    owners = ["a", "a", "b", "b"]
    assert comparable(scores, owners, is_randomised=True) is scores
    assert comparable(scores, owners, is_randomised=False).tolist() == [-1.0, 1.0, -1.0, 1.0]


@pytest.mark.parametrize("num", [30, 60, 120, 400])
def test_a_shortage_says_so_where_an_auc_worth_finding_would_overlap_the_blind_baselines(num: int) -> None:
    labels, scores = drawn(10, num=num)
    blind = np.zeros(num)
    blind[labels] = blind[~labels] = np.arange(num // 2)  # exactly at chance
    found = area(subject(labels), scores, blind)
    # With 200 of each, 0.75 has an interval of 0.05 to each side and the blind baseline one of 0.09.
    assert found.controls["blind"].value == 0.5
    assert (found.sample.shortage(1) == "") == (num == 400)
    if num in (60, 120):
        needed = int(found.sample.shortage(1).split("about ")[1].split(" ")[0])
        assert num / 2 < needed < 200


def test_a_shortage_says_where_no_number_of_records_would_do() -> None:
    labels, scores = drawn(12, num=300, effect=2.0)
    assert "The texts alone tell members" in area(subject(labels), scores, scores).sample.shortage(1)


@pytest.mark.parametrize(("value", "is_advice"), [(0.70, True), (0.748, False), (0.76, False)])
def test_a_number_of_records_that_nobody_has_is_no_advice(value: float, is_advice: bool) -> None:
    blind = Interval(value=value, low=0.4, high=0.96, num=48)
    said = AreaSample(num_members=24, num_others=24, blind=blind).shortage(1)
    assert (f"The texts alone tell members with an AUC of {value:.2f} (0.40 to 0.96)" in said) != is_advice
    if is_advice:
        assert 24 < int(said.split("about ")[1].split(" ")[0]) <= 2400


@pytest.mark.parametrize("high", [None, 0.55, 0.70])
@pytest.mark.parametrize("num", [12, 24])
def test_what_half_of_the_records_need_is_said_of_all(num: int, high: float | None) -> None:
    blind = None if high is None else Interval(value=0.5, low=0.4, high=high, num=2 * num)
    said = [
        AreaSample(num_members=num, num_others=num, blind=blind, is_half=is_half).shortage(1)
        for is_half in (False, True)
    ]
    pattern = r"about (\d+) members" if num == 24 else r"(\d+) of each"
    found = [re.search(pattern, one) for one in said]
    if num == 24 and high != 0.70:
        assert found == [None, None]
        return
    alone, in_half = (int(one[1]) for one in found if one)
    assert in_half == 2 * alone > num
    assert "on one half of the records" in said[1]
    assert "needed in the two halves." in said[1]
    assert "half" not in said[0]


def test_over_how_many_attacks_a_number_is_corrected_stands_beside_it() -> None:
    sample = AreaSample(num_members=6, num_others=6, blind=None)
    assert "to find one of 0.75 with 8 attacks, 28 of each are needed." in sample.shortage(8)
    assert "to find one of 0.75, 20 of each are needed." in sample.shortage(1)


def test_more_attacks_need_more_records() -> None:
    def sample(num: int) -> AreaSample:
        return AreaSample(num_members=num, num_others=num, blind=Interval(value=0.5, low=0.49, high=0.5, num=2 * num))

    fewest = [min(num for num in range(6, 200) if not sample(num).shortage(count)) for count in (1, 10, 100)]
    assert fewest == sorted(set(fewest))


def test_a_low_end_on_too_few_members_is_no_evidence_of_nothing() -> None:
    """Ten members and a hundred others: nothing found says less than the area on the same records, which says so."""
    labels = np.arange(110) < 10
    scores = np.where(labels, -1.0, np.arange(110))
    _, blind = drawn(3, num=110)
    found = low_end(subject(labels), scores, blind, max_fpr=0.1)
    assert found.members.value == 0
    for num_attacks in (1, 12):
        assert "members and" in found.sample.shortage(num_attacks)
        (measure,) = judge([found], {0: 1.0}, is_randomised=True, num_attacks={0: num_attacks})
        assert measure.verdict == "too few records"


def test_where_there_is_no_shortage_the_low_end_finds_half_of_the_members_as_often_as_promised() -> None:
    """Played out: half of the members far above all others, and the blind baseline at chance."""
    rng = np.random.default_rng(0)
    num_attacks, num, num_found, num_enough = 5, 60, 0, 0
    labels = np.arange(2 * num) < num
    for _ in range(200):
        scores = rng.normal(size=2 * num) + 20 * (labels & (rng.random(2 * num) < 0.5))
        found = low_end(subject(labels), scores, rng.normal(size=2 * num), max_fpr=0.1)
        if found.sample.shortage(num_attacks):
            continue
        num_enough += 1
        p_value = raw_p_value(found)
        assert p_value is not None
        num_found += judge([found], {0: num_attacks * p_value}, is_randomised=True)[0].verdict == "leak"
    assert num_enough > 150
    assert num_found / num_enough >= 0.8 - 3 * np.sqrt(0.8 * 0.2 / num_enough)
