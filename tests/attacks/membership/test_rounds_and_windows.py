"""Corners of the attacks that compare models token by token or round by round: WBC and trajectories."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.attacks.membership.seen import Seen
from confide.attacks.membership.trajectory import (
    largest_gain_scores,
    standardised_gain_scores,
    summed_gain_scores,
)
from confide.attacks.membership.wbc import WIDTHS, wbc_scores
from tests.attacks.membership.records import seen_of, token_stats


def votes(changes: list[float]) -> float:
    final, base = token_stats([change - 8.0 for change in changes]), token_stats([-8.0] * len(changes))
    return float(wbc_scores(seen_of([final], [base]), "targets")[0])


def test_the_widths_are_the_sources() -> None:
    assert WIDTHS == (2, 3, 4, 6, 9, 13, 18, 25, 32, 40)


def test_a_single_token_votes_for_itself() -> None:
    assert [votes([0.5]), votes([0.0]), votes([-0.5])] == [1.0, 0.0, 0.0]


def test_widths_above_the_length_are_cut_to_it() -> None:
    # Width 2 has the windows (1, -2) and (-2, 3), of which the second gains; all wider ones are the whole, which gains.
    assert votes([1.0, -2.0, 3.0]) == pytest.approx((0.5 + 9 * 1.0) / 10)


def test_a_window_that_gains_as_much_as_it_loses_does_not_vote() -> None:
    assert votes([0.5, -0.5] * 20) == pytest.approx(
        # Even widths cancel; of the odd ones (3, 9, 13, 25) those that start with a gain win.
        sum(np.ceil((41 - width) / 2) / (41 - width) for width in (3, 9, 13, 25)) / 10
    )


@given(st.lists(st.integers(-448, 448).map(lambda number: number / 64), min_size=1, max_size=80))
def test_votes_are_a_share_and_turning_all_changes_turns_them(changes: list[float]) -> None:
    found, turned = votes(changes), votes([-change for change in changes])
    assert 0 <= found <= 1
    assert found + turned <= 1 + 1e-12  # below 1 by the windows that cancel


def rounds_of(levels: list[list[float]], population: list[list[float]] | None = None) -> Seen:
    """Records of two tokens with these mean log-probabilities, [round][record]."""
    rounds = {number: [token_stats([v - 0.5, v + 0.5]) for v in row] for number, row in enumerate(levels)}
    others = {number: [token_stats([v - 0.5, v + 0.5]) for v in row] for number, row in enumerate(population or [])}
    last = rounds[len(levels) - 1]
    return replace(seen_of(last, rounds[0]), rounds=rounds, population_rounds=others)


def test_gains_of_rounds_by_hand() -> None:
    # Gains 1, -0.5, 2 and -1, -1, 0.25: eighths are exact in float32.
    seen = rounds_of([[-4.0, -3.0], [-3.0, -4.0], [-3.5, -5.0], [-1.5, -4.75]])
    assert list(largest_gain_scores(seen, "targets")) == [2.0, 0.25]
    assert list(summed_gain_scores(seen, "targets")) == [3.0, 0.25]


def test_a_missing_round_joins_its_neighbours() -> None:
    seen = rounds_of([[-4.0], [-3.0], [-3.5], [-1.5]])
    rounds = {number: records for number, records in seen.rounds.items() if number != 2}
    found = summed_gain_scores(replace(seen, rounds=rounds), "targets")
    assert list(found) == [1.0 + 1.5]


def test_what_a_round_teaches_everybody_is_taken_off() -> None:
    # Every record gains 1 more in the second round: the members' advantage is what stays.
    calm = rounds_of([[-4.0, -4.0], [-3.0, -3.5]], [[-4.0, -4.0, -4.0], [-3.75, -3.5, -3.25]])
    loud = rounds_of([[-4.0, -4.0], [-2.0, -2.5]], [[-4.0, -4.0, -4.0], [-2.75, -2.5, -2.25]])
    # The population's gains are 0.25, 0.5, 0.75 (+ 1): mean 0.5, sample deviation 0.25.
    assert standardised_gain_scores(calm, "targets") == pytest.approx([2.0, 0.0])
    assert standardised_gain_scores(loud, "targets") == pytest.approx([2.0, 0.0])


def test_a_round_that_changed_nothing_counts_nothing() -> None:
    seen = rounds_of([[-4.0], [-4.0], [-3.0]], [[-4.0, -3.0], [-4.0, -3.0], [-3.75, -2.25]])
    # The second round's population gains 0.25 and 0.75; the first adds 0 to the mean over two.
    expected = (1.0 - 0.5) / np.std([0.25, 0.75], ddof=1) / 2
    assert standardised_gain_scores(seen, "targets") == pytest.approx([expected])
