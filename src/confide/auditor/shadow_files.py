"""Keeps shadow models on disk, each beside the digest of all that decided it, so that none is trained twice.

A shadow was trained on records that are asked about: its folder is as confidential as the data.
"""

import hashlib
import json
import logging
from pathlib import Path

from confide.errors import ModelError
from confide.files import atomic_folder, sole_maker, write_atomic
from confide.model.adapter_files import read_adapter
from confide.model.lora import AdaptedModel
from confide.update import Vector

_NOTE_FILE = "shadow.json"

_log = logging.getLogger(__name__)


def keep_shadow(folder: Path, digest: str, model: AdaptedModel, adapter: Vector) -> None:
    """Writes a shadow as a PEFT adapter, whole or not at all, in the place of what was there.

    Args:
        folder: of this shadow alone.
        digest: of all that decided it.
        model: that the adapter is for; it is not touched.
        adapter: flat over the model's layout.

    Raises:
        StorageError: it cannot be written.
    """
    with sole_maker(folder), atomic_folder(folder) as temporary:
        model.save(temporary, adapter)
        note = {"training": digest, "adapter": vector_digest(adapter)}
        write_atomic(temporary / _NOTE_FILE, json.dumps(note) + "\n")


def kept_shadow(folder: Path, digest: str, model: AdaptedModel) -> Vector | None:
    """Gives the shadow that is kept, or None if there is none or something else decided it.

    One that is damaged is named in the log and counts as not there.
    """
    if not folder.is_dir():
        return None
    try:
        note = json.loads((folder / _NOTE_FILE).read_text(encoding="utf-8"))
        if isinstance(note, dict) and note.get("training") != digest:
            return None
        adapter = read_adapter(folder, model.layout, model.base.name)
        if note["adapter"] == vector_digest(adapter):
            return adapter
    except (OSError, ValueError, TypeError, KeyError, ModelError):  # no text, no JSON, no note, no adapter
        pass
    _log.warning("%s is damaged: this shadow model is trained again", folder)
    return None


def vector_digest(vector: Vector) -> str:
    """SHA-256 in hexadecimal over the values as float32."""
    return hashlib.sha256(vector.astype("<f4").tobytes()).hexdigest()
