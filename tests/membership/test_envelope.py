import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.errors import MessageError
from confide.membership.envelope import MAX_PLAINTEXT_BYTES, OVERHEAD_BYTES, open_envelope, seal_envelope
from confide.membership.identity import Identity
from confide.membership.roster import Roster
from confide.membership.statements import envelope_context, envelope_statement

SECRET = b"a share of a round key"


def context(**changes: object) -> bytes:
    fields: dict[str, object] = {
        "purpose": "round key share",
        "run": "r",
        "round_number": 2,
        "roster_digest": b"\x07" * 32,
        "sender": "north",
        "recipient": "south",
        "key_id": "ab",
    }
    return envelope_context(**{**fields, **changes})  # type: ignore[arg-type]


@given(plaintext=st.binary(max_size=300), place=st.binary(max_size=300))
def test_an_envelope_opens_for_its_recipient(identities: dict[str, Identity], plaintext: bytes, place: bytes) -> None:
    north, south = identities["north"], identities["south"]
    envelope = seal_envelope(north, south.public, plaintext, place)
    assert len(envelope) == OVERHEAD_BYTES + len(plaintext)
    assert open_envelope(south, north.public, envelope, place) == plaintext


def test_the_same_content_never_looks_the_same(identities: dict[str, Identity]) -> None:
    north, south = identities["north"], identities["south"]
    envelopes = [seal_envelope(north, south.public, SECRET, context()) for _ in range(2)]
    assert envelopes[0][64:] != envelopes[1][64:]
    assert all(SECRET not in envelope for envelope in envelopes)


def test_nobody_else_opens_it(identities: dict[str, Identity]) -> None:
    north, south, west = identities.values()
    envelope = seal_envelope(north, south.public, SECRET, context())
    for recipient, sender in [(west, north), (south, west), (north, south), (north, north)]:
        with pytest.raises(MessageError):
            open_envelope(recipient, sender.public, envelope, context())


@pytest.mark.parametrize(
    "change",
    [
        {"purpose": "group key"},
        {"run": "s"},
        {"round_number": 3},
        {"roster_digest": b"\x08" * 32},
        {"sender": "wést"},
        {"recipient": "wést"},
        {"key_id": "ac"},
    ],
)
def test_it_opens_in_its_place_only(identities: dict[str, Identity], change: dict[str, object]) -> None:
    north, south = identities["north"], identities["south"]
    envelope = seal_envelope(north, south.public, SECRET, context())
    with pytest.raises(MessageError, match="the signature is not north's"):
        open_envelope(south, north.public, envelope, context(**change))
    # Who signs it anew for the other place still cannot have it opened there.
    moved = north.sign(envelope_statement(context(**change), envelope[64:])) + envelope[64:]
    with pytest.raises(MessageError, match="does not open for south"):
        open_envelope(south, north.public, moved, context(**change))


def test_it_cannot_be_passed_on_as_ones_own(identities: dict[str, Identity]) -> None:
    north, south, west = identities.values()
    envelope = seal_envelope(north, south.public, SECRET, context())
    stolen = west.sign(envelope_statement(context(sender="wést"), envelope[64:])) + envelope[64:]
    with pytest.raises(MessageError, match="does not open for south"):
        open_envelope(south, west.public, stolen, context(sender="wést"))


def test_every_truncation_and_edited_byte_is_refused(identities: dict[str, Identity]) -> None:
    north, south = identities["north"], identities["south"]
    envelope = seal_envelope(north, south.public, SECRET, context())
    damaged = [envelope[:length] for length in range(len(envelope))]
    damaged += [
        envelope[:place] + bytes([envelope[place] ^ flip]) + envelope[place + 1 :]
        for place in range(len(envelope))
        for flip in (1, 0x80, 0xFF)
    ]
    damaged += [envelope + b"\0", envelope + envelope, envelope[::-1]]
    for data in damaged:
        with pytest.raises(MessageError) as caught:
            open_envelope(south, north.public, data, context())
        assert SECRET.decode() not in str(caught.value)


def test_a_member_that_signs_nonsense_gets_an_error_and_nothing_else(identities: dict[str, Identity]) -> None:
    north, south = identities["north"], identities["south"]
    good = seal_envelope(north, south.public, SECRET, context())[64:]
    nonsense = [good[:length] for length in range(48, len(good))]
    nonsense += [good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :] for place in range(31)]
    nonsense += [bytes(len(good)), b"\xff" * len(good), bytes(32) + good[32:], b"\x01" + bytes(31) + good[32:]]
    for ciphertext in nonsense:
        envelope = north.sign(envelope_statement(context(), ciphertext)) + ciphertext
        with pytest.raises(MessageError, match="does not open for south"):
            open_envelope(south, north.public, envelope, context())


@given(data=st.binary(max_size=300))
def test_random_bytes_are_refused(identities: dict[str, Identity], data: bytes) -> None:
    with pytest.raises(MessageError):
        open_envelope(identities["south"], identities["north"].public, data, context())


def test_size_is_bounded_on_both_sides(identities: dict[str, Identity], roster: Roster) -> None:
    north, south = identities["north"], identities["south"]
    largest = bytes(MAX_PLAINTEXT_BYTES)
    assert open_envelope(south, north.public, seal_envelope(north, south.public, largest, b""), b"") == largest
    with pytest.raises(MessageError, match="an envelope takes at most 1048576 bytes"):
        seal_envelope(north, south.public, largest + b"\0", b"")
    oversize = bytes(50_000_000)
    tracemalloc.start()
    try:
        with pytest.raises(MessageError, match="this has 50000000"):
            open_envelope(south, north.public, oversize, b"")
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()
