"""Ring learning with errors: keys, sealing and opening of plaintext coefficients. The only module that imports SEAL.

Every product of ring elements, every transform, every secret and every noise polynomial is Microsoft SEAL's; what is
written here is sums modulo a prime and the way of raw coefficients into SEAL's objects and out. SEAL's serialised
objects are a prefix and then the coefficients as 64-bit words; the prefix is taken from objects that SEAL made itself.

Two rings, one per scheme: `Ring` (one-time secrets against a common public polynomial) and `PublicKeyRing` (BFV under a
public key). Chunks of any length go in; memory grows with the chunk. SEAL holds the interpreter's lock while it works:
several processors need several processes. Python cannot wipe memory: a secret's copies live until they are collected.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import seal

from confide.errors import MessageError, SealError, SecretKeyError
from confide.seal.coefficients import Coefficients, add, coefficient_bytes, from_bytes, to_bytes
from confide.seal.profiles import NOISE_BOUND, Profile

SecretCoefficients = npt.NDArray[np.int64]
CommonPolynomials = Callable[[int], Coefficients]
"""Gives polynomial number i of a chunk as its values, shape (ring_degree,), below the prime; see `commonpoly`."""

_WORD_BYTES = 8


class _Hidden:
    """What every secret has in common: it shows nothing of itself and refuses to be copied, pickled or stored."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(hidden)"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise SecretKeyError(f"a {type(self).__name__} cannot be copied or pickled: it must not leave its process")


class RingSecret(_Hidden):
    """A client's secret for one round of scheme `onetime`: a ternary polynomial. Made by `Ring` only.

    It remembers which common polynomials it sealed against. Two messages sealed with the same secret against the same
    polynomial would show their difference to everybody, so the second raises.
    """

    __slots__ = ("_coefficients", "_key", "_met", "_profile")

    def __init__(self, profile: Profile, coefficients: SecretCoefficients, key: Any) -> None:
        self._profile = profile
        self._coefficients = coefficients
        self._key = key
        self._met: set[bytes] = set()

    def coefficients(self) -> SecretCoefficients:
        """The secret itself, shape (ring_degree,), values -1, 0 and 1; for splitting it into shares."""
        return self._coefficients.copy()

    def _spend(self, common: Coefficients) -> None:
        """Notes one use. The first two coefficients of a random polynomial tell it from every other."""
        mark = common[:2].tobytes()
        if mark in self._met:
            raise SecretKeyError("a round key was about to seal a second time against the same public polynomial")
        self._met.add(mark)


class SharedSecret(_Hidden):
    """The secret key of scheme `shared`, the same for all clients: ternary. Made by `PublicKeyRing` only."""

    __slots__ = ("_coefficients", "_decryptor", "_profile")

    def __init__(self, profile: Profile, coefficients: SecretCoefficients, decryptor: Any) -> None:
        self._profile = profile
        self._coefficients = coefficients
        self._decryptor = decryptor

    def coefficients(self) -> SecretCoefficients:
        """The secret itself, shape (ring_degree,), values -1, 0 and 1; for handing it to the other clients."""
        return self._coefficients.copy()


class PublicKey:
    """A public key of scheme `shared`, ready for sealing. Made by `PublicKeyRing.read_public_key`."""

    __slots__ = ("_encryptor", "_profile")

    def __init__(self, profile: Profile, encryptor: Any) -> None:
        self._profile = profile
        self._encryptor = encryptor


class Ring:
    """Sealing with one-time secrets: Z_q[X] / (X^N + 1) for a profile of scheme `onetime`.

    A client with secret s seals m against the common public polynomial a as

        b = Delta m + e - a s  (mod q),  Delta = floor(q / t),

    with fresh noise e. Sums of b's are sums of the m's sealed under the sum of the secrets, and open with nothing else.
    What is sealed is in coefficients, and each opens by itself, so a last polynomial may be cut off anywhere.

    Only a is given by its values at the roots of X^N + 1, which saves every party one transform: number i is
    a(psi^(2 r + 1)) for the smallest primitive 2N-th root of unity psi modulo q, where r is i with its log2(N) bits
    reversed. Polynomials and lists of values are one to one, so uniform values are a uniform polynomial.

    Guarantees:
        - Opening a sum with the sum of the secrets gives the sum of the plaintexts modulo t, exactly, unless the summed
          noise reaches Delta / 2, which has the probability bounded by `profiles.failure_log2`.
        - Noise is fresh for every polynomial, from SEAL's sampler, which SEAL seeds from the operating system.
        - SEAL accepts the parameters at its 128-bit level or nothing is sealed.

    Source: Lyubashevsky, Peikert and Regev 2010, "On Ideal Lattices and Learning with Errors over Rings"; Fan and
        Vercauteren 2012, section 3, with a common `a` and a secret for each client and round. SEAL rounds q m / t where
        the paper and this code take Delta m: both leave the noise the same room, to one part in 500.
    """

    def __init__(self, profile: Profile) -> None:
        if profile.scheme != "onetime" or len(profile.modulus) != 1:
            raise SealError(f"profile {profile.scheme}/{profile.name} is not for one-time secrets")
        self.profile = profile
        self._library = _Library(profile)
        self._noise_maker = self._library.encryptor_without_key()
        self._shape = (2, profile.ring_degree)  # SEAL's calls take two polynomials at a time

    def new_secret(self) -> RingSecret:
        """A fresh secret, uniform in {-1, 0, 1} per coefficient, from SEAL's sampler."""
        return self.restore_secret(self._library.new_secret())

    def restore_secret(self, coefficients: SecretCoefficients) -> RingSecret:
        """A secret from its coefficients, for a worker process that seals a part of the same round.

        Each process then remembers only its own uses: the caller must give every chunk to one of them.

        Raises:
            SealError: the coefficients are not a ternary polynomial of this ring.
        """
        secret = _checked_ternary(coefficients, self.profile)
        return RingSecret(self.profile, secret, self._library.key(secret))

    def seal(self, secret: RingSecret, plain: Coefficients, common: CommonPolynomials) -> Coefficients:
        """Seals one chunk.

        Args:
            secret: private.
            plain: private, shape (n,), below t; cut into polynomials of N coefficients, the last may be shorter.
            common: the public polynomials of this chunk, as values; asked for each number from 0 once, in order.

        Returns:
            Shape (n,), below q.

        Raises:
            SecretKeyError: the secret met one of the polynomials before, or belongs to another profile.
            SealError: a plaintext coefficient is not below t, or SEAL's noise is not what it has to be.
        """
        if secret._profile != self.profile:
            raise SecretKeyError("the round key belongs to another profile")
        _check_below(plain, self.profile.plain_modulus, "plaintext")
        prime, scale = self.profile.modulus[0], np.uint64(self.profile.message_scale)
        sealed = np.empty(len(plain), np.uint64)
        for part in self._pairs(len(plain)):
            body = np.multiply(plain[part], scale, out=sealed[part])
            public = self._common_pair(common, part.start, len(body))
            for polynomial in public[: 1 if len(body) <= self.profile.ring_degree else 2]:
                secret._spend(polynomial)
            product = self._library.products(public, secret._key).reshape(-1)[: len(body)]
            add(body, self._fresh_noise().reshape(-1)[: len(body)], prime, out=body)
            add(body, np.uint64(prime) - product, prime, out=body)
        return sealed

    def open(self, total: Coefficients, summed_secret: SecretCoefficients, common: CommonPolynomials) -> Coefficients:
        """Opens a sum of sealed chunks.

        Args:
            total: shape (n,), the sum modulo q of what `seal` gave.
            summed_secret: private, shape (ring_degree,), the sum of the secrets.
            common: the polynomials the chunks were sealed against.

        Returns:
            Shape (n,), below t: the sum of the plaintexts.

        Raises:
            SealError: the arguments are no sum of at most `max_clients` sealed chunks and secrets.
        """
        profile = self.profile
        prime, scale = profile.modulus[0], profile.message_scale
        _check_below(total, prime, "sealed sum")
        key = self._library.key(_checked_secret(summed_secret, profile, profile.max_clients))
        opened = np.empty(len(total), np.uint64)
        for part in self._pairs(len(total)):
            public = self._common_pair(common, part.start, len(total[part]))
            product = self._library.products(public, key).reshape(-1)[: len(total[part])]
            phase = add(total[part], product, prime, out=opened[part])  # Delta m + e
            add(phase, np.uint64(scale // 2), prime, out=phase)  # so that negative noise does not wrap around
            phase //= np.uint64(scale)
        if len(opened) and int(opened.max()) >= profile.plain_modulus:
            raise SealError("the sealed sum does not open: the sum is damaged or the key is not that of these members")
        return opened

    def _pairs(self, count: int) -> Iterator[slice]:
        """Where the pairs of polynomials of a chunk lie; the last may be shorter."""
        length = 2 * self.profile.ring_degree
        return (slice(start, start + length) for start in range(0, count, length))

    def _common_pair(self, common: CommonPolynomials, start: int, count: int) -> Coefficients:
        """The public polynomials for `count` coefficients from `start` on, shape (2, N); one alone stands twice."""
        first = start // self.profile.ring_degree
        pair = np.empty(self._shape, np.uint64)
        pair[0] = common(first)
        pair[1] = common(first + 1) if count > self.profile.ring_degree else pair[0]
        largest = pair.max(axis=1)
        if int(largest.max()) >= self.profile.modulus[0]:
            raise SealError("a common polynomial has a value that is not below the modulus")
        if not largest.all():
            raise SealError("a common polynomial is zero: it would hide nothing")
        return pair

    def _fresh_noise(self) -> Coefficients:
        """Two noise polynomials, shape (2, N), as numbers modulo q, from SEAL's sampler.

        SEAL encrypts zero under a public key (p0, p1) as (p0 u + e0, p1 u + e1). Under the key (0, 0) that leaves the
        noise e0, e1 alone: the same that hides every ciphertext SEAL makes. Nothing is protected by that key; the noise
        is used as the `e` of `seal`. It is checked, since without noise nothing would be sealed.

        Raises:
            SealError: the numbers do not look like SEAL's noise.
        """
        noise = self._library.encrypt_zero(self._noise_maker)
        distances = add(noise, np.uint64(NOISE_BOUND), self.profile.modulus[0])
        if int(distances.max()) > 2 * NOISE_BOUND or 2 * np.count_nonzero(noise) < noise.size:
            raise SealError(
                "SEAL's noise is not distributed as expected; is this the supported version of seal-python?"
            )
        return noise


class PublicKeyRing:
    """Sealing under a public key: SEAL's BFV for a profile of scheme `shared`. Whoever has the one secret opens all.

    On the wire a chunk is, for each prime, the first polynomials (the last cut off after the last coefficient in use)
    and then the second polynomials (whole).

    Guarantees:
        - Opening a sum gives the sum of the plaintexts modulo t, exactly, unless the summed noise is too large, which
          has the probability bounded by `profiles.failure_log2`.

    Source: Fan and Vercauteren 2012, "Somewhat Practical Fully Homomorphic Encryption", section 4, as in SEAL.
    """

    def __init__(self, profile: Profile) -> None:
        if profile.scheme != "shared":
            raise SealError(f"profile {profile.scheme}/{profile.name} is not for a shared secret")
        self.profile = profile
        self._library = _Library(profile)

    def new_keys(self) -> tuple[SharedSecret, bytes]:
        """A fresh secret and the bytes of its public key."""
        secret = self.restore_secret(self._library.new_secret())
        return secret, self._library.public_key_bytes(secret._coefficients)

    def restore_secret(self, coefficients: SecretCoefficients) -> SharedSecret:
        """The secret from its coefficients, at a client that received them.

        Raises:
            SealError: the coefficients are not a ternary polynomial of this ring.
        """
        secret = _checked_ternary(coefficients, self.profile)
        return SharedSecret(self.profile, secret, self._library.decryptor(secret))

    def read_public_key(self, data: bytes) -> PublicKey:
        """A public key from its bytes; they must come from a client that is trusted with everything.

        Raises:
            MessageError: the bytes are no public key of this profile.
        """
        return PublicKey(self.profile, self._library.encryptor(data))

    def seal(self, public: PublicKey, plain: Coefficients) -> Coefficients:
        """Seals one chunk.

        Args:
            public: the public key.
            plain: private, shape (n,), below t.

        Returns:
            Shape (number of primes, wire coefficients), each row below its prime.

        Raises:
            SecretKeyError: the key belongs to another profile.
            SealError: a plaintext coefficient is not below t.
        """
        if public._profile != self.profile:
            raise SecretKeyError("the public key belongs to another profile")
        _check_below(plain, self.profile.plain_modulus, "plaintext")
        degree, count = self.profile.ring_degree, len(plain)
        num_polynomials = -(-count // degree)
        sealed = np.empty((len(self.profile.modulus), count + num_polynomials * degree), np.uint64)
        for start in range(0, count, degree):
            part = plain[start : start + degree]
            pair = self._library.encrypt(public._encryptor, part)  # (2, number of primes, degree)
            sealed[:, start : start + len(part)] = pair[0, :, : len(part)]
            sealed[:, count + start : count + start + degree] = pair[1]
        return sealed

    def open(self, total: Coefficients, secret: SharedSecret) -> Coefficients:
        """Opens a sum of sealed chunks.

        Args:
            total: shape (number of primes, wire coefficients), each row the sum modulo its prime.
            secret: private.

        Returns:
            Shape (n,), below t: the sum of the plaintexts.

        Raises:
            SecretKeyError: the secret belongs to another profile.
            SealError: `total` has a shape or a range that no sealed chunk has.
        """
        if secret._profile != self.profile:
            raise SecretKeyError("the shared secret belongs to another profile")
        degree = self.profile.ring_degree
        if total.ndim != 2 or len(total) != len(self.profile.modulus):
            raise SealError(f"a sealed sum has shape {total.shape}, expected {len(self.profile.modulus)} rows")
        num_polynomials = -(-total.shape[1] // (2 * degree))
        count = total.shape[1] - num_polynomials * degree
        if -(-count // degree) != num_polynomials:
            raise SealError(f"no sealed chunk has {total.shape[1]} coefficients")
        for row, prime in zip(total, self.profile.modulus, strict=True):
            _check_below(row, prime, "sealed sum")
        opened = np.empty(count, np.uint64)
        for start in range(0, count, degree):
            part = opened[start : start + degree]
            pair = np.zeros((2, len(total), degree), np.uint64)
            pair[0, :, : len(part)] = total[:, start : start + len(part)]
            pair[1] = total[:, count + start : count + start + degree]
            part[:] = self._library.decrypt(secret._decryptor, pair)[: len(part)]
        return opened


class _Library:
    """SEAL's objects for one profile. Arrays in, arrays out; nothing else in this module touches SEAL.

    Polynomials in a ciphertext are arrays of shape (2, number of primes, N).
    """

    def __init__(self, profile: Profile) -> None:
        self._degree = profile.ring_degree
        self._plain_modulus = profile.plain_modulus
        special = () if profile.special_prime is None else (profile.special_prime,)
        self._key_primes = profile.modulus + special
        self._context = _context(profile, self._key_primes)
        self._evaluator = seal.Evaluator(self._context)
        self._shape = (2, len(profile.modulus), self._degree)
        self._work = seal.Ciphertext(self._context)
        self._take_prefixes()

    def _take_prefixes(self) -> None:
        """Has SEAL make one object of each kind, and keeps what it writes before the coefficients."""
        generator = seal.KeyGenerator(self._context)
        public = generator.create_public_key()
        self._public_shape = (2, len(self._key_primes), self._degree)
        self._public_prefix = _prefix(public.to_string(), self._public_shape)
        self._plain_prefix = _prefix(seal.Plaintext(self._degree).to_bytes(), (self._degree,))
        ciphertext = seal.Encryptor(self._context, public).encrypt_zero()
        self._prefix = _prefix(ciphertext.to_string(), self._shape)
        self._evaluator.transform_to_ntt_inplace(ciphertext)
        self._transformed_prefix = _prefix(ciphertext.to_string(), self._shape)

    def prefixes(self) -> dict[str, bytes]:
        """What SEAL writes before the coefficients, by kind of object; for the test that notices a change."""
        return {
            "ciphertext": self._prefix,
            "transformed": self._transformed_prefix,
            "plaintext": self._plain_prefix,
            "public key": self._public_prefix,
        }

    def new_secret(self) -> SecretCoefficients:
        """A fresh ternary polynomial from SEAL's sampler; SEAL keeps it transformed, this transforms it back."""
        written = seal.KeyGenerator(self._context).secret_key().to_string()
        key_words = np.frombuffer(written[-_WORD_BYTES * len(self._key_primes) * self._degree :], np.uint64)
        transformed = key_words.reshape(-1, self._degree)[: self._shape[1]]
        self._load(np.broadcast_to(transformed, self._shape), self._transformed_prefix)
        self._evaluator.transform_from_ntt_inplace(self._work)
        residues = self._read()[0, 0]
        return np.where(residues > 1, np.int64(-1), residues.astype(np.int64))

    def key(self, secret: SecretCoefficients) -> Any:
        """A polynomial with small coefficients, transformed for multiplying by it."""
        plain = self._plaintext(np.mod(secret, self._plain_modulus).astype(np.uint64))
        self._evaluator.transform_to_ntt_inplace(plain, self._context.key_context_data().parms_id())
        return plain

    def products(self, pair: Coefficients, key: Any) -> Coefficients:
        """Multiplies two polynomials by the one that `key` was made from, modulo the single prime.

        Args:
            pair: shape (2, N), values.
            key: see `key`.

        Returns:
            Shape (2, N), coefficients.
        """
        self._load(pair.reshape(self._shape), self._transformed_prefix)
        self._evaluator.multiply_plain_inplace(self._work, key)
        self._evaluator.transform_from_ntt_inplace(self._work)
        return self._read()[:, 0]

    def encryptor_without_key(self) -> Any:
        """An encryptor under the public key (0, 0), which adds nothing to the noise."""
        return self._encryptor(np.zeros(self._public_shape, np.uint64))

    def encrypt_zero(self, encryptor: Any) -> Coefficients:
        """An encryption of zero, shape (2, N), modulo the single prime."""
        encryptor.encrypt_zero(self._work)
        return self._read()[:, 0]

    def encrypt(self, encryptor: Any, plain: Coefficients) -> Coefficients:
        """An encryption of up to N plaintext coefficients."""
        padded = np.zeros(self._degree, np.uint64)
        padded[: len(plain)] = plain
        encryptor.encrypt(self._plaintext(padded), self._work)
        return self._read()

    def decrypt(self, decryptor: Any, pair: Coefficients) -> Coefficients:
        """The N plaintext coefficients of a ciphertext."""
        self._load(pair, self._prefix)
        plain = decryptor.decrypt(self._work)
        coefficients = np.zeros(self._degree, np.uint64)
        count = plain.coeff_count()  # SEAL leaves leading zeros out
        written = plain.to_bytes()
        coefficients[:count] = np.frombuffer(written[len(written) - _WORD_BYTES * count :], np.uint64)
        return coefficients

    def public_key_bytes(self, secret: SecretCoefficients) -> bytes:
        """The bytes of a fresh public key for a secret: two transformed polynomials for each prime."""
        generator = seal.KeyGenerator(self._context, self._secret_key(secret))
        written = generator.create_public_key().to_string()
        polynomials = _after(self._public_prefix, written, self._public_shape)
        return b"".join(
            to_bytes(row, prime) for rows in polynomials for row, prime in zip(rows, self._key_primes, strict=True)
        )

    def encryptor(self, public_key: bytes) -> Any:
        """An encryptor under a public key.

        Raises:
            MessageError: the bytes are not a public key's.
        """
        sizes = [coefficient_bytes(prime) * self._degree for prime in self._key_primes]
        if len(public_key) != 2 * sum(sizes):
            raise MessageError(f"a public key of this profile has {2 * sum(sizes)} bytes, got {len(public_key)}")
        polynomials = np.empty(self._public_shape, np.uint64)
        start = 0
        for rows in polynomials:
            for row, prime, size in zip(rows, self._key_primes, sizes, strict=True):
                row[:] = from_bytes(public_key[start : start + size], self._degree, prime)
                start += size
        return self._encryptor(polynomials)

    def decryptor(self, secret: SecretCoefficients) -> Any:
        """A decryptor under a secret."""
        return seal.Decryptor(self._context, self._secret_key(secret))

    def _encryptor(self, public_key: Coefficients) -> Any:
        key = self._context.from_public_str(self._public_prefix + public_key.tobytes())
        return seal.Encryptor(self._context, key)

    def _secret_key(self, secret: SecretCoefficients) -> Any:
        """SEAL writes a secret key exactly as it writes a transformed plaintext at the level of keys."""
        return self._context.from_secret_str(self.key(secret).to_bytes())

    def _plaintext(self, coefficients: Coefficients) -> Any:
        plain = seal.Plaintext()
        plain.load_bytes(self._context, self._plain_prefix + coefficients.tobytes())
        return plain

    def _load(self, polynomials: Coefficients, prefix: bytes) -> None:
        self._work.load_bytes(self._context, prefix + polynomials.tobytes())

    def _read(self) -> Coefficients:
        return _after(self._prefix, self._work.to_string(), self._shape)


def _context(profile: Profile, primes: tuple[int, ...]) -> Any:
    parameters = seal.EncryptionParameters(seal.scheme_type.bfv)
    parameters.set_poly_modulus_degree(profile.ring_degree)
    parameters.set_coeff_modulus([seal.Modulus(prime) for prime in primes])
    parameters.set_plain_modulus(profile.plain_modulus)
    context = seal.SEALContext(parameters, True, seal.sec_level_type.tc128)
    if not context.parameters_set():
        raise SealError(f"SEAL refuses profile {profile.name} as not secure: {context.parameter_error_message()}")
    return context


def _prefix(written: bytes, shape: tuple[int, ...]) -> bytes:
    return written[: len(written) - _WORD_BYTES * math.prod(shape)]


def _after(prefix: bytes, written: bytes, shape: tuple[int, ...]) -> Coefficients:
    """The coefficients behind a prefix, in memory of their own, aligned."""
    if not written.startswith(prefix) or len(written) != len(prefix) + _WORD_BYTES * math.prod(shape):
        raise SealError("SEAL wrote an object of another kind than expected")
    coefficients = np.empty(shape, np.uint64)
    coefficients.view(np.uint8).reshape(-1)[:] = np.frombuffer(written, np.uint8, offset=len(prefix))
    return coefficients


def _check_below(numbers: Coefficients, bound: int, name: str) -> None:
    if numbers.dtype != np.uint64 or numbers.ndim != 1:
        raise SealError(f"a {name} has shape {numbers.shape} and type {numbers.dtype}, expected one row of uint64")
    if len(numbers) and int(numbers.max()) >= bound:
        raise SealError(f"a coefficient of the {name} is not below {bound}")


def _checked_secret(coefficients: SecretCoefficients, profile: Profile, bound: int) -> SecretCoefficients:
    """A copy of a secret or a sum of secrets, if it can be one; the message says nothing about its values."""
    if coefficients.shape != (profile.ring_degree,) or coefficients.dtype != np.int64:
        raise SealError(f"a secret has shape {coefficients.shape}, expected ({profile.ring_degree},) of int64")
    if int(np.abs(coefficients).max()) > bound or not coefficients.any():
        raise SealError(f"the secret is no sum of at most {bound} secrets of this ring")
    return coefficients.copy()


def _checked_ternary(coefficients: SecretCoefficients, profile: Profile) -> SecretCoefficients:
    return _checked_secret(coefficients, profile, 1)
