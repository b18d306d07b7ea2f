"""Updates changed in one thing: pruned, noised, averaged, and with one's own part taken out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.attacks.updates.what_if import mean_of, noised, pruned, without_own
from confide.seeds import stream

UPDATE = np.random.default_rng(0).standard_normal(1000).astype(np.float32)


@given(sparsity=st.floats(0, 0.99))
def test_pruning_drops_exactly_the_smallest(sparsity: float) -> None:
    kept = pruned(UPDATE, sparsity)
    dropped = kept == 0
    assert dropped.sum() == int(sparsity * 1000)
    assert (kept[~dropped] == UPDATE[~dropped]).all()
    if dropped.any() and not dropped.all():
        assert np.abs(UPDATE[dropped]).max() <= np.abs(kept[~dropped]).min()


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
