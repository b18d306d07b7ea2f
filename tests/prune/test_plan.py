"""The pruning of a run: what a mask keeps, and that its size is known without it."""

from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch.nn.utils import prune

from confide.errors import NonFiniteUpdateError
from confide.prune.masks import common_mask, random_mask
from confide.prune.plan import MaskKind, Pruning
from confide.prune.schedules import ConstantSparsity, RampSparsity, SparsitySchedule
from confide.seeds import stream
from confide.update import Layout, Slot, Vector

KINDS: tuple[MaskKind, ...] = get_args(MaskKind)
LAYOUT = Layout((Slot(name="A", shape=(2, 3)), Slot(name="B", shape=(4,))))

vectors = hnp.arrays(np.float32, st.integers(1, 40), elements=st.floats(-100, 100, width=32))
# Magnitudes that all differ: among equal ones the published code leaves open which go.
apart = st.permutations(range(1, 11)).map(lambda found: np.array(found, np.float32))
signs = hnp.arrays(np.float32, 10, elements=st.sampled_from([-1.0, 1.0]))


def pruning(kind: MaskKind, schedule: SparsitySchedule | None = None, exploration: float = 0.25) -> Pruning:
    return Pruning(
        kind=kind,
        schedule=schedule or ConstantSparsity(target=0.5),
        exploration=exploration,
        rng=lambda number: stream(7, "mask", number),
    )


def test_only_a_common_mask_goes_by_magnitude() -> None:
    assert [kind for kind in KINDS if pruning(kind).goes_by_magnitude] == ["common"]


@settings(deadline=None)
@given(st.sampled_from(KINDS), vectors, st.floats(0, 0.999), st.integers(1, 50))
def test_as_many_travel_as_was_said_without_the_mask(
    kind: MaskKind, accumulated: Vector, sparsity: float, round_number: int
) -> None:
    plan = pruning(kind, ConstantSparsity(target=sparsity))
    mask = plan.mask(accumulated, round_number)
    num_kept = plan.num_kept(accumulated.size, round_number)
    assert num_kept == (accumulated.size if mask is None else np.count_nonzero(mask))
    assert (mask is None) == (num_kept == accumulated.size)
    again = plan.mask(accumulated.copy(), round_number)
    assert (mask is None and again is None) or np.array_equal(mask, again)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["none", "published"])
def test_without_a_shared_mask_everything_travels(kind: MaskKind) -> None:
    plan = pruning(kind, ConstantSparsity(target=0.9))
    assert plan.mask(np.ones(10, np.float32), 3) is None
    assert plan.num_kept(10, 3) == 10


def test_a_common_mask_is_drawn_from_the_rounds_own_stream_and_the_accumulated_steps() -> None:
    accumulated = np.arange(40, dtype=np.float32)
    masks = [pruning("common").mask(accumulated, number) for number in (1, 2)]
    for number, mask in zip((1, 2), masks, strict=True):
        expected = common_mask(accumulated, 20, exploration=0.25, rng=stream(7, "mask", number))
        np.testing.assert_array_equal(mask, expected)
    assert masks[0] is not None
    assert not np.array_equal(masks[0], masks[1])  # type: ignore[arg-type]


def test_a_random_mask_does_not_look_at_the_values() -> None:
    masks = [pruning("random").mask(values, 3) for values in (np.zeros(30, np.float32), np.ones(30, np.float32))]
    for mask in masks:
        np.testing.assert_array_equal(mask, random_mask(30, 15, stream(7, "mask", 3)))


def test_the_schedule_says_how_much_travels() -> None:
    plan = pruning("random", RampSparsity(start_round=2, end_round=4, initial_sparsity=0.2, target=0.6))
    assert [plan.num_kept(10, number) for number in range(1, 7)] == [10, 10, 8, 6, 4, 4]
    assert plan.mask(np.zeros(10, np.float32), 2) is None


@pytest.mark.parametrize("kind", ["none", "common", "random"])
def test_only_published_touches_an_update(kind: MaskKind) -> None:
    start, update = np.ones(10, np.float32), np.arange(10, dtype=np.float32)
    assert pruning(kind).zero_own(start, update, LAYOUT, 1) is update


@settings(deadline=None)
@given(apart, signs, hnp.arrays(np.float32, 10, elements=st.integers(-8, 8)), st.floats(0, 0.99))
def test_published_leads_to_local_weights_masked_tensor_by_tensor(
    sizes: Vector, sign: Vector, start: Vector, sparsity: float
) -> None:
    """The reference is what the published code calls: torch's pruning of every tensor of the local weights."""
    weights = sizes * sign  # small whole numbers, so that sums and differences are exact
    update = weights - start
    before = update.copy()
    pruned = pruning("published", ConstantSparsity(target=sparsity)).zero_own(start, update, LAYOUT, 1)
    np.testing.assert_array_equal(update, before)
    assert pruned.dtype == np.float32
    for name, tensor in LAYOUT.unflatten(weights).items():
        module = torch.nn.Module()
        module.weight = torch.nn.Parameter(torch.from_numpy(tensor.copy()))
        prune.l1_unstructured(module, "weight", amount=sparsity)
        assert isinstance(module.weight, torch.Tensor)
        np.testing.assert_array_equal(LAYOUT.unflatten(start + pruned)[name], module.weight.detach().numpy())


def test_published_refuses_weights_that_are_not_finite() -> None:
    update = np.full(10, np.inf, np.float32)
    with pytest.raises(NonFiniteUpdateError, match="a value is NaN or infinite"):
        pruning("published").zero_own(np.zeros(10, np.float32), update, LAYOUT, 1)
