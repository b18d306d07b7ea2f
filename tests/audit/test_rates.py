"""Shares and means beside held-out records and the base model."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from confide.audit.judging import Found, Subject, judge, raw_p_value
from confide.audit.rates import mean, rate
from confide.audit.statistics import clopper_pearson, records_for_half, uniformity_p_value
from confide.errors import RunError

Flags = npt.NDArray[np.bool_]
Random = np.random.Generator


def subject(num_members: int, num_others: int) -> Subject:
    labels = np.arange(num_members + num_others) < num_members
    return Subject(view="client", family="extraction", attack="greedy", code="E1", population="personal", labels=labels)


def is_leak(found: Found) -> bool:
    p_value = raw_p_value(found)
    assert p_value is not None
    return judge([found], {0: p_value}, is_randomised=True)[0].verdict == "leak"


def verdict_of(found: Found, num_attacks: int) -> str:
    """With the correction of the worst case."""
    p_value = raw_p_value(found)
    assert p_value is not None
    adjusted = {0: min(1.0, num_attacks * p_value)}
    return judge([found], adjusted, is_randomised=True, num_attacks={0: num_attacks})[0].verdict


def flags(*counts: tuple[int, int]) -> Flags:
    """So many true ones, then false ones, group by group."""
    return np.concatenate([np.arange(size) < number for number, size in counts])


def test_a_rate_is_the_members_share_beside_both_controls() -> None:
    happened, of_base = flags((9, 20), (1, 30)), flags((2, 20), (7, 30))
    found = rate(subject(20, 30), "exact", happened, of_base)
    assert found.members == clopper_pearson(9, 20)
    assert found.controls == {"held_out": clopper_pearson(1, 30), "base": clopper_pearson(2, 20)}
    fisher = stats.fisher_exact([[9, 11], [1, 29]], alternative="greater").pvalue
    assert found.differences["held_out"].p_value == pytest.approx(fisher)
    # McNemar's exact test: seven changed, all of them upwards.
    assert found.differences["base"].p_value == pytest.approx(0.5**7)
    assert is_leak(found)


def test_what_the_base_model_says_too_is_no_leak() -> None:
    happened = flags((20, 20), (0, 20))
    assert is_leak(rate(subject(20, 20), "exact", happened, np.zeros(40, np.bool_)))
    assert not is_leak(rate(subject(20, 20), "exact", happened, happened))


def test_what_comes_out_of_held_out_records_too_is_no_leak() -> None:
    everything = np.ones(40, np.bool_)
    assert not is_leak(rate(subject(20, 20), "exact", everything, ~everything))


@given(st.integers(2, 3), st.floats(0.01, 1.0), st.booleans())
def test_two_or_three_records_that_happen_to_be_equal_are_no_leak(num: int, value: float, is_share: bool) -> None:
    """Without a spread Welch's and Student's tests are certain of any difference. One order of C(6, 3) = 20 is not."""
    values = np.where(np.arange(2 * num) < num, value, 0.0)
    most, of_each = (1.0, None) if is_share else (None, np.ones(2 * num))
    found = mean(subject(num, num), "rouge_l", values, np.zeros(2 * num), most=most, most_of_each=of_each)
    assert not is_leak(found)
    assert found.sample.shortage(1)


def test_differences_between_next_to_nothing_are_no_leak_whatever_their_ratio() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([1e-6 * rng.random(50) + 1e-6, 1e-9 * rng.random(50)])
    found = mean(subject(50, 50), "within_100", values, values * 1e-3, most=1.0)
    assert raw_p_value(found) is not None
    assert not is_leak(found)
    # The smallest probabilities there are do not break it.
    mean(subject(50, 50), "within_100", values * 1e-310, values * 1e-314, most=1.0)


def test_a_mean_that_grew_on_members_alone_is_a_leak() -> None:
    rng = np.random.default_rng(1)
    base = rng.uniform(0.1, 0.4, 60)
    grown = base + np.where(np.arange(60) < 30, 0.3, 0.0)
    for is_share in (True, False):
        most, of_each = (1.0, None) if is_share else (None, np.ones(60))
        found = mean(subject(30, 30), "rouge_l", grown, base, most=most, most_of_each=of_each)
        assert is_leak(found)
        assert found.controls.keys() == {"held_out", "base"}
        # Paired: the same 0.3 everywhere is known far better than either mean.
        paired = found.differences["base"].interval
        assert paired.high - paired.low < 0.5 * (found.members.high - found.members.low)


def test_over_random_coins_p_values_of_means_are_nowhere_too_small() -> None:
    rng = np.random.default_rng(2)
    values = rng.exponential(1.0, 40)
    num_leaks, p_values, ranks = 0, [], []
    for _ in range(200):
        labels = rng.permutation(np.arange(40) < 20)
        one = Subject(view="client", family="exposure", attack="rank", code="", population="", labels=labels)
        found = mean(one, "exposure", values, None, most=None, most_of_each=np.full(40, 10.0))
        p_values.append(found.differences["held_out"].p_value)
        ranks.append(stats.mannwhitneyu(values[labels], values[~labels], alternative="greater").pvalue)
        num_leaks += is_leak(found)
    # The larger of two p-values that are uniform each: at most 5 % below 0.05, give or take 200 draws' three sigmas.
    assert np.mean(np.array(p_values) < 0.05) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)
    assert uniformity_p_value(ranks) > 0.01
    assert (np.array(p_values) >= np.array(ranks) - 0.02).all()  # scipy's is the normal approximation
    assert num_leaks <= 0.05 * 200


def test_a_value_that_is_no_number_stops_it() -> None:
    values = np.ones(40)
    values[3] = np.nan
    with pytest.raises(RunError, match="NaN"):
        mean(subject(20, 20), "rouge_l", values, None, most=None, most_of_each=np.ones(40))


def test_a_mean_that_could_be_anything_is_refused() -> None:
    with pytest.raises(ValueError, match="gain has no bound: expected most_of_each"):
        mean(subject(20, 20), "gain", np.ones(40), None, most=None)


@pytest.mark.parametrize(("num", "num_attacks", "is_enough"), [(12, 1, True), (11, 1, False), (12, 2, False)])
def test_a_shortage_says_how_many_are_needed(num: int, num_attacks: int, is_enough: bool) -> None:
    found = rate(subject(num, 30), "exact", np.zeros(num + 30, np.bool_), np.zeros(num + 30, np.bool_))
    shortage = found.sample.shortage(num_attacks)
    assert (shortage == "") == is_enough
    if not is_enough:
        assert f"at least {records_for_half(num_tests=num_attacks)} of each are needed" in shortage


def test_five_of_eleven_over_three_attacks_are_too_few_and_not_no_evidence() -> None:
    happened = flags((5, 11), (0, 19))
    found = rate(subject(11, 19), "exact", happened, np.zeros(30, np.bool_))
    p_value = raw_p_value(found)
    assert p_value is not None
    assert p_value == pytest.approx(0.5**5)
    (measure,) = judge([found], {0: 3 * p_value}, is_randomised=True, num_attacks={0: 3})
    assert measure.excess is not None
    assert measure.excess.low > 0
    assert measure.verdict == "too few records"
    assert "about 28 members and 49 others are needed" in measure.caveat


@pytest.mark.parametrize(("num", "num_attacks"), [(15, 3), (19, 10)])
def test_where_there_is_no_shortage_half_of_the_members_are_found_as_often_as_promised(
    num: int, num_attacks: int
) -> None:
    """Played out, with the tests of the audit itself and the correction of the worst case."""
    rng = np.random.default_rng(0)
    num_found = 0
    for _ in range(200):
        happened = np.concatenate([rng.random(num) < 0.5, np.zeros(num, np.bool_)])
        found = rate(subject(num, num), "exact", happened, np.zeros(2 * num, np.bool_))
        assert found.sample.shortage(num_attacks) == ""
        num_found += verdict_of(found, num_attacks) == "leak"
    assert num_found / 200 >= 0.8 - 3 * np.sqrt(0.8 * 0.2 / 200)


def exposures(rng: Random, num: int, share: float) -> Found:
    """Among 10,000 secrets: where nothing was learnt every rank is as likely, 1.44 bits on average."""
    most = float(np.log2(10_000))
    values, base = most - np.log2(rng.integers(1, 10_001, (2, 2 * num)))
    values[:num][rng.random(num) < share] = most
    return mean(subject(num, num), "exposure", values, base, most=most)


def overlaps(rng: Random, num: int, share: float) -> Found:
    """Held-out records 0.45 like what was written, and 0.2 under the base model."""
    values, base = rng.beta(4.5, 5.5, 2 * num), rng.beta(2.0, 8.0, 2 * num)
    values[:num][rng.random(num) < share] = 1.0
    return mean(subject(num, num), "rouge_l", values, base, most=1.0)


def runs(rng: Random, num: int, share: float) -> Found:
    """A few tokens in a row by chance, of remainders of 8 to 48."""
    lengths = rng.integers(8, 49, 2 * num).astype(np.float64)
    values, base = np.minimum(lengths, rng.geometric(0.4, (2, 2 * num)))
    is_out = (np.arange(2 * num) < num) & (rng.random(2 * num) < share)
    values = np.where(is_out, lengths, values)
    return mean(subject(num, num), "longest_run", values, base, most=float(lengths.max()), most_of_each=lengths)


def said_to_be_needed(found: Found, num_attacks: int) -> int:
    return int(found.sample.shortage(num_attacks).split("about ")[1].split(" ")[0])


@pytest.mark.parametrize(("play", "num_attacks"), [(exposures, 1), (exposures, 9), (overlaps, 9), (runs, 9)])
def test_a_mean_beside_controls_above_zero_is_found_with_as_many_records_as_it_asks_for_and_not_with_half(
    play: Callable[[Random, int, float], Found], num_attacks: int
) -> None:
    rng = np.random.default_rng(5)
    num = int(np.median([said_to_be_needed(play(rng, 12, 0.5), num_attacks) for _ in range(9)]))

    def verdicts(num_records: int, share: float, num_draws: int) -> list[str]:
        return [verdict_of(play(rng, num_records, share), num_attacks) for _ in range(num_draws)]

    with_enough, with_half, of_nothing = (
        verdicts(num, 0.5, 100),
        verdicts(num // 2, 0.5, 40),
        verdicts(2 * num, 0.0, 100),
    )
    assert with_enough.count("leak") / 100 >= 0.8 - 3 * np.sqrt(0.8 * 0.2 / 100)
    assert with_half.count("leak") / 40 < 0.6
    assert "no evidence" not in with_half
    assert of_nothing.count("leak") / 100 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 100)
    assert of_nothing.count("no evidence") / 100 >= 0.9


def test_each_record_shows_no_more_than_its_own_remainder() -> None:
    """Half of them short: coming out whole moves their mean less than if all were as long as the longest."""
    base = np.tile([2.0, 1.0, 3.0, 2.0], 15)
    lengths = np.where(np.arange(60) % 5 > 0, 4.0, 48.0)
    short = mean(subject(30, 30), "longest_run", base, base, most=48.0, most_of_each=lengths)
    alike = mean(subject(30, 30), "longest_run", base, base, most=48.0)
    assert said_to_be_needed(short, 3) > 30
    assert alike.sample.shortage(3) == ""


def test_where_the_controls_are_at_the_most_no_number_of_records_is_asked_for() -> None:
    ones = np.ones(48)
    for values, base in ((ones, ones), (ones, 0 * ones), (0 * ones, ones)):
        said = mean(subject(24, 24), "rouge_l", values, base, most=1.0).sample.shortage(1)
        assert "hardly anything is left to be found beyond them" in said
        assert not any(letter.isdigit() for letter in said)


def test_controls_that_bring_out_as_much_ask_for_more_records_until_none_are_enough() -> None:
    needed = []
    for num_out in (0, 6, 12, 18):
        found = rate(subject(24, 24), "near", flags((num_out, 24), (num_out, 24)), flags((num_out, 24), (num_out, 24)))
        shortage = found.sample.shortage(3)
        needed.append(int(shortage.split("at least ")[1].split(" ")[0]) if shortage else 24)
    assert needed == sorted(needed)
    assert needed[-1] > 100
    everything = np.ones(48, np.bool_)
    assert "hardly anything is left" in rate(subject(24, 24), "near", everything, everything).sample.shortage(1)
