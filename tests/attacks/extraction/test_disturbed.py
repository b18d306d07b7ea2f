import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.attacks.extraction.disturbed import REPLACED_SHARE, collect_words, disturb_split, disturb_text
from confide.attacks.extraction.prompts import split_by_share
from confide.model.lora import AdaptedModel
from confide.seeds import stream
from tests.attacks.extraction.conftest import CandidateMaker

TEXTS = (
    "Dear colleague, Ada Lovelace attended with severe headache and blurred vision.",
    "Please phone Ada at 555-0101 or write to ada@example.com about the sudden fever.",
    "The doctor advised complete rest, plenty of water and another visit in autumn.",
    "Nausea and a stiff shoulder were noted; the patient should return within weeks.",
)
VOCABULARY = collect_words(TEXTS)


def _words(text: str) -> list[str]:
    return re.findall(r"[A-Za-z]+", text)


def test_names_numbers_addresses_and_stop_words_are_kept() -> None:
    for text in TEXTS:
        changed = disturb_text(text, VOCABULARY, 1.0, stream(0, "test"))
        for word in ("Ada", "Lovelace", "555-0101", "ada@example.com", "with", "about", "the", "and", "within"):
            assert (word in text.split()) == (word in changed.split())
        assert changed != text


def test_at_probability_one_every_telling_word_is_another_of_its_length_class_and_capitals() -> None:
    before, after = _words(TEXTS[2]), _words(disturb_text(TEXTS[2], VOCABULARY, 1.0, stream(0, "test")))
    replaced = {old for old, new in zip(before, after, strict=True) if old != new}
    assert replaced == {"doctor", "advised", "complete", "rest", "plenty", "water", "another", "visit", "autumn"}
    for old, new in zip(before, after, strict=True):
        assert old.islower() == new.islower()
        assert abs(len(old) - len(new)) <= 3  # classes hold lengths 4-5, 6-8 and 9-12


def test_capitals_are_kept() -> None:
    vocabulary = collect_words(["fever cough"])
    assert disturb_text("Fever, FEVER (fever)!", vocabulary, 1.0, stream(0, "test")) == "Cough, COUGH (cough)!"


def test_nothing_is_replaced_at_probability_zero() -> None:
    assert [disturb_text(text, VOCABULARY, 0.0, stream(0, "test")) for text in TEXTS] == list(TEXTS)


def test_words_are_replaced_as_often_as_asked() -> None:
    num_words = 4000
    text = " ".join(["fever"] * num_words)
    changed = disturb_text(text, collect_words(["fever cough chill"]), REPLACED_SHARE, stream(0, "test"))
    share = np.mean([word != "fever" for word in changed.split()])
    # A binomial share has a standard deviation of sqrt(0.4 * 0.6 / 4000) = 0.008; four of them.
    assert share == pytest.approx(REPLACED_SHARE, abs=0.031)


@given(st.text(max_size=60))
def test_white_space_and_the_number_of_words_stay(text: str) -> None:
    changed = disturb_text(text, VOCABULARY, 1.0, stream(0, "test"))
    assert re.findall(r"\s+", changed) == re.findall(r"\s+", text)


def test_scripts_without_spaces_are_left_alone() -> None:
    text = "患者于2024年5月就诊。"
    assert disturb_text(text, collect_words([text]), 1.0, stream(0, "test")) == text


def test_a_split_is_disturbed_in_its_learnt_part_only(model: AdaptedModel, make_candidate: CandidateMaker) -> None:
    candidate = make_candidate(TEXTS[2], prompt="Write complete advice: ")
    split = split_by_share(candidate, 0.8, model.tokenizer, (2,))
    assert split is not None
    disturbed = disturb_split(split, candidate, VOCABULARY, model.tokenizer, seed=0, probability=1.0)
    text = model.tokenizer.decode(list(disturbed.prompt), skip_special_tokens=True)
    assert text.startswith("Write complete advice: The ")
    assert disturbed.prompt[0] == model.tokenizer.bos_token_id
    assert disturbed.prompt != split.prompt
    assert (disturbed.remainder, disturbed.start) == (split.remainder, split.start)


def test_an_undisturbed_split_keeps_its_tokens(model: AdaptedModel, make_candidate: CandidateMaker) -> None:
    candidate = make_candidate(TEXTS[2])
    split = split_by_share(candidate, 0.8, model.tokenizer, (2,))
    assert split is not None
    assert disturb_split(split, candidate, VOCABULARY, model.tokenizer, seed=0, probability=0.0) is split


def test_each_record_has_draws_of_its_own(model: AdaptedModel, make_candidate: CandidateMaker) -> None:
    candidate = make_candidate(TEXTS[2])
    split = split_by_share(candidate, 0.8, model.tokenizer, (2,))
    assert split is not None
    first, again, other = (
        disturb_split(split, candidate, VOCABULARY, model.tokenizer, seed=seed) for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other
