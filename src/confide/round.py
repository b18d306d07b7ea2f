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
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from confide.asking import NO_ANSWER, Wire
from confide.errors import RoundFailedError, RunError, SaturationError
from confide.global_state import GlobalState
from confide.membership.memberlist import MemberList
from confide.messages import (
    MAX_WIDENINGS,
    JoinReply,
    OpenReply,
    ReleaseReply,
    SignReply,
    StateReply,
    TrainReply,
)
from confide.parties.opening import Opening
from confide.parties.server import RoundPlan, Server, ServerState, Upload
from confide.records import ClientDiagnostics, RoundRecord
from confide.round_record import Clock, RoundNotes, make_record
from confide.transport.base import MISSING, Transport

_BEHIND = "it is behind: it did not answer, or did not catch up"

_logger = logging.getLogger(__name__)


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


def run_round(
    server: Server,
    transport: Transport,
    state: ServerState,
    notes: RoundNotes,
    *,
    keep: Callable[[Opening], None] | None = None,
) -> RoundResult:
    """Runs the next round.

    Args:
        server: plans, checks and adds.
        transport: carries messages.
        state: the server's, before the round.
        notes: for the record.
        keep: called once the members' key is released and before the sum is opened: from then on the round can be
            finished by `open_round`, and clients may have finished it already.

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
    opening = close_round(server, transport, state, notes)
    if keep is not None:
        keep(opening)
    return open_round(server, transport, opening, notes)


def close_round(server: Server, transport: Transport, state: ServerState, notes: RoundNotes) -> Opening:
    """The round until its sum can be opened: train, seal, agree on the members, add, release the key."""
    wire, clock = Wire(transport), Clock()
    state = bring_up_to_date(server, wire, state)
    plan = server.plan(state)
    delivered, failures = train_and_seal(server, wire, plan, state)
    clock.lap("train")
    members, signatures, uploads, failures = agree_on_members(server, wire, plan, delivered, failures)
    total = server.add(plan, members, uploads)
    inexactness = notes.inspect(plan, uploads) if notes.inspect is not None else None
    clock.lap("aggregate")
    released = release_key(server, wire, members, signatures, uploads, state)
    clock.lap("release")
    return Opening(
        before=state,
        plan=plan,
        members=members,
        total=total,
        released=released,
        delivered=delivered,
        failures=failures,
        inexactness=inexactness,
        bytes_up=wire.bytes_up,
        bytes_down=wire.bytes_down,
        seconds=clock.seconds,
    )


def open_round(
    server: Server,
    transport: Transport,
    opening: Opening,
    notes: RoundNotes,
    *,
    opened_before: Mapping[str, OpenReply] | None = None,
) -> RoundResult:
    """The rest of the round: open the sum, agree on the next global state, record.

    Args:
        server: checks.
        transport: carries messages.
        opening: what opens the sum; only clients in `opening.before.current` are asked.
        notes: for the record.
        opened_before: reports of clients that have opened the sum already, for a round that is taken up again.
    """
    wire, clock = Wire(transport), Clock()
    opened, not_opened = open_sum(server, wire, opening)
    opened = {**(opened_before or {}), **opened}
    after, not_opened = server.agree(opening.plan, opening.before, opening.members, opened, not_opened)
    opened = {client: reply for client, reply in opened.items() if client in after.current}
    shared = read_state(server, wire, after) if notes.server_reads else None
    clock.lap("open")
    delivered = opening.delivered
    diagnostics = tuple(
        ClientDiagnostics(
            client=client,
            weight=opening.members.weights.get(client, 0.0),
            training=delivered[client].metrics if client in delivered else {},
            opening=opened[client].metrics if client in opened else {},
        )
        for client in server.clients
    )
    record = make_record(opening, opened, not_opened, after, notes, wire, clock.seconds)
    return RoundResult(state=after, record=record, diagnostics=diagnostics, shared=shared)


def train_and_seal(
    server: Server, wire: Wire, plan: RoundPlan, state: ServerState
) -> tuple[dict[str, Upload], dict[str, str]]:
    """Has the cohort train and seal; where an update does not fit into the range, all again in twice that range.

    Local training depends on the round and on what the client holds, so asking again changes nothing but the range.
    Who does not hold the state that the round starts from could only fail, and is not asked.

    Returns:
        The uploads, and why each other client is left out.

    Raises:
        NonFiniteLossError: a client's training met NaN or infinity.
        SaturationError: an update does not fit into the widest range either.
    """
    behind = {client: _BEHIND for client in plan.cohort if client not in state.current}
    for client in behind:
        _logger.warning("client %s is left out: %s", client, _BEHIND)
    widening = 0
    while True:
        requests = server.train_requests(plan, state.signatures, widening=widening)
        asked = {client: request for client, request in requests.items() if client not in behind}
        try:
            uploads, failures = wire.ask(asked, TrainReply, read=partial(server.read_upload, plan))
            return uploads, failures | behind
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
    server: Server, wire: Wire, plan: RoundPlan, uploads: Mapping[str, Upload], failures: Mapping[str, str]
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
    wire: Wire,
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


def open_sum(server: Server, wire: Wire, opening: Opening) -> tuple[dict[str, OpenReply], dict[str, str]]:
    """Has the clients open the sum: with a few shares more than are needed, and where that fails, with all there are.

    Who did not answer at all is not asked a second time: another wait as long would not bring it back.

    Returns:
        The reports of who opened it, and why the others did not.
    """
    members, total, released, uploads = opening.members, opening.total, opening.released, opening.uploads
    ask = partial(wire.ask, kind=OpenReply, read=partial(server.check_opened, opening.plan))
    enough = server.enough_to_open(released)
    opened, failures = ask(server.open_requests(members, total, enough, uploads, opening.before.current))
    refused = frozenset(client for client, reason in failures.items() if not _is_silence(reason))
    if refused and len(enough) < len(released):
        again, refusals = ask(server.open_requests(members, total, released, uploads, refused))
        opened |= again
        failures = {client: reason for client, reason in failures.items() if client not in refused} | refusals
    return opened, failures


def _is_silence(reason: str) -> bool:
    return reason == NO_ANSWER or reason.startswith(f"{MISSING}: ")


def read_state(server: Server, wire: Wire, state: ServerState) -> GlobalState:
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

    Raises:
        RoundFailedError: nobody answered.
        RunError: see `state_of`.
    """
    return state_of(join_all(server, transport))


def join_all(server: Server, transport: Transport) -> dict[str, JoinReply]:
    """Asks everybody where they stand.

    Raises:
        RoundFailedError: nobody answered.
    """
    joined, failures = Wire(transport).ask(server.join_requests(0), JoinReply, read=server.check_joined)
    if not joined:
        reasons = "; ".join(f"{client}: {reason}" for client, reason in sorted(failures.items()))
        raise RoundFailedError(f"no client answered. {reasons}")
    return joined


def state_of(joined: Mapping[str, JoinReply]) -> ServerState:
    """Makes the server's state from where the clients say they stand.

    What most clients report is the present state, so that one of them cannot pretend that the run is further; whoever
    holds another one catches up before it trains.

    Raises:
        RunError: no state is held by more clients than any other.
    """
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


def bring_up_to_date(server: Server, wire: Wire, state: ServerState) -> ServerState:
    """Hands the global state to clients that missed a round; who still cannot follow is not asked to train.

    Those that are away are asked where they stand, and nothing more: a state is encrypted for who can take it.
    """
    behind = [client for client in server.clients if client not in state.current]
    if not behind:
        return state
    requests = server.join_requests(state.round_number)
    joined, _ = wire.ask({client: requests[client] for client in behind}, JoinReply, read=server.check_joined)
    state = _with(state, {client: reply for client, reply in joined.items() if _follows(state, reply)})
    for source in sorted(state.current):
        behind = [client for client in joined if client not in state.current]
        if not behind:
            break
        request = {source: server.state_request(state, behind)}
        handed, _ = wire.ask(request, StateReply, read=partial(server.check_handed, state))
        if source not in handed:
            continue
        states = server.catch_up_requests(state, source, handed[source], behind)
        caught_up, _ = wire.ask(states, JoinReply, read=server.check_joined)
        state = _with(state, {client: reply for client, reply in caught_up.items() if _follows(state, reply)})
    return state


def _follows(state: ServerState, reply: JoinReply) -> bool:
    return (reply.round_number, reply.adapter_digest) == (state.round_number, state.adapter_digest)


def _with(state: ServerState, joined: Mapping[str, JoinReply]) -> ServerState:
    """The state with clients that hold it now."""
    return replace(
        state,
        current=state.current | joined.keys(),
        num_examples={**{client: reply.num_examples for client, reply in joined.items()}, **state.num_examples},
        signatures={**state.signatures, **{client: reply.signature for client, reply in joined.items()}},
        counted=state.counted - joined.keys(),
    )
