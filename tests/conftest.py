"""What tests of several rooms share: a tiny federation, single-threaded torch, and a disk that nobody waits for."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import torch

from confide.config.load import parse_config
from confide.config.schema import Config

torch.set_num_threads(1)
hypothesis.settings.register_profile("no-clock", deadline=None)  # no test fails on an absolute time
hypothesis.settings.load_profile("no-clock")

ConfigMaker = Callable[..., Config]


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_the_disk() -> Iterator[None]:
    """Lets nobody wait for the disk: a tiny run syncs two hundred times, and no test cuts the power.

    Whoever counts syncs, or has one fail, puts a function of its own on top. Other processes sync as ever.
    """

    def sync(descriptor: int) -> None:
        os.fstat(descriptor)  # fails where there is no such file, as a sync does

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", sync)
        yield


@pytest.fixture(scope="session")
def short_texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of a few letters, owned by three clients of different size."""
    path = tmp_path_factory.mktemp("data") / "texts.jsonl"
    rows = [
        {"instruction": f"say {word}", "response": word * (1 + index % 3), "client": client, "label": word}
        for client, size in (("north", 7), ("south", 5), ("west", 9))
        for index, word in enumerate(["ab", "cde", "f"] * 3)
        if index < size
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def make_config(short_texts: Path, tmp_path: Path) -> ConfigMaker:
    """Makes a configuration of a federation that trains in milliseconds; keyword `section__key` overrides a key."""

    def make(**overrides: Any) -> Config:
        values: dict[str, dict[str, Any]] = {
            "run": {"name": "tiny", "folder": str(tmp_path / "runs"), "threads": 1},
            "model": {"base": "tiny-llama"},
            "lora": {"rank": 2},
            "data": {"path": str(short_texts), "template": "plain", "held_out": 0.2},
            "train": {"local_steps": 2, "batch_size": 2, "max_tokens": 40, "learning_rate": 0.05},
            "federation": {"rounds": 3},
        }
        for name, value in overrides.items():
            section, key = name.split("__")
            values.setdefault(section, {})[key] = value
        return parse_config(values)

    return make
