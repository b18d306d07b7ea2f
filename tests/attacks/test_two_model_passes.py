"""Answers of two models together are computed once, and are those of the attack itself."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from confide.attacks.decoding import DecodingScheme
from confide.attacks.extraction.two_model import Amplification, complete_with_two
from confide.attacks.passes import Passes
from confide.errors import NonFiniteUpdateError
from confide.model.load import load_base_model
from confide.model.lora import AdaptedModel, LoraSettings, attach_lora
from tests.attacks.sure_models import random_adapter

PROMPTS = [[5, 6], [7, 8, 9, 10, 11], [3], [12, 13, 14]]
LIKELIEST = Amplification(beta=3.0, difference="logits", scheme=DecodingScheme(name="top-p", top_p=0.9))


@pytest.fixture
def model() -> AdaptedModel:
    return attach_lora(load_base_model("tiny-llama", device="cpu"), LoraSettings(lora_rank=4), seed=0)


@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize("with_base", [True, False])
def test_answers_are_the_attack_s_own_and_are_computed_once(
    model: AdaptedModel, tmp_path: Path, seed: int | None, with_base: bool
) -> None:
    newer, older = random_adapter(model, 1), None if with_base else random_adapter(model, 2)
    amplification = replace(LIKELIEST, seed=seed)
    passes = Passes(model, tmp_path)
    expected = complete_with_two(
        model, newer, older, PROMPTS, amplification, max_new_tokens=6, end_token_ids=passes.end_token_ids
    )
    assert passes.generate_with_two(newer, older, PROMPTS, amplification, max_new_tokens=6) == expected
    assert passes.num_passes == 2 * len(PROMPTS)
    again = Passes(model, tmp_path)
    assert again.generate_with_two(newer, older, PROMPTS, amplification, max_new_tokens=6) == expected
    assert again.num_passes == 0


def test_whatever_decides_an_answer_is_in_its_key(model: AdaptedModel) -> None:
    newer, older = random_adapter(model, 1), random_adapter(model, 2)
    passes = Passes(model, None)
    calls = [
        (newer, older, LIKELIEST, 6),
        (older, newer, LIKELIEST, 6),
        (newer, None, LIKELIEST, 6),
        (newer, older, replace(LIKELIEST, beta=1.0), 6),
        (newer, older, replace(LIKELIEST, difference="probabilities"), 6),
        (newer, older, replace(LIKELIEST, scheme=DecodingScheme(name="top-p", top_p=0.5)), 6),
        (newer, older, replace(LIKELIEST, seed=1), 6),
        (newer, older, replace(LIKELIEST, seed=2), 6),
        (newer, older, LIKELIEST, 7),
    ]
    for number, (one, other, amplification, length) in enumerate(calls, start=1):
        passes.generate_with_two(one, other, PROMPTS, amplification, max_new_tokens=length)
        assert passes.num_passes == 2 * len(PROMPTS) * number
    passes.generate(newer, PROMPTS, max_new_tokens=6)
    assert passes.num_passes == 2 * len(PROMPTS) * len(calls) + len(PROMPTS)


def test_only_what_is_not_known_is_computed_again(model: AdaptedModel) -> None:
    passes = Passes(model, None)
    newer = random_adapter(model, 1)
    whole = passes.generate_with_two(newer, None, PROMPTS, LIKELIEST, max_new_tokens=6)
    swapped = passes.generate_with_two(newer, None, [*PROMPTS[::-1], [40, 41]], LIKELIEST, max_new_tokens=6)
    assert swapped[:-1] == whole[::-1]
    assert passes.num_passes == 2 * len(PROMPTS) + 2


def test_an_adapter_that_is_not_finite_is_refused(model: AdaptedModel) -> None:
    bad = np.full(model.layout.num_values, np.nan, np.float32)
    with pytest.raises(NonFiniteUpdateError, match="NaN or infinite"):
        Passes(model, None).generate_with_two(bad, None, PROMPTS, LIKELIEST, max_new_tokens=2)


def test_each_prompt_can_have_an_amplification_of_its_own(model: AdaptedModel) -> None:
    newer, older = random_adapter(model, 1), random_adapter(model, 2)
    amplifications = [
        replace(LIKELIEST, beta=beta, difference=difference)
        for beta in (0.5, 100.0)
        for difference in ("logits", "probabilities")
    ]
    passes = Passes(model, None, batch_size=3)
    together = passes.generate_with_two(newer, older, PROMPTS, amplifications, max_new_tokens=6)
    assert together == [
        passes.generate_with_two(newer, older, [prompt], amplification, max_new_tokens=6)[0]
        for prompt, amplification in zip(PROMPTS, amplifications, strict=True)
    ]
    assert passes.num_passes == 2 * len(PROMPTS)  # the same answers: known by then
    assert len({answer.token_ids for answer in together}) > 1
    with pytest.raises(ValueError, match="zip"):
        passes.generate_with_two(newer, older, PROMPTS, amplifications[:2], max_new_tokens=6)
    with pytest.raises(ValueError, match="2 amplifications for 4 prompts"):
        complete_with_two(
            model, newer, older, PROMPTS, amplifications[:2], max_new_tokens=6, end_token_ids=passes.end_token_ids
        )
