from collections.abc import Sequence

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from confide.errors import UsageError
from confide.evaluate.generation import Answer, Sampling, end_token_ids, generate_answers
from confide.model.evaluation_mode import evaluation_mode

VOCABULARY = 61
END = 60
PROMPTS: list[list[int]] = [[5], [7, 8, 9, 10, 11, 12, 13], [3, 1, 4], [20, 21, 22, 23], [5, 6]]


def _tiny_llama() -> torch.nn.Module:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=128,
        initializer_range=0.5,  # far-apart logits: no tie for rounding to decide
        pad_token_id=0,
        eos_token_id=END,
    )
    model: torch.nn.Module = LlamaForCausalLM(config)
    return model


def _tiny_gpt2() -> torch.nn.Module:
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=VOCABULARY,
        n_embd=16,
        n_layer=2,
        n_head=2,
        n_positions=128,
        initializer_range=0.5,
        eos_token_id=END,
        bos_token_id=END,
    )
    model: torch.nn.Module = GPT2LMHeadModel(config)
    return model


@pytest.fixture(params=[_tiny_llama, _tiny_gpt2], ids=["llama", "gpt2"])
def module(request: pytest.FixtureRequest) -> torch.nn.Module:
    model: torch.nn.Module = request.param()
    return model


def _generate(module: torch.nn.Module, prompts: Sequence[Sequence[int]] = PROMPTS, **changes: object) -> list[Answer]:
    settings = {"max_new_tokens": 6, "end_token_ids": (END,), "pad_token_id": 0, "batch_size": 3, **changes}
    return generate_answers(module, prompts, **settings)  # type: ignore[arg-type]


def _greedy_twin(module: torch.nn.Module, prompt: Sequence[int], max_new_tokens: int) -> tuple[int, ...]:
    """One prompt, one token at a time: no padding, no cache, no batch."""
    ids = list(prompt)
    with evaluation_mode(module):
        for _ in range(max_new_tokens):
            logits = module(input_ids=torch.tensor([ids])).logits
            ids.append(int(logits[0, -1].argmax()))
    return tuple(ids[len(prompt) :])


def test_greedy_answers_are_the_likeliest_token_after_token(module: torch.nn.Module) -> None:
    answers = _generate(module, end_token_ids=(VOCABULARY + 5,))
    assert [answer.token_ids for answer in answers] == [_greedy_twin(module, prompt, 6) for prompt in PROMPTS]
    assert not any(answer.is_finished for answer in answers)


def test_an_answer_ends_before_the_first_end_token(module: torch.nn.Module) -> None:
    (whole,) = _generate(module, [PROMPTS[1]], end_token_ids=(VOCABULARY + 5,))
    end = whole.token_ids[2]
    (cut,) = _generate(module, [PROMPTS[1]], end_token_ids=(VOCABULARY + 5, end))
    assert cut.is_finished
    assert cut.token_ids == whole.token_ids[: whole.token_ids.index(end)]


def test_the_models_own_generation_settings_change_nothing(
    module: torch.nn.Module, caplog: pytest.LogCaptureFixture
) -> None:
    expected = _generate(module)
    module.generation_config.update(  # type: ignore[union-attr, operator]
        do_sample=True, temperature=3.0, top_k=2, repetition_penalty=9.0, no_repeat_ngram_size=1, max_length=3
    )
    assert _generate(module) == expected
    assert not caplog.records


def test_a_sampled_answer_does_not_depend_on_the_batch_it_shares(module: torch.nn.Module) -> None:
    sampling = Sampling(temperature=1.5, top_p=0.9, seed=4)
    one_by_one = _generate(module, sampling=sampling, batch_size=1)
    assert _generate(module, sampling=sampling, batch_size=5) == one_by_one
    assert _generate(module, sampling=Sampling(temperature=1.5, top_p=0.9, seed=5), batch_size=1) != one_by_one


def test_sampled_tokens_follow_the_softmax_at_the_temperature() -> None:
    module = _tiny_llama()
    temperature, num_draws = 4.0, 4000
    with evaluation_mode(module):
        logits = module(input_ids=torch.tensor([PROMPTS[1]])).logits[0, -1].double()
    expected = torch.softmax(logits / temperature, dim=0).numpy() * num_draws
    answers = _generate(
        module,
        [PROMPTS[1]] * num_draws,
        max_new_tokens=1,
        batch_size=1000,
        end_token_ids=(VOCABULARY + 5,),
        sampling=Sampling(temperature=temperature),
    )
    drawn = np.bincount([answer.token_ids[0] for answer in answers], minlength=VOCABULARY)
    is_common = expected >= 5  # where the chi-squared approximation holds
    statistic = (np.square(drawn - expected) / expected)[is_common].sum()
    # A chi-squared variable with k degrees of freedom has mean k and variance 2k; five standard deviations above its
    # mean is beyond what a right sampler gives, and the seed is fixed.
    num_cells = int(is_common.sum())
    assert num_cells > 20
    assert statistic < num_cells + 5 * np.sqrt(2 * num_cells)


def test_top_p_draws_only_from_the_likeliest_tokens() -> None:
    module = _tiny_llama()
    with evaluation_mode(module):
        logits = module(input_ids=torch.tensor([PROMPTS[1]])).logits[0, -1].double()
    probabilities = torch.softmax(logits, dim=0).numpy()
    order = np.argsort(-probabilities)
    nucleus = order[: int(np.searchsorted(np.cumsum(probabilities[order]), 0.5)) + 1]
    answers = _generate(
        module, [PROMPTS[1]] * 300, max_new_tokens=1, batch_size=300, sampling=Sampling(temperature=1.0, top_p=0.5)
    )
    assert {answer.token_ids[0] for answer in answers if answer.token_ids} <= set(nucleus.tolist())


def test_generating_leaves_the_models_mode_and_the_global_generator_alone(module: torch.nn.Module) -> None:
    module.train()
    before = torch.random.get_rng_state()
    _generate(module, sampling=Sampling(temperature=1.0))
    assert module.training
    assert torch.equal(torch.random.get_rng_state(), before)


def test_progress_adds_up_to_the_number_of_prompts(module: torch.nn.Module) -> None:
    done: list[int] = []
    _generate(module, progress=done.append)
    assert sum(done) == len(PROMPTS)


def test_no_prompts_give_no_answers(module: torch.nn.Module) -> None:
    assert _generate(module, []) == []


def test_an_empty_prompt_is_refused(module: torch.nn.Module) -> None:
    with pytest.raises(ValueError, match="a prompt has no tokens"):
        _generate(module, [[1], []])


@pytest.mark.parametrize(
    ("temperature", "top_p", "message"),
    [(0.0, 1.0, "temperature is 0.0, expected > 0"), (1.0, 0.0, "top_p is 0.0"), (1.0, 1.1, "top_p is 1.1")],
)
def test_sampling_out_of_range_is_refused(temperature: float, top_p: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Sampling(temperature=temperature, top_p=top_p)


def test_end_tokens_are_the_templates_and_the_models() -> None:
    module = _tiny_llama()
    assert end_token_ids(module, (7, END)) == (7, END)
    assert end_token_ids(module, ()) == (END,)
    module.generation_config.eos_token_id = [3, END]  # type: ignore[union-attr]
    assert end_token_ids(module, (7,)) == (3, 7, END)


def test_an_answer_beyond_a_table_of_positions_is_refused_with_the_keys() -> None:
    gpt2, prompts = _tiny_gpt2(), [[5], [7] * 123]
    assert len(_generate(gpt2, prompts, max_new_tokens=5, end_token_ids=(VOCABULARY + 1,))[1].token_ids) == 5
    expected = (
        r"a prompt of 123 tokens and an answer of up to 6 need 129 positions, but the model has 128\. Lower --max-"
    )
    with pytest.raises(UsageError, match=expected):
        _generate(gpt2, prompts, max_new_tokens=6)
    assert len(_generate(_tiny_llama(), prompts, max_new_tokens=6, end_token_ids=(VOCABULARY + 1,))) == 2  # rotary
