import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from confide.audit.statistics.area import auc_interval, auc_value
from confide.audit.statistics.sample_size import (
    hanley_mcneil_variance,
    non_members_for_fpr,
    records_for_auc,
    shortage,
    smallest_auc,
    smallest_fpr,
)


@pytest.mark.parametrize(
    ("fpr", "needed"), [(0.1, 100), (0.01, 1000), (0.001, 10_000), (0.0001, 100_000), (0.3, 34), (1, 10)]
)
def test_a_rate_needs_ten_non_members_above_its_threshold(fpr: float, needed: int) -> None:
    assert non_members_for_fpr(fpr) == needed


@given(st.integers(10, 100_000))
def test_what_so_many_resolve_needs_so_many(num: int) -> None:
    assert non_members_for_fpr(smallest_fpr(num)) == num


def test_fewer_than_ten_resolve_nothing() -> None:
    assert smallest_fpr(4) == 1.0


@pytest.mark.parametrize(("true_auc", "num", "num_others"), [(0.6, 20, 30), (0.8, 40, 15)])
def test_the_variance_is_that_of_exponential_scores(true_auc: float, num: int, num_others: int) -> None:
    rng = np.random.Generator(np.random.Philox(1))
    # P(Exp(mean a) > Exp(mean 1)) = a / (1 + a).
    mean = true_auc / (1 - true_auc)
    found = [auc_value(rng.exponential(mean, num), rng.exponential(1, num_others)) for _ in range(4000)]
    # 4000 draws give a variance within sqrt(2 / 4000) = 2.2 %; three of them.
    assert hanley_mcneil_variance(true_auc, num, num_others) == pytest.approx(np.var(found), rel=0.067)


def test_the_variance_without_an_effect_is_mann_and_whitneys() -> None:
    # At AUC 0.5 exponential scores are equal in distribution: (m + n + 1) / (12 m n).
    assert hanley_mcneil_variance(0.5, 7, 12) == pytest.approx(20 / (12 * 7 * 12))


@pytest.mark.parametrize("true_auc", [0.6, 0.7, 0.85, 0.95])
def test_with_the_records_needed_four_of_five_audits_find_it(true_auc: float) -> None:
    rng = np.random.Generator(np.random.Philox(2))
    need = records_for_auc(true_auc)
    shift = np.sqrt(2) * norm.ppf(true_auc)
    found = sum(
        auc_interval(rng.normal(shift, 1, need.members), rng.normal(0, 1, need.non_members)).interval.low > 0.5
        for _ in range(400)
    )
    # 80 % of 400 are 320, standard deviation 8; scores are normal here and not exponential as in the formula, and for
    # strong attacks the numbers are so small that one record more or less moves the power by some percent.
    assert found >= 320 - 3 * 8
    assert found <= 390


def test_with_much_fewer_records_most_audits_miss_it() -> None:
    rng = np.random.Generator(np.random.Philox(3))
    num = records_for_auc(0.7).members // 2
    shift = np.sqrt(2) * norm.ppf(0.7)
    found = sum(auc_interval(rng.normal(shift, 1, num), rng.normal(0, 1, num)).interval.low > 0.5 for _ in range(200))
    assert found < 130


def test_weaker_attacks_need_more_records() -> None:
    needs = [records_for_auc(true_auc).members for true_auc in (0.99, 0.9, 0.8, 0.7, 0.6, 0.55, 0.51)]
    assert needs == sorted(needs)
    assert needs[-1] > 10_000


def test_more_power_needs_more_records_and_more_non_members_spare_members() -> None:
    assert records_for_auc(0.65, power=0.95).members > records_for_auc(0.65).members
    ample = records_for_auc(0.65, members_per_non_member=0.1)
    assert ample.non_members == 10 * ample.members
    assert ample.members < records_for_auc(0.65).members


@pytest.mark.parametrize("num", [8, 20, 75, 400])
def test_the_smallest_auc_is_the_one_that_needs_so_many(num: int) -> None:
    found = smallest_auc(num, num)
    assert records_for_auc(found + 0.001).members <= num
    assert records_for_auc(found - 0.002).members > num


def test_five_records_show_nothing() -> None:
    assert smallest_auc(5, 1000) == 1.0
    assert auc_interval(np.arange(5) + 2000.0, np.arange(1000)).interval.low < 0.5
    assert smallest_auc(6, 1000) < 1.0
    assert auc_interval(np.arange(6) + 2000.0, np.arange(1000)).interval.low > 0.5


def test_says_how_many_are_needed() -> None:
    need = records_for_auc(0.6).members
    assert shortage(12, 12, auc=0.6) == (
        f"12 members and 12 non-members show only an AUC above {smallest_auc(12, 12):.2f}; "
        f"to find one of 0.60, {need} of each are needed."
    )
    assert shortage(3, 300, auc=0.75).startswith("3 members and 300 non-members cannot show any AUC")
    assert shortage(need, need, auc=0.6) == ""
    assert shortage(need - 1, need - 1, auc=0.6) != ""


def test_arguments_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"auc is 0.5, expected above 0.5 and below 1"):
        records_for_auc(0.5)
    with pytest.raises(ValueError, match=r"too close to 0.5"):
        records_for_auc(0.500001)
    with pytest.raises(ValueError, match=r"power is 0.2"):
        smallest_auc(10, 10, power=0.2)
    with pytest.raises(ValueError, match="there are 0 members and 5 non-members"):
        shortage(0, 5, auc=0.6)
    with pytest.raises(ValueError, match="fpr is 0, expected above 0"):
        non_members_for_fpr(0)
    with pytest.raises(ValueError, match="num_non_members is 0"):
        smallest_fpr(0)
    with pytest.raises(ValueError, match="members_per_non_member is 0"):
        records_for_auc(0.6, members_per_non_member=0)
