"""A model as it answers, for a while."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def evaluation_mode(module: torch.nn.Module) -> Iterator[None]:
    """Runs the body without dropout and without gradients, then puts the module's mode back."""
    was_training = module.training
    module.eval()
    try:
        with torch.no_grad():  # not inference_mode: its tensors may not enter a later training step
            yield
    finally:
        module.train(was_training)
