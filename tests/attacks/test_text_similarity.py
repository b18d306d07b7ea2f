import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.attacks.text_similarity import (
    TextIndex,
    longest_common_tokens,
    num_matching_prefix,
    token_distance,
)
from confide.evaluate.rouge import rouge_l

TOKENS = st.lists(st.integers(0, 3), max_size=12)


@given(st.lists(st.text("ab c.患者", max_size=12), min_size=1, max_size=5), st.text("ab c.患者", max_size=12))
def test_an_index_gives_each_text_s_score(truths: list[str], text: str) -> None:
    scores = [rouge_l(truth, text) for truth in truths]
    assert TextIndex(truths).similarities(text) == pytest.approx(scores, rel=1e-15)


@pytest.mark.parametrize("text", ["患者于2024年5月就诊。", "Frau Müller", "?!"])
def test_a_text_of_any_script_is_like_itself(text: str) -> None:
    assert TextIndex(["x", text]).similarities(text)[1] == 1.0


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
