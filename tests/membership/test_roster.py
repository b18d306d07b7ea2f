import json
import tracemalloc
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from confide.errors import MessageError, RosterError
from confide.membership.identity import Identity
from confide.membership.roster import MAX_MEMBERS, PublicIdentity, Roster

PRIME = 2**255 - 19

# Of the roster of tests/membership/conftest.py; they change if the meaning of a digest or a fingerprint does.
ROSTER_DIGEST = "f5bca5abb833cf8a3f817a0c21901856261c8eed589a9bd3b7154b0027f1bfae"
NORTH_FINGERPRINT = "80887 02748 10975 29829 03299 40336"


def edwards_add(left: tuple[int, int], right: tuple[int, int]) -> tuple[int, int]:
    """The addition law of edwards25519 in affine coordinates, RFC 8032, section 5.1.4 as on paper."""
    d = -121665 * pow(121666, -1, PRIME)
    (x1, y1), (x2, y2) = left, right
    product = d * x1 * x2 * y1 * y2
    x = (x1 * y2 + x2 * y1) * pow(1 + product, -1, PRIME)
    y = (y1 * y2 + x1 * x2) * pow(1 - product, -1, PRIME)
    return x % PRIME, y % PRIME


def x_of(y: int) -> int:
    d = -121665 * pow(121666, -1, PRIME)
    square = (y * y - 1) * pow(d * y * y + 1, -1, PRIME) % PRIME
    root = pow(square, (PRIME + 3) // 8, PRIME)
    if root * root % PRIME != square:
        root = root * pow(2, (PRIME - 1) // 4, PRIME) % PRIME
    assert root * root % PRIME == square
    return root


def small_order_points() -> set[tuple[int, int]]:
    """All eight, as the multiples of one of order 8, found by multiplying points with the group's odd order."""
    order = 2**252 + 27742317777372353535851937790883648493
    for y in range(2, 100):
        try:
            point = (x_of(y), y)
        except AssertionError:
            continue
        multiple, power, rest = (0, 1), point, order
        while rest:
            if rest & 1:
                multiple = edwards_add(multiple, power)
            power, rest = edwards_add(power, power), rest >> 1
        found = {(0, 1)}
        step = multiple
        while step not in found:
            found.add(step)
            step = edwards_add(step, multiple)
        if len(found) == 8:
            return found
    raise AssertionError("no point of order 8 found")


def with_signing_key(key: int) -> PublicIdentity:
    return PublicIdentity("north", key.to_bytes(32, "little"), b"\x09" + bytes(31))


def test_every_signing_key_of_small_order_is_refused() -> None:
    points = small_order_points()
    assert len(points) == 8
    for x, y in points:
        with pytest.raises(RosterError, match="signing key of north"):
            with_signing_key(y | (x & 1) << 255)
    assert with_signing_key(3).signing_key[0] == 3


def test_a_key_has_one_spelling() -> None:
    for key in (PRIME, PRIME + 3, 2**255 - 1):
        with pytest.raises(RosterError, match="signing key of north"):
            with_signing_key(key)
        with pytest.raises(RosterError, match="envelope key of north"):
            PublicIdentity("north", b"\x03" + bytes(31), key.to_bytes(32, "little"))
    with pytest.raises(RosterError, match="envelope key of north"):
        PublicIdentity("north", b"\x03" + bytes(31), (9 | 1 << 255).to_bytes(32, "little"))


# RFC 7748 curves have five points of small order below the prime: 0, 1, p - 1 and two of order 8.
@pytest.mark.parametrize(
    "key",
    [
        0,
        1,
        PRIME - 1,
        325606250916557431795983626356110631294008115727848805560023387167927233504,
        39382357235489614581723060781553021112529911719440698176882885853963445705823,
    ],
)
def test_every_envelope_key_of_small_order_is_refused(key: int) -> None:
    with pytest.raises(RosterError, match="envelope key of north"):
        PublicIdentity("north", b"\x03" + bytes(31), key.to_bytes(32, "little"))
    with pytest.raises(ValueError, match="Error computing shared key"):  # the library finds that it agrees on zero
        X25519PrivateKey.generate().exchange(X25519PublicKey.from_public_bytes(key.to_bytes(32, "little")))


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_key_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(RosterError, match="signing key"):
        PublicIdentity("north", bytes([3]) * length, b"\x09" + bytes(31))
    with pytest.raises(RosterError, match="envelope key"):
        PublicIdentity("north", b"\x03" + bytes(31), bytes([3]) * length)


@pytest.mark.parametrize("name", ["", " a", "a ", "a\nb", "\u200b", "x" * 129, "é" * 65, "e\u0301", "\ud800", "\u202e"])
def test_a_name_that_could_mislead_is_refused(name: str) -> None:
    with pytest.raises(RosterError, match="the member name"):
        PublicIdentity(name, b"\x03" + bytes(31), b"\x09" + bytes(31))


def test_members_are_sorted_by_name_and_numbered_from_1(identities: dict[str, Identity], roster: Roster) -> None:
    assert roster.names == ("north", "south", "wést")
    assert [roster.point_of(name) for name in roster.names] == [1, 2, 3]
    assert roster.member("south") == identities["south"].public
    backwards = Roster(reversed(roster.members))
    assert backwards == roster
    assert backwards.digest == roster.digest
    with pytest.raises(RosterError, match="'west' is not in the roster; its members are north, south, wést"):
        roster.point_of("west")


def test_digest_and_fingerprints_are_known(roster: Roster) -> None:
    assert roster.digest.hex() == ROSTER_DIGEST
    assert roster.member("north").fingerprint == NORTH_FINGERPRINT
    assert roster.fingerprint.replace(" ", "") == f"{int(ROSTER_DIGEST, 16) % 10**60:060d}"


def test_every_change_of_a_member_changes_the_digest(roster: Roster) -> None:
    north, south, west = roster.members
    others = [
        Roster([north, south]),
        Roster([north, PublicIdentity("sud", south.signing_key, south.envelope_key), west]),
        Roster([north, PublicIdentity("south", b"\x03" + bytes(31), south.envelope_key), west]),
        Roster([north, PublicIdentity("south", south.signing_key, b"\x09" + bytes(31)), west]),
    ]
    assert len({roster.digest, *(other.digest for other in others)}) == 5


def test_names_and_keys_are_unique(roster: Roster) -> None:
    north, south, _ = roster.members
    for twin, what in [
        (PublicIdentity("north", b"\x03" + bytes(31), b"\x09" + bytes(31)), "name: north, north"),
        (PublicIdentity("other", north.signing_key, b"\x09" + bytes(31)), "signing key: north, other"),
        (PublicIdentity("other", b"\x03" + bytes(31), north.envelope_key), "envelope key: north, other"),
    ]:
        with pytest.raises(RosterError, match=f"the same {what}"):
            Roster([north, south, twin])


def test_a_roster_has_members_and_not_too_many(roster: Roster) -> None:
    with pytest.raises(RosterError, match="1 to 1024 members, this one has 0"):
        Roster([])
    with pytest.raises(RosterError, match="this one has 1025"):
        Roster([roster.members[0]] * (MAX_MEMBERS + 1))


def test_a_signature_is_its_members_over_its_statement_only(identities: dict[str, Identity], roster: Roster) -> None:
    signature = identities["north"].sign(b"statement")
    roster.verify("north", b"statement", signature)
    for name, statement in [("south", b"statement"), ("north", b"other"), ("nobody", b"statement")]:
        with pytest.raises(MessageError, match="the signature is"):
            roster.verify(name, statement, signature)
    for position in range(64):
        edited = bytearray(signature)
        edited[position] ^= 1
        with pytest.raises(MessageError, match="the signature is not north's"):
            roster.verify("north", b"statement", bytes(edited))
    for length in (*range(64), 65, 1000):
        with pytest.raises(MessageError, match="the signature is not north's"):
            roster.verify("north", b"statement", (signature * 16)[:length])


def test_a_key_that_is_no_point_verifies_nothing() -> None:
    roster = Roster([with_signing_key(2)])  # y = 2 is on no point of the curve
    with pytest.raises(MessageError, match="the signature is not north's"):
        roster.verify("north", b"statement", bytes(64))


def test_json_gives_the_roster_back(roster: Roster, tmp_path: Path) -> None:
    assert Roster.from_json(roster.to_json()) == roster
    roster.save(tmp_path / "roster.json")
    assert Roster.load(tmp_path / "roster.json").digest == roster.digest
    for member in roster.members:
        assert PublicIdentity.from_json(member.to_json()) == member


def test_every_truncation_of_the_json_is_refused(roster: Roster) -> None:
    for text in (roster.to_json(), roster.members[0].to_json()):
        data = text.encode()
        for length in range(len(data) - 1):  # without its last line end it is whole
            with pytest.raises(RosterError):
                Roster.from_json(data[:length])
            with pytest.raises(RosterError):
                PublicIdentity.from_json(data[:length])


@pytest.mark.parametrize("flip", [0x01, 0x20, 0x80])
def test_every_edited_byte_is_refused_or_means_the_same(roster: Roster, flip: int) -> None:
    data = roster.to_json().encode()
    num_harmless = 0
    for position in range(len(data)):
        edited = bytearray(data)
        edited[position] ^= flip
        try:
            assert Roster.from_json(bytes(edited)).digest == roster.digest
            num_harmless += 1
        except RosterError:
            pass
    assert num_harmless <= data.count(b" ") + data.count(b"\n")


@given(st.binary(max_size=200))
def test_random_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(RosterError):
        Roster.from_json(data)
    with pytest.raises(RosterError):
        PublicIdentity.from_json(data)


def test_a_json_of_other_content_names_what_is_wrong(roster: Roster) -> None:
    fields = json.loads(roster.to_json())
    first = fields["members"][0]
    cases: list[tuple[dict[str, object], str]] = [
        ({"version": 2}, "version must be 1"),
        ({"format": "x"}, "format must be 'confide roster'"),
        ({"digest": "00"}, "digest must be"),
        ({"more": 1}, "exactly the fields"),
        ({"members": {}}, "members must be a list"),
        ({"members": [1]}, "must be an object"),
        ({"members": [{}]}, "exactly the fields"),
        ({"members": []}, "1 to 1024 members"),
        ({"members": [first, first]}, "the same name"),
        ({"members": [{**first, "signing_key": "00" * 32}]}, "signing key of north"),
        ({"members": [{**first, "signing_key": first["signing_key"].upper()}]}, "lower-case hexadecimal"),
        ({"members": [first] * (MAX_MEMBERS + 1)}, "at most 1024"),
    ]
    for change, reason in cases:
        with pytest.raises(RosterError, match=reason):
            Roster.from_json(json.dumps({**fields, **change}))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RosterError, match=r"roster\.json cannot be read: No such file"):
        Roster.load(tmp_path / "roster.json")
    (tmp_path / "roster.json").write_bytes(b" " * 5_000_000)
    with pytest.raises(RosterError, match=r"roster\.json has 1048577 bytes, at most"):
        Roster.load(tmp_path / "roster.json")


def test_reading_a_hostile_roster_takes_bounded_memory() -> None:
    tracemalloc.start()
    try:
        with pytest.raises(RosterError):
            Roster.from_json(b'{"members":[' + b"{}," * 349_000 + b"0]}")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 64 * 2**20
