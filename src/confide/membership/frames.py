"""Frames: how a sealed vector travels, in chunks of which each is signed; and how a sum comes back.

An upload is its frames one after another, each a header, a body and the sender's Ed25519 signature (64 bytes) over
both. A sum is the same without signatures: the server makes it, and what it is worth shows when it is opened. The
reader knows every field of a header before it reads one, compares, and parses nothing else; what is in a body is for
the sealing scheme to check.

Header, big endian:

    magic 4, version 2, sealing digest 32, roster digest 32, run 32 (SHA-256 of its id), round 4, sender 2 (its point in
    the roster; 0 in a sum), number of values 8 (of the whole vector), number of chunks 4, chunk 4 (from 0),
    limit 8 (IEEE 754 binary64), bytes of the body 4
"""

import hashlib
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from confide.errors import MessageError
from confide.membership.documents import positive_number
from confide.membership.memberlist import DIGEST_BYTES, MAX_ROUND, MAX_VALUES, check_run
from confide.membership.roster import SIGNATURE_BYTES
from confide.membership.statements import frame_statement

VERSION = 1
_UPLOAD_MAGIC = b"CFRM"
_SUM_MAGIC = b"CSUM"
_HEADER = struct.Struct(">4sH32s32s32sIHQIIdI")
HEADER_BYTES = _HEADER.size
_BODY_LENGTH = struct.Struct(">I")
_FIELDS = (
    "magic",
    "version",
    "sealing digest",
    "roster digest",
    "run",
    "round",
    "sender",
    "number of values",
    "number of chunks",
    "chunk",
    "limit",
    "length of the body",
)
_MAX_POINT = 2**16 - 1
_MAX_UINT32 = 2**32 - 1

Sign = Callable[[bytes], bytes]
Verify = Callable[[bytes, bytes], None]
CheckBody = Callable[[bytes, int], None]


@dataclass(frozen=True, kw_only=True)
class FrameSpec:
    """What the frames of one round have in common; both sides know it beforehand.

    Args:
        sealing_digest: of scheme and profile, 32 bytes.
        roster_digest: 32 bytes.
        run: the run's id.
        round_number: from 1.
        num_values: of the whole vector, > 0.
        limit: the fixed-point range of this round, above 0, at most 2**64.
        chunk_values: values in every chunk but the last, > 0.

    Raises:
        MessageError: a field is not as described, or there would be 2**32 chunks or more.
    """

    sealing_digest: bytes
    roster_digest: bytes
    run: str
    round_number: int
    num_values: int
    limit: float
    chunk_values: int

    def __post_init__(self) -> None:
        check_run(self.run)
        if len(self.sealing_digest) != DIGEST_BYTES or len(self.roster_digest) != DIGEST_BYTES:
            raise MessageError(f"the digests of a frame must have {DIGEST_BYTES} bytes")
        if not 1 <= self.round_number <= MAX_ROUND:
            raise MessageError(f"the round of a frame must lie in 1..{MAX_ROUND}")
        if not 1 <= self.num_values <= MAX_VALUES or self.chunk_values < 1 or self.num_chunks > _MAX_UINT32:
            raise MessageError(f"{self.num_values} values in chunks of {self.chunk_values} cannot be framed")
        object.__setattr__(self, "limit", positive_number(self.limit, "the limit of a frame", MessageError))

    @property
    def num_chunks(self) -> int:
        """How many frames an upload has."""
        return -(-self.num_values // self.chunk_values)

    def values_in(self, chunk: int) -> int:
        """How many values chunk `chunk`, from 0, holds."""
        return min(self.chunk_values, self.num_values - chunk * self.chunk_values)


def write_frames(spec: FrameSpec, sender_point: int, bodies: Iterable[bytes], sign: Sign) -> Iterator[bytes]:
    """Frames and signs the chunks of an upload, one at a time.

    Args:
        spec: of this round.
        sender_point: the sender's number in the roster, from 1.
        bodies: of the chunks, in order.
        sign: gives the sender's signature of a statement.

    Raises:
        MessageError: there are more or fewer bodies than chunks, one is too long, or the point is none.
    """
    _check_point(sender_point)
    for header, body in _with_headers(spec, _UPLOAD_MAGIC, sender_point, bodies):
        yield header + body + sign(frame_statement(header, body))


def read_frames(
    data: bytes | memoryview, spec: FrameSpec, sender_point: int, verify: Verify, check_body: CheckBody
) -> list[bytes]:
    """Reads a whole upload.

    Args:
        data: the frames, one after another, from anybody.
        spec: of this round.
        sender_point: the number in the roster of who is said to have sent it.
        verify: raises `MessageError` unless a signature is the sender's over a statement.
        check_body: raises `MessageError` unless a body can be a chunk of so many values.

    Returns:
        The bodies, one for each chunk.

    Guarantees:
        - Every body came from the sender, for exactly this round, run, roster, sealing, and place in the vector.
        - Memory taken beyond the data is that of one copy of it, and a body is checked only after its signature.

    Raises:
        MessageError: whatever else the bytes are.
    """
    _check_point(sender_point)
    reader = _Reader(data)
    reader.expect_frames(spec.num_chunks, HEADER_BYTES + SIGNATURE_BYTES)
    bodies = []
    for chunk in range(spec.num_chunks):
        header, body = _take_frame(reader, spec, _UPLOAD_MAGIC, sender_point, chunk, after_body=SIGNATURE_BYTES)
        verify(frame_statement(header, body), reader.take(SIGNATURE_BYTES))
        check_body(body, spec.values_in(chunk))
        bodies.append(body)
    reader.finish()
    return bodies


def sum_to_bytes(bodies: Iterable[bytes], spec: FrameSpec) -> bytes:
    """Frames the chunks of a sum, unsigned.

    Raises:
        MessageError: there are more or fewer bodies than chunks, or one is too long.
    """
    return b"".join(header + body for header, body in _with_headers(spec, _SUM_MAGIC, 0, bodies))


def sum_from_bytes(data: bytes | memoryview, spec: FrameSpec, check_body: CheckBody) -> list[bytes]:
    """Reads what `sum_to_bytes` wrote, within the same bounds as `read_frames`.

    Raises:
        MessageError: whatever else the bytes are.
    """
    reader = _Reader(data)
    reader.expect_frames(spec.num_chunks, HEADER_BYTES)
    bodies = []
    for chunk in range(spec.num_chunks):
        _, body = _take_frame(reader, spec, _SUM_MAGIC, 0, chunk, after_body=0)
        check_body(body, spec.values_in(chunk))
        bodies.append(body)
    reader.finish()
    return bodies


class _Reader:
    """Takes pieces of known length from the front of some bytes, and never more than there are."""

    def __init__(self, data: bytes | memoryview) -> None:
        self._rest = memoryview(data).cast("B")

    def expect_frames(self, num_frames: int, min_bytes: int) -> None:
        """Refuses data too short to hold so many frames, before any is read."""
        if len(self._rest) < num_frames * min_bytes:
            raise MessageError(f"{len(self._rest)} bytes are too few for {num_frames} frames")

    def has(self, num_bytes: int) -> bool:
        """Whether so many bytes are left."""
        return num_bytes <= len(self._rest)

    def take(self, num_bytes: int) -> bytes:
        """Takes a copy of the next bytes."""
        if not self.has(num_bytes):
            raise MessageError(f"the frames are cut off: {num_bytes} bytes were expected, {len(self._rest)} are left")
        piece, self._rest = self._rest[:num_bytes], self._rest[num_bytes:]
        return bytes(piece)

    def finish(self) -> None:
        """Refuses bytes behind the last frame."""
        if len(self._rest):
            raise MessageError(f"{len(self._rest)} bytes stand behind the last frame")


def _with_headers(
    spec: FrameSpec, magic: bytes, sender_point: int, bodies: Iterable[bytes]
) -> Iterator[tuple[bytes, bytes]]:
    num_bodies = 0
    for chunk, body in enumerate(bodies):
        if chunk >= spec.num_chunks or len(body) > _MAX_UINT32:
            raise MessageError(f"there is a body too many, or too long: {spec.num_chunks} chunks were expected")
        yield _header(spec, magic, sender_point, chunk, len(body)), body
        num_bodies += 1
    if num_bodies != spec.num_chunks:
        raise MessageError(f"{num_bodies} bodies came, {spec.num_chunks} chunks were expected")


def _header(spec: FrameSpec, magic: bytes, sender_point: int, chunk: int, body_bytes: int) -> bytes:
    return _HEADER.pack(
        magic,
        VERSION,
        spec.sealing_digest,
        spec.roster_digest,
        hashlib.sha256(spec.run.encode()).digest(),
        spec.round_number,
        sender_point,
        spec.num_values,
        spec.num_chunks,
        chunk,
        spec.limit,
        body_bytes,
    )


def _take_frame(
    reader: _Reader, spec: FrameSpec, magic: bytes, sender_point: int, chunk: int, *, after_body: int
) -> tuple[bytes, bytes]:
    header = reader.take(HEADER_BYTES)
    (body_bytes,) = _BODY_LENGTH.unpack_from(header, HEADER_BYTES - _BODY_LENGTH.size)
    expected = _header(spec, magic, sender_point, chunk, body_bytes)
    if header != expected:
        raise MessageError(f"frame {chunk + 1} of {spec.num_chunks}: {_difference(header, expected)}")
    if not reader.has(body_bytes + after_body):
        raise MessageError(f"frame {chunk + 1} of {spec.num_chunks} announces a body longer than what is left")
    return header, reader.take(body_bytes)


def _difference(header: bytes, expected: bytes) -> str:
    """Names the first field that differs; what is expected is no NaN, so that different bytes read differently."""
    fields = zip(_FIELDS, _HEADER.unpack(header), _HEADER.unpack(expected), strict=True)
    name, found, known = next(field for field in fields if repr(field[1]) != repr(field[2]))
    if name == "magic":
        return "these bytes are no frame of this kind (wrong magic)"
    if name == "version":
        return f"version {found}, this side speaks {known}: install the same Confide release"
    return f"the {name} is {_show(found)}, expected {_show(known)}"


def _show(value: object) -> str:
    return f"{value.hex()[:16]}..." if isinstance(value, bytes) else repr(value)


def _check_point(sender_point: int) -> None:
    if not 1 <= sender_point <= _MAX_POINT:
        raise MessageError(f"a sender's point must lie in 1..{_MAX_POINT}, got {sender_point}")
