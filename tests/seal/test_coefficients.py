"""Coefficients to bytes, back, and added."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.errors import MessageError
from confide.seal.coefficients import add, coefficient_bytes, from_bytes, to_bytes
from confide.seal.profiles import PROFILES

PRIMES = sorted({prime for profile in PROFILES.values() for prime in profile.modulus})
primes = st.sampled_from(PRIMES)


@given(data=st.data(), prime=primes)
def test_reading_gives_back_what_was_written(data: st.DataObject, prime: int) -> None:
    numbers = data.draw(st.lists(st.integers(0, prime - 1), max_size=20))
    written = to_bytes(np.array(numbers, np.uint64), prime)
    width = coefficient_bytes(prime)
    assert written == b"".join(number.to_bytes(width, "little") for number in numbers)
    assert from_bytes(written, len(numbers), prime).tolist() == numbers
    assert from_bytes(memoryview(written), len(numbers), prime).dtype == np.uint64


def test_a_part_of_an_array_is_written_as_its_copy() -> None:
    numbers = np.arange(20, dtype=np.uint64)
    assert to_bytes(numbers[::3], PRIMES[0]) == to_bytes(numbers[::3].copy(), PRIMES[0])


@pytest.mark.parametrize("prime", PRIMES)
def test_another_length_is_refused(prime: int) -> None:
    width = coefficient_bytes(prime)
    for size in (0, 1, 3 * width - 1, 3 * width + 1, 4 * width):
        with pytest.raises(MessageError, match=f"expected 3 coefficients of {width} bytes, got {size} bytes"):
            from_bytes(bytes(size), 3, prime)


@pytest.mark.parametrize("prime", PRIMES)
@pytest.mark.parametrize("place", [0, 1, 4])
def test_a_number_that_is_not_below_the_prime_is_refused(prime: int, place: int) -> None:
    width = coefficient_bytes(prime)
    for number in (prime, prime + 1, 256**width - 1):
        written = bytearray(5 * width)
        written[place * width : (place + 1) * width] = number.to_bytes(width, "little")
        with pytest.raises(MessageError, match="not below the modulus"):
            from_bytes(bytes(written), 5, prime)
    written[place * width : (place + 1) * width] = (prime - 1).to_bytes(width, "little")
    assert int(from_bytes(bytes(written), 5, prime)[place]) == prime - 1


@given(data=st.data(), prime=primes)
def test_adding_is_adding_modulo_the_prime(data: st.DataObject, prime: int) -> None:
    number = st.integers(0, prime - 1) | st.sampled_from([0, 1, prime - 1, prime // 2, prime // 2 + 1])
    pairs = data.draw(st.lists(st.tuples(number, number), max_size=20))
    first, second = (np.array([pair[i] for pair in pairs], np.uint64) for i in range(2))
    expected = [(x + y) % prime for x, y in pairs]
    assert add(first, second, prime).tolist() == expected
    assert [pair[0] for pair in pairs] == first.tolist()
    assert add(first, second, prime, out=first) is first
    assert first.tolist() == expected
