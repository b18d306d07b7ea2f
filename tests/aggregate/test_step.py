import numpy as np
import pytest

from confide.aggregate.optimizers import FedAdaptive, FedAvg, FedAvgM
from confide.aggregate.step import GlobalStep
from confide.errors import LayoutMismatchError, MessageError
from confide.global_state import GlobalState
from confide.update import Layout, Slot

LAYOUT = Layout((Slot(name="A", shape=(3,)), Slot(name="B", shape=(2,))))
START = GlobalState(layout=LAYOUT, round_number=0, adapter=np.array([1, 2, 3, 0, 0], np.float32))


def test_the_mean_is_weighted_and_only_trained_slots_move() -> None:
    step = GlobalStep(optimizer=FedAvg(), with_control=False, num_clients=2)
    trained = LAYOUT.select(["B"])
    updates, weights = np.array([[1.0, 2.0], [4.0, 8.0]], np.float32), [3.0, 1.0]
    opened = np.asarray(weights, np.float32) @ updates
    after = step.apply(START, trained, opened, total_weight=4.0)
    np.testing.assert_array_equal(after.adapter, [1, 2, 3, 1.75, 3.5])
    assert after.round_number == 1
    np.testing.assert_array_equal(START.adapter, [1, 2, 3, 0, 0])


def test_each_factor_keeps_its_own_momentum_when_they_take_turns() -> None:
    step = GlobalStep(optimizer=FedAvgM(momentum=0.5), with_control=False, num_clients=1)
    a, b = LAYOUT.select(["A"]), LAYOUT.select(["B"])
    state = START
    for trained in (b, a, b):
        state = step.apply(state, trained, np.ones(trained.num_values, np.float32), total_weight=1.0)
    # B moved by 1, then by 0.5 * 1 + 1; A moved once by 1.
    np.testing.assert_array_equal(state.adapter, [2, 3, 4, 2.5, 2.5])


def test_bytes_give_the_state_back_with_its_digest() -> None:
    step = GlobalStep(optimizer=FedAdaptive(rule="adam"), with_control=True, num_clients=3)
    state = step.apply(START, LAYOUT, np.linspace(-1, 1, 10, dtype=np.float32), total_weight=2.0)
    back = GlobalState.from_bytes(state.to_bytes(), LAYOUT)
    assert back.digest == state.digest
    assert set(back.memory) == set(state.memory)
    assert len(state.memory) == 3


def test_the_digest_covers_adapter_memory_and_round() -> None:
    adapter = START.adapter
    states = [
        START,
        GlobalState(layout=LAYOUT, round_number=1, adapter=adapter),
        GlobalState(layout=LAYOUT, round_number=0, adapter=adapter + np.float32(1e-7)),
        GlobalState(layout=LAYOUT, round_number=0, adapter=adapter, memory={"m": adapter}),
        GlobalState(layout=LAYOUT, round_number=0, adapter=adapter, memory={"n": adapter}),
    ]
    assert len({state.digest for state in states}) == len(states)


def test_bytes_that_are_no_state_are_refused() -> None:
    for data in (b"", b"nonsense", START.to_bytes()[:-3]):
        with pytest.raises(MessageError, match="hold no global state"):
            GlobalState.from_bytes(data, LAYOUT)
    with pytest.raises(LayoutMismatchError):
        GlobalState.from_bytes(START.to_bytes(), LAYOUT.select(["A"]))


def test_a_sum_of_another_length_is_refused() -> None:
    step = GlobalStep(optimizer=FedAvg(), with_control=False, num_clients=1)
    with pytest.raises(LayoutMismatchError, match="expected a flat float32 vector of 5 values"):
        step.apply(START, LAYOUT, np.zeros(4, np.float32), total_weight=1.0)


def ranged(*, with_control: bool = False, accumulates: bool = False) -> GlobalStep:
    return GlobalStep(
        optimizer=FedAvg(), with_control=with_control, num_clients=2, accumulates=accumulates, initial_limit=0.5
    )


def test_the_first_ranges_are_given_and_a_control_changes_is_over_the_learning_rate() -> None:
    assert ranged().limits(START, LAYOUT, learning_rate=0.1) == (0.5,)
    assert ranged(with_control=True).limits(START, LAYOUT, learning_rate=0.125) == (0.5, 4.0)


def test_where_values_travel_without_a_range_there_is_none() -> None:
    step = GlobalStep(optimizer=FedAvg(), with_control=True, num_clients=2)
    assert step.limits(START, LAYOUT, learning_rate=0.1) == ()
    after = step.apply(START, LAYOUT, np.zeros(10, np.float32), total_weight=1.0)
    assert not any(name.endswith("limits") for name in after.memory)


def test_the_next_ranges_are_kept_for_each_set_of_slots() -> None:
    """Where A and B take turns, a round of A says nothing about the next one of B."""
    step = ranged(with_control=True)
    a, b = LAYOUT.select(["A"]), LAYOUT.select(["B"])
    state = START
    for trained, limits in ((a, (0.25, 2.0)), (b, (3.0, 0.1))):
        assert step.limits(state, trained, learning_rate=0.5) == (0.5, 1.0)
        opened = np.zeros(2 * trained.num_values, np.float32)
        state = step.apply(state, trained, opened, total_weight=1.0, next_limits=limits)
    assert step.limits(state, a, learning_rate=0.5) == (0.25, 2.0)
    assert step.limits(state, b, learning_rate=0.5) == (3.0, float(np.float32(0.1)))
    back = GlobalState.from_bytes(state.to_bytes(), LAYOUT)
    assert back.digest == state.digest
    assert step.limits(back, b, learning_rate=0.5) == step.limits(state, b, learning_rate=0.5)


def test_ranges_are_in_the_digest_so_that_all_clients_seal_in_the_same() -> None:
    states = [
        ranged().apply(START, LAYOUT, np.ones(5, np.float32), total_weight=1.0, next_limits=(limit,))
        for limit in (1.0, 2.0)
    ]
    np.testing.assert_array_equal(states[0].adapter, states[1].adapter)
    assert states[0].digest != states[1].digest


def test_steps_accumulate_for_each_set_of_slots() -> None:
    step = GlobalStep(optimizer=FedAvgM(momentum=0.5), with_control=False, num_clients=1, accumulates=True)
    a, b = LAYOUT.select(["A"]), LAYOUT.select(["B"])
    assert not step.accumulated(START, a).any()
    state = START
    for trained in (a, b, a):
        state = step.apply(state, trained, np.ones(trained.num_values, np.float32), total_weight=1.0)
    # Momentum: A moved by 1, then by 0.5 * 1 + 1; B moved once by 1. The start is not part of it.
    np.testing.assert_array_equal(step.accumulated(state, a), [2.5] * 3)
    np.testing.assert_array_equal(step.accumulated(state, b), [1.0] * 2)
    moved = state.adapter - START.adapter
    np.testing.assert_array_equal(np.concatenate([step.accumulated(state, one) for one in (a, b)]), moved)


def test_nothing_accumulates_that_no_mask_goes_by() -> None:
    after = ranged().apply(START, LAYOUT, np.ones(5, np.float32), total_weight=1.0)
    assert after.memory == {}
    assert not ranged().accumulated(after, LAYOUT).any()
