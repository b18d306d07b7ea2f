import itertools
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.prune.schedules import ConstantSparsity, RampSparsity, SparsitySchedule, kept_count, scaled_ramp

PAPER = RampSparsity(start_round=40, end_round=200, initial_sparsity=0.2, target=0.5)


def published_rate(t: int) -> float:
    """The published formula and its guard, word for word; t from 0."""
    t_start, t_end, p_init, p_target = 40, 200, 0.2, 0.5
    if t < t_start:
        return 0.0
    return max(0, (t - t_start) / (t_end - t_start)) * (p_target - p_init) + p_init


shares = st.floats(0, 0.99)


@st.composite
def ramps(draw: st.DrawFn) -> RampSparsity:
    initial, target = sorted((draw(shares), draw(shares)))
    start = draw(st.floats(0, 50))
    end = start + draw(st.floats(0.01, 50))
    return RampSparsity(start_round=start, end_round=end, initial_sparsity=initial, target=target)


schedules: st.SearchStrategy[SparsitySchedule] = st.one_of(shares.map(lambda s: ConstantSparsity(target=s)), ramps())


@given(schedules)
def test_every_schedule_stays_in_its_range_and_never_falls(schedule: SparsitySchedule) -> None:
    found = [schedule.sparsity(number) for number in range(1, 120)]
    assert all(0 <= sparsity < 1 for sparsity in found)
    assert all(before <= after for before, after in itertools.pairwise(found))


@given(schedules, st.integers(-5, 0))
def test_rounds_are_counted_from_one(schedule: SparsitySchedule, number: int) -> None:
    with pytest.raises(ValueError, match=f"round_number is {number}; rounds are counted from 1"):
        schedule.sparsity(number)


def test_a_constant_is_the_same_in_every_round() -> None:
    assert {ConstantSparsity(target=0.3).sparsity(number) for number in (1, 2, 1000)} == {0.3}


def test_the_ramp_is_the_papers_formula_in_its_200_rounds() -> None:
    assert [PAPER.sparsity(t + 1) for t in range(200)] == [published_rate(t) for t in range(200)]


def test_the_ramp_starts_unpruned_and_does_not_reach_its_target_inside_the_run() -> None:
    assert {PAPER.sparsity(number) for number in range(1, 41)} == {0.0}
    # The three values that PAPERS section 1.5 gives for t = 40, 100, 199.
    found = [PAPER.sparsity(t + 1) for t in (40, 100, 199)]
    assert found == pytest.approx([0.2, 0.3125, 0.498125])


def test_the_ramp_holds_its_target_where_the_published_code_fails() -> None:
    assert published_rate(467) > 1  # round 468: more than everything
    assert {PAPER.sparsity(number) for number in (201, 202, 468, 10**6)} == {0.5}


@pytest.mark.parametrize(
    ("num_rounds", "expected"),
    [(5, {1: 0.0, 2: 0.2, 3: 0.275, 5: 0.425}), (50, {10: 0.0, 11: 0.2, 31: 0.35, 50: 0.4925})],
)
def test_the_scaled_ramp_keeps_the_papers_shape(num_rounds: int, expected: dict[int, float]) -> None:
    ramp = scaled_ramp(num_rounds)
    assert {number: ramp.sparsity(number) for number in expected} == pytest.approx(expected)
    assert ramp.sparsity(num_rounds + 1) == 0.5


def test_over_200_rounds_the_scaled_ramp_is_the_papers() -> None:
    assert scaled_ramp(200) == PAPER


@given(st.integers(1, 500), st.data())
def test_a_scaled_ramp_has_the_value_of_the_papers_line_at_the_same_share_of_the_run(
    num_rounds: int, data: st.DataObject
) -> None:
    number = data.draw(st.integers(1, num_rounds))
    t = Fraction(200 * (number - 1), num_rounds)
    exact = float(Fraction(1, 5) + (t - 40) / 160 * Fraction(3, 10)) if t >= 40 else 0.0
    # Four float operations, each off by at most 2^-53 of values below 1.
    assert scaled_ramp(num_rounds).sparsity(number) == pytest.approx(exact, abs=1e-15)


def test_a_scaled_ramp_leads_to_the_target_asked_for() -> None:
    ramp = scaled_ramp(10, initial_sparsity=0.5, target=0.9)
    assert [ramp.sparsity(number) for number in (2, 3, 7, 11)] == pytest.approx([0.0, 0.5, 0.7, 0.9])


@given(st.integers(1, 10**8), st.floats(0, 1))
def test_a_kept_count_is_the_nearest_number_and_at_least_one(num_values: int, sparsity: float) -> None:
    found = kept_count(num_values, sparsity)
    assert 1 <= found <= num_values
    exact = num_values * (1 - Fraction(sparsity))
    # float64 loses at most 2^-26 here: two roundings of numbers up to 1e8 < 2^27.
    assert found == 1 or abs(found - exact) <= Fraction(1, 2) + Fraction(1, 2**25)


@given(st.integers(1, 10**8), st.floats(0, 1), st.floats(0, 1))
def test_a_higher_sparsity_never_keeps_more(num_values: int, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert kept_count(num_values, high) <= kept_count(num_values, low)


@pytest.mark.parametrize(
    ("num_values", "sparsity", "expected"),
    [(10, 0.0, 10), (5, 0.5, 3), (3, 0.5, 2), (10, 0.26, 7), (10, 0.24, 8), (10, 1.0, 1), (1, 0.99, 1)],
)
def test_a_half_is_rounded_up(num_values: int, sparsity: float, expected: int) -> None:
    assert kept_count(num_values, sparsity) == expected


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({"target": 1.0}, r"target is 1.0, expected at least 0 and less than 1"),
        ({"target": float("nan")}, r"target is nan"),
        ({"initial_sparsity": -0.1}, r"initial_sparsity is -0.1"),
        ({"initial_sparsity": 0.6}, r"target is 0.5, expected at least initial_sparsity, 0.6"),
        ({"start_round": 200}, r"start_round is 200 and end_round 200, expected 0 <= start < end"),
        ({"start_round": -1}, r"start_round is -1"),
    ],
)
def test_a_ramp_that_makes_no_sense_is_refused(named: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RampSparsity(**{"start_round": 40, "end_round": 200, "initial_sparsity": 0.2, "target": 0.5} | named)


def test_numbers_out_of_range_are_named() -> None:
    with pytest.raises(ValueError, match=r"target is 1, expected .* less than 1: at 1 nothing would be left"):
        ConstantSparsity(target=1)
    with pytest.raises(ValueError, match="num_rounds is 0, expected at least 1"):
        scaled_ramp(0)
    with pytest.raises(ValueError, match="num_values is 0, expected at least 1"):
        kept_count(0, 0.5)
    with pytest.raises(ValueError, match=r"sparsity is 1\.5, expected 0 to 1"):
        kept_count(10, 1.5)
