from collections import Counter

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.attacks import blind
from confide.attacks.blind import (
    BLIND_BASELINES,
    STANDARD_ERROR_FACTOR,
    blind_scores,
    blind_scores_within_owners,
    standardise_within,
    words,
)
from confide.errors import DataError

Labels = npt.NDArray[np.bool_]
every_baseline = pytest.mark.parametrize("name", BLIND_BASELINES)
word_baselines = pytest.mark.parametrize("name", ["words_logistic", "words_forest"])

# Word frequencies fall like in a language.
VOCABULARY = np.array([f"word{number}" for number in range(200)])
FREQUENCIES = 1 / np.arange(1, 201) / np.sum(1 / np.arange(1, 201))


def draw_text(rng: np.random.Generator, shift: int = 0, longer: int = 0) -> str:
    """Between 10 and 30 words, `longer` more; `shift` moves the frequencies to other words."""
    return " ".join(np.roll(VOCABULARY, shift)[rng.choice(200, size=rng.integers(10, 31) + longer, p=FREQUENCIES)])


def auc(scores: npt.NDArray[np.float64], labels: Labels) -> float:
    """The share of pairs that are in order, ties counting half, by its definition."""
    members, others = scores[labels], scores[~labels]
    return float(np.mean((members[:, None] > others) + 0.5 * (members[:, None] == others)))


def covers_chance(scores: npt.NDArray[np.float64], labels: Labels, num_errors: float = 1.96) -> bool:
    """Whether the AUC is within so many (corrected) standard errors of 0.5, by the null's variance."""
    num_members, num_others = int(labels.sum()), int((~labels).sum())
    standard_error = np.sqrt((num_members + num_others + 1) / (12 * num_members * num_others))
    return bool(abs(auc(scores, labels) - 0.5) <= num_errors * STANDARD_ERROR_FACTOR * standard_error)


RNG = np.random.default_rng(9)
LABELS = RNG.permutation(np.arange(160) % 2 == 0)
EQUAL = blind_scores([draw_text(RNG) for _ in LABELS], LABELS, seed=1)
SHIFTED = blind_scores([draw_text(RNG, shift=3 * label) for label in LABELS], LABELS, seed=1)


@every_baseline
def test_on_texts_of_one_distribution_the_interval_covers_chance(name: str) -> None:
    assert EQUAL[name].shape == LABELS.shape
    assert np.isfinite(EQUAL[name]).all()
    # Three baselines on one set of texts: 2.6 errors leave each wrong once in a hundred sets.
    assert covers_chance(EQUAL[name], LABELS, num_errors=2.6)


@word_baselines
def test_members_that_use_other_words_are_found(name: str) -> None:
    assert auc(SHIFTED[name], LABELS) > 0.9


def test_members_that_are_shorter_are_found_by_length() -> None:
    rng = np.random.default_rng(3)
    texts = [draw_text(rng, longer=0 if label else 20) for label in LABELS]
    assert all(auc(scores, LABELS) > 0.9 for scores in blind_scores(texts, LABELS, seed=1).values())


def test_members_in_a_script_without_spaces_are_found() -> None:
    rng = np.random.default_rng(3)
    signs = {True: "東京大学医学部附属病院", False: "東京大学法学部図書館員"}
    texts = ["".join(rng.choice(list(signs[bool(label)]), size=12)) for label in LABELS]
    assert auc(blind_scores(texts, LABELS, seed=1)["words_logistic"], LABELS) > 0.9


def test_corrected_intervals_cover_chance_as_often_as_they_say_and_usual_ones_do_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    quick = {name: BLIND_BASELINES[name] for name in ("words_logistic", "length")}
    monkeypatch.setattr(blind, "BLIND_BASELINES", quick)
    rng = np.random.default_rng(17)
    labels = np.arange(60) % 2 == 0
    corrected, usual, aucs = [], [], []
    for seed in range(60):
        for scores in blind_scores([draw_text(rng) for _ in labels], labels, seed=seed).values():
            corrected.append(covers_chance(scores, labels))
            usual.append(covers_chance(scores, labels, num_errors=1.96 / STANDARD_ERROR_FACTOR))
            aucs.append(auc(scores, labels))
    # 120 intervals, of which 5 % may miss: 6, and at most 14 but once in a thousand times.
    assert corrected.count(False) <= 14
    assert usual.count(False) > 14
    # An AUC's deviation is about 0.11 here, its mean's over 120 about 0.01; three of those.
    assert abs(np.mean(aucs) - 0.5) < 0.03


@word_baselines
def test_the_topic_of_a_client_is_no_sign_of_membership_within_clients(name: str) -> None:
    rng = np.random.default_rng(5)
    owners = ["north" if number < 80 else "south" for number in range(160)]
    is_member = np.array([rng.random() < (0.85 if owner == "north" else 0.15) for owner in owners])
    texts = [draw_text(rng, shift=0 if owner == "north" else 50) for owner in owners]
    assert auc(blind_scores(texts, is_member, seed=2)[name], is_member) > 0.75
    within = blind_scores_within_owners(texts, is_member, owners, seed=2)[name]
    # Each owner for itself: what a record's owner tells about it is gone.
    for owner in ("north", "south"):
        own = np.array(owners) == owner
        assert covers_chance(within[own], is_member[own], num_errors=2.6)
        assert within[own].mean() == pytest.approx(0.0, abs=1e-12)


@word_baselines
def test_other_words_of_members_are_found_within_clients(name: str) -> None:
    rng = np.random.default_rng(5)
    owners = ["north" if number % 4 < 2 else "south" for number in range(160)]
    texts = [
        draw_text(rng, shift=(50 if owner == "south" else 0) + 3 * label)
        for owner, label in zip(owners, LABELS, strict=True)
    ]
    assert auc(blind_scores_within_owners(texts, LABELS, owners, seed=2)[name], LABELS) > 0.85


def test_the_same_arguments_give_the_same_scores_and_another_seed_others() -> None:
    rng = np.random.default_rng(8)
    texts, labels = [draw_text(rng) for _ in range(40)], np.arange(40) % 2 == 0
    one, again, other = (blind_scores(texts, labels, seed=seed) for seed in (1, 1, 2))
    assert all(np.array_equal(one[name], again[name]) for name in BLIND_BASELINES)
    assert not any(np.array_equal(one[name], other[name]) for name in BLIND_BASELINES)


def test_no_classifier_has_seen_the_label_of_a_record_that_it_scores() -> None:
    rng = np.random.default_rng(1)
    texts, labels = [draw_text(rng) for _ in range(60)], np.arange(60) % 2 == 0
    folds = np.arange(60) // 12
    flipped = np.where(folds == 3, ~labels, labels)
    before, after = (blind._out_of_fold(texts, given, folds, seed=0) for given in (labels, flipped))
    for name in BLIND_BASELINES:
        assert np.array_equal(before[name][folds == 3], after[name][folds == 3])
        assert not np.array_equal(before[name][folds != 3], after[name][folds != 3])


@given(st.lists(st.sampled_from(["True north", "True south", "False north"]), min_size=5, max_size=60))
def test_folds_are_even_in_all_and_in_every_stratum(strata: list[str]) -> None:
    folds = blind._deal(strata, np.random.default_rng(0))
    for wanted in (*set(strata), None):
        counts = Counter(int(fold) for fold, name in zip(folds, strata, strict=True) if wanted in (None, name))
        assert max(counts.values()) - min(counts[fold] for fold in range(5)) <= 1


def test_folds_are_drawn_and_do_not_follow_the_records_order() -> None:
    one, again, other = (blind._deal(["one"] * 50, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
    assert not np.array_equal(one, np.arange(50) % 5)


def test_texts_without_a_common_word_and_of_one_length_tell_nothing() -> None:
    texts = [f"{number:06d}" for number in range(40)]
    found = blind_scores(texts, np.arange(40) % 2 == 0, seed=0)
    # A model without a feature that varies gives everybody the share of members it trained on, a half.
    assert all(scores == pytest.approx(0.5, abs=0.02) for name, scores in found.items() if name != "words_forest")
    assert np.isfinite(found["words_forest"]).all()


def test_too_few_of_either_are_refused() -> None:
    texts = ["text"] * 30
    with pytest.raises(DataError, match="9 members and 21 others: the blind baselines need at least 10 of each"):
        blind_scores(texts, [True] * 9 + [False] * 21, seed=0)
    with pytest.raises(DataError, match="21 members and 9 others"):
        blind_scores_within_owners(texts, [True] * 21 + [False] * 9, ["north"] * 30, seed=0)


def test_arguments_of_other_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="29 labels for 30 texts"):
        blind_scores(["text"] * 30, [True] * 29, seed=0)
    with pytest.raises(ValueError, match="2 owners for 3 scores"):
        standardise_within(np.zeros(3), ["north", "south"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Dr. Müller's 2nd visit", ["dr", "müller", "s", "2nd", "visit"]),
        ("Mu\u0308ller", ["müller"]),
        ("東京 tower東京", ["東", "京", "tower", "東", "京"]),
        ("Привет, мир", ["привет", "мир"]),
        ("한국어 단어", ["한국어", "단어"]),
        ("... !?", []),
    ],
)
def test_words_are_those_of_any_script(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_standardising_within_owners_is_by_hand() -> None:
    found = standardise_within(np.array([1.0, 10.0, 3.0, 10.0, 7.0]), ["a", "b", "a", "b", "c"])
    assert list(found) == [-1.0, 0.0, 1.0, 0.0, 0.0]
