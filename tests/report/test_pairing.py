"""Differences record by record: as references give them, and nothing where records do not match."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, norm, ttest_rel, wilcoxon

from confide.audit.results import Asked, Measure, Number, OutcomeKind, Outcomes
from confide.audit.statistics import Difference, uniformity_p_value
from confide.report.pairing import Paired, paired
from tests.report.audits import measure

Floats = npt.NDArray[np.float64]

RNG = np.random.Generator(np.random.Philox(11))
KEYS = Asked(members=list(range(30)), others=list(range(100, 140)))


def _measure(
    kind: OutcomeKind,
    members: npt.ArrayLike,
    others: npt.ArrayLike,
    base: npt.ArrayLike | None = None,
    controls: Sequence[str] = ("held_out", "base"),
) -> Measure:
    def numbers(values: npt.ArrayLike) -> list[Number]:
        found: list[Number] = np.asarray(values, np.float64).tolist()
        return found

    made = measure()
    return made.model_copy(
        update={
            "controls": dict.fromkeys(controls, made.members),
            "outcomes": Outcomes(
                asked="all",
                kind=kind,
                members=numbers(members),
                others=numbers(others),
                base=None if base is None else numbers(base),
            ),
        }
    )


def _random(kind: OutcomeKind, rng: np.random.Generator) -> Measure:
    members, others, base = (rng.integers(0, 2, num) for num in (30, 40, 30))
    return _measure(kind, members, others, base)


def _pair(first: Measure, second: Measure, asked: Asked = KEYS, others_asked: Asked = KEYS) -> Paired:
    found = paired((first, {"all": asked}), (second, {"all": others_asked}))
    assert found is not None
    return found


def _flags(share: float, num: int) -> npt.NDArray[np.bool_]:
    return RNG.random(num) < share


def test_flags_are_compared_by_mcnemars_exact_test() -> None:
    before, after = _flags(0.6, 30), _flags(0.2, 30)
    found = _pair(_measure("flag", before, np.zeros(40)), _measure("flag", after, np.zeros(40))).members
    gone, new = int((before & ~after).sum()), int((~before & after).sum())
    assert found.p_value == pytest.approx(binomtest(new, gone + new, 0.5).pvalue)
    assert found.interval.value == pytest.approx((new - gone) / 30)
    assert found.interval.num == 30


@pytest.mark.parametrize("kind", ["share", "number"])
def test_means_are_compared_by_the_larger_of_two_paired_tests(kind: OutcomeKind) -> None:
    before, after = RNG.random(30), RNG.random(30) ** 2
    found = _pair(_measure(kind, before, np.zeros(40)), _measure(kind, after, np.zeros(40))).members
    expected = max(ttest_rel(after, before).pvalue, wilcoxon(after - before).pvalue)
    assert found.p_value == pytest.approx(expected)
    ends = ttest_rel(after, before).confidence_interval(0.95)
    if kind == "number":
        assert (found.interval.low, found.interval.high) == pytest.approx((ends.low, ends.high))
    else:  # put together from the two means' own intervals: far from the ends of [0, 1] about the same
        assert (found.interval.low, found.interval.high) == pytest.approx((ends.low, ends.high), abs=0.03)


def test_areas_are_compared_as_a_bootstrap_of_the_records_does() -> None:
    truth = np.arange(70) < 30
    before = truth + RNG.normal(size=70)
    after = 0.3 * truth + 0.7 * (before - truth) + 0.5 * RNG.normal(size=70)

    def area(scores: Floats, members: npt.NDArray[np.intp], others: npt.NDArray[np.intp]) -> float:
        above = scores[members][:, None] - scores[others][None, :]
        return float((np.sign(above) / 2 + 0.5).mean())

    drawn = [
        area(after, *places) - area(before, *places)
        for places in ((RNG.choice(30, 30), RNG.choice(np.arange(30, 70), 40)) for _ in range(4000))
    ]
    found = _pair(_measure("rank", before[:30], before[30:]), _measure("rank", after[:30], after[30:])).members
    everyone = np.arange(30), np.arange(30, 70)
    assert found.interval.value == pytest.approx(area(after, *everyone) - area(before, *everyone))
    half = (found.interval.high - found.interval.low) / 2
    # The bootstrap's spread is known to 1.1 % from 4000 draws, and is of order 1 / 30 off the unbiased one.
    assert half == pytest.approx(1.96 * np.std(drawn), rel=0.08)
    assert found.p_value == pytest.approx(2 * norm.sf(abs(found.interval.value) / (half / 1.959964)))


@given(st.sampled_from(["flag", "share", "number", "rank"]), st.integers(0, 1000))
def test_the_same_outcomes_twice_give_exactly_nothing(kind: OutcomeKind, seed: int) -> None:
    rng = np.random.default_rng(seed)
    one = _random(kind, rng)
    found = _pair(one, one)
    assert (found.members.interval.value, found.members.p_value) == (0.0, 1.0)
    assert (found.excess is None) == (kind == "rank")
    if found.excess is not None:
        assert (found.excess.interval.value, found.excess.p_value) == (0.0, 1.0)


@given(st.sampled_from(["flag", "share", "number", "rank"]), st.integers(0, 1000))
def test_swapping_the_runs_changes_the_sign(kind: OutcomeKind, seed: int) -> None:
    rng = np.random.default_rng(seed)
    one, other = _random(kind, rng), _random(kind, rng)
    there, back = _pair(one, other), _pair(other, one)
    pairs = [(there.members, back.members)]
    if there.excess is not None and back.excess is not None and there.over == back.over:
        pairs.append((there.excess, back.excess))
    for forth, and_back in pairs:
        expected = (-and_back.interval.value, -and_back.interval.high, -and_back.interval.low, and_back.p_value)
        shown = (forth.interval.value, forth.interval.low, forth.interval.high, forth.p_value)
        assert shown == pytest.approx(expected, abs=1e-12)


def test_records_are_matched_by_their_keys_whatever_their_order() -> None:
    values, others, base = RNG.random(30), RNG.random(40), RNG.random(30)
    first = _measure("number", RNG.random(30), RNG.random(40), RNG.random(30))
    order, other_order = RNG.permutation(30), RNG.permutation(40)
    shuffled = Asked(members=np.array(KEYS.members)[order].tolist(), others=np.array(KEYS.others)[other_order].tolist())
    expected = _pair(first, _measure("number", values, others, base))
    found = _pair(first, _measure("number", values[order], others[other_order], base[order]), others_asked=shuffled)
    for one, other in ((found.members, expected.members), (found.excess, expected.excess)):
        assert one is not None
        assert other is not None
        assert _numbers(one) == pytest.approx(_numbers(other))


def _numbers(found: Difference) -> tuple[float, ...]:
    return (found.interval.value, found.interval.low, found.interval.high, found.p_value)


def test_records_that_one_run_never_reached_are_left_out() -> None:
    before, after = _flags(0.6, 30), _flags(0.2, 30)
    fewer = Asked(members=KEYS.members[5:], others=KEYS.others[2:])
    found = _pair(_measure("flag", before, np.zeros(40)), _measure("flag", after[5:], np.zeros(38)), others_asked=fewer)
    assert found.members.interval.num == 25
    assert found.members.interval.value == pytest.approx(after[5:].mean() - before[5:].mean())


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        (Asked(members=[*KEYS.others[:1], *KEYS.members[1:]], others=[*KEYS.members[:1], *KEYS.others[1:]]), "a coin"),
        (Asked(members=list(range(200, 230)), others=KEYS.others), "other members"),
        (Asked(members=[*KEYS.members[:14], *range(200, 216)], others=KEYS.others), "mostly other members"),
        (Asked(members=KEYS.members, others=list(range(300, 340))), "other others"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_coins_and_other_records_are_not_paired(asked: Asked, why: str) -> None:
    del why
    one = _measure("flag", _flags(0.5, 30), np.zeros(40))
    assert paired((one, {"all": KEYS}), (one, {"all": asked})) is None


def test_without_outcomes_or_with_others_of_another_kind_nothing_is_paired() -> None:
    one = _measure("flag", _flags(0.5, 30), np.zeros(40))
    assert paired((one, {"all": KEYS}), (measure(), {})) is None
    assert paired((one, {"all": KEYS}), (_measure("share", _flags(0.5, 30), np.zeros(40)), {"all": KEYS})) is None


def test_a_run_that_brings_out_less_of_everything_has_no_smaller_excess() -> None:
    before, others = RNG.random(30) / 2 + 0.5, RNG.random(40) / 2 + 0.5
    small = RNG.uniform(-0.1, 0.1, 70)
    found = _pair(
        _measure("share", before, others, controls=["held_out"]),
        _measure("share", before - 0.4 - small[:30], others - 0.4 - small[30:], controls=["held_out"]),
    )
    assert found.members.interval.high < 0
    assert found.excess is not None
    assert found.over == "held_out"
    assert found.excess.interval.low < 0 < found.excess.interval.high
    assert found.excess.p_value > 0.05


def test_a_weaker_base_model_explains_what_it_explains() -> None:
    base = RNG.random(30) / 2 + 0.4
    gain = RNG.random(30) / 20
    found = _pair(
        _measure("number", base + gain, np.zeros(40), base, controls=["base"]),
        _measure("number", base - 0.3 + gain[::-1], np.zeros(40), base - 0.3, controls=["base"]),
    )
    assert found.over == "base"
    assert found.excess is not None
    assert found.members.p_value < 1e-6
    assert found.excess.p_value > 0.5
    assert found.excess.interval.value == pytest.approx(0.0, abs=1e-12)


def test_the_same_base_model_cancels() -> None:
    base = RNG.random(30)
    found = _pair(
        _measure("share", RNG.random(30), np.zeros(40), base, controls=["base"]),
        _measure("share", RNG.random(30), np.zeros(40), base, controls=["base"]),
    )
    assert found.excess == found.members


def test_of_several_controls_the_one_that_explains_most_is_named() -> None:
    before, others = np.full(30, 0.9), np.full(40, 0.5)
    before[::2], others[::2] = 0.8, 0.4
    found = _pair(
        _measure("share", before, others, np.zeros(30)), _measure("share", before - 0.3, others - 0.3, np.zeros(30))
    )
    assert found.over == "held_out"


def test_areas_and_true_positive_rates_have_no_excess_to_compare() -> None:
    rank = _measure("rank", RNG.random(30), RNG.random(40), controls=["chance", "blind"])
    flag = _measure("flag", _flags(0.5, 30), _flags(0.1, 40), controls=["false positives", "blind"])
    assert _pair(rank, rank).excess is None
    assert _pair(flag, flag).excess is None


@pytest.mark.parametrize("kind", ["flag", "number"])
def test_where_nothing_changed_p_values_are_not_too_small(kind: OutcomeKind) -> None:
    p_values: list[float] = []
    for _ in range(200):
        level = RNG.random(70)
        runs = [(RNG.random(70) < level) if kind == "flag" else level + RNG.normal(size=70) for _ in range(2)]
        first, second = (_measure(kind, run[:30], run[30:], controls=["held_out"]) for run in runs)
        found = _pair(first, second)
        assert found.excess is not None
        p_values += [found.excess.p_value]
    # Three standard errors above 5 %: the larger of two tests, and tests of few values, may be smaller but not larger.
    assert np.mean(np.array(p_values) < 0.05) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)
    if kind == "number":
        assert uniformity_p_value(p_values) > 0.001
