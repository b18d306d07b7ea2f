import tracemalloc
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.errors import MessageError, RosterError
from confide.membership.documents import MAX_DOCUMENT_BYTES, Document, positive_number

HOSTILE = [
    b"[" * MAX_DOCUMENT_BYTES,
    b'{"a":' * (MAX_DOCUMENT_BYTES // 5),
    b'{"a":[' + b"{}," * ((MAX_DOCUMENT_BYTES - 16) // 3) + b"0]}",
    b'{"a":[' + b'"ab",' * ((MAX_DOCUMENT_BYTES - 16) // 5) + b"0]}",
    b'{"a":"' + b"\\u20ac" * ((MAX_DOCUMENT_BYTES - 16) // 6) + b'"}',
    b'{"a":' + b"9" * (MAX_DOCUMENT_BYTES - 16) + b"}",
]
MEMORY_BOUND_BYTES = 64 * MAX_DOCUMENT_BYTES


def parse(data: str | bytes) -> Document:
    return Document.parse(data, what="the paper", error=MessageError)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"1",
        b"\xff",
        b"{",
        b'{"a":1,"a":2}',
        b'{"b":{"a":1,"a":1}}',
        b'{"a":1.0}',
        b'{"a":1e3}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":' + b"1" * 21 + b"}",
        b'{"a":1}x',
        b"\xff\xfe{\0}\0",
    ],
)
def test_what_is_no_object_of_texts_and_integers_is_refused(data: bytes) -> None:
    with pytest.raises(MessageError, match="the paper is not the JSON object that was expected"):
        parse(data)


@given(st.binary(max_size=100) | st.text(max_size=100))
def test_random_input_is_refused_with_the_asked_error(data: bytes | str) -> None:
    try:
        Document.parse(data, what="the paper", error=RosterError)
    except RosterError:
        return


def test_a_document_too_long_is_refused_before_it_is_parsed() -> None:
    padding = b" " * (MAX_DOCUMENT_BYTES - 2)
    assert parse(b"{}" + padding).fields == {}
    with pytest.raises(MessageError, match=f"the paper has {MAX_DOCUMENT_BYTES + 1} bytes, at most"):
        parse(b"{} " + padding)


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_memory_stays_below_a_bound_whatever_the_bytes_are(number: int) -> None:
    data = HOSTILE[number]
    tracemalloc.start()
    try:
        with suppress(MessageError):
            parse(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < MEMORY_BOUND_BYTES


def test_a_refusal_does_not_carry_the_text_along() -> None:
    with pytest.raises(MessageError) as caught:
        parse(b'{"key": secret}')
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_fields_must_be_exactly_those_expected() -> None:
    assert parse('{"a":1,"b":2}').expect("b", "a").integer("b") == 2
    for data in ("{}", '{"a":1}', '{"a":1,"b":2,"c":3}'):
        with pytest.raises(MessageError, match="exactly the fields a, b"):
            parse(data).expect("a", "b")


def test_a_field_of_the_wrong_type_names_itself() -> None:
    document = parse('{"i":1,"s":"x","t":true,"n":null,"l":[1],"o":{},"u":"\\ud800"}')
    cases: list[tuple[Callable[[], object], str]] = [
        (lambda: document.integer("s"), "s must be an integer"),
        (lambda: document.integer("t"), "t must be an integer"),
        (lambda: document.text("i"), "i must be a text"),
        (lambda: document.text("u"), "u must be a text"),
        (lambda: document.number("s"), "s must be a number"),
        (lambda: document.number("i"), "i must be a text"),
        (lambda: document.octets("s"), "s must be lower-case hexadecimal"),
        (lambda: document.object("l"), "l must be an object"),
        (lambda: document.objects("o", at_most=1), "o must be a list of at most 1"),
        (lambda: document.objects("l", at_most=0), "l must be a list of at most 0"),
        (lambda: document.objects("l", at_most=1), "l must be an object"),
        (lambda: document.constant("i", 2), "i must be 2"),
        (lambda: document.constant("t", 1), "t must be 1"),
    ]
    for read, reason in cases:
        with pytest.raises(MessageError, match=reason):
            read()


@given(st.floats(allow_nan=False))
def test_floats_come_back_from_their_text(value: float) -> None:
    assert parse(f'{{"x":"{value.hex()}"}}').number("x") == value


def test_a_float_out_of_range_is_refused() -> None:
    with pytest.raises(MessageError, match="x must be a number in the form of float"):
        parse('{"x":"0x1p99999"}').number("x")


@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf"), 2.0**65, 10**400])
def test_a_number_that_could_spoil_a_sum_is_refused(value: float) -> None:
    with pytest.raises(MessageError, match="w must lie above 0"):
        positive_number(value, "w", MessageError)
    assert positive_number(5, "w", MessageError).hex() == "0x1.4000000000000p+2"
