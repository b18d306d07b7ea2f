"""Finds texts that another text repeats, exactly or nearly: their membership cannot be told apart.

Exact, with an inverted index instead of hashed samples: for the sizes that a federation audits there is no need to
estimate.
"""

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from confide.seeds import stream

SHINGLE_WORDS = 5
"""A shingle is so many words in a row; a shorter text is one shingle."""

MIN_COVERAGE = 0.8
"""The share of a text's shingles that another one has to hold."""

# Chinese and Japanese write no blanks: each of their characters counts as a word.
_WORD = re.compile(
    r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]|[^\W\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+"
)

Shingles = npt.NDArray[np.uint64]


def find_near_duplicates(texts: Sequence[str], others: Sequence[str] | None = None) -> npt.NDArray[np.bool_]:
    """Says which texts are repeated by another one.

    A text is repeated by another that holds at least `MIN_COVERAGE` of its shingles. Upper and lower case, punctuation
    and blanks make no difference. This finds every text whose shingles have a Jaccard similarity of at least that with
    another's, every one that is quoted whole (from five words on) in a longer one, and every one of whose 13-grams that
    share is in another; a common opening or a fixed phrase is no repetition.

    Args:
        texts: to judge.
        others: where to look for repetitions; without them, among the texts themselves apart from the text's own place.

    Returns:
        Shape (len(texts),), bool. A text without any word is repeated by another without any.

    Source: Broder 1997, "On the resemblance and containment of documents": containment, which is at least
        the resemblance that MinHash estimates; here counted, not sampled. Threshold as in Lee et al. 2022,
        "Deduplicating Training Data Makes Language Models Better", section 4.2.
    """
    vocabulary: dict[str, int] = {}
    judged = [_shingles(text, vocabulary) for text in texts]
    index = _Index(judged if others is None else [_shingles(text, vocabulary) for text in others])
    num_own = 1 if others is None else 0  # a text that is in the index itself is there once
    return np.array([index.num_equal(one) > num_own or index.covers(one, num_own) for one in judged], dtype=np.bool_)


class _Index:
    """Which texts hold a shingle."""

    def __init__(self, texts: Sequence[Shingles]) -> None:
        self._texts = texts
        self._equal = Counter(one.tobytes() for one in texts)
        joined = np.concatenate([np.empty(0, np.uint64), *texts])
        owners = np.repeat(np.arange(len(texts)), [one.size for one in texts])
        order = np.argsort(joined, kind="stable")
        self._owners = owners[order]  # (num_entries,), of one shingle after another
        self._known, starts = np.unique(joined[order], return_index=True)
        self._bounds = np.append(starts, joined.size)  # (num_known + 1,)

    def num_equal(self, shingles: Shingles) -> int:
        """How many of the texts have exactly these shingles."""
        return self._equal[shingles.tobytes()]

    def covers(self, shingles: Shingles, num_own: int) -> bool:
        """Whether one of the texts holds enough of the shingles, without having exactly them.

        Args:
            shingles: of the text to judge.
            num_own: how many of the texts in the index are that one, 0 or 1.
        """
        num_needed = int(np.ceil(MIN_COVERAGE * shingles.size - 1e-9))  # 0.8 * 5 must not become 5
        within = shingles[shingles <= self._known[-1]] if self._known.size else shingles[:0]
        places = np.searchsorted(self._known, within)
        places = places[self._known[places] == within]  # those that any text holds
        frequencies = self._bounds[places + 1] - self._bounds[places]
        places, frequencies = places[frequencies > num_own], frequencies[frequencies > num_own]
        if places.size < num_needed:
            return False
        places = places[np.argsort(frequencies, kind="stable")]
        seen: set[int] = set()
        for place in places[: places.size - num_needed + 1]:  # who holds enough misses few, so has one of the rarest
            for owner in self._owners[self._bounds[place] : self._bounds[place + 1]].tolist():
                if owner in seen:
                    continue
                seen.add(owner)
                found = self._texts[owner]
                if (
                    not np.array_equal(found, shingles)
                    and np.isin(shingles, found, assume_unique=True).sum() >= num_needed
                ):
                    return True
        return False


def _shingles(text: str, vocabulary: dict[str, int]) -> Shingles:
    """The different shingles of a text as numbers; words are numbered as they come."""
    words = _WORD.findall(text.lower())
    ids = np.array([vocabulary.setdefault(word, len(vocabulary) + 1) for word in words], dtype=np.uint64)
    width = max(min(SHINGLE_WORDS, ids.size), 1)
    ids = np.append(ids, np.zeros(width - min(width, ids.size), np.uint64))  # a text without words has one shingle too
    windows = np.lib.stride_tricks.sliding_window_view(ids, width)  # (num_shingles, width)
    return np.unique((windows * _MULTIPLIERS[:width]).sum(axis=1, dtype=np.uint64))


# A sum of products with random odd numbers modulo 2**64: two different shingles agree by chance once in about 2**63.
_MULTIPLIERS = stream(0, "shingles").integers(2**63, size=SHINGLE_WORDS, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
