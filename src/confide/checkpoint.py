"""What a round folder holds beyond the adapter, so that a run goes on to the same bits after a kill.

adapter_config.json, adapter_model.safetensors    the global adapter, as PEFT reads it
record.json        the round's record (not in round 0)
clients.json       figures about each client, some of which it told nobody: diagnostics, not for publication
state/server.json               the server's state
state/global.safetensors        the global state
state/client-NAME.safetensors   what each client carries on its own; the file is called by `file_name` of the client's
                                name, and has the name inside
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

from confide.errors import LayoutMismatchError, MessageError, RunDirectoryError
from confide.files import write_atomic
from confide.global_state import GlobalState
from confide.names import file_name
from confide.parties.client import Client
from confide.parties.server import ServerState
from confide.parties.state import pack_own, unpack_own
from confide.records import ClientDiagnostics, RoundRecord
from confide.run import RECORD_FILE
from confide.update import Layout, Vector

_MODE = 0o600  # what clients keep to themselves


class AdapterWriter(Protocol):
    """Writes a flat adapter in PEFT's format; see `confide.model.lora.AdaptedModel.save`."""

    def save(self, folder: Path, vector: Vector) -> None:
        """Writes the adapter's files into `folder`."""
        ...


def save_state(folder: Path, *, writer: AdapterWriter, server: ServerState, clients: Sequence[Client]) -> None:
    """Writes the adapter and everything a resume needs into `folder`, which the caller makes appear in one step."""
    state = folder / "state"
    state.mkdir(mode=0o700)
    shared = next(client.state.shared for client in clients if client.name in server.current)
    writer.save(folder, shared.adapter)
    write_atomic(state / "global.safetensors", shared.to_bytes(), mode=_MODE)
    for client in clients:
        settled = client.settled(counted=client.name in server.counted)
        write_atomic(_client_file(state, client.name), pack_own(client.name, settled), mode=_MODE)
    server_json = {
        "round_number": server.round_number,
        "adapter_digest": server.adapter_digest,
        "current": sorted(server.current),
        "num_examples": dict(server.num_examples),
    }
    write_atomic(state / "server.json", json.dumps(server_json, indent=2) + "\n", mode=_MODE)


def save_record(folder: Path, record: RoundRecord, diagnostics: Iterable[ClientDiagnostics]) -> None:
    """Writes the round's record, and apart from it what clients told about themselves."""
    (folder / RECORD_FILE).write_text(record.to_json() + "\n")
    notes = [asdict(one) for one in diagnostics]
    (folder / "clients.json").write_text(json.dumps(notes, indent=2) + "\n")


def load_state(folder: Path, *, layout: Layout, clients: Sequence[Client]) -> ServerState:
    """Puts every client back to where it stood after a round, and gives the server's state.

    A client that had missed that round is given the current global state; it would be handed it anyway before the next.

    Raises:
        RunDirectoryError: a file is missing or damaged, or belongs to another federation.
    """
    state = folder / "state"
    try:
        server = json.loads((state / "server.json").read_text())
        found = ServerState(
            round_number=int(server["round_number"]),
            adapter_digest=str(server["adapter_digest"]),
            current=frozenset(client.name for client in clients),
            num_examples=dict(server["num_examples"]),
        )
        shared = GlobalState.from_bytes((state / "global.safetensors").read_bytes(), layout)
        own = {
            client.name: unpack_own(_client_file(state, client.name).read_bytes(), client.name, shared)
            for client in clients
        }
    except (OSError, ValueError, KeyError, TypeError, MessageError, LayoutMismatchError) as error:
        raise RunDirectoryError(f"{folder} cannot be resumed from: {error}") from error
    if found.adapter_digest != shared.digest:
        raise RunDirectoryError(f"{folder} is damaged: the saved global state does not match its digest")
    for client in clients:
        client.state = own[client.name]
    return found


def _client_file(state: Path, name: str) -> Path:
    return state / f"client-{file_name(name)}.safetensors"
