"""The public polynomial: the same for all, uniform, and different for everything that should differ."""

import hashlib
import struct

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from confide.seal.commonpoly import common_polynomial, round_seed
from confide.seal.profiles import PROFILES
from tests.seal.schoolbook import digest

SEED = bytes(range(32))
PRIMES = sorted({prime for profile in PROFILES.values() for prime in profile.modulus})


def by_hand(seed: bytes, index: int, prime: int, count: int) -> list[int]:
    """The definition, one word at a time."""
    label = b"confide: key of one common polynomial, version 1"
    fields = (label, seed, struct.pack(">QQ", index, prime))
    key = hashlib.sha256(b"".join(struct.pack(">Q", len(field)) + field for field in fields)).digest()
    stream = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
    numbers: list[int] = []
    while len(numbers) < count:
        number = int.from_bytes(stream.update(bytes(8)), "little") % 2 ** prime.bit_length()
        if number < prime:
            numbers.append(number)
    return numbers


@pytest.mark.parametrize("prime", [*PRIMES, 1031, 2**33 + 17])  # the last two reject almost every second word
def test_it_is_the_keystream_without_the_words_that_are_too_large(prime: int) -> None:
    polynomial = common_polynomial(SEED, 7, prime, 500)
    assert polynomial.dtype == np.uint64
    assert polynomial.tolist() == by_hand(SEED, 7, prime, 500)


def test_known_answers() -> None:
    assert (
        digest(common_polynomial(SEED, 0, PRIMES[-2], 4096).tolist())
        == "d5125cb77a148912e762e76b20bbb940fce5c7c771cda69df2e774aa40751852"
    )
    assert round_seed(bytes(32), "run", 3).hex() == "7e5531afc82f715e16bddacef29bc513ce2fea2dc37ffb215c4c6937231a7232"


def test_another_seed_index_or_prime_gives_another_polynomial() -> None:
    kinds = [(SEED, 0, PRIMES[0]), (SEED, 1, PRIMES[0]), (bytes(32), 0, PRIMES[0]), (SEED, 0, PRIMES[1])]
    polynomials = [common_polynomial(*kind, 4096) for kind in kinds]
    for i, first in enumerate(polynomials):
        for second in polynomials[:i]:
            # Two uniform residues below different 40-bit primes agree with probability 2**-40.
            assert np.count_nonzero(first == second) <= 1


@pytest.mark.parametrize("prime", PRIMES)
def test_coefficients_are_uniform_below_the_prime(prime: int) -> None:
    num_bins, count = 64, 65536
    polynomial = common_polynomial(SEED, 0, prime, count)
    assert int(polynomial.max()) < prime
    counts = np.bincount((polynomial.astype(np.float64) / prime * num_bins).astype(int), minlength=num_bins)
    statistic = float(((counts - count / num_bins) ** 2).sum() / (count / num_bins))
    assert statistic < 125  # chi-square with 63 degrees of freedom: 5e-6; the seed is fixed, so this never flickers


def test_seeds_differ_in_every_field_and_fields_cannot_run_together() -> None:
    seeds = {
        round_seed(profile, run, number)
        for profile in (b"p" * 32, b"q" * 32)
        for run in ("run", "run1", "")
        for number in (1, 11)
    }
    assert len(seeds) == 12
    assert round_seed(b"ab", "c", 1) != round_seed(b"a", "bc", 1)


def test_a_seed_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes, got 31"):
        common_polynomial(bytes(31), 0, PRIMES[0], 16)
