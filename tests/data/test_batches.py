import time
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import example as always_try
from hypothesis import given, settings
from hypothesis import strategies as st

from confide.data.batches import collate, example_order, plan_batches
from confide.data.examples import TokenizedExample

SIZES = st.integers(1, 12)


def example(*token_ids: int) -> TokenizedExample:
    return TokenizedExample(
        record_id="r",
        input_ids=np.array(token_ids, dtype=np.int64),
        loss_mask=np.array([False] + [True] * (len(token_ids) - 1)),
    )


@settings(max_examples=100, deadline=None)
@given(num_examples=SIZES, start=st.integers(0, 40), first=st.integers(0, 30), second=st.integers(0, 30))
def test_stretches_of_the_walk_join(num_examples: int, start: int, first: int, second: int) -> None:
    def walk(start: int, count: int) -> list[int]:
        return example_order(num_examples, start, count, seed=1, client="north")

    assert walk(start, first) + walk(start + first, second) == walk(start, first + second)


@given(num_examples=SIZES, epoch=st.integers(0, 5))
def test_each_pass_meets_every_example_once(num_examples: int, epoch: int) -> None:
    order = example_order(num_examples, epoch * num_examples, num_examples, seed=1, client="north")
    assert sorted(order) == list(range(num_examples))


def test_passes_clients_and_seeds_have_their_own_orders() -> None:
    orders = [
        tuple(example_order(50, start, 50, seed=seed, client=client))
        for start, seed, client in [(0, 0, "a"), (50, 0, "a"), (0, 1, "a"), (0, 0, "b")]
    ]
    assert len(set(orders)) == 4


def test_a_client_without_examples_has_no_walk() -> None:
    with pytest.raises(ValueError, match="client 'north' has no examples"):
        example_order(0, 0, 1, seed=0, client="north")


@given(lengths=st.lists(st.integers(1, 9), max_size=40), batch_size=st.integers(1, 6), seed=st.integers(0, 9))
def test_batches_hold_every_example_once_and_neighbours_in_length(
    lengths: list[int], batch_size: int, seed: int
) -> None:
    batches = plan_batches(range(len(lengths)), lengths, batch_size, np.random.default_rng(seed))
    assert sorted(position for batch in batches for position in batch) == list(range(len(lengths)))
    assert sorted(map(len, batches), reverse=True)[:-1] == [batch_size] * max(len(batches) - 1, 0)
    spans = sorted((min(lengths[at] for at in batch), max(lengths[at] for at in batch)) for batch in batches)
    assert all(before[1] <= after[0] for before, after in pairwise(spans))


@settings(max_examples=200, deadline=None)
@given(
    num_examples=st.integers(1, 12),
    start=st.integers(0, 30),
    count=st.integers(0, 50),
    batch_size=st.integers(1, 6),
    seed=st.integers(0, 5),
)
@always_try(num_examples=5, start=2, count=15, batch_size=4, seed=0)  # two batches repeat
def test_several_passes_stay_passes(num_examples: int, start: int, count: int, batch_size: int, seed: int) -> None:
    walk = example_order(num_examples, start, count, seed=seed, client="north")
    lengths = [10 + position for position in range(num_examples)]
    batches = plan_batches(walk, lengths, batch_size, np.random.default_rng(seed))
    assert sorted(position for batch in batches for position in batch) == sorted(walk)
    assert len(batches) == -(-count // batch_size)
    repeated = [batch for batch in batches if len(set(batch)) < len(batch)]
    if num_examples >= 2 * batch_size and count % num_examples == start % num_examples == 0:
        assert not repeated
    # Repeated only where what was left had too few different ones; what was left holds all batches that repeat.
    assert not repeated or len(set().union(*repeated)) < batch_size


def test_three_passes_in_one_round_give_batches_of_different_examples() -> None:
    walk = example_order(24, 0, 72, seed=0, client="north")
    batches = plan_batches(walk, list(range(24)), 8, np.random.default_rng(0))
    assert [len(set(batch)) for batch in batches] == [8] * 9


def slow_plan(walk: Sequence[int], lengths: Sequence[int], size: int, rng: np.random.Generator) -> list[list[int]]:
    """The slow twin: for every batch it looks at the whole rest of the walk, and copies it."""
    met: Counter[int] = Counter()
    passes = []
    for position in walk:
        passes.append(met[position])
        met[position] += 1
    shuffled = [int(at) for at in rng.permutation(len(walk))]
    shuffled.sort(key=lambda at: (passes[at], lengths[walk[at]]))
    waiting = [walk[at] for at in shuffled]
    batches = []
    while waiting:
        batch: list[int] = []
        rest: list[int] = []
        for position in waiting:
            (batch if len(batch) < size and position not in batch else rest).append(position)
        missing = size - len(batch)
        batches.append(batch + rest[:missing])
        waiting = rest[missing:]
    return [batches[number] for number in rng.permutation(len(batches))]


@settings(max_examples=300, deadline=None)
@given(
    num_examples=st.integers(1, 12),
    start=st.integers(0, 30),
    count=st.integers(0, 60),
    batch_size=st.integers(1, 15),
    seed=st.integers(0, 2**32),
)
def test_batches_are_those_of_the_slow_twin(
    num_examples: int, start: int, count: int, batch_size: int, seed: int
) -> None:
    walk = example_order(num_examples, start, count, seed=seed, client="north")
    lengths = [10 + position // 3 for position in range(num_examples)]
    planned = plan_batches(walk, lengths, batch_size, np.random.default_rng(seed))
    assert planned == slow_plan(walk, lengths, batch_size, np.random.default_rng(seed))


@pytest.mark.parametrize("num_examples", [3, 300_000])
def test_a_long_walk_is_planned_in_seconds(num_examples: int) -> None:
    walk = example_order(num_examples, 0, 300_000, seed=0, client="north")
    began = time.process_time()
    plan_batches(walk, [5] * num_examples, 4, np.random.default_rng(0))
    assert time.process_time() - began < 10  # under one; work that grew with the square would take minutes


def test_the_order_of_batches_is_not_by_length() -> None:
    lengths = list(range(100))
    firsts = [batch[0] for batch in plan_batches(range(100), lengths, 10, np.random.default_rng(0))]
    assert firsts not in (sorted(firsts), sorted(firsts, reverse=True))


def test_equally_long_examples_come_together_at_random() -> None:
    one, other = (plan_batches(range(30), [5] * 30, 3, np.random.default_rng(seed)) for seed in (0, 1))
    assert {frozenset(batch) for batch in one} != {frozenset(batch) for batch in other}


def test_a_batch_is_padded_on_the_right_and_masked_there() -> None:
    batch = collate([example(1, 2, 3), example(4, 5)], pad_token_id=9)
    assert batch.input_ids.tolist() == [[1, 2, 3], [4, 5, 9]]
    assert batch.attention_mask.tolist() == [[1, 1, 1], [1, 1, 0]]
    assert batch.loss_mask.tolist() == [[False, True, True], [False, True, False]]
    assert (batch.input_ids.dtype, batch.attention_mask.dtype, batch.loss_mask.dtype) == (
        torch.int64,
        torch.int64,
        torch.bool,
    )
    assert batch.num_targets == 3


def test_a_batch_does_not_share_memory_with_its_examples() -> None:
    source = example(1, 2)
    collate([source], pad_token_id=0).input_ids.fill_(7)
    assert source.input_ids.tolist() == [1, 2]


def test_an_empty_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one example"):
        collate([], pad_token_id=0)
