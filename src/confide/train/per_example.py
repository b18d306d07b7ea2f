"""Each example's own gradient, by Opacus' hooks on the layers of the adapter; training imports Opacus here alone.

The model is neither wrapped nor changed: hooks stand at the trained layers for a while and are taken away again, so
whoever calls the decoder or the output layer directly gets per-example gradients too.
"""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, cast

import torch
from torch import Tensor

from confide.errors import ModelError


class _Hooks(Protocol):
    """What is used of Opacus' `GradSampleHooks`."""

    def cleanup(self) -> None:
        """Takes the hooks and what they wrote off the model."""


class ExampleGradients:
    """Collects the gradient of each example of a batch; made by `watch_examples`.

    Args:
        layers: the trained layers by name, each an `nn.Linear`.
        parameters: that are trained; all belong to `layers`.
    """

    def __init__(self, layers: dict[str, torch.nn.Module], parameters: Sequence[torch.nn.Parameter]) -> None:
        self._layers = layers
        self._parameters = parameters
        self._batch_shape: tuple[int, int] = (0, 0)

    def expect(self, batch_shape: tuple[int, int]) -> None:
        """Says how many examples and tokens the next forward pass has.

        A layer that sees anything else (tokens of all examples in one row, as in mixtures of experts) cannot tell whose
        gradient is whose; the forward pass then raises ModelError.
        """
        self._batch_shape = batch_shape

    def take(self) -> list[Tensor]:
        """Takes each example's gradient after one backward pass of a sum over examples.

        Returns:
            One tensor per parameter, shape (num_examples, *parameter.shape), in the order of the parameters. These have
            no gradient afterwards, neither summed nor per example.

        Raises:
            ModelError: a layer took no part, or more than one, in the forward pass.
        """
        taken = []
        for parameter in self._parameters:
            found = getattr(parameter, "grad_sample", None)
            expected = (self._batch_shape[0], *parameter.shape)
            if not isinstance(found, Tensor) or tuple(found.shape) != expected:
                raise ModelError(
                    "a trained layer has no gradient per example: it takes no part in the forward pass, or more than "
                    "one. DP-SGD needs layers that are used once: name others in lora.targets."
                )
            taken.append(found)
            parameter.grad = None
            # mypy knows no such attribute of a parameter; Opacus keeps its per-example gradients there.
            parameter.__dict__["grad_sample"] = None
        return taken

    def check_input(self, layer: torch.nn.Module, inputs: tuple[Tensor, ...]) -> None:
        """A hook before each trained layer's forward pass."""
        if not torch.is_grad_enabled() or tuple(inputs[0].shape[:-1]) == self._batch_shape:
            return
        name = next(name for name, found in self._layers.items() if found is layer)
        raise ModelError(
            f"{name} gets an input of shape {tuple(inputs[0].shape)}, expected (examples, tokens, width) = "
            f"{(*self._batch_shape, inputs[0].shape[-1])}: whose gradient is whose cannot be told. Leave this layer "
            "out of lora.targets to train with privacy.unit = 'example'."
        )


@contextmanager
def watch_examples(module: torch.nn.Module, parameters: Sequence[torch.nn.Parameter]) -> Iterator[ExampleGradients]:
    """Lets backward passes keep each example's gradient, for the body.

    Args:
        module: in training mode; the parameters that require gradients are exactly `parameters`. The loss must be a sum
            over examples.
        parameters: that are trained, weights of `nn.Linear` layers.

    Guarantees:
        - Afterwards, and after an error, the module has no hook, no per-example gradient and no attribute that it had
          not before.

    Raises:
        ModelError: something else is trained too, or a trained layer is of another kind.
    """
    layers = _trained_layers(module, parameters)
    gradients = ExampleGradients(layers, parameters)
    checks = [layer.register_forward_pre_hook(gradients.check_input) for layer in layers.values()]
    hooks = None
    try:
        hooks = _attach(module)
        with warnings.catch_warnings():
            # The first layer's input needs no gradient; its hook gets the output's, which is all it reads.
            warnings.filterwarnings("ignore", "Full backward hook is firing", UserWarning)
            yield gradients
    finally:
        for check in checks:
            check.remove()
        if hooks is not None:
            hooks.cleanup()
        for layer in layers.values():  # what a pass leaves that was cut short
            layer.__dict__.pop("activations", None)
            layer.__dict__.pop("max_batch_len", None)


def _trained_layers(module: torch.nn.Module, parameters: Sequence[torch.nn.Parameter]) -> dict[str, torch.nn.Module]:
    wanted = {id(parameter) for parameter in parameters}
    layers: dict[str, torch.nn.Module] = {}
    for name, layer in module.named_modules():
        trained = {id(parameter) for parameter in layer.parameters(recurse=False) if parameter.requires_grad}
        if not trained:
            continue
        # No other kind, though Opacus knows more of them: what it does not know it would hand to functorch, untested.
        if not trained <= wanted or type(layer) is not torch.nn.Linear:
            raise ModelError(
                f"{name} ({type(layer).__name__}) is trained, but DP-SGD trains the linear layers of a LoRA adapter "
                "only. Leave it out of lora.targets to train with privacy.unit = 'example'."
            )
        layers[name] = layer
    return layers


def _attach(module: torch.nn.Module) -> _Hooks:
    with logging_left_alone():
        from opacus.grad_sample import GradSampleHooks
    return cast("_Hooks", GradSampleHooks(module, loss_reduction="sum"))


@contextmanager
def logging_left_alone() -> Iterator[None]:
    """Takes away the handlers that the body adds to the root logger: importing Opacus sets up the process's logging."""
    root = logging.getLogger()
    handlers = list(root.handlers)
    try:
        yield
    finally:
        for handler in set(root.handlers) - set(handlers):
            root.removeHandler(handler)
