import numpy as np
import pytest
from transformers import PreTrainedTokenizerBase

from confide.canaries.coins import flip_coins
from confide.canaries.locate_secret import secret_token_range
from confide.canaries.reserved_tokens import find_reserved_tokens, let_through
from confide.canaries.settings import CanarySettings
from confide.data.examples import ClientRecords, Record, Text, TokenizedExample
from confide.data.templates import make_template
from confide.data.tokenize import tokenize_records
from confide.model.tiny import make_byte_tokenizer
from tests.canaries.conftest import RESERVED, TokenizerMaker

KINDS_WITH_SECRETS = ("personal", "random", "ladder")


@pytest.fixture(scope="module")
def tokenizers(make_bpe: TokenizerMaker, metaspace: PreTrainedTokenizerBase) -> dict[str, PreTrainedTokenizerBase]:
    return {"byte": make_byte_tokenizer(), "bpe": make_bpe(RESERVED), "metaspace": metaspace}


def decode(tokenizer: PreTrainedTokenizerBase, ids: np.ndarray) -> str:
    return str(tokenizer.decode(ids.tolist(), skip_special_tokens=False, clean_up_tokenization_spaces=False))


def example_of(tokenizer: PreTrainedTokenizerBase, text: str) -> TokenizedExample:
    record = Record(record_id="r", content=Text(text=text))
    return tokenize_records([record], make_template("plain", tokenizer), 1000).examples[0]


@pytest.mark.parametrize("name", ["byte", "bpe", "metaspace"])
@pytest.mark.parametrize("template", ["auto", "plain"])
def test_every_planted_secret_is_found_whole_and_tightly_where_it_is_learnt(
    tokenizers: dict[str, PreTrainedTokenizerBase], clinics: list[ClientRecords], name: str, template: str
) -> None:
    tokenizer = tokenizers[name]
    tokens = find_reserved_tokens(tokenizer)
    kinds = (*KINDS_WITH_SECRETS, "reserved") if tokens else KINDS_WITH_SECRETS
    settings = CanarySettings(kinds=kinds, records_per_client=0, canaries_per_client=3, seed=0)
    plan = flip_coins(clinics, settings, reserved_tokens=tokens).plan
    assert bool(tokens) == (name != "byte")
    written = make_template(template, let_through(tokenizer, tokens))
    for coin in plan.coins:
        assert coin.secret is not None
        for example in tokenize_records(coin.records, written, 1000).examples:
            found = secret_token_range(example, tokenizer, coin.secret)
            assert found is not None
            start, stop = found
            ids = example.input_ids
            assert example.loss_mask[start:stop].all()
            # Whole: the tokens' text has the secret. Tight: a token less on either side has not.
            whole = decode(tokenizer, ids[:stop]).removeprefix(decode(tokenizer, ids[:start]))
            assert coin.secret in whole
            assert coin.secret not in decode(tokenizer, ids[: stop - 1])
            assert coin.secret not in decode(tokenizer, ids[:stop]).removeprefix(decode(tokenizer, ids[: start + 1]))
            if coin.kind == "reserved":
                assert stop - start == 1


def test_a_token_that_also_holds_what_stands_beside_belongs_to_the_range(
    tokenizers: dict[str, PreTrainedTokenizerBase],
) -> None:
    bpe = tokenizers["bpe"]
    example = example_of(bpe, "the number is 555-1234, and")
    found = secret_token_range(example, bpe, "555-1234")
    assert found is not None
    pieces = [decode(bpe, example.input_ids[position : position + 1]) for position in range(*found)]
    assert "".join(pieces) == " 555-1234"
    assert len(pieces) < len(" 555-1234")  # digits merge in this vocabulary, so tokens are not characters


@pytest.mark.parametrize("name", ["byte", "bpe"])
def test_characters_of_several_tokens_are_found_whole(
    tokenizers: dict[str, PreTrainedTokenizerBase], name: str
) -> None:
    tokenizer = tokenizers[name]
    text = "é☃ naïve ☃é𝄞 end"
    for secret in ("☃é𝄞", "é☃", "naïve", "𝄞", "é𝄞 end"):
        example = example_of(tokenizer, text)
        found = secret_token_range(example, tokenizer, secret)
        assert found is not None
        assert decode(tokenizer, example.input_ids[slice(*found)]).strip() == secret


def test_of_several_occurrences_the_first_that_is_learnt_is_taken(
    tokenizers: dict[str, PreTrainedTokenizerBase],
) -> None:
    byte = tokenizers["byte"]
    ids = np.array(byte("ab ab ab", add_special_tokens=False)["input_ids"])
    mask = np.arange(ids.size) >= 3
    example = TokenizedExample(record_id="r", input_ids=ids, loss_mask=mask)
    assert secret_token_range(example, byte, "ab") == (3, 5)
    in_prompt = TokenizedExample(record_id="r", input_ids=ids, loss_mask=np.arange(ids.size) == 7)
    assert secret_token_range(in_prompt, byte, "ab") == (0, 2)


def test_a_secret_that_is_not_there_or_cut_off_is_none(tokenizers: dict[str, PreTrainedTokenizerBase]) -> None:
    byte = tokenizers["byte"]
    example = example_of(byte, "call 555-1234")
    assert secret_token_range(example, byte, "555-9999") is None
    cut = TokenizedExample(record_id="r", input_ids=example.input_ids[:9], loss_mask=example.loss_mask[:9])
    assert secret_token_range(cut, byte, "555-1234") is None
