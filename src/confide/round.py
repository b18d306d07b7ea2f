"""One round of a federation, from the plan to the record.

    server   plan the round: cohort, round number, digest of the global state
    client   check the digest; train locally -> Update -> protect -> keep the mask's coordinates -> weight -> seal ->
             upload, with a share of the one-time key for everybody
    server   if an update did not fit into the range: ask all again, in twice that range
    server   check the sealed updates of whoever delivered; list them
    client   sign the list it is in
    server   add the sealed updates of the list
    client   check the list and its signatures -> release its share of the summed key, once
    client   open the sum -> mean update -> server optimiser -> next global adapter -> sign its digest
    server   enough digests agree -> record the round

A client that fails, answers nonsense or is missing is left out, as long as `min_clients` remain; it catches up before
it takes part again. A loss that is not finite stops the run: going on without that client would hide a wrong setting.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

import numpy as np

from confide.errors import (
    MessageError,
    NonFiniteLossError,
    PrivacyBudgetError,
    RoundFailedError,
    RunError,
    SaturationError,
)
from confide.global_state import GlobalState
from confide.membership.memberlist import MemberList
from confide.messages import (
    MAX_WIDENINGS,
    JoinReply,
    Message,
    OpenReply,
    ReleaseReply,
    SignReply,
    StateReply,
    TrainReply,
)
from confide.parties.server import RoundPlan, Server, ServerState, Upload
from confide.records import ClientDiagnostics, RoundRecord
from confide.transport.base import Transport

_logger = logging.getLogger(__name__)

STOPPING: Mapping[str, type[RunError]] = {
    error.__name__: error for error in (NonFiniteLossError, SaturationError, PrivacyBudgetError)
}
"""Failures of one client that stop the run: going on without it would hide a wrong setting, or a spent budget.

A `SaturationError` does so only once the range of the round cannot be widened any more.
"""

NO_ANSWER = "no answer"

_Answer = TypeVar("_Answer", bound=Message)
_Read = TypeVar("_Read")
Inspector = Callable[[RoundPlan, Mapping[str, Upload]], float]


@dataclass(frozen=True, kw_only=True)
class RoundNotes:
    """What the record says that the server does not find out itself.

    Attributes:
        learning_rate: of a round's local training, by round number.
        sealing: scheme and profile.
        is_sealed: whether the server is kept from reading updates.
        server_reads: whether the clients give the server each round's global state.
        sparsity: share of an update's coordinates that do not travel, by round number.
        privacy: the formal guarantee, in words.
        warnings: what a user should know of the protection, a sentence each.
        inspect: gives the inexactness of averaging LoRA's factors from plaintext updates; None where that is exact or
            the updates are sealed.
    """

    learning_rate: Callable[[int], float]
    sealing: str
    is_sealed: bool
    server_reads: bool
    sparsity: Callable[[int], float]
    privacy: str
    warnings: tuple[str, ...] = ()
    inspect: Inspector | None = None


@dataclass(frozen=True, kw_only=True)
class RoundResult:
    """A round that is done.

    Attributes:
        shared: the global state, where the clients give it to the server; None otherwise.
    """

    state: ServerState
    record: RoundRecord
    diagnostics: tuple[ClientDiagnostics, ...]
    shared: GlobalState | None


def run_round(server: Server, transport: Transport, state: ServerState, notes: RoundNotes) -> RoundResult:
    """Runs the next round.

    Returns:
        The server's next state, the record, and what clients told about themselves.

    Raises:
        RoundFailedError: fewer than `min_clients` delivered a valid update, signed the list, or opened the sum, or
            fewer than the threshold released a share of the key.
        AgreementError: clients computed different global adapters, none of them enough clients.
        NonFiniteLossError: a client's training met NaN or infinity.
        SaturationError: too much of a client's update lies outside the range that sealing carries, also after
            `MAX_WIDENINGS` doublings.
        PrivacyBudgetError: the round would cost a client more than was planned.
    """
    wire, clock = _Wire(transport), _Clock()
    state = bring_up_to_date(server, wire, state)
    plan = server.plan(state)

    delivered, failures = train_and_seal(server, wire, plan, state.signatures)
    clock.lap("train")
    members, signatures, uploads, failures = agree_on_members(server, wire, plan, delivered, failures)
    total = server.add(plan, members, uploads)
    clock.lap("aggregate")
    released = release_key(server, wire, members, signatures, uploads, state)
    opened, not_opened = open_sum(server, wire, plan, members, total, released, uploads, state)
    after, not_opened = server.agree(plan, state, members, opened, not_opened)
    opened = {client: reply for client, reply in opened.items() if client in after.current}
    shared = read_state(server, wire, after) if notes.server_reads else None
    clock.lap("open")

    record = _record(plan, members, uploads, opened, failures | not_opened, after, notes, wire, clock)
    record = replace(record, epsilon=_spent(delivered, "epsilon"), client_epsilon=_spent(delivered, "client_epsilon"))
    diagnostics = tuple(
        ClientDiagnostics(
            client=client,
            weight=members.weights.get(client, 0.0),
            training=delivered[client].metrics if client in delivered else {},
            opening=opened[client].metrics if client in opened else {},
        )
        for client in server.clients
    )
    return RoundResult(state=after, record=record, diagnostics=diagnostics, shared=shared)


def train_and_seal(
    server: Server, wire: "_Wire", plan: RoundPlan, signatures: Mapping[str, str]
) -> tuple[dict[str, Upload], dict[str, str]]:
    """Has the cohort train and seal; where an update does not fit into the range, all again in twice that range.

    Local training depends on the round and on what the client holds, so asking again changes nothing but the range.

    Returns:
        The uploads, and why each other client is left out.

    Raises:
        NonFiniteLossError: a client's training met NaN or infinity.
        SaturationError: an update does not fit into the widest range either.
    """
    widening = 0
    while True:
        requests = server.train_requests(plan, signatures, widening=widening)
        try:
            return wire.ask(requests, TrainReply, read=partial(server.read_upload, plan))
        except SaturationError as error:
            if widening == MAX_WIDENINGS:
                raise SaturationError(
                    f"{error}. This range is {2**MAX_WIDENINGS} times that of the plan and is widened no more. In the "
                    "first round set seal.initial_range higher; later start a new run with a higher seal.max_saturated "
                    "or a lower learning rate."
                ) from error
            _logger.warning("%s. Round %d is trained again in twice that range", error, plan.round_number)
        widening += 1


def agree_on_members(
    server: Server, wire: "_Wire", plan: RoundPlan, uploads: Mapping[str, Upload], failures: Mapping[str, str]
) -> tuple[MemberList, dict[str, str], dict[str, Upload], dict[str, str]]:
    """Has every listed member sign one list; who does not is left out, and the others sign a shorter one.

    Returns:
        The list, the signatures under it, the members' uploads, and why each other client is left out.

    Raises:
        RoundFailedError: fewer than `min_clients` are left.
    """
    while True:
        uploads, failures = server.select(plan, uploads, failures)
        members = server.list_members(plan, uploads)
        if not server.needs_release:
            return members, {}, uploads, failures
        signatures, unsigned = wire.ask(
            server.sign_requests(members), SignReply, read=partial(server.read_signature, members)
        )
        if not unsigned:
            return members, signatures, uploads, failures
        failures |= unsigned
        uploads = {client: upload for client, upload in uploads.items() if client in signatures}


def release_key(
    server: Server,
    wire: "_Wire",
    members: MemberList,
    signatures: Mapping[str, str],
    uploads: Mapping[str, Upload],
    state: ServerState,
) -> dict[str, bytes]:
    """Has the clients release their shares of the members' summed key, encrypted for the clients.

    Raises:
        RoundFailedError: fewer than the threshold did; then nothing opens.
    """
    if not server.needs_release:
        return {}
    released, failures = wire.ask(
        server.release_requests(members, signatures, uploads, state.current),
        ReleaseReply,
        read=partial(server.read_release, members),
    )
    server.check_released(members, released, failures)
    return released


def open_sum(
    server: Server,
    wire: "_Wire",
    plan: RoundPlan,
    members: MemberList,
    total: bytes,
    released: Mapping[str, bytes],
    uploads: Mapping[str, Upload],
    state: ServerState,
) -> tuple[dict[str, OpenReply], dict[str, str]]:
    """Has the clients open the sum: with a few shares more than are needed, and where that fails, with all there are.

    Returns:
        The reports of who opened it, and why the others did not.
    """
    ask = partial(wire.ask, kind=OpenReply, read=partial(server.check_opened, plan))
    enough = server.enough_to_open(released)
    opened, failures = ask(server.open_requests(members, total, enough, uploads, state.current))
    refused = frozenset(client for client, reason in failures.items() if reason != NO_ANSWER)
    if refused and len(enough) < len(released):
        again, refusals = ask(server.open_requests(members, total, released, uploads, refused))
        opened |= again
        failures = {client: reason for client, reason in failures.items() if client not in refused} | refusals
    return opened, failures


def read_state(server: Server, wire: "_Wire", state: ServerState) -> GlobalState:
    """Reads the global state, which the configuration lets the server have.

    Raises:
        RoundFailedError: no client hands it over.
    """
    for source in sorted(state.current):
        request = {source: server.state_request(state, ())}
        handed, _ = wire.ask(request, StateReply, read=partial(server.read_state, state))
        if source in handed:
            return handed[source]
    raise RoundFailedError(f"round {state.round_number}: no client handed the global adapter over to the server")


def open_federation(server: Server, transport: Transport) -> ServerState:
    """Asks everybody where they stand and makes the server's first state from it.

    What most clients report is the present state, so that one of them cannot pretend that the run is further; whoever
    holds another one catches up before it trains.

    Raises:
        RoundFailedError: nobody answered.
        RunError: no state is held by more clients than any other.
    """
    joined, failures = _Wire(transport).ask(server.join_requests(0), JoinReply, read=server.check_joined)
    if not joined:
        reasons = "; ".join(f"{client}: {reason}" for client, reason in sorted(failures.items()))
        raise RoundFailedError(f"no client answered. {reasons}")
    held = Counter((reply.round_number, reply.adapter_digest) for reply in joined.values())
    (present, count), *others = held.most_common()
    if any(number == count for _, number in others):
        raise RunError(
            f"the clients hold {len(held)} different global adapters, none of them more often than the others. "
            "Check that all use the same base model, configuration and seed."
        )
    current = {c: reply for c, reply in joined.items() if (reply.round_number, reply.adapter_digest) == present}
    return ServerState(
        round_number=present[0],
        adapter_digest=present[1],
        current=frozenset(current),
        num_examples={client: reply.num_examples for client, reply in joined.items()},
        signatures={client: reply.signature for client, reply in current.items()},
    )


def bring_up_to_date(server: Server, wire: "_Wire", state: ServerState) -> ServerState:
    """Hands the global state to clients that missed a round; who still cannot follow stays out of the cohort's sum."""
    for source in sorted(state.current):
        behind = [client for client in server.clients if client not in state.current]
        if not behind:
            break
        request = {source: server.state_request(state, behind)}
        handed, _ = wire.ask(request, StateReply, read=partial(server.check_handed, state))
        if source not in handed:
            continue
        requests = server.catch_up_requests(state, source, handed[source], behind)
        caught_up, _ = wire.ask(requests, JoinReply, read=server.check_joined)
        follows = {client for client, reply in caught_up.items() if reply.adapter_digest == state.adapter_digest}
        sizes = {client: caught_up[client].num_examples for client in follows}
        state = replace(
            state,
            current=state.current | follows,
            num_examples={**sizes, **state.num_examples},
            signatures={**state.signatures, **{client: caught_up[client].signature for client in follows}},
            counted=state.counted - follows,
        )
    return state


@dataclass
class _Wire:
    """Sends requests, decodes replies, counts bytes, and turns whatever goes wrong into a reason by client."""

    transport: Transport
    bytes_down: int = 0
    bytes_up: int = 0

    def ask(
        self,
        requests: Mapping[str, bytes],
        kind: type[_Answer],
        read: Callable[[str, _Answer], _Read],
    ) -> tuple[dict[str, _Read], dict[str, str]]:
        """Gives what `read` makes of the valid answers, and the reasons why the others are missing.

        Raises:
            RunError: a client met what must stop the run.
        """
        answers: dict[str, _Read] = {}
        failures = dict.fromkeys(requests, NO_ANSWER)
        self.bytes_down += sum(map(len, requests.values()))
        for reply in self.transport.exchange(requests):
            self.bytes_up += len(reply.body)
            if reply.error_kind in STOPPING:
                raise STOPPING[reply.error_kind](f"client {reply.client}: {reply.error}")
            try:
                if reply.error_kind:
                    raise MessageError(f"{reply.error_kind}: {reply.error}")
                answer = read(reply.client, kind.from_bytes(reply.body))
            except RunError as error:
                failures[reply.client] = str(error)
                _logger.warning("client %s is left out: %s", reply.client, error)
                continue
            answers[reply.client] = answer
            del failures[reply.client]
        return answers, failures


@dataclass
class _Clock:
    """Wall seconds by phase."""

    seconds: dict[str, float] = field(default_factory=dict)
    _began: float = field(default_factory=time.perf_counter)

    def lap(self, phase: str) -> None:
        """Ends a phase."""
        now = time.perf_counter()
        self.seconds[phase] = now - self._began
        self._began = now


def _record(
    plan: RoundPlan,
    members: MemberList,
    uploads: Mapping[str, Upload],
    opened: Mapping[str, OpenReply],
    failures: Mapping[str, str],
    after: ServerState,
    notes: RoundNotes,
    wire: _Wire,
    clock: _Clock,
) -> RoundRecord:
    def spent(answers: Mapping[str, Upload] | Mapping[str, OpenReply], figure: str) -> float:
        return sum(answer.metrics.get(figure, 0.0) for answer in answers.values())

    factor_error = notes.inspect(plan, uploads) if notes.inspect is not None else None
    first = next(iter(opened.values())).metrics
    return RoundRecord(
        round_number=plan.round_number,
        cohort=plan.cohort,
        members=tuple(members.weights),
        failures=dict(failures),
        learning_rate=notes.learning_rate(plan.round_number),
        loss=_loss(uploads, members),
        held_out_loss=_held_out_loss(opened),
        update_norm=first["step_norm"],
        bytes_up=wire.bytes_up,
        bytes_down=wire.bytes_down,
        seconds=clock.seconds
        | {"local": spent(uploads, "seconds"), "seal": spent(uploads, "seal_seconds")}
        | {"unseal": spent(opened, "open_seconds"), "evaluate": spent(opened, "evaluate_seconds")},
        sealing=notes.sealing,
        is_sealed=notes.is_sealed,
        server_reads=notes.server_reads or not notes.is_sealed,
        num_values=members.num_values,
        sparsity=notes.sparsity(plan.round_number),
        saturated=max(upload.metrics.get("saturated", 0.0) for upload in uploads.values()),
        privacy=notes.privacy,
        epsilon=None,
        adapter_digest=after.adapter_digest,
        factor_error=None if factor_error is None else _relative(factor_error, first.get("product_change", 0.0)),
    )


def _spent(delivered: Mapping[str, Upload], what: str) -> float | None:
    """What a guarantee has cost those who uploaded, in the sum or not."""
    told = [upload.metrics[what] for upload in delivered.values() if what in upload.metrics]
    return max(told, default=None)


def _loss(uploads: Mapping[str, Upload], members: MemberList) -> float | None:
    told = [(uploads[client].metrics.get("loss"), weight) for client, weight in members.weights.items()]
    losses = [(loss, weight) for loss, weight in told if loss is not None]
    return _mean(losses) if len(losses) == len(told) else None


def _held_out_loss(opened: Mapping[str, OpenReply]) -> float | None:
    measured = [
        (reply.metrics["held_out_loss"], reply.metrics["held_out_targets"])
        for reply in opened.values()
        if "held_out_loss" in reply.metrics
    ]
    return _mean(measured) if measured else None


def _relative(error: float, change: float) -> dict[str, float]:
    return {"absolute": error, "relative": error / change if change > 0 else 0.0}


def _mean(weighted: list[tuple[float, float]]) -> float:
    values, weights = zip(*weighted, strict=True)
    return float(np.average(values, weights=weights))
