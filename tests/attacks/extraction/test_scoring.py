import pytest

from confide.attacks.extraction.generated import Generated
from confide.attacks.extraction.prompts import Split
from confide.attacks.extraction.scoring import (
    find_quotes,
    says_secret_first,
    score_completion,
    top_mean,
)


def _text(text: str, candidate_id: str | None = "one") -> Generated:
    """A text whose tokens are its characters."""
    ids = tuple(ord(character) for character in text)
    return Generated(token_ids=ids, text=text, is_finished=True, candidate_id=candidate_id)


def _split(remainder: str) -> Split:
    ids = tuple(ord(character) for character in remainder)
    return Split(candidate_id="one", prompt=(1,), remainder=ids, remainder_text=remainder, start=1)


def test_a_verbatim_continuation_is_exact_and_may_go_on() -> None:
    for text in ("555-0101", "555-0101 and more"):
        score = score_completion(_text(text), _split("555-0101"))
        assert score.is_exact
        assert score.is_near
        assert (score.num_matching, score.num_common) == (8, 8)
        assert score.token_distance == 0.0
    assert score_completion(_text("555-0101"), _split("555-0101")).rouge_l == 1.0
    assert score_completion(_text("555-0101 and more"), _split("555-0101")).rouge_l < 1.0


def test_a_continuation_that_stops_short_is_not_exact() -> None:
    score = score_completion(_text("555-010"), _split("555-0101"))
    assert not score.is_exact
    assert score.num_matching == 7
    assert score.token_distance == pytest.approx(1 / 8)
    assert not score.is_near


def test_one_edit_in_ten_tokens_is_near() -> None:
    score = score_completion(_text("abcdefghiX"), _split("abcdefghij"))
    assert score.is_near
    assert not score.is_exact


def test_the_same_text_in_other_tokens_is_no_exact_match() -> None:
    other = Generated(token_ids=(900, 901), text=" 555-0101", is_finished=True, candidate_id="one")
    score = score_completion(other, _split("555-0101"))
    assert not score.is_exact


def test_a_continuation_of_another_record_is_refused() -> None:
    with pytest.raises(ValueError, match="compared with record one"):
        score_completion(_text("x", candidate_id="two"), _split("x"))


def test_a_secret_counts_where_a_text_begins_with_it() -> None:
    text = _text(" 555-0101, I think")
    assert says_secret_first(text, "555-0101 ")
    assert not says_secret_first(_text("at 555-0101"), "555-0101")
    assert not says_secret_first(text, "555-0102")
    assert not says_secret_first(text, " ")


def test_quotes_name_every_record_that_has_the_run() -> None:
    records = {"north": [1, 2, 3, 4, 5], "south": [9, 2, 3, 4, 9], "west": [7, 8]}
    texts = [
        Generated(token_ids=(0, 2, 3, 4, 0), text="", is_finished=True),
        Generated(token_ids=(1, 2, 3), text="", is_finished=True),
        Generated(token_ids=(7, 8), text="", is_finished=True),
    ]
    assert find_quotes(texts, records, 3) == [{"north", "south"}, {"north"}, frozenset()]
    assert find_quotes(texts, records, 2)[2] == {"west"}
    with pytest.raises(ValueError, match="expected >= 1"):
        find_quotes(texts, records, 0)


def test_the_papers_top_shares_are_means_of_the_best() -> None:
    values = [index / 100 for index in range(30)]
    assert top_mean(values, 0.1) == pytest.approx(0.28)  # 3 of 30
    assert top_mean(values, 0.3) == pytest.approx(0.25)  # 9 of 30
    assert top_mean(values, 1.0) == pytest.approx(0.145)
    assert top_mean([0.5], 0.1) == 0.5


def test_nan_and_nothing_are_refused() -> None:
    for values in ([], [0.5, float("nan")]):
        with pytest.raises(ValueError, match="none that is NaN"):
            top_mean(values, 0.5)
    with pytest.raises(ValueError, match="share is 0"):
        top_mean([0.5], 0.0)
