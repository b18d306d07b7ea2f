"""The server: the party that brings the clients together.

Sees: who takes part, sizes, times, the numbers clients report about themselves, sealed updates, and envelopes between
clients. It adds the updates and cannot open them (with scheme `plain` there is nothing to open: it can read them). It
imports neither data nor model, nor anything that holds or uses a secret key.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from confide.errors import AgreementError, MessageError, RoundFailedError
from confide.global_state import GlobalState
from confide.membership.frames import HEADER_BYTES, FrameSpec, read_frames, sum_to_bytes
from confide.membership.memberlist import Entry, MemberList
from confide.membership.release import check_release
from confide.membership.roster import SIGNATURE_BYTES, Roster
from confide.membership.statements import adapter_statement, member_list_statement
from confide.messages import (
    CatchUpRequest,
    JoinReply,
    JoinRequest,
    OpenReply,
    OpenRequest,
    ReleaseReply,
    ReleaseRequest,
    SignReply,
    SignRequest,
    StateReply,
    StateRequest,
    TrainReply,
    TrainRequest,
    from_hex,
    pack_parts,
    unpack_parts,
)
from confide.parties.bodies import BodyStore, MemoryBodies
from confide.parties.requests import Requests
from confide.seal.scheme import ServerSealing
from confide.seeds import stream
from confide.update import Layout

LARGEST_FIGURE = 1e30
SPARE_SHARES = 2
MAX_ENVELOPE_BYTES = 1 << 14
ENVELOPES = ("share", "group")
"""What every member of a round addresses to every client: a share of its key, and a part of the round's group key."""
FIGURES = frozenset(
    {"num_steps", "num_examples", "num_tokens", "num_targets", "loss", "seconds", "saturated", "seal_seconds"}
    | {
        "epsilon",
        "client_epsilon",
        "step_norm",
        "product_change",
        "held_out_loss",
        "held_out_targets",
        "open_seconds",
        "evaluate_seconds",
    }
)
"""What clients tell about themselves: nothing else is taken, not even its name."""
MAX_EXAMPLES = 1 << 40
_ROUNDING = 1e-3  # a divergence that is zero may come out a little below


@dataclass(frozen=True, kw_only=True)
class ServerState:
    """What the server carries from round to round.

    Attributes:
        round_number: rounds done.
        adapter_digest: of the global state after them, as the clients reported it.
        current: the clients that hold that state; all others must catch up first.
        num_examples: how many training examples each client said it has when it joined; its weight follows from that.
        signatures: of clients under that digest, in hexadecimal: what a client that was away believes.
        counted: the clients that are behind and whose last upload is in a sum that the others opened.
    """

    round_number: int
    adapter_digest: str
    current: frozenset[str]
    num_examples: Mapping[str, int]
    signatures: Mapping[str, str] = field(default_factory=dict)
    counted: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class PayloadShape:
    """What the server knows of a round's payload without knowing the adapter."""

    layout_digest: str
    num_values: int


@dataclass(frozen=True, kw_only=True)
class RoundPlan:
    """Who trains in a round, and with which weight each one's update may count."""

    round_number: int
    cohort: tuple[str, ...]
    adapter_digest: str
    weights: Mapping[str, float]
    shape: PayloadShape

    @property
    def reference_weight(self) -> float:
        """What sealed values are divided by: the largest weight in the cohort."""
        return max((self.weights[client] for client in self.cohort if client in self.weights), default=1.0)


@dataclass(frozen=True, kw_only=True)
class Upload:
    """One client's sealed update, checked as far as the server can.

    Attributes:
        entry: how the client is listed.
        limit: the fixed-point range that the client sealed in.
        bodies: sealed chunks, in order.
        envelopes: "share NAME" and "group NAME" for every client; only NAME can open them.
        metrics: what the client told about its training.
    """

    entry: Entry
    limit: float
    bodies: Sequence[bytes] = field(repr=False)
    envelopes: Mapping[str, bytes] = field(repr=False)
    metrics: Mapping[str, float]


class Server:
    """Plans rounds, adds sealed updates, and holds the clients to one global state.

    Args:
        run: the run's id.
        roster: everybody in the federation, with public keys; sums are formed in its order.
        clients_per_round: size of a round's cohort; 0 = everybody.
        min_clients: a round with fewer valid updates fails.
        threshold: how many clients must release their share before a sum opens.
        seed: from which the stream "cohort" is derived.
        layout: of the whole adapter.
        shape: of what a client seals, by round number.
        weight: of a client in the mean, by its number of training examples.
        is_private: whether clients tell what a guarantee has cost, and not their loss.
        bodies: where sealed updates wait until they are added; in memory if not given.
    """

    def __init__(
        self,
        *,
        run: str,
        roster: Roster,
        clients_per_round: int,
        min_clients: int,
        threshold: int,
        seed: int,
        layout: Layout,
        shape: Callable[[int], PayloadShape],
        weight: Callable[[int], float],
        sealing: ServerSealing,
        is_private: bool = False,
        bodies: BodyStore | None = None,
    ) -> None:
        self.run = run
        self.clients = roster.names
        self.clients_per_round = clients_per_round or len(self.clients)
        self.needs_release = sealing.needs_release
        self._roster = roster
        self._min_clients = min_clients
        self._threshold = threshold
        self._seed = seed
        self._layout = layout
        self._shape = shape
        self._weight = weight
        self._sealing = sealing
        self._bodies = bodies or MemoryBodies()
        self._told = ("epsilon",) if is_private else ("loss", "seconds")
        recipients = self.clients if sealing.needs_release else ()
        self._envelopes = frozenset(f"{what} {to}" for what in ENVELOPES for to in recipients)

    def plan(self, state: ServerState) -> RoundPlan:
        """Draws the next round's cohort; the same for the same seed and round."""
        number = state.round_number + 1
        rng = stream(self._seed, "cohort", number)
        drawn = rng.permutation(len(self.clients))[: self.clients_per_round]
        return RoundPlan(
            round_number=number,
            cohort=tuple(sorted(self.clients[index] for index in drawn)),
            adapter_digest=state.adapter_digest,
            weights={client: self._weight(count) for client, count in state.num_examples.items()},
            shape=self._shape(number),
        )

    def join_requests(self, round_number: int) -> dict[str, bytes]:
        """Asks everybody where they stand."""
        return dict.fromkeys(self.clients, JoinRequest(run=self.run, round_number=round_number).to_bytes())

    def check_joined(self, client: str, reply: JoinReply) -> JoinReply:
        """Checks what a client says of itself.

        Raises:
            MessageError: it cannot be.
        """
        is_possible = 0 < reply.num_examples < MAX_EXAMPLES and reply.round_number >= 0
        if (reply.run, reply.client) != (self.run, client) or not is_possible:
            raise MessageError(f"client {client} joins with an impossible run, name, round or number of examples")
        self._check_adapter_signature(client, reply)
        return reply

    def train_requests(self, plan: RoundPlan, signatures: Mapping[str, str], *, widening: int = 0) -> dict[str, bytes]:
        """Asks the cohort to train, showing who else holds the adapter it starts from.

        Args:
            plan: of the round.
            signatures: under the digest of the adapter, by client.
            widening: how often the round's range is doubled, because an update did not fit; at most `MAX_WIDENINGS`.
        """
        request = TrainRequest(
            run=self.run,
            round_number=plan.round_number,
            cohort=list(plan.cohort),
            adapter_digest=plan.adapter_digest,
            reference_weight=plan.reference_weight,
            widening=widening,
            signatures=dict(signatures),
        )
        return dict.fromkeys(plan.cohort, request.to_bytes())

    def read_upload(self, plan: RoundPlan, client: str, reply: TrainReply) -> Upload:
        """Checks what can be checked without opening an update.

        Raises:
            MessageError: the reply is of another round or client, has another layout, another weight than follows from
                what the client said when it joined, lacks figures, is too long, lacks envelopes or has some too many,
                or its frames are not the client's for this round.
        """
        self._check_sender(plan.round_number, client, reply)
        if reply.layout_digest != plan.shape.layout_digest:
            raise MessageError(
                f"client {client}, round {plan.round_number}: its update has another layout than the federation's. "
                "Check that base model, lora.rank and lora.targets are the same everywhere."
            )
        weight = plan.weights.get(client)
        if reply.weight != weight:
            raise MessageError(f"client {client} claims the weight {reply.weight:.6g}, by its examples it is {weight}")
        check_metrics(client, reply.metrics, required=self._told)
        spec = self._spec(plan, reply.limit)
        frames, envelopes = self._unpack_upload(client, reply.body, spec)
        bodies = read_frames(
            frames,
            spec,
            self._roster.point_of(client),
            lambda statement, signature: self._roster.verify(client, statement, signature),
            self._sealing.check,
        )
        digest = hashlib.sha256(frames).hexdigest()
        return Upload(
            entry=Entry(client=client, weight=weight, key_id=reply.key_id, upload_digest=digest),
            limit=reply.limit,
            bodies=self._bodies.keep(client, bodies),
            envelopes=envelopes,
            metrics=reply.metrics,
        )

    def _unpack_upload(self, client: str, body: bytes, spec: FrameSpec) -> tuple[bytes, dict[str, bytes]]:
        """An upload's frames and envelopes, as they came; nothing is copied of a body that is too long."""
        most = (
            len(pack_parts(dict.fromkeys(("frames", *self._envelopes), b"")))
            + spec.num_chunks * (HEADER_BYTES + SIGNATURE_BYTES)
            + sum(self._sealing.most_bytes(spec.values_in(chunk)) for chunk in range(spec.num_chunks))
            + len(self._envelopes) * MAX_ENVELOPE_BYTES
        )
        if len(body) > most:
            raise MessageError(f"client {client} uploads {len(body)} bytes, an upload of this round has at most {most}")
        envelopes = unpack_parts(body)
        frames = envelopes.pop("frames", b"")
        if envelopes.keys() != self._envelopes:
            raise MessageError(
                f"client {client} sends {len(envelopes)} envelopes, or not those that it has to: expected are "
                f"{len(self._envelopes)}, a share of its key and a part of the group key for everybody in the roster, "
                "and none in a scheme without round keys"
            )
        longest = max(map(len, envelopes.values()), default=0)
        if longest > MAX_ENVELOPE_BYTES:
            raise MessageError(f"client {client} sends an envelope of {longest} bytes, at most {MAX_ENVELOPE_BYTES}")
        return frames, envelopes

    def select(
        self, plan: RoundPlan, uploads: Mapping[str, Upload], failures: Mapping[str, str]
    ) -> tuple[dict[str, Upload], dict[str, str]]:
        """The uploads that can be added, in the order of names, and why each other client of the cohort is left out.

        All must be sealed in one range; clients that hold the same global state compute the same, so whoever differs
        from most is left out.

        Raises:
            RoundFailedError: there are fewer than `min_clients`.
        """
        failures = dict(failures)
        limits = Counter(upload.limit for upload in uploads.values())
        limit = max(limits, key=lambda one: (limits[one], one), default=0.0)
        selected = {}
        for client in sorted(uploads):
            if uploads[client].limit == limit:
                selected[client] = uploads[client]
            else:
                failures[client] = "it sealed in another range than the others"
        if len(selected) < self._min_clients:
            raise RoundFailedError(
                f"round {plan.round_number}: {len(selected)} of {len(plan.cohort)} clients delivered an update, "
                f"federation.min_clients is {self._min_clients}. {_reasons(failures)}. "
                "The last complete round is saved: resuming the run tries again from there."
            )
        return selected, failures

    def list_members(self, plan: RoundPlan, uploads: Mapping[str, Upload]) -> MemberList:
        """Makes the list of members whose updates will be added."""
        return MemberList(
            run=self.run,
            round_number=plan.round_number,
            roster_digest=self._roster.digest,
            sealing_digest=self._sealing.digest,
            num_values=plan.shape.num_values,
            limit=next(iter(uploads.values())).limit,
            reference_weight=plan.reference_weight,
            entries=tuple(upload.entry for upload in uploads.values()),
        )

    def sign_requests(self, members: MemberList) -> dict[str, bytes]:
        """Asks every listed member to sign the list."""
        request = SignRequest(run=self.run, round_number=members.round_number, body=members.to_bytes()).to_bytes()
        return {entry.client: request for entry in members.entries}

    def read_signature(self, members: MemberList, client: str, reply: SignReply) -> str:
        """Checks a member's signature under the list; gives it in hexadecimal.

        Raises:
            MessageError: it is not that client's under this list.
        """
        self._check_sender(members.round_number, client, reply)
        self._roster.verify(client, member_list_statement(members.to_bytes()), from_hex(reply.signature))
        return reply.signature

    def add(self, plan: RoundPlan, members: MemberList, uploads: Mapping[str, Upload]) -> bytes:
        """Adds the members' sealed updates, chunk by chunk, in the order of names; gives the framed sum."""
        spec = self._spec(plan, members.limit)
        chunks = zip(*(uploads[entry.client].bodies for entry in members.entries), strict=True)
        return sum_to_bytes((self._sealing.add(c, spec.values_in(i)) for i, c in enumerate(chunks)), spec)

    def release_requests(
        self,
        members: MemberList,
        signatures: Mapping[str, str],
        uploads: Mapping[str, Upload],
        current: frozenset[str],
    ) -> Requests:
        """Hands every client that is up to date the signed list, and the envelopes that members addressed to it."""

        def request(client: str) -> bytes:
            return ReleaseRequest(
                run=self.run,
                round_number=members.round_number,
                signatures=dict(signatures),
                body=pack_parts(
                    {"members": members.to_bytes()}
                    | _addressed(ENVELOPES[0], client, members, uploads)
                    | _addressed(ENVELOPES[1], client, members, uploads)
                ),
            ).to_bytes()

        return Requests([client for client in self.clients if client in current], request)

    def read_release(self, members: MemberList, client: str, reply: ReleaseReply) -> bytes:
        """Checks that a released share is signed for this list; what is in it only clients can read.

        Raises:
            MessageError: it is not.
        """
        self._check_sender(members.round_number, client, reply)
        check_release(self._roster, members, client, reply.body)
        return reply.body

    def check_released(self, members: MemberList, released: Mapping[str, bytes], failures: Mapping[str, str]) -> None:
        """Makes sure that enough clients released.

        Raises:
            RoundFailedError: fewer than `threshold` did; nothing opens then.
        """
        if len(released) < self._threshold:
            raise RoundFailedError(
                f"round {members.round_number}: {len(released)} clients released their share of the summed key, "
                f"{self._threshold} are needed (seal.threshold), so nothing opens. {_reasons(failures)}. "
                "Resuming the run tries again with the same members."
            )

    def enough_to_open(self, released: Mapping[str, bytes]) -> dict[str, bytes]:
        """As many released shares as open a sum, and `SPARE_SHARES` more, should one be wrong; the first by name."""
        return {client: released[client] for client in sorted(released)[: self._threshold + SPARE_SHARES]}

    def open_requests(
        self,
        members: MemberList,
        total: bytes,
        released: Mapping[str, bytes],
        uploads: Mapping[str, Upload],
        current: frozenset[str],
    ) -> Requests:
        """Sends the sealed sum, and what opens it, to every client that holds the state before this round.

        The sum stands last: what is the same for all is then the same bytes, counted from the end.
        """
        shares = {f"release {client}": share for client, share in released.items()}

        def request(client: str) -> bytes:
            return OpenRequest(
                run=self.run,
                round_number=members.round_number,
                body=pack_parts(
                    {"members": members.to_bytes()}
                    | shares
                    | (_addressed(ENVELOPES[1], client, members, uploads) if released else {})
                    | {"sum": total}
                ),
            ).to_bytes()

        return Requests([client for client in self.clients if client in current], request)

    def check_opened(self, plan: RoundPlan, client: str, reply: OpenReply) -> OpenReply:
        """Checks a client's report on the opened sum.

        Raises:
            MessageError: it is of another round or client, not signed, or lacks figures.
        """
        self._check_sender(plan.round_number, client, reply)
        self._check_adapter_signature(client, reply)
        check_metrics(client, reply.metrics, required=("step_norm",))
        if "held_out_loss" in reply.metrics and not reply.metrics.get("held_out_targets", 0) >= 1:
            raise MessageError(f"client {client} reports a held-out loss over no targets")
        return reply

    def agree(
        self,
        plan: RoundPlan,
        state: ServerState,
        members: MemberList,
        opened: Mapping[str, OpenReply],
        failures: Mapping[str, str],
    ) -> tuple[ServerState, dict[str, str]]:
        """Makes the state after the round from the clients' reports.

        Returns:
            The state that most clients computed, and why each other client is not in it; who computed another one
            is behind, and catches up.

        Raises:
            AgreementError: of different global states, none was computed by enough clients.
            RoundFailedError: fewer opened the sum than `min_clients`, or than the threshold: clients train only from an
                adapter that so many of them signed for.
        """
        least = max(self._min_clients, self._threshold)
        if len(opened) < least:
            raise RoundFailedError(
                f"round {plan.round_number}: only {len(opened)} clients opened the sum, {least} are needed "
                f"(federation.min_clients, seal.threshold). {_reasons(failures)}. Resuming the run tries again."
            )
        holders: dict[str, list[str]] = {}
        for client in sorted(opened):
            holders.setdefault(opened[client].adapter_digest, []).append(client)
        digest, current = max(holders.items(), key=lambda item: len(item[1]))
        if len(current) < least:
            told = "; ".join(f"{', '.join(clients)}: {one[:12]}" for one, clients in holders.items())
            raise AgreementError(
                f"round {plan.round_number}: the clients computed {len(holders)} different global adapters from one "
                f"sum, and none of them was computed by {least} clients. {told}. Check that all run the same Confide "
                "release and configuration."
            )
        reason = f"it computed another global adapter than {', '.join(current)}"
        apart = {client: reason for client in sorted(opened) if client not in current}
        after = ServerState(
            round_number=plan.round_number,
            adapter_digest=digest,
            current=frozenset(current),
            num_examples=state.num_examples,
            signatures={client: opened[client].signature for client in current},
            counted=(state.counted | members.weights.keys()) - set(current),
        )
        return after, {**failures, **apart}

    def state_request(self, state: ServerState, recipients: Sequence[str]) -> bytes:
        """Asks a client that is up to date for the global state, for `recipients`; for the server if there are none."""
        return StateRequest(run=self.run, round_number=state.round_number, recipients=list(recipients)).to_bytes()

    def check_handed(self, state: ServerState, client: str, reply: StateReply) -> dict[str, bytes]:
        """Checks that a client hands over the state it was asked for; gives its parts.

        Raises:
            MessageError: it is of another round or digest.
        """
        self._check_sender(state.round_number, client, reply)
        if reply.adapter_digest != state.adapter_digest:
            raise MessageError(f"client {client} hands over another state than the round's")
        return unpack_parts(reply.body)

    def read_state(self, state: ServerState, client: str, reply: StateReply) -> GlobalState:
        """Reads the global state, where clients give it to the server.

        Raises:
            MessageError: it is not the one that the clients agreed on.
        """
        shared = GlobalState.from_bytes(self.check_handed(state, client, reply).get("state", b""), self._layout)
        if shared.digest != state.adapter_digest:
            raise MessageError(f"client {client} hands over a state that does not match its digest")
        return shared

    def catch_up_requests(
        self, state: ServerState, source: str, parts: Mapping[str, bytes], behind: Sequence[str]
    ) -> Requests:
        """Hands the global state to clients that are behind, each with the key that the source addressed to it."""

        def request(client: str) -> bytes:
            return CatchUpRequest(
                run=self.run,
                round_number=state.round_number,
                adapter_digest=state.adapter_digest,
                source=source,
                signatures=dict(state.signatures),
                counted=client in state.counted,
                body=pack_parts({"key": parts.get(f"to {client}", b""), "state": parts.get("state", b"")}),
            ).to_bytes()

        return Requests(list(behind), request)

    def _check_sender(
        self, round_number: int, client: str, reply: TrainReply | SignReply | ReleaseReply | OpenReply | StateReply
    ) -> None:
        if (reply.run, reply.round_number, reply.client) != (self.run, round_number, client):
            raise MessageError(f"client {client} answered for another run, round or client")

    def _check_adapter_signature(self, client: str, reply: JoinReply | OpenReply) -> None:
        statement = adapter_statement(
            run=self.run,
            round_number=reply.round_number,
            roster_digest=self._roster.digest,
            sender=client,
            adapter_digest=reply.adapter_digest,
        )
        self._roster.verify(client, statement, from_hex(reply.signature))

    def _spec(self, plan: RoundPlan, limit: float) -> FrameSpec:
        return FrameSpec(
            sealing_digest=self._sealing.digest,
            roster_digest=self._roster.digest,
            run=self.run,
            round_number=plan.round_number,
            num_values=plan.shape.num_values,
            limit=limit,
            chunk_values=self._sealing.chunk_values,
        )


def check_metrics(client: str, metrics: Mapping[str, float], *, required: Sequence[str]) -> None:
    """Checks the figures that a client tells about itself: losses, norms, counts, seconds.

    Raises:
        MessageError: one is missing, negative where it cannot be, or too large to be true; a name is none of ours.
    """
    missing = [name for name in required if name not in metrics]
    if missing:
        raise MessageError(f"client {client} does not report {', '.join(missing)}")
    strange = [name for name in metrics if name not in FIGURES]
    if strange:
        # Their names are the client's words, so they are not repeated here.
        raise MessageError(f"client {client} reports {len(strange)} figures that this release does not know")
    wild = [name for name, value in metrics.items() if not -_ROUNDING <= value < LARGEST_FIGURE]
    if wild:
        raise MessageError(f"client {client} reports figures below 0 or beyond {LARGEST_FIGURE:g}: {', '.join(wild)}")


def _addressed(purpose: str, client: str, members: MemberList, uploads: Mapping[str, Upload]) -> dict[str, bytes]:
    """The members' envelopes to one client, by who sent them."""
    found = {}
    for entry in members.entries:
        envelope = uploads[entry.client].envelopes.get(f"{purpose} {client}")
        if envelope is not None:
            found[f"{purpose} {entry.client}"] = envelope
    return found


def _reasons(failures: Mapping[str, str]) -> str:
    return "; ".join(f"{client}: {reason}" for client, reason in sorted(failures.items()))
