"""Loads a base model and its tokenizer by name: the one way in for every model.

A name is a built-in one, `tiny-llama` or `tiny-gpt2`, a local folder, a GGUF file, or a hub id.
"""

import hashlib
import importlib.util
import json
import logging
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from confide.errors import MissingExtraError, ModelError
from confide.model.gguf import load_gguf_module, load_gguf_tokenizer
from confide.model.hub import has_weights, hub_snapshot
from confide.model.quiet import quiet_libraries
from confide.model.registry import BUILTIN_MODELS, CachedModel, fetch_model, find_cached, nearest_builtin
from confide.model.tiny import TINY_MODELS, make_byte_tokenizer, make_tiny_model

_log = logging.getLogger(__name__)

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_DIGEST_VALUES_PER_TENSOR = 256
_LOADING_ERRORS = (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError)


@dataclass(frozen=True, kw_only=True)
class BaseModel:
    """A pretrained causal language model, frozen, in evaluation mode, shared by everything in the process.

    Attributes:
        module: the transformers model; no parameter requires a gradient.
        tokenizer: has a padding token.
        name: as the user gave it.
        reference: what others load it by: a hub id (also for a built-in model, whichever source its weights came
            from) or an absolute folder; a tiny model's own name.
        digest: identifies the weights, see `weights_digest`.
        device: where the parameters are.
        dtype: of the parameters and of the computation (of the computation only, if quantised).
    """

    module: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str
    reference: str
    digest: str
    device: torch.device
    dtype: torch.dtype


def load_base_model(
    name: str,
    *,
    device: str = "auto",
    dtype: str = "auto",
    load_in_8bit: bool = False,
    load_in_4bit: bool = False,
    seed: int = 0,
) -> BaseModel:
    """Loads a causal language model and its tokenizer.

    Args:
        name: a built-in name (fetched on first use), `tiny-llama` or `tiny-gpt2`, a local folder, a GGUF file, or a
            hub id "owner/name".
        device: "auto" (CUDA if there is one), "cpu", "cuda" or "cuda:N".
        dtype: "float32", "bfloat16", "float16", or "auto": float32 on a CPU, where bfloat16 is often many times
            slower; on CUDA bfloat16 where the card computes in it, else float16.
        load_in_8bit: hold the linear layers in 8 bits (CUDA and the `quantization` extra).
        load_in_4bit: hold them in 4 bits, NF4 with double quantisation; not together with 8.
        seed: of the weights of a tiny model; unused by all others.

    Raises:
        ModelError: the name means nothing, the model is no causal LM, its files are missing or damaged, or the device
            cannot do what was asked.
        MissingExtraError: bitsandbytes is not installed.
    """
    torch_device = choose_device(device)
    torch_dtype = choose_dtype(dtype, torch_device)
    quantization = _quantization(torch_device, torch_dtype, load_in_8bit=load_in_8bit, load_in_4bit=load_in_4bit)
    if name in TINY_MODELS:
        if quantization is not None:
            raise ModelError(f"{name} is for tests and has no 8- or 4-bit form. Set model.load_in_8bit/4bit to false.")
        module = make_tiny_model(name, seed=seed).to(torch_dtype)
        tokenizer = make_byte_tokenizer()
        reference = name
    else:
        path, reference = _locate(name, with_weights=True)
        module = _load_module(name, path, torch_dtype, torch_device, quantization)
        tokenizer = _load_tokenizer(name, path)
    if quantization is None:  # quantised weights are put on their device while they are loaded
        module = module.to(torch_device)
    module.eval().requires_grad_(requires_grad=False)
    return BaseModel(
        module=module,
        tokenizer=tokenizer,
        name=name,
        reference=reference,
        digest=weights_digest(module),
        device=torch_device,
        dtype=torch_dtype,
    )


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """Loads only the tokenizer of the model that `load_base_model(name)` gives.

    A tokenizer without a padding token gets its end token for it, which the log says: padding is masked everywhere
    and never a target, so nothing is learnt from it.

    Raises:
        ModelError: as `load_base_model`.
    """
    if name in TINY_MODELS:
        return make_byte_tokenizer()
    path, _ = _locate(name, with_weights=False)
    return _load_tokenizer(name, path)


def pad_token_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """Gives the id that fills up a batch's shorter rows; what is filled up is masked and never a target."""
    return int(tokenizer.pad_token_id)


def choose_device(device: str) -> torch.device:
    """Turns "auto", "cpu", "cuda" or "cuda:N" into a device that is there.

    Raises:
        ModelError: another word, or a CUDA device that this machine does not have.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        raise ModelError(f"unknown device {device!r}, expected 'auto', 'cpu', 'cuda' or 'cuda:N'")
    chosen = torch.device(device)
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise ModelError(
            f"device {device!r} is not there: torch sees {torch.cuda.device_count()} CUDA devices. "
            "Set run.device to 'cpu' or 'auto', or install a torch build with CUDA."
        )
    return chosen


def choose_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """Turns a dtype's name, or "auto" (see `load_base_model`), into the dtype.

    Raises:
        ModelError: another word.
    """
    if dtype == "auto":
        if device.type == "cpu":
            return torch.float32
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if dtype not in _DTYPES:
        raise ModelError(f"unknown dtype {dtype!r}, expected 'auto', {', '.join(map(repr, _DTYPES))}")
    return _DTYPES[dtype]


_NOT_OF_THE_MODEL = frozenset({"_name_or_path", "transformers_version", "dtype", "torch_dtype"})


def weights_digest(module: PreTrainedModel) -> str:
    """Gives a SHA-256 in hexadecimal that tells base models apart, in well under a second for billions of weights.

    It covers the kind of model, every parameter's name and shape, and up to 256 evenly spaced values of each, rounded
    to bfloat16: the same weights held in float32 or bfloat16 give the same digest, on every device. Held in float16 or
    quantised they may not. It finds an honest mistake (another model, another revision, another conversion), not a
    forgery that leaves the sampled values alone.
    """
    digest = hashlib.sha256(str(module.config.model_type).encode())
    for name, parameter in sorted(module.named_parameters()):
        digest.update(f"\n{name} {tuple(parameter.shape)} ".encode())
        flat = parameter.detach().reshape(-1)
        step = max(1, -(-flat.numel() // _DIGEST_VALUES_PER_TENSOR))
        sample = flat[::step].to(torch.bfloat16).view(torch.int16).cpu()
        digest.update(sample.numpy().astype("<i2").tobytes())
    return digest.hexdigest()


def whole_weights_digest(module: PreTrainedModel) -> str:
    """Gives a SHA-256 in hexadecimal over the base model: its configuration and all bytes of all its weights.

    For who must tell a model from one made to look like it. It takes about a second for a gigabyte, and goes by the
    number type that the weights are held in. An adapter's own parameters are left out.

    Args:
        module: the model, perhaps with an adapter in it.
    """
    config: dict[str, object] = module.config.to_dict()
    told = {key: value for key, value in config.items() if key not in _NOT_OF_THE_MODEL}
    digest = hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode())
    for name, tensor in sorted(module.state_dict().items()):
        if ".lora_" in name:
            continue
        plain = name.replace("base_model.model.", "").replace(".base_layer.", ".")
        digest.update(f"\n{plain} {tuple(tensor.shape)} {tensor.dtype} ".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _locate(name: str, *, with_weights: bool) -> tuple[Path, str]:
    """Gives the folder or GGUF file that a name means, and the name's reference."""
    if name in BUILTIN_MODELS:
        return fetch_model(name).folder, BUILTIN_MODELS[name].hub_id
    cached = _cached_builtin(name)
    if cached is not None:
        return cached.folder, name
    path = Path(name).expanduser()
    if path.suffix.lower() == ".gguf":
        if not path.is_file():
            raise ModelError(f"there is no GGUF file {path}. Check model.base.")
        return path.absolute(), str(path.absolute())
    if path.is_dir():
        _check_folder(path)
        return path.absolute(), str(path.absolute())
    if path.is_absolute() or name.startswith((".", "~")):
        raise ModelError(f"there is no model folder {path}. Check model.base.")
    if _HUB_ID.fullmatch(name):
        folder = hub_snapshot(name, with_weights=with_weights)
        return folder, name
    raise ModelError(
        f"unknown model {name!r}.{nearest_builtin(name)} Expected a built-in name ({', '.join(BUILTIN_MODELS)}; "
        f"{' and '.join(TINY_MODELS)} for tests), a local folder, a .gguf file, or a hub id of the form owner/name."
    )


def _cached_builtin(hub_id: str) -> CachedModel | None:
    """Finds a built-in model by its hub id where it is in the cache: adapters name their base model so."""
    names = [model.name for model in BUILTIN_MODELS.values() if model.hub_id == hub_id]
    return find_cached(names[0]) if names else None


def _check_folder(folder: Path) -> None:
    if (folder / "config.json").exists():
        return
    if (folder / "adapter_config.json").exists():
        raise ModelError(f"{folder} holds a PEFT adapter, not a model. Give the model it was trained on as model.base.")
    raise ModelError(
        f"{folder} has no config.json, so it is no model folder. Expected one written by save_pretrained, with "
        "config.json, the weights and the tokenizer."
    )


def _load_module(
    name: str, path: Path, dtype: torch.dtype, device: torch.device, quantization: BitsAndBytesConfig | None
) -> PreTrainedModel:
    if path.is_file():
        if quantization is not None:
            raise ModelError(f"{name} is a GGUF file, which cannot be loaded in 8 or 4 bits. Give the original model.")
        try:
            return load_gguf_module(path, dtype)
        except _LOADING_ERRORS as error:
            raise _loading_error(name, "the weights", error) from error
    with quiet_libraries():
        try:
            config = AutoConfig.from_pretrained(path)
        except _LOADING_ERRORS as error:
            raise _loading_error(name, "the configuration", error) from error
        _check_causal(name, config)
        if not has_weights(path):
            raise ModelError(f"{name}: {path} has no weights (model.safetensors or all the parts its index lists).")
        placement = {} if quantization is None else {"quantization_config": quantization, "device_map": {"": device}}
        try:
            module, report = AutoModelForCausalLM.from_pretrained(
                path, dtype=dtype, output_loading_info=True, local_files_only=True, **placement
            )
        except _LOADING_ERRORS as error:
            raise _loading_error(name, "the weights", error) from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise ModelError(
            f"{name}: the weights lack {len(missing)} tensors that the configuration asks for "
            f"(first: {', '.join(missing[:3])}). The folder is incomplete or belongs to another architecture."
        )
    return module


def _check_causal(name: str, config: PreTrainedConfig) -> None:
    causal_classes = set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values())
    saved_as = config.architectures or []
    if config.is_encoder_decoder:
        reason = f"it is an encoder-decoder ({config.model_type})"
    elif config.model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        reason = f"transformers has no causal LM of its type {config.model_type!r}"
    elif saved_as and causal_classes.isdisjoint(saved_as):
        reason = f"it was saved as {', '.join(saved_as)}"
    else:
        return
    raise ModelError(
        f"{name} is no causal language model: {reason}. Confide fine-tunes models that predict the next token, such as "
        "Llama, Qwen, Gemma, Mistral or GPT-2."
    )


def _load_tokenizer(name: str, path: Path) -> PreTrainedTokenizerBase:
    try:
        if path.is_file():
            tokenizer = load_gguf_tokenizer(path)
        else:
            with quiet_libraries():
                tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
    except _LOADING_ERRORS as error:
        raise _loading_error(name, "the tokenizer", error) from error
    if tokenizer.eos_token_id is None:
        raise ModelError(f"{name}: the tokenizer names no end token (eos_token), so no response could ever end.")
    if tokenizer.pad_token_id is None:
        _log.info("%s: the tokenizer has no padding token, its end token %s stands in", name, tokenizer.eos_token)
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _quantization(
    device: torch.device, dtype: torch.dtype, *, load_in_8bit: bool, load_in_4bit: bool
) -> BitsAndBytesConfig | None:
    if not (load_in_8bit or load_in_4bit):
        return None
    if load_in_8bit and load_in_4bit:
        raise ModelError("load_in_8bit and load_in_4bit are both true, expected at most one.")
    if device.type != "cuda":
        raise ModelError(
            f"load_in_{8 if load_in_8bit else 4}bit needs a CUDA device, the model goes to {str(device)!r}. "
            "Set it to false, or run on a machine with a GPU."
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise MissingExtraError("bitsandbytes", "quantization", "loading in 8 or 4 bits")
    if load_in_8bit:
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def _loading_error(name: str, what: str, error: Exception) -> ModelError:
    reason = (str(error) or type(error).__name__).strip().splitlines()[0]
    return ModelError(
        f"{name}: {what} cannot be loaded ({type(error).__name__}: {reason}). Expected files that transformers loads "
        "without running code from the model's folder; check that they are complete."
    )
