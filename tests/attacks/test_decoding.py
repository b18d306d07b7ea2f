"""Decoding schemes against transformers' own processors, and against what our sampling really draws."""

from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.generation.logits_process import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from confide.attacks.decoding import DecodingScheme, draw_log_probabilities
from confide.evaluate.generation import Sampling, generate_answers
from confide.model.evaluation_mode import evaluation_mode

VOCABULARY = 61
PROMPT = [7, 8, 9, 10]
SCHEMES = [
    DecodingScheme("plain"),
    DecodingScheme("warm", temperature=1.7),
    DecodingScheme("few", top_k=5),
    DecodingScheme("nucleus", top_p=0.8),
    DecodingScheme("all three", temperature=0.6, top_k=12, top_p=0.9),
    DecodingScheme("one", top_p=1e-6),
    DecodingScheme("more than there are", top_k=1000),
]
# A log-sum-exp over 61 tokens of logits up to 20 rounds some 60 times at 2**-24.
TOLERANCE = 60 * 2.0**-24 * 20


def _logits(num_rows: int = 40, spread: float = 4.0) -> torch.Tensor:
    return torch.randn(num_rows, VOCABULARY, generator=torch.Generator().manual_seed(3)) * spread


def _over_vocabulary(logits: torch.Tensor, scheme: DecodingScheme) -> torch.Tensor:
    """Shape (num_rows, vocabulary): every token as the target once."""
    columns = [
        draw_log_probabilities(logits, torch.full((logits.shape[0],), token), scheme)
        for token in range(logits.shape[1])
    ]
    return torch.stack(columns, dim=1)


def _processed(logits: torch.Tensor, scheme: DecodingScheme) -> torch.Tensor:
    """The twin: what transformers makes of the logits before it draws."""
    ids = torch.zeros(logits.shape[0], 1, dtype=torch.int64)
    scores = TemperatureLogitsWarper(scheme.temperature)(ids, logits)
    if scheme.top_k:
        scores = TopKLogitsWarper(scheme.top_k)(ids, scores)
    if scheme.top_p < 1.0:
        scores = TopPLogitsWarper(scheme.top_p)(ids, scores)
    expected: torch.Tensor = scores.log_softmax(dim=-1)
    return expected


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: scheme.name)
def test_probabilities_are_those_that_transformers_draws_with(scheme: DecodingScheme) -> None:
    logits = _logits()
    found, expected = _over_vocabulary(logits, scheme), _processed(logits, scheme)
    assert torch.equal(found.isneginf(), expected.isneginf())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: scheme.name)
@pytest.mark.parametrize("rounded", [False, True], ids=["float32", "bfloat16"])
def test_probabilities_add_up_to_one(scheme: DecodingScheme, rounded: bool) -> None:
    logits = _logits()
    if rounded:  # many equal logits, also where the nucleus ends
        logits = logits.round()
    sums = _over_vocabulary(logits.to(torch.bfloat16) if rounded else logits, scheme).double().exp().sum(dim=1)
    torch.testing.assert_close(sums, torch.ones_like(sums), atol=TOLERANCE, rtol=0)


def test_top_k_keeps_all_tokens_as_likely_as_the_kth() -> None:
    logits = torch.tensor([[3.0, 2.0, 2.0, 2.0, 1.0]])
    found = _over_vocabulary(logits, DecodingScheme("k", top_k=2))
    assert found.isfinite().tolist() == [[True, True, True, True, False]]


def test_the_likeliest_token_is_certain_where_nothing_else_can_be_drawn() -> None:
    logits = _logits()
    for scheme in (DecodingScheme("k", top_k=1), DecodingScheme("p", top_p=1e-6)):
        assert (draw_log_probabilities(logits, logits.argmax(dim=-1), scheme) == 0).all()
        assert draw_log_probabilities(logits, logits.argmin(dim=-1), scheme).isneginf().all()


def test_tokens_that_the_model_rules_out_are_never_drawn() -> None:
    logits = _logits(3)
    logits[:, 5:] = -torch.inf
    found = _over_vocabulary(logits, DecodingScheme("nucleus", temperature=3.0, top_p=0.999))
    assert found[:, 5:].isneginf().all()
    assert not found.isnan().any()


def _tiny_llama(*, flat: bool) -> torch.nn.Module:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        initializer_range=0.5,
        pad_token_id=0,
        eos_token_id=VOCABULARY - 1,
    )
    module: torch.nn.Module = LlamaForCausalLM(config)
    if flat:
        torch.nn.init.zeros_(module.get_parameter("lm_head.weight"))
    return module


@pytest.mark.parametrize(
    ("temperature", "top_p", "flat"), [(3.0, 0.8, False), (4.0, 1.0, False), (1.0, 0.5, True)], ids=str
)
def test_sampling_draws_with_the_probabilities_that_the_scheme_gives(
    temperature: float, top_p: float, flat: bool
) -> None:
    module, num_draws = _tiny_llama(flat=flat), 1500
    with evaluation_mode(module):
        logits = module(input_ids=torch.tensor([PROMPT])).logits[:, -1]
    scheme = DecodingScheme("as sampled", temperature=temperature, top_p=top_p)
    expected = _over_vocabulary(logits, scheme)[0].double().exp().numpy() * num_draws
    answers = generate_answers(
        module,
        [PROMPT] * num_draws,
        max_new_tokens=1,
        batch_size=500,
        end_token_ids=(VOCABULARY + 5,),
        pad_token_id=0,
        sampling=Sampling(temperature=temperature, top_p=top_p),
    )
    drawn = np.bincount([answer.token_ids[0] for answer in answers], minlength=VOCABULARY)
    assert not drawn[expected == 0].any()
    is_common = expected >= 5  # where the chi-squared approximation holds
    statistic = (np.square(drawn - expected)[is_common] / expected[is_common]).sum()
    # A chi-squared variable with k degrees of freedom has mean k and variance 2k; five standard deviations above its
    # mean is beyond what the right probabilities give, and the seed is fixed.
    num_cells = int(is_common.sum())
    assert num_cells > 10
    assert statistic < num_cells + 5 * np.sqrt(2 * num_cells)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": 0.0}, r"bad: temperature is 0.0, expected a finite number > 0"),
        ({"temperature": float("inf")}, r"bad: temperature is inf"),
        ({"top_k": -1}, r"bad: top_k is -1, expected >= 0"),
        ({"top_p": 0.0}, r"bad: top_p is 0.0, expected more than 0"),
        ({"top_p": 1.1}, r"bad: top_p is 1.1"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DecodingScheme("bad", **settings)
