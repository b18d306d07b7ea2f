import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.attacks.membership.ez import SMOOTHING, ez_scores, published_ez_scores
from confide.attacks.token_stats import TokenStats
from tests.attacks.membership.records import seen_of, token_stats


def ez(final: TokenStats, base: TokenStats) -> float:
    return float(ez_scores(seen_of([final], [base]), "targets")[0])


def published(final: TokenStats, base: TokenStats) -> float:
    return float(published_ez_scores(seen_of([final], [base]), "targets")[0])


def errors(changes: list[float]) -> tuple[TokenStats, TokenStats]:
    """A record of error tokens only, and the base model's, so that d is `changes` to about 2**-22."""
    return token_stats([change - 8.0 for change in changes]), token_stats([-8.0] * len(changes))


def right(changes: list[float]) -> tuple[TokenStats, TokenStats]:
    """The same with every token the likeliest."""
    final, base = errors(changes)
    return token_stats(list(map(float, final.logp)), is_top=[True] * len(changes)), base


# Multiples of 1/64 between -7 and 7: exact in float32, also beside 8.
changes = st.integers(-448, 448).map(lambda number: number / 64)
mixed = st.lists(changes, min_size=2, max_size=30).filter(lambda d: max(d) > 0 > min(d))


@given(mixed)
def test_on_mixed_errors_it_is_the_log_of_the_published_score_up_to_the_smoothing(d: list[float]) -> None:
    final, base = errors(d)
    up, down = sum(v for v in d if v > 0), -sum(v for v in d if v < 0)
    assert published(final, base) == pytest.approx(up / down, rel=1e-12)
    # |log((up + c) / up)| <= c / up, and the same below the line; 1e-12 for the rounding.
    assert abs(ez(final, base) - math.log(up / down)) <= SMOOTHING / up + SMOOTHING / down + 1e-12


@given(mixed)
def test_without_smoothing_it_is_the_log_of_the_published_score(d: list[float]) -> None:
    final, base = errors(d)
    found = ez_scores(seen_of([final], [base]), "targets", smoothing=1e-9)[0]
    # up and down are at least 1/64, so the smoothing moves each logarithm by less than 64e-9.
    assert found == pytest.approx(math.log(published(final, base)), abs=2e-7)


def test_when_no_error_lost_the_published_score_is_the_least_and_ours_is_high() -> None:
    mixed_record, gaining = errors([2.0, -1.0, 0.5]), errors([2.0, 1.0, 0.5])
    assert published(*gaining) == 0.0 < published(*mixed_record)
    assert ez(*gaining) == pytest.approx(math.log(3.6 / 0.1))
    assert ez(*gaining) > ez(*mixed_record)


def test_when_no_error_is_left_the_published_score_is_the_least_and_ours_is_high() -> None:
    mixed_record, learnt = errors([2.0, -1.0, 0.5]), right([2.0, 3.0, 1.0])
    assert published(*learnt) == 0.0 < published(*mixed_record)
    assert ez(*learnt) == pytest.approx(math.log(1 + 6.0 / 0.1))
    assert ez(*learnt) > ez(*mixed_record)


def test_with_one_error_left_all_tokens_count() -> None:
    final = token_stats([-1.0, -0.1, -0.2], is_top=[False, True, True])
    base = token_stats([-0.5, -2.1, -1.2])
    assert published(final, base) == 0.0  # its only error token lost: 0 gained over 0.5 lost
    # d = -0.5 + 2 + 1; float32 rounds each number near 2 by less than 2e-7, the logarithm's slope is 1 / 2.6.
    assert ez(final, base) == pytest.approx(math.log(2.6 / 0.1), abs=1e-6)


@pytest.mark.parametrize("record", [errors, right])
def test_an_untrained_model_gives_zero_in_both_regimes(record: type) -> None:
    assert ez(*record([0.0, 0.0, 0.0])) == 0.0


@given(st.lists(st.lists(changes, min_size=1, max_size=10), min_size=2, max_size=8))
def test_records_without_errors_rank_as_by_their_whole_gain(records: list[list[float]]) -> None:
    ordered = sorted(records, key=sum)
    scores = [ez(*right(d)) for d in ordered]
    for (lower, higher), (first, second) in zip(itertools.pairwise(scores), itertools.pairwise(ordered), strict=True):
        assert (lower < higher) == (sum(first) < sum(second))


@given(st.floats(0.015625, 6.0, width=32))
def test_the_two_kinds_meet_where_errors_gain_as_much_and_lose_nothing(gain: float) -> None:
    # float32 rounds near 8 by less than 5e-7 a token, and the logarithm's slope is at most 1 / c = 10.
    assert ez(*right([gain / 2, gain / 2])) == pytest.approx(ez(*errors([gain / 2, gain / 2])), abs=1e-5)


@given(st.lists(changes, min_size=1, max_size=30), st.lists(st.booleans(), min_size=30, max_size=30))
def test_scores_stay_in_their_range(d: list[float], is_top: list[bool]) -> None:
    final, base = errors(d)
    final = token_stats(list(map(float, final.logp)), is_top=is_top[: len(d)])
    assert abs(ez(final, base)) <= math.log(1 + sum(map(abs, d)) / SMOOTHING) + 1e-12


def test_swapping_gains_and_losses_turns_the_sign() -> None:
    d = [2.0, -1.0, 0.5, -0.25]
    assert ez(*errors([-v for v in d])) == pytest.approx(-ez(*errors(d)))
    assert ez(*right([-v for v in d])) == pytest.approx(-ez(*right(d)))


def test_smoothing_must_be_positive() -> None:
    with pytest.raises(ValueError, match="smoothing is 0, expected more than 0"):
        ez_scores(seen_of([token_stats([-1.0])], [token_stats([-1.0])]), "targets", smoothing=0)


def test_the_published_ranking_puts_the_best_learnt_below_the_rest() -> None:
    """The reason for the change, on one ranking: a learnt record, one that only gained, one mixed, one that lost."""
    records = [right([4.0, 4.0]), errors([3.0, 3.0]), errors([1.0, -0.5]), errors([-1.0, 0.5])]
    seen = seen_of([final for final, _ in records], [base for _, base in records])
    assert list(np.argsort(ez_scores(seen, "targets"))) == [3, 2, 1, 0]
    assert set(np.argsort(published_ez_scores(seen, "targets"))[:2]) == {0, 1}
