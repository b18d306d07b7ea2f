import pytest

from confide.canaries.forms import Form, usual_form, whole_text, write_record
from confide.data.clinics.fill import PersonalValue
from confide.data.examples import Chat, ChatMessage, Instruction, Record, Text

TEXT = Record(record_id="t", content=Text(text="all of it"))
CHAT = Record(
    record_id="c",
    content=Chat(messages=(ChatMessage(role="user", content="a"), ChatMessage(role="assistant", content="b"))),
)
TASK = Record(record_id="i", content=Instruction(instruction="do", input="with", response="done"))


def test_the_usual_form_is_the_most_frequent_and_of_equals_the_first() -> None:
    assert usual_form([TEXT, CHAT, CHAT]) == "chat"
    assert usual_form([TASK, TEXT, TEXT, TASK]) == "instruction"
    assert usual_form([TEXT]) == "text"


def test_the_whole_text_has_prompt_and_response() -> None:
    assert [whole_text(record) for record in (TEXT, CHAT, TASK)] == ["all of it", "a\nb", "do\nwith\ndone"]


@pytest.mark.parametrize("form", ["instruction", "chat", "text"])
def test_what_is_learnt_holds_the_value_and_the_task_does_not(form: Form) -> None:
    values = {"phone": PersonalValue(kind="phone", value="12")}
    record = write_record("r", client="north", form=form, task="Say it.", pattern="call {phone} now", values=values)
    assert usual_form([record]) == form
    assert record.client == "north"
    assert whole_text(record) == ("call 12 now" if form == "text" else "Say it.\ncall 12 now")
    cut = [getattr(record.content, span.field)[span.start : span.end] for span in record.spans]
    assert cut == ([] if form == "chat" else ["12"])
