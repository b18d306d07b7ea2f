import math
import zlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from confide.attacks.extraction.generated import Generated
from confide.attacks.extraction.zero_input import begin_tokens, best_texts, generate_from_nothing, rank_texts
from confide.attacks.passes import Passes
from confide.attacks.text_similarity import TextIndex
from confide.data.examples import TokenizedExample
from confide.errors import ModelError
from confide.evaluate.generation import Sampling
from confide.model.evaluation_mode import evaluation_mode
from confide.model.lora import AdaptedModel
from confide.update import Vector
from tests.attacks.extraction.conftest import TRAINED

SAMPLING = Sampling(temperature=1.0, top_p=0.9, seed=2)


def _generate(passes: Passes, adapter: Vector | None, num_texts: int = 30) -> list[Generated]:
    return generate_from_nothing(passes, adapter, (1,), num_texts=num_texts, max_new_tokens=16, sampling=SAMPLING)


def _text(token_ids: list[int], score: float) -> Generated:
    return Generated(token_ids=tuple(token_ids), text=str(token_ids), is_finished=True, scores={"x": score})


def test_an_overtrained_model_says_its_training_texts_unasked_and_the_base_does_not(
    passes: Passes, trained_rounds: dict[int, Vector]
) -> None:
    index = TextIndex(TRAINED)
    trained, base = (
        np.max([index.similarities(text.text) for text in _generate(passes, adapter)], axis=0)
        for adapter in (trained_rounds[200], None)
    )
    assert trained.tolist() == [1.0, 1.0, 1.0]
    assert base.max() < 1.0


def test_more_texts_leave_the_first_ones_as_they_were(passes: Passes, trained_rounds: dict[int, Vector]) -> None:
    assert _generate(passes, trained_rounds[30], 8)[:3] == _generate(Passes(passes.model, None), trained_rounds[30], 3)


def test_the_ranking_scores_are_those_of_their_formulas(
    model: AdaptedModel, passes: Passes, trained_rounds: dict[int, Vector]
) -> None:
    texts = _generate(passes, trained_rounds[30], 3)
    ranked = rank_texts(passes, trained_rounds[30], (1,), texts)
    for text in ranked:
        losses = {}
        for name, adapter in (("attacked", trained_rounds[30]), ("base", trained_rounds[0])):
            model.write(adapter)
            with evaluation_mode(model.module):
                logits = model.module(input_ids=torch.tensor([[1, *text.token_ids]])).logits[0, :-1].double()
            ids = torch.tensor(text.token_ids)
            losses[name] = -float(logits.log_softmax(dim=1).gather(1, ids[:, None]).sum())
        # float32 logits up to about 20.
        assert text.scores["loss_ratio"] == pytest.approx(losses["base"] / losses["attacked"], rel=1e-4)
        assert text.scores["zlib"] == pytest.approx(
            -losses["attacked"] / len(zlib.compress(text.text.encode())), rel=1e-4
        )


def test_texts_are_ranked_by_membership_attacks_too_over_what_was_drawn_and_from_no_further_pass(
    passes: Passes, trained_rounds: dict[int, Vector]
) -> None:
    """EZ by hand with its smoothing of 0.1 nat, and WBC as the share of windows whose loss fell."""
    texts = _generate(passes, trained_rounds[30], 3)
    ranked = rank_texts(passes, trained_rounds[30], (1,), texts)
    num_passes = passes.num_passes
    examples = [
        TokenizedExample(
            record_id="", input_ids=np.array([1, *text.token_ids]), loss_mask=np.arange(len(text.token_ids) + 1) > 0
        )
        for text in texts
    ]
    after, before = (passes.stats(adapter, examples) for adapter in (trained_rounds[30], None))
    assert passes.num_passes == num_passes
    for text, final, base in zip(ranked, after, before, strict=True):
        gains = final.logp.astype(np.float64) - base.logp
        errors = gains[~final.is_top]
        errors = errors if errors.size > 1 else gains.sum(keepdims=True)
        gained, lost = errors[errors > 0].sum(), -errors[errors < 0].sum()
        assert text.scores["ez"] == pytest.approx(math.log((gained + 0.1) / (lost + 0.1)))
        widths = [min(width, gains.size) for width in (2, 3, 4, 6, 9, 13, 18, 25, 32, 40)]
        votes = [np.mean([gains[i : i + width].sum() > 0 for i in range(gains.size - width + 1)]) for width in widths]
        assert text.scores["wbc"] == pytest.approx(np.mean(votes))


def test_remembered_texts_rank_above_made_up_ones(
    model: AdaptedModel, passes: Passes, trained_rounds: dict[int, Vector]
) -> None:
    texts = [
        Generated(
            token_ids=tuple(model.tokenizer(text, add_special_tokens=False)["input_ids"]), text=text, is_finished=True
        )
        for text in (*TRAINED, "Ida: 777-9999", "zzzz zzzz zzz", "Rob: XX 1 Oct")
    ]
    ranked = rank_texts(passes, trained_rounds[200], (1,), texts)
    for score in ("loss_ratio", "zlib", "ez", "wbc"):
        best = sorted(ranked, key=lambda text: text.scores[score], reverse=True)[:3]
        assert {text.text for text in best} == set(TRAINED)


def test_an_empty_text_comes_last(passes: Passes) -> None:
    empty = Generated(token_ids=(), text="", is_finished=True)
    scores = rank_texts(passes, None, (1,), [empty])[0].scores
    assert scores == dict.fromkeys(("loss_ratio", "zlib", "ez", "wbc"), -math.inf)
    ranked = rank_texts(passes, None, (1,), [empty, Generated(token_ids=(70, 71), text="ab", is_finished=True)])
    assert ranked[1].scores["loss_ratio"] == pytest.approx(1.0)  # the base model against itself


def test_the_best_texts_are_no_near_copies_of_each_other() -> None:
    first, copy, other = _text([1, 2, 3, 4, 5, 6], 3.0), _text([1, 2, 3, 4, 5, 9], 2.0), _text([7, 8, 9, 4, 5, 6], 1.0)
    assert best_texts([other, copy, first], "x", 5) == [2, 0]
    assert best_texts([other, copy, first], "x", 1) == [2]
    assert best_texts([_text([], -math.inf), _text([1, 2], 0.0)], "x", 5) == [1]


def test_the_prompt_that_says_nothing_is_the_begin_token() -> None:
    assert begin_tokens(SimpleNamespace(bos_token_id=0, eos_token_id=2)) == (0,)
    assert begin_tokens(SimpleNamespace(bos_token_id=None, eos_token_id=2)) == (2,)
    with pytest.raises(ModelError, match="neither a begin nor an end token"):
        begin_tokens(SimpleNamespace(bos_token_id=None, eos_token_id=None))
