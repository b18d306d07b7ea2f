import hashlib
import random
import struct
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.errors import MessageError
from confide.membership.frames import (
    HEADER_BYTES,
    FrameSpec,
    read_frames,
    sum_from_bytes,
    sum_to_bytes,
    write_frames,
)
from confide.membership.identity import Identity
from confide.membership.roster import Roster

SPEC = FrameSpec(
    sealing_digest=b"\xaa" * 32,
    roster_digest=b"\xbb" * 32,
    run="r",
    round_number=3,
    num_values=10,
    limit=0.25,
    chunk_values=4,
)
BODIES = [b"abcd", b"efgh", b"ij"]
FRAME_BYTES = HEADER_BYTES + 4 + 64

# The first frame of `upload`, signed by north of tests/membership/conftest.py. Ed25519 is deterministic.
KNOWN_FRAME = (
    "4346524d0001aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbbbbbbbbb"
    "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb454349e422f05297191ead13e21d3db520e5abef52055e4964b82fb213f5"
    "93a1000000030001000000000000000a00000003000000003fd000000000000000000004616263640e5ee56b5fff326abe7a"
    "c6cfae58f3c99abc3fbae366d6f66d931789d79140f12fb193261c1543d3a21cd951b8b5a071d8c6e0408d57dcafad5f189b"
    "5c52a700"
)

FIELD_AT = {
    "magic": 0,
    "version": 4,
    "sealing digest": 6,
    "roster digest": 38,
    "run": 70,
    "round": 102,
    "sender": 106,
    "number of values": 108,
    "number of chunks": 116,
    "chunk": 120,
    "limit": 124,
    "length": 132,
}


def check_body(body: bytes, num_values: int) -> None:
    """A scheme of one byte a value."""
    if len(body) != num_values:
        raise MessageError(f"a body of {len(body)} bytes does not hold {num_values} values")


def write(identity: Identity, spec: FrameSpec = SPEC, *, point: int = 1, bodies: list[bytes] = BODIES) -> bytes:
    return b"".join(write_frames(spec, point, bodies, identity.sign))


Reader = Callable[..., list[bytes]]


@pytest.fixture(scope="module")
def upload(identities: dict[str, Identity]) -> bytes:
    return write(identities["north"])


@pytest.fixture(scope="module")
def read(roster: Roster) -> Reader:
    def read_of(data: bytes | memoryview, spec: FrameSpec = SPEC, *, sender: str = "north") -> list[bytes]:
        def verify(statement: bytes, signature: bytes) -> None:
            roster.verify(sender, statement, signature)

        return read_frames(data, spec, roster.point_of(sender), verify, check_body)

    return read_of


def accept(statement: bytes, signature: bytes) -> None:
    """Stands for a member that signs whatever it likes."""


def edits(data: bytes, flips: tuple[int, ...]) -> Iterator[bytes]:
    for place in range(len(data)):
        for flip in flips:
            yield data[:place] + bytes([data[place] ^ flip]) + data[place + 1 :]


def test_frames_give_the_bodies_back(upload: bytes, read: Reader) -> None:
    assert read(upload) == BODIES
    assert read(memoryview(upload)) == BODIES
    assert len(upload) == 2 * FRAME_BYTES + FRAME_BYTES - 2
    assert HEADER_BYTES == 136


@given(
    num_values=st.integers(1, 60),
    chunk_values=st.integers(1, 20),
    round_number=st.integers(1, 2**32 - 1),
    run=st.text("abc-_é", min_size=1, max_size=30),
    limit=st.floats(min_value=0, max_value=2.0**64, exclude_min=True),
    digests=st.tuples(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32)),
    point=st.integers(1, 2**16 - 1),
    content=st.randoms(use_true_random=False),
)
def test_any_round_trip(
    num_values: int,
    chunk_values: int,
    round_number: int,
    run: str,
    limit: float,
    digests: tuple[bytes, bytes],
    point: int,
    content: random.Random,
) -> None:
    spec = FrameSpec(
        sealing_digest=digests[0],
        roster_digest=digests[1],
        run=run,
        round_number=round_number,
        num_values=num_values,
        limit=limit,
        chunk_values=chunk_values,
    )
    bodies = [content.randbytes(spec.values_in(chunk)) for chunk in range(spec.num_chunks)]
    assert sum(map(len, bodies)) == num_values
    frames = list(write_frames(spec, point, bodies, lambda statement: hashlib.sha512(statement).digest()))
    assert len(frames) == spec.num_chunks

    def verify(statement: bytes, signature: bytes) -> None:
        assert signature == hashlib.sha512(statement).digest()

    assert read_frames(b"".join(frames), spec, point, verify, check_body) == bodies
    assert sum_from_bytes(sum_to_bytes(bodies, spec), spec, check_body) == bodies


def test_a_frame_is_what_the_description_says(identities: dict[str, Identity], upload: bytes) -> None:
    header = b"".join(
        [
            b"CFRM",
            (1).to_bytes(2, "big"),
            b"\xaa" * 32,
            b"\xbb" * 32,
            hashlib.sha256(b"r").digest(),
            (3).to_bytes(4, "big"),
            (1).to_bytes(2, "big"),
            (10).to_bytes(8, "big"),
            (3).to_bytes(4, "big"),
            (0).to_bytes(4, "big"),
            bytes.fromhex("3fd0000000000000"),
            (4).to_bytes(4, "big"),
        ]
    )
    fields = [b"confide statement 1", b"frame", header, hashlib.sha256(b"abcd").digest()]
    statement = b"".join(len(field).to_bytes(8, "big") + field for field in fields)
    assert upload[:FRAME_BYTES] == header + b"abcd" + identities["north"].sign(statement)
    assert upload[:FRAME_BYTES].hex() == KNOWN_FRAME


def test_writing_is_one_frame_at_a_time(identities: dict[str, Identity]) -> None:
    taken = []

    def bodies() -> Iterator[bytes]:
        for body in BODIES:
            taken.append(body)
            yield body

    frames = write_frames(SPEC, 1, bodies(), identities["north"].sign)
    next(frames)
    assert taken == BODIES[:1]


@pytest.mark.parametrize("bodies", [[], BODIES[:2], [*BODIES, b""]])
def test_more_or_fewer_bodies_than_chunks_are_not_written(identities: dict[str, Identity], bodies: list[bytes]) -> None:
    with pytest.raises(MessageError, match="3 chunks were expected"):
        write(identities["north"], bodies=bodies)
    with pytest.raises(MessageError, match="3 chunks were expected"):
        sum_to_bytes(bodies, SPEC)


def test_every_truncation_is_refused(upload: bytes, read: Reader) -> None:
    total = sum_to_bytes(BODIES, SPEC)
    for length in range(len(upload)):
        with pytest.raises(MessageError):
            read(upload[:length])
    for length in range(len(total)):
        with pytest.raises(MessageError):
            sum_from_bytes(total[:length], SPEC, check_body)
    for more in (b"\0", upload[:FRAME_BYTES], upload):
        with pytest.raises(MessageError, match="stand behind the last frame"):
            read(upload + more)
        with pytest.raises(MessageError, match="stand behind the last frame"):
            sum_from_bytes(total + more, SPEC, check_body)


def test_every_edited_byte_of_header_body_and_signature_is_refused(upload: bytes, read: Reader) -> None:
    for edited in edits(upload, (0x01, 0x80, 0xFF)):
        with pytest.raises(MessageError):
            read(edited)


def test_every_edited_byte_of_a_header_is_refused_without_a_signature_too(upload: bytes) -> None:
    """What a header says is compared, not only signed: a member that signs a false header gains nothing."""
    total = sum_to_bytes(BODIES, SPEC)
    for edited in edits(upload[:HEADER_BYTES], tuple(1 << bit for bit in range(8))):
        with pytest.raises(MessageError):
            read_frames(edited + upload[HEADER_BYTES:], SPEC, 1, accept, check_body)
    for edited in edits(total[:HEADER_BYTES], tuple(1 << bit for bit in range(8))):
        with pytest.raises(MessageError):
            sum_from_bytes(edited + total[HEADER_BYTES:], SPEC, check_body)


@given(data=st.binary(max_size=700))
def test_random_bytes_are_refused(read: Reader, data: bytes) -> None:
    with pytest.raises(MessageError):
        read(data)
    with pytest.raises(MessageError):
        sum_from_bytes(data, SPEC, check_body)


@given(data=st.data())
def test_frames_cut_and_glued_at_random_are_refused(upload: bytes, read: Reader, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(upload)), min_size=2, max_size=6)))
    pieces = [upload[start:end] for start, end in zip([0, *cuts], [*cuts, len(upload)], strict=True)]
    glued = b"".join(data.draw(st.permutations(pieces)))
    if glued == upload:
        return
    with pytest.raises(MessageError):
        read(glued)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"round_number": 4}, "the round is 3, expected 4"),
        ({"run": "s"}, "the run is 454349e422f05297"),
        ({"roster_digest": b"\xbc" * 32}, r"the roster digest is bbbbbbbbbbbbbbbb\.\.\., expected bcbcbcbcbcbcbcbc"),
        ({"sealing_digest": b"\xab" * 32}, "the sealing digest is aaaaaaaaaaaaaaaa"),
        ({"num_values": 9}, "the number of values is 10, expected 9"),
        ({"limit": 0.5}, "the limit is 0.25, expected 0.5"),
        ({"chunk_values": 5}, "the number of chunks is 3, expected 2"),
        ({"num_values": 13}, "646 bytes are too few|number of values is 10, expected 13|cut off|too few"),
    ],
)
def test_a_replay_of_another_round_run_or_roster_is_refused_by_name(
    upload: bytes, read: Reader, change: dict[str, Any], reason: str
) -> None:
    with pytest.raises(MessageError, match=reason):
        read(upload, replace(SPEC, **change))
    with pytest.raises(MessageError):
        read(upload[: 2 * FRAME_BYTES], replace(SPEC, **change))


def test_a_replay_under_another_sender_is_refused(identities: dict[str, Identity], upload: bytes, read: Reader) -> None:
    with pytest.raises(MessageError, match="frame 1 of 3: the sender is 1, expected 2"):
        read(upload, sender="south")
    # South signs what says it is north's; north's name, south's key.
    with pytest.raises(MessageError, match="the signature is not north's"):
        read(write(identities["south"]))
    with pytest.raises(MessageError, match="the signature is not south's"):
        read(write(identities["north"], point=2), sender="south")


def test_frames_out_of_order_repeated_or_missing_are_refused(upload: bytes, read: Reader) -> None:
    one, two, three = upload[:FRAME_BYTES], upload[FRAME_BYTES : 2 * FRAME_BYTES], upload[2 * FRAME_BYTES :]
    for data, reason in [
        (two + one + three, "frame 1 of 3: the chunk is 1, expected 0"),
        (one + one + three, "frame 2 of 3: the chunk is 0, expected 1"),
        (one + three + two, "frame 2 of 3: the chunk is 2, expected 1"),
        (one + two, "too few for 3 frames"),
        (one + two + two, "frame 3 of 3: the chunk is 1, expected 2"),
    ]:
        with pytest.raises(MessageError, match=reason):
            read(data)


def test_a_sum_is_no_upload_and_an_upload_is_no_sum(upload: bytes, read: Reader) -> None:
    with pytest.raises(MessageError, match="no frame of this kind"):
        sum_from_bytes(upload, SPEC, check_body)
    with pytest.raises(MessageError):
        read(sum_to_bytes(BODIES, SPEC))
    with pytest.raises(MessageError, match="no frame of this kind"):
        read(sum_to_bytes([body + bytes(64) for body in BODIES], SPEC))


def test_another_version_names_itself(upload: bytes, read: Reader) -> None:
    with pytest.raises(MessageError, match="version 2, this side speaks 1: install the same Confide release"):
        read(upload[:4] + b"\0\x02" + upload[6:])


def with_field(data: bytes, field: str, kind: str, value: float) -> bytes:
    edited = bytearray(data)
    struct.pack_into(f">{kind}", edited, FIELD_AT[field], value)
    return bytes(edited)


def test_oversize_counts_are_refused_without_taking_memory(upload: bytes) -> None:
    tracemalloc.start()
    try:
        for field, kind, value in [
            ("length", "I", 2**32 - 1),
            ("length", "I", len(upload)),
            ("length", "I", len(upload) - HEADER_BYTES),
            ("number of chunks", "I", 2**32 - 1),
            ("number of values", "Q", 2**64 - 1),
            ("chunk", "I", 2**32 - 1),
            ("sender", "H", 2**16 - 1),
            ("round", "I", 2**32 - 1),
            ("limit", "d", float("nan")),
            ("limit", "d", float("inf")),
            ("limit", "d", -0.25),
        ]:
            with pytest.raises(MessageError):
                read_frames(with_field(upload, field, kind, value), SPEC, 1, accept, check_body)
        # A spec of very many chunks, against little data: refused before the first frame.
        huge = replace(SPEC, num_values=2**34 - 4)
        with pytest.raises(MessageError, match="too few for 4294967295 frames"):
            read_frames(upload, huge, 1, accept, check_body)
        with pytest.raises(MessageError, match="too few for 4294967295 frames"):
            sum_from_bytes(upload, huge, check_body)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_a_long_body_costs_one_copy_at_most() -> None:
    """Whoever signs frames can fill them; what is read of them never takes more than they took to send."""
    num_bytes = 8_000_000
    spec = replace(SPEC, num_values=num_bytes, chunk_values=num_bytes)
    data = b"".join(write_frames(spec, 1, [bytes(num_bytes)], lambda statement: bytes(64)))
    small = b"".join(write_frames(SPEC, 1, BODIES, lambda statement: bytes(64)))
    too_long = with_field(small, "length", "I", num_bytes)[:HEADER_BYTES] + data[HEADER_BYTES:] + bytes(400)
    tracemalloc.start()
    try:
        read_frames(data, spec, 1, accept, check_body)
        assert tracemalloc.get_traced_memory()[1] < num_bytes + 100_000
        tracemalloc.reset_peak()
        with pytest.raises(MessageError, match="does not hold 4 values"):
            read_frames(too_long, SPEC, 1, accept, check_body)
        assert tracemalloc.get_traced_memory()[1] < num_bytes + 100_000
    finally:
        tracemalloc.stop()


def test_a_body_is_checked_after_its_signature_and_for_its_number_of_values(upload: bytes) -> None:
    seen: list[str] = []

    def verify(statement: bytes, signature: bytes) -> None:
        seen.append("signature")

    def note(body: bytes, num_values: int) -> None:
        seen.append(f"{body.decode()} {num_values}")

    read_frames(upload, SPEC, 1, verify, note)
    assert seen == ["signature", "abcd 4", "signature", "efgh 4", "signature", "ij 2"]


def test_a_body_the_scheme_refuses_is_refused(identities: dict[str, Identity], read: Reader) -> None:
    with pytest.raises(MessageError, match="a body of 3 bytes does not hold 4 values"):
        read(write(identities["north"], bodies=[b"abc", b"efgh", b"ij"]))
    with pytest.raises(MessageError, match="a body of 0 bytes does not hold 2 values"):
        sum_from_bytes(sum_to_bytes([b"abcd", b"efgh", b""], SPEC), SPEC, check_body)


@pytest.mark.parametrize(
    "change",
    [
        {"run": ""},
        {"run": "\ud800"},
        {"sealing_digest": b""},
        {"roster_digest": bytes(31)},
        {"round_number": 0},
        {"round_number": 2**32},
        {"num_values": 0},
        {"num_values": 2**63},
        {"num_values": 2**62},
        {"chunk_values": 0},
        {"chunk_values": -4},
        {"limit": float("nan")},
        {"limit": 0.0},
        {"limit": float("inf")},
    ],
)
def test_a_round_that_cannot_be_framed_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(MessageError):
        replace(SPEC, **change)


@pytest.mark.parametrize("point", [-1, 0, 2**16])
def test_a_point_that_is_none_is_refused(upload: bytes, point: int) -> None:
    with pytest.raises(MessageError, match="a sender's point must lie in"):
        read_frames(upload, SPEC, point, accept, check_body)
    with pytest.raises(MessageError, match="a sender's point must lie in"):
        next(write_frames(SPEC, point, BODIES, lambda statement: bytes(64)))
