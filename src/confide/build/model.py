"""From a configuration to the model, and the machine it runs on."""

import os
import sys
from pathlib import Path

import torch

from confide.config.schema import Config
from confide.errors import ConfigError
from confide.model.context import max_positions
from confide.model.load import load_base_model
from confide.model.lora import AdaptedModel, LoraSettings, attach_lora


def apply_threads(config: Config, *, kept: int = 0) -> int:
    """Sets torch's CPU threads and gives their number: `kept`, or where that is 0 as configured.

    The number decides the order in which sums are formed, and so the last bits: who goes on with a run keeps its own.
    """
    threads = kept or config.run.threads or _physical_cores()
    torch.set_num_threads(threads)
    return threads


def build_model(config: Config) -> AdaptedModel:
    """Loads the base model and puts a fresh LoRA adapter on it, the same at every client.

    Raises:
        ConfigError: the model has fewer positions than `train.max_tokens`.
        ModelError, MissingExtraError: see `load_base_model` and `attach_lora`.
    """
    base = load_base_model(
        config.model.base,
        device=config.run.device,
        dtype=config.model.dtype,
        load_in_8bit=config.model.load_in_8bit,
        load_in_4bit=config.model.load_in_4bit,
        seed=config.run.seed,
    )
    limit = max_positions(base.module)
    if limit is not None and config.train.max_tokens > limit:
        raise ConfigError(
            f"train.max_tokens is {config.train.max_tokens}, but {base.name} has positions for {limit} tokens. Set "
            f"train.max_tokens to {limit} or less, or take a model that reads longer texts."
        )
    targets = config.lora.targets
    settings = LoraSettings(
        lora_rank=config.lora.rank,
        lora_alpha=config.lora.alpha,
        dropout=config.lora.dropout,
        targets=targets if isinstance(targets, str) else tuple(targets),
        full_rank=config.lora.full_rank,
    )
    return attach_lora(base, settings, seed=config.run.seed)


def _physical_cores() -> int:
    """Physical cores this process may use; hyper-threads do not help dense arithmetic."""
    usable = os.sched_getaffinity(0) if sys.platform == "linux" else range(os.cpu_count() or 1)
    siblings = set()
    for cpu in usable:
        listing = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        siblings.add(listing.read_text().strip() if listing.exists() else str(cpu))
    return max(1, len(siblings))
