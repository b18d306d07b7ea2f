"""Disturbed prompts: the attacker knows a record's beginning only roughly, so some of its words are others.

The leakage paper takes a word's nearest synonym by word vectors (GoogleNews-vectors-negative300) with the same part of
speech. These vectors cannot be had without a network and know English only. Here a word is replaced by a random one of
the same length class and capitals, out of the candidates' own words. It differs: a random word says something else,
where a synonym says almost the same, so this attacker knows less than the paper's, and what it gets out is rather less.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from confide.attacks.candidates import Candidate
from confide.attacks.extraction.generated import Decoder, decode_tokens
from confide.attacks.extraction.prompts import Split
from confide.seeds import stream

REPLACED_SHARE = 0.4
"""The paper's p: how likely each word is replaced."""

# Between white space; what is no plain word (numbers, e-mail addresses, links, ids, hyphenated ones) is never touched.
_PIECE = re.compile(r"\S+")
_PLAIN = re.compile(r"([\"'(\[]*)([^\W\d_]+)([.,;:!?\"')\]]*)")
# Words with up to three letters are kept in every language; these are the longer ones of English that carry little.
_ENGLISH = """
about above after again against also although among because been before being below between both cannot could does
doing down during each else ever every from further have having hers herself himself however into itself just less many
might more most much must myself neither never none only onto other ours over same shall should since some such than
that their theirs them themselves then there these they this those though through thus under until upon very were what
when where whether which while whom whose will with within without would your yours yourself
"""
_STOP_WORDS = frozenset(_ENGLISH.split())
_CLASS_STARTS = (4, 6, 9, 13)  # shortest word of each length class


class Encoder(Decoder, Protocol):
    """What turning a disturbed text into tokens needs of a transformers tokenizer."""

    def __call__(self, text: str, *, add_special_tokens: bool) -> Mapping[str, list[int]]:
        """Gives the "input_ids" of a text."""


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """Words that may be replaced, and may replace others.

    Attributes:
        by_class: lower-case words by length class, sorted.
    """

    by_class: Mapping[int, tuple[str, ...]]

    def __contains__(self, word: str) -> bool:
        return word in self.by_class.get(_length_class(word), ())


def collect_words(texts: Iterable[str]) -> Vocabulary:
    """Collects the words that stand in lower case somewhere in the texts, without stop words.

    A word that only ever has a capital is taken for a name and is neither replaced nor used; in German that keeps all
    nouns. Scripts without spaces between words have no words here, so nothing of them is replaced.
    """
    words = {
        match[2]
        for text in texts
        for piece in _PIECE.findall(text)
        if (match := _PLAIN.fullmatch(piece)) and match[2].islower() and _is_telling(match[2])
    }
    classes: dict[int, list[str]] = {}
    for word in sorted(words):
        classes.setdefault(_length_class(word), []).append(word)
    return Vocabulary(by_class={number: tuple(found) for number, found in classes.items()})


def disturb_text(text: str, vocabulary: Vocabulary, probability: float, draws: np.random.Generator) -> str:
    """Replaces each word of the vocabulary with the given probability by another of its length class.

    Names, numbers, e-mail addresses, stop words, white space and punctuation stay as they are, and so does a word that
    is alone in its class. Capitals are kept: all, the first, or none.
    """

    def maybe_replaced(found: re.Match[str]) -> str:
        match = _PLAIN.fullmatch(found[0])
        if match is None or match[2].lower() not in vocabulary or draws.random() >= probability:
            return found[0]
        word = match[2].lower()
        others = [other for other in vocabulary.by_class[_length_class(word)] if other != word]
        return match[1] + _as_shaped(draws.choice(others), match[2]) + match[3] if others else found[0]

    return _PIECE.sub(maybe_replaced, text)


def disturb_split(
    split: Split,
    candidate: Candidate,
    vocabulary: Vocabulary,
    tokenizer: Encoder,
    *,
    seed: int,
    probability: float = REPLACED_SHARE,
) -> Split:
    """Disturbs the learnt part of a prompt; the remainder is what it was.

    What stands before the learnt part (instruction, chat template) stays, as its words are part of the format. Where no
    word was replaced the tokens stay the same; otherwise the disturbed part has to be tokenised anew.

    Args:
        split: made from `candidate`.
        candidate: the record, for where its learnt part begins.
        vocabulary: as `collect_words` makes it from all candidates' texts.
        tokenizer: of the model.
        seed: draws come from the stream (seed, "disturb", candidate id).
        probability: that a word is replaced, in [0, 1].

    Source: the leakage paper (arXiv 2509.20680), appendix D, p = 0.4; see the module's head for what differs.
    """
    is_learnt = candidate.example.loss_mask[: len(split.prompt)]
    start = int(is_learnt.argmax()) if is_learnt.any() else len(split.prompt)
    before: Sequence[int] = split.prompt[:start]
    text = decode_tokens(tokenizer, split.prompt[start:])
    changed = disturb_text(text, vocabulary, probability, stream(seed, "disturb", candidate.candidate_id))
    if changed == text:
        return split
    return replace(split, prompt=(*before, *tokenizer(changed, add_special_tokens=False)["input_ids"]))


def _is_telling(word: str) -> bool:
    return len(word) >= _CLASS_STARTS[0] and word not in _STOP_WORDS


def _length_class(word: str) -> int:
    return sum(len(word) >= start for start in _CLASS_STARTS)


def _as_shaped(word: str, model: str) -> str:
    if model.isupper():
        return word.upper()
    return word.capitalize() if model[0].isupper() else word
