"""Keys that clients have in common: bound to the list, the same for all who have the parts, closed to all others."""

import hmac
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest

from confide.errors import MessageError
from confide.membership.groupkey import (
    KEY_BYTES,
    combine_key_parts,
    decrypt_for_group,
    encrypt_for_group,
    new_key_part,
)
from confide.membership.memberlist import Entry, MemberList
from confide.membership.release import share_context

PARTS = {name: bytes([number]) * KEY_BYTES for number, name in enumerate(("east", "north", "west"))}
CONTEXT = b"this list"
KEY = combine_key_parts(PARTS, CONTEXT)
SHARE = b"a share of the summed key"


def members(**changes: Any) -> MemberList:
    listed = MemberList(
        run="group",
        round_number=1,
        roster_digest=bytes(32),
        sealing_digest=bytes(32),
        num_values=3,
        limit=1.0,
        reference_weight=2.0,
        entries=tuple(Entry(client=name, weight=2.0, key_id="ab", upload_digest="cd" * 32) for name in PARTS),
    )
    return replace(listed, **changes)


def test_a_key_part_is_fresh_every_time() -> None:
    parts = {new_key_part() for _ in range(100)}
    assert len(parts) == 100
    assert {len(part) for part in parts} == {KEY_BYTES}


def test_the_key_is_hkdf_of_the_parts_in_the_order_of_names_with_the_context_as_info() -> None:
    """RFC 5869 with SHA-256 by hand: no salt is a salt of zeros, and 32 bytes are one block."""
    extracted = hmac.digest(bytes(32), b"".join(PARTS[name] for name in sorted(PARTS)), sha256)
    assert hmac.digest(extracted, CONTEXT + b"\x01", sha256) == KEY
    assert combine_key_parts(dict(reversed(PARTS.items())), CONTEXT) == KEY


@pytest.mark.parametrize("name", PARTS)
def test_another_part_or_one_less_gives_another_key(name: str) -> None:
    other = bytes([PARTS[name][0] ^ 0x80]) + PARTS[name][1:]
    assert combine_key_parts(PARTS | {name: other}, CONTEXT) != KEY
    assert combine_key_parts({one: part for one, part in PARTS.items() if one != name}, CONTEXT) != KEY


@pytest.mark.parametrize(
    "change",
    [
        {"round_number": 2},
        {"run": "other"},
        {"num_values": 4},
        {"limit": 2.0},
        {"reference_weight": 4.0},
        {"entries": members().entries[:2]},
        {"entries": (*members().entries[:2], replace(members().entries[2], upload_digest="00" * 32))},
    ],
)
def test_every_list_has_a_key_of_its_own_also_where_the_parts_are_the_same(change: dict[str, object]) -> None:
    keys = [combine_key_parts(PARTS, one.digest.encode()) for one in (members(), members(**change))]
    assert keys[0] != keys[1]
    sealed = encrypt_for_group(keys[0], SHARE, CONTEXT)
    with pytest.raises(MessageError, match="do not open: changed, or for another round or key"):
        decrypt_for_group(keys[1], sealed, CONTEXT)


@pytest.mark.parametrize("parts", [{}, {"east": b""}, {"east": bytes(31)}, PARTS | {"zoe": bytes(33)}])
def test_parts_of_another_length_or_none_give_no_key(parts: dict[str, bytes]) -> None:
    with pytest.raises(MessageError, match="expected parts of a group key of 32 bytes, and at least one"):
        combine_key_parts(parts, CONTEXT)


@pytest.mark.parametrize("plaintext", [b"", SHARE, bytes(10_000)])
def test_what_is_encrypted_opens_under_its_key_and_context(plaintext: bytes) -> None:
    sealed = encrypt_for_group(KEY, plaintext, CONTEXT)
    assert len(sealed) == len(plaintext) + 28
    assert decrypt_for_group(KEY, sealed, CONTEXT) == plaintext
    assert encrypt_for_group(KEY, plaintext, CONTEXT) != sealed  # another nonce


def test_no_bit_of_it_can_be_changed() -> None:
    sealed = encrypt_for_group(KEY, SHARE, CONTEXT)
    for bit in range(8 * len(sealed)):
        edited = bytearray(sealed)
        edited[bit // 8] ^= 1 << bit % 8
        with pytest.raises(MessageError, match="do not open"):
            decrypt_for_group(KEY, bytes(edited), CONTEXT)


@pytest.mark.parametrize("context", [b"", CONTEXT[:-1], CONTEXT + b"\0", b"that list"])
def test_it_opens_in_no_other_context(context: bytes) -> None:
    with pytest.raises(MessageError, match="do not open"):
        decrypt_for_group(KEY, encrypt_for_group(KEY, SHARE, CONTEXT), context)


@pytest.mark.parametrize("length", [0, 11, 12, 27])
def test_what_is_cut_off_is_refused(length: int) -> None:
    sealed = encrypt_for_group(KEY, SHARE, CONTEXT)
    with pytest.raises(MessageError, match=r"are cut off|do not open"):
        decrypt_for_group(KEY, sealed[:length], CONTEXT)
    with pytest.raises(MessageError, match="or their key is"):
        decrypt_for_group(KEY[:-1], sealed, CONTEXT)


def test_a_released_share_is_bound_to_its_list_and_to_who_released_it() -> None:
    sealed = encrypt_for_group(KEY, SHARE, share_context(members(), "east"))
    assert decrypt_for_group(KEY, sealed, share_context(members(), "east")) == SHARE
    for context in (share_context(members(), "west"), share_context(members(round_number=2), "east")):
        with pytest.raises(MessageError, match="do not open"):
            decrypt_for_group(KEY, sealed, context)
