"""When a number may be called a leak: a law over all findings."""

import math
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.audit.judging import NO_COINS, Findings, Found, judge, raw_p_value
from confide.audit.results import Family, ViewKind
from confide.audit.statistics import SIGNIFICANCE, Difference, Interval

TOO_FEW = "3 members; 10 of each are needed."


@dataclass(frozen=True, kw_only=True)
class FixedSample:
    """Enough for so many attacks."""

    num_members: int = 11
    num_others: int = 19
    most_attacks: int
    few: str = TOO_FEW
    is_half: bool = False

    def shortage(self, num_attacks: int) -> str:
        return "" if num_attacks <= self.most_attacks else self.few


numbers = st.floats(-1, 1)


@st.composite
def intervals(draw: st.DrawFn) -> Interval:
    low, value, high = sorted(draw(st.tuples(numbers, numbers, numbers)))
    return Interval(value=value, low=low, high=high, num=draw(st.integers(2, 1000)))


@st.composite
def findings(draw: st.DrawFn) -> Found:
    names = draw(st.lists(st.sampled_from(["held_out", "base", "blind", "chance"]), unique=True))
    return Found(
        view="client",
        family="membership",
        attack="loss",
        code="M1",
        population="records",
        metric="auc",
        members=draw(intervals()),
        controls={name: draw(intervals()) for name in names},
        differences={
            name: Difference(interval=draw(intervals()), p_value=draw(st.floats(0, 1)))
            for name in names
            if draw(st.booleans())
        },
        sample=FixedSample(most_attacks=draw(st.integers(0, 3))),
        barred=draw(st.sampled_from(["", "", "Never here."])),
        lacking=draw(st.sampled_from(["", "", "Nothing beside it.", TOO_FEW])),
        note=draw(st.sampled_from(["", "A note."])),
    )


adjusted_values = st.none() | st.floats(0, 1) | st.just(SIGNIFICANCE)


@given(findings(), adjusted_values, st.booleans(), st.integers(1, 3))
def test_leak_is_said_exactly_where_everything_else_is_ruled_out(
    found: Found, p_adjusted: float | None, is_randomised: bool, num_attacks: int
) -> None:
    adjusted = {} if p_adjusted is None else {0: p_adjusted}
    (measure,) = judge([found], adjusted, is_randomised=is_randomised, num_attacks={0: num_attacks})
    is_ruled_out = (
        len(found.differences) > 0
        and all(difference.interval.low > 0 for difference in found.differences.values())
        and p_adjusted is not None
        and p_adjusted < SIGNIFICANCE
    )
    is_barred = bool(found.barred) or not is_randomised
    shortage = found.sample.shortage(num_attacks)
    if not is_ruled_out:
        assert measure.verdict == ("too few records" if shortage else "no evidence")
        is_above = bool(found.differences) and all(one.interval.low > 0 for one in found.differences.values())
        is_by_chance = is_above and p_adjusted is not None and not found.barred and not found.lacking
        assert (f"not beyond what {num_attacks} attack" in measure.caveat) == is_by_chance
        assert is_by_chance or measure.caveat == shortage
    elif is_barred:
        assert measure.verdict == "unexplained"
        assert (found.barred or NO_COINS) in measure.caveat
        assert (NO_COINS in measure.caveat) == (not found.barred)
        assert found.lacking in measure.caveat
        assert shortage in (found.lacking, "") or shortage not in measure.caveat
    elif found.lacking:  # more records would bring it
        assert measure.verdict == ("too few records" if shortage else "unexplained")
        assert found.lacking in measure.caveat
        assert shortage in measure.caveat
        assert measure.caveat.count(TOO_FEW) <= 1
    else:
        assert (measure.verdict, measure.caveat) == ("leak", "")
    assert measure.note == " ".join(part for part in (found.note, measure.caveat) if part)


@given(st.lists(findings(), max_size=4), st.floats(0, 1))
def test_a_passive_audit_says_unexplained_where_another_says_leak(found: list[Found], p_value: float) -> None:
    adjusted = dict.fromkeys(range(len(found)), p_value)
    passive, by_coins = (judge(found, adjusted, is_randomised=is_randomised) for is_randomised in (False, True))
    for measure, other in zip(passive, by_coins, strict=True):
        assert measure.verdict != "leak"
        assert other.verdict != "leak" or measure.verdict == "unexplained"


@given(findings())
def test_the_p_value_is_of_the_control_that_is_hardest_to_rule_out(found: Found) -> None:
    p_value = raw_p_value(found)
    if found.differences:
        assert p_value is not None
        assert all(difference.p_value <= p_value for difference in found.differences.values())
        assert any(math.isclose(difference.p_value, p_value) for difference in found.differences.values())
    else:
        assert p_value is None


@given(st.lists(findings(), min_size=1, max_size=4))
def test_measures_keep_the_order_and_every_control(found: list[Found]) -> None:
    measures = judge(found, {}, is_randomised=True)
    assert [measure.members.value for measure in measures] == [one.members.value for one in found]
    for measure, one in zip(measures, found, strict=True):
        assert measure.controls.keys() == one.controls.keys()
        lows = [difference.interval.low for difference in one.differences.values()]
        assert (measure.excess is None) == (not lows)
        assert measure.excess is None or measure.excess.low == min(lows)


def test_findings_take_in_others_and_say_each_warning_once() -> None:
    all_found = Findings(warnings=["few"])
    all_found.add(Findings(warnings=["few", "none"]))
    assert all_found.warnings == ["few", "none"]


def test_a_shortage_is_said_once_with_all_views_that_have_it_and_others_apart() -> None:
    seen: list[tuple[ViewKind, Family, str]] = [
        ("final", "membership", "ladder: 0 members and 3 others."),
        ("client", "membership", "ladder: 0 members and 1 other."),
        ("server", "membership", "ladder: 0 members and 3 others."),
        ("final", "extraction", "ladder: 0 members and 3 others."),
    ]
    found = Findings(warnings=["A warning."])
    for view, family, reason in (*seen, *seen):
        found.add(Findings.too_few(view, family, "ladder", reason))
    assert found.all_warnings() == [
        "A warning.",
        "Membership (views: final, server), ladder: 0 members and 3 others.",
        "Membership (view: client), ladder: 0 members and 1 other.",
        "Extraction (view: final), ladder: 0 members and 3 others.",
    ]
    assert len(found.unmeasured) == 8


def test_a_note_that_holds_the_caveat_does_not_say_it_twice() -> None:
    above = Interval(value=0.4, low=0.2, high=0.6, num=40)
    found = Found(
        view="client",
        family="extraction",
        attack="greedy",
        code="E1",
        population="records",
        metric="exact",
        members=above,
        controls={},
        differences={"base": Difference(interval=above, p_value=1e-6)},
        sample=FixedSample(most_attacks=9),
        barred="Never here.",
        note="A note. Never here.",
    )
    (measure,) = judge([found], {0: 1e-6}, is_randomised=True)
    assert (measure.note, measure.caveat) == ("A note. Never here.", "Never here.")


LACKING = "Nothing beside it."


@pytest.mark.parametrize(
    ("is_randomised", "barred", "lacking", "shortage", "verdict", "caveat"),
    [
        (True, "", "", "", "leak", ""),
        (True, "", "", TOO_FEW, "leak", ""),
        (False, "", "", "", "unexplained", NO_COINS),
        (False, "", "", TOO_FEW, "unexplained", NO_COINS),  # more records would not change it
        (True, "Never here.", "", TOO_FEW, "unexplained", "Never here."),
        (False, "Never here.", "", "", "unexplained", "Never here."),
        (False, "", LACKING, TOO_FEW, "unexplained", f"{NO_COINS} {LACKING}"),
        (True, "", LACKING, TOO_FEW, "too few records", f"{LACKING} {TOO_FEW}"),
        (True, "", LACKING, f"{TOO_FEW} {LACKING}", "too few records", f"{TOO_FEW} {LACKING}"),
        (True, "", LACKING, "", "unexplained", LACKING),
    ],
)
def test_what_a_number_beyond_its_controls_is_called(
    is_randomised: bool, barred: str, lacking: str, shortage: str, verdict: str, caveat: str
) -> None:
    """An AUC of 0.81 [0.76, 0.85], and 0.55 [0.46, 0.65] from the texts alone."""
    found = Found(
        view="final",
        family="membership",
        attack="wbc",
        code="M8",
        population="records",
        metric="auc",
        members=Interval(value=0.81, low=0.76, high=0.85, num=400),
        controls={"blind": Interval(value=0.55, low=0.46, high=0.65, num=400)},
        differences={"blind": Difference(interval=Interval(value=0.26, low=0.11, high=0.39, num=400), p_value=1e-10)},
        sample=FixedSample(most_attacks=0 if shortage else 18, few=shortage),
        barred=barred,
        lacking=lacking,
    )
    (measure,) = judge([found], {0: 1.5e-10}, is_randomised=is_randomised, num_attacks={0: 18})
    assert (measure.verdict, measure.caveat) == (verdict, caveat)


@pytest.mark.parametrize(
    ("is_half", "needed"),
    [
        (False, "about 28 members and 49 others are needed."),
        (True, "about 56 members and 97 others are needed in the "),
    ],
)
def test_what_a_number_above_its_controls_lacks_is_counted_at_the_size_that_was_measured(
    is_half: bool, needed: str
) -> None:
    """McNemar's p of five of eleven, over three attacks. By hand: ((2.128 + 0.842) / 1.863)^2 = 2.54 times as many."""
    above = Interval(value=5 / 11, low=0.1, high=0.72, num=11)
    found = Found(
        view="final",
        family="extraction",
        attack="greedy",
        code="E1",
        population="ladder",
        metric="exact",
        members=above,
        controls={},
        differences={"base": Difference(interval=above, p_value=0.5**5)},
        sample=FixedSample(most_attacks=9, is_half=is_half),
    )
    (measure,) = judge([found], {0: 3 * 0.5**5}, is_randomised=True, num_attacks={0: 3})
    assert measure.verdict == "no evidence"
    assert measure.caveat.startswith(
        "More than its controls, but not beyond what 3 attacks may find by chance (p 0.094 after correction); if the "
        f"excess stays as it is, {needed}"
    )
