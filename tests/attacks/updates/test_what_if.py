"""Updates changed in one thing: pruned, noised, averaged, and with one's own part taken out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.attacks.updates.what_if import (
    mean_of,
    noised,
    with_pruned_weights,
    without_own,
    without_smallest,
    without_zeroed,
)
from confide.prune.plan import Pruning
from confide.prune.schedules import ConstantSparsity
from confide.seeds import stream
from confide.update import Layout, Slot

UPDATE = np.random.default_rng(0).standard_normal(1000).astype(np.float32)


@given(sparsity=st.floats(0, 0.99))
def test_exactly_the_smallest_are_dropped(sparsity: float) -> None:
    kept = without_smallest(UPDATE, sparsity)
    dropped = kept == 0
    assert dropped.sum() == int(sparsity * 1000)
    assert (kept[~dropped] == UPDATE[~dropped]).all()
    if dropped.any() and not dropped.all():
        assert np.abs(UPDATE[dropped]).max() <= np.abs(kept[~dropped]).min()


def test_pruned_weights_arrive_as_zeros_and_move_by_all_that_they_were() -> None:
    layout = Layout((Slot(name="a", shape=(2, 2)), Slot(name="b", shape=(4,))))
    start = np.array([4, -3, 2, -1, 0, 0, 0, 0], np.float32)
    update = np.array([-3.5, 1, 1, -1, 5, -6, 7, -8], np.float32)
    # Weights are 0.5, -2, 3, -2 and 5, -6, 7, -8: of each tensor half goes, though all of b's are larger than a's.
    arrived = with_pruned_weights(start, update, layout, 0.5)
    assert arrived.tolist() == [-4, 1, 1, 1, 0, 0, 7, -8]
    # What is left out are the two that hold nothing but the start; the zeros of b said nothing before.
    assert without_zeroed(start, arrived).tolist() == [0, 1, 1, 0, 0, 0, 7, -8]


def test_what_if_weights_were_pruned_is_what_a_run_does_that_prunes_as_published() -> None:
    rng = np.random.default_rng(0)
    layout = Layout((Slot(name="a", shape=(5, 4)), Slot(name="b", shape=(30,))))
    start, update = (rng.standard_normal(50).astype(np.float32) for _ in range(2))
    run = Pruning(
        kind="published", schedule=ConstantSparsity(target=0.5), exploration=0.0, rng=lambda _: np.random.default_rng(0)
    )
    arrived = with_pruned_weights(start, update, layout, 0.5)
    np.testing.assert_array_equal(arrived, run.zero_own(start, update, layout, 1))


@given(sparsity=st.floats(0, 1), seed=st.integers(0, 100))
def test_an_attacker_takes_out_nothing_but_what_was_pruned(sparsity: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    layout = Layout((Slot(name="a", shape=(5, 4)), Slot(name="b", shape=(30,))))
    start, update = (rng.standard_normal(50).astype(np.float32) for _ in range(2))
    seen = without_zeroed(start, with_pruned_weights(start, update, layout, sparsity))
    kept = seen != 0
    assert np.count_nonzero(~kept) == round(sparsity * 20) + round(sparsity * 30)
    # The weights travel: two roundings to float32 of numbers below 8.
    np.testing.assert_allclose(seen[kept], update[kept], atol=2 * 8 * 2.0**-24)


def test_noise_has_the_norm_asked_for() -> None:
    noise = noised(UPDATE, 2.0, stream(0, "test")) - UPDATE
    # The norm of 1000 Gaussian values is known to within 1 / sqrt(2000) of itself, so 4 of these are 9 %.
    assert np.linalg.norm(noise) == pytest.approx(2 * np.linalg.norm(UPDATE), rel=0.09)


def test_what_is_left_without_oneself_is_the_mean_of_the_others() -> None:
    rng = np.random.default_rng(1)
    updates = [rng.standard_normal(50).astype(np.float32) for _ in range(3)]
    weights = [1.0, 2.0, 5.0]
    mean = mean_of(updates, weights)
    others = without_own(mean, updates[2], 5 / 8)
    np.testing.assert_allclose(others, mean_of(updates[:2], weights[:2]), atol=1e-6)  # float32 rounding, times 8 / 3


def test_of_two_the_other_ones_update_is_left_exactly() -> None:
    first, second = UPDATE[:100], UPDATE[100:200]
    np.testing.assert_allclose(without_own(mean_of([first, second], [1, 1]), first, 0.5), second, atol=1e-6)


@pytest.mark.parametrize("share", [0.0, 1.0, float("nan")])
def test_there_are_others(share: float) -> None:
    with pytest.raises(ValueError, match="share"):
        without_own(UPDATE, UPDATE, share)
