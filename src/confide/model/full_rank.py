"""A linear layer whose whole matrix is trained, in place of a pair of LoRA factors.

On disk and in updates it is LoRA with the identity for A and the change of the matrix for B, so whatever reads a pair
of factors reads it. In the model there is no A: the layer multiplies by one matrix, the base's plus the change.
"""

from typing import cast

import torch
from torch import Tensor
from torch.nn.functional import linear
from transformers.pytorch_utils import Conv1D


class WholeMatrix(torch.nn.Module):
    """A base layer with a trained change of its matrix, which is zero at first.

    The sum of the two is kept between passes that train nothing, as a third matrix, and made anew when the change has
    another value. A training pass makes it anew each time, and gradients reach the change through it.

    Where the base is not float32, where dropout acts, and where Opacus watches the change for each example's gradient,
    the change is multiplied apart and its product added, as PEFT does it: a small change of a matrix would be lost in
    the rounding of their sum, and the two products have different inputs or are looked at apart.

    Args:
        base_layer: linear, or GPT-2's, whose matrix is transposed.
        adapter_name: what PEFT calls the adapter.
        dropout: probability that an input of the change is dropped in training.

    Attributes:
        base_layer: as given.
        lora_B: the change by the adapter's name, shape (outputs, inputs), float32; named as in PEFT's own layers.
        num_inputs: of the layer.

    Guarantees:
        - The result is that of PEFT's layer with the identity for A and a scale of 1, up to float rounding.
        - Switched off, the result is the base layer's, to the bit.
    """

    def __init__(self, base_layer: torch.nn.Module, adapter_name: str, *, dropout: float) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.num_inputs, num_outputs = num_inputs(base_layer), _num_outputs(base_layer)
        device = base_layer.get_parameter("weight").device
        change = torch.nn.Linear(self.num_inputs, num_outputs, bias=False, device="meta")  # draws no numbers: all zero
        change.weight = torch.nn.Parameter(torch.zeros(num_outputs, self.num_inputs, device=device))
        self.lora_B = torch.nn.ModuleDict({adapter_name: change})
        self._adapter_name = adapter_name
        self._dropout = torch.nn.Dropout(dropout)
        self._is_enabled = True
        self._in_turn: Tensor | None = None
        self._sum: Tensor | None = None
        self._summed = (0, 0)

    @property
    def is_summable(self) -> bool:
        """Whether the base's matrix and the change have one dtype, so that their sum loses nothing that counts."""
        return self.base_matrix().dtype == self._change.weight.dtype

    def enable_adapters(self, enabled: bool) -> None:
        """Switches the change on or off, as PEFT's own layers do it."""
        self._is_enabled = enabled

    def base_matrix(self) -> Tensor:
        """The base layer's matrix, shape (outputs, inputs), not a copy."""
        weight = self.base_layer.get_parameter("weight").detach()
        return weight.T if isinstance(self.base_layer, Conv1D) else weight

    def matrix(self) -> Tensor:
        """The sum of the base's matrix and the change, where `is_summable`, without gradients; (outputs, inputs).

        Later values of the change do not alter it.
        """
        change = self._change.weight
        value = (change.data_ptr(), change._version)  # torch counts the changes in place
        if self._sum is None or self._summed != value:
            self._sum = None  # let go of before the next is made
            self._sum, self._summed = self.base_matrix() + change.detach(), value
        return self._sum

    def put_in(self, matrix: Tensor | None) -> None:
        """Makes passes multiply by this matrix, shape (outputs, inputs), whatever the change is; None ends that."""
        self._in_turn = matrix

    def forward(self, inputs: Tensor) -> Tensor:
        """The layer's result, in the base layer's dtype."""
        if not self._is_enabled:
            return cast(Tensor, self.base_layer(inputs))
        if self._needs_own_product():
            result = cast(Tensor, self.base_layer(inputs))
            change = cast(Tensor, self._change(self._dropout(inputs.to(self._change.weight.dtype))))
            return (result + change).to(result.dtype)
        return linear(inputs, self._current(), cast(Tensor | None, self.base_layer.bias))

    @property
    def _change(self) -> torch.nn.Linear:
        return cast(torch.nn.Linear, self.lora_B[self._adapter_name])

    def _needs_own_product(self) -> bool:
        is_dropping = self.training and self._dropout.p > 0
        is_watched = len(self._change._forward_pre_hooks) > 0
        return self._in_turn is None and (not self.is_summable or is_dropping or is_watched)

    def _current(self) -> Tensor:
        if self._in_turn is not None:
            return self._in_turn
        if torch.is_grad_enabled() and self._change.weight.requires_grad:
            self._sum = None  # the next step will move the change: do not hold a third matrix meanwhile
            return self.base_matrix() + self._change.weight
        return self.matrix()


def num_inputs(layer: torch.nn.Module) -> int:
    """Of a linear layer, or of GPT-2's, whose matrix is transposed."""
    return int(layer.nx) if isinstance(layer, Conv1D) else cast(torch.nn.Linear, layer).in_features


def _num_outputs(layer: torch.nn.Module) -> int:
    return int(layer.nf) if isinstance(layer, Conv1D) else cast(torch.nn.Linear, layer).out_features
