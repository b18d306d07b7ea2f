"""Finds and loads a trained model by the word a user gives for it.

The word is a run directory, a folder with an adapter in PEFT's format, or anything that names a whole model: a folder
of a merged model, a GGUF file, a hub id or a built-in name.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from confide.config.load import load_resolved
from confide.errors import ModelError, RunDirectoryError, UsageError
from confide.model.load import BaseModel, load_base_model
from confide.model.merge import adapter_base, attach_adapter, is_adapter_folder
from confide.run import RunDirectory


@dataclass(frozen=True, kw_only=True)
class ModelPlace:
    """Where a model's parts are, and how they were used in training.

    Attributes:
        base: the whole model, in any of the words `load_base_model` takes.
        adapter: the folder of the adapter on it; None for a model that stands alone.
        run: the run directory that the adapter lies in; None if in none.
        template: the name of the template it was trained with; None if it was trained on plain text, which is put into
            none; "auto" where nothing says.
        device: as in `load_base_model`; so are `dtype`, `load_in_8bit`, `load_in_4bit` and `seed`.
        base_digest: of the base weights it was trained on, and `base_dtype` what they were held in; None if unknown.
    """

    base: str
    adapter: Path | None = None
    run: Path | None = None
    template: str | None = "auto"
    device: str = "auto"
    dtype: str = "auto"
    load_in_8bit: bool = False
    load_in_4bit: bool = False
    seed: int = 0
    base_digest: str | None = None
    base_dtype: str | None = None

    @property
    def is_quantized(self) -> bool:
        """Whether the base model is held in 8 or 4 bits."""
        return self.load_in_8bit or self.load_in_4bit

    @property
    def sources(self) -> list[Path]:
        """The folders and files that it is made from, as far as they were named by their place on this machine."""
        named = (self.run, self.adapter, Path(self.base).expanduser())
        return [path for path in named if path is not None and path.exists()]


@dataclass(frozen=True, kw_only=True)
class OpenedModel:
    """A loaded model, ready to answer.

    Attributes:
        module: the model to call, adapter and all.
        base: what it was loaded from; its module is part of `module`.
    """

    module: torch.nn.Module
    base: BaseModel


def locate_model(word: str, *, base: str | None = None, round_number: int | None = None) -> ModelPlace:
    """Finds out what a word means, without loading weights.

    Args:
        word: see the module's docstring. A round's folder inside a run directory is read with the run's settings.
        base: the base model to use instead of the one that the run or the adapter names; it is then loaded in full
            precision.
        round_number: for a run, the round to take instead of the last complete one.

    Raises:
        RunDirectoryError: the run has no such round, or no complete one.
        UsageError: a round or a base is asked for where the word names neither a run nor an adapter.
        ModelError: an adapter's configuration cannot be read or names no base model.
    """
    path = Path(word).expanduser()
    if (path / "run.json").is_file():
        directory = RunDirectory.open(path)
        return _in_run(directory, _round_folder(directory, round_number), base)
    if round_number is not None:
        raise UsageError(f"--round goes with a run directory, and {word} is none (it has no run.json).")
    if is_adapter_folder(path):
        run = path.resolve().parent.parent
        if (run / "run.json").is_file():
            return _in_run(RunDirectory.open(run), path, base)
        return ModelPlace(base=base or adapter_base(path), adapter=path)
    if base is not None:
        raise UsageError(f"--base goes with a run or an adapter, and {word} is neither: it names a whole model.")
    return ModelPlace(base=word)


def open_model(place: ModelPlace) -> OpenedModel:
    """Loads a model and puts its adapter on.

    Raises:
        ModelError: see `load_base_model` and `attach_adapter`; or the base model's weights are not those that
            the run was trained on.
    """
    base = load_base_model(
        place.base,
        device=place.device,
        dtype=place.dtype,
        load_in_8bit=place.load_in_8bit,
        load_in_4bit=place.load_in_4bit,
        seed=place.seed,
    )
    if place.base_digest not in (None, base.digest) and place.base_dtype == str(base.dtype):
        raise ModelError(
            f"{place.base} has other weights now than when the run was trained (digest {base.digest[:12]}, then "
            f"{str(place.base_digest)[:12]}). Give the right base model with --base."
        )
    module = base.module if place.adapter is None else attach_adapter(base.module, place.adapter)
    return OpenedModel(module=module, base=base)


def _in_run(directory: RunDirectory, adapter: Path, base: str | None) -> ModelPlace:
    config = load_resolved(directory.config_path)
    place = ModelPlace(
        base=base or config.model.base,
        adapter=adapter,
        run=directory.path,
        template=None if directory.info.get("contents") == ["text"] else config.data.template,
        device=config.run.device,
        dtype=config.model.dtype,
        seed=config.run.seed,
    )
    if base is not None:
        return place
    digest, dtype = directory.info.get("base_digest"), directory.info.get("dtype")
    return replace(
        place,
        load_in_8bit=config.model.load_in_8bit,
        load_in_4bit=config.model.load_in_4bit,
        base_digest=None if digest is None else str(digest),
        base_dtype=None if dtype is None else str(dtype),
    )


def _round_folder(directory: RunDirectory, round_number: int | None) -> Path:
    if round_number is None:
        return directory.final
    numbers = directory.rounds()
    if round_number not in numbers:
        there = f"rounds {numbers[0]} to {numbers[-1]} are there" if numbers else "no round is complete yet"
        raise RunDirectoryError(f"{directory.path} has no round {round_number}: {there}. Give another --round.")
    return directory.round_folder(round_number)
