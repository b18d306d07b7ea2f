import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from confide.attacks.text_similarity import (
    TextIndex,
    longest_common_tokens,
    num_matching_prefix,
    rouge_l,
    split_words,
    token_distance,
)

TEXTS = {
    "Chinese": "患者于2024年5月就诊。诊断为高血压。",
    "Japanese": "患者は二〇二四年五月に来院し、コーヒーを控えるよう言われた。",
    "Thai": "ผู้ป่วยมีน้ำหนักลดลงมาก",
    "Khmer": "អ្នកជំងឺមានសម្ពាធឈាមខ្ពស់",
    "Arabic": "المَريض يُعاني من ارتفاع ضغط الدم",
    "Hindi": "रोगी को उच्च रक्तचाप है",
    "Korean": "환자는 고혈압이 있습니다",
    "Russian": "Давление пациента высокое",
    "Greek": "Ασθενής έχει υψηλή πίεση",
    "German": "Frau Müller hat Bluthochdruck, größer als üblich",
    "English": "The patient has high blood pressure.",
}
TOKENS = st.lists(st.integers(0, 3), max_size=12)
ASCII = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40)


@pytest.mark.parametrize("text", TEXTS.values(), ids=list(TEXTS))
def test_identical_texts_of_any_language_score_one(text: str) -> None:
    assert rouge_l(text, text) == 1.0
    assert TextIndex(["x", text]).similarities(text)[1] == 1.0
    assert rouge_l(text, unicodedata.normalize("NFD", text)) == 1.0


@given(st.text(max_size=30))
def test_any_text_is_like_itself(text: str) -> None:
    assert rouge_l(text, text) == 1.0


@given(ASCII, ASCII)
def test_on_ascii_the_score_is_the_rouge_score_packages(truth: str, text: str) -> None:
    expected = RougeScorer(["rougeL"], use_stemmer=False).score(truth, text)["rougeL"].fmeasure
    if truth != text or split_words(truth):  # without any word the package says 0 even of equal texts
        assert rouge_l(truth, text) == expected


@given(st.lists(st.text("ab c.患者", max_size=12), min_size=1, max_size=5), st.text("ab c.患者", max_size=12))
def test_an_index_gives_each_text_s_score(truths: list[str], text: str) -> None:
    scores = [rouge_l(truth, text) for truth in truths]
    assert TextIndex(truths).similarities(text) == pytest.approx(scores, rel=1e-15)


def test_words_of_scripts_without_spaces_are_characters() -> None:
    assert split_words("患者2024年") == ["患", "者", "2024", "年"]
    assert split_words("コーヒー cup") == ["コ", "ー", "ヒ", "ー", "cup"]
    assert split_words("น้ำ") == ["น้", "ำ"]  # a mark stays with the character that it stands on
    assert split_words("ab患c") == ["ab", "患", "c"]


def test_letters_beyond_ascii_are_not_dropped() -> None:
    assert split_words("Müller") == ["müller"]
    assert rouge_l("Müller", "M ller") == 0.0  # the package's own words make these equal
    assert split_words("हिन्दी भाषा") == ["हिन्दी", "भाषा"]  # vowel signs are marks, not letters


def test_texts_without_a_word_are_alike_only_if_equal() -> None:
    assert rouge_l("", "") == 1.0
    assert rouge_l("?!", "?!") == 1.0
    assert rouge_l("?!", "!?") == 0.0
    assert rouge_l("?!", "word") == 0.0
    assert rouge_l("word", "") == 0.0


def test_an_order_of_words_counts() -> None:
    assert rouge_l("a b c d", "a c b d") == 0.75
    assert rouge_l("a b c d", "a b") == pytest.approx(2 / 3)


def _levenshtein(first: list[int], second: list[int]) -> int:
    """By its definition, one recursion level per token."""
    if not first or not second:
        return len(first) + len(second)
    return min(
        _levenshtein(first[1:], second) + 1,
        _levenshtein(first, second[1:]) + 1,
        _levenshtein(first[1:], second[1:]) + (first[0] != second[0]),
    )


@given(st.lists(st.integers(0, 3), max_size=5), st.lists(st.integers(0, 3), max_size=5))
def test_the_distance_is_the_fewest_edits_over_the_longer_length(first: list[int], second: list[int]) -> None:
    longest = max(len(first), len(second))
    expected = _levenshtein(first, second) / longest if longest else 0.0
    assert token_distance(first, second) == pytest.approx(expected)


def test_large_token_ids_are_told_apart() -> None:
    assert token_distance([151_643, 49_152], [151_643, 49_153]) == 0.5
    assert token_distance([97], [65_633]) == 1.0


@given(TOKENS, TOKENS)
def test_the_longest_common_run_is_that_of_all_pairs_of_runs(first: list[int], second: list[int]) -> None:
    runs = {tuple(second[i:j]) for i in range(len(second) + 1) for j in range(i, len(second) + 1)}
    found = longest_common_tokens(first, second)
    expected = max(
        (
            tuple(first[i:j])
            for i in range(len(first) + 1)
            for j in range(i, len(first) + 1)
            if tuple(first[i:j]) in runs
        ),
        key=len,
    )
    assert found == expected  # max gives the first of equals, which begins first


@given(TOKENS, TOKENS)
def test_the_matching_prefix_ends_at_the_first_difference(first: list[int], second: list[int]) -> None:
    length = num_matching_prefix(first, second)
    assert first[:length] == second[:length]
    assert length == min(len(first), len(second)) or first[length] != second[length]


def test_comparing_with_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one text"):
        TextIndex([])
