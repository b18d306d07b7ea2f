"""PEFT's two adapter files, written from a flat vector and read back into one.

Knows the format, not the library: adapter_config.json describes the adapter, adapter_model.safetensors has its tensors.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import safetensors
import safetensors.numpy
import safetensors.torch

from confide.errors import ModelError
from confide.files import write_atomic
from confide.update import Layout, Vector

_CONFIG_FILE = "adapter_config.json"
_WEIGHTS_FILE = "adapter_model.safetensors"


def write_adapter(folder: Path, layout: Layout, vector: Vector, description: Mapping[str, object]) -> None:
    """Writes a vector as a PEFT adapter into `folder`, making it if need be: the same bytes for the same values.

    Args:
        folder: where both files go.
        layout: its slot names become the keys of the file.
        vector: of `layout`.
        description: what adapter_config.json holds; a set in it is written sorted, for PEFT keeps target names in
            sets, which every process orders anew.

    Raises:
        LayoutMismatchError: the vector does not fit the layout.
        StorageError: a file could not be written.
    """
    tensors = layout.unflatten(vector)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / _WEIGHTS_FILE, safetensors.numpy.save(tensors, metadata={"format": "pt"}))
    write_atomic(folder / _CONFIG_FILE, adapter_json(description))


def adapter_json(description: Mapping[str, object]) -> str:
    """The text of adapter_config.json, the same for the same description; see `write_adapter`."""
    plain = {key: sorted(value) if isinstance(value, set) else value for key, value in description.items()}
    return json.dumps(plain, indent=2, sort_keys=True) + "\n"


def read_adapter(folder: Path, layout: Layout, base_name: str) -> Vector:
    """Reads a saved PEFT adapter as a vector of `layout`.

    Args:
        folder: with adapter_config.json and adapter_model.safetensors.
        layout: of the model it is for.
        base_name: that model's name, for the message.

    Raises:
        ModelError: the folder is no LoRA adapter, its file is damaged, or it was made for another model or rank.
    """
    return parse_adapter(lambda name: (folder / name).read_bytes(), layout, base_name, folder=str(folder))


def parse_adapter(read: Callable[[str], bytes], layout: Layout, base_name: str, *, folder: str) -> Vector:
    """The same of files that are read by other means than a path.

    Args:
        read: gives the bytes of a file of the adapter, by its name alone; an OSError where there is none.
        layout: of the model it is for.
        base_name: that model's name, for the message.
        folder: what messages call where the files are.

    Raises:
        ModelError: as `read_adapter`.
    """
    _check_description(read, folder)
    try:
        tensors = safetensors.torch.load(read(_WEIGHTS_FILE))
    except FileNotFoundError as error:
        raise ModelError(f"{folder} has no {_WEIGHTS_FILE}. Expected a folder written by PEFT or by a run.") from error
    except (safetensors.SafetensorError, OSError) as error:
        raise ModelError(
            f"{folder}/{_WEIGHTS_FILE} cannot be read ({error}). It is damaged: take another copy, or another round's "
            "folder."
        ) from error
    arrays = {name: tensor.float().numpy() for name, tensor in tensors.items()}
    expected = {slot.name: slot.shape for slot in layout}
    missing = [name for name in expected if name not in arrays]
    unexpected = sorted(arrays.keys() - expected.keys())
    reshaped = [name for name, shape in expected.items() if name in arrays and arrays[name].shape != shape]
    if missing or unexpected or reshaped:
        raise ModelError(
            f"the adapter in {folder} does not fit {base_name}: {len(missing)} tensors missing{_first(missing)}, "
            f"{len(unexpected)} unexpected{_first(unexpected)}, {len(reshaped)} of another shape{_first(reshaped)}. "
            "It was trained on another model, or with other lora.rank or lora.targets."
        )
    return layout.flatten(arrays)


def _check_description(read: Callable[[str], bytes], folder: str) -> None:
    try:
        found = json.loads(read(_CONFIG_FILE).decode("utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder} has no readable {_CONFIG_FILE} ({error}). Expected a PEFT adapter.") from error
    kind = found.get("peft_type") if isinstance(found, dict) else None
    if kind != "LORA":
        raise ModelError(f"the adapter in {folder} is of type {kind!r}, expected 'LORA'.")


def _first(names: list[str]) -> str:
    return f" (first: {names[0]})" if names else ""
