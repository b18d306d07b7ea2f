"""Li and Micciancio's key recovery as formulas: from sealed sums and their opened results to a candidate for the key.

A sealed polynomial is a pair (c0, c1) with c0 + c1 s = m' in the ring, where s is the secret key. The adversary has
both and a result that says something about m'.

- CKKS gives m' itself as the result, noise included. So s = (m' - c0) / c1. Where only the real parts of the slots are
  told, that is m' + conj(m') with conj: X -> 1 / X, this is one linear equation for the values of s at a root z and its
  inverse:

      c1(z) s(z) + c1(1/z) s(1/z) = (m' + conj(m'))(z) - c0(z) - c0(1/z)

  A second sum gives a second one: two unknowns, two equations for each pair of roots, and the key is there whole.
- BFV and the one-time scheme give m where m' = Delta m + e: the noise e was rounded away and nobody is told. With
  Delta m in the place of m' the same equations give s minus e / c1 (or what the two sums make of their noise), and c1
  being uniform, that hides s. To find s in spite of e is the problem of ring learning with errors itself.

Source: Li and Micciancio 2021, "On the Security of Homomorphic Encryption on Approximate Numbers", EUROCRYPT, sections
    3.1 and 4. The pairs of roots are ours, since TenSEAL drops the slots' imaginary parts.
"""

from dataclasses import dataclass

import numpy as np

from confide.bench.ring_algebra import Integers, RootValues


@dataclass(frozen=True, kw_only=True)
class SeenSum:
    """One sealed sum as the adversary sees it, modulo a prime.

    Attributes:
        first: c0 at the roots, shape (N,).
        second: c1 at the roots, shape (N,).
        result: what the opened result says m' is, as coefficients, shape (N,).
    """

    first: Integers
    second: Integers
    result: Integers


def solve_one_sum(seen: SeenSum, roots: RootValues) -> Integers:
    """The candidate (result - c0) / c1 from one sum; coefficients, centred."""
    return roots.to_coefficients(roots.divide(roots.from_coefficients(seen.result) - seen.first, seen.second))


def solve_two_sums(one: SeenSum, other: SeenSum, roots: RootValues) -> Integers:
    """The candidate from two sums of whose results only result + conj(result) counts; coefficients, centred."""
    right_one, right_other = (_conjugate_pairs(seen, roots) for seen in (one, other))
    determinant = one.second * other.second[::-1] - one.second[::-1] * other.second
    numerator = right_one * other.second[::-1] - right_other * one.second[::-1]
    return roots.to_coefficients(roots.divide(numerator % roots.prime, determinant % roots.prime))


def possible_share(candidate: Integers, bound: int) -> float:
    """How many of a candidate's coefficients can be a key's: those of size at most `bound`; 1 for the right key.

    Of a uniform candidate, (2 bound + 1) / p of them are: with 8192 coefficients and p near 2^40, most likely not one.
    """
    return float(np.mean(np.abs(candidate) <= bound))


def _conjugate_pairs(seen: SeenSum, roots: RootValues) -> Integers:
    """(result + conj(result) - c0 - conj(c0)) at every root."""
    known = roots.from_coefficients(seen.result) - seen.first
    pairs: Integers = (known + known[::-1]) % roots.prime
    return pairs
