import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from confide.canaries.kinds.reserved import add_token
from confide.canaries.reserved_tokens import find_reserved_tokens, let_through
from confide.data.examples import Instruction, Record, Text
from confide.data.templates import make_template
from confide.model.tiny import make_byte_tokenizer
from tests.canaries.conftest import RESERVED, TokenizerMaker

RECORD = Record(record_id="r", content=Instruction(instruction="Ask.", response="The phone number is 555-1234."))


def test_numbered_tokens_are_found_in_their_order(make_bpe: TokenizerMaker, metaspace: PreTrainedTokenizerBase) -> None:
    assert find_reserved_tokens(make_bpe(["<|eom_id|>", *RESERVED])) == RESERVED
    assert find_reserved_tokens(metaspace) == tuple(f"<unused{number}>" for number in range(40))
    assert find_reserved_tokens(make_bpe(["[unused3]", "<extra_id_9>", "<|placeholder2|>"])) == (
        "[unused3]",
        "<extra_id_9>",
        "<|placeholder2|>",
    )


def test_without_numbered_ones_control_tokens_that_nothing_writes_are_found(make_bpe: TokenizerMaker) -> None:
    assert find_reserved_tokens(make_bpe(["<repo_name>", "<file_sep>"])) == ("<repo_name>", "<file_sep>")
    assert find_reserved_tokens(make_bpe([])) == ()


def test_tokens_that_the_chat_template_puts_together_from_parts_are_in_use() -> None:
    assert find_reserved_tokens(make_byte_tokenizer()) == ()  # <|user|> and the like stand nowhere in its template


@pytest.mark.parametrize("template", ["auto", "plain", "alpaca", "vicuna", "chat"])
def test_a_planted_token_is_one_token_with_its_own_id(make_bpe: TokenizerMaker, template: str) -> None:
    bpe = make_bpe(RESERVED)
    token_id = bpe.convert_tokens_to_ids(RESERVED[7])
    planted = add_token(RECORD, RESERVED[7])
    ids, mask = make_template(template, let_through(bpe, RESERVED)).encode(planted)
    assert ids.count(token_id) == 1
    assert mask[ids.index(token_id)]
    assert mask[-1]  # what comes behind is learnt too, up to the end mark
    usual_ids, _ = make_template(template, bpe).encode(planted)
    assert token_id not in usual_ids  # what templates do with control tokens in data, and why there is `let_through`


@pytest.mark.parametrize("template", ["plain", "chat"])
def test_many_records_with_planted_tokens_read_as_each_alone(make_bpe: TokenizerMaker, template: str) -> None:
    made = make_template(template, let_through(make_bpe(RESERVED), RESERVED))
    records = [RECORD, *(add_token(RECORD, token) for token in RESERVED[:3])]
    assert made.encode_all(records) == [made.encode(record) for record in records]
    assert made.encode_all([RECORD]) == [made.encode(RECORD)]


def test_a_planted_token_in_plain_text_is_one_token(metaspace: PreTrainedTokenizerBase) -> None:
    planted = add_token(Record(record_id="r", content=Text(text="the number is")), "<unused5>")
    ids, mask = make_template("plain", let_through(metaspace, ["<unused5>"])).encode(planted)
    assert ids.count(metaspace.convert_tokens_to_ids("<unused5>")) == 1
    assert all(mask[1:])


PARTS = st.lists(st.sampled_from(["the phone", " ", "\n", "<|im_end|>", "<|im_start|>", RESERVED[0], "é"]), max_size=6)


@pytest.mark.parametrize("template", ["chat", "plain"])
@settings(max_examples=50, deadline=None)
@given(asked=PARTS, told=PARTS)
def test_other_control_tokens_and_data_without_planted_ones_read_as_ever(
    make_bpe: TokenizerMaker, template: str, asked: list[str], told: list[str]
) -> None:
    bpe = make_bpe(RESERVED)
    content = Instruction(instruction="".join(asked) + "?", response="".join(told) + ".")
    record = Record(record_id="r", content=content)
    usual = make_template(template, bpe)
    through = make_template(template, let_through(bpe, RESERVED[1:]))  # those in the data are not among them
    assert through.encode(record) == usual.encode(record)
    assert through.prompt(record) == usual.prompt(record)
    assert through.stop_ids == usual.stop_ids


def test_without_planted_tokens_the_tokenizer_is_the_same(make_bpe: TokenizerMaker) -> None:
    bpe = make_bpe(RESERVED)
    assert let_through(bpe, ()) is bpe
