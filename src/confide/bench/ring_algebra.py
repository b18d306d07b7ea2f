"""Exact arithmetic in Z_p[X] / (X^N + 1) for attacks: plain, slow, in Python integers, with no key of anybody's in it.

Sealing never uses this; its ring products are the encryption library's.
"""

import math

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.object_]  # Python integers, so that nothing overflows
Reals = npt.NDArray[np.float64]


class RootValues:
    """Polynomials as their values at the N roots of X^N + 1 modulo a prime, where products are products of values.

    Value i belongs to root psi^(2 i + 1), psi being the smallest primitive 2N-th root of unity; value N - 1 - i then
    belongs to the inverse root, so that reversing the values is the automorphism X -> 1 / X ("conjugation").

    Args:
        prime: with 2N dividing prime - 1.
        degree: N, a power of two.
    """

    def __init__(self, prime: int, degree: int) -> None:
        self.prime = prime
        self.degree = degree
        self._root = _smallest_root(prime, 2 * degree)
        self._reversed = _bit_reversal(degree)

    def from_coefficients(self, coefficients: Integers) -> Integers:
        """Evaluates a polynomial, shape (N,), at all roots."""
        return self._transform(coefficients * self._powers(self._root) % self.prime, pow(self._root, 2, self.prime))

    def to_coefficients(self, values: Integers) -> Integers:
        """The inverse of `from_coefficients`, centred: in (-p/2, p/2)."""
        inverse = pow(self._root, -1, self.prime)
        twisted = self._transform(values, pow(inverse, 2, self.prime))
        return self.centred(twisted * self._powers(inverse) * pow(self.degree, -1, self.prime))

    def from_seal_order(self, values: npt.NDArray[np.uint64]) -> Integers:
        """Values as SEAL stores them: the same roots, in the order of their numbers' reversed bits."""
        return values.astype(object)[self._reversed]

    def divide(self, numerator: Integers, denominator: Integers) -> Integers:
        """Value by value; a zero in the denominator, one in p, raises ValueError."""
        inverses = np.array([pow(int(value), -1, self.prime) for value in denominator], object)
        quotients: Integers = numerator * inverses % self.prime
        return quotients

    def centred(self, numbers: Integers) -> Integers:
        """The residues nearest to zero."""
        residues = numbers % self.prime
        centred: Integers = np.where(residues > self.prime // 2, residues - self.prime, residues)
        return centred

    def _powers(self, base: int) -> Integers:
        powers = [1]
        for _ in range(self.degree - 1):
            powers.append(powers[-1] * base % self.prime)
        return np.array(powers, object)

    def _transform(self, numbers: Integers, root: int) -> Integers:
        """The sums of numbers[k] root^(i k) for all i: Cooley and Tukey's fast Fourier transform, modulo p."""
        result = numbers[self._reversed]
        powers = self._powers(root)
        half = 1
        while half < self.degree:
            blocks = result.reshape(-1, 2 * half)
            odd = blocks[:, half:] * powers[:: self.degree // (2 * half)][:half] % self.prime
            result = np.concatenate([blocks[:, :half] + odd, blocks[:, :half] - odd], axis=1).reshape(-1) % self.prime
            half *= 2
        return result


def encode_reals(slots: Reals, scale: float) -> Integers:
    """The polynomial whose value at slot j's complex root is scale * slots[j], rounded to integers, shape (2 * slots,).

    Source: Cheon, Kim, Kim and Song 2017, "Homomorphic Encryption for Arithmetic of Approximate Numbers", section 3.2:
        the inverse of the canonical embedding; slot j belongs to the root with exponent 3^j, as in SEAL.
    """
    degree = 2 * len(slots)
    spectrum = np.zeros(2 * degree, np.float64)
    exponents = _slot_exponents(degree)
    spectrum[exponents] = slots * scale
    spectrum[2 * degree - exponents] = slots * scale  # the complex conjugate, of a real number
    coefficients = np.fft.fft(spectrum).real[:degree] / degree
    return np.array([int(value) for value in np.rint(coefficients)], object)


def decode_reals(coefficients: Integers, scale: float) -> Reals:
    """The real parts of the slots of a polynomial: the inverse of `encode_reals`."""
    degree = len(coefficients)
    values = np.fft.ifft(coefficients.astype(np.float64), 2 * degree) * (2 * degree)
    reals: Reals = values.real[_slot_exponents(degree)] / scale
    return reals


def _slot_exponents(degree: int) -> npt.NDArray[np.int64]:
    return np.array([pow(3, slot, 2 * degree) for slot in range(degree // 2)], np.int64)


def _smallest_root(prime: int, order: int) -> int:
    """The smallest primitive root of unity of an order that is a power of two."""
    for base in range(2, prime):
        root = pow(base, (prime - 1) // order, prime)
        if pow(root, order // 2, prime) == prime - 1:
            square = root * root % prime
            powers = [root]
            for _ in range(order // 2 - 1):
                powers.append(powers[-1] * square % prime)
            return min(powers)
    raise ValueError(f"{prime} has no root of unity of order {order}")


def _bit_reversal(count: int) -> npt.NDArray[np.int64]:
    bits = int(math.log2(count))
    return np.array([int(f"{number:0{bits}b}"[::-1], 2) for number in range(count)], np.int64)
