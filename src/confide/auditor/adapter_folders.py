"""A folder of anybody's adapters, one per round: which there are, and what they are adapters of.

Only plain LoRA is taken: each adapted layer gets scaling * B A and nothing else changes. What PEFT can do beyond that
is refused, as a model that is read only in part would be judged wrongly.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from confide.errors import ModelError
from confide.model.merge import is_adapter_folder

_NUMBER = re.compile(r"\d+")
_FACTOR = re.compile(r"base_model\.model\.(?P<layer>.+)\.lora_(?P<factor>[AB])\.weight")
_READ = frozenset(
    {"peft_type", "r", "lora_alpha", "use_rslora", "base_model_name_or_path", "bias", "init_lora_weights"}
)
_SAYS_NOTHING_MORE = frozenset(
    {
        # What the names of the tensors say already, or what only matters in training or for saving.
        *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "fan_in_fan_out"),
        *("auto_mapping", "peft_version", "revision", "inference_mode", "task_type", "lora_dropout"),
        *("megatron_core", "qalora_group_size", "eva_config", "ensure_weight_tying"),
    }
)
_STARTS_THAT_LEAVE_THE_BASE_ALONE = (True, False, None, "gaussian", "orthogonal", "eva")


@dataclass(frozen=True, kw_only=True)
class AdapterShape:
    """What an adapter is of.

    Attributes:
        lora_rank: of every layer.
        lora_alpha: such that lora_alpha / lora_rank is the scaling.
        layers: full names of the adapted layers, sorted.
        base: what it calls its base model; "" if nothing.
    """

    lora_rank: int
    lora_alpha: float
    layers: tuple[str, ...]
    base: str


@dataclass(frozen=True, kw_only=True)
class AdapterRounds:
    """Adapters by round.

    Attributes:
        folders: by the number in the folder's name, or 1 for a single adapter. 0 is an adapter that changes nothing;
            where the folder number 0 does change something, all numbers are one more than in the names.
        missing: numbers before the last that no folder has, by the beat of those that are there.
        ignored: folders with adapters that are not among them.
    """

    folders: Mapping[int, Path]
    missing: tuple[int, ...] = ()
    ignored: tuple[Path, ...] = ()


def find_rounds(folder: Path) -> AdapterRounds:
    """Finds the adapters in a folder: itself, or its folders by the last number in their names.

    A round whose number is missing is noticed by the smallest step between two numbers: 500, 1000, 2000 lack 1500.

    Raises:
        ModelError: there is no adapter, or two of them have one number.
    """
    if not folder.is_dir():
        raise ModelError(f"there is no folder {folder}. Give a folder with PEFT adapters, one per round.")
    inside = [path for path in sorted(folder.iterdir()) if path.is_dir() and is_adapter_folder(path)]
    if is_adapter_folder(folder):
        return AdapterRounds(folders=MappingProxyType({1: folder}), ignored=tuple(inside))
    folders: dict[int, Path] = {}
    ignored = []
    for path in inside:
        numbers = _NUMBER.findall(path.name)
        if not numbers:
            ignored.append(path)
            continue
        number = int(numbers[-1])
        if number in folders:
            raise ModelError(f"{folders[number]} and {path} have the same number, {number}: which round is which?")
        folders[number] = path
    if not folders:
        raise ModelError(
            f"{folder} is no PEFT adapter and has no folder with one whose name has a number, such as round-1 or "
            "checkpoint-500, in it. An adapter is a folder with adapter_config.json and adapter_model.safetensors."
        )
    missing = _missing(sorted(folders))
    if 0 in folders and not _changes_nothing(folders[0]):
        folders = {number + 1: path for number, path in folders.items()}
    return AdapterRounds(
        folders=MappingProxyType(dict(sorted(folders.items()))), missing=missing, ignored=tuple(ignored)
    )


def common_shape(folders: Mapping[int, Path]) -> AdapterShape:
    """Reads what all the adapters are of.

    Raises:
        ModelError: one cannot be read, is not plain LoRA, or differs from the others.
    """
    first, *others = folders.values()
    shape = read_shape(first)
    for folder in others:
        other = read_shape(folder)
        if (other.lora_rank, other.lora_alpha, other.layers) != (shape.lora_rank, shape.lora_alpha, shape.layers):
            raise ModelError(
                f"the adapters in {first} and {folder} are not of one training: rank {shape.lora_rank} and "
                f"{other.lora_rank}, alpha {shape.lora_alpha:g} and {other.lora_alpha:g}, {len(shape.layers)} and "
                f"{len(other.layers)} layers."
            )
    return shape


def read_shape(folder: Path) -> AdapterShape:
    """Reads what an adapter is of, from its configuration and the names of its tensors.

    Raises:
        ModelError: the files cannot be read, or it is not plain LoRA; says what it is.
    """
    found = _read_config(folder)
    _check_plain(folder, found)
    lora_rank, lora_alpha = found.get("r"), found.get("lora_alpha")
    if not isinstance(lora_rank, int) or lora_rank < 1 or not isinstance(lora_alpha, int | float) or lora_alpha <= 0:
        raise ModelError(
            f"the adapter in {folder} has rank {lora_rank!r} and alpha {lora_alpha!r}, expected numbers > 0."
        )
    return AdapterShape(
        lora_rank=lora_rank,
        # Rank-stabilised LoRA divides by the root of the rank.
        lora_alpha=float(lora_alpha) * (math.sqrt(lora_rank) if found.get("use_rslora") else 1.0),
        layers=_adapted_layers(folder),
        base=str(found.get("base_model_name_or_path") or ""),
    )


def _read_config(folder: Path) -> dict[str, object]:
    path = folder / "adapter_config.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read ({error}). Expected a PEFT adapter.") from error
    if not isinstance(found, dict):
        raise ModelError(f"{path} holds no JSON object. Expected a PEFT adapter.")
    return found


def _check_plain(folder: Path, found: Mapping[str, object]) -> None:
    if found.get("peft_type") != "LORA":
        raise ModelError(f"the adapter in {folder} is of type {found.get('peft_type')!r}, expected 'LORA'.")
    if found.get("init_lora_weights") not in _STARTS_THAT_LEAVE_THE_BASE_ALONE:
        raise ModelError(
            f"the adapter in {folder} was started with init_lora_weights {found['init_lora_weights']!r}, which changes "
            "the base model's weights too. Convert it to plain LoRA when saving it (PEFT: "
            "path_initial_model_for_weight_conversion)."
        )
    unusual = sorted(key for key, value in found.items() if value and key not in _READ | _SAYS_NOTHING_MORE)
    if found.get("bias", "none") != "none":
        unusual.append("bias")
    if unusual:
        raise ModelError(
            f"the adapter in {folder} is not plain LoRA: it uses {', '.join(unusual)}. Merge it into its base model "
            "and train plain LoRA, or audit it with a tool that knows it."
        )


def _adapted_layers(folder: Path) -> tuple[str, ...]:
    path = folder / "adapter_model.safetensors"
    if not path.is_file():
        raise ModelError(f"{folder} has no adapter_model.safetensors. Save the adapter with safetensors, as PEFT does.")
    try:
        with safe_open(path, framework="numpy") as file:
            names = list(file.keys())
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} cannot be read ({error}). It is damaged: take another copy.") from error
    factors = [_FACTOR.fullmatch(name) for name in names]
    strange = [name for name, factor in zip(names, factors, strict=True) if factor is None]
    if strange or not names:
        raise ModelError(
            f"{path} holds {len(strange)} tensors of {len(names)} that are no LoRA factors"
            f"{f' (first: {strange[0]})' if strange else ''}. Where other weights were trained too, or tokens were "
            "added to the vocabulary, the adapter alone is not the model: it cannot be audited on its base."
        )
    return tuple(sorted({factor["layer"] for factor in factors if factor is not None}))


_LEAST_BEAT = 10
"""Numbers that go up by so much count steps of training and not rounds."""


def _missing(numbers: Sequence[int]) -> tuple[int, ...]:
    """Numbers that no folder has, by the smallest step; where training ended off the beat, the last does not count."""
    steps = [later - earlier for earlier, later in pairwise(numbers)]
    if not steps:
        return ()
    step = min(steps)
    if any(one % step for one in steps):
        return _missing(numbers[:-1])
    if numbers[0] % step and step < _LEAST_BEAT:
        step = 1  # 1, 3, 5: rounds count from 1 and not from -1
    return tuple(sorted(set(range(numbers[0] % step or step, numbers[-1], step)) - set(numbers)))


def _changes_nothing(folder: Path) -> bool:
    """Whether an adapter's product is zero: one of its factors is, in every layer, as before any training."""
    path = folder / "adapter_model.safetensors"
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} cannot be read ({error}). It is damaged: take another copy.") from error
    return not any(tensor.any() for name, tensor in tensors.items() if ".lora_B." in name)
