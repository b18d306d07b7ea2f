import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.errors import MessageError
from confide.messages import (
    CatchUpRequest,
    JoinReply,
    JoinRequest,
    Message,
    OpenReply,
    OpenRequest,
    ReleaseReply,
    ReleaseRequest,
    SignReply,
    SignRequest,
    StateReply,
    StateRequest,
    TrainReply,
    TrainRequest,
    decode,
    from_hex,
    pack_parts,
    unpack_parts,
)

MESSAGES: list[Message] = [
    JoinRequest(run="r", round_number=0),
    JoinReply(run="r", round_number=2, client="north", num_examples=5, adapter_digest="ab", signature="00"),
    TrainReply(
        run="r",
        round_number=3,
        client="nörd",
        weight=5.0,
        layout_digest="cd",
        key_id="0a",
        limit=0.25,
        metrics={"loss": 1.5},
        body=bytes(range(256)),
    ),
    TrainRequest(
        run="r",
        round_number=3,
        cohort=["a", "b"],
        adapter_digest="ef",
        reference_weight=2.5,
        widening=1,
        signatures={"a": "00"},
    ),
    SignRequest(run="r", round_number=3, body=b"list"),
    SignReply(run="r", round_number=3, client="a", signature="00"),
    ReleaseRequest(run="r", round_number=3, signatures={"a": "00"}, body=b"list"),
    ReleaseReply(run="r", round_number=3, client="a", body=b"share"),
    OpenRequest(run="r", round_number=3, body=b"sum"),
    OpenReply(run="r", round_number=3, client="a", adapter_digest="ef", signature="00", metrics={}),
    StateRequest(run="r", round_number=3, recipients=["a"]),
    StateReply(run="r", round_number=3, client="a", adapter_digest="ef", body=b"state"),
    CatchUpRequest(
        run="r", round_number=3, adapter_digest="ef", source="a", signatures={"a": "00"}, counted=True, body=b""
    ),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_decoding_gives_the_message_back(message: Message) -> None:
    assert decode(message.to_bytes()) == message


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_every_truncation_is_refused(message: Message) -> None:
    data = message.to_bytes()
    for length in range(len(data)):
        with pytest.raises(MessageError):
            decode(data[:length])
    with pytest.raises(MessageError, match="announces"):
        decode(data + b"x")


@given(st.binary(max_size=200))
def test_random_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(MessageError):
        decode(data)


@given(st.data())
def test_an_edited_header_is_refused_or_read_as_a_message(data: st.DataObject) -> None:
    original = bytearray(MESSAGES[2].to_bytes())
    position = data.draw(st.integers(0, len(original) - 257))
    original[position] ^= data.draw(st.integers(1, 255))
    try:
        message = decode(bytes(original))
    except MessageError:
        return
    assert isinstance(message, Message)


def test_a_header_of_the_wrong_fields_or_types_is_refused() -> None:
    def with_header(header: bytes) -> bytes:
        return struct.pack(">4sHHIQ", b"CNFD", 2, JoinRequest.kind, len(header), 0) + header

    assert decode(with_header(b'{"round_number":1,"run":"r"}')) == JoinRequest(run="r", round_number=1)
    for header, reason in [
        (b"{}", "exactly the fields"),
        (b'{"round_number":1,"run":"r","more":1}', "exactly the fields"),
        (b"[1]", "exactly the fields"),
        (b'{"round_number":"1","run":"r"}', "JoinRequest.round_number must be"),
        (b'{"round_number":true,"run":"r"}', "JoinRequest.round_number must be"),
        (b'{"round_number":1,"run":null}', "JoinRequest.run must be"),
        (b"\xff", "is no JSON"),
        (b'{"round_number":NaN,"run":"r"}', "is no JSON"),
        (b'{"round_number":1' + b"0" * 400 + b',"run":"r"}', "JoinRequest.round_number must be"),
        (b"[" * 100_000, "is no JSON"),
    ]:
        with pytest.raises(MessageError, match=reason):
            decode(with_header(header))


def test_another_version_or_kind_names_itself() -> None:
    data = bytearray(MESSAGES[0].to_bytes())
    data[5] = 9
    with pytest.raises(MessageError, match="message version 9, this side speaks 2"):
        decode(bytes(data))
    with pytest.raises(MessageError, match="expected a JoinReply, got a JoinRequest"):
        JoinReply.from_bytes(MESSAGES[0].to_bytes())


def test_a_metric_that_json_cannot_hold_is_an_error_not_a_nan() -> None:
    with pytest.raises(MessageError, match="loss"):
        TrainReply(
            run="r",
            round_number=1,
            client="c",
            weight=1.0,
            layout_digest="",
            key_id="",
            limit=1.0,
            metrics={"loss": float("nan")},
        ).to_bytes()


@pytest.mark.parametrize("weight", [b"1e999", b"-1e999", b"1" + b"0" * 400, b"true"])
def test_a_number_beyond_all_bounds_is_refused(weight: bytes) -> None:
    data = MESSAGES[2].to_bytes()
    longer = data.replace(b'"weight":5.0', b'"weight":' + weight)
    head = bytearray(longer[:20])
    head[8:12] = struct.pack(">I", struct.unpack_from(">I", data, 8)[0] + len(longer) - len(data))
    with pytest.raises(MessageError, match=r"TrainReply\.weight must be"):
        decode(bytes(head) + longer[20:])


@given(st.dictionaries(st.text(max_size=20).filter(lambda t: t.encode("utf-8", "ignore").decode() == t), st.binary()))
def test_parts_come_back(parts: dict[str, bytes]) -> None:
    assert unpack_parts(pack_parts(parts)) == parts


def test_parts_that_are_cut_off_or_doubled_are_refused() -> None:
    body = pack_parts({"a": b"123", "b": b""})
    for length in set(range(len(body))) - {0, len(pack_parts({"a": b"123"}))}:
        with pytest.raises(MessageError):
            unpack_parts(body[:length])
    with pytest.raises(MessageError, match="names a part twice"):
        unpack_parts(body + body)
    with pytest.raises(MessageError, match="is no text"):
        unpack_parts(body.replace(b"b", b"\xff"))
    with pytest.raises(MessageError, match="more than 4096 parts"):
        unpack_parts(b"".join(pack_parts({str(index): b""}) for index in range(5000)))


def test_what_is_no_hexadecimal_is_refused() -> None:
    assert from_hex("00ff") == b"\x00\xff"
    with pytest.raises(MessageError, match="in hexadecimal"):
        from_hex("xy")


def test_a_repr_shows_no_body() -> None:
    assert "x00" not in repr(MESSAGES[2])
