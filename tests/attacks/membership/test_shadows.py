"""LiRA and RMIA on matrices of statistics."""

import math

import numpy as np
import pytest
from scipy.stats import norm

from confide.attacks.membership.lira import offline_lira, online_lira
from confide.attacks.membership.positions import mean_log_probs
from confide.attacks.membership.reference import difference_scores
from confide.attacks.membership.rmia import rmia
from tests.attacks.membership.records import make

RNG = np.random.default_rng(4)
TRAINED_ON = RNG.permuted(np.tile(np.arange(16) % 2 == 0, (50, 1)), axis=1).T  # (16 shadows, 50 records)
HARDNESS = RNG.normal(-3.0, 1.0, 50)
SHADOWS = HARDNESS + 0.5 * TRAINED_ON + RNG.normal(0.0, 0.2, (16, 50))


def test_online_lira_is_the_ratio_of_two_normal_densities() -> None:
    target = HARDNESS + RNG.normal(0.25, 0.3, 50)
    groups = {side: [SHADOWS[TRAINED_ON[:, i] == side, i] for i in range(50)] for side in (True, False)}
    # Every group has 8 values, so the pooled variance is the mean of the groups' sample variances.
    spread = {side: math.sqrt(np.mean([np.var(group, ddof=1) for group in groups[side]])) for side in groups}
    expected = [
        norm.logpdf(target[i], np.mean(groups[True][i]), spread[True])
        - norm.logpdf(target[i], np.mean(groups[False][i]), spread[False])
        for i in range(50)
    ]
    # Squares of up to 10 standard deviations, rounded at 2**-53.
    np.testing.assert_allclose(online_lira(target, SHADOWS, TRAINED_ON), expected, rtol=1e-11, atol=1e-11)


def test_offline_lira_orders_like_the_upper_tail_and_does_not_saturate() -> None:
    target = HARDNESS + np.linspace(-1.0, 1.0, 50)
    scores = offline_lira(target, SHADOWS, TRAINED_ON)
    tails = 1 - norm.sf(scores)
    order = np.argsort(scores)
    assert (np.diff(tails[order]) >= 0).all()
    far = offline_lira(HARDNESS + np.linspace(10.0, 20.0, 50), SHADOWS, TRAINED_ON)
    assert len(set((1 - norm.sf(far)).tolist())) == 1  # every tail has rounded to 1
    assert len(set(far.tolist())) == 50


def test_only_shadows_without_the_record_count_offline() -> None:
    target = HARDNESS + 0.1
    changed = np.where(TRAINED_ON, 77.0, SHADOWS)
    assert np.array_equal(offline_lira(target, changed, TRAINED_ON), offline_lira(target, SHADOWS, TRAINED_ON))


def test_how_hard_a_record_is_does_not_matter_to_lira() -> None:
    shift = RNG.normal(0.0, 10.0, 50)
    target = HARDNESS + 0.3
    for lira in (online_lira, offline_lira):
        found = lira(target + shift, SHADOWS + shift, TRAINED_ON)
        # Numbers up to 40 rounded at 2**-53, over a spread of 0.2 and squared against a mean a few spreads off.
        np.testing.assert_allclose(found, lira(target, SHADOWS, TRAINED_ON), rtol=1e-9, atol=1e-9)


def test_equal_shadows_give_finite_scores() -> None:
    shadows = np.full((4, 3), -1.0)
    trained_on = np.array([[True] * 3, [True] * 3, [False] * 3, [False] * 3])
    assert np.isfinite(online_lira(np.array([-2.0, -1.0, 0.0]), shadows, trained_on)).all()
    assert list(np.sign(offline_lira(np.array([-2.0, -1.0, 0.0]), shadows, trained_on))) == [-1, 0, 1]


def test_lira_needs_shadows_on_both_sides_and_a_spread() -> None:
    target = np.zeros(3)
    with pytest.raises(ValueError, match="3 of 3 records have no shadow on one side"):
        online_lira(target, np.zeros((2, 3)), np.zeros((2, 3), np.bool_))
    with pytest.raises(ValueError, match="1 of 3 records have no shadow on one side"):
        offline_lira(target, np.zeros((2, 3)), np.array([[True, False, False], [True, True, False]]))
    with pytest.raises(ValueError, match="no record has two shadows on the same side"):
        offline_lira(target, np.zeros((1, 3)), np.zeros((1, 3), np.bool_))


def ratio(target: float, references: list[float], a: float) -> float:
    p_out = sum(map(math.exp, references)) / len(references)
    return math.exp(target) / (0.5 * ((1 + a) * p_out + 1 - a))


@pytest.mark.parametrize("a", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("num_references", [1, 4, 16])
def test_rmia_counts_population_records_pair_by_pair(a: float, gamma: float, num_references: int) -> None:
    rng = np.random.default_rng(num_references)
    target, population = rng.normal(-1.5, 0.5, 20), rng.normal(-1.8, 0.5, 30)
    references = rng.normal(-1.8, 0.5, (num_references, 20))
    population_references = rng.normal(-1.8, 0.5, (num_references, 30))
    found = rmia(
        target=target,
        references=references,
        population_target=population,
        population_references=population_references,
        offline_a=a,
        gamma=gamma,
    )
    x = [ratio(target[i], list(references[:, i]), a) for i in range(20)]
    z = [ratio(population[i], list(population_references[:, i]), a) for i in range(30)]
    # Equal counts: no two of these random ratios are within rounding of each other times gamma.
    assert list(found) == [sum(one / other >= gamma for other in z) / 30 for one in x]


def test_references_trained_on_a_record_do_not_count_for_it() -> None:
    references = np.array([[-1.0, np.nan], [np.nan, -3.0]])
    found = rmia(
        target=np.array([-1.5, -1.5]),
        references=references,
        population_target=np.array([-1.0, -1.0]),
        population_references=np.array([[-1.0, -1.25], [-1.0, -1.25]]),
    )
    # Ratios e^-0.5 and e^1.5 against 1 and e^0.25.
    assert list(found) == [0.0, 1.0]


def test_where_the_target_is_the_reference_all_records_tie_to_the_bit() -> None:
    level = RNG.normal(-2.0, 0.5, 50)
    found = rmia(target=level, references=level[None], population_target=level, population_references=level[None])
    assert list(found) == [1.0] * 50


def test_with_the_base_model_as_reference_rmia_orders_like_the_reference_attack() -> None:
    seen = make(8, effect=0.05, num_population=500).seen
    found = rmia(
        target=mean_log_probs(seen.final, "targets"),
        references=mean_log_probs(seen.base, "targets")[None],
        population_target=mean_log_probs(seen.population_final, "targets"),
        population_references=mean_log_probs(seen.population_rounds[0], "targets")[None],
    )
    by_difference = found[np.argsort(difference_scores(seen, "targets"))]
    assert (np.diff(by_difference) >= 0).all()
    assert len(set(found.tolist())) > 10


def one_record(references: float = -1.0, offline_a: float = 1.0, gamma: float = 1.0, num_population: int = 1) -> None:
    rmia(
        target=np.array([-1.0]),
        references=np.array([[references]]),
        population_target=np.full(num_population, -1.0),
        population_references=np.full((1, num_population), -1.0),
        offline_a=offline_a,
        gamma=gamma,
    )


def test_rmia_refuses_what_it_cannot_use() -> None:
    with pytest.raises(ValueError, match="a record has no reference model that was not trained on it"):
        one_record(references=math.nan)
    with pytest.raises(ValueError, match="no population record"):
        one_record(num_population=0)
    with pytest.raises(ValueError, match=r"offline_a is 1\.5"):
        one_record(offline_a=1.5)
    with pytest.raises(ValueError, match=r"gamma 0"):
        one_record(gamma=0.0)
