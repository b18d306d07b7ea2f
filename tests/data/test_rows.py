import pytest

from confide.data.examples import Chat, ChatMessage, Instruction, Record, Text
from confide.data.rows import ColumnNames, Row, read_rows
from confide.errors import DataError


def rows(*values: dict[str, object]) -> list[Row]:
    return [Row(file="wards.jsonl", number=number, values=row) for number, row in enumerate(values, 1)]


def read(
    *values: dict[str, object], columns: ColumnNames | None = None, required: tuple[str, ...] = ()
) -> list[Record]:
    return read_rows(rows(*values), columns or ColumnNames(), required=required)


QUESTION: dict[str, object] = {"instruction": "ask", "response": "tell"}
MESSAGES = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]


def test_the_columns_of_the_first_row_decide_what_all_rows_are() -> None:
    assert read({"messages": MESSAGES, "text": "t"})[0].content == Chat(
        messages=(ChatMessage(role="user", content="hi"), ChatMessage(role="assistant", content="hello"))
    )
    assert read({**QUESTION, "text": "t"})[0].content == Instruction(instruction="ask", response="tell")
    assert read({"text": "t", "instruction": "ask"})[0].content == Text(text="t")
    with pytest.raises(DataError, match=r"wards.jsonl, line 2: the column 'response' is missing"):
        read(QUESTION, {"text": "t", "instruction": "ask"})


def test_configured_column_names_are_the_ones_read() -> None:
    names = ColumnNames(
        instruction="q", input="ctx", response="a", answer="short", id="key", client="ward", label="kind"
    )
    row = {"q": "ask", "ctx": "given", "a": "tell", "short": 7, "key": 12, "ward": "north", "kind": 3, "client": "no"}
    record = read(row, columns=names)[0]
    assert record.content == Instruction(instruction="ask", input="given", response="tell")
    assert (record.record_id, record.client, record.label, record.answer) == ("12", "north", "3", "7")


def test_a_row_without_an_id_is_known_by_file_and_line() -> None:
    assert [record.record_id for record in read(QUESTION, {**QUESTION, "id": "own"})] == ["wards.jsonl:1", "own"]


@pytest.mark.parametrize("missing", [None, ""])
def test_an_input_client_or_label_that_is_missing_counts_as_none(missing: object) -> None:
    record = read({**QUESTION, "input": missing, "client": missing, "label": missing})[0]
    assert record.content == Instruction(instruction="ask", response="tell")
    assert record.client is None
    assert record.label is None


@pytest.mark.parametrize(
    "named",
    [
        {"response": "B"},
        {"response": "(b)"},
        {"response": "two"},
        {"answer": 1},
        {"answer": "two"},
        {"answer": "B.", "response": "because"},
        {"answer": " Two"},
        {"answer": "b:"},
    ],
)
def test_the_answer_to_choices_is_the_right_choice_itself(named: dict[str, object]) -> None:
    record = read({**QUESTION, "choices": ["one", "two", "three"], **named})[0]
    assert record.choices == ("one", "two", "three")
    assert record.answer == "two"


def test_a_response_that_names_no_choice_leaves_the_answer_open() -> None:
    assert read({**QUESTION, "choices": ["one", "two"], "response": "a long story"})[0].answer is None


def test_choices_that_are_numbers_are_matched_as_text_before_letters_and_positions() -> None:
    assert read({**QUESTION, "choices": [0, 1, 2], "answer": "1"})[0].answer == "1"
    assert read({**QUESTION, "choices": ["3", "1", "0"], "answer": 0})[0].answer == "3"


def test_choices_written_as_json_text_are_read() -> None:
    assert read({**QUESTION, "choices": '["one", "two"]', "response": "A"})[0].choices == ("one", "two")


@pytest.mark.parametrize("answer", ["C", "three", 2, -1, True, 0.5])
def test_an_answer_outside_the_choices_is_refused(answer: object) -> None:
    with pytest.raises(DataError, match=r"line 1: column 'answer' names none of the 2 choices"):
        read({**QUESTION, "choices": ["one", "two"], "answer": answer})


def test_a_table_without_anything_to_learn_names_its_columns_and_the_keys_to_set() -> None:
    with pytest.raises(
        DataError, match=r"are: question, reply\. Name yours .* --set data\.text_column=NAME; or so data\.m"
    ):
        read({"question": "q", "reply": "r"})


def test_a_missing_response_names_the_columns_and_the_key_to_set() -> None:
    expected = r"column 'response' is missing; the columns are: instruction, output\. .* data\.response_column"
    with pytest.raises(DataError, match=expected):
        read({"instruction": "ask", "output": "tell"})


def test_a_required_column_that_is_missing_names_the_key_to_set() -> None:
    with pytest.raises(DataError, match=r"column 'client' is missing; .*data\.client_column"):
        read(QUESTION, required=("client",))
    assert read({**QUESTION, "client": "north"}, required=("client",))[0].client == "north"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({**QUESTION, "response": None}, "column 'response' holds null, expected text"),
        ({**QUESTION, "response": ["tell"]}, "column 'response' holds a list, expected text"),
        ({**QUESTION, "response": " \n"}, "column 'response' is empty"),
        ({**QUESTION, "instruction": ""}, "column 'instruction' is empty"),
        ({**QUESTION, "input": 5}, "column 'input' holds a number, expected text"),
        ({**QUESTION, "client": ["north"]}, "column 'client' holds a list, expected text or a number"),
        ({**QUESTION, "choices": "one or two"}, "column 'choices' holds text, expected a list"),
        ({**QUESTION, "choices": [{"a": 1}]}, "column 'choices' holds something other than text"),
        ({"text": ""}, "column 'text' is empty"),
        ({"text": 3.5}, "column 'text' holds a number"),
        ({"messages": "hi"}, "column 'messages' holds text, expected a list"),
        ({"messages": []}, "has no message of the role 'assistant'"),
        ({"messages": MESSAGES[:1]}, "has no message of the role 'assistant'"),
        ({"messages": ["hi"]}, "message 1 is text, expected an object"),
        ({"messages": [MESSAGES[0], {"from": "gpt"}]}, "message 2 is an object, expected an object with 'role'"),
        ({"messages": [{"role": "doctor", "content": "hi"}]}, "unknown role; expected one of: system, user, assist"),
        ({"messages": [MESSAGES[0], {"role": "assistant", "content": ""}]}, "message 2 has empty text as content"),
        ({"messages": [MESSAGES[0], {"role": "assistant", "content": None}]}, "message 2 has null as content"),
    ],
)
def test_a_bad_cell_is_refused_with_its_line_and_without_its_content(row: dict[str, object], reason: str) -> None:
    good: dict[str, object] = {**QUESTION} if "instruction" in row else {"text": "t"} if "text" in row else {}
    table = [good, row] if good else [{"messages": MESSAGES}, row]
    with pytest.raises(DataError) as caught:
        read(*table)
    assert str(caught.value).startswith("wards.jsonl, line 2: ")
    assert reason in str(caught.value)
    assert "tell" not in str(caught.value)
