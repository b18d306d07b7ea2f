"""Corners of the attacks on one model's log-probabilities: loss, zlib, lower-cased twins, Min-K%."""

import math
from dataclasses import replace

import pytest

from confide.attacks.membership.loss import MIN_LOSS, lowercase_scores, zlib_scores
from confide.attacks.membership.min_k import MIN_STD, min_k_plus_plus_scores, min_k_scores
from confide.attacks.membership.reference import ratio_scores
from confide.attacks.token_stats import TokenStats
from tests.attacks.membership.records import seen_of, token_stats


def alone(stats: TokenStats) -> float:
    return float(min_k_scores(seen_of([stats], [stats]), "targets")[0])


def alone_standardised(stats: TokenStats) -> float:
    return float(min_k_plus_plus_scores(seen_of([stats], [stats]), "targets")[0])


@pytest.mark.parametrize(("num_tokens", "num_counted"), [(1, 1), (4, 1), (5, 1), (9, 1), (10, 2), (14, 2), (15, 3)])
def test_a_fifth_of_the_tokens_counts_and_at_least_one(num_tokens: int, num_counted: int) -> None:
    logp = [-float(place) for place in range(num_tokens)]
    assert alone(token_stats(logp)) == sum(sorted(logp)[:num_counted]) / num_counted


def test_a_certain_token_is_as_likely_as_expected_whatever_its_spread() -> None:
    assert alone_standardised(token_stats([0.0], mean=[0.0], std=[0.0])) == 0.0


def test_a_ruled_out_token_is_far_below_expectation_and_finite() -> None:
    found = alone_standardised(token_stats([-30.0], mean=[0.0], std=[0.0]))
    assert found == pytest.approx(-30.0 / MIN_STD)


def test_a_spread_above_the_floor_is_used_as_it_is() -> None:
    # 0.03125 = 2**-5: exact.
    assert alone_standardised(token_stats([-2.0], mean=[-1.0], std=[0.03125])) == -32.0


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1, math.nan])
def test_a_share_out_of_range_is_refused(share: float) -> None:
    seen = seen_of([token_stats([-1.0])], [token_stats([-1.0])])
    with pytest.raises(ValueError, match="share is"):
        min_k_scores(seen, "targets", share=share)
    with pytest.raises(ValueError, match="share is"):
        min_k_plus_plus_scores(seen, "targets", share=share)


def test_a_share_of_one_is_the_mean() -> None:
    seen = seen_of([token_stats([-1.0, -2.0, -6.0])], [token_stats([-1.0] * 3)])
    assert min_k_scores(seen, "targets", share=1.0)[0] == -3.0


def test_repetitive_text_counts_less_by_zlib() -> None:
    stats = token_stats([-0.5] * 40)
    repetitive, varied = "ab " * 40, "".join(chr(33 + 7 * place % 90) for place in range(120))
    found = zlib_scores(seen_of([stats, stats], [stats, stats], [repetitive, varied]), "targets")
    assert found[0] < found[1]


def test_an_empty_and_a_foreign_text_have_a_zlib_score() -> None:
    stats = token_stats([-0.5])
    found = zlib_scores(seen_of([stats, stats], [stats, stats], ["", "東京大学 \U0001f600"]), "targets")
    # Nothing takes 8 bytes in the zlib format.
    assert found[0] == -0.5 / 8
    assert -0.5 / 8 < found[1] < 0


def test_ratios_with_a_perfect_prediction_are_finite_and_ranked_by_the_way_there() -> None:
    perfect, one, two = token_stats([0.0, 0.0]), token_stats([-1.0, -1.0]), token_stats([-2.0, -2.0])
    found = ratio_scores(seen_of([perfect, perfect, perfect], [perfect, one, two]), "targets")
    assert found == pytest.approx([1.0, 1 / MIN_LOSS, 2 / MIN_LOSS])


def test_a_perfect_prediction_is_the_highest_lowercase_score() -> None:
    perfect, one = token_stats([0.0]), token_stats([-1.0])
    seen = replace(seen_of([perfect, one], [one, one]), lower=[one, one])
    assert lowercase_scores(seen, "targets") == pytest.approx([-MIN_LOSS, -1.0])


def test_the_lower_cased_twin_may_have_another_length() -> None:
    one, twin = token_stats([-1.0, -1.0]), token_stats([-2.0, -4.0, -3.0])
    seen = replace(seen_of([one], [one]), lower=[twin])
    assert lowercase_scores(seen, "targets") == pytest.approx([-1 / 3])
