"""Tuning on own pairs: what is cut out, and that it teaches what stands in the pairs and nothing by itself."""

import numpy as np
import pytest

from confide.attacks.extraction.own_pairs import LEARNING_RATE, MOST_PAIRS, collect_pairs, like_base, tune_on_pairs
from confide.attacks.extraction.recogniser import Recogniser
from confide.attacks.passes import Passes
from confide.data.examples import TokenizedExample
from confide.model.lora import AdaptedModel
from confide.update import Vector
from tests.attacks.extraction.conftest import CandidateMaker

RECOGNISER = Recogniser({"phone": r"555-\d{4}"})


@pytest.fixture
def pairs(model: AdaptedModel, make_candidate: CandidateMaker) -> list[TokenizedExample]:
    examples = [make_candidate(f"{name}: 555-01{place}0").example for place, name in enumerate(("Uma", "Vic", "Kai"))]
    return collect_pairs(examples, RECOGNISER, model.tokenizer, num_context_tokens=5)


def loss(passes: Passes, adapter: Vector | None, pairs: list[TokenizedExample]) -> float:
    return -float(np.mean([one.logp[one.is_target].mean() for one in passes.stats(adapter, pairs)]))


def test_pairs_are_the_tokens_before_a_string_and_the_string(
    model: AdaptedModel, make_candidate: CandidateMaker
) -> None:
    examples = [make_candidate(text).example for text in ("call Zoë: 555-0177 or 555-0178!", "nothing")]
    pairs = collect_pairs(examples, RECOGNISER, model.tokenizer, num_context_tokens=4)
    cut = [
        tuple(model.tokenizer.decode(pair.input_ids[part].tolist()) for part in (~pair.loss_mask, pair.loss_mask))
        for pair in pairs
    ]
    assert [learnt for _, learnt in cut] == ["555-0177", "555-0178"]
    assert [before[-2:] for before, _ in cut] == [": ", "r "]
    assert all((~pair.loss_mask).sum() == 4 for pair in pairs)


@pytest.mark.parametrize("is_base", [False, True])
def test_tuning_lowers_the_loss_on_the_pairs(
    passes: Passes, trained_rounds: dict[int, Vector], pairs: list[TokenizedExample], is_base: bool
) -> None:
    start = like_base(passes, trained_rounds[200]) if is_base else trained_rounds[200]
    before = start.copy()
    tuned = tune_on_pairs(passes, start, pairs)
    assert loss(passes, tuned, pairs) < loss(passes, start, pairs)
    np.testing.assert_array_equal(start, before)
    np.testing.assert_array_equal(tune_on_pairs(passes, start, pairs), tuned)
    # Only B moves, and by Adam's first steps: each by at most the rate, up to the two moments' different memories.
    part = passes.model.layout.select(slot.name for slot in passes.model.layout if ".lora_A." in slot.name)
    np.testing.assert_array_equal(passes.model.layout.gather(tuned, part), passes.model.layout.gather(start, part))
    assert 0 < np.abs(tuned - start).max() < 3 * LEARNING_RATE


def test_the_control_begins_as_the_base_model(
    passes: Passes, trained_rounds: dict[int, Vector], pairs: list[TokenizedExample]
) -> None:
    start = like_base(passes, trained_rounds[200])
    assert loss(passes, start, pairs) == pytest.approx(loss(passes, None, pairs), rel=1e-5)


def test_no_more_than_so_many_pairs_are_read(
    passes: Passes, trained_rounds: dict[int, Vector], pairs: list[TokenizedExample]
) -> None:
    many = pairs * MOST_PAIRS
    np.testing.assert_array_equal(
        tune_on_pairs(passes, trained_rounds[200], many), tune_on_pairs(passes, trained_rounds[200], many[:MOST_PAIRS])
    )
