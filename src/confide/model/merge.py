"""Finished adapters: put one onto a base model to use it, and merge the two into a model that stands alone.

For use, not for training: any adapter in PEFT's format is taken, from any tool and with any of PEFT's variants.
"""

import json
import re
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol, cast

import torch
from peft import PeftModel
from peft.utils import get_peft_model_state_dict
from safetensors import SafetensorError, safe_open

from confide.errors import ModelError
from confide.files import atomic_folder
from confide.model.hub import has_weights
from confide.model.quiet import quiet_libraries

_ADAPTER_CONFIG = "adapter_config.json"
_ADAPTER_WEIGHTS = "adapter_model.safetensors"
_SAVED_BY_TRANSFORMERS = re.compile(
    r"(generation_)?config\.json"
    r"|(model|pytorch_model)(-\d{5}-of-\d{5})?\.(safetensors|bin)(\.index\.json)?"
    r"|(tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab)\.json|vocab\.txt|merges\.txt"
    r"|(tokenizer|spiece|sentencepiece(\.bpe)?)\.model|chat_template\.jinja|additional_chat_templates"
)


def is_adapter_folder(folder: Path) -> bool:
    """Tells whether a folder holds an adapter in PEFT's format."""
    return (folder / _ADAPTER_CONFIG).is_file()


def adapter_base(folder: Path) -> str:
    """Gives the base model that a saved adapter names (a hub id, a folder, or a tiny model's name).

    Raises:
        ModelError: the configuration cannot be read or names no base model.
    """
    path = folder / _ADAPTER_CONFIG
    try:
        named = json.loads(path.read_text(encoding="utf-8")).get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(f"{path} cannot be read as an adapter's configuration ({type(error).__name__}).") from error
    if not named:
        raise ModelError(f"{path} does not name its base model (base_model_name_or_path). Say which one with --base.")
    return str(named)


def attach_adapter(base: torch.nn.Module, folder: Path) -> torch.nn.Module:
    """Puts a saved adapter onto a base model.

    Args:
        base: a causal language model of transformers; it becomes part of the result and must not be used on its own.
        folder: in PEFT's format, with its weights as safetensors.

    Returns:
        The adapted model, in evaluation mode.

    Guarantees:
        - Every weight of the adapter found its place, and no place was left empty: an adapter that only partly fits
          is refused, where PEFT would warn or say nothing.

    Raises:
        ModelError: the folder holds no adapter, or the adapter is of another model; the message has the first
            difference.
    """
    saved = _saved_shapes(folder)
    try:
        with quiet_libraries(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what does not fit is found and named below
            adapted: torch.nn.Module = PeftModel.from_pretrained(base, str(folder), ignore_mismatched_sizes=True)
    except ValueError as error:  # none of the adapter's target modules is in the base model
        raise _another_model(folder, base, "none of the layers it adapts is there") from error
    expected = {name: tuple(tensor.shape) for name, tensor in _adapter_weights(adapted).items()}
    difference = _first_difference(saved, expected)
    if difference is not None:
        raise _another_model(folder, base, difference)
    return adapted


def merge_adapter(adapted: torch.nn.Module) -> torch.nn.Module:
    """Adds an adapter's product to its base model's weights and gives the base model, without any adapter.

    The adapted model must not be used afterwards: both share their weights.

    Args:
        adapted: as `attach_adapter` gives it.

    Guarantees:
        - The logits are those of the adapted model up to rounding in the weights' dtype.

    Raises:
        ModelError: the base model is quantised: rounding the sum to 8 or 4 bits would lose much of the adapter.
    """
    peft_model = cast(_Adapted, adapted)
    if getattr(peft_model.get_base_model(), "hf_quantizer", None) is not None:
        raise ModelError(
            "the base model is loaded in 8 or 4 bits, and an adapter cannot be merged into it without losing much of "
            "what was learnt. Merge into the full-precision base model: name it with --base."
        )
    return peft_model.merge_and_unload()


def save_model(module: torch.nn.Module, tokenizer: object, folder: Path, *, replace: bool = False) -> None:
    """Writes a model and its tokenizer as a folder that transformers' `from_pretrained` loads, all or nothing.

    Args:
        module: a model of transformers, without adapters.
        tokenizer: of transformers.
        folder: where to; its parents are made.
        replace: whether a folder that holds a saved model, and nothing else, may be replaced.

    Raises:
        ModelError: the folder has files in it and `replace` is False or they are not a saved model's, or it is a file.
        StorageError: it cannot be written; what was there before is intact.
    """
    check_free(folder, replace=replace)
    with atomic_folder(folder) as temporary, quiet_libraries():
        cast(_Saves, module).save_pretrained(str(temporary))
        cast(_Saves, tokenizer).save_pretrained(str(temporary))


def check_free(folder: Path, *, replace: bool) -> None:
    """Checks that a model may be written to a folder, before the work of making it.

    Raises:
        ModelError: see `save_model`.
    """
    if folder.exists() and not folder.is_dir():
        raise ModelError(f"{folder} is a file, expected a folder to write the model to. Give another name.")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not replace:
        raise ModelError(f"{folder} exists and is not empty. Give another folder, or replace it with --force.")
    strangers = sorted(path.name for path in folder.iterdir() if not _SAVED_BY_TRANSFORMERS.fullmatch(path.name))
    if strangers or not (folder / "config.json").is_file() or not has_weights(folder):
        reason = f"it has {strangers[0]} in it" if strangers else "it lacks config.json or weights"
        raise ModelError(
            f"{folder} is not just a saved model ({reason}), and --force replaces nothing else. Give another folder, "
            "or move away yourself what is there."
        )


def check_apart(folder: Path, sources: Iterable[Path]) -> None:
    """Checks that to write a model to a folder leaves alone what the model is made from.

    Raises:
        ModelError: the folder is one of the sources, inside one, or around one.
    """
    out = folder.resolve()
    for source in sources:
        place = source.resolve()
        if out == place or out in place.parents or place in out.parents:
            where = "is" if out == place else "lies inside" if place in out.parents else "is around"
            raise ModelError(f"{folder} {where} {source}, which the model is made from. Give a folder apart from it.")


class _Adapted(Protocol):
    def get_base_model(self) -> torch.nn.Module: ...

    def merge_and_unload(self) -> torch.nn.Module: ...


class _Saves(Protocol):
    def save_pretrained(self, save_directory: str) -> object: ...


def _adapter_weights(adapted: torch.nn.Module) -> dict[str, torch.Tensor]:
    # Without the last argument PEFT asks the model hub whether the vocabulary was resized.
    weights: dict[str, torch.Tensor] = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    return weights


def _saved_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    for name in (_ADAPTER_CONFIG, _ADAPTER_WEIGHTS):
        if not (folder / name).is_file():
            raise ModelError(
                f"{folder} holds no adapter: expected {name} in it. Give a run directory or a PEFT folder."
            )
    path = folder / _ADAPTER_WEIGHTS
    try:
        with safe_open(path, framework="pt") as file:
            names: list[str] = list(file.keys())
            return {name: tuple(file.get_slice(name).get_shape()) for name in names}
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is damaged: it cannot be read as safetensors ({error}).") from error


def _first_difference(saved: dict[str, tuple[int, ...]], expected: dict[str, tuple[int, ...]]) -> str | None:
    for name in sorted(saved.keys() | expected.keys()):
        if name not in expected:
            return f"it has weights for {name}, which the base model lacks"
        if name not in saved:
            return f"it lacks weights for {name}"
        if saved[name] != expected[name]:
            return f"{name} has shape {saved[name]}, expected {expected[name]}"
    return None


def _another_model(folder: Path, base: torch.nn.Module, difference: str) -> ModelError:
    return ModelError(
        f"the adapter in {folder} does not fit the base model ({type(base).__name__}): {difference}. "
        "Is it an adapter of another model? Name its own base model with --base."
    )
