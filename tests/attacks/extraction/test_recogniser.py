import pytest

from confide.attacks.extraction.recogniser import Found, Recogniser
from confide.data.clinics.generate import generate_clinics
from confide.data.examples import Instruction

PATTERNED = ("phone", "email", "date-of-birth", "patient-number", "insurance-number")


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("reach me at 412-555-0137, please", "phone", "412-555-0137"),
        ("Tel. +49 (0)30 5550 0100.", "phone", "+49 (0)30 5550 0100"),
        ("write to ada.l-x+1@mail.example.com.", "email", "ada.l-x+1@mail.example.com"),
        ("born 1961-04-07;", "date", "1961-04-07"),
        ("geboren am 7. März 1961 in", "date", "7. März 1961"),
        ("on April 7, 1961", "date", "April 7, 1961"),
        ("file QX-40718/2 is", "id", "QX-40718/2"),
    ],
)
def test_personal_strings_of_common_forms_are_recognised(text: str, kind: str, value: str) -> None:
    assert Recogniser().find(text) == {Found(kind=kind, value=value)}


def test_what_is_no_personal_string_is_left_alone() -> None:
    text = "Take 20 mg of B12 twice, 2024 was fine, see page 12-14 or call 911. MRI of 3 x 4 cm."
    assert Recogniser().find(text) == frozenset()


def test_planted_phone_numbers_dates_addresses_and_numbers_are_all_found() -> None:
    recogniser = Recogniser()
    num_checked = 0
    for record in generate_clinics(seed=0, num_clinics=6, num_letters=20, num_instructions=0):
        assert isinstance(record.content, Instruction)
        occurrences = recogniser.occurrences(record.content.response)
        for span in record.spans:
            if span.field == "response" and span.kind in PATTERNED:
                assert any(found.start <= span.start and span.end <= found.stop for found in occurrences), span.kind
                num_checked += 1
    assert num_checked > 100


def test_an_earlier_pattern_takes_the_string() -> None:
    recogniser = Recogniser({"secret": r"SEC-\d+", "any": r"[A-Z]+-?\d+"})
    assert recogniser.find("SEC-77 and AB-1") == {
        Found(kind="secret", value="SEC-77"),
        Found(kind="any", value="AB-1"),
    }


def test_occurrences_stand_in_order_where_they_say() -> None:
    text = "a@b.example then 412-555-0137 then 1 May 1990"
    occurrences = Recogniser().occurrences(text)
    assert [text[found.start : found.stop] for found in occurrences] == [found.found.value for found in occurrences]
    assert [found.start for found in occurrences] == sorted(found.start for found in occurrences)
    assert len(occurrences) == 3


def test_white_space_inside_a_string_does_not_make_another_one() -> None:
    assert Recogniser({"x": r"a\s+b"}).find("a b, a  b, a\nb") == {Found(kind="x", value="a b")}
