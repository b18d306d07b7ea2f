import re
import time
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.canaries.near_duplicates import MIN_COVERAGE, SHINGLE_WORDS, find_near_duplicates

LETTER = (
    "Dear colleague, thank you for sending Mrs Hill, who has had a cough for three weeks and sleeps badly. The chest "
    "is clear and her weight is stable. We agreed on an inhaler twice a day and a review in six weeks."
)


def is_repeated_by(text: str, other: str) -> bool:
    """The obvious twin, for words of ASCII letters and digits: sets of tuples of words."""

    def shingles(one: str) -> set[tuple[str, ...]]:
        words = re.findall(r"[a-z0-9]+", one.lower())
        width = min(SHINGLE_WORDS, len(words))
        return {tuple(words[start : start + width]) for start in range(len(words) - width + 1)}

    mine = shingles(text)
    return len(mine & shingles(other)) >= MIN_COVERAGE * len(mine) - 1e-9


def reference(texts: Sequence[str], others: Sequence[str] | None = None) -> list[bool]:
    return [
        any(
            is_repeated_by(text, other)
            for place, other in enumerate(texts if others is None else others)
            if others is not None or place != position
        )
        for position, text in enumerate(texts)
    ]


TEXTS = st.lists(st.lists(st.sampled_from("abc"), max_size=14).map(" ".join), max_size=8)


@given(texts=TEXTS)
def test_within_a_list_it_equals_comparing_all_pairs(texts: list[str]) -> None:
    assert find_near_duplicates(texts).tolist() == reference(texts)


@given(texts=TEXTS, others=TEXTS)
def test_against_others_it_equals_comparing_all_pairs(texts: list[str], others: list[str]) -> None:
    assert find_near_duplicates(texts, others).tolist() == reference(texts, others)


@pytest.mark.parametrize("seed", range(4))
def test_long_texts_that_share_parts_equal_comparing_all_pairs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    stock = [str(word) for word in rng.integers(10**6, size=4000)]
    texts: list[str] = []
    for _ in range(60):
        start, length, own = rng.integers(3600), rng.integers(10, 300), rng.integers(60)
        texts.append(" ".join([*stock[start : start + length], *map(str, rng.integers(10**6, size=own))]))
        if rng.random() < 0.5:  # a part of an earlier one, with some of its words changed
            words = texts[rng.integers(len(texts))].split()[: rng.integers(5, 300)]
            for _ in range(rng.integers(4)):
                words[rng.integers(len(words))] = "changed"
            texts.append(" ".join(words))
    half = len(texts) // 2
    expected = reference(texts)
    assert 5 < sum(expected) < len(texts) - 5
    assert find_near_duplicates(texts).tolist() == expected
    assert find_near_duplicates(texts[:half], texts[half:]).tolist() == reference(texts[:half], texts[half:])


def test_the_rarest_shingle_may_be_another_texts() -> None:
    text = "one two three four five six seven eight nine"  # five shingles
    holds_four = "one two three four five six seven eight"
    holds_the_fifth = "five six seven eight nine"
    others = [f"{holds_four} ten", f"{holds_four} eleven", holds_the_fifth]
    assert find_near_duplicates([text], others).tolist() == reference([text], others) == [True]
    assert find_near_duplicates([text], others[2:]).tolist() == [False]


@pytest.mark.parametrize("change", [str.upper, lambda text: text.replace(", ", " - "), lambda text: f"\n{text} "])
def test_case_punctuation_and_blanks_make_no_difference(change: object) -> None:
    assert callable(change)
    assert find_near_duplicates([LETTER], [change(LETTER)]).all()


def test_one_changed_word_makes_a_near_duplicate_and_a_shared_sentence_none() -> None:
    changed = LETTER.replace("Hill", "Moss")
    sharing = "Dear colleague, thank you for sending Mrs Moss, who has had a cough for " + " ".join(map(str, range(30)))
    assert find_near_duplicates([LETTER, changed, sharing]).tolist() == [True, True, False]


def test_a_text_that_a_longer_one_quotes_is_repeated_and_the_longer_one_is_not() -> None:
    longer = " ".join(["One", *map(str, range(40)), LETTER, *map(str, range(60))])
    assert find_near_duplicates([LETTER, longer]).tolist() == [True, False]


def test_scripts_without_blanks_are_compared_by_character() -> None:
    text = "患者は三週間前から咳が続いており、夜も眠れないと訴えています。"
    changed = text.replace("三", "四")
    other = "来月の予約は午後二時に変更されましたので、受付にお越しください。"
    assert find_near_duplicates([text, changed, other]).tolist() == [True, True, False]


def test_texts_without_words_repeat_only_each_other() -> None:
    assert find_near_duplicates(["", "...", "word"]).tolist() == [True, True, False]
    assert find_near_duplicates([], []).tolist() == find_near_duplicates([]).tolist() == []
    assert find_near_duplicates(["word"], []).tolist() == [False]


@pytest.mark.parametrize("repeats", [True, False])
def test_time_grows_about_as_the_number_of_texts(repeats: bool) -> None:
    # All alike and all different: the two ends where comparing everybody with everybody would show.
    rng = np.random.default_rng(0)
    texts = [LETTER if repeats else " ".join(map(str, rng.integers(20_000, size=60))) for _ in range(4000)]
    started = time.perf_counter()
    found = find_near_duplicates(texts)
    assert found.all() if repeats else not found.any()
    assert time.perf_counter() - started < 20  # under 2 s alone; all pairs take minutes
