"""The LoRA adapter: attached through PEFT, read and written as one flat vector, saved in PEFT's format.

Training, rounds and checkpoints know an adapter only as a `Layout` and a vector.
"""

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from peft.tuners.lora import LoraLayer
from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
from torch import Tensor
from transformers import PreTrainedTokenizerBase
from transformers.pytorch_utils import Conv1D

from confide.errors import ModelError
from confide.model.adapter_files import adapter_json, write_adapter
from confide.model.full_rank import WholeMatrix, num_inputs
from confide.model.load import BaseModel
from confide.model.lora_targets import Targets, resolve_targets
from confide.seeds import stream, torch_stream
from confide.update import Layout, Slot, Vector

_ADAPTER = "default"


@dataclass(frozen=True, kw_only=True)
class LoraSettings:
    """How an adapter is built.

    Attributes:
        lora_rank: inner dimension of every pair of factors, >= 1.
        lora_alpha: the product of the factors is multiplied by lora_alpha / lora_rank, > 0.
        dropout: probability that an input of the adapter is dropped in training, in [0, 1).
        targets: which linear layers get one: "auto" (PEFT's choice for the architecture), "all-linear" (all but the
            vocabulary head), or module names such as ("q_proj", "v_proj").
        full_rank: whether every layer has as many inner dimensions as inputs, a scale of 1, and the identity for A,
            which stays so: training B is then training whole matrices. `lora_rank` and `lora_alpha` are not used.

    Raises:
        ModelError: a number is out of its range, or there is no target.
    """

    lora_rank: int = 16
    lora_alpha: float = 32
    dropout: float = 0.0
    targets: Targets = "auto"
    full_rank: bool = False

    def __post_init__(self) -> None:
        if self.lora_rank < 1:
            raise ModelError(f"lora.rank is {self.lora_rank}, expected >= 1")
        if not (math.isfinite(self.lora_alpha) and self.lora_alpha > 0):
            raise ModelError(f"lora.alpha is {self.lora_alpha}, expected a finite number > 0")
        if not 0 <= self.dropout < 1:
            raise ModelError(f"lora.dropout is {self.dropout}, expected in [0, 1)")
        if not self.targets:
            raise ModelError("lora.targets is empty, expected 'auto', 'all-linear' or at least one module name")


class AdaptedModel:
    """A base model with a LoRA adapter whose values are one flat float32 vector.

    The adapter is float32 whatever the base's dtype. Made by `attach_lora`.

    Attributes:
        module: the PEFT model; call it as any causal LM of transformers.
        tokenizer: the base's.
        base: what it was attached to.
        settings: as asked for.
        layout: all factors, A and B, sorted by name; a slot's name is the key in PEFT's saved file. Of full rank too,
            though the model then has no parameter for A.
    """

    def __init__(self, module: PeftModel, base: BaseModel, settings: LoraSettings) -> None:
        self.module = module
        self.base = base
        self.tokenizer: PreTrainedTokenizerBase = base.tokenizer
        self.settings = settings
        self._parameters: dict[str, torch.nn.Parameter] = dict(
            sorted(
                (name.replace(f".{_ADAPTER}.", "."), parameter)
                for name, parameter in module.named_parameters()
                if f".{_ADAPTER}." in name
            )
        )
        self._lora_layers: list[LoraLayer | WholeMatrix] = [
            layer for layer in module.modules() if isinstance(layer, LoraLayer | WholeMatrix)
        ]
        self._identities = {  # the number of inputs by A's slot
            f"{name}.lora_A.weight": layer.num_inputs
            for name, layer in module.named_modules()
            if isinstance(layer, WholeMatrix)
        }
        shapes = {name: tuple(parameter.shape) for name, parameter in self._parameters.items()}
        shapes |= {name: (size, size) for name, size in self._identities.items()}
        self.layout = Layout(tuple(Slot(name=name, shape=shape) for name, shape in sorted(shapes.items())))

    def read(self) -> Vector:
        """Copies the adapter out, shape (layout.num_values,), float32."""
        tensors = {name: parameter.detach().cpu().numpy() for name, parameter in self._parameters.items()}
        return self.layout.flatten(tensors | self._identity_matrices())

    def write(self, vector: Vector) -> None:
        """Copies a vector of `layout` into the adapter, in place: optimisers keep their parameters.

        Raises:
            LayoutMismatchError: the vector does not fit the layout; nothing was written.
            ModelError: the model is of full rank, and A of a layer is not the identity; nothing was written.
        """
        self.layout.check(vector)
        for name, identity in self._identity_matrices().items():
            if not np.array_equal(vector[self.layout.slice_of(name)], identity.reshape(-1)):
                raise ModelError(
                    f"{name} is not the identity, expected it to be: of full rank (lora.full_rank) only B is trained. "
                    "The adapter is of another training: set lora.full_rank to false, and lora.rank to its rank."
                )
        with torch.no_grad():
            for name, parameter in self._parameters.items():  # one by one: an adapter of full rank is large
                parameter.copy_(torch.tensor(vector[self.layout.slice_of(name)]).view_as(parameter))

    def set_trainable(self, layout: Layout) -> None:
        """Lets exactly the slots of `layout` require gradients, and drops the gradients of the others.

        Raises:
            LayoutMismatchError: `layout` has a slot that the adapter has not.
            ModelError: one is an identity, which has no parameter.
        """
        self._check_parameters(layout)
        trainable = {slot.name for slot in layout}
        for name, parameter in self._parameters.items():
            parameter.requires_grad_(name in trainable)
            if name not in trainable:
                parameter.grad = None

    def parameters_of(self, layout: Layout) -> list[torch.nn.Parameter]:
        """Gives the parameters behind the slots of `layout`, in its order.

        Raises:
            LayoutMismatchError: `layout` has a slot that the adapter has not.
            ModelError: one is an identity, which has no parameter.
        """
        self._check_parameters(layout)
        return [self._parameters[slot.name] for slot in layout]

    @contextmanager
    def base_only(self) -> Iterator[None]:
        """Runs the body with the adapter switched off: the model computes exactly what the base computes.

        Guarantees:
            - Afterwards every parameter requires a gradient as it did before (PEFT's own switch would make all do).
        """
        before = [parameter.requires_grad for parameter in self._parameters.values()]
        for layer in self._lora_layers:
            layer.enable_adapters(False)
        try:
            yield
        finally:
            for layer in self._lora_layers:
                layer.enable_adapters(True)
            for parameter, required in zip(self._parameters.values(), before, strict=True):
                parameter.requires_grad_(required)

    @contextmanager
    def taking_turns(self, adapters: Sequence[Vector | None]) -> Iterator[Callable[[int], None]]:
        """Gives the body a function that puts one of some adapters into the model by its number, copying nothing.

        Each keeps tensors of its own: the size of its parameters, or, of full rank, of one matrix for each layer.

        Args:
            adapters: of `layout`; None is the base model.

        Guarantees:
            - Afterwards the parameters are those that there were, with undefined values.

        Raises:
            LayoutMismatchError, ModelError: as `write`.
        """
        summed = [layer for layer in self._lora_layers if isinstance(layer, WholeMatrix) and layer.is_summable]
        parameters = [] if summed else list(self._parameters.values())  # the base's layers have one dtype
        places: list[Callable[[Tensor | None], None]] = [layer.put_in for layer in summed]
        places += [partial(setattr, parameter, "data") for parameter in parameters]
        before = [*(None for _ in summed), *(parameter.data for parameter in parameters)]
        kept: list[list[Tensor]] = []
        for adapter in adapters:
            if adapter is None:  # factors of zeros add exactly zero to every layer
                kept.append(
                    [layer.base_matrix() for layer in summed] + [torch.zeros_like(each.data) for each in parameters]
                )
            else:
                self.write(adapter)
                kept.append([layer.matrix() for layer in summed] + [each.data.clone() for each in parameters])

        def put_in(values: Sequence[Tensor | None]) -> None:
            for place, value in zip(places, values, strict=True):
                place(value)

        try:
            yield lambda number: put_in(kept[number])
        finally:
            put_in(before)

    def save(self, folder: Path, vector: Vector) -> None:
        """Writes a vector of `layout` as a PEFT adapter; the model itself is not touched.

        `folder` gets adapter_config.json and adapter_model.safetensors, the same bytes for the same vector, and loads
        with `peft.PeftModel.from_pretrained(base, folder)`.

        Raises:
            LayoutMismatchError: the vector does not fit the layout.
            StorageError: a file could not be written.
        """
        write_adapter(folder, self.layout, vector, self._description())

    def describe(self) -> str:
        """What adapter_config.json says of any adapter of this model, as JSON."""
        return adapter_json(self._description())

    def _description(self) -> dict[str, object]:
        description: dict[str, object] = self.module.peft_config[_ADAPTER].to_dict()
        return description | {"base_model_name_or_path": self.base.reference, "inference_mode": True}

    def _identity_matrices(self) -> dict[str, npt.NDArray[np.float32]]:
        """A of every layer of full rank; layers of one size share theirs."""
        by_size = {size: np.eye(size, dtype=np.float32) for size in set(self._identities.values())}
        return {name: by_size[size] for name, size in self._identities.items()}

    def _check_parameters(self, layout: Layout) -> None:
        self.layout.select(slot.name for slot in layout)
        constant = sorted(self._identities.keys() & {slot.name for slot in layout})
        if constant:
            raise ModelError(
                f"{constant[0]} is the identity and stays so: of full rank (lora.full_rank) only B is trained. Set "
                "lora.average to 'freeze-a'."
            )


def attach_lora(base: BaseModel, settings: LoraSettings, *, seed: int) -> AdaptedModel:
    """Puts a new adapter into the base model's layers, in place; until trained it changes no output.

    A is drawn uniformly from (-1/sqrt(fan_in), 1/sqrt(fan_in)), as PEFT does, but from one named stream per slot and
    in float32 arithmetic that rounds the same everywhere; of full rank it is the identity. B is zero. So all clients of
    a run start from the same bytes, on any machine.

    Args:
        base: without an adapter so far.
        settings: rank, scale, dropout and targets.
        seed: of the run.

    Raises:
        ModelError: a target matches no linear layer, or the base has an adapter already.
    """
    if any(isinstance(module, LoraLayer | WholeMatrix) for module in base.module.modules()):
        raise ModelError(f"{base.name} has an adapter attached already; load the base model again for another one.")
    with warnings.catch_warnings(), torch_stream(seed, "lora-attach"):
        # PEFT asks transformers for a property under its old name.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        module = get_peft_model(base.module, _lora_config(base, settings))
    adapted = AdaptedModel(module.eval(), base, settings)
    if not settings.full_rank:  # whose start, the identities and zeros, is there already
        adapted.write(_initial_vector(adapted.layout, seed))
    return adapted


def _lora_config(base: BaseModel, settings: LoraSettings) -> LoraConfig:
    usual = TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
    targets = resolve_targets(settings.targets, base.module, usual, name=base.name)
    layers = {target: base.module.get_submodule(target) for target in targets}
    # Of full rank every layer has a rank of its own, and a scale of 1.
    ranks = {target: num_inputs(layer) for target, layer in layers.items() if settings.full_rank}
    config = LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        rank_pattern=dict(ranks),
        alpha_pattern=dict(ranks),
        lora_dropout=settings.dropout,
        target_modules=list(targets),
        # GPT-2 keeps its weights transposed, and PEFT has to know.
        fan_in_fan_out=any(isinstance(layer, Conv1D) for layer in layers.values()),
    )
    if settings.full_rank:
        kinds = {type(layer) for layer in layers.values()}
        config._register_custom_module(dict.fromkeys(kinds, partial(_make_whole, dropout=settings.dropout)))
    return config


def _make_whole(base_layer: torch.nn.Module, adapter_name: str, *, dropout: float, **_: object) -> WholeMatrix:
    """As PEFT asks for a layer of its own kind."""
    return WholeMatrix(base_layer, adapter_name, dropout=dropout)


def _initial_vector(layout: Layout, seed: int) -> Vector:
    tensors = {}
    for slot in layout:
        if ".lora_A." in slot.name:
            # float32 all the way, one rounding per operation: the same bits whatever the compiler fuses in float64.
            unit = stream(seed, "lora-a", slot.name).random(slot.shape, dtype=np.float32)
            bound = np.float32(1 / math.sqrt(slot.shape[1]))
            tensors[slot.name] = (unit * np.float32(2) - np.float32(1)) * bound
        else:
            tensors[slot.name] = np.zeros(slot.shape, np.float32)
    return layout.flatten(tensors)
