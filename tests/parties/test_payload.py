"""What travels in a round: nothing of an update is lost on the way, and the next range follows from this one."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from confide.aggregate.optimizers import FedAvg
from confide.aggregate.step import GlobalStep, payload_layout
from confide.errors import SaturationError
from confide.global_state import GlobalState
from confide.messages import MAX_WIDENINGS
from confide.parties.payload import Payload, arrive, check_saturation, num_sealed_values, plan_payload
from confide.prune.plan import Pruning
from confide.prune.schedules import ConstantSparsity
from confide.seal.fixedpoint import dequantize, quantize
from confide.seal.plain import PlainClient
from confide.seal.profiles import get_profile
from confide.seeds import stream
from confide.update import Layout, Slot, Vector

PROFILE = get_profile("onetime", "compact")
HALF = 2 ** (PROFILE.value_bits - 1) - 1  # steps from zero to the edge of the range
ROUNDING = 2.0**-22  # four times the relative error of one float32 operation: no test below rounds more often

sizes = st.integers(1, 12)
limits = st.floats(2**-10, 2**10, width=32)
ratios = st.one_of(st.just(1.0), st.floats(2**-6, 1.0))


def layout_of(size: int) -> Layout:
    return Layout((Slot(name="w", shape=(size,)),))


def vectors(size: int, bound: float) -> st.SearchStrategy[Vector]:
    """Values up to `bound`; those below a millionth of it are zero, so that products do not underflow."""
    parts = st.integers(-1_000_000, 1_000_000).map(lambda part: part / 1_000_000 * bound)
    return st.lists(parts, min_size=size, max_size=size).map(lambda found: np.array(found, np.float32))


@st.composite
def payloads(draw: st.DrawFn, *, has_range: bool | None = None, with_control: bool | None = None) -> Payload:
    size = draw(sizes)
    mask = draw(st.none() | hnp.arrays(np.bool_, size).filter(lambda found: bool(found.any())))
    control = draw(st.booleans()) if with_control is None else with_control
    ranged = draw(st.booleans()) if has_range is None else has_range
    ranges = tuple(draw(limits) for _ in range(1 + control)) if ranged else ()
    return Payload(trained=layout_of(size), mask=mask, with_control=control, limits=ranges)


def kept(payload: Payload) -> Vector:
    """1 where a coordinate travels, 0 elsewhere."""
    size = payload.trained.num_values
    return np.ones(size, np.float32) if payload.mask is None else payload.mask.astype(np.float32)


def sealed_as(values: Vector, limit: float) -> Vector:
    """What values become in profile compact."""
    return dequantize(quantize(values, limit, PROFILE).levels, 1, limit, PROFILE)


@settings(deadline=None)
@given(payloads(), ratios, st.data())
def test_scattering_what_was_gathered_gives_the_kept_values_times_the_weight(
    payload: Payload, ratio: float, data: st.DataObject
) -> None:
    size = payload.trained.num_values
    update = data.draw(vectors(size, 10.0))
    change = data.draw(vectors(size, 10.0)) if payload.with_control else None
    values = payload.gather(update, change, weight_ratio=ratio)
    back = payload.scatter(values)
    payload_layout(payload.trained, with_control=payload.with_control).check(back)
    np.testing.assert_array_equal(back[:size], np.float32(ratio) * update * kept(payload))
    if change is not None:
        # Brought into the update's range and out of it again: two roundings of the scale, two of the value.
        np.testing.assert_allclose(back[size:], ratio * change, rtol=ROUNDING)


@settings(deadline=None)
@given(payloads(), st.data())
def test_lengths_agree_wherever_they_are_computed(payload: Payload, data: st.DataObject) -> None:
    size = payload.trained.num_values
    update = data.draw(vectors(size, 1.0))
    values = payload.gather(update, update if payload.with_control else None, weight_ratio=1.0)
    assert values.dtype == np.float32
    assert values.size == payload.num_values
    assert payload.num_update_values == int(kept(payload).sum())
    assert payload.num_values == num_sealed_values(
        payload.num_update_values, size if payload.with_control else 0, has_peaks=bool(payload.limits)
    )
    assert payload.layout.num_values == size * (1 + payload.with_control)
    assert payload.limit == (payload.limits[0] if payload.limits else 1.0)


@settings(deadline=None)
@given(payloads(has_range=True), ratios, st.data())
def test_the_remainder_and_what_arrived_are_the_update(payload: Payload, ratio: float, data: st.DataObject) -> None:
    """Also of what was cut off at the edge of the range, and of what did not travel at all."""
    size = payload.trained.num_values
    update = data.draw(vectors(size, 3 * payload.limit))
    before = update.copy()
    change = data.draw(vectors(size, 1.0)) if payload.with_control else None
    arrived = sealed_as(payload.gather(update, change, weight_ratio=ratio), payload.limit)
    rest = payload.remainder(update, arrived, weight_ratio=ratio)
    np.testing.assert_array_equal(update, before)
    sent = payload.scatter(arrived)[:size] / np.float32(ratio)
    room = ROUNDING * (np.abs(update).max() + np.abs(sent).max())
    np.testing.assert_allclose(rest + sent, update, rtol=0, atol=room)
    stayed = kept(payload) == 0
    np.testing.assert_array_equal(rest[stayed], update[stayed])
    inside = ~stayed & (ratio * np.abs(update) <= payload.limit)
    assert np.abs(rest[inside]).max(initial=0.0) <= payload.limit / HALF / 2 / ratio + room


def test_without_a_range_and_a_mask_nothing_remains() -> None:
    payload = Payload(trained=layout_of(3), mask=None, with_control=False, limits=())
    update = np.array([1e-30, -3.0, 1e20], np.float32)
    values = payload.gather(update, None, weight_ratio=1.0)
    arrived, saturated = arrive(PlainClient(), values, payload, max_saturated=0.0)
    assert saturated == 0
    assert not payload.remainder(update, arrived, weight_ratio=1.0).any()


@st.composite
def rounds(draw: st.DrawFn, *, largest: float) -> tuple[Payload, list[Vector], list[Vector], list[float]]:
    """A payload, each client's update and control change, up to `largest` times the range, and each one's weight."""
    payload = draw(payloads(has_range=True))
    size = payload.trained.num_values
    number = draw(st.integers(1, 5))
    weights = [draw(ratios) for _ in range(number)]
    updates = [draw(vectors(size, largest * payload.limits[0])) for _ in range(number)]
    changes = [draw(vectors(size, largest * payload.limits[-1])) for _ in range(number)]
    return payload, updates, changes, weights


def opened_sum(payload: Payload, updates: list[Vector], changes: list[Vector], weights: list[float]) -> Vector:
    gathered = [
        payload.gather(update, change if payload.with_control else None, weight_ratio=weight)
        for update, change, weight in zip(updates, changes, weights, strict=True)
    ]
    totals = np.zeros(payload.num_values, np.uint64)
    for values in gathered:
        totals += quantize(values, payload.limit, PROFILE).levels
    return dequantize(totals, len(gathered), payload.limit, PROFILE)


def largest_of(values: list[Vector], weights: list[float]) -> list[float]:
    return [float(np.abs(one).max()) * weight for one, weight in zip(values, weights, strict=True)]


@settings(deadline=None, max_examples=100)
@given(rounds(largest=1.0))
def test_the_next_range_is_four_times_what_bounds_every_clients_largest_value(
    made: tuple[Payload, list[Vector], list[Vector], list[float]],
) -> None:
    payload, updates, changes, weights = made
    next_limits = payload.next_limits(opened_sum(payload, updates, changes, weights))
    assert len(next_limits) == len(payload.limits)
    for limit, following, parts in zip(payload.limits, next_limits, (updates, changes), strict=False):
        largest = largest_of(parts, weights)
        assert following >= 0.8 * limit * (1 - ROUNDING)
        # A peak is (largest / limit)^2 in units of the range, off by half a step for every client. Below a fifth of the
        # range, 0.8 of the range is enough; above it, the half steps of five clients take at most
        # 1 - sqrt(1 - 5 * 25 / (2 HALF)) < 63 / HALF of it.
        assert max(largest) <= following / 4 * (1 + 63 / HALF)
        # And no wider than it must be: a sum of squares, its root, and half a step for every client.
        squares = sum(one**2 for one in largest) + len(largest) * limit**2 / HALF / 2
        assert following <= max(4 * math.sqrt(squares), 0.8 * limit) * (1 + 2 * ROUNDING)


@settings(deadline=None)
@given(rounds(largest=1.0), st.floats(1.0, 1e6), st.data())
def test_a_range_that_was_too_narrow_becomes_four_times_as_wide_at_least(
    made: tuple[Payload, list[Vector], list[Vector], list[float]], beyond: float, data: st.DataObject
) -> None:
    payload, updates, changes, weights = made
    which = data.draw(st.integers(0, len(payload.limits) - 1))
    part = (updates, changes)[which]
    part[0][data.draw(st.integers(0, part[0].size - 1))] = np.float32(
        payload.limits[which] * beyond / weights[0] * 1.01
    )
    following = payload.next_limits(opened_sum(payload, updates, changes, weights))[which]
    most = 4 * math.sqrt(len(updates)) * payload.limits[which]
    assert 4 * payload.limits[which] * (1 - ROUNDING) <= following <= most * (1 + ROUNDING)


def test_a_value_that_stays_behind_widens_the_range_it_will_travel_in() -> None:
    payload = Payload(trained=layout_of(2), mask=np.array([True, False]), with_control=False, limits=(1.0,))
    update = np.array([0.0, 0.9], np.float32)
    (following,) = payload.next_limits(opened_sum(payload, [update], [update], [1.0]))
    assert following == pytest.approx(3.6, rel=8 / HALF)


def test_a_range_never_becomes_zero() -> None:
    payload = Payload(trained=layout_of(2), mask=None, with_control=False, limits=(4.0,))
    for _ in range(200):
        payload = replace(payload, limits=payload.next_limits(np.zeros(3, np.float32)))
    assert payload.limit == np.float32(1e-12)


def test_a_range_never_becomes_wider_than_a_list_of_members_takes() -> None:
    payload = Payload(trained=layout_of(2), mask=None, with_control=False, limits=(2.0**56,))
    payload = replace(payload, limits=payload.next_limits(np.full(3, 2.0**56, np.float32)))
    assert payload.widened(MAX_WIDENINGS).limit < 2.0**64


@settings(deadline=None)
@given(payloads(), st.integers(0, MAX_WIDENINGS), st.data())
def test_a_widened_payload_carries_the_same_in_a_wider_range(
    payload: Payload, widening: int, data: st.DataObject
) -> None:
    size = payload.trained.num_values
    wide = payload.widened(widening)
    assert wide.limit == payload.limit * (2**widening if payload.limits else 1)
    assert payload.widening_to(wide.limit) == wide.widening_to(wide.limit) == (widening if payload.limits else 0)
    assert wide.widened(0) == payload
    update, change = (data.draw(vectors(size, 3.0)) for _ in range(2))
    num_values = payload.num_values - len(payload.limits)
    values, in_wide = (
        one.gather(update, change if one.with_control else None, weight_ratio=0.5)[:num_values]
        for one in (payload, wide)
    )
    np.testing.assert_array_equal(values, in_wide)  # the peaks alone differ


@settings(deadline=None)
@given(rounds(largest=1.0), st.integers(1, MAX_WIDENINGS))
def test_what_widening_was_not_needed_leaves_no_trace_in_the_next_range(
    made: tuple[Payload, list[Vector], list[Vector], list[float]], widening: int
) -> None:
    payload, updates, changes, weights = made
    wide = payload.widened(widening)
    planned = payload.next_limits(opened_sum(payload, updates, changes, weights))
    following = wide.next_limits(opened_sum(wide, updates, changes, weights))
    for limit, one, other in zip(payload.limits, planned, following, strict=True):
        # The peaks differ by half a step for every client, of the wider range in one of the two sums.
        room = 16 * len(updates) * (limit * 2**widening) ** 2 / HALF
        assert abs(one**2 - other**2) <= room * (1 + 2 * ROUNDING) + ROUNDING * one**2
        assert other >= 0.8 * limit * (1 - ROUNDING)


@pytest.mark.parametrize("limit", [0.5, 3.0, 128.0, 0.0, math.nan])
def test_no_other_range_than_a_doubled_one_is_a_widened_one(limit: float) -> None:
    payload = Payload(trained=layout_of(1), mask=None, with_control=False, limits=(1.0,))
    assert payload.widening_to(limit) == 0


@settings(deadline=None)
@given(payloads(has_range=True, with_control=True), ratios, st.data())
def test_what_arrived_of_a_control_change_is_what_the_sum_holds_of_it(
    payload: Payload, ratio: float, data: st.DataObject
) -> None:
    """Also of what was cut off at the edge of the range."""
    size = payload.trained.num_values
    change = data.draw(vectors(size, 3 * payload.limits[1]))
    arrived = sealed_as(payload.gather(np.zeros(size, np.float32), change, weight_ratio=ratio), payload.limit)
    own = payload.arrived_change(arrived, weight_ratio=ratio)
    summed = payload.scatter(arrived)[size:]
    np.testing.assert_allclose(own * np.float32(ratio), summed, rtol=ROUNDING)
    inside = ratio * np.abs(change) <= payload.limits[1]
    room = payload.limits[1] / HALF / 2 / ratio + ROUNDING * float(np.abs(change).max())
    assert np.abs(own - change)[inside].max(initial=0.0) <= room


def test_without_a_range_there_is_no_next_one() -> None:
    payload = Payload(trained=layout_of(2), mask=None, with_control=False, limits=())
    assert payload.next_limits(np.ones(2, np.float32)) == ()


def test_a_control_change_is_brought_into_the_updates_range() -> None:
    payload = Payload(trained=layout_of(1), mask=None, with_control=True, limits=(0.5, 8.0))
    values = payload.gather(np.array([0.25], np.float32), np.array([8.0], np.float32), weight_ratio=1.0)
    assert values.tolist() == [0.25, 0.5, 0.5 * 0.25, 0.5]  # a half of the range, all of it, and their squares
    assert payload.scatter(values).tolist() == [0.25, 8.0]


@pytest.mark.parametrize(("kind", "sparsity", "travel"), [("none", 0.9, 10), ("random", 0.6, 4), ("common", 0.6, 4)])
@pytest.mark.parametrize("with_control", [False, True])
def test_a_payload_follows_from_state_and_rules(kind: str, sparsity: float, travel: int, with_control: bool) -> None:
    trained = layout_of(10)
    step = GlobalStep(optimizer=FedAvg(), with_control=with_control, num_clients=2, accumulates=True, initial_limit=0.5)
    pruning = Pruning(
        kind=kind,  # type: ignore[arg-type]
        schedule=ConstantSparsity(target=sparsity),
        exploration=0.0,
        rng=lambda number: stream(0, "mask", number),
    )
    state = GlobalState(layout=trained, round_number=0, adapter=np.zeros(10, np.float32))
    opened = np.arange(10 * (1 + with_control), dtype=np.float32)
    state = step.apply(state, trained, opened, total_weight=1.0, next_limits=(0.25, 4.0)[: 1 + with_control])
    payload = plan_payload(step, pruning, state, trained, learning_rate=0.1)
    assert payload.num_update_values == travel == pruning.num_kept(10, 2)
    assert payload.limits == (0.25, 4.0)[: 1 + with_control]
    assert payload.with_control == with_control
    again = plan_payload(step, pruning, state, trained, learning_rate=0.1)
    if payload.mask is None:
        assert again.mask is None
    else:
        np.testing.assert_array_equal(payload.mask, again.mask)
    if kind == "common":  # what moved most
        np.testing.assert_array_equal(payload.mask, np.arange(10) >= 6)


def test_more_saturation_than_allowed_is_refused_with_the_range() -> None:
    check_saturation(1, 10, limit=0.5, max_saturated=0.1)
    check_saturation(0, 10, limit=0.5, max_saturated=0.0)
    with pytest.raises(
        SaturationError,
        match=r"^2 of 10 values \(a share of 0\.2\) .* range of \+-0\.5 .* seal\.max_saturated allows 0\.1$",
    ):
        check_saturation(2, 10, limit=0.5, max_saturated=0.1)
