"""A client: the party that owns data.

Sees: its own data and update, every global adapter, the opened sum of each round. Never another client's update.
"""

import hashlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from confide.aggregate.factors import product_change
from confide.data.examples import TokenizedExample
from confide.errors import AgreementError, MessageError, NonFiniteUpdateError, RunDirectoryError
from confide.global_state import GlobalState
from confide.membership.frames import FrameSpec, sum_from_bytes, write_frames
from confide.membership.memberlist import Entry, MemberList
from confide.messages import (
    MAX_WIDENINGS,
    CatchUpRequest,
    JoinReply,
    JoinRequest,
    Message,
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
    decode,
    from_hex,
    pack_parts,
    to_floats,
    unpack_parts,
)
from confide.parties.key_holder import Expected, KeyHolder
from confide.parties.payload import Payload, plan_payload
from confide.parties.releasing import KeptReleases
from confide.parties.rules import ClientRules
from confide.parties.state import ClientState, Pending, PendingStore
from confide.parties.training import RoundTraining, Trainer
from confide.privacy.plan import PrivacyPlan
from confide.privacy.releases import Releases
from confide.seal.scheme import ClientSealing, SealContext
from confide.train.outcome import StepReport
from confide.update import Layout, Vector

MAX_WEIGHT = 2.0**64
TOLD_ALWAYS = ("saturated", "seal_seconds")
TOLD = (*TOLD_ALWAYS, "num_steps", "seconds", "num_examples", "num_tokens", "num_targets", "loss")
"""What a client tells the server about its training. Norms, and losses by step, stay with the client: no record needs
them, and they say something about its update and its data. Under differential privacy only `TOLD_ALWAYS` is told, and
epsilon: a loss would be a second release, which no guarantee covers, and the time follows how much was drawn."""


class Recorder(Protocol):
    """Keeps a client's own part of a transcript; see `confide.transcript.recorder.ClientRecorder`."""

    def sent(self, round_number: int, layout: Layout, update: Vector, weight: float) -> None:
        """Keeps an update as it goes into sealing, before it is multiplied by the weight."""
        ...

    def opened(self, round_number: int, layout: Layout, mean: Vector, total_weight: float) -> None:
        """Keeps the mean that was opened."""
        ...


class Client:
    """Answers the server's requests, one at a time.

    Attributes:
        figures: of its last local training, by name: for the client's own diagnosis; a part is told (`TOLD`).

    Args:
        run: the run's id.
        examples: its training data, at least one.
        trainer: shared by the clients of one process.
        keys: its keys at work; they also hold its name and the roster.
        evaluate: figures of an adapter on this client's held-out data, by name.
        store: keeps what is pending, for a client that is restarted between upload and opening.
        kept: keeps what it released in a round, for one that is asked for the round again; another place than `store`.
        releases: counts what this client's guarantee must answer for.
        keep: called with the state that it goes on with, before it does: for a client whose state must be on its own
            disk by then.
        on_step: called with the client's name after each local step; may raise to stop. Under a guarantee it is told no
            loss (NaN), as the server is not.
        recorder: keeps what this client sends and opens, where the run is recorded for an audit.
    """

    def __init__(
        self,
        *,
        run: str,
        rules: ClientRules,
        state: ClientState,
        examples: Sequence[TokenizedExample],
        trainer: Trainer,
        sealing: ClientSealing,
        keys: KeyHolder,
        privacy: PrivacyPlan,
        evaluate: Callable[[Vector], Mapping[str, float]],
        store: PendingStore,
        kept: PendingStore,
        releases: Releases,
        keep: Callable[[ClientState], None] | None = None,
        on_step: Callable[[str, StepReport], None] | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        self.name = keys.name
        self.state = state
        self._run = run
        self._rules = rules
        self._num_examples = len(examples)
        self._sealing = sealing
        self._keys = keys
        self._privacy = privacy
        self._evaluate = evaluate
        self._store = store
        self._keep = keep
        self._releases = KeptReleases(owner=f"{run} {self.name}", plan=privacy, store=kept, releases=releases)
        self._training = RoundTraining(
            client=self.name,
            rules=rules,
            examples=examples,
            trainer=trainer,
            sealing=sealing,
            privacy=privacy,
            releases=self._releases,
            on_step=self._report_step,
        )
        self._on_step = on_step
        self._recorder = recorder
        self.figures: Mapping[str, float] = {}

    def handle(self, request: bytes) -> bytes:
        """Answers one request.

        Raises:
            MessageError: the request is no message for this client now.
            ConfideError: what the request asked for failed; nothing of the client's state has changed.
        """
        message = decode(request)
        if message.run != self._run:
            raise MessageError(f"client {self.name} takes part in run {self._run}, the request is of run {message.run}")
        match message:
            case JoinRequest():
                return self._join().to_bytes()
            case TrainRequest():
                return self._train(message)
            case SignRequest():
                return self._sign(message).to_bytes()
            case ReleaseRequest():
                return self._release(message).to_bytes()
            case OpenRequest():
                return self._open(message)
            case StateRequest():
                return self._hand_over(message).to_bytes()
            case CatchUpRequest():
                return self._catch_up(message).to_bytes()
            case _:
                raise MessageError(f"client {self.name} got a {type(message).__name__}, which only a server gets")

    @property
    def spent(self) -> Mapping[str, float]:
        """What its guarantee has cost so far, all uploads included; see `PrivacyPlan.spent`."""
        return self._privacy.spent(self._releases.counts)

    def check_releases(self, num_rounds: int) -> None:
        """Makes sure that no release was forgotten.

        Args:
            num_rounds: how many opened sums hold an upload of this client.

        Raises:
            RunDirectoryError: under a guarantee fewer releases were counted than that.
        """
        plan, counts = self._privacy, self._releases.counts
        counted = [counts.trainings] * plan.trains_privately + [counts.uploads] * plan.noises_updates
        if counted and min(counted) < num_rounds:
            raise RunDirectoryError(
                f"client {self.name} has counted {min(counted)} releases and is in the sums of {num_rounds} "
                "rounds: what its guarantee has cost is lost. Restore its folder in clients/, or start a new run."
            )

    def settled(self, *, counted: bool) -> ClientState:
        """Its state if its last upload, when not opened by itself yet, is `counted` among what others have opened."""
        pending = self._pending() if counted else None
        return self.state if pending is None else self._in_sum(pending)

    def _in_sum(self, pending: Pending) -> ClientState:
        """Its state once its upload is in an opened sum."""
        return replace(pending.state, num_sums=self.state.num_sums + 1)

    def forget_pending(self) -> None:
        """Forgets what would take effect with the opening of its last upload, and what it would send again.

        For a run that goes on no more.

        Raises:
            StorageError: it cannot be removed.
        """
        self._store.save(None)
        self._releases.forget()

    def _join(self) -> Message:
        shared = self.state.shared
        return JoinReply(
            run=self._run,
            round_number=shared.round_number,
            client=self.name,
            num_examples=self._num_examples,
            adapter_digest=shared.digest,
            signature=self._keys.sign_adapter(self._run, shared.round_number, shared.digest).hex(),
        )

    def _train(self, request: TrainRequest) -> bytes:
        state, rules, number = self.state, self._rules, request.round_number
        self._check_round(number)
        if request.adapter_digest != state.shared.digest:
            raise AgreementError(f"client {self.name} holds another global adapter than round {number} starts from")
        signatures = {name: from_hex(signature) for name, signature in request.signatures.items()}
        self._keys.check_adapter(self._run, number - 1, state.shared.digest, signatures)
        weight = rules.weight(self._num_examples)
        if not weight <= request.reference_weight <= MAX_WEIGHT:
            raise MessageError(
                f"the reference weight of round {number} is {request.reference_weight:.6g}, "
                f"expected at least {weight:.6g}, as client {self.name} weighs, and at most {MAX_WEIGHT:.6g}"
            )
        ratio = weight / request.reference_weight
        payload = self._widened(self._payload(), request)
        made = self._training.run(state, payload, weight_ratio=ratio)
        parts, entry = self._seal(payload, made.values, weight)
        figures = {**made.figures, "seal_seconds": time.perf_counter() - made.ended}
        reply = TrainReply(
            run=self._run,
            round_number=number,
            client=self.name,
            weight=weight,
            layout_digest=payload.layout.digest,
            key_id=entry.key_id,
            limit=payload.limit,
            metrics=to_floats(self._told(figures)),
            body=pack_parts(parts),
        ).to_bytes()
        if self._recorder is not None:
            sent = payload.scatter(made.arrived)[: payload.trained.num_values] / np.float32(ratio)
            self._recorder.sent(number, payload.trained, sent, weight)
        # Last, when nothing can fail any more but the writing itself; what it costs has been counted.
        pending = Pending(
            state=made.own, entry=entry, reference_weight=request.reference_weight, widening=request.widening
        )
        self._store.save(pending.to_bytes())
        # A private step may draw nobody, and then has no loss.
        self.figures = {name: float(figure) for name, figure in figures.items() if math.isfinite(figure)}
        return reply

    def _told(self, figures: Mapping[str, float]) -> dict[str, float]:
        """What the server is told of a training."""
        told = TOLD if self._privacy.unit == "none" else TOLD_ALWAYS
        return {name: figures[name] for name in told} | dict(self.spent)

    def _seal(self, payload: Payload, values: Vector, weight: float) -> tuple[dict[str, bytes], Entry]:
        """The parts of the upload, and how it will be listed."""
        context = self._context(payload)
        sealing = self._sealing.begin(context)
        spec = self._spec(payload)
        frames = b"".join(write_frames(spec, self._keys.point, sealing.chunks(values), self._keys.sign))
        digest = hashlib.sha256(frames).hexdigest()
        entry = Entry(client=self.name, weight=weight, key_id=sealing.key_id, upload_digest=digest)
        return {"frames": frames, **self._keys.address(context, sealing)}, entry

    def _sign(self, request: SignRequest) -> Message:
        self._check_round(request.round_number)
        members = MemberList.from_bytes(request.body)
        _, expected = self._listed(members)
        signature = self._keys.sign_list(members, expected)
        return SignReply(run=self._run, round_number=request.round_number, client=self.name, signature=signature.hex())

    def _release(self, request: ReleaseRequest) -> Message:
        self._check_round(request.round_number)
        members, parts = _with_members(request.body)
        signatures = {name: from_hex(signature) for name, signature in request.signatures.items()}
        _, expected = self._listed(members)
        body = self._keys.release(members, signatures, parts, expected)
        return ReleaseReply(run=self._run, round_number=request.round_number, client=self.name, body=body)

    def _open(self, request: OpenRequest) -> bytes:
        began = time.perf_counter()
        state, rules, number = self.state, self._rules, request.round_number
        self._check_round(number)
        members, parts = _with_members(request.body)
        payload, expected = self._listed(members)
        released = {name.removeprefix("release "): part for name, part in parts.items() if name.startswith("release ")}
        key_shares = self._keys.read_released(members, released, parts, expected)
        total = parts.get("sum", b"")
        bodies = sum_from_bytes(total, self._spec(payload), self._sealing.check_sum)
        self._keys.check_sum(members, total)
        opened = self._sealing.open(
            self._context(payload), num_members=len(members.entries), bodies=bodies, key_shares=key_shares
        )
        shared = rules.step.apply(
            state.shared,
            payload.trained,
            payload.scatter(opened),
            total_weight=members.total_weight / members.reference_weight,
            next_limits=payload.next_limits(opened),
        )
        if not np.isfinite(shared.adapter).all():
            raise NonFiniteUpdateError(
                f"round {number}: the server optimiser made the global adapter NaN or infinite. "
                "Lower federation.server_learning_rate or train.learning_rate."
            )
        if self._recorder is not None:
            ratio = members.total_weight / members.reference_weight
            mean = payload.scatter(opened)[: payload.trained.num_values] / np.float32(ratio)
            self._recorder.opened(number, payload.trained, mean, members.total_weight)
        pending = self._pending()
        own = self._in_sum(pending) if pending is not None and pending.entry in members.entries else state
        metrics = {
            "step_norm": float(np.linalg.norm(shared.adapter - state.shared.adapter)),
            "open_seconds": time.perf_counter() - began,
        }
        if rules.measures_factors:
            metrics["product_change"] = product_change(state.shared.adapter, shared.adapter, shared.layout)
        if rules.is_evaluation_round(number):
            metrics |= self._evaluate(shared.adapter)
        reply = OpenReply(
            run=self._run,
            round_number=number,
            client=self.name,
            adapter_digest=shared.digest,
            signature=self._keys.sign_adapter(self._run, number, shared.digest).hex(),
            metrics=to_floats(metrics),
        ).to_bytes()
        # Last, when nothing can fail any more: a client that cannot report has not moved on.
        self._go_on(replace(own, shared=shared))
        return reply

    def _hand_over(self, request: StateRequest) -> Message:
        shared = self.state.shared
        if not request.recipients and not self._rules.server_may_read:
            raise MessageError(f'client {self.name} gives no adapter to the server: seal.release is "clients"')
        parts = {"state": shared.to_bytes()}
        if request.recipients:
            parts = self._keys.hand_over(self._run, shared.round_number, parts["state"], request.recipients)
        return StateReply(
            run=self._run,
            round_number=shared.round_number,
            client=self.name,
            adapter_digest=shared.digest,
            body=pack_parts(parts),
        )

    def _catch_up(self, request: CatchUpRequest) -> Message:
        state = self.state
        number, digest = state.shared.round_number, state.shared.digest
        if (request.round_number, request.adapter_digest) == (number, digest):
            return self._join()  # it is there, and could not say so
        if request.round_number < number:  # of its own round it takes another state, if enough others signed for it
            raise MessageError(
                f"client {self.name} has done {number} rounds and does not go back to round {request.round_number}"
            )
        data = self._keys.take_over(
            self._run,
            request.round_number,
            source=request.source,
            parts=unpack_parts(request.body),
            adapter_digest=request.adapter_digest,
            signatures={name: from_hex(signature) for name, signature in request.signatures.items()},
        )
        shared = GlobalState.from_bytes(data, state.shared.layout)
        if (shared.digest, shared.round_number) != (request.adapter_digest, request.round_number):
            raise AgreementError(f"client {self.name} was handed a global state that does not match its digest")
        self._go_on(replace(self.settled(counted=request.counted), shared=shared))
        return self._join()

    def _go_on(self, state: ClientState) -> None:
        """Takes a state; killed in the middle, it starts again from the one or from the other, never from parts."""
        if self._keep is None:
            self._store.save(None)
            self._releases.forget_earlier(state.shared.round_number)
            self.state = state
            return
        self._keep(state)
        self.state = state  # as it is on disk; what is pending belongs to an earlier round from now on
        self._store.save(None)
        self._releases.forget_earlier(state.shared.round_number)

    def _payload(self) -> Payload:
        """Of the round after the state this client holds."""
        shared, rules = self.state.shared, self._rules
        number = shared.round_number + 1
        return plan_payload(
            rules.step, rules.pruning, shared, rules.trained(number), learning_rate=rules.learning_rate(number)
        )

    def _context(self, payload: Payload) -> SealContext:
        return SealContext(
            run=self._run,
            round_number=self.state.shared.round_number + 1,
            client=self.name,
            num_values=payload.num_values,
            limit=payload.limit,
        )

    def _spec(self, payload: Payload) -> FrameSpec:
        return FrameSpec(
            sealing_digest=self._sealing.digest,
            roster_digest=self._keys.roster.digest,
            run=self._run,
            round_number=self.state.shared.round_number + 1,
            num_values=payload.num_values,
            limit=payload.limit,
            chunk_values=self._sealing.chunk_values,
        )

    def _widened(self, payload: Payload, request: TrainRequest) -> Payload:
        """The payload in the range that a request asks for; where there is no range, none can be wider."""
        most = MAX_WIDENINGS if payload.has_peaks else 0
        if not 0 <= request.widening <= most:
            raise MessageError(
                f"round {request.round_number} is asked for in a range doubled {request.widening} times, expected 0 to "
                f"{most}"
            )
        return payload.widened(request.widening)

    def _listed(self, members: MemberList) -> tuple[Payload, Expected]:
        """What a list opens to, and what this client knows for the list to agree with.

        The range is the one that this client sealed in; where the list does not hold its upload, any that the round
        may take.
        """
        payload, pending = self._payload(), self._pending()
        if pending is not None and pending.entry in members.entries:
            payload = payload.widened(pending.widening)
        else:
            payload = payload.widened(payload.widening_to(members.limit))
        expected = Expected(
            context=self._context(payload),
            entry=None if pending is None else pending.entry,
            reference_weight=None if pending is None else pending.reference_weight,
        )
        return payload, expected

    def _pending(self) -> Pending | None:
        kept = self._store.load()
        return None if kept is None else Pending.from_bytes(kept, self.state.shared)

    def _check_round(self, number: int) -> None:
        done = self.state.shared.round_number
        if number != done + 1:
            raise MessageError(f"client {self.name} has done {done} rounds and cannot take part in round {number}")

    def _report_step(self, report: StepReport) -> None:
        if self._on_step is not None:
            told = report if self._privacy.unit == "none" else replace(report, loss=math.nan)
            self._on_step(self.name, told)


def _with_members(body: bytes) -> tuple[MemberList, dict[str, bytes]]:
    parts = unpack_parts(body)
    return MemberList.from_bytes(parts.pop("members", b"")), parts
