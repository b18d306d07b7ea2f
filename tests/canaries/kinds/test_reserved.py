import pytest

from confide.canaries.forms import whole_text
from confide.canaries.kinds.kind import Place
from confide.canaries.kinds.reserved import MAX_WORDS_BEFORE, ReservedCanaries, add_token
from confide.data.clinics import generate_clinics
from confide.data.examples import Chat, ChatMessage, Instruction, Record, Span, Text
from confide.errors import DataError


def text_record(text: str, *spans: Span) -> Record:
    return Record(record_id="r", content=Text(text=text), spans=spans)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_record_is_the_old_one_with_one_word_more_and_all_spans_still_fit(seed: int) -> None:
    for record in generate_clinics(seed=seed, num_clinics=12, num_letters=20):
        planted = add_token(record, "<unused1>")
        assert isinstance(record.content, Instruction)
        assert isinstance(planted.content, Instruction)
        assert planted.content.response.replace(" <unused1>", "", 1) == record.content.response
        assert (planted.content.instruction, planted.content.input) == (
            record.content.instruction,
            record.content.input,
        )
        for span in planted.spans:
            assert getattr(planted.content, span.field)[span.start : span.end] == span.value
        assert [span.value for span in planted.spans] == [*(span.value for span in record.spans), "<unused1>"]


def test_a_long_text_has_the_token_early_and_a_short_one_at_its_end() -> None:
    words = [str(number) for number in range(100)]
    long = whole_text(add_token(text_record(" ".join(words)), "T")).split()
    assert long == [*words[:MAX_WORDS_BEFORE], "T", *words[MAX_WORDS_BEFORE:]]
    assert whole_text(add_token(text_record("one two"), "T")) == "one two T"
    assert whole_text(add_token(text_record(" "), "T")) == "  T"


def test_the_token_does_not_split_personal_data() -> None:
    words = " ".join(str(number) for number in range(MAX_WORDS_BEFORE - 1))
    text = f"{words} Ann Lee came"  # the limit falls between the two names
    start = text.index("Ann")
    planted = add_token(
        text_record(text, Span(kind="name", value="Ann Lee", field="text", start=start, end=start + 7)), "T"
    )
    assert whole_text(planted).endswith(" Ann Lee T came")


def test_of_a_conversation_the_last_answer_gets_the_token() -> None:
    turns = (("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"), ("user", "e"))
    chat = Chat(messages=tuple(ChatMessage(role=role, content=content) for role, content in turns))
    planted = add_token(Record(record_id="r", content=chat), "T").content
    assert isinstance(planted, Chat)
    assert [message.content for message in planted.messages] == ["a", "b", "c", "d T", "e"]
    assert [message.role for message in planted.messages] == [role for role, _ in turns]


def test_too_few_tokens_are_an_error_that_says_how_many_there_are() -> None:
    rows = tuple(text_record(f"row {number}") for number in range(3))
    places = [Place(client=name, form="text", spare_rows=rows) for name in ("north", "south")]
    with pytest.raises(
        DataError, match=r"need 6 different tokens \(2 clients with 3 each\), .* has 5 reserved ones\. Lower"
    ):
        ReservedCanaries(tokens=tuple("ABCDE")).invent(places, 3, seed=0, corpus="")
    with pytest.raises(DataError, match=r"has 7 reserved ones, of which 5 do not occur in the data"):
        ReservedCanaries(tokens=tuple("ABCDEFG")).invent(places, 3, seed=0, corpus="A B")
    assert len(ReservedCanaries(tokens=tuple("ABCDEF")).invent(places, 3, seed=0, corpus="").canaries) == 6
