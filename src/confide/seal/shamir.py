"""Shamir's secret sharing over the field of 251 elements, for vectors of small integers.

A round key is shared so that any `threshold` holders of shares can put together a sum of keys, and fewer learn
nothing. Shares of several secrets add up to shares of the sum; that is all this project ever puts together.

The field need not be large: fewer shares than the threshold are uniform in any field, whatever the secret. It must
hold every sum of ternary secrets (of 64 clients: -64 to 64) and a point other than 0 for each client. Elements take a
byte; arithmetic is done in wider integers.
"""

import secrets
from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt

from confide.errors import SealError

FIELD = 251  # the largest prime below 2**8: a share takes one byte per coefficient
LARGEST_SUM = FIELD // 2
"""Largest size of a sum's coefficient that the field holds with its sign: of as many ternary secrets."""

Share = npt.NDArray[np.uint8]
SecretCoefficients = npt.NDArray[np.int64]


def split(secret: SecretCoefficients, num_shares: int, threshold: int) -> Share:
    """Splits a vector into shares for the points 1 to `num_shares`.

    Args:
        secret: private, shape (n,), every |coefficient| below half the field.
        num_shares: how many shares, at most 250.
        threshold: how many of them are needed, 1 to `num_shares`.

    Returns:
        Shape (num_shares, n), uint8; row i is the share of point i + 1.

    Guarantees:
        - Any `threshold - 1` shares are independent of the secret and uniform.

    Raises:
        ValueError: the numbers do not fit together.

    Source: Shamir 1979, "How to Share a Secret".
    """
    if not 1 <= threshold <= num_shares < FIELD:
        raise ValueError(f"need 1 <= threshold <= num_shares < {FIELD}, got {threshold} of {num_shares}")
    if len(secret) and int(np.abs(secret).max()) > LARGEST_SUM:
        raise ValueError(f"a coefficient of the secret is larger than {LARGEST_SUM}")
    constant = np.mod(secret, FIELD).astype(np.uint16)
    higher = [_uniform(len(secret)) for _ in range(threshold - 1)]
    shares = np.empty((num_shares, len(secret)), np.uint8)
    for point in range(1, num_shares + 1):
        value = np.zeros(len(secret), np.uint16)
        for coefficient in (*higher, constant):
            value = (value * np.uint16(point) + coefficient) % np.uint16(FIELD)  # below 2**16: 250 * 250 + 250
        shares[point - 1] = value
    return shares


def add_shares(shares: Iterable[Share]) -> Share:
    """Adds shares that one holder has of several secrets: its share of the secrets' sum.

    Raises:
        SealError: there are none, they differ in length, or a number is not in the field.
    """
    total: npt.NDArray[np.uint16] | None = None
    for share in shares:
        _check_share(share, None if total is None else len(total))
        total = share.astype(np.uint16) if total is None else (total + share) % np.uint16(FIELD)
    if total is None:
        raise SealError("there are no shares to add")
    return total.astype(np.uint8)


def combine(shares: Mapping[int, Share], threshold: int, bound: int) -> SecretCoefficients:
    """Puts a secret (in this project: a sum of secrets) together.

    The `threshold` lowest points determine the polynomials; every further share must lie on them.

    Args:
        shares: private, by point; each of shape (n,).
        threshold: how many shares determine the secret.
        bound: the largest size that a coefficient of the secret can have, for example the number of ternary summands;
            at most `LARGEST_SUM`.

    Returns:
        Shape (n,), every |coefficient| <= bound.

    Raises:
        SealError: fewer than `threshold` shares, shares that do not fit together, or a result that is not small, which
            is what a wrong share or a wrong threshold gives.
        ValueError: the field does not hold sums up to the bound.

    Guarantees:
        - If exactly one of `threshold` shares is replaced by an independent uniform one, every coefficient of the
          result is uniform, and all of them are within the bound with probability ((2 bound + 1) / 251)**n: for 64
          clients and n = 4096 that is (129 / 251)**4096 < 2**-3900.
    """
    if bound > LARGEST_SUM:
        raise ValueError(f"a sum of up to {bound} does not fit the field of {FIELD} elements")
    if threshold < 1 or len(shares) < threshold:
        raise SealError(f"{len(shares)} shares of the key's sum, but {threshold} are needed to open")
    points = sorted(shares)
    for point in points:
        if not 1 <= point < FIELD:
            raise SealError(f"share with point {point}, expected 1 to {FIELD - 1}")
        _check_share(shares[point], len(shares[points[0]]))
    known = points[:threshold]
    for point in points[threshold:]:
        if not np.array_equal(_interpolate(shares, known, point), shares[point]):
            raise SealError(f"the share of point {point} does not fit those of points {known}: one of them is wrong")
    residues = _interpolate(shares, known, 0)
    secret = np.where(residues > FIELD // 2, residues - FIELD, residues)
    if len(secret) and int(np.abs(secret).max()) > bound:
        raise SealError(f"the shares of points {known} give no sum of keys: one of them is wrong, or of another list")
    return secret


def _interpolate(shares: Mapping[int, Share], known: list[int], at: int) -> SecretCoefficients:
    """The value at point `at` of the polynomials through the shares of the points `known`, by Lagrange's formula."""
    total = np.zeros(len(shares[known[0]]), np.int64)
    for point in known:
        weight = 1
        for other in known:
            if other != point:
                weight = weight * (at - other) * pow(point - other, -1, FIELD) % FIELD
        total = (total + weight * shares[point].astype(np.int64)) % FIELD
    return total


def _uniform(count: int) -> npt.NDArray[np.uint16]:
    """Field elements from the operating system's randomness, exactly uniform: bytes outside the field are skipped."""
    kept = np.empty(0, np.uint8)
    while len(kept) < count:
        drawn = np.frombuffer(secrets.token_bytes(count - len(kept) + 100), np.uint8)
        kept = np.concatenate((kept, drawn[drawn < FIELD]))
    return kept[:count].astype(np.uint16)


def _check_share(share: Share, length: int | None) -> None:
    if share.dtype != np.uint8 or share.ndim != 1 or (length is not None and len(share) != length):
        raise SealError(f"a share has shape {share.shape} and type {share.dtype}, expected ({length},) and uint8")
    if len(share) and int(share.max()) >= FIELD:
        raise SealError(f"a share holds a number that is not below {FIELD}")
