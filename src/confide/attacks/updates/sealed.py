"""What a server without a key can read into a sealed update: it takes the bytes for what they would be unsealed.

Attacks on updates are then given these numbers, so that what sealing hides is measured and not assumed.
"""

import struct
from collections.abc import Iterator

import numpy as np

from confide.membership.frames import HEADER_BYTES
from confide.membership.roster import SIGNATURE_BYTES
from confide.seal.adder import read_chunk
from confide.seal.fixedpoint import unpack
from confide.seal.profiles import PROFILES, Profile
from confide.update import Vector

_LENGTH = struct.Struct(">I")
_DIGEST = slice(6, 38)  # of scheme and profile, in a frame's header
_NUM_VALUES = struct.Struct(">Q")
_NUM_VALUES_AT = 108  # magic, version, two digests, run, round and sender stand before it


def guess_values(frames: bytes) -> Vector:
    """Reads the values of an upload as if nothing hid them.

    Args:
        frames: an upload as the server got it.

    Returns:
        One float32 for each value that travelled, in arbitrary units, each finite. For scheme `plain` they are the
        values; for ring schemes what each coefficient's top bits would say without the key's part; of any other, the
        body cut into as many equal pieces as there are values, each read as a number.
    """
    (num_values,) = _NUM_VALUES.unpack_from(frames, _NUM_VALUES_AT)
    bodies = list(_bodies(frames))
    profile = next((one for one in PROFILES.values() if one.digest == frames[_DIGEST]), None)
    if profile is not None:
        return _from_ring(bodies, num_values, profile)
    data = b"".join(bodies)
    if len(data) == num_values * np.dtype(np.float32).itemsize:
        values = np.frombuffer(data, "<f4").astype(np.float32)
        return np.where(np.isfinite(values), values, np.float32(0))
    return _from_pieces(data, num_values)


def _bodies(frames: bytes) -> Iterator[bytes]:
    start = 0
    while start < len(frames):
        body = start + HEADER_BYTES
        (length,) = _LENGTH.unpack_from(frames, body - _LENGTH.size)
        yield frames[body : body + length]
        start = body + length + SIGNATURE_BYTES


def _from_ring(bodies: list[bytes], num_values: int, profile: Profile) -> Vector:
    parts = []
    left = num_values
    for body in bodies:
        count = min(profile.chunk_values, left)
        left -= count
        first = read_chunk(body, count, profile)[0][: profile.plain_coefficients(count)]
        # As if c = Delta m + noise. Of several primes, the residue of the first one is all that fits into 64 bits.
        scale = np.uint64(profile.message_scale if len(profile.modulus) == 1 else 1)
        plain = (first + scale // np.uint64(2)) // scale
        levels = unpack(plain, count, profile).astype(np.float64)
        parts.append((levels - levels.mean()).astype(np.float32))
    return np.concatenate(parts)


def _from_pieces(data: bytes, num_values: int) -> Vector:
    size = len(data) // num_values
    pieces = np.frombuffer(data[: size * num_values], np.uint8).reshape(num_values, size)[:, : min(size, 4)]
    numbers = pieces.astype(np.float64) @ (256.0 ** np.arange(pieces.shape[1]))
    values: Vector = (numbers - numbers.mean()).astype(np.float32)
    return values
