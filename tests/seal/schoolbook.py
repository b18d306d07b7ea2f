"""The ring again, in Python integers and plain loops: what the fast code is compared with.

Polynomials are lists of integers modulo X^N + 1. Nothing here is shared with the package.
"""

import hashlib
import operator
from collections.abc import Iterable, Sequence


def multiply(first: Sequence[int], second: Sequence[int], modulus: int) -> list[int]:
    """The product modulo X^N + 1: what goes out at the top comes in at the bottom with its sign turned."""
    degree = len(first)
    total = [0] * degree
    endless = [-x for x in first] + list(first)
    for shift, factor in enumerate(second):
        times_power = endless[degree - shift : 2 * degree - shift]  # first times X^shift
        if factor in (-1, 1):  # the usual case: the second is a secret
            total = list(map(operator.add if factor == 1 else operator.sub, total, times_power))
        elif factor:
            total = [x + factor * y for x, y in zip(total, times_power, strict=True)]
    return [x % modulus for x in total]


def coefficient(first: Sequence[int], second: Sequence[int], index: int, modulus: int) -> int:
    """One coefficient of the product modulo X^N + 1, by its definition."""
    degree = len(first)
    low = sum(first[index - k] * second[k] for k in range(index + 1))
    high = sum(first[degree + index - k] * second[k] for k in range(index + 1, degree))
    return (low - high) % modulus


def root(degree: int, modulus: int) -> int:
    """The smallest primitive root of unity of order 2N: its N-th power is -1, which makes the order exact."""
    exponent = (modulus - 1) // (2 * degree)
    some = next(x for base in range(2, 100) if pow(x := pow(base, exponent, modulus), degree, modulus) == modulus - 1)
    return min(pow(some, odd, modulus) for odd in range(1, 2 * degree, 2))


def reversed_bits(number: int, degree: int) -> int:
    """The number with its log2(N) bits in the other order."""
    return int(f"{number:0{degree.bit_length() - 1}b}"[::-1], 2)


def value(coefficients: Sequence[int], index: int, modulus: int) -> int:
    """Value number `index` of a polynomial, by Horner's rule at the root that its definition names."""
    degree, total = len(coefficients), 0
    point = pow(root(degree, modulus), 2 * reversed_bits(index, degree) + 1, modulus)
    for one in reversed(coefficients):
        total = (total * point + one) % modulus
    return total


def from_values(values: Sequence[int], modulus: int) -> list[int]:
    """The coefficients of the polynomial that has these values."""
    degree = len(values)
    backwards = pow(root(degree, modulus), -1, modulus)
    in_order = [values[reversed_bits(i, degree)] for i in range(degree)]
    sums = _fourier(in_order, pow(backwards, 2, modulus), modulus)
    turn = pow(degree, -1, modulus)
    return [x * turn * pow(backwards, k, modulus) % modulus for k, x in enumerate(sums)]


def _fourier(numbers: Sequence[int], unity: int, modulus: int) -> list[int]:
    """Number k of the result is the sum over i of numbers[i] * unity^(i k)."""
    if len(numbers) == 1:
        return list(numbers)
    even = _fourier(numbers[::2], unity * unity % modulus, modulus)
    odd = _fourier(numbers[1::2], unity * unity % modulus, modulus)
    turned = [x * pow(unity, k, modulus) for k, x in enumerate(odd)]
    low = [(x + y) % modulus for x, y in zip(even, turned, strict=True)]
    return low + [(x - y) % modulus for x, y in zip(even, turned, strict=True)]


def seal(plain: Sequence[int], product: Sequence[int], noise: Sequence[int], scale: int, modulus: int) -> list[int]:
    """Delta m + e - a s, for at most one polynomial of plaintext coefficients, from the product a s."""
    return [(scale * m + e - p) % modulus for m, e, p in zip(plain, noise, product, strict=False)]


def centred(number: int, modulus: int) -> int:
    """The residue that is nearest to zero."""
    number %= modulus
    return number - modulus if number > modulus // 2 else number


def open_sum(total: Sequence[int], product: Sequence[int], scale: int, modulus: int) -> list[int]:
    """The multiple of Delta that is nearest to b + a s, from the product a s."""
    half = scale // 2
    return [(b + p + half) % modulus // scale for b, p in zip(total, product, strict=False)]


def fixed_numbers(name: str, count: int, bound: int) -> list[int]:
    """Numbers in [0, bound) that are the same on every machine, for known answers."""
    data = hashlib.shake_128(name.encode()).digest(16 * count)
    return [int.from_bytes(data[16 * i : 16 * i + 16], "little") % bound for i in range(count)]


def digest(numbers: Iterable[int]) -> str:
    """SHA-256 over numbers as 8 little-endian bytes each, for known answers that are too long to write down."""
    return hashlib.sha256(b"".join(int(number).to_bytes(8, "little") for number in numbers)).hexdigest()
