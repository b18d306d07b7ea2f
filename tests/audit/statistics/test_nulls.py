import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.audit.statistics.area import auc_value
from confide.audit.statistics.nulls import permutation_test, shuffle_coins, uniformity_p_value
from confide.audit.statistics.rank_test import rank_p_value
from confide.errors import DataError

ROWS = st.lists(st.tuples(st.booleans(), st.sampled_from("abc")), min_size=1, max_size=30)


@given(ROWS, st.integers(0, 1000))
def test_every_owner_keeps_its_number_of_members(rows: list[tuple[bool, str]], seed: int) -> None:
    labels, owners = (np.array(column) for column in zip(*rows, strict=True))
    shuffled = shuffle_coins(labels, owners, np.random.default_rng(seed))
    for owner in "abc":
        assert shuffled[owners == owner].sum() == labels[owners == owner].sum()


def test_every_choice_within_owners_is_equally_likely() -> None:
    labels = np.array([True, False, True, False, False])
    owners = np.array(["b", "a", "a", "b", "a"])
    rng = np.random.default_rng(1)
    counts: dict[tuple[bool, ...], int] = {}
    for _ in range(6000):
        key = tuple(shuffle_coins(labels, owners, rng).tolist())
        counts[key] = counts.get(key, 0) + 1
    # One of two for b times one of three for a: six choices, 1000 times each, standard deviation 28.9.
    assert len(counts) == 6
    assert all(abs(count - 1000) < 4 * 28.9 for count in counts.values())


def test_equals_going_through_all_choices() -> None:
    scores = np.array([3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0])
    labels = np.array([True, False, True, False, True, True, False, False])
    owners = list("aaaabbbb")
    observed = auc_value(scores[labels], scores[~labels])
    reached = []
    for left, right in itertools.product(itertools.combinations(range(4), 2), itertools.combinations(range(4, 8), 2)):
        chosen = np.isin(np.arange(8), left + right)
        reached.append(auc_value(scores[chosen], scores[~chosen]) >= observed)
    expected = np.mean(reached)
    found = permutation_test(scores, labels, owners, seed=0, num_permutations=4000)
    assert found.value == observed
    # 4000 shuffles: standard deviation at most 0.5 / sqrt(4000) = 0.8 %.
    assert found.p_value == pytest.approx(float(expected), abs=0.024)


def test_one_owner_gives_the_rank_test() -> None:
    rng = np.random.Generator(np.random.Philox(2))
    labels = np.arange(60) < 30
    scores = rng.normal(size=60) + 0.3 * labels
    found = permutation_test(scores, labels, ["a"] * 60, seed=0, num_permutations=4000)
    assert found.p_value == pytest.approx(rank_p_value(scores[labels], scores[~labels]), abs=0.024)  # as above
    assert found.null_mean == pytest.approx(0.5, abs=0.004)  # 0.075 / sqrt(4000), three times


def test_p_values_of_true_coins_without_an_effect_are_uniform() -> None:
    rng = np.random.Generator(np.random.Philox(3))
    owners = [f"clinic-{number % 3}" for number in range(90)]
    level = np.array([number % 3 for number in range(90)])
    p_values = []
    for seed in range(200):
        coins = rng.random(90) < np.array([0.3, 0.5, 0.7])[level]
        scores = rng.normal(size=90) + 2.0 * level  # owners differ in scores and in their share of members
        p_values.append(permutation_test(scores, coins, owners, seed=seed, num_permutations=99).p_value)
    # 99 shuffles give p-values in hundredths; that moves the largest distance by at most 0.01, of 0.115 at 1 %.
    assert uniformity_p_value(p_values) > 0.01


def test_whose_record_it_is_does_not_count_as_membership() -> None:
    rng = np.random.Generator(np.random.Philox(4))
    owners = ["a"] * 50 + ["b"] * 50
    is_b = np.arange(100) >= 50
    labels = np.concatenate([np.arange(50) < 5, np.arange(50) < 45])  # nearly all members are b's
    scores = rng.normal(size=100) + 3.0 * is_b
    found = permutation_test(scores, labels, owners, seed=0)
    assert found.value > 0.85
    assert found.null_mean > 0.85
    assert found.p_value > 0.05
    assert rank_p_value(scores[labels], scores[~labels]) < 1e-6  # what ignoring owners would have said


def test_an_effect_gives_the_smallest_p_value_there_is() -> None:
    labels = np.arange(40) % 2 == 0
    found = permutation_test(labels * 1.0, labels, ["a"] * 40, seed=0, num_permutations=99)
    assert found.p_value == 0.01
    assert found.null_high < found.value == 1.0


def test_the_seed_decides_and_another_statistic_can_be_asked() -> None:
    rng = np.random.Generator(np.random.Philox(5))
    scores, labels, owners = rng.normal(size=30), np.arange(30) < 12, ["a", "b", "c"] * 10
    found = permutation_test(scores, labels, owners, seed=1)
    assert permutation_test(scores, labels, owners, seed=1) == found
    assert permutation_test(scores, labels, owners, seed=2) != found
    means = permutation_test(
        scores, labels, owners, seed=1, statistic=lambda members, others: float(members.mean() - others.mean())
    )
    assert means.value == pytest.approx(scores[labels].mean() - scores[~labels].mean())


def test_uniformity_is_told_from_a_test_that_rejects_too_often() -> None:
    rng = np.random.Generator(np.random.Philox(6))
    assert uniformity_p_value(rng.random(200)) > 0.01
    assert uniformity_p_value(rng.random(200) ** 2) < 1e-6
    assert uniformity_p_value(np.sqrt(rng.random(200))) < 1e-6


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="num_permutations is 10, expected at least 19"):
        permutation_test([1.0, 2.0], [True, False], ["a", "a"], seed=0, num_permutations=10)
    with pytest.raises(ValueError, match="owners has 1 names, expected 2"):
        permutation_test([1.0, 2.0], [True, False], ["a"], seed=0)
    with pytest.raises(DataError, match="3 p-values cannot show that they are uniform"):
        uniformity_p_value([0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match=r"p-values range from 0.1 to 2, expected 0 to 1"):
        uniformity_p_value([0.1] * 10 + [2.0])
