import pytest

from confide.attacks.extraction.discoverable import complete
from confide.attacks.extraction.prompts import Split, split_by_share
from confide.attacks.extraction.scoring import score_completion
from confide.attacks.passes import Passes
from confide.evaluate.generation import Sampling
from confide.model.lora import AdaptedModel
from confide.update import Vector
from tests.attacks.extraction.conftest import HELD_OUT, TRAINED, CandidateMaker


def _splits(model: AdaptedModel, make_candidate: CandidateMaker, texts: tuple[str, ...], share: float) -> list[Split]:
    ends = (model.tokenizer.eos_token_id,)
    splits = [split_by_share(make_candidate(text), share, model.tokenizer, ends) for text in texts]
    return [split for split in splits if split is not None]


@pytest.mark.parametrize("share", [0.3, 0.8])
def test_an_overtrained_model_gives_its_training_texts_back_and_an_untrained_one_does_not(
    model: AdaptedModel,
    passes: Passes,
    make_candidate: CandidateMaker,
    trained_rounds: dict[int, Vector],
    share: float,
) -> None:
    splits = _splits(model, make_candidate, TRAINED, share)
    trained = complete(passes, trained_rounds[200], splits, max_new_tokens=40)
    assert [score_completion(text, split).is_exact for text, split in zip(trained, splits, strict=True)] == [True] * 3
    assert [text.text for text in trained] == [split.remainder_text for split in splits]
    assert all(text.is_finished for text in trained)
    for adapter in (None, trained_rounds[0]):
        untrained = complete(passes, adapter, splits, max_new_tokens=40)
        assert not any(score_completion(text, split).is_exact for text, split in zip(untrained, splits, strict=True))


def test_a_held_out_text_does_not_come_back(
    model: AdaptedModel, passes: Passes, make_candidate: CandidateMaker, trained_rounds: dict[int, Vector]
) -> None:
    splits = _splits(model, make_candidate, HELD_OUT, 0.3)
    texts = complete(passes, trained_rounds[200], splits, max_new_tokens=40)
    assert not any(score_completion(text, split).is_exact for text, split in zip(texts, splits, strict=True))


def test_sampled_continuations_are_those_of_the_passes(
    model: AdaptedModel, passes: Passes, make_candidate: CandidateMaker, trained_rounds: dict[int, Vector]
) -> None:
    splits = _splits(model, make_candidate, TRAINED, 0.3)
    sampling = Sampling(temperature=1.0, top_p=0.9, seed=3)
    texts = complete(passes, trained_rounds[30], splits, max_new_tokens=10, sampling=sampling)
    answers = passes.generate(
        trained_rounds[30], [split.prompt for split in splits], max_new_tokens=10, sampling=sampling
    )
    assert [text.token_ids for text in texts] == [answer.token_ids for answer in answers]
    assert [text.candidate_id for text in texts] == list(TRAINED)
