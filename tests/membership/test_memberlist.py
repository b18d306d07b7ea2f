import hashlib
import json
import math
import tracemalloc
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.errors import MessageError
from confide.membership.memberlist import Entry, MemberList, check_run
from confide.membership.roster import MAX_MEMBERS

NORTH = Entry(client="north", weight=3.0, key_id="ab", upload_digest="01" * 32)
WEST = Entry(client="wést", weight=0.1, key_id="", upload_digest="02" * 32)
LIST = MemberList(
    run="r",
    round_number=2,
    roster_digest=b"\x03" * 32,
    sealing_digest=b"\x04" * 32,
    num_values=1000,
    limit=0.25,
    reference_weight=3.0,
    entries=(WEST, NORTH),
)
# Written down by hand from the description in MemberList.to_bytes: a change of the form is a change of the protocol.
LIST_BYTES = (
    b'{"entries":[{"client":"north","key_id":"ab","upload_digest":"'
    + b"01" * 32
    + b'","weight":"0x1.8000000000000p+1"}'
    b',{"client":"w\\u00e9st","key_id":"","upload_digest":"' + b"02" * 32 + b'","weight":"0x1.999999999999ap-4"}],'
    b'"limit":"0x1.0000000000000p-2","num_values":1000,"reference_weight":"0x1.8000000000000p+1",'
    b'"roster_digest":"' + b"03" * 32 + b'","round_number":2,"run":"r","sealing_digest":"' + b"04" * 32 + b'",'
    b'"version":1}'
)
MEMBERS_BYTES = b'{"round":2,"run":"r","weights":{"north":"0x1.8000000000000p+1","w\\u00e9st":"0x1.999999999999ap-4"}}'

digests = st.binary(min_size=32, max_size=32)
positives = st.floats(min_value=0, max_value=2.0**64, exclude_min=True)
names = st.text("abcäöü漢 -_.", min_size=1, max_size=9).filter(lambda name: name == name.strip())
entries = st.builds(
    Entry,
    client=names,
    weight=positives,
    key_id=st.sampled_from(["", "00ff"]),
    upload_digest=digests.map(bytes.hex),
)
lists = st.builds(
    MemberList,
    run=st.text("abc-_09", min_size=1, max_size=40),
    round_number=st.integers(1, 2**32 - 1),
    roster_digest=digests,
    sealing_digest=digests,
    num_values=st.integers(1, 2**63 - 1),
    limit=positives,
    reference_weight=positives,
    entries=st.lists(entries, min_size=1, max_size=5, unique_by=lambda entry: entry.client).map(tuple),
)


def test_the_bytes_are_known() -> None:
    assert LIST.to_bytes() == LIST_BYTES
    assert LIST.digest == hashlib.sha256(LIST_BYTES).hexdigest()
    assert LIST.digest == "e1c1e6de4123757c559c99a7a7fa1abd3a576e7e412e3ee6812af132c91d11a7"
    assert LIST.members_digest == hashlib.sha256(MEMBERS_BYTES).hexdigest()


@given(lists)
def test_bytes_give_the_list_back(members: MemberList) -> None:
    again = MemberList.from_bytes(members.to_bytes())
    assert again == members
    assert again.digest == members.digest


def test_entries_are_sorted_whatever_their_order() -> None:
    assert [entry.client for entry in LIST.entries] == ["north", "wést"]
    assert replace(LIST, entries=(NORTH, WEST)) == LIST
    assert list(LIST.weights.items()) == [("north", 3.0), ("wést", 0.1)]


@given(st.lists(positives, min_size=1, max_size=8))
def test_the_total_weight_is_the_exact_sum_rounded_once(weights: list[float]) -> None:
    members = [Entry(client=f"c{i}", weight=w, key_id="", upload_digest="00" * 32) for i, w in enumerate(weights)]
    assert replace(LIST, entries=tuple(members)).total_weight == math.fsum(weights)


def test_a_whole_number_is_a_weight_too() -> None:
    assert replace(LIST, entries=(replace(NORTH, weight=3), WEST)).to_bytes() == LIST_BYTES


def test_the_members_digest_stands_for_run_round_names_and_weights_alone() -> None:
    alike = [
        replace(LIST, roster_digest=bytes(32)),
        replace(LIST, sealing_digest=bytes(32)),
        replace(LIST, num_values=1),
        replace(LIST, limit=1.0),
        replace(LIST, reference_weight=1.0),
        replace(LIST, entries=(replace(NORTH, key_id="cd", upload_digest="ff" * 32), WEST)),
    ]
    different = [
        replace(LIST, run="s"),
        replace(LIST, round_number=3),
        replace(LIST, entries=(NORTH,)),
        replace(LIST, entries=(replace(NORTH, client="nord"), WEST)),
        replace(LIST, entries=(replace(NORTH, weight=4.0), WEST)),
        replace(LIST, entries=(replace(NORTH, weight=0.1), replace(WEST, weight=3.0))),
    ]
    assert all(LIST.members_digest == other.members_digest for other in alike)
    assert not any(LIST.members_digest == other.members_digest for other in different)
    assert len({LIST.digest, *(other.digest for other in alike + different)}) == 13


def test_every_truncation_is_refused() -> None:
    for length in range(len(LIST_BYTES)):
        with pytest.raises(MessageError):
            MemberList.from_bytes(LIST_BYTES[:length])
    for longer in (LIST_BYTES + b" ", LIST_BYTES + b"\n", LIST_BYTES + LIST_BYTES, b" " + LIST_BYTES):
        with pytest.raises(MessageError):
            MemberList.from_bytes(longer)


@pytest.mark.parametrize("flip", [0x01, 0x02, 0x20, 0x80, 0xFF])
def test_every_edited_byte_is_refused_or_another_list(flip: int) -> None:
    """Two lists never share bytes, so an edit can at best give another list: whose signatures are missing."""
    for place in range(len(LIST_BYTES)):
        edited = LIST_BYTES[:place] + bytes([LIST_BYTES[place] ^ flip]) + LIST_BYTES[place + 1 :]
        try:
            members = MemberList.from_bytes(edited)
        except MessageError:
            continue
        assert members != LIST
        assert members.to_bytes() == edited
        assert members.digest != LIST.digest


@given(st.binary(max_size=300))
def test_random_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(MessageError):
        MemberList.from_bytes(data)


def test_only_the_canonical_form_is_read() -> None:
    fields = json.loads(LIST_BYTES)
    dense: dict[str, Any] = {"sort_keys": True, "separators": (",", ":")}
    assert json.dumps(fields, **dense).encode() == LIST_BYTES
    for spelling in (
        json.dumps(fields),
        json.dumps(fields, separators=(",", ":"), sort_keys=True, ensure_ascii=False),
        json.dumps({**fields, "limit": "0x1p-2"}, **dense),
        json.dumps({**fields, "limit": "0.25"}, **dense),
        json.dumps({**fields, "limit": " 0x1.0000000000000p-2"}, **dense),
        json.dumps({**fields, "entries": fields["entries"][::-1]}, **dense),
    ):
        with pytest.raises(MessageError, match=r"canonical|in the form of float"):
            MemberList.from_bytes(spelling.encode())


def test_what_is_out_of_range_is_refused() -> None:
    for change, reason in [
        ({"run": ""}, "run's id"),
        ({"run": "x" * 129}, "run's id"),
        ({"run": "\ud800"}, "run's id"),
        ({"round_number": 0}, "round of a member list"),
        ({"round_number": 2**32}, "round of a member list"),
        ({"roster_digest": bytes(31)}, "must have 32 bytes"),
        ({"sealing_digest": bytes(33)}, "must have 32 bytes"),
        ({"num_values": 0}, "num_values"),
        ({"num_values": 2**63}, "num_values"),
        ({"limit": float("nan")}, "limit of a member list"),
        ({"limit": 0.0}, "limit of a member list"),
        ({"reference_weight": float("inf")}, "reference_weight of a member list"),
        ({"entries": ()}, "1 to 1024 entries, this one has 0"),
        ({"entries": (NORTH, NORTH)}, "a client stands twice"),
        ({"entries": (NORTH,) * (MAX_MEMBERS + 1)}, "this one has 1025"),
    ]:
        with pytest.raises(MessageError, match=reason):
            replace(LIST, **change)  # type: ignore[arg-type]
    for change, reason in [
        ({"client": ""}, "its name"),
        ({"client": "a\n"}, "its name"),
        ({"weight": -1.0}, "a weight"),
        ({"weight": 10**400}, "a weight"),
        ({"key_id": "AB"}, "key_id"),
        ({"key_id": "a" * 65}, "key_id"),
        ({"upload_digest": "00"}, "upload_digest"),
        ({"upload_digest": "0" * 64 + "\n"}, "upload_digest"),
    ]:
        with pytest.raises(MessageError, match=reason):
            replace(NORTH, **change)  # type: ignore[arg-type]


def test_fields_of_the_wrong_type_are_refused() -> None:
    fields: dict[str, Any] = json.loads(LIST_BYTES)
    first = fields["entries"][0]
    cases: list[tuple[dict[str, Any], str]] = [
        ({"version": 2}, "version must be 1"),
        ({"round_number": "2"}, "round_number must be an integer"),
        ({"num_values": True}, "num_values must be an integer"),
        ({"limit": 1}, "limit must be a text"),
        ({"limit": "inf"}, "limit of a member list must lie above 0"),
        ({"limit": "nan"}, "limit of a member list must lie above 0"),
        ({"run": None}, "run must be a text"),
        ({"more": 1}, "exactly the fields"),
        ({"entries": {}}, "must be a list"),
        ({"entries": [{**first, "more": 1}]}, "exactly the fields"),
        ({"entries": [{**first, "weight": 1}]}, "weight must be a text"),
        ({"entries": [first] * (MAX_MEMBERS + 1)}, "at most 1024"),
    ]
    for change, reason in cases:
        with pytest.raises(MessageError, match=reason):
            MemberList.from_bytes(json.dumps({**fields, **change}).encode())


def test_a_list_too_long_to_be_read_is_not_written() -> None:
    many = tuple(
        Entry(client=f"{i:04d}" + "é" * 62, weight=1 / 3, key_id="ab" * 32, upload_digest="00" * 32)
        for i in range(MAX_MEMBERS)
    )
    members = replace(LIST, entries=many)
    assert MemberList.from_bytes(members.to_bytes()) == members  # the largest there can be still fits


def test_reading_hostile_bytes_takes_bounded_memory() -> None:
    tracemalloc.start()
    try:
        for data in (bytes(50_000_000), b'{"entries":[' + b'{"a":"b"},' * 100_000 + b"0]}", b"[" * 1_000_000):
            before = tracemalloc.get_traced_memory()[0]
            tracemalloc.reset_peak()
            with pytest.raises(MessageError):
                MemberList.from_bytes(data)
            assert tracemalloc.get_traced_memory()[1] - before < 64 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("run", ["a\nb", "\0", "é" * 65])
def test_a_run_id_that_could_mislead_is_refused(run: str) -> None:
    with pytest.raises(MessageError, match="a run's id must be 1 to 128 bytes"):
        check_run(run)
