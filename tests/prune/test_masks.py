import hashlib
import tracemalloc
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch.nn.utils import prune

from confide.errors import LayoutMismatchError, NonFiniteUpdateError
from confide.prune.masks import Mask, common_mask, explored_count, published_mask, random_mask
from confide.prune.schedules import kept_count
from confide.seeds import stream
from confide.update import Layout, Slot, Vector

# Few different values make many ties; the others are all finite float32, signed zeros and subnormals among them.
values = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.0, 1e-45, -1e-40]),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
)
vectors = hnp.arrays(np.float32, st.integers(1, 60), elements=values)


def rng(number: int = 0) -> np.random.Generator:
    return stream(7, "mask", number)


def magnitudes(vector: Vector) -> npt.NDArray[np.float64]:
    return np.abs(vector.astype(np.float64))


def times_kept(accumulated: Vector, num_kept: int, *, exploration: float, num_rounds: int) -> npt.NDArray[np.int64]:
    """How often each coordinate is kept, over streams of different rounds."""
    total = np.zeros(accumulated.size, np.int64)
    for number in range(num_rounds):
        total += common_mask(accumulated, num_kept, exploration=exploration, rng=rng(number))
    return total


@settings(deadline=None)
@given(vectors, st.floats(0, 1), st.data())
def test_a_common_mask_keeps_exactly_as_many_as_asked(
    accumulated: Vector, exploration: float, data: st.DataObject
) -> None:
    num_kept = data.draw(st.integers(1, accumulated.size))
    before = accumulated.copy()
    mask = common_mask(accumulated, num_kept, exploration=exploration, rng=rng())
    assert mask.dtype == np.bool_
    assert mask.shape == accumulated.shape
    assert mask.sum() == num_kept
    np.testing.assert_array_equal(accumulated, before)


@settings(deadline=None)
@given(vectors, st.floats(0, 1), st.data())
def test_the_largest_magnitudes_are_among_the_kept(
    accumulated: Vector, exploration: float, data: st.DataObject
) -> None:
    num_kept = data.draw(st.integers(1, accumulated.size))
    kept = magnitudes(accumulated)[common_mask(accumulated, num_kept, exploration=exploration, rng=rng())]
    num_top = num_kept - explored_count(num_kept, exploration)
    top = np.sort(magnitudes(accumulated))[::-1][:num_top]  # the slow twin: sort in float64
    np.testing.assert_array_equal(np.sort(kept)[::-1][:num_top], top)


def test_the_places_not_given_by_magnitude_are_drawn_evenly_among_all_others() -> None:
    # Magnitudes 100 > 99 > ... > 1: of 20 places 15 go to the top, 5 to any of the other 85.
    accumulated = np.arange(100, 0, -1, dtype=np.float32)
    num_rounds = 2000
    kept = times_kept(accumulated, 20, exploration=0.25, num_rounds=num_rounds)
    assert set(kept[:15]) == {num_rounds}
    p = 5 / 85
    # Binomial; 4.5 standard deviations leave 85 coordinates a chance of 6e-4 to fail, and the streams are fixed.
    assert np.abs(kept[15:] - num_rounds * p).max() < 4.5 * np.sqrt(num_rounds * p * (1 - p))


def test_no_coordinate_is_shut_out_and_the_wait_is_as_promised() -> None:
    """Also with magnitudes that never change: the mean wait is (n - kept + explored) / explored = 51 / 1 rounds."""
    accumulated = np.arange(100, 0, -1, dtype=np.float32)
    masks = [common_mask(accumulated, 50, exploration=0.02, rng=rng(number)) for number in range(3000)]
    outside = np.array(masks)[:, 49:]  # 49 places by magnitude, one drawn among 51
    assert (outside.sum(axis=1) == 1).all()
    assert outside.any(axis=0).all()
    waits = np.concatenate([np.diff(np.flatnonzero(column)) for column in outside.T])
    # Geometric with p = 1/51: standard deviation about 50.5, so four standard errors of about 2950 waits are 3.7; waits
    # cut off by the end pull the mean down by less than 51 * 51 / 3000 = 0.9.
    assert waits.mean() == pytest.approx(51, abs=4.6)


@pytest.mark.parametrize(
    ("num_kept", "exploration", "expected"),
    [(100, 0.0, 0), (100, 0.1, 10), (10, 0.25, 3), (10, 0.24, 2), (100, 1e-9, 1), (1, 0.1, 1), (7, 1.0, 7)],
)
def test_any_exploration_draws_at_least_one_place(num_kept: int, exploration: float, expected: int) -> None:
    assert explored_count(num_kept, exploration) == expected


@settings(deadline=None)
@given(vectors, st.data())
def test_without_exploration_a_mask_without_ties_needs_no_stream(accumulated: Vector, data: st.DataObject) -> None:
    distinct = np.unique(np.abs(accumulated))
    num_kept = data.draw(st.integers(1, distinct.size))
    one, other = (common_mask(distinct, num_kept, exploration=0.0, rng=rng(number)) for number in (1, 2))
    np.testing.assert_array_equal(one, other)
    assert one[distinct.size - num_kept :].all()


def test_ties_are_broken_evenly_by_the_stream() -> None:
    accumulated = np.array([3, 1, -1, 1, -1, 0.5], np.float32)
    num_rounds = 4000
    kept = times_kept(accumulated, 2, exploration=0.0, num_rounds=num_rounds)
    assert (kept[0], kept[5]) == (num_rounds, 0)
    # One of four with probability 1/4: 4 standard deviations of a binomial of 4000 are 110.
    assert np.abs(kept[1:5] - num_rounds / 4).max() < 110


def test_signed_zeros_tie_and_subnormals_do_not() -> None:
    accumulated = np.array([0.0, -0.0, 1e-45, -3e-45], np.float32)
    assert [common_mask(accumulated, k, exploration=0.0, rng=rng()).tolist()[2:] for k in (1, 2)] == [
        [False, True],
        [True, True],
    ]
    thirds = {tuple(common_mask(accumulated, 3, exploration=0.0, rng=rng(n)).tolist()[:2]) for n in range(20)}
    assert thirds == {(True, False), (False, True)}


@pytest.mark.parametrize("exploration", [0.0, 0.1, 1.0])
def test_a_vector_of_zeros_gives_a_purely_seeded_mask(exploration: float) -> None:
    num_rounds = 3000
    masks = [common_mask(np.zeros(30, np.float32), 10, exploration=exploration, rng=rng(n)) for n in range(num_rounds)]
    kept = np.sum(masks, axis=0)
    # Binomial with p = 1/3; 4.5 standard deviations of 25.8.
    assert np.abs(kept - num_rounds / 3).max() < 117
    together = np.array(masks).T.astype(int) @ np.array(masks).astype(int)
    pairs = together[np.triu_indices(30, 1)]
    # Two coordinates together: 10/30 * 9/29; 5 standard deviations (16.6) over 435 pairs.
    assert np.abs(pairs - num_rounds * 90 / 870).max() < 84


@settings(deadline=None)
@given(vectors, st.floats(0, 1), st.data())
def test_equal_arguments_give_equal_masks(accumulated: Vector, exploration: float, data: st.DataObject) -> None:
    num_kept = data.draw(st.integers(1, accumulated.size))
    one, other = (common_mask(accumulated, num_kept, exploration=exploration, rng=rng(3)) for _ in range(2))
    np.testing.assert_array_equal(one, other)


def test_another_stream_explores_other_coordinates_and_keeps_the_same_top() -> None:
    accumulated = np.random.default_rng(0).normal(size=10_000).astype(np.float32)
    one, other = (common_mask(accumulated, 5000, exploration=0.1, rng=rng(number)) for number in (1, 2))
    top = np.argsort(-np.abs(accumulated))[:4500]
    assert one[top].all()
    assert other[top].all()
    # Two draws of 500 among 5500 share 45 on average, standard deviation 6.1.
    assert (one & other).sum() - 4500 < 45 + 6 * 6.1


def drawn_by_sorting(candidates: list[int], count: int, rng: np.random.Generator) -> set[int]:
    """The slow twin of a draw: tickets are the halves of the stream's 64-bit words, the low half first."""
    if count in (0, len(candidates)):
        return set(candidates[:count])
    words = [int(word) for word in rng.bit_generator.random_raw((len(candidates) + 1) // 2)]
    tickets = [half for word in words for half in (word % 2**32, word // 2**32)]
    order = sorted(range(len(candidates)), key=lambda index: (tickets[index], index))
    return {candidates[index] for index in order[:count]}


@settings(deadline=None)
@given(vectors, st.floats(0, 1), st.data())
def test_a_common_mask_is_what_sorting_in_plain_python_gives(
    accumulated: Vector, exploration: float, data: st.DataObject
) -> None:
    num_kept = data.draw(st.integers(1, accumulated.size))
    num_top = num_kept - explored_count(num_kept, exploration)
    sizes, twin_rng = [abs(float(value)) for value in accumulated], rng(5)
    kept: set[int] = set()
    if num_top:
        threshold = sorted(sizes, reverse=True)[num_top - 1]
        kept = {index for index, size in enumerate(sizes) if size > threshold}
        ties = [index for index, size in enumerate(sizes) if size == threshold]
        kept |= drawn_by_sorting(ties, num_top - len(kept), twin_rng)
    others = [index for index in range(len(sizes)) if index not in kept]
    kept |= drawn_by_sorting(others, num_kept - num_top, twin_rng)
    found = common_mask(accumulated, num_kept, exploration=exploration, rng=rng(5))
    assert set(np.flatnonzero(found).tolist()) == kept


def test_masks_are_the_same_on_every_machine_and_in_every_release() -> None:
    """Known answers: SHA-256 of the packed masks, equal to those of the slow twin above when they were written down."""
    accumulated = (np.arange(1000, dtype=np.int64) * 7919 % 211 - 105).astype(np.float32)
    masks = [
        common_mask(accumulated, 300, exploration=0.1, rng=stream(1, "mask", 2)),
        random_mask(1000, 300, stream(1, "mask", 2)),
    ]
    found = [hashlib.sha256(np.packbits(mask).tobytes()).hexdigest()[:16] for mask in masks]
    assert found == ["cf205db583df1d0f", "f54f530bb3800261"]


@settings(deadline=None)
@given(st.integers(1, 60), st.data())
def test_a_random_mask_keeps_the_smallest_tickets(num_values: int, data: st.DataObject) -> None:
    num_kept = data.draw(st.integers(1, num_values))
    mask = random_mask(num_values, num_kept, rng(5))
    assert mask.shape == (num_values,)
    assert mask.sum() == num_kept
    assert set(np.flatnonzero(mask).tolist()) == drawn_by_sorting(list(range(num_values)), num_kept, rng(5))


def test_random_masks_keep_every_set_equally_often() -> None:
    num_draws = 6000
    sets = [tuple(np.flatnonzero(random_mask(6, 3, rng(number)))) for number in range(num_draws)]
    _, counts = np.unique(sets, axis=0, return_counts=True)
    assert len(counts) == 20
    chi_squared = ((counts - num_draws / 20) ** 2 / (num_draws / 20)).sum()
    assert chi_squared < 43.8  # the 0.1 % point of chi-squared with 19 degrees of freedom


def torch_mask(tensor: torch.Tensor, sparsity: float) -> Mask:
    """What the published code does to one tensor."""
    holder = torch.nn.Module()
    holder.weight = torch.nn.Parameter(tensor)
    prune.l1_unstructured(holder, "weight", amount=sparsity)
    mask = holder.weight_mask
    assert isinstance(mask, torch.Tensor)
    found: Mask = mask.numpy().astype(bool).reshape(-1)
    return found


LAYOUT = Layout((Slot(name="a", shape=(4, 7)), Slot(name="b", shape=(9, 2)), Slot(name="c", shape=(1, 5))))


@settings(deadline=None)
@given(st.integers(0, 1000), st.floats(0, 1))
def test_a_published_mask_is_torchs_per_tensor(seed: int, sparsity: float) -> None:
    weights = np.random.default_rng(seed).normal(size=LAYOUT.num_values).astype(np.float32)
    weights[LAYOUT.slice_of("b")] *= 100  # a mask over all tensors at once would take everything from here
    mask = LAYOUT.unflatten(published_mask(weights, LAYOUT, sparsity).astype(np.float32))
    for name, tensor in LAYOUT.unflatten(weights).items():
        np.testing.assert_array_equal(mask[name].reshape(-1).astype(bool), torch_mask(torch.tensor(tensor), sparsity))


@settings(deadline=None)
@given(hnp.arrays(np.float32, LAYOUT.num_values, elements=values), st.floats(0, 1))
def test_with_ties_a_published_mask_keeps_what_torch_keeps_by_number_and_size(weights: Vector, sparsity: float) -> None:
    mask = published_mask(weights, LAYOUT, sparsity)
    for slot in LAYOUT:
        own = magnitudes(weights[LAYOUT.slice_of(slot.name)])
        theirs = torch_mask(torch.tensor(weights[LAYOUT.slice_of(slot.name)].reshape(slot.shape)), sparsity)
        np.testing.assert_array_equal(np.sort(own[mask[LAYOUT.slice_of(slot.name)]]), np.sort(own[theirs]))


def test_a_published_mask_keeps_the_earlier_of_equals() -> None:
    layout = Layout((Slot(name="a", shape=(2, 3)),))
    mask = published_mask(np.array([1, -1, 2, 1, 0, 1], np.float32), layout, 0.5)
    assert mask.tolist() == [True, True, True, False, False, False]


def peak_bytes(call: Callable[[], Mask]) -> int:
    tracemalloc.start()
    call()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


@pytest.mark.parametrize("accumulated", [np.arange(1_000_000, dtype=np.float32), np.zeros(1_000_000, np.float32)])
@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.9])
def test_memory_stays_within_twelve_bytes_per_coordinate(accumulated: Vector, sparsity: float) -> None:
    num_values = accumulated.size
    num_kept = kept_count(num_values, sparsity)
    layout = Layout((Slot(name="a", shape=(num_values // 100, 100)),))
    assert peak_bytes(lambda: common_mask(accumulated, num_kept, exploration=0.1, rng=rng())) < 12 * num_values
    assert peak_bytes(lambda: random_mask(num_values, num_kept, rng())) < 12 * num_values
    assert peak_bytes(lambda: published_mask(accumulated, layout, sparsity)) < 13 * num_values  # one for the mask


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_vector_that_is_not_finite_has_no_mask(bad: float) -> None:
    vector = np.array([1, bad, 2], np.float32)
    with pytest.raises(NonFiniteUpdateError, match="a value is NaN or infinite"):
        common_mask(vector, 1, exploration=0.1, rng=rng())
    with pytest.raises(NonFiniteUpdateError, match="a value is NaN or infinite"):
        published_mask(vector, Layout((Slot(name="a", shape=(3,)),)), 0.5)


def test_numbers_out_of_range_are_named() -> None:
    vector = np.ones(3, np.float32)
    for num_kept in (0, 4):
        with pytest.raises(ValueError, match=f"num_kept is {num_kept}, expected 1 to 3, the number of coordinates"):
            common_mask(vector, num_kept, exploration=0.1, rng=rng())
        with pytest.raises(ValueError, match=f"num_kept is {num_kept}, expected 1 to 3"):
            random_mask(3, num_kept, rng())
    with pytest.raises(ValueError, match=r"exploration is 1\.1, expected 0 to 1"):
        common_mask(vector, 2, exploration=1.1, rng=rng())
    layout = Layout((Slot(name="a", shape=(3,)),))
    with pytest.raises(ValueError, match=r"sparsity is -0\.1, expected 0 to 1"):
        published_mask(vector, layout, -0.1)
    with pytest.raises(LayoutMismatchError, match="expected a flat float32 vector of 3 values"):
        published_mask(np.ones(4, np.float32), layout, 0.5)
