"""Turns the rows of a table into records: which columns mean what, and what is wrong with a row.

Stands between the file formats of `sources`, which yield rows, and everything that reads records.
"""

import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from confide.data.choices import named_choice
from confide.data.examples import Chat, ChatMessage, Instruction, Record, Text
from confide.errors import DataError

_ROLES = ("system", "user", "assistant")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")  # as JSON writes half of a character that UTF-16 needs two codes for


@dataclass(frozen=True, kw_only=True)
class ColumnNames:
    """What the columns of the data are called; each is the config key `data.<field>_column`.

    Attributes:
        instruction: the instruction of an instruction row.
        input: the optional input to it.
        response: the response to learn.
        messages: the conversation of a chat row, a list of objects with "role" and "content".
        text: the text of a plain-text row.
        answer: the short reference answer, if any.
        choices: the options of a multiple-choice row, if any.
        id: the row's own unique id, if any.
        client: the row's owner, which the natural partition reads.
        label: the row's class, which label-skewed partitions read.
    """

    instruction: str = "instruction"
    input: str = "input"
    response: str = "response"
    messages: str = "messages"
    text: str = "text"
    answer: str = "answer"
    choices: str = "choices"
    id: str = "id"
    client: str = "client"
    label: str = "label"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of a table and where it stands.

    `number` counts from 1: the line of a text file, the row of a table; `unit` says which of the two.
    """

    file: str
    number: int
    values: Mapping[str, object]
    unit: str = "line"

    @property
    def place(self) -> str:
        """Where the row stands, for messages."""
        return f"{self.file}, {self.unit} {self.number}"

    @property
    def columns(self) -> str:
        """The names of the columns the row has, for messages."""
        return ", ".join(self.values) or "none"

    def error(self, reason: str) -> DataError:
        """An error that starts with where the row stands."""
        return DataError(f"{self.place}: {reason}")


def read_rows(rows: Iterable[Row], columns: ColumnNames, *, required: Collection[str] = ()) -> list[Record]:
    """Makes a record of every row.

    The columns of the first row decide what all rows are: a conversation if there is `columns.messages`, else an
    instruction if there are `columns.instruction` and `columns.response`, else plain text if there is `columns.text`.

    Args:
        rows: the rows of one table.
        columns: what the columns are called.
        required: fields of `ColumnNames` that the table must have beside its content, e.g. "client".

    Returns:
        One record per row, in order. `record_id` is the row's own id, or "file:number" where it has none; it is not
        yet checked to be unique. In a row with choices, `answer` is the right choice itself, also where the row gives
        its letter (A for the first) or, as an integer, its position (0 for the first); without an answer column it
        is read from the response, and None where that names no choice.

    Raises:
        DataError: a column is missing, a cell has the wrong type, or what is to be learnt is empty.
    """
    records: list[Record] = []
    read_content: Callable[[Row, ColumnNames], Instruction | Chat | Text] | None = None
    for row in rows:
        if read_content is None:
            read_content = _content_reader(row, columns)
            for field in required:
                _require(row, field, columns)
        records.append(_record(row, read_content(row, columns), columns))
    return records


def read_json(text: str) -> object:
    """Reads JSON that somebody else wrote.

    Raises:
        ValueError: it is malformed, nested too deeply, has a number of too many digits, or half a character that no
            encoding of text can hold; the message says which.
    """
    try:
        value: object = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"malformed JSON at column {error.colno}: {error.msg}") from error
    except RecursionError as error:
        raise ValueError("JSON that is nested too deeply to be read") from error
    except ValueError as error:  # what the standard library raises for more digits than it converts
        raise ValueError("JSON with a whole number of too many digits to be read") from error
    if _SURROGATE.search(text) and not _can_be_encoded(value):
        raise ValueError("JSON with half a surrogate pair, \\ud800 to \\udfff without its other half, which is no text")
    return value


def _can_be_encoded(value: object) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _content_reader(first: Row, columns: ColumnNames) -> Callable[[Row, ColumnNames], Instruction | Chat | Text]:
    if columns.messages in first.values:
        return _chat
    if columns.instruction in first.values and (
        columns.response in first.values or columns.text not in first.values
    ):  # with the instruction alone, `_instruction` names the missing response
        return _instruction
    if columns.text in first.values:
        return _text
    raise first.error(
        f"no column to learn from. Expected {columns.messages!r}, or {columns.instruction!r} and "
        f"{columns.response!r}, or {columns.text!r}; the columns are: {first.columns}. Name yours in "
        "the configuration or by --set data.text_column=NAME; or so data.messages_column, or data.instruction_column "
        "and data.response_column."
    )


def _record(row: Row, content: Instruction | Chat | Text, columns: ColumnNames) -> Record:
    record_id = _short(row, "id", columns)
    choices = _choices(row, columns)
    return Record(
        record_id=f"{row.file}:{row.number}" if record_id is None else record_id,
        content=content,
        client=_short(row, "client", columns),
        label=_short(row, "label", columns),
        answer=_right_choice(row, choices, content, columns) if choices else _short(row, "answer", columns),
        choices=choices,
    )


def _instruction(row: Row, columns: ColumnNames) -> Instruction:
    given = row.values.get(columns.input)
    return Instruction(
        instruction=_full_text(row, "instruction", columns),
        input="" if given is None else _text_cell(row, "input", columns),
        response=_full_text(row, "response", columns),
    )


def _text(row: Row, columns: ColumnNames) -> Text:
    return Text(text=_full_text(row, "text", columns))


def _chat(row: Row, columns: ColumnNames) -> Chat:
    messages = _list_cell(row, "messages", columns)
    chat = Chat(messages=tuple(_message(row, position, message) for position, message in enumerate(messages, 1)))
    if not any(message.role == "assistant" for message in chat.messages):
        raise row.error(f"column {columns.messages!r} has no message of the role 'assistant', so nothing to learn.")
    return chat


def _message(row: Row, position: int, message: object) -> ChatMessage:
    if not isinstance(message, Mapping) or not {"role", "content"} <= set(message):
        raise row.error(f"message {position} is {_kind(message)}, expected an object with 'role' and 'content'.")
    role, content = message["role"], message["content"]
    if role not in _ROLES:
        raise row.error(f"message {position} has an unknown role; expected one of: {', '.join(_ROLES)}.")
    if not isinstance(content, str) or not content.strip():
        raise row.error(f"message {position} has {_kind(content)} as content, expected text that is not empty.")
    return ChatMessage(role=role, content=content)


def _choices(row: Row, columns: ColumnNames) -> tuple[str, ...]:
    if row.values.get(columns.choices) in (None, "", []):
        return ()
    choices = _list_cell(row, "choices", columns)
    if not all(isinstance(choice, str | int | float) for choice in choices):
        raise row.error(f"column {columns.choices!r} holds something other than text, expected a list of texts.")
    return tuple(str(choice) for choice in choices)


def _right_choice(
    row: Row, choices: tuple[str, ...], content: Instruction | Chat | Text, columns: ColumnNames
) -> str | None:
    """The right choice itself: what the answer column says, or else the response if it names a choice."""
    given = row.values.get(columns.answer)
    if given is None:
        index = named_choice(content.response, choices) if isinstance(content, Instruction) else None
        return None if index is None else choices[index]
    if isinstance(given, int) and not isinstance(given, bool):
        index = given if 0 <= given < len(choices) else None
    else:
        index = named_choice(given, choices) if isinstance(given, str) else None
    if index is None:
        raise row.error(
            f"column {columns.answer!r} names none of the {len(choices)} choices; expected one of them, its letter "
            "(A for the first), or its position as a number (0 for the first). See data.answer_column and "
            "data.choices_column."
        )
    return choices[index]


def _require(row: Row, field: str, columns: ColumnNames) -> object:
    name: str = getattr(columns, field)
    if name not in row.values:
        raise row.error(
            f"the column {name!r} is missing; the columns are: {row.columns}. Name yours in the configuration or by "
            f"--set data.{field}_column=NAME."
        )
    return row.values[name]


def _text_cell(row: Row, field: str, columns: ColumnNames) -> str:
    value = _require(row, field, columns)
    if not isinstance(value, str):
        raise row.error(f"column {getattr(columns, field)!r} holds {_kind(value)}, expected text.")
    return value


def _full_text(row: Row, field: str, columns: ColumnNames) -> str:
    text = _text_cell(row, field, columns)
    if not text.strip():
        raise row.error(f"column {getattr(columns, field)!r} is empty, expected text. Fill it or remove the row.")
    return text


def _list_cell(row: Row, field: str, columns: ColumnNames) -> list[object]:
    value = _require(row, field, columns)
    if isinstance(value, str):  # CSV has no lists: there they stand as JSON
        try:
            value = read_json(value)
        except ValueError as error:
            name = getattr(columns, field)
            raise row.error(f"column {name!r} holds {_kind(value)}, expected a list: {error}.") from error
    if not isinstance(value, list):
        raise row.error(f"column {getattr(columns, field)!r} holds {_kind(value)}, expected a list.")
    return value


def _short(row: Row, field: str, columns: ColumnNames) -> str | None:
    """An optional name or number as text; None where the column or its value is missing."""
    value = row.values.get(getattr(columns, field))
    if value is None or value == "":
        return None
    if not isinstance(value, str | int | float):
        raise row.error(f"column {getattr(columns, field)!r} holds {_kind(value)}, expected text or a number.")
    return str(value)


def _kind(value: object) -> str:
    """What a value is, for messages; never the value itself, which is somebody's data."""
    if value is None:
        return "null"
    if isinstance(value, str):
        return "text" if value.strip() else "empty text"
    names = {bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return names.get(type(value), f"a {type(value).__name__}")
