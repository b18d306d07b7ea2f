"""How alike two texts, or two rows of tokens, are: the measures behind "it came out again", for any language.

Pure functions on strings and token ids. All similarities are 1 for equal texts in every script; distances are 0.
"""

import unicodedata
from collections.abc import Sequence
from functools import cache
from typing import Protocol

import numpy as np
from rapidfuzz.distance import LCSseq, Levenshtein

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


class TextIndex:
    """Texts that many others are compared with, each split into words once.

    Args:
        truths: at least one.

    Raises:
        ValueError: there are none.
    """

    def __init__(self, truths: Sequence[str]) -> None:
        if not truths:
            raise ValueError("expected at least one text to compare with, got none")
        self._truths = tuple(truths)
        self._words = [split_words(truth) for truth in truths]

    def similarities(self, text: str) -> list[float]:
        """Gives the `rouge_l` of a text against each truth: the same numbers, far faster than one by one."""
        words = split_words(text)
        return [
            _f_measure(truth_words, words) if truth_words or words else float(truth == text)
            for truth, truth_words in zip(self._truths, self._words, strict=True)
        ]


def token_distance(truth: Sequence[int], tokens: Sequence[int]) -> float:
    """Gives the Levenshtein distance between token ids over the longer one's length, in [0, 1]; 0 for two empty ones.

    A near match, as audits count it, is a distance of at most 0.1.
    """
    return float(Levenshtein.normalized_distance(list(truth), list(tokens)))


def longest_common_tokens(truth: Sequence[int], tokens: Sequence[int]) -> tuple[int, ...]:
    """Gives the longest run of consecutive tokens that both have; of equally long ones the first in `truth`."""
    found = _longest_common_run(truth, tokens)
    return tuple(truth[found.start : found.stop])


def num_matching_prefix(truth: Sequence[int], tokens: Sequence[int]) -> int:
    """Counts the tokens that are the same from the beginning on."""
    for position, (expected, given) in enumerate(zip(truth, tokens, strict=False)):
        if expected != given:
            return position
    return min(len(truth), len(tokens))


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


def _f_measure(truth: Sequence[str], words: Sequence[str]) -> float:
    common = LCSseq.similarity(truth, words)
    if not common:
        return 0.0
    precision, recall = common / len(words), common / len(truth)
    return 2 * precision * recall / (precision + recall)


def _longest_common_run(first: Sequence[int], second: Sequence[int]) -> range:
    """Where in `first` the longest run stands that `second` has too; row by row of the usual quadratic table."""
    other = np.asarray(second, dtype=np.int64)
    lengths = np.zeros(other.size + 1, dtype=np.int64)  # of the run that ends at this place of both, by place in second
    best = range(0)
    for position, value in enumerate(first):
        lengths[1:] = np.where(other == value, lengths[:-1] + 1, 0)
        longest = int(lengths.max())
        if longest > len(best):
            best = range(position + 1 - longest, position + 1)
    return best
