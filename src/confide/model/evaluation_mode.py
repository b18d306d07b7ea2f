"""A model as it answers, for a while."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def evaluation_mode(module: torch.nn.Module) -> Iterator[None]:
    """Runs the body without dropout and without gradients, then puts the mode of each of its modules back."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        with torch.no_grad():  # not inference_mode: its tensors may not enter a later training step
            yield
    finally:
        for part, was_training in modes:
            part.training = was_training
