"""The common polynomial `a`: public, the same for all clients of a round, expanded from a public seed.

Because every client seals against the same `a`, it need not travel, and the sums of the other half stay openable with
the sum of the keys.
"""

import hashlib
import struct
from collections.abc import Iterator

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from confide.seal.coefficients import Coefficients

SEED_BYTES = 32
_SEED_LABEL = b"confide: seed of the common polynomials, version 1"
_KEY_LABEL = b"confide: key of one common polynomial, version 1"


def round_seed(profile_digest: bytes, run: str, round_number: int) -> bytes:
    """The public seed of a round's common polynomials, 32 bytes; another run, round or profile gives another seed."""
    return _hash(_SEED_LABEL, profile_digest, run.encode(), struct.pack(">Q", round_number))


def common_polynomial(seed: bytes, index: int, prime: int, ring_degree: int) -> Coefficients:
    """Polynomial number `index` of a round: `ring_degree` uniform numbers, which `ring.Ring` takes as its values.

    The keystream of AES-256 in counter mode, under a key of its own for each seed, index and prime, is read as
    little-endian 64-bit words; the lowest bits of a word, as many as the prime has, are taken if they are below the
    prime, else the word is skipped.

    Args:
        seed: public, 32 bytes; see `round_seed`.
        index: number of the polynomial within the round, from 0.
        prime: the modulus, below 2**64.
        ring_degree: how many numbers.

    Returns:
        Shape (ring_degree,), values in [0, prime).

    Guarantees:
        - Every party computes the same polynomial.
        - Uniform below the prime, if AES-256 is a good pseudorandom function; different (seed, index, prime) give
          independent polynomials.

    Source: the common reference string of Mouchet et al. 2021, "Multiparty Homomorphic Encryption from
        Ring-Learning-with-Errors", section 3; counter mode as in NIST SP 800-38A, section 6.5.
    """
    if len(seed) != SEED_BYTES:
        raise ValueError(f"a seed has {SEED_BYTES} bytes, got {len(seed)}")
    key = _hash(_KEY_LABEL, seed, struct.pack(">QQ", index, prime))
    kept = np.empty(0, np.uint64)
    for words in _words(key, prime.bit_length(), ring_degree):
        below = words if int(words.max()) < prime else words[words < prime]
        kept = below if not len(kept) else np.concatenate((kept, below))
        if len(kept) >= ring_degree:
            break
    return kept[:ring_degree]


def _words(key: bytes, num_bits: int, count: int) -> Iterator[Coefficients]:
    """The keystream as numbers of `num_bits` bits, `count` at a time, without end."""
    stream = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
    zeros = bytes(8 * count)
    while True:
        words = np.frombuffer(stream.update(zeros), "<u8")
        yield np.bitwise_and(words, np.uint64((1 << num_bits) - 1)).astype(np.uint64, copy=False)


def _hash(*fields: bytes) -> bytes:
    """SHA-256 over fields, each behind its length, so that no two lists of fields give the same input."""
    return hashlib.sha256(b"".join(struct.pack(">Q", len(field)) + field for field in fields)).digest()
