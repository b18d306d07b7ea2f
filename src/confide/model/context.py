"""How long a text a model can read where its positions are a table, as in GPT-2 and OPT."""

import re
from typing import Protocol, cast

import torch

_TABLE = re.compile(r"(?:.*\.)?(wpe|[^.]*pos[^.]*)")  # wpe, embed_positions, position_embeddings, positions_embed


def max_positions(module: torch.nn.Module) -> int | None:
    """Gives the most tokens, prompt and answer together, that a causal language model of transformers can read.

    None where positions are computed as they come (rotary, ALiBi, recurrent): there nothing fails, though a text far
    beyond what the model was trained on is read badly.

    Args:
        module: bare or wrapped by peft.
    """
    tables = [name for name, part in module.named_modules() if isinstance(part, torch.nn.Embedding)]
    tables += [name for name, _ in module.named_buffers()]  # GPT-J and CTRL keep sines in one
    if not any(_TABLE.fullmatch(name) for name in tables):
        return None
    limit: int | None = getattr(
        cast(_Configured, module).config.get_text_config(decoder=True), "max_position_embeddings", None
    )
    return limit


class _Config(Protocol):
    def get_text_config(self, *, decoder: bool) -> object: ...


class _Configured(Protocol):
    config: _Config
