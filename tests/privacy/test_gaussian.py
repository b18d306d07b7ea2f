"""Goodness of fit on seeded bytes, so that a test gives the same answer each time; wrong noise fails at p < 1e-4."""

import math

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import ndtr, ndtri
from scipy.stats import chisquare, kstest

from confide.privacy.gaussian import gaussian_noise
from confide.privacy.randomness import OsRandomness, SeededRandomness

NUM_VALUES = 1_000_000
SCALE = 0.37
SMALLEST_P = 1e-4
LARGEST_Z = 3.9  # two-sided probability 1e-4

Standard = npt.NDArray[np.float64]


class Words:
    """Gives the same eight bytes again and again."""

    name = "one word"

    def __init__(self, word: int) -> None:
        self._word = word.to_bytes(8, "little")

    def random_bytes(self, count: int) -> bytes:
        assert count % 8 == 0
        return self._word * (count // 8)


class Counting:
    """A seeded source that remembers what was asked of it."""

    name = "counting"

    def __init__(self) -> None:
        self._inner = SeededRandomness(0)
        self.counts: list[int] = []

    def random_bytes(self, count: int) -> bytes:
        self.counts.append(count)
        return self._inner.random_bytes(count)


@pytest.fixture(scope="module")
def standard() -> Standard:
    """A million values over their scale."""
    return gaussian_noise(NUM_VALUES, SCALE, SeededRandomness(1, "fit")).astype(np.float64) / SCALE


def test_the_distribution_is_normal(standard: Standard) -> None:
    assert kstest(standard, "norm").pvalue > SMALLEST_P


def test_cells_of_equal_probability_are_hit_equally_often(standard: Standard) -> None:
    # 1000 cells; a scale off by 2 % moves chi-square by about 1e6 * 0.04**2 / 2 = 800, or 18 standard deviations.
    counts = np.bincount((ndtr(standard) * 1000).astype(np.int64), minlength=1000)
    assert chisquare(counts).pvalue > SMALLEST_P


def test_tails_have_their_share(standard: Standard) -> None:
    edges = np.array([3.0, 3.5, 4.0, 4.5])
    for side in (standard, -standard):
        beyond = -np.diff([(side > edge).sum() for edge in edges], append=0)
        share = -np.diff(ndtr(-edges), append=0)
        counts = np.append(beyond, len(side) - beyond.sum())
        assert chisquare(counts, len(side) * np.append(share, 1 - share.sum())).pvalue > SMALLEST_P


def test_moments_are_those_of_the_normal_distribution(standard: Standard) -> None:
    # The variance of x**k is (2k-1)!! - ((k-1)!!)**2 for even k, (2k-1)!! for odd k.
    for power, expected, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96), (6, 15, 10_170)):
        found = float((standard**power).mean())
        assert abs(found - expected) < LARGEST_Z * math.sqrt(variance / NUM_VALUES), power


def test_values_are_independent_of_their_neighbours(standard: Standard) -> None:
    for distance in (1, 2, 3, 4, 2048, 4096, 8192):  # also over blocks and the draws of one block
        for power in (1, 2):  # variance of a product of standard values, and of their centred squares
            centred = standard**power - (power - 1)
            products = centred[distance:] * centred[:-distance]
            assert abs(products.mean()) < LARGEST_Z * power / math.sqrt(len(products)), (distance, power)


def test_each_value_is_half_the_sum_of_four_draws() -> None:
    source = SeededRandomness(5)
    noise = gaussian_noise(3, 2.0, SeededRandomness(5))
    words = [int.from_bytes(source.random_bytes(8), "little") for _ in range(12)]
    draws = np.array([float(ndtri(((word >> 12) + 0.5) / 2**52)) for word in words])
    expected = 2.0 * sum(draws[start : start + 3] for start in (0, 3, 6, 9)) / 2
    np.testing.assert_allclose(noise, expected, rtol=2.0**-23)  # one rounding to float32, and float64 sums


@pytest.mark.parametrize("word", [0, 2**64 - 1])
def test_the_outermost_words_give_finite_values_of_equal_size(word: int) -> None:
    noise = gaussian_noise(5, 1.0, Words(word))
    expected = 2 * float(ndtri(2.0**-53))  # -16.42
    np.testing.assert_allclose(noise, expected if word == 0 else -expected, rtol=2.0**-23)
    assert np.abs(noise).max() < 16.5


def test_noise_scales_with_its_scale() -> None:
    one, other = (gaussian_noise(1000, scale, SeededRandomness(3)) for scale in (1.0, 4.0))
    np.testing.assert_array_equal(4 * one, other)  # a power of 2 is exact


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_the_outermost_scales_give_finite_noise_that_is_not_zero(scale: float) -> None:
    noise = gaussian_noise(10_000, scale, SeededRandomness(8))
    assert np.isfinite(noise).all()
    assert (noise != 0).all()
    assert np.std(noise / np.float32(scale)) == pytest.approx(1, abs=LARGEST_Z / math.sqrt(2 * 10_000))


@pytest.mark.parametrize("num_values", [0, 1, 2, 8191, 8192, 8193, 20_000])
def test_every_place_is_filled(num_values: int) -> None:
    noise = gaussian_noise(num_values, 1.0, Words(0))
    assert noise.shape == (num_values,)
    assert noise.dtype == np.float32
    assert (noise == np.float32(2 * ndtri(2.0**-53))).all()


def test_bytes_are_taken_in_blocks_and_never_more_than_needed() -> None:
    source = Counting()
    gaussian_noise(100_000, 1.0, source)
    assert sum(source.counts) == 32 * 100_000
    assert max(source.counts) <= 1 << 20


def test_two_draws_of_the_operating_system_differ_everywhere() -> None:
    one, other = (gaussian_noise(1000, 1.0, OsRandomness()) for _ in range(2))
    # Two of 1000 pairs equal in float32: an expected 1000 * 2**-23 or so pairs, so 5 is out of question.
    assert np.count_nonzero(one == other) < 5


@pytest.mark.parametrize("scale", [0.0, -1.0, -0.0, 1e-31, 1e31, math.inf, math.nan])
def test_a_scale_out_of_its_range_is_refused(scale: float) -> None:
    with pytest.raises(ValueError, match=r"scale is .*, expected 1e-30 to 1e\+30"):
        gaussian_noise(3, scale, SeededRandomness(0))


def test_a_negative_count_is_refused() -> None:
    with pytest.raises(ValueError, match="num_values is -1, expected at least 0"):
        gaussian_noise(-1, 1.0, SeededRandomness(0))
