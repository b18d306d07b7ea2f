"""Profiles: every number of the sealing schemes that are built on rings, frozen in code and named by a digest.

Nothing here is ever read from a file or a peer: a message carries a profile's digest, and a party that does not hold
a profile with that digest refuses it. Knows numbers only; server and clients both use it.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from types import MappingProxyType

POLYNOMIALS_PER_CHUNK = 64  # a full chunk; what bounds the memory of sealing, adding and opening
NOISE_BOUND = 21  # largest size of one noise coefficient: SEAL's centred binomial is a difference of two 21-bit weights
_DIGEST_VERSION = 1
_MAX_CLIENTS = 64


@dataclass(frozen=True, kw_only=True)
class Profile:
    """One set of parameters.

    A value is rounded to `value_bits` bits; a field of `field_bits` bits holds the sum of one value over up to
    `max_clients` clients; `values_per_coefficient` fields make one plaintext coefficient; `ring_degree` coefficients
    make one polynomial.
    """

    name: str
    """"compact", "precise" or "ultra"."""
    scheme: str
    """"onetime" or "shared"."""
    ring_degree: int
    """N: coefficients per polynomial, a power of two; the ring is Z[X] / (X^N + 1)."""
    modulus: tuple[int, ...]
    """The primes of a sealed coefficient as it travels."""
    special_prime: int | None
    """For encryption under a public key only: divided out right after, which shrinks the fresh noise."""
    plain_bits: int
    """The plaintext modulus t is 2 to this power."""
    value_bits: int
    """Bits of one rounded value."""
    values_per_coefficient: int
    """Fields in one plaintext coefficient."""
    max_clients: int
    """Most clients whose values one sum may hold."""
    initial_limit: float
    """Values of the first round lie in [-initial_limit, initial_limit]."""
    num_polynomials: int
    """Polynomials of one ciphertext that travel: 1 (the other is public) or 2."""

    @property
    def field_bits(self) -> int:
        """Bits that hold the sum of one value over all clients."""
        return self.value_bits + (self.max_clients - 1).bit_length()

    @property
    def plain_modulus(self) -> int:
        """t: plaintext coefficients lie in [0, t)."""
        return 1 << self.plain_bits

    @property
    def message_scale(self) -> int:
        """Delta = floor(q / t): how far apart two neighbouring plaintexts lie in a sealed coefficient."""
        return math.prod(self.modulus) // self.plain_modulus

    @property
    def coefficient_bytes(self) -> tuple[int, ...]:
        """Bytes of one sealed coefficient on the wire, for each prime."""
        return tuple((prime.bit_length() + 7) // 8 for prime in self.modulus)

    @property
    def chunk_values(self) -> int:
        """Values of a full chunk."""
        return POLYNOMIALS_PER_CHUNK * self.ring_degree * self.values_per_coefficient

    def plain_coefficients(self, num_values: int) -> int:
        """Plaintext coefficients that hold `num_values` values of one chunk."""
        return -(-num_values // self.values_per_coefficient)

    def wire_coefficients(self, num_values: int) -> int:
        """Sealed coefficients per prime of one chunk of `num_values` values.

        The last polynomial is cut off after the last coefficient in use. Of a ciphertext with two polynomials only the
        first can be cut: every coefficient of the second enters every opened one.
        """
        used = self.plain_coefficients(num_values)
        whole = -(-used // self.ring_degree) * self.ring_degree
        return used + (self.num_polynomials - 1) * whole

    def wire_bytes(self, num_values: int) -> int:
        """Bytes of one sealed chunk of `num_values` values."""
        return self.wire_coefficients(num_values) * sum(self.coefficient_bytes)

    @cached_property
    def digest(self) -> bytes:
        """SHA-256, 32 bytes, over every number above: equal digests mean the same profile."""
        fields = asdict(self) | {"initial_limit": self.initial_limit.hex(), "version": _DIGEST_VERSION}
        return hashlib.sha256(json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()).digest()


def failure_log2(profile: Profile, num_clients: int) -> float:
    """The base-2 logarithm of a bound on the probability that one coefficient of a sum opens to a wrong number.

    A coefficient opens right while its summed noise stays nearer to its own multiple of Delta than to the next, that
    is below Delta / 2. Both bounds are Hoeffding's, for sums of independent centred terms, P(|X| >= x) <=
    2 exp(-x^2 / (2 V)), where V adds a quarter of the squared width of each bounded term (for a uniform term: its
    variance).

    `onetime`: one client's noise coefficient is SEAL's centred binomial: 21 bits minus 21 bits, thus 42 terms of width
    1, V = 42 / 4 per client. The key contributes nothing: its sum is known exactly when the sum is opened.

    `shared`: a fresh ciphertext under the public key has noise u e + e0 + e1 s at the key level (u, s ternary, with at
    most N terms each), which is divided by the special prime p; the rounding of the two polynomials then adds r0 + r1 s
    with r uniform on an interval of length 1, and the rounding of the scaled message at most 1. So V =
    (1 + N) / 12 + 10.5 (1 + 2 N) / p^2 per client, for the heaviest s there could be; an average s has two thirds.

    Args:
        profile: the parameters.
        num_clients: number of clients in the sum, 1 to `max_clients`.

    Source: Fan and Vercauteren 2012, "Somewhat Practical Fully Homomorphic Encryption", Lemma 1 and section 4;
        Hoeffding 1963, "Probability Inequalities for Sums of Bounded Random Variables", Theorem 2.
    """
    degree = profile.ring_degree
    if profile.special_prime is None:
        margin = (profile.message_scale - 1) // 2 + 1
        spread = num_clients * 2 * NOISE_BOUND / 4
    else:
        margin = profile.message_scale // 2 - num_clients
        fresh = NOISE_BOUND / 2 * (1 + 2 * degree) / profile.special_prime**2
        spread = num_clients * ((1 + degree) / 12 + fresh)
    return 1 - margin**2 / (2 * spread) / math.log(2)


def _onetime(
    name: str, modulus: int, plain_bits: int, value_bits: int, values_per_coefficient: int, limit: float
) -> Profile:
    return Profile(
        name=name,
        scheme="onetime",
        ring_degree=4096,
        modulus=(modulus,),
        special_prime=None,
        plain_bits=plain_bits,
        value_bits=value_bits,
        values_per_coefficient=values_per_coefficient,
        max_clients=_MAX_CLIENTS,
        initial_limit=limit,
        num_polynomials=1,
    )


def _shared(name: str, modulus: tuple[int, ...], special_prime: int, plain_bits: int, value_bits: int) -> Profile:
    return Profile(
        name=name,
        scheme="shared",
        ring_degree=8192,
        modulus=modulus,
        special_prime=special_prime,
        plain_bits=plain_bits,
        value_bits=value_bits,
        values_per_coefficient=2,
        max_clients=_MAX_CLIENTS,
        initial_limit=0.25,
        num_polynomials=2,
    )


# The primes are SEAL's CoeffModulus.Create for the stated numbers of bits; a test compares.
_ALL = (
    _onetime("compact", 18014398509309953, 44, 16, 2, 0.25),  # 54 bits
    _onetime("precise", 1099511480321, 30, 24, 1, 0.5),  # 40 bits
    _onetime("ultra", 1152921504606830593, 51, 11, 3, 0.125),  # 60 bits
    _shared("compact", (72057594037616641,), 144115188075593729, 44, 16),  # 56 + 57 bits
    _shared("precise", (1099510890497, 1099511480321), 2199023190017, 58, 23),  # 40 + 40 + 41 bits
)

PROFILES: Mapping[tuple[str, str], Profile] = MappingProxyType({(one.scheme, one.name): one for one in _ALL})
"""Every profile there is, by scheme and name."""


def get_profile(scheme: str, name: str) -> Profile:
    """The profile of a scheme by name.

    Raises:
        KeyError: there is none; the configuration allows only names that exist.
    """
    return PROFILES[scheme, name]
