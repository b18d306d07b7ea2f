"""B0, the blind baselines: how well are members told from others by their texts alone, without any model?

They measure the data, not the model, and so are the one exception to the rule that attacks get no labels: the truth is
an argument here. Where a blind baseline reaches what a membership attack reaches, members and others differ as texts
(topic, length, wording, time), and the attack's number says nothing about what the model leaks.

A score comes from a classifier that was trained on other folds only. What it can find, a reader of the data could find.
"""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from confide.errors import DataError
from confide.seeds import derive_seed, stream

NUM_FOLDS = 5
MIN_PER_LABEL = 2 * NUM_FOLDS
"""Members, and others, that there must be at least: two of each in every fold."""

STANDARD_ERROR_FACTOR = math.sqrt(1 + NUM_FOLDS / (NUM_FOLDS - 1))
"""How much wider an interval of theirs must be than one for independent scores: 1.5 times. Folds share most of their
training records, so out-of-fold scores err together; with the usual interval every sixth blind AUC on equal texts would
look like a difference.

Source: Nadeau and Bengio 2003, "Inference for the Generalization Error", the corrected variance: its factor is
1 + num_folds * num_test / num_train."""

MIN_DOCUMENT_SHARE = 0.05
"""A word counts if at least this share of the training folds' texts has it."""

# Scripts without spaces between words (Thai to Lao, Myanmar, Khmer, kana, Han): each character counts as a word.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")

Scores = npt.NDArray[np.float64]
_Labels = npt.NDArray[np.bool_]
_Features = npt.NDArray[np.float64]
_Fit = Callable[[_Features, _Labels, _Features, int], Scores]  # train features, labels, test features, seed


def blind_scores(texts: Sequence[str], is_member: Sequence[bool] | _Labels, *, seed: int) -> dict[str, Scores]:
    """Scores records by their texts alone, with classifiers that were trained on the other folds.

    Args:
        texts: of all candidates; members and others.
        is_member: the truth, one per text. Here and nowhere else among the attacks it is given.
        seed: of the run; folds and forests draw from streams named after it.

    Returns:
        By the name of every baseline in `BLIND_BASELINES`: shape (num_records,), the probability of being a member that
        a classifier gives which did not see the record's fold. Higher = member.

    Guarantees:
        - No classifier has seen the label of a record that it scores.
        - The same arguments give the same scores.

    Raises:
        DataError: there are fewer than `MIN_PER_LABEL` members or others.
        ValueError: `texts` and `is_member` differ in length.

    Source: Das, Zhang, Tramer 2024, "Blind Baselines Beat Membership Inference Attacks for Foundation Models"; Meeus et
        al. 2024, "SoK: Membership Inference Attacks on LLMs are Rushing Nowhere": a bag of words in at least 5 % of the
        texts, 5 folds. The length is added to the words, and stands alone as the third baseline.
    """
    labels = np.asarray(is_member, np.bool_)
    _check(texts, labels)
    folds = _deal([str(label) for label in labels], stream(seed, "blind folds"))
    return _out_of_fold(texts, labels, folds, seed)


def blind_scores_within_owners(
    texts: Sequence[str], is_member: Sequence[bool] | _Labels, owners: Sequence[str], *, seed: int
) -> dict[str, Scores]:
    """Gives the same, judged within each owner: what tells members from others of the same client.

    Where clients have different topics and different shares of members, "member" partly means "topic of client k". Here
    folds are dealt evenly by owner and label, and scores are standardised within each owner, so that knowing a record's
    owner is worth nothing. Attacks to compare with go through `standardise_within` as well.

    Args:
        texts: as in `blind_scores`.
        is_member: as there.
        owners: the client of every record.
        seed: as there.

    Returns:
        As `blind_scores`, in standard deviations of the owner's scores.

    Raises:
        DataError: as there.
        ValueError: the arguments differ in length.
    """
    labels = np.asarray(is_member, np.bool_)
    _check(texts, labels)
    strata = [f"{label} {owner}" for label, owner in zip(labels, owners, strict=True)]
    folds = _deal(strata, stream(seed, "blind folds", "within owners"))
    return {
        name: standardise_within(scores, owners) for name, scores in _out_of_fold(texts, labels, folds, seed).items()
    }


def standardise_within(scores: Scores, owners: Sequence[str]) -> Scores:
    """Gives scores minus their owner's mean, over the owner's standard deviation; 0 where an owner's are all equal.

    Args:
        scores: of any attack, shape (num_records,), finite.
        owners: the client of every record.
    """
    names = np.array(owners, np.str_)
    if names.shape != scores.shape:
        raise ValueError(f"{names.size} owners for {scores.size} scores")
    found = np.zeros_like(scores)
    for name in set(owners):
        own = names == name
        if np.ptp(scores[own]) > 0:
            found[own] = (scores[own] - scores[own].mean()) / scores[own].std()
    return found


def words(text: str) -> list[str]:
    """Splits a text into words of any script, in small letters.

    A word is a run of letters, digits and underscores; in scripts that put no spaces between words, one character.
    """
    return _WORD.findall(unicodedata.normalize("NFC", text).casefold())


def _logistic(train: _Features, labels: _Labels, test: _Features, _seed: int) -> Scores:
    model = LogisticRegression(max_iter=5000).fit(train, labels)
    return np.asarray(model.predict_proba(test)[:, 1], np.float64)


def _forest(train: _Features, labels: _Labels, test: _Features, seed: int) -> Scores:
    # Leaves of five: trees grown to single records only learn noise from a few hundred texts.
    model = RandomForestClassifier(n_estimators=100, min_samples_leaf=5, random_state=seed % 2**32)
    return np.asarray(model.fit(train, labels).predict_proba(test)[:, 1], np.float64)


BLIND_BASELINES: Mapping[str, tuple[_Fit, bool]] = {
    "words_logistic": (_logistic, True),
    "words_forest": (_forest, True),
    "length": (_logistic, False),
}
"""By name: the classifier, and whether it reads the words beside the length."""


def _out_of_fold(texts: Sequence[str], labels: _Labels, folds: npt.NDArray[np.int64], seed: int) -> dict[str, Scores]:
    lengths = np.array([[math.log1p(len(text))] for text in texts], np.float64)  # (num_records, 1)
    counts = [Counter(words(text)) for text in texts]
    found = {name: np.empty(len(texts), np.float64) for name in BLIND_BASELINES}
    for fold in range(NUM_FOLDS):
        train, test = folds != fold, folds == fold
        with_words = np.hstack([lengths, _bag(counts, train)])
        for name, (fit, reads_words) in BLIND_BASELINES.items():
            features = with_words if reads_words else lengths
            fold_seed = derive_seed(seed, "blind", name, fold)
            found[name][test] = fit(features[train], labels[train], features[test], fold_seed)
    return found


def _bag(counts: Sequence[Counter[str]], train: _Labels) -> _Features:
    """log(1 + count) of every word that is common in the training folds, shape (num_records, num_words)."""
    document_counts = Counter(word for count, is_train in zip(counts, train, strict=True) if is_train for word in count)
    least = MIN_DOCUMENT_SHARE * int(train.sum())
    vocabulary = sorted(word for word, count in document_counts.items() if count >= least)
    bag = np.array([[count[word] for word in vocabulary] for count in counts], np.float64)
    return np.log1p(bag.reshape(len(counts), len(vocabulary)))


def _deal(strata: Sequence[str], rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Deals records into folds at random, each stratum as evenly as can be; shape (num_records,), from 0."""
    names = np.array(strata, np.str_)
    shuffled = rng.permutation(names.size)
    # Sorted by stratum, in random order within each, then dealt like cards: the deal goes on from stratum to stratum,
    # so that folds differ by at most one record in all.
    order = shuffled[np.argsort(names[shuffled], kind="stable")]
    folds = np.empty(names.size, np.int64)
    folds[order] = np.arange(names.size) % NUM_FOLDS
    return folds


def _check(texts: Sequence[str], labels: _Labels) -> None:
    if labels.shape != (len(texts),):
        raise ValueError(f"{labels.size} labels for {len(texts)} texts")
    num_members = int(labels.sum())
    if min(num_members, labels.size - num_members) < MIN_PER_LABEL:
        raise DataError(
            f"{num_members} members and {labels.size - num_members} others: the blind baselines need at least "
            f"{MIN_PER_LABEL} of each to train on some and be tested on the rest. Plant more canaries."
        )
