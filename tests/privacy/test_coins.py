"""Coins: the right rate, independent, from the source alone."""

import numpy as np
import pytest
from scipy.stats import binomtest

from confide.privacy.coins import bernoulli
from confide.privacy.randomness import OsRandomness, SeededRandomness


@pytest.mark.parametrize("probability", [0.003, 0.25, 0.5, 0.9])
def test_each_coin_falls_with_its_probability(probability: float) -> None:
    flips = bernoulli(100_000, probability, SeededRandomness(0, "coins"))
    assert binomtest(int(flips.sum()), flips.size, probability).pvalue > 1e-4
    pairs = int((flips[::2] & flips[1::2]).sum())
    assert binomtest(pairs, flips.size // 2, probability**2).pvalue > 1e-4


def test_certain_coins_are_certain() -> None:
    assert bernoulli(1000, 1.0, OsRandomness()).all()
    assert not bernoulli(1000, 0.0, OsRandomness()).any()
    assert bernoulli(0, 0.5, OsRandomness()).shape == (0,)


def test_a_coin_is_decided_by_all_53_bits() -> None:
    """A source of known bytes: the uniform number is the top 53 bits of each little-endian word."""

    class Known:
        name = "known"

        def random_bytes(self, count: int) -> bytes:
            assert count == 16
            return np.array([(1 << 63), (1 << 63) - (1 << 11)], "<u8").tobytes()

    assert bernoulli(2, 0.5, Known()).tolist() == [False, True]
    assert bernoulli(2, 0.5 + 2.0**-53, Known()).tolist() == [True, True]


@pytest.mark.parametrize(("count", "probability"), [(-1, 0.5), (1, -0.1), (1, 1.1), (1, float("nan"))])
def test_what_is_no_coin_is_refused(count: int, probability: float) -> None:
    with pytest.raises(ValueError, match="probability"):
        bernoulli(count, probability, OsRandomness())
