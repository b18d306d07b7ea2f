"""How alike two texts, or two rows of tokens, are: the measures behind "it came out again", for any language.

Pure functions on strings and token ids. All similarities are 1 for equal texts in every script; distances are 0.
"""

from collections.abc import Sequence

import numpy as np
from rapidfuzz.distance import LCSseq, Levenshtein

from confide.evaluate.rouge import split_words


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
