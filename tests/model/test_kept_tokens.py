"""What a decoder keeps is read on from only where every layer keeps each token's keys and values."""

import pytest
from transformers.cache_utils import (
    CacheLayerMixin,
    DynamicCache,
    DynamicLayer,
    DynamicSlidingWindowLayer,
    LinearAttentionAndFullAttentionLayer,
    StaticLayer,
)

from confide.model.kept_tokens import keeps_each_token, shortest_window


def cache_of(*layers: CacheLayerMixin) -> DynamicCache:
    cache = DynamicCache()
    cache.layers = list(layers)
    return cache


def test_keys_and_values_of_every_layer_are_enough_also_in_a_sliding_window() -> None:
    assert keeps_each_token(cache_of(DynamicLayer(), DynamicSlidingWindowLayer(sliding_window=4)))


@pytest.mark.parametrize("place", [0, 1])
def test_one_layer_that_keeps_something_else_is_one_too_many(place: int) -> None:
    """As a hybrid model's, whose running states are kept in the same cache."""
    for other in (LinearAttentionAndFullAttentionLayer(), StaticLayer(max_cache_len=4)):
        layers: list[CacheLayerMixin] = [DynamicLayer(), DynamicLayer()]
        layers[place] = other
        assert not keeps_each_token(cache_of(*layers))


def test_what_is_no_cache_is_not_read_on_from() -> None:
    assert not keeps_each_token(None)
    assert not keeps_each_token(((),))


def test_the_layer_that_looks_back_least_far_counts() -> None:
    windows = [DynamicSlidingWindowLayer(sliding_window=size) for size in (9, 4)]
    assert shortest_window(cache_of(DynamicLayer(), *windows)) == 4
    assert shortest_window(cache_of(DynamicLayer())) is None
