"""When a number may be called a leak: a law over all findings."""

import math

from hypothesis import given
from hypothesis import strategies as st

from confide.audit.judging import NO_COINS, SIGNIFICANCE, Findings, Found, judge, raw_p_value
from confide.audit.statistics import Difference, Interval

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
        shortage=draw(st.sampled_from(["", "3 members; 10 are needed."])),
        barred=draw(st.sampled_from(["", "", "Never here."])),
        note=draw(st.sampled_from(["", "A note."])),
    )


adjusted_values = st.none() | st.floats(0, 1) | st.just(SIGNIFICANCE)


@given(findings(), adjusted_values, st.booleans())
def test_leak_is_said_exactly_where_everything_else_is_ruled_out(
    found: Found, p_adjusted: float | None, is_randomised: bool
) -> None:
    adjusted = {} if p_adjusted is None else {0: p_adjusted}
    (measure,) = judge([found], adjusted, is_randomised=is_randomised)
    is_ruled_out = (
        len(found.differences) > 0
        and all(difference.interval.low > 0 for difference in found.differences.values())
        and p_adjusted is not None
        and p_adjusted < SIGNIFICANCE
    )
    may_leak = is_randomised and not found.barred
    assert (measure.verdict == "leak") == (is_ruled_out and may_leak)
    if measure.verdict != "leak":
        assert (measure.verdict == "too few records") == bool(found.shortage)
        assert found.shortage in measure.note
        assert (is_ruled_out and not found.barred) == (NO_COINS in measure.note)
        assert not is_ruled_out or found.barred in measure.note
    assert found.note in measure.note


@given(st.lists(findings(), max_size=4), st.floats(0, 1))
def test_a_passive_audit_never_says_leak(found: list[Found], p_value: float) -> None:
    measures = judge(found, dict.fromkeys(range(len(found)), p_value), is_randomised=False)
    assert all(measure.verdict != "leak" for measure in measures)


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
