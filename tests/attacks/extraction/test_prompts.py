import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.attacks.candidates import Candidate
from confide.attacks.extraction.prompts import Part, split_after, split_at_secret, split_by_share
from confide.data.examples import TokenizedExample
from confide.model.lora import AdaptedModel
from tests.attacks.extraction.conftest import CandidateMaker

END = (2,)


class _Numbers:
    """A tokenizer whose text is the ids themselves."""

    def decode(self, token_ids: object, *, skip_special_tokens: bool) -> str:
        assert skip_special_tokens
        return str(token_ids)


def _candidate(ids: list[int], num_prompt: int) -> Candidate:
    array = np.array(ids, np.int64)
    mask = np.arange(array.size) >= num_prompt
    return Candidate(
        candidate_id="one",
        example=TokenizedExample(record_id="one", input_ids=array, loss_mask=mask),
        text="",
        owner="north",
    )


@given(st.lists(st.integers(3, 9), min_size=2, max_size=30), st.integers(1, 29), st.sampled_from([0.0, 0.3, 0.8, 0.99]))
def test_a_split_is_the_record_cut_once(ids: list[int], num_prompt: int, share: float) -> None:
    candidate = _candidate([*ids, 2], min(num_prompt, len(ids)))
    parts: tuple[Part, ...] = ("learnt", "whole")
    for of in parts:
        split = split_by_share(candidate, share, _Numbers(), END, of)
        if split is None:
            # Nothing is learnt but the end token, or the share leaves no first token to give.
            assert num_prompt >= len(ids) if of == "learnt" else int(share * len(ids)) == 0
            continue
        assert [*split.prompt, *split.remainder] == ids
        assert split.start == len(split.prompt)
        assert split.stop == len(ids)
        assert split.remainder_text == str(list(split.remainder))


def test_a_share_counts_the_learnt_part_or_the_whole() -> None:
    candidate = _candidate([5] * 10 + list(range(10, 20)) + [2], 10)  # ten tokens of prompt, ten learnt, the end
    learnt = split_by_share(candidate, 0.8, _Numbers(), END)
    whole = split_by_share(candidate, 0.8, _Numbers(), END, "whole")
    assert learnt is not None
    assert whole is not None
    assert learnt.remainder == (18, 19)
    assert whole.remainder == (16, 17, 18, 19)


def test_prompts_keep_the_whole_records_tokens() -> None:
    # A tokenizer that merges a pair of letters: the beginning "a" of "ab" would be another token on its own.
    merged = {"ab": 7, "a": 3, "b": 4}
    candidate = _candidate([1, merged["ab"], merged["a"], merged["ab"]], 1)
    split = split_by_share(candidate, 0.4, _Numbers(), END)
    assert split is not None
    assert split.prompt == (1, 7)
    assert split.remainder == (3, 7)


def test_a_record_too_short_to_cut_gives_no_split() -> None:
    assert split_by_share(_candidate([5, 2], 1), 0.5, _Numbers(), END) is None  # only the end token is learnt
    assert split_by_share(_candidate([5, 6], 1), 0.3, _Numbers(), END, "whole") is None  # a prompt of no token
    assert split_after(_candidate([5] * 9, 1), 5, 5, _Numbers(), END) is None
    assert split_after(_candidate([5] * 9 + [2], 1), 5, 5, _Numbers(), END) is None


def test_fifty_and_fifty_are_the_records_first_hundred_tokens() -> None:
    split = split_after(_candidate(list(range(200)), 1), 50, 50, _Numbers(), END)
    assert split is not None
    assert split.prompt == tuple(range(50))
    assert split.remainder == tuple(range(50, 100))


def test_a_secret_is_cut_out_alone(model: AdaptedModel, make_candidate: CandidateMaker) -> None:
    split = split_at_secret(make_candidate("Call 555-0101 now", prompt="Who? ", secret="555-0101"), model.tokenizer)
    assert split is not None
    assert split.remainder_text == "555-0101"
    assert model.tokenizer.decode(list(split.prompt), skip_special_tokens=True) == "Who? Call "
    assert split_at_secret(make_candidate("Call now"), model.tokenizer) is None


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_an_impossible_share_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="expected at least 0 and below 1"):
        split_by_share(_candidate([5, 6, 7], 1), share, _Numbers(), END)


def test_no_text_shows_in_a_split() -> None:
    split = split_by_share(_candidate([7001, 7002, 7003], 1), 0.5, _Numbers(), END)
    assert "candidate_id='one'" in repr(split)
    assert "700" not in repr(split)
