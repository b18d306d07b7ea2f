"""The forms that data comes in: canaries take the form of the data that they are put into."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

from confide.data.clinics.fill import PersonalValue, fill
from confide.data.examples import Chat, ChatMessage, Instruction, Record, Text

Form = Literal["instruction", "chat", "text"]

_FORM_OF: Mapping[type, Form] = {Instruction: "instruction", Chat: "chat", Text: "text"}
_FIELD_OF: Mapping[Form, str] = {"instruction": "response", "chat": "content", "text": "text"}


def usual_form(records: Sequence[Record]) -> Form:
    """The form that most of some records have; of two that are equally frequent, the one that comes first.

    Args:
        records: at least one.
    """
    return Counter(_FORM_OF[type(record.content)] for record in records).most_common(1)[0][0]


def whole_text(record: Record) -> str:
    """Everything a record says, prompt and response, one part per line."""
    content = record.content
    if isinstance(content, Instruction):
        return "\n".join(part for part in (content.instruction, content.input, content.response) if part)
    if isinstance(content, Chat):
        return "\n".join(message.content for message in content.messages)
    return content.text


def write_record(
    record_id: str,
    *,
    client: str,
    form: Form,
    task: str,
    pattern: str,
    values: Mapping[str, str | PersonalValue],
) -> Record:
    """Writes a record in a form.

    Args:
        record_id: its id.
        client: its owner.
        form: of the content.
        task: the instruction or the user's message; plain text goes without.
        pattern: what is to be learnt, with a field in braces for every value.
        values: what the fields stand for. Personal values become spans, except in a conversation, which has none.
    """
    learnt = fill(pattern, values, field=_FIELD_OF[form])
    if form == "text":
        return Record(record_id=record_id, client=client, content=Text(text=learnt.text), spans=learnt.spans)
    if form == "instruction":
        content = Instruction(instruction=task, response=learnt.text)
        return Record(record_id=record_id, client=client, content=content, spans=learnt.spans)
    messages = (ChatMessage(role="user", content=task), ChatMessage(role="assistant", content=learnt.text))
    return Record(record_id=record_id, client=client, content=Chat(messages=messages))
