"""One sum is tried for each list, and no second, also after a restart."""

from dataclasses import replace
from pathlib import Path

import pytest

from confide.errors import MessageError, SecretKeyError, StorageError
from confide.membership.ledger import MAX_LISTS
from confide.membership.memberlist import Entry, MemberList
from confide.membership.tried import TriedSums

LIST = MemberList(
    run="tries",
    round_number=3,
    roster_digest=b"r" * 32,
    sealing_digest=b"s" * 32,
    num_values=4,
    limit=1.0,
    reference_weight=1.0,
    entries=(
        Entry(client="east", weight=1.0, key_id="1", upload_digest="11" * 32),
        Entry(client="west", weight=1.0, key_id="2", upload_digest="22" * 32),
    ),
)
FIRST, SECOND = "a1" * 32, "b2" * 32


@pytest.fixture(params=["memory", "file"])
def tried(request: pytest.FixtureRequest, tmp_path: Path) -> TriedSums:
    return TriedSums(tmp_path / "tried.json" if request.param == "file" else None)


def with_key(members: MemberList, key_id: str) -> MemberList:
    entry = replace(members.entries[0], key_id=key_id)
    return replace(members, entries=(entry, *members.entries[1:]))


def test_one_sum_may_be_tried_again_and_another_not(tried: TriedSums) -> None:
    for _ in range(2):
        tried.claim(LIST, FIRST)
    with pytest.raises(MessageError, match="another sum was given for the same list"):
        tried.claim(LIST, SECOND)
    tried.claim(LIST, FIRST)


def test_every_list_of_a_round_has_a_try_of_its_own(tried: TriedSums) -> None:
    tried.claim(LIST, FIRST)
    tried.claim(with_key(LIST, "3"), SECOND)
    with pytest.raises(MessageError, match="another sum"):
        tried.claim(LIST, SECOND)


def test_a_round_that_lies_behind_is_tried_no_more(tried: TriedSums) -> None:
    tried.claim(LIST, FIRST)
    tried.claim(replace(LIST, round_number=4), SECOND)
    with pytest.raises(MessageError, match="a sum of round 3 was opened before"):
        tried.claim(LIST, FIRST)


def test_there_is_an_end_to_the_lists_of_a_round(tried: TriedSums) -> None:
    for number in range(MAX_LISTS):
        tried.claim(with_key(LIST, f"{number:04x}"), FIRST)
    with pytest.raises(MessageError, match="had 64 lists of members"):
        tried.claim(LIST, FIRST)


def test_another_run_starts_anew(tried: TriedSums) -> None:
    tried.claim(LIST, FIRST)
    tried.claim(replace(LIST, run="another", round_number=1), SECOND)


def test_a_restart_does_not_forget(tmp_path: Path) -> None:
    TriedSums(tmp_path / "tried.json").claim(LIST, FIRST)
    after = TriedSums(tmp_path / "tried.json")
    with pytest.raises(MessageError, match="another sum"):
        after.claim(LIST, SECOND)
    after.claim(LIST, FIRST)


@pytest.mark.parametrize("content", [b"", b"{}", b'{"run": "tries", "round_number": 3, "sums": {"x": 1}}', b"\xff"])
def test_a_damaged_memory_opens_nothing(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "tried.json"
    path.write_bytes(content)
    with pytest.raises(SecretKeyError, match="the memory of tried sums"):
        TriedSums(path).claim(LIST, FIRST)
    assert path.read_bytes() == content


def test_a_claim_that_cannot_be_written_does_not_return(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        TriedSums(tmp_path / "missing" / "tried.json").claim(LIST, FIRST)
