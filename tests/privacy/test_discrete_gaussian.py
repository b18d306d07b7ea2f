"""Goodness of fit on seeded bytes, so that a test gives the same answer each time; a wrong law fails at p < 1e-4.

References: the law itself in 30 digits, its exact convolution, and decisions between rational numbers and exponentials
in 200 digits.
"""

import functools
import math
from decimal import Decimal, localcontext

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import ndtr
from scipy.stats import chisquare

from confide.privacy import discrete_gaussian as sampler
from confide.privacy.discrete_gaussian import MAX_SIGMA, Integers, discrete_gaussian
from confide.privacy.randomness import OsRandomness, SeededRandomness

NUM_VALUES = 1_000_000
SMALLEST_P = 1e-4
LARGEST_Z = 3.9  # two-sided probability 1e-4
REACH = 12  # standard deviations; 1e-32 of the law lies beyond

Law = npt.NDArray[np.float64]


class Scripted:
    """Gives the bytes it was made of, in order, and no others."""

    name = "scripted"

    def __init__(self, script: bytes) -> None:
        self._script = script

    def random_bytes(self, count: int) -> bytes:
        assert count <= len(self._script), "the script is over"
        taken, self._script = self._script[:count], self._script[count:]
        return taken

    def is_over(self) -> bool:
        return not self._script


@functools.cache
def exact_law(sigma: int) -> Law:
    """The probabilities of -reach ... reach, with reach = 12 sigma."""
    with localcontext() as context:
        context.prec = 30
        weights = [(-Decimal(x * x) / (2 * sigma * sigma)).exp() for x in range(REACH * sigma + 1)]
        total = 2 * sum(weights) - weights[0]
        half = [float(weight / total) for weight in weights]
    return np.array(half[:0:-1] + half)


def fit(values: Integers, law: Law) -> float:
    """The p-value of chi-square for integers about 0; neighbours share a cell until 10 are expected in it."""
    reach = len(law) // 2
    assert np.abs(values).max() <= reach
    counts = np.bincount(values + reach, minlength=len(law))
    cells = np.minimum((np.cumsum(law) * len(values) / 10).astype(np.int64), int(len(values) / 10) - 1)
    _, cells = np.unique(cells, return_inverse=True)
    return float(chisquare(np.bincount(cells, counts), np.bincount(cells, law) * len(values)).pvalue)


def precise_exp(numerator: int, denominator: int, num_bits: int) -> int:
    """floor(2**num_bits e**(-numerator / denominator)), from 200 digits."""
    with localcontext() as context:
        context.prec = 200
        return int((-Decimal(numerator) / denominator).exp() * 2**num_bits)


@pytest.fixture
def all_in_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    """No decision is made by float64 numbers."""
    monkeypatch.setattr(sampler, "_DOUBT", 2.0)


# --- The law


@pytest.mark.parametrize("sigma", [1, 2, 3, 7, 100])
def test_every_integer_has_its_probability(sigma: int) -> None:
    assert fit(discrete_gaussian(NUM_VALUES, sigma, SeededRandomness(sigma, "law")), exact_law(sigma)) > SMALLEST_P


@pytest.mark.parametrize("sigma", [1, 2, 7, 100, 5000])
def test_moments_are_those_of_the_law(sigma: int) -> None:
    law = exact_law(sigma)
    grid = np.arange(-(len(law) // 2), len(law) // 2 + 1) / sigma
    values = discrete_gaussian(NUM_VALUES, sigma, SeededRandomness(sigma, "moments")) / sigma
    for power in (1, 2, 3, 4):
        mean = float(law @ grid**power)
        spread = math.sqrt(float(law @ grid ** (2 * power)) - mean**2)
        assert abs(float((values**power).mean()) - mean) < LARGEST_Z * spread / math.sqrt(NUM_VALUES), power


@pytest.mark.parametrize("sigma", [1, 2, 100, 5000])
def test_the_standard_deviation_is_sigma(sigma: int) -> None:
    law = exact_law(sigma)
    grid = np.arange(-(len(law) // 2), len(law) // 2 + 1)
    assert math.sqrt(float(law @ grid**2.0)) == pytest.approx(sigma, rel=1e-6)


@pytest.mark.parametrize("sigma", [5000, 65_537, MAX_SIGMA])
def test_a_wide_law_is_the_normal_one_in_cells(sigma: int) -> None:
    # 500 cells of about equal probability, each between two half-integers; the law's own share of one differs from the
    # normal one by about 1 / (24 sigma**2) of it.
    values = discrete_gaussian(NUM_VALUES, sigma, SeededRandomness(sigma, "cells"))
    edges = np.unique(np.floor(sigma * np.sort(np.random.default_rng(0).standard_normal(20_000))[40::40])) + 0.5
    counts = np.bincount(np.searchsorted(edges, values), minlength=len(edges) + 1)
    shares = np.diff(ndtr(edges / sigma), prepend=0, append=1)
    assert chisquare(counts, shares * NUM_VALUES).pvalue > SMALLEST_P


@pytest.mark.parametrize("sigma", [100, 5000, MAX_SIGMA])
def test_low_bits_are_uniform(sigma: int) -> None:
    # The law modulo 64 is uniform up to exp(-2 pi**2 sigma**2 / 64**2), below 1e-20 for sigma = 100.
    counts = np.bincount(discrete_gaussian(NUM_VALUES, sigma, SeededRandomness(sigma, "bits")) & 63, minlength=64)
    assert chisquare(counts).pvalue > SMALLEST_P


def test_values_are_independent_of_their_neighbours() -> None:
    values = discrete_gaussian(NUM_VALUES, 100, SeededRandomness(0, "neighbours")) / 100
    for distance in (1, 2, 7):
        for power in (1, 2):  # variance of a product of standard values, and of their centred squares
            centred = values**power - (power - 1)
            products = centred[distance:] * centred[:-distance]
            assert abs(products.mean()) < LARGEST_Z * power / math.sqrt(len(products))


# --- Sums of several clients' shares


def test_a_sum_of_shares_has_the_convolved_law() -> None:
    law = exact_law(3)
    sums = sum(discrete_gaussian(NUM_VALUES, 3, SeededRandomness(2, "share", client)) for client in range(5))
    convolved = law
    for _ in range(4):
        convolved = np.convolve(convolved, law)
    assert fit(np.asarray(sums), convolved) > SMALLEST_P


def test_a_sum_of_shares_is_nearly_normal() -> None:
    # A sum of n discrete Gaussians differs from the discrete Gaussian of variance n sigma**2 by a part of about
    # 10 n exp(-pi**2 sigma**2), nothing for sigma = 100, and that from the normal law by 1e-6 in cells.
    sums = sum(discrete_gaussian(NUM_VALUES, 100, SeededRandomness(3, "share", client)) for client in range(4))
    reach = REACH * 200
    law = np.diff(ndtr((np.arange(-reach, reach + 2) - 0.5) / 200))
    assert fit(np.asarray(sums), law) > SMALLEST_P


# --- Decisions


@pytest.mark.usefixtures("all_in_doubt")
@pytest.mark.parametrize("sigma", [1, 7])
def test_the_exact_way_alone_gives_the_law(sigma: int) -> None:
    assert fit(discrete_gaussian(8000, sigma, SeededRandomness(sigma, "exact")), exact_law(sigma)) > SMALLEST_P


@pytest.mark.parametrize("sigma", [1, 7, 5000, MAX_SIGMA])
def test_the_exact_way_decides_alike_and_takes_the_same_bytes(sigma: int, monkeypatch: pytest.MonkeyPatch) -> None:
    fast_source, exact_source = SeededRandomness(sigma, "alike"), SeededRandomness(sigma, "alike")
    fast = discrete_gaussian(4000, sigma, fast_source)
    monkeypatch.setattr(sampler, "_DOUBT", 2.0)
    exact = discrete_gaussian(4000, sigma, exact_source)
    np.testing.assert_array_equal(fast, exact)
    assert fast_source.random_bytes(8) == exact_source.random_bytes(8)


def decide(sigma: int, offset: int, count: int, bits: int, script: bytes = b"") -> bool:
    """Whether the attempt with this U and V is accepted by these 64 bits and, if need be, those of the script."""
    source = Scripted(script)
    offsets, counts = np.array([offset], np.uint32), np.array([count], np.int64)
    accepted = sampler._accepted(np.array([bits], np.uint64), offsets, counts, sigma, source)
    assert source.is_over()
    return bool(accepted[0])


def fraction(sigma: int, offset: int, count: int) -> tuple[int, int]:
    """gamma from the paper's two decisions: U / t and (X - sigma**2 / t)**2 / (2 sigma**2), with t = sigma."""
    return 2 * sigma * offset + (offset + sigma * count - sigma) ** 2, 2 * sigma**2


@functools.cache
def boundaries() -> list[tuple[int, int, int, int]]:
    """Attempts of all sizes as sigma, U and V, and the first 64 bits of their exp(-gamma)."""
    rng = np.random.default_rng(0)
    sigmas = [int(sigma) for sigma in np.exp(rng.uniform(0, math.log(MAX_SIGMA), 2000))]
    triples = [(sigma, int(rng.integers(sigma)), int(rng.geometric(0.5)) - 1) for sigma in sigmas]
    return [(*triple, precise_exp(*fraction(*triple), 64)) for triple in triples]


def wrong_decisions(steps: int) -> int:
    """How many attempts are decided wrongly by bits that lie so many steps of 2**-64 to one side of the boundary."""
    wrong = 0
    for sigma, offset, count, floor in boundaries():
        for bits in (floor - steps, floor + steps):
            if 0 <= bits < 2**64:
                wrong += decide(sigma, offset, count, bits) != (bits < floor)
    return wrong


@pytest.mark.parametrize("steps", [1, 2**10, 2**11, 2**12, 2**17, 2**24 - 1, 2**24 + 1, 2**40])
def test_decisions_beside_their_boundary_are_right(steps: int) -> None:
    assert wrong_decisions(steps) == 0


def test_float64_is_right_outside_a_far_smaller_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampler, "_DOUBT", 2.0**-49)
    assert wrong_decisions(2**16) == 0  # 2**-48, the bound on float64's error


def test_float64_alone_would_be_wrong_beside_a_boundary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampler, "_DOUBT", -1.0)
    assert wrong_decisions(1) > 0


@pytest.mark.parametrize(("sigma", "offset", "count"), [(1, 0, 0), (1, 0, 2), (5000, 17, 1), (MAX_SIGMA, 1, 3)])
@pytest.mark.parametrize("num_words", [1, 2, 3])
def test_bits_on_a_boundary_are_settled_by_more_bits(sigma: int, offset: int, count: int, num_words: int) -> None:
    numerator, denominator = fraction(sigma, offset, count)
    digits = precise_exp(numerator, denominator, 64 * (num_words + 1))
    words = [digits >> 64 * place & (2**64 - 1) for place in range(num_words, -1, -1)]
    for step in (-1, 1):  # all bits agree with the boundary's but for the last
        script = b"".join(word.to_bytes(8, "little") for word in [*words[1:-1], words[-1] + step])
        assert decide(sigma, offset, count, words[0], script) == (step < 0)


def test_a_certain_attempt_is_accepted_by_any_bits() -> None:
    for sigma in (1, 5000, MAX_SIGMA):  # U = 0 and V = 1: gamma is 0
        assert all(decide(sigma, 0, 1, bits) for bits in (0, 2**63, 2**64 - 2**10, 2**64 - 1))


def counted(bits: int, script: bytes = b"") -> int:
    """The V of these 32 bits and, if need be, those of the script."""
    source = Scripted(script)
    count = int(sampler._geometric(np.array([bits], np.uint32), source)[0])
    assert source.is_over()
    return count


@pytest.mark.parametrize("count", range(1, 23))
def test_a_count_changes_at_the_powers_of_e(count: int) -> None:
    digits = precise_exp(count, 1, 96)
    floor, rest = digits >> 64, digits & (2**64 - 1)
    assert counted(floor + 1) < count
    assert counted(floor, (rest + 1).to_bytes(8, "little")) == count - 1
    assert counted(floor, (rest - 1).to_bytes(8, "little")) == count
    if floor > 1:
        assert counted(floor - 1) >= count


def test_counts_beyond_the_first_bits_go_on() -> None:
    digits = precise_exp(30, 1, 96)  # its first 32 bits are 0
    assert counted(0, (digits - 1).to_bytes(8, "little")) == 30
    assert counted(0, (digits + 1).to_bytes(8, "little")) == 29
    nothing = bytes(8)
    digits = precise_exp(70, 1, 160)  # its first 96 bits are 0
    assert counted(0, nothing + (digits - 1).to_bytes(8, "little")) == 70


@pytest.mark.parametrize("sigma", [3, 5000, 2**20 - 1])
def test_an_offset_has_as_many_bit_patterns_as_any_other(sigma: int) -> None:
    last = 2**31 // sigma * sigma
    patterns = np.array([0, 1, sigma - 1, sigma, last - 1, last, 2**31 - 1], np.uint32)
    geometric = np.full(len(patterns), 2**32 - 1, np.uint32)  # V = 0
    certain = np.zeros(len(patterns), np.uint64)  # accepted whatever gamma is
    script = geometric.astype("<u4").tobytes() + patterns.astype("<u4").tobytes() + certain.tobytes()
    values = sampler._attempt(len(patterns), sigma, Scripted(script))
    assert values.tolist() == [0, 1, sigma - 1, 0, sigma - 1]


def test_a_sign_bit_turns_a_value_and_refuses_minus_zero() -> None:
    signed = np.array([0, 2**31, 5, 2**31 + 5], np.uint32)
    script = np.full(4, 2**32 - 1, np.uint32).tobytes() + signed.tobytes() + bytes(32)
    assert sampler._attempt(4, 100, Scripted(script)).tolist() == [0, 5, -5]


# --- Edges


@pytest.mark.parametrize("num_values", [0, 1, 2, 8191, 16_384, 16_385, 50_000])
@pytest.mark.parametrize("sigma", [1, MAX_SIGMA])
def test_shape_and_type(num_values: int, sigma: int) -> None:
    values = discrete_gaussian(num_values, sigma, OsRandomness())
    assert values.shape == (num_values,)
    assert values.dtype == np.int64


def test_a_seeded_draw_is_the_same_on_every_machine() -> None:
    # Drawn once with the exact way alone, and kept to notice a change of how bytes become values.
    values = discrete_gaussian(8, 1000, SeededRandomness(0))
    assert values.tolist() == [-955, -1234, 1170, 668, -113, -740, 38, 268]


def test_two_draws_of_the_operating_system_are_never_equal() -> None:
    draws = {discrete_gaussian(20, 5000, OsRandomness()).tobytes() for _ in range(100)}
    assert len(draws) == 100


@pytest.mark.parametrize("sigma", [0, -1, MAX_SIGMA + 1, 2.5, math.nan])
def test_a_sigma_out_of_its_range_is_refused(sigma: int) -> None:
    with pytest.raises(ValueError, match=r"sigma is .*, expected an integer from 1 to 1048576"):
        discrete_gaussian(3, sigma, SeededRandomness(0))


def test_a_negative_count_is_refused() -> None:
    with pytest.raises(ValueError, match="num_values is -1, expected at least 0"):
        discrete_gaussian(-1, 1, SeededRandomness(0))
