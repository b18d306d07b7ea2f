"""ROUGE-L of texts in any language: the words that it counts, and the score."""

import unicodedata
from functools import cache
from typing import Protocol

# Scripts that put no space between words, by how Unicode names their characters: each character is a word.
_UNSPACED = (
    "CJK",
    "IDEOGRAPHIC",
    "HIRAGANA",
    "KATAKANA",
    "HALFWIDTH KATAKANA",
    "BOPOMOFO",
    "THAI",
    "LAO",
    "KHMER",
    "MYANMAR",
    "TIBETAN",
)


def split_words(text: str) -> list[str]:
    """Splits a text into lower-case words: runs of letters, marks and digits of any script.

    Where a script does not separate words (Chinese, Japanese, Thai, Khmer, ...), each character with the marks on it
    is one. On ASCII text these are the words of the `rouge_score` package. Unicode's composed and decomposed forms of
    a character are the same.

    >>> split_words("Frau Müller, Zi. 4")
    ['frau', 'müller', 'zi', '4']
    >>> split_words("患者2024年")
    ['患', '者', '2024', '年']
    """
    words: list[str] = []
    is_open = False  # whether the next character may continue the last word
    for character in unicodedata.normalize("NFC", text.lower()):
        kind = _kind(character)
        if kind == "mark" and words and is_open:
            words[-1] += character
        elif kind == "unspaced":
            words.append(character)
        elif kind in ("spaced", "mark"):
            if is_open and _kind(words[-1][0]) != "unspaced":
                words[-1] += character
            else:
                words.append(character)
        is_open = kind != "separator"
    return words


def rouge_l(truth: str, text: str) -> float:
    """Gives the ROUGE-L F-measure of a text against the truth, in [0, 1], without stemming.

    The longest common subsequence of words over the text's number of words (precision) and the truth's (recall), and
    their harmonic mean; words are those of `split_words`, since the package's own are only a-z and 0-9, so that two
    equal Chinese texts would score 0. If neither text has a word (only punctuation, or nothing), equal ones score 1
    and different ones 0.

    Source: Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries", section 3.1, with beta = 1, as the
        `rouge_score` package computes it.
    """
    if not split_words(truth) and not split_words(text):
        return float(truth == text)
    return float(_rouge_scorer().score(truth, text)["rougeL"].fmeasure)


class _Tokenizer:
    """Hands `split_words` to the rouge_score package."""

    def tokenize(self, text: str) -> list[str]:
        return split_words(text)


class _RougeScore(Protocol):
    fmeasure: float


class _RougeScorer(Protocol):
    def score(self, target: str, prediction: str) -> dict[str, _RougeScore]: ...


@cache
def _rouge_scorer() -> _RougeScorer:
    from rouge_score.rouge_scorer import RougeScorer  # seconds to import: it brings nltk

    scorer: _RougeScorer = RougeScorer(["rougeL"], tokenizer=_Tokenizer())
    return scorer


@cache
def _kind(character: str) -> str:
    category = unicodedata.category(character)
    if category.startswith("M"):
        return "mark"
    if not category.startswith(("L", "N")):
        return "separator"
    is_unspaced = category.startswith("L") and unicodedata.name(character, "").startswith(_UNSPACED)
    return "unspaced" if is_unspaced else "spaced"
