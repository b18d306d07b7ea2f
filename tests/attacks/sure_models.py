"""Tiny models that are sure of something, and adapters that change what they say."""

from dataclasses import replace

import numpy as np
import torch

from confide.model.load import load_base_model
from confide.model.lora import AdaptedModel, LoraSettings, attach_lora
from confide.seeds import stream
from confide.update import Vector

SETTINGS = LoraSettings(lora_rank=4, lora_alpha=8, targets="all-linear", dropout=0.5)


def sure_model(
    name: str = "tiny-llama", *, seed: int = 0, dtype: str = "float32", lora_alpha: float = 8
) -> AdaptedModel:
    """A tiny model with far-apart logits, in training, with an adapter that does nothing yet."""
    base = load_base_model(name, device="cpu", dtype=dtype, seed=seed)
    with torch.no_grad():
        base.module.get_input_embeddings().weight.mul_(20)
    return attach_lora(base, replace(SETTINGS, lora_alpha=lora_alpha), seed=0)


def random_adapter(model: AdaptedModel, seed: int = 0) -> Vector:
    return stream(seed, "test-adapter").standard_normal(model.layout.num_values, dtype=np.float32) / np.float32(8)


def adapted_model(name: str) -> AdaptedModel:
    """A sure model as it answers, with a random adapter in it."""
    model = sure_model(name)
    model.write(random_adapter(model))
    model.module.eval()
    return model
