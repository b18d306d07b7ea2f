import copy
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
import torch

from confide.attacks.decoding import DecodingScheme, draw_log_probabilities
from confide.attacks.extraction.two_model import (
    LOGIT_BETAS,
    Amplification,
    Difference,
    amplified_scores,
    complete_with_two,
    sweep,
)
from confide.errors import LayoutMismatchError, UsageError
from confide.evaluate.generation import Answer, Sampling, generate_answers
from confide.model.evaluation_mode import evaluation_mode
from confide.model.load import load_base_model
from confide.model.lora import AdaptedModel, LoraSettings, attach_lora
from confide.seeds import derive_seed, stream
from confide.update import Vector

Floats = npt.NDArray[np.float64]
READINGS: tuple[Difference, ...] = ("probabilities", "logits")
PROMPTS: list[list[int]] = [[1, 70, 71], [1, 5, 90, 17, 33, 120, 8], [1], [1, 40, 41, 42, 43]]
NEVER = (9999,)


def _softmax(values: Floats) -> Floats:
    shares = np.exp(values - values.max())
    result: Floats = shares / shares.sum()
    return result


def _nucleus(pi: Floats, top_p: float) -> list[int]:
    """The likeliest tokens, one after the other, until they together reach top_p."""
    kept: list[int] = []
    for token in np.argsort(-pi):
        kept.append(int(token))
        if pi[kept].sum() >= top_p:
            break
    return kept


def _paper(
    newer: Floats, older: Floats, tau: float, top_p: float, reading: Difference, *, softmax_over: str = "vocabulary"
) -> Floats:
    """The four lines of the paper for one token, in float64: its notation, in its order."""
    pi_new_model, pi_old_model = _softmax(newer), _softmax(older)  # 1 pre-prediction
    d = pi_new_model - pi_old_model if reading == "probabilities" else newer - older  # 2 difference
    kept = _nucleus(pi_new_model, top_p)  # 3 fusion
    pi_top = np.zeros_like(newer)
    pi_top[kept] = pi_new_model[kept] / pi_new_model[kept].sum()
    w = np.zeros_like(newer)
    if softmax_over == "vocabulary":
        w = _softmax(d / tau)
    else:
        w[kept] = _softmax(d[kept] / tau)
    fused: Floats = w * pi_top
    fused /= fused.sum()
    return fused


def _twin(
    model: AdaptedModel,
    vectors: tuple[Vector, Vector],
    index: int,
    prompt: Sequence[int],
    rule: Amplification,
    num: int,
) -> tuple[int, ...]:
    """One prompt, one token at a time, in float64: no cache, no padding, no batch, two copies of the model."""
    modules = []
    for vector in vectors:
        model.write(vector)
        modules.append(copy.deepcopy(model.module).double().eval())
    draws = None if rule.seed is None else torch.Generator().manual_seed(derive_seed(rule.seed, "generate", index))
    ids = list(prompt)
    with torch.no_grad():
        for _ in range(num):
            newer, older = (module(input_ids=torch.tensor([ids])).logits[0, -1].numpy() for module in modules)
            pi = _paper(newer, older, 1 / rule.beta, rule.scheme.top_p, rule.difference)
            with np.errstate(divide="ignore"):
                scores = np.log(pi)
            if draws is not None:
                scores = scores - np.log(torch.empty(pi.size).exponential_(generator=draws).numpy())
            ids.append(int(np.argmax(scores)))
    return tuple(ids[len(prompt) :])


def _complete(
    model: AdaptedModel,
    newer: Vector,
    older: Vector | None,
    rule: Amplification,
    *,
    ends: Sequence[int] = NEVER,
    num: int = 8,
    batch_size: int = 3,
    prompts: Sequence[Sequence[int]] = PROMPTS,
) -> list[Answer]:
    return complete_with_two(
        model, newer, older, prompts, rule, max_new_tokens=num, end_token_ids=ends, batch_size=batch_size
    )


@pytest.mark.parametrize("softmax_over", ["vocabulary", "nucleus"])
@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("tau", [0.1, 0.3, 1.0])
@pytest.mark.parametrize("top_p", [0.3, 0.9, 1.0])
def test_the_fused_distribution_is_the_papers_wherever_its_softmax_runs(
    softmax_over: str, reading: Difference, tau: float, top_p: float
) -> None:
    draws = stream(0, "test-two-model")
    newer, older = draws.normal(size=(20, 50)) * 2, draws.normal(size=(20, 50)) * 2
    rule = Amplification(beta=1 / tau, difference=reading, scheme=DecodingScheme("x", top_p=top_p))
    scores = amplified_scores(torch.from_numpy(newer), torch.from_numpy(older), rule)
    for row in range(20):
        expected = _paper(newer[row], older[row], tau, top_p, reading, softmax_over=softmax_over)
        # Both are float64; exp(d / tau) with |d / tau| up to 100 carries a relative error of a few hundred times 1e-16.
        np.testing.assert_allclose(scores[row].softmax(dim=0).numpy(), expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("seed", [None, 5])
def test_two_cached_batched_models_are_the_slow_twin_of_the_paper(
    model: AdaptedModel, reading: Difference, seed: int | None
) -> None:
    """Both adapters are drawn and not trained: what a model says then hangs on the processor by a rounding alone.

    The newer one is the older one and a tenth of another: what is likely is then likely in both, and which of it gained
    is for the attack to find.
    """
    older, change = (
        stream(0, "test-two-model", which).standard_normal(model.layout.num_values, dtype=np.float32) / np.float32(3)
        for which in ("older", "change")
    )
    vectors = (older + change / np.float32(10), older)
    tokens = stream(0, "test-two-model", "prompts").integers(3, 200, size=(8, 7)).tolist()
    prompts = [[1, *some[:length]] for length, some in enumerate(tokens)]
    rule = Amplification(beta=1 / 0.03, difference=reading, scheme=DecodingScheme("x", top_p=0.9), seed=seed)
    answers = _complete(model, *vectors, rule, prompts=prompts)
    expected = [_twin(model, vectors, index, prompt, rule, 8) for index, prompt in enumerate(prompts)]
    assert [answer.token_ids for answer in answers] == expected
    # The models differ and so does the attack from either of them: the twin has something to say.
    for alone in vectors:
        assert [answer.token_ids for answer in _complete(model, alone, alone, rule, prompts=prompts)] != expected


@pytest.mark.parametrize("name", ["tiny-llama", "tiny-gpt2"])
@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("sampling", [None, Sampling(temperature=1.3, top_p=0.9, seed=11)])
def test_without_amplification_the_answers_are_those_of_the_newer_model(
    name: str, reading: Difference, sampling: Sampling | None
) -> None:
    base = load_base_model(name)
    with torch.no_grad():
        base.module.get_input_embeddings().weight.mul_(10.0)  # far-apart logits: no tie for rounding to decide
    model = attach_lora(base, LoraSettings(lora_rank=4, targets="all-linear"), seed=0)
    newer, older = (
        stream(0, "test-vector", which).standard_normal(model.layout.num_values, dtype=np.float32) / np.float32(3)
        for which in ("newer", "older")
    )
    temperature, top_p, seed = (1.0, 1.0, None) if sampling is None else (1.3, 0.9, 11)
    scheme = DecodingScheme("x", temperature=temperature, top_p=top_p)
    alone = Amplification(beta=0.0, difference=reading, scheme=scheme, seed=seed)
    amplified = Amplification(beta=500.0, difference=reading, scheme=scheme, seed=seed)
    model.write(newer)
    expected = generate_answers(
        model.module,
        PROMPTS,
        max_new_tokens=8,
        end_token_ids=(2,),
        pad_token_id=0,
        batch_size=3,
        sampling=sampling,
    )
    assert _complete(model, newer, older, alone, ends=(2,)) == expected
    assert _complete(model, newer, newer, amplified, ends=(2,)) == expected
    assert _complete(model, newer, older, amplified, ends=(2,)) != expected


def test_answers_do_not_depend_on_the_batch(model: AdaptedModel, trained_rounds: dict[int, Vector]) -> None:
    rule = Amplification(beta=5.0, difference="probabilities", scheme=DecodingScheme("x", top_p=0.9), seed=2)
    one_by_one = _complete(model, trained_rounds[60], trained_rounds[30], rule, batch_size=1)
    assert _complete(model, trained_rounds[60], trained_rounds[30], rule, batch_size=4) == one_by_one


def test_no_older_adapter_means_the_base_model(model: AdaptedModel, trained_rounds: dict[int, Vector]) -> None:
    rule = Amplification(beta=1.0, difference="logits", scheme=DecodingScheme("x"))
    # Round 0 has its A at random and its B at zero: it computes what the base computes.
    assert _complete(model, trained_rounds[60], None, rule) == _complete(
        model, trained_rounds[60], trained_rounds[0], rule
    )


@pytest.mark.parametrize("scheme", [DecodingScheme("k", top_k=5), DecodingScheme("p", top_p=0.5, temperature=0.7)])
@pytest.mark.parametrize("reading", READINGS)
def test_only_what_the_scheme_draws_from_the_newer_model_can_come_out(
    scheme: DecodingScheme, reading: Difference
) -> None:
    draws = stream(1, "test-two-model")
    newer, older = (torch.from_numpy(draws.normal(size=(6, 40)).astype(np.float32)) for _ in range(2))
    scores = amplified_scores(newer, older, Amplification(beta=50.0, difference=reading, scheme=scheme))
    for token in range(40):
        drawn = draw_log_probabilities(newer, torch.full((6,), token), scheme)
        assert torch.equal(drawn.isinf(), scores[:, token].isinf())


def test_amplified_logits_are_the_newer_ones_moved_along_their_change() -> None:
    draws = stream(2, "test-two-model")
    newer, older = (torch.from_numpy(draws.normal(size=(3, 30))) for _ in range(2))
    rule = Amplification(beta=2.0, difference="logits", scheme=DecodingScheme("x", temperature=0.5))
    scores = amplified_scores(newer, older, rule)
    moved = ((newer + 2.0 * (newer - older)) / 0.5).softmax(dim=1)
    torch.testing.assert_close(scores.softmax(dim=1), moved)


def test_the_smallest_tau_of_the_sweep_gives_a_distribution() -> None:
    # Computed as written, softmax(d / 0.01) is zero over the whole nucleus wherever another token rose most.
    newer, older = torch.tensor([[5.0, 4.9, -20.0]]), torch.tensor([[5.0, 5.1, -60.0]])
    for rule in sweep([0.01], [0.9], seed=None):
        scores = amplified_scores(newer, older, rule)
        assert scores.softmax(dim=1).sum().item() == pytest.approx(1.0)
        assert scores.argmax().item() == 0


def test_an_answer_ends_before_the_first_end_token(model: AdaptedModel, trained_rounds: dict[int, Vector]) -> None:
    rule = Amplification(beta=1.0, difference="logits", scheme=DecodingScheme("x"))
    whole = _complete(model, trained_rounds[60], trained_rounds[30], rule)
    end = whole[1].token_ids[3]
    for answer, uncut in zip(
        _complete(model, trained_rounds[60], trained_rounds[30], rule, ends=(end,)), whole, strict=True
    ):
        assert answer.is_finished == (end in uncut.token_ids)
        stop = uncut.token_ids.index(end) if answer.is_finished else 8
        assert answer.token_ids == uncut.token_ids[:stop]


def test_the_sweep_has_both_readings_at_their_own_strengths_with_every_top_p() -> None:
    rules = sweep([0.1, 1.0], [0.5, 0.9, 1.0], seed=3)
    found = {(rule.difference, rule.beta, rule.scheme.top_p) for rule in rules}
    strengths = {("probabilities", 10.0), ("probabilities", 1.0)} | {("logits", beta) for beta in (0.5, 1.0, 2.0, 4.0)}
    assert LOGIT_BETAS == (0.5, 1.0, 2.0, 4.0)
    assert found == {(*strength, top_p) for strength in strengths for top_p in (0.5, 0.9, 1.0)}
    assert len(rules) == len(found)
    assert {rule.seed for rule in rules} == {3}
    assert (rules[0].difference, rules[0].beta, rules[0].scheme.top_p) == ("probabilities", 10.0, 0.5)


def test_generating_leaves_the_global_generator_alone(model: AdaptedModel, trained_rounds: dict[int, Vector]) -> None:
    before = torch.random.get_rng_state()
    rule = Amplification(beta=1.0, difference="logits", scheme=DecodingScheme("x"), seed=1)
    with evaluation_mode(model.module):
        _complete(model, trained_rounds[60], trained_rounds[30], rule, num=2)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("beta", [-1.0, float("nan"), float("inf")])
def test_an_impossible_beta_is_refused(beta: float) -> None:
    with pytest.raises(ValueError, match="expected a finite number >= 0"):
        Amplification(beta=beta, difference="logits", scheme=DecodingScheme("x"))


def test_what_cannot_be_continued_is_refused(model: AdaptedModel, trained_rounds: dict[int, Vector]) -> None:
    rule = Amplification(beta=1.0, difference="logits", scheme=DecodingScheme("x"))
    newer = trained_rounds[60]
    with pytest.raises(ValueError, match="a prompt has no tokens"):
        _complete(model, newer, None, rule, prompts=[[1], []])
    with pytest.raises(LayoutMismatchError):
        _complete(model, newer, newer[:-1], rule)
    gpt2 = attach_lora(load_base_model("tiny-gpt2"), LoraSettings(lora_rank=2), seed=0)
    with pytest.raises(UsageError, match="than the model's 1024 positions"):
        _complete(gpt2, gpt2.read(), None, rule, num=1024)
    assert _complete(model, newer, None, rule, prompts=[]) == []
