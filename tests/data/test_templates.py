from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from confide.data.examples import Chat, ChatMessage, Instruction, Record, Text
from confide.data.templates import TEMPLATES, Tokenizer, make_template
from confide.errors import ConfigError, DataError, ModelError

# Every template with every tokenizer it works with.
PAIRS = [
    (name, kind)
    for name in TEMPLATES
    for kind in ("byte-level", "without chat template", "metaspace")
    if name != "chat" or kind == "byte-level"
]
# What goes wrong at boundaries: line breaks and blanks that merge, and control tokens that are only text.
TRICKY = st.lists(
    st.sampled_from(["\n", "\n\n", " ", "dose", "The day", "?", "<|end|>", "<|start|>", "</s>", "<s>", "é", "{{ x }}"]),
    min_size=1,
).map("".join)
TEXTS = TRICKY.filter(lambda text: text.strip() != "")


def instruction(instruction: str = "What is the dose?", response: str = "Two a day.", given: str = "") -> Record:
    return Record(record_id="r", content=Instruction(instruction=instruction, response=response, input=given))


def chat(*turns: tuple[str, str]) -> Record:
    return Record(
        record_id="r", content=Chat(messages=tuple(ChatMessage(role=role, content=text) for role, text in turns))
    )


def decode(tokenizer: Tokenizer, ids: list[int]) -> str:
    text = tokenizer.decode(ids)  # type: ignore[attr-defined]
    assert isinstance(text, str)
    return text


def targets(tokenizer: Tokenizer, record: Record, name: str) -> str:
    """What is learnt, as text; stretches that do not touch are divided by a bar."""
    ids, mask = make_template(name, tokenizer).encode(record)
    stretches: list[list[int]] = []
    for position, (token, is_target) in enumerate(zip(ids, mask, strict=True)):
        if is_target and not mask[position - 1]:
            stretches.append([])
        if is_target:
            stretches[-1].append(token)
    return "|".join(decode(tokenizer, stretch) for stretch in stretches)


@pytest.mark.parametrize(("name", "kind"), PAIRS)
@settings(max_examples=30, deadline=None)
@given(asked=TEXTS, given_input=st.just("") | TEXTS, told=TEXTS)
def test_an_instruction_is_its_prompt_and_then_only_targets(
    tokenizers: dict[str, Tokenizer], name: str, kind: str, asked: str, given_input: str, told: str
) -> None:
    template = make_template(name, tokenizers[kind])
    record = instruction(asked, told, given_input)
    ids, mask = template.encode(record)
    prompt = template.prompt(record)
    assert ids[: len(prompt)] == prompt
    assert mask == [False] * len(prompt) + [True] * (len(ids) - len(prompt))
    assert ids[-1] in template.stop_ids


@pytest.mark.parametrize(("name", "kind"), PAIRS)
@settings(max_examples=30, deadline=None)
@given(asked=TEXTS, told=TEXTS)
def test_a_prompt_does_not_depend_on_the_response(
    tokenizers: dict[str, Tokenizer], name: str, kind: str, asked: str, told: str
) -> None:
    template = make_template(name, tokenizers[kind])
    assert template.prompt(instruction(asked, told)) == template.prompt(instruction(asked, "x"))


@pytest.mark.parametrize("name", TEMPLATES)
@settings(max_examples=50, deadline=None)
@given(told=TEXTS)
def test_what_is_learnt_reads_as_the_response_and_one_end(tokenizer: Tokenizer, name: str, told: str) -> None:
    record = instruction(response=told)
    blank = " " if name == "vicuna" else ""
    assert targets(tokenizer, record, name) == f"{blank}{told}<|end|>"
    ids, mask = make_template(name, tokenizer).encode(record)
    response_ids = [token for token, is_target in zip(ids, mask, strict=True) if is_target]
    assert response_ids.count(tokenizer.eos_token_id or 0) == 1  # a written one is text, not an end


@pytest.mark.parametrize(("name", "kind"), PAIRS)
@settings(max_examples=30, deadline=None)
@given(text=TEXTS)
def test_a_text_is_learnt_whole_and_never_wrapped(
    tokenizers: dict[str, Tokenizer], name: str, kind: str, text: str
) -> None:
    tokenizer = tokenizers[kind]
    template = make_template(name, tokenizer)
    record = Record(record_id="r", content=Text(text=text))
    ids, mask = template.encode(record)
    opening = template.prompt(record)
    with_opening = tokenizer("", add_special_tokens=True, split_special_tokens=False, verbose=False)["input_ids"]
    assert opening == (with_opening[:1] if kind == "metaspace" else [])
    words = tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]
    assert ids == [*opening, *words, tokenizer.eos_token_id]
    assert mask == [False] + [True] * (len(ids) - 1)


@pytest.mark.parametrize(("name", "kind"), PAIRS)
@settings(max_examples=30, deadline=None)
@given(asked=TEXTS, told=st.lists(TEXTS, max_size=4))
def test_many_records_at_once_read_as_each_alone(
    tokenizers: dict[str, Tokenizer], name: str, kind: str, asked: str, told: list[str]
) -> None:
    template = make_template(name, tokenizers[kind])
    records = [instruction(asked, text) for text in told]
    records += [Record(record_id="r", content=Text(text=text)) for text in told]
    if name not in ("alpaca", "plain"):
        records += [chat(("user", asked), ("assistant", text), ("user", asked), ("assistant", asked)) for text in told]
    assert template.encode_all(records) == [template.encode(record) for record in records]


@pytest.mark.parametrize("name", ["chat", "vicuna", "auto"])
@settings(max_examples=30, deadline=None)
@given(texts=st.lists(TEXTS, min_size=4, max_size=4), system=st.none() | TEXTS)
def test_every_assistant_message_of_a_conversation_is_learnt_and_nothing_else(
    tokenizer: Tokenizer, name: str, texts: list[str], system: str | None
) -> None:
    turns = [("user", texts[0]), ("assistant", texts[1]), ("user", texts[2]), ("assistant", texts[3])]
    record = chat(*([("system", system)] if system is not None else []), *turns, ("user", "Thanks"))
    blank = " " if name == "vicuna" else ""
    assert targets(tokenizer, record, name) == f"{blank}{texts[1]}<|end|>|{blank}{texts[3]}<|end|>"
    template = make_template(name, tokenizer)
    ids, mask = template.encode(record)
    prompt = template.prompt(record)
    assert ids[: len(prompt)] == prompt
    assert all(mask[len(prompt) :])
    assert not mask[len(prompt) - 1]


def test_ids_of_the_chat_template_are_those_of_transformers(tokenizer: Tokenizer) -> None:
    turns = [("system", "Be kind."), ("user", "Where does it hurt?"), ("assistant", "Below the knee.")]
    messages = [{"role": role, "content": text} for role, text in turns]

    def reference(num_messages: int, *, asks_for_answer: bool) -> list[int]:
        encoding = tokenizer.apply_chat_template(
            messages[:num_messages], add_generation_prompt=asks_for_answer, tokenize=True
        )
        ids: list[int] = encoding["input_ids"]  # type: ignore[index, assignment]
        return ids

    template = make_template("chat", tokenizer)
    ids, _ = template.encode(chat(*turns))
    whole = reference(3, asks_for_answer=False)
    assert ids == whole[: len(ids)]
    assert decode(tokenizer, whole[len(ids) :]) == "\n"  # behind the last end mark there is nothing to learn
    assert template.prompt(chat(*turns)) == reference(2, asks_for_answer=True)


def test_ordinary_responses_are_tokenised_in_the_context_of_their_prompt(tokenizers: dict[str, Tokenizer]) -> None:
    tokenizer = tokenizers["metaspace"]
    ids, _ = make_template("vicuna", tokenizer).encode(instruction())
    whole = decode(tokenizer, ids[1:-1]).strip()
    assert whole.endswith("USER: What is the dose? ASSISTANT: Two a day.")
    assert (
        ids[1:-1] == tokenizer(whole, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]
    )


def test_alpaca_reads_as_published(tokenizer: Tokenizer) -> None:
    ids, _ = make_template("alpaca", tokenizer).encode(instruction(given="A cold."))
    assert decode(tokenizer, ids) == (
        "Below is an instruction that describes a task, paired with an input that provides further context. "
        "Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nWhat is the dose?\n\n### Input:\nA cold.\n\n### Response:\nTwo a day.<|end|>"
    )
    ids, _ = make_template("alpaca", tokenizer).encode(instruction())
    assert decode(tokenizer, ids) == (
        "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nWhat is the dose?\n\n### Response:\nTwo a day.<|end|>"
    )


def test_vicuna_reads_as_published(tokenizer: Tokenizer) -> None:
    template = make_template("vicuna", tokenizer)
    turns = [("user", "A?"), ("assistant", "B."), ("user", "C?"), ("assistant", "D.")]
    system = (
        "A chat between a curious user and an artificial intelligence assistant. "
        "The assistant gives helpful, detailed, and polite answers to the user's questions."
    )
    spoken = " USER: A? ASSISTANT: B.<|end|>USER: C? ASSISTANT: D.<|end|>"
    assert decode(tokenizer, template.encode(chat(*turns))[0]) == system + spoken
    assert decode(tokenizer, template.encode(chat(("system", "Be kind."), *turns))[0]) == "Be kind." + spoken


def test_plain_has_only_the_data_in_it(tokenizer: Tokenizer) -> None:
    ids, _ = make_template("plain", tokenizer).encode(instruction(given="A cold."))
    assert decode(tokenizer, ids) == "What is the dose?\n\nA cold.\n\nTwo a day.<|end|>"


def test_auto_is_the_chat_template_where_there_is_one(tokenizers: dict[str, Tokenizer]) -> None:
    conversation = chat(("user", "A?"), ("assistant", "B."))
    for kind, record, same_as in [
        ("byte-level", instruction(), "chat"),
        ("byte-level", conversation, "chat"),
        ("without chat template", instruction(), "alpaca"),
        ("without chat template", conversation, "vicuna"),
    ]:
        tokenizer = tokenizers[kind]
        assert make_template("auto", tokenizer).encode(record) == make_template(same_as, tokenizer).encode(record)


def test_a_response_ends_where_the_chat_template_ends_a_turn(
    make_chat_tokenizer: Callable[[str | None], Tokenizer],
) -> None:
    tokenizer = make_chat_tokenizer(
        "{% for m in messages %}<|start|>{{ m['role'] }}: {{ m['content'] }}<|start|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|start|>assistant: {% endif %}"
    )
    template = make_template("chat", tokenizer)
    start_id = tokenizer("<|start|>", add_special_tokens=False, split_special_tokens=False, verbose=False)["input_ids"][
        0
    ]
    assert targets(tokenizer, instruction(), "chat") == "Two a day.<|start|>"
    assert set(template.stop_ids) == {start_id, tokenizer.eos_token_id}
    assert make_template("alpaca", tokenizer).stop_ids == (tokenizer.eos_token_id,)


def test_a_chat_template_that_rewrites_earlier_turns_is_refused(
    make_chat_tokenizer: Callable[[str | None], Tokenizer],
) -> None:
    tokenizer = make_chat_tokenizer(
        "{% for m in messages %}{% if loop.last %}(thinks){% endif %}{{ m['content'] }}<|end|>{% endfor %}"
    )
    with pytest.raises(DataError, match=r"record r: .*writes earlier messages differently.*data\.template to vicuna"):
        make_template("chat", tokenizer).encode(chat(("user", "A?"), ("assistant", "B.")))


def test_a_conversation_the_chat_template_refuses_is_named(
    make_chat_tokenizer: Callable[[str | None], Tokenizer],
) -> None:
    tokenizer = make_chat_tokenizer(
        "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('No system messages') }}{% endif %}"
        "{{ m['content'] }}<|end|>{% endfor %}"
    )
    with pytest.raises(DataError, match=r"record r: the tokenizer's chat template refuses it: No system messages"):
        make_template("chat", tokenizer).encode(chat(("system", "A"), ("user", "B"), ("assistant", "C")))


@pytest.mark.parametrize("name", ["alpaca", "plain"])
def test_a_conversation_under_a_template_for_one_instruction_is_refused(tokenizer: Tokenizer, name: str) -> None:
    with pytest.raises(DataError, match=rf"record r: the template {name} has no place for a conversation"):
        make_template(name, tokenizer).encode(chat(("user", "A?"), ("assistant", "B.")))


def test_a_tokenizer_that_lacks_what_a_template_needs_is_refused(
    tokenizers: dict[str, Tokenizer], make_chat_tokenizer: Callable[[str | None], Tokenizer]
) -> None:
    with pytest.raises(ModelError, match=r"data\.template is chat, but the model's tokenizer has no chat template"):
        make_template("chat", tokenizers["without chat template"])
    endless = make_chat_tokenizer(None)
    endless.eos_token = None  # type: ignore[attr-defined]
    with pytest.raises(ModelError, match=r"no end-of-sequence token"):
        make_template("alpaca", endless)


def test_an_unknown_template_lists_the_known_ones(tokenizer: Tokenizer) -> None:
    with pytest.raises(ConfigError, match=r"data\.template is 'llama', expected one of: auto, alpaca, vicuna, chat"):
        make_template("llama", tokenizer)
