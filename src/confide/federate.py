"""Runs a federation from its start, or from where it stopped, to its last round, and keeps it on disk."""

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol

from confide.checkpoint import AdapterWriter, load_state, save_record, save_state
from confide.errors import ConfideError, PrivacyBudgetError, RunDirectoryError, RunInterrupted
from confide.files import sync_tree
from confide.parties.client import Client
from confide.parties.server import Server, ServerState
from confide.records import RoundRecord
from confide.round import RoundResult, open_federation, run_round
from confide.round_record import RoundNotes, carry_epsilon
from confide.run import RunDirectory
from confide.seal.scheme import ClientSealing
from confide.tracking.tracker import Tracker
from confide.transport.base import Transport
from confide.update import Layout

_log = logging.getLogger(__name__)

_WITHIN = "The last model inside the budget is saved."
_NOTHING_WITHIN = (
    "Uploads of rounds that failed have spent it, and no round is complete, so there is no model. Find out why they "
    "failed, and start a new run; its data have been released once already, which its own epsilon does not count."
)


@dataclass(frozen=True, kw_only=True)
class Federation:
    """All parties of a federation in one process, ready to run.

    Attributes:
        writer: writes adapters in PEFT's format.
        layout: of the whole adapter.
        stops_at_budget: whether a run whose next round would pass the privacy budget is finished; otherwise it fails.
    """

    server: Server
    clients: Sequence[Client]
    transport: Transport
    notes: RoundNotes
    sealing: ClientSealing
    layout: Layout
    writer: AdapterWriter
    num_rounds: int
    stops_at_budget: bool = True


class Observer(Protocol):
    """Is told how a run goes on: a progress display, for example."""

    def round_started(self, round_number: int, num_rounds: int, num_clients: int) -> None:
        """A round begins, in which `num_clients` are asked to train."""
        ...

    def round_finished(self, record: RoundRecord, num_rounds: int) -> None:
        """A round is saved."""
        ...


def start(federation: Federation, directory: RunDirectory) -> ServerState:
    """Agrees on the start with all clients and saves it as round 0."""
    directory.clean()
    state = open_federation(federation.server, federation.transport)
    with directory.new_round(0) as folder:
        save_state(folder, writer=federation.writer, server=state, clients=federation.clients)
    directory.publish(0)
    return state


def restore(federation: Federation, directory: RunDirectory) -> ServerState:
    """Puts all parties back to the last complete round; where no round is left, only mends the directory."""
    directory.clean()
    last = directory.last_round()
    if 0 < federation.num_rounds == last:  # killed before it was called finished: the clients' states may be gone
        directory.publish(last)
        directory.rebuild_records()
        digest = directory.records()[-1].adapter_digest
        return ServerState(round_number=last, adapter_digest=digest, current=frozenset(), num_examples={})
    state = load_state(directory.round_folder(last), layout=federation.layout, clients=federation.clients)
    if state.round_number != last:
        raise RunDirectoryError(f"{directory.round_folder(last)} says it is round {state.round_number}")
    directory.publish(last)
    directory.rebuild_records()
    records = directory.records()
    for client in federation.clients:
        client.check_releases(sum(client.name in record.members for record in records))
    joined = open_federation(federation.server, federation.transport)
    if (joined.round_number, joined.adapter_digest) != (state.round_number, state.adapter_digest):
        raise RunDirectoryError(f"{directory.round_folder(last)} is damaged: the clients do not stand where it says")
    return joined


def run(
    federation: Federation,
    directory: RunDirectory,
    state: ServerState,
    *,
    observer: Observer,
    trackers: Sequence[Tracker],
) -> list[RoundRecord]:
    """Runs all rounds that are left, saving each one before the next begins.

    Returns:
        The records of all rounds of the run.

    Raises:
        ConfideError: a round failed or was interrupted; the run's status says which, and the last complete round is
            saved.
    """
    directory.set_status("running")
    reason = ""
    try:
        while state.round_number < federation.num_rounds:
            observer.round_started(state.round_number + 1, federation.num_rounds, federation.server.clients_per_round)
            state = _one_round(federation, directory, state, observer, trackers)
    except PrivacyBudgetError as error:
        reason = f"{error} {_WITHIN if state.round_number else _NOTHING_WITHIN}"
        if not federation.stops_at_budget or state.round_number == 0:
            _note_end(federation, directory, "failed", reason)
            raise PrivacyBudgetError(reason) from error
        _log.warning("the run ends after round %d: %s", state.round_number, reason)
    except BaseException as error:
        interrupted = isinstance(error, RunInterrupted | KeyboardInterrupt)
        ended_by = str(error) if isinstance(error, ConfideError) else type(error).__name__
        _note_end(federation, directory, "interrupted" if interrupted else "failed", ended_by)
        raise
    # First: a run that is called finished keeps nothing of what is the clients' own.
    directory.drop_state(directory.last_round())
    for client in federation.clients:
        client.forget_pending()
    directory.set_status("finished", reason=reason, **_spent(federation))
    return directory.records()


def _note_end(federation: Federation, directory: RunDirectory, status: str, reason: str) -> None:
    """Writes how a run ended, where that can be written: what ended it matters more."""
    try:
        directory.set_status(status, reason=reason, **_spent(federation))
    except ConfideError as error:
        _log.warning("the run's status could not be written: %s", error)


def _one_round(
    federation: Federation,
    directory: RunDirectory,
    state: ServerState,
    observer: Observer,
    trackers: Sequence[Tracker],
) -> ServerState:
    began = time.perf_counter()
    result = run_round(federation.server, federation.transport, state, federation.notes)
    earlier = directory.records()
    with directory.new_round(result.state.round_number) as folder:
        record = _save(federation, result, folder, began, earlier[-1] if earlier else None)
    directory.publish(record.round_number)
    directory.append_record(record)
    observer.round_finished(record, federation.num_rounds)
    for tracker in trackers:
        tracker.log(_scalars(record), record.round_number)
    return result.state


def _save(
    federation: Federation, result: RoundResult, folder: Path, began: float, earlier: RoundRecord | None
) -> RoundRecord:
    """Writes a round into its folder and gives its record, with the time that writing took."""
    saving = time.perf_counter()
    save_state(folder, writer=federation.writer, server=result.state, clients=federation.clients)
    sync_tree(folder)
    now = time.perf_counter()
    seconds = dict(result.record.seconds) | {"save": now - saving, "total": now - began}
    record = replace(carry_epsilon(result.record, earlier), seconds=seconds)
    figures = {client.name: client.figures for client in federation.clients}
    diagnostics = [replace(one, training=figures[one.client]) if one.training else one for one in result.diagnostics]
    save_record(folder, record, diagnostics)
    return record


def _spent(federation: Federation) -> dict[str, float]:
    """What the guarantee has cost, uploads of rounds that failed included, for the run's notes."""
    spent = [client.spent for client in federation.clients]
    return {name: max(one[name] for one in spent) for name in spent[0]}


def _scalars(record: RoundRecord) -> dict[str, object]:
    return {name: value for name, value in asdict(record).items() if name != "round_number"}
