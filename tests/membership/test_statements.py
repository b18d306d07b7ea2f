import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.errors import MessageError
from confide.membership import statements

ROUND: dict[str, Any] = {"run": "r", "round_number": 3, "roster_digest": b"\x01" * 32, "sender": "north"}

STATEMENTS: dict[str, tuple[Callable[..., bytes], dict[str, Any]]] = {
    "frame": (statements.frame_statement, {"header": b"h", "body": b"b"}),
    "member list": (statements.member_list_statement, {"member_list": b"{}"}),
    "release": (statements.release_statement, {**ROUND, "member_list_digest": "ab", "share": b"s"}),
    "adapter": (statements.adapter_statement, {**ROUND, "adapter_digest": "cd"}),
    "envelope context": (
        statements.envelope_context,
        {**ROUND, "purpose": "share", "recipient": "south", "key_id": "ef"},
    ),
    "envelope": (statements.envelope_statement, {"context": b"c", "ciphertext": b"x"}),
    "identity": (
        statements.identity_statement,
        {"name": "north", "signing_key": b"\x02" * 32, "envelope_key": b"\x03" * 32},
    ),
    "roster": (statements.roster_statement, {"identities": [b"a", b"b"]}),
}


def changed(value: object) -> object:
    match value:
        case str():
            return value + "x"
        case bytes():
            return value + b"x"
        case int():
            return value + 1
        case list():
            return value[::-1]
    raise AssertionError(value)


def test_no_two_purposes_share_a_statement() -> None:
    made = {function(**fields) for function, fields in STATEMENTS.values()}
    assert len(made) == len(STATEMENTS)


@pytest.mark.parametrize("purpose", STATEMENTS)
def test_every_field_changes_the_statement(purpose: str) -> None:
    function, fields = STATEMENTS[purpose]
    made = {function(**fields)} | {function(**{**fields, name: changed(value)}) for name, value in fields.items()}
    assert len(made) == 1 + len(fields)


@given(st.lists(st.binary(max_size=9), max_size=4), st.lists(st.binary(max_size=9), max_size=4))
def test_different_lists_of_fields_give_different_bytes(left: list[bytes], right: list[bytes]) -> None:
    assert (statements.roster_statement(left) == statements.roster_statement(right)) == (left == right)


def test_a_field_cannot_run_over_into_its_neighbour() -> None:
    one = statements.identity_statement(name="ab", signing_key=b"c", envelope_key=b"")
    other = statements.identity_statement(name="a", signing_key=b"bc", envelope_key=b"")
    assert one != other


def test_a_statement_is_the_domain_the_purpose_and_the_fields_each_behind_its_length() -> None:
    def piece(data: bytes) -> bytes:
        return bytes(7) + bytes([len(data)]) + data

    assert statements.frame_statement(b"head", b"body") == b"".join(
        map(piece, [b"confide statement 1", b"frame", b"head", hashlib.sha256(b"body").digest()])
    )
    assert statements.adapter_statement(**ROUND, adapter_digest="cd") == b"".join(
        map(
            piece,
            [b"confide statement 1", b"adapter", b"r", bytes(7) + b"\x03", b"\x01" * 32, b"north", b"cd"],
        )
    )


@pytest.mark.parametrize("bad", [{"run": "\ud800"}, {"round_number": -1}, {"round_number": 2**64}])
def test_what_cannot_be_written_down_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(MessageError, match="cannot be signed"):
        statements.adapter_statement(**{**ROUND, "adapter_digest": "cd", **bad})
