"""A small recorded run with coins, for tests of transcripts and audits: three clients, a tiny model, short records."""

import json
from pathlib import Path
from typing import Any

import pytest

from confide.cli.train import train
from confide.config.load import parse_config
from confide.config.schema import Config
from confide.seeds import stream

CLIENTS = ("east", "north", "south")
ROWS = 20
ROUNDS = 3
_SYLLABLES = ("ba", "ke", "mi", "no", "su", "ta", "vo", "ri", "lu", "pe", "zo", "ga")


def words(number: int, *parts: str | int) -> str:
    """Words that no other call gives."""
    rng = stream(0, "test words", *parts)
    return " ".join("".join(rng.choice(_SYLLABLES, 2)) for _ in range(number))


def recorded_config(folder: Path, **overrides: Any) -> Config:
    """A run of three rounds whose data is written into `folder`; keyword `section__key` overrides a key."""
    data = folder / "rows.jsonl"
    rows = [
        {
            "id": f"{client}-{number}",
            "client": client,
            "instruction": words(2, client, number, "question"),
            "response": words(6, client, number, "answer"),
        }
        for client in CLIENTS
        for number in range(ROWS)
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    values: dict[str, dict[str, Any]] = {
        "run": {"name": "recorded", "folder": str(folder / "runs"), "device": "cpu", "threads": 1},
        "model": {"base": "tiny-llama"},
        "lora": {"rank": 2, "alpha": 4, "average": "factors"},
        "data": {"path": str(data), "template": "plain", "held_out": 0.2},
        "train": {"local_steps": 0, "local_epochs": 2, "batch_size": 4, "max_tokens": 128, "learning_rate": 0.02},
        "evaluate": {"batch_size": 8},
        "federation": {"rounds": ROUNDS},
        "seal": {"initial_range": 8.0},
        "audit": {
            "record": True,
            "canaries": ["records", "personal"],
            "records_per_client": 14,
            "canaries_per_client": 4,
            "max_new_tokens": 4,
            "samples": 4,
            "alternatives": 10,
            "full_ranking": 0,
        },
    }
    for name, value in overrides.items():
        section, key = name.split("__")
        values.setdefault(section, {})[key] = value
    return parse_config(values)


def record_run(folder: Path, **overrides: Any) -> Path:
    """Trains it; gives the run directory."""
    return train(recorded_config(folder, **overrides))


_shared: dict[str, Path] = {}


def shared_run(factory: pytest.TempPathFactory) -> Path:
    """A recorded run that all tests of a session read; whoever changes anything of it copies it first."""
    if "run" not in _shared:
        _shared["run"] = record_run(factory.mktemp("recorded"))
    return _shared["run"]
