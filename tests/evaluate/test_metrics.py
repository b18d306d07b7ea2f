import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.data.examples import Chat, ChatMessage, Instruction, Record, Text
from confide.errors import DataError
from confide.evaluate.metrics import (
    best_choice,
    choice_candidates,
    correct_choice,
    is_exact_match,
    perplexity,
    response_text,
)


def test_perplexity_of_a_uniform_guess_is_the_number_of_tokens() -> None:
    assert perplexity(math.log(32000)) == pytest.approx(32000, rel=1e-13)


def test_perplexity_that_overflows_is_infinite() -> None:
    assert perplexity(1e6) == math.inf


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        ("18", "She makes 9 * 2 = $18 every day."),
        ("18", "9 * 2 = <<9*2=18>>18\n#### 18"),
        ("It takes 2.\n#### 1,200", "#### 1200.0"),
        ("$3.50", "So it costs 3.5 dollars."),
        ("-4", "the result is -4"),
        ("5", "that leaves 9-4 = 4-5"),
        ("60%", "60 %"),
        ("Yes", "yes."),
        ("The Heart", "heart"),
        ("Crohn's disease", "crohns  disease"),
        ("A.", "a"),
    ],
)
def test_exact_match_accepts(reference: str, answer: str) -> None:
    assert is_exact_match(reference, answer)


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        ("18", "18 eggs for 9 dollars"),
        ("18", "#### 17 (not 18)\n#### 19"),
        ("18", "eighteen"),
        ("18", ""),
        ("4", "-4"),
        ("yes", "yes and no"),
        ("A", "the"),
        ("2 mg", "3 mg"),
    ],
)
def test_exact_match_refuses(reference: str, answer: str) -> None:
    assert not is_exact_match(reference, answer)


@given(st.integers(-(10**12), 10**12))
def test_exact_match_finds_any_integer_with_or_without_commas(number: int) -> None:
    assert is_exact_match(str(number), f"In all that is {number:,}.")


def _choice_record(response: str, choices: Sequence[str], answer: str | None = None) -> Record:
    content = Instruction(instruction="Which one?", response=response)
    return Record(record_id="row-7", content=content, choices=tuple(choices), answer=answer)


@pytest.mark.parametrize(
    ("answer", "index"),
    [("adenomyosis", 1), (" Fibroid  uterus ", 0), ("B", 1), ("(b)", 1), ("A.", 0), (None, 1)],
)
def test_correct_choice_is_named_by_text_or_letter(answer: str | None, index: int) -> None:
    record = _choice_record("B", ["Fibroid uterus", "Adenomyosis"], answer)
    assert correct_choice(record) == index


def test_choices_that_are_letters_are_named_by_their_text() -> None:
    assert correct_choice(_choice_record("A", ["B", "A"], "A")) == 1


def test_right_choice_is_unknown_where_a_response_names_none_and_no_answer_is_given() -> None:
    assert correct_choice(_choice_record("Neither of them.", ["yes", "no"])) is None


def test_answer_that_is_no_choice_is_refused_without_quoting_it() -> None:
    with pytest.raises(
        DataError, match=r"record row-7: its answer is none of its 2 choices.*data\.answer_column"
    ) as info:
        correct_choice(_choice_record("yes", ["yes", "no"], "secret"))
    assert "secret" not in str(info.value)


def test_choices_are_scored_in_the_form_the_response_has() -> None:
    choices = ["Fibroid uterus", "Adenomyosis", "None"]
    assert choice_candidates(_choice_record("B", choices)) == ("A", "B", "C")
    assert choice_candidates(_choice_record("Adenomyosis", choices, "B")) == tuple(choices)
    blood = ["A", "B", "AB", "O"]
    assert choice_candidates(_choice_record("B", blood)) == tuple(blood)
    assert choice_candidates(_choice_record("C", blood)) == ("A", "B", "C", "D")


@given(st.lists(st.floats(-100, 0), min_size=1, max_size=8))
def test_best_choice_is_the_first_of_the_largest(values: list[float]) -> None:
    assert best_choice(values) == values.index(max(values))


def test_response_of_a_chat_is_its_last_assistant_message() -> None:
    turns = [("user", "Hi"), ("assistant", "Hello"), ("user", "Bye"), ("assistant", "So long"), ("user", "Hm")]
    chat = Chat(messages=tuple(ChatMessage(role=role, content=content) for role, content in turns))
    assert response_text(Record(record_id="c", content=chat)) == "So long"


def test_plain_text_has_no_response() -> None:
    assert response_text(Record(record_id="t", content=Text(text="Once upon a time"))) == ""
