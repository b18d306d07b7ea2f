"""A model as it answers, for a while."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def evaluation_mode(module: torch.nn.Module) -> Iterator[None]:
    """Runs the body without dropout and without gradients, then puts the mode of each of its modules back."""
    modes = [(part, part.training) for part in _parts(module)]
    if any(is_training for _, is_training in modes):
        module.eval()
    try:
        with torch.no_grad():  # not inference_mode: its tensors may not enter a later training step
            yield
    finally:
        for part, was_training in modes:
            if part.training != was_training:  # to set an attribute of a module takes long
                part.training = was_training


def _parts(module: torch.nn.Module) -> Iterator[torch.nn.Module]:
    """A module and all below it; `modules()` hands each one up through every level above it, which takes long."""
    left = [module]
    while left:
        part = left.pop()
        left.extend(part.children())
        yield part
