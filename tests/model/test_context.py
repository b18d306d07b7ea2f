from collections.abc import Callable

import pytest
import torch
from transformers import BloomConfig, BloomForCausalLM, GPTJConfig, GPTJForCausalLM, OPTConfig, OPTForCausalLM

from confide.model.context import max_positions
from confide.model.load import load_base_model
from confide.model.lora import LoraSettings, attach_lora


def opt() -> torch.nn.Module:
    model: torch.nn.Module = OPTForCausalLM(
        OPTConfig(
            vocab_size=50,
            hidden_size=16,
            ffn_dim=24,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=64,
            word_embed_proj_dim=16,
        )
    )
    return model


def gptj() -> torch.nn.Module:
    """Rotates by sines that it keeps in a table."""
    model: torch.nn.Module = GPTJForCausalLM(
        GPTJConfig(
            vocab_size=50,
            n_embd=16,
            n_layer=1,
            n_head=2,
            rotary_dim=4,
            n_positions=64,
            bos_token_id=1,
            eos_token_id=2,
        )
    )
    return model


def bloom() -> torch.nn.Module:
    model: torch.nn.Module = BloomForCausalLM(BloomConfig(vocab_size=50, hidden_size=16, n_layer=1, n_head=2))
    return model


@pytest.mark.parametrize("make", [opt, gptj])
def test_a_model_with_a_table_of_positions_reads_as_many_tokens_and_no_more(
    make: Callable[[], torch.nn.Module],
) -> None:
    model = make().eval()
    limit = max_positions(model)
    assert limit == 64
    model(input_ids=torch.full((1, limit), 3))
    with pytest.raises((IndexError, RuntimeError)):
        model(input_ids=torch.full((1, limit + 1), 3))


def test_a_model_that_computes_its_positions_has_no_limit() -> None:
    assert max_positions(bloom()) is None
    assert max_positions(load_base_model("tiny-llama").module) is None


def test_an_adapter_changes_nothing_about_positions() -> None:
    base = load_base_model("tiny-gpt2")
    assert max_positions(base.module) == 1024
    assert max_positions(attach_lora(base, LoraSettings(lora_rank=2), seed=0).module) == 1024
