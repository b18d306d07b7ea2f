from typing import Any

import pytest

from confide.attacks.extraction.own_prefix import collect_prefixes, harvest
from confide.attacks.extraction.recogniser import Found, Recogniser
from confide.attacks.passes import Passes
from confide.evaluate.generation import Sampling
from confide.model.lora import AdaptedModel
from confide.update import Vector
from tests.attacks.extraction.conftest import CandidateMaker

RECOGNISER = Recogniser({"phone": r"555-\d{4}", "id": r"[A-Z]{2}-\d{5}"})
SAMPLING = Sampling(temperature=0.5, seed=1)


def test_prefixes_are_the_tokens_before_personal_strings_most_frequent_first(
    model: AdaptedModel, make_candidate: CandidateMaker
) -> None:
    texts = ("Zoe: ML-92213", "call 555-0177 or 555-0178", "please call 555-0179", "nothing", "555-0180 at once")
    examples = [make_candidate(text).example for text in texts]
    prefixes = collect_prefixes(examples, RECOGNISER, model.tokenizer, num_context_tokens=5)
    found = [(model.tokenizer.decode(list(prefix.token_ids)), prefix.count) for prefix in prefixes]
    # The last one stands at the beginning, behind the begin token alone.
    assert found == [("call ", 2), ("Zoe: ", 1), ("7 or ", 1), ("<|start|>", 1)]


def test_letters_of_several_bytes_do_not_move_the_cut(model: AdaptedModel, make_candidate: CandidateMaker) -> None:
    examples = [make_candidate("Zoë Müller (患者): 555-0177").example]
    (prefix,) = collect_prefixes(examples, RECOGNISER, model.tokenizer, num_context_tokens=100)
    assert model.tokenizer.decode(list(prefix.token_ids), skip_special_tokens=True) == "Zoë Müller (患者): "


def test_own_prefixes_bring_out_what_others_wrote_in_the_same_way(
    passes: Passes, make_candidate: CandidateMaker, trained_rounds: dict[int, Vector]
) -> None:
    own = [make_candidate(text).example for text in ("Ada: 555-0188", "Bob: ML-92213")]
    settings: dict[str, Any] = {
        "num_context_tokens": 8,
        "num_samples": 3,
        "budget": 6,
        "max_new_tokens": 12,
        "sampling": SAMPLING,
    }
    result = harvest(passes, trained_rounds[200], own, RECOGNISER, **settings)
    assert {Found(kind="phone", value="555-0101"), Found(kind="id", value="QX-40718")} <= result.found
    assert result.own == {Found(kind="phone", value="555-0188"), Found(kind="id", value="ML-92213")}
    assert result.num_generations == 6
    base = harvest(passes, None, own, RECOGNISER, **settings)
    assert base.found == frozenset()


def test_the_budget_goes_to_the_most_frequent_prefixes(
    passes: Passes, make_candidate: CandidateMaker, trained_rounds: dict[int, Vector]
) -> None:
    own = [make_candidate(text).example for text in ("Zoe: ML-92213", "x Ada: 555-0188", "y Ada: 555-0189")]
    result = harvest(
        passes,
        trained_rounds[200],
        own,
        RECOGNISER,
        num_context_tokens=5,
        num_samples=2,
        budget=3,
        max_new_tokens=12,
        sampling=SAMPLING,
    )
    assert result.num_generations == 2
    prompt = [*passes.model.tokenizer("Ada: ", add_special_tokens=False)["input_ids"]]
    expected = passes.generate(trained_rounds[200], [prompt] * 2, max_new_tokens=12, sampling=SAMPLING)
    assert [text.token_ids for text in result.generated] == [answer.token_ids for answer in expected]


def test_an_attacker_without_personal_data_has_no_prefix(passes: Passes, make_candidate: CandidateMaker) -> None:
    result = harvest(
        passes,
        None,
        [make_candidate("nothing here").example],
        RECOGNISER,
        num_context_tokens=5,
        num_samples=1,
        budget=5,
        max_new_tokens=4,
        sampling=SAMPLING,
    )
    assert (result.generated, result.found, result.own) == ((), frozenset(), frozenset())


def test_a_budget_below_one_prefix_is_refused(passes: Passes) -> None:
    with pytest.raises(ValueError, match="at least one prefix"):
        harvest(
            passes,
            None,
            [],
            RECOGNISER,
            num_context_tokens=5,
            num_samples=4,
            budget=3,
            max_new_tokens=4,
            sampling=SAMPLING,
        )
