import re
import unicodedata
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from confide.evaluate.rouge import rouge_l, split_words

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
ASCII = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40)


def _longest_common_subsequence(left: Sequence[str], right: Sequence[str]) -> int:
    """The slow obvious twin: by its recursive definition, over prefixes."""
    table: dict[tuple[int, int], int] = {}

    def length(i: int, j: int) -> int:
        if i == 0 or j == 0:
            return 0
        if (i, j) not in table:
            same = left[i - 1] == right[j - 1]
            table[i, j] = length(i - 1, j - 1) + 1 if same else max(length(i - 1, j), length(i, j - 1))
        return table[i, j]

    return length(len(left), len(right))


def _rouge_l_twin(reference: str, answer: str) -> float:
    wanted, given_ = (re.findall("[a-z0-9]+", text.lower()) for text in (reference, answer))
    if not wanted and not given_:
        return float(reference == answer)
    common = _longest_common_subsequence(wanted, given_)
    if common == 0:
        return 0.0
    precision, recall = common / len(given_), common / len(wanted)
    return 2 * precision * recall / (precision + recall)


_WORD = st.sampled_from(["Cat", "cats", "sat,", "on", "a", "mat.", "42", "-"])
_WORDS = st.lists(_WORD, max_size=12).map(" ".join)


@settings(deadline=None)  # the first call imports rouge_score
@given(reference=_WORDS, answer=_WORDS)
def test_rouge_l_is_the_f_measure_of_the_longest_common_subsequence(reference: str, answer: str) -> None:
    # A handful of float64 operations in another order: a relative error of a few 2e-16.
    assert rouge_l(reference, answer) == pytest.approx(_rouge_l_twin(reference, answer), rel=1e-14)


def test_rouge_l_does_not_stem() -> None:
    assert rouge_l("cats", "cat") == 0.0


@pytest.mark.parametrize("text", TEXTS.values(), ids=list(TEXTS))
def test_identical_texts_of_any_language_score_one(text: str) -> None:
    assert rouge_l(text, text) == 1.0
    assert rouge_l(text, unicodedata.normalize("NFD", text)) == 1.0


@given(st.text(max_size=30))
def test_any_text_is_like_itself(text: str) -> None:
    assert rouge_l(text, text) == 1.0


@given(ASCII, ASCII)
def test_on_ascii_the_score_is_the_rouge_score_packages(truth: str, text: str) -> None:
    expected = RougeScorer(["rougeL"], use_stemmer=False).score(truth, text)["rougeL"].fmeasure
    if truth != text or split_words(truth):  # without any word the package says 0 even of equal texts
        assert rouge_l(truth, text) == expected


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
