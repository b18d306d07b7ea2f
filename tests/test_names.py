import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from confide.names import MAX_NAME_BYTES, file_name, name_problem

names = st.text(st.characters(blacklist_categories=["Cs"]), max_size=140)


@pytest.mark.parametrize(
    "name", ["a", "Clinic No. 3, St. Mary's", "東京大学医学部附属病院", "é", "x" * 128, "é" * 64, "../etc"]
)
def test_printable_text_of_up_to_128_bytes_is_a_name(name: str) -> None:
    assert name_problem(name) is None


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("", "is not printable text"),
        (" a", "without space at either end"),
        ("a\u3000", "without space at either end"),
        ("a\nb", "is not printable text"),
        ("a\x00", "is not printable text"),
        ("\u202eabc", "is not printable text"),  # turns the direction of writing: it would show as another name
        ("\udc80", "is not printable text"),  # half a character, as an undecodable file name has it
        ("x" * 129, "is longer than 128 bytes"),
        ("é" * 65, "is longer than 128 bytes"),
        ("e\u0301", "normal form C"),
    ],
)
def test_what_cannot_be_a_name_is_told(name: str, problem: str) -> None:
    assert problem in str(name_problem(name))


@given(name=names)
def test_a_clients_name_is_what_a_roster_takes(name: str) -> None:
    roster = pytest.importorskip("confide.membership.roster")
    assert roster.MAX_NAME_BYTES == MAX_NAME_BYTES
    assert (name_problem(name) is None) == (roster.name_problem(name) is None)


@given(name=names)
@example(name="")
@example(name="..")
@example(name="a" * 65)
@example(name="東" * 42)
@example(name="/")
def test_a_file_name_is_short_ascii_and_no_path(name: str) -> None:
    found = file_name(name)
    assert 1 <= len(found) <= 64
    assert found.isascii()
    assert set(found) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_~")


@given(first=names, second=names)
@example(first="South", second="south")
@example(first="a/b", second="a-b")
@example(first="é", second=unicodedata.normalize("NFD", "é"))
@example(first="South", second=file_name("South"))
def test_two_names_have_two_file_names_also_without_regard_to_capitals(first: str, second: str) -> None:
    assert (file_name(first).lower() == file_name(second).lower()) == (first == second)


def test_a_plain_name_stands_for_itself_and_another_can_still_be_read() -> None:
    assert file_name("alone-south") == "alone-south"
    assert file_name("St. Mary's Hospital").startswith("St-Mary-s-Hospital~")
