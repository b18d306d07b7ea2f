"""Scheme `published`: CKKS through TenSEAL with the parameters of FedShield-LLM, for comparison. Extra `published`.

As published, every client's values are encrypted under one key, slot by slot, and added under encryption. Two things
differ from the published code: the secret key stays with the clients, and the server's side holds no key at all.

What remains, and why this is not the default:

- One secret key for all: a client that colludes with the server opens every client's update.
- Decryption is approximate: the result holds the noise of the ciphertext. Who sees ciphertexts and their results in
  float64 computes the secret key from them (Li and Micciancio, EUROCRYPT 2021, "On the Security of Homomorphic
  Encryption on Approximate Numbers"; `confide bench key-recovery` does it). Results are therefore rounded to float32
  before they leave `open`, which stops that computation but is no proof of anything.
- A ciphertext takes about 81 bytes per value.

The only module that imports TenSEAL. TenSEAL parses what a peer sent; unlike the other schemes this one needs the
encryption library also at the server.

Source: FedShield-LLM, section on parameters: CKKS, ring degree 8192, primes of 60, 40, 40 and 60 bits, scale 2^40.
"""

import hashlib
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from confide.errors import MessageError, MissingExtraError, NonFiniteUpdateError, SealError, SecretKeyError
from confide.seal.scheme import SealContext
from confide.update import Vector

RING_DEGREE = 8192
PRIME_BITS = (60, 40, 40, 60)
SCALE = 2.0**40
SLOTS = RING_DEGREE // 2  # values in one ciphertext
CIPHERTEXTS_PER_CHUNK = 16
CHUNK_VALUES = CIPHERTEXTS_PER_CHUNK * SLOTS

PRIMES = (1152921504606748673, 1099510890497, 1099511480321)
"""The primes of a ciphertext: those that SEAL picks for `PRIME_BITS`, without the last, which only keys have."""

_DIGEST = hashlib.sha256(
    f"confide published CKKS v1 {RING_DEGREE} {PRIME_BITS} {SCALE.hex()} {CHUNK_VALUES}".encode()
).digest()
_LENGTH = struct.Struct("<I")
_POLYNOMIALS = 2
# Two polynomials of 8192 coefficients for each of three primes, 8 bytes each, and what serialising may add.
_MOST_BYTES = _POLYNOMIALS * len(PRIMES) * RING_DEGREE * 8 + 4096
_LARGEST = 1e3  # 2^40 times a sum of some hundred such values stays far below the 140 bits of the primes

Reals = npt.NDArray[np.float64]


class PublishedKeys:
    """The keys of scheme `published`, the same at every client. Made by `new_published_keys` only."""

    __slots__ = ("_context",)

    def __init__(self, context: Any) -> None:
        self._context = context

    def __repr__(self) -> str:
        return "PublishedKeys(hidden)"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise SecretKeyError(
            "the published scheme's keys cannot be copied or pickled: they must not leave their process"
        )

    def encrypt(self, values: Vector) -> bytes:
        """One ciphertext of up to `SLOTS` values."""
        return bytes(_tenseal().ckks_vector(self._context, values.tolist()).serialize())

    def decrypt(self, body: bytes, num_values: int) -> Reals:
        """A chunk's values as CKKS gives them, shape (num_values,), with the ciphertext's noise in the last digits.

        Whoever sees these numbers and the chunk can compute the secret key. They are for rounding at once.

        Raises:
            MessageError: the bytes are no chunk of so many values.
        """
        parts = [vector.decrypt() for vector in _read_chunk(self._context, body, num_values)]
        return np.array([value for part in parts for value in part], np.float64)


def new_published_keys() -> PublishedKeys:
    """Fresh keys; made once for a federation, by one client.

    Raises:
        MissingExtraError: TenSEAL is not installed.
    """
    return PublishedKeys(_new_context())


class PublishedSealing:
    """One client's sealing of one vector."""

    key_id = ""

    def __init__(self, keys: PublishedKeys, context: SealContext) -> None:
        self._keys = keys
        self._context = context
        self._is_used = False

    def chunks(self, values: Vector) -> Iterator[bytes]:
        """See `SealingRound.chunks`."""
        if self._is_used:
            raise SecretKeyError("a round is sealed once; begin a new one")
        if values.size != self._context.num_values:
            raise SealError(f"expected {self._context.num_values} values to seal, got {values.size}")
        self._is_used = True
        return self._chunks(values)

    def _chunks(self, values: Vector) -> Iterator[bytes]:
        for start in range(0, values.size, CHUNK_VALUES):
            chunk = values[start : start + CHUNK_VALUES]
            _check_values(chunk)
            yield _write_chunk(self._keys.encrypt(chunk[at : at + SLOTS]) for at in range(0, chunk.size, SLOTS))

    def shares(self) -> dict[str, bytes]:
        """None: there is no round key."""
        return {}


class PublishedClient:
    """Clients' half of scheme `published`.

    Args:
        keys: the same at every client; see `new_published_keys`.
    """

    name = "published"
    profile_name = ""
    is_sealed = True
    needs_release = False
    description = (
        "sealed against the server with one key that all clients share: not safe against a client that colludes with "
        "the server, and approximate decryption leaks the key to whoever sees results in float64; for comparison only"
    )
    digest = _DIGEST
    chunk_values = CHUNK_VALUES
    initial_limit = 0.0

    def __init__(self, keys: PublishedKeys) -> None:
        self._keys = keys

    def begin(self, context: SealContext) -> PublishedSealing:
        """See `ClientSealing.begin`."""
        return PublishedSealing(self._keys, context)

    def received(self, values: Vector, limit: float) -> tuple[Vector, int]:
        """The values themselves: what CKKS adds, about 1e-7 in a sum of tens of clients, is random and not known here.

        Raises:
            NonFiniteUpdateError: a value is NaN, infinite or too large.
        """
        del limit
        _check_values(values)
        return values, 0

    def check_sum(self, body: bytes, num_values: int) -> None:
        """See `ClientSealing.check_sum`."""
        read_ciphertexts(body, num_values)

    def add_shares(self, shares: Sequence[bytes]) -> bytes:
        """Refuses: there are no shares."""
        raise SealError(f"scheme published has no round keys, got {len(shares)} shares of one")

    def open(
        self, context: SealContext, *, num_members: int, bodies: Sequence[bytes], key_shares: Mapping[int, bytes]
    ) -> Vector:
        """The sum, rounded to float32; see `ClientSealing.open`."""
        del num_members
        if key_shares:
            raise SealError(f"scheme published has no round keys, got {len(key_shares)} shares of one")
        starts = range(0, context.num_values, CHUNK_VALUES)
        if len(bodies) != len(starts):
            raise MessageError(f"expected {len(starts)} chunks of a sum, got {len(bodies)}")
        opened = np.empty(context.num_values, np.float32)
        for start, body in zip(starts, bodies, strict=True):
            part = opened[start : start + CHUNK_VALUES]
            part[:] = self._keys.decrypt(body, part.size)
        return opened


class PublishedServer:
    """Server's half: TenSEAL's parameters without any key, neither secret nor public; adding takes none.

    Raises:
        MissingExtraError: TenSEAL is not installed.
    """

    digest = _DIGEST
    chunk_values = CHUNK_VALUES
    needs_release = False

    def __init__(self) -> None:
        self._context = _context_without_keys()

    def check(self, body: bytes, num_values: int) -> None:
        """Whether TenSEAL reads it as so many values under these parameters; see `ServerSealing.check`."""
        for _ in _read_chunk(self._context, body, num_values):
            pass

    def most_bytes(self, num_values: int) -> int:
        """See `ServerSealing.most_bytes`; ciphertexts are compressed and most are shorter."""
        return -(-num_values // SLOTS) * (_LENGTH.size + _MOST_BYTES)

    def add(self, bodies: Sequence[bytes], num_values: int) -> bytes:
        """See `ServerSealing.add`."""
        if not bodies:
            raise MessageError("there are no sealed chunks to add")
        chunks = [_read_chunk(self._context, body, num_values) for body in bodies]
        return _write_chunk(_sum(vectors) for vectors in zip(*chunks, strict=True))


def read_ciphertexts(body: bytes, num_values: int) -> npt.NDArray[np.uint64]:
    """The numbers of a chunk, as anybody can read them: no key is needed.

    Returns:
        Shape (ciphertexts, 2, 3, 8192): for each ciphertext its two polynomials modulo each of `PRIMES`, as values at
        the roots of X^8192 + 1 in SEAL's order.

    Raises:
        MessageError: the bytes are no chunk of so many values.
    """
    shape = (_POLYNOMIALS, len(PRIMES), RING_DEGREE)
    count = _POLYNOMIALS * len(PRIMES) * RING_DEGREE
    ciphertexts = [vector.ciphertext()[0] for vector in _read_chunk(_context_without_keys(), body, num_values)]
    return np.stack(
        [np.fromiter((one[i] for i in range(count)), np.uint64, count).reshape(shape) for one in ciphertexts]
    )


def _tenseal() -> Any:
    try:
        import tenseal
    except ImportError as error:
        raise MissingExtraError("tenseal", "published", 'The scheme "published"') from error
    return tenseal


def _new_context() -> Any:
    tenseal = _tenseal()
    context = tenseal.context(tenseal.SCHEME_TYPE.CKKS, RING_DEGREE, coeff_mod_bit_sizes=list(PRIME_BITS), n_threads=1)
    context.global_scale = SCALE
    return context


def _context_without_keys() -> Any:
    """Parameters alone. TenSEAL makes keys with every context; these are thrown away before anything is sealed."""
    bare = _new_context().serialize(
        save_public_key=False, save_secret_key=False, save_galois_keys=False, save_relin_keys=False
    )
    return _tenseal().context_from(bare, n_threads=1)


def _write_chunk(ciphertexts: Iterator[bytes]) -> bytes:
    return b"".join(_LENGTH.pack(len(one)) + one for one in ciphertexts)


def _read_chunk(context: Any, body: bytes, num_values: int) -> Iterator[Any]:
    """The ciphertexts of a chunk, one at a time."""
    rest = memoryview(body)
    for start in range(0, num_values, SLOTS):
        if len(rest) < _LENGTH.size:
            raise MessageError(f"a sealed chunk of {num_values} values is cut off")
        (length,) = _LENGTH.unpack_from(rest)
        if not 0 < length <= min(len(rest) - _LENGTH.size, _MOST_BYTES):
            raise MessageError(f"a ciphertext announces {length} bytes, which is more than there are or can be")
        yield _read_ciphertext(context, bytes(rest[_LENGTH.size :][:length]), min(SLOTS, num_values - start))
        rest = rest[_LENGTH.size + length :]
    if len(rest):
        raise MessageError(f"{len(rest)} bytes stand behind a sealed chunk of {num_values} values")


def _read_ciphertext(context: Any, data: bytes, num_values: int) -> Any:
    try:
        vector = _tenseal().ckks_vector_from(context, data)
        parts = vector.ciphertext()
    except (ValueError, RuntimeError, IndexError) as error:
        raise MessageError("TenSEAL does not read these bytes as a ciphertext of this scheme") from error
    if vector.size() != num_values or len(parts) != 1:
        raise MessageError(f"expected a ciphertext of {num_values} values, got {vector.size()}")
    (part,) = parts
    found = (part.size(), part.coeff_modulus_size(), part.poly_modulus_degree(), part.is_ntt_form(), part.scale)
    if found != (_POLYNOMIALS, len(PRIMES), RING_DEGREE, True, SCALE):
        raise MessageError(f"a ciphertext has size, primes, degree, form and scale {found}, not those of this scheme")
    return vector


def _sum(vectors: Sequence[Any]) -> bytes:
    total = vectors[0]
    for vector in vectors[1:]:
        total.add_(vector)
    return bytes(total.serialize())


def _check_values(values: Vector) -> None:
    if not (np.abs(values) <= _LARGEST).all():  # also false for NaN
        raise NonFiniteUpdateError(f"the values to seal hold NaN, infinity, or values beyond {_LARGEST:g}")
