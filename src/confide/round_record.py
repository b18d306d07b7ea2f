"""What a round leaves to tell: from its opening and the clients' reports to the record."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from confide.asking import Wire
from confide.membership.memberlist import MemberList
from confide.messages import OpenReply
from confide.parties.opening import Opening
from confide.parties.server import RoundPlan, ServerState, Upload
from confide.records import RoundRecord

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
        seeded_noise: whether who knows the run's seed knows the noise.
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
    seeded_noise: bool = False
    warnings: tuple[str, ...] = ()
    inspect: Inspector | None = None


@dataclass
class Clock:
    """Wall seconds by phase."""

    seconds: dict[str, float] = field(default_factory=dict)
    _began: float = field(default_factory=time.perf_counter)

    def lap(self, phase: str) -> None:
        """Ends a phase."""
        now = time.perf_counter()
        self.seconds[phase] = now - self._began
        self._began = now


def make_record(
    opening: Opening,
    opened: Mapping[str, OpenReply],
    not_opened: Mapping[str, str],
    after: ServerState,
    notes: RoundNotes,
    wire: Wire,
    seconds: Mapping[str, float],
) -> RoundRecord:
    """Makes a round's record.

    Args:
        opening: all until the sum could be opened.
        opened: reports of the clients that agree on the next global state; of one that opened the sum before the server
            was restarted, without figures.
        not_opened: why the others are not among them.
        after: the server's state after the round.
        notes: what the server does not find out itself.
        wire: what opening the sum sent.
        seconds: that opening it took.
    """
    plan, members, uploads = opening.plan, opening.members, opening.uploads

    def spent(answers: Mapping[str, Upload] | Mapping[str, OpenReply], figure: str) -> float:
        return sum(answer.metrics.get(figure, 0.0) for answer in answers.values())

    first = next((reply.metrics for reply in opened.values() if reply.metrics), {})
    waited = dict(opening.seconds)
    opening_seconds = waited.pop("release", 0.0) + seconds.get("open", 0.0)
    return RoundRecord(
        round_number=plan.round_number,
        cohort=plan.cohort,
        members=tuple(members.weights),
        failures={**opening.failures, **not_opened},
        learning_rate=notes.learning_rate(plan.round_number),
        loss=_loss(uploads, members),
        held_out_loss=_held_out_loss(opened),
        update_norm=first.get("step_norm"),
        bytes_up=opening.bytes_up + wire.bytes_up,
        bytes_down=opening.bytes_down + wire.bytes_down,
        seconds=waited
        | {"open": opening_seconds}
        | {"local": spent(uploads, "seconds"), "seal": spent(uploads, "seal_seconds")}
        | {"unseal": spent(opened, "open_seconds"), "evaluate": spent(opened, "evaluate_seconds")},
        sealing=notes.sealing,
        is_sealed=notes.is_sealed,
        server_reads=notes.server_reads or not notes.is_sealed,
        num_values=members.num_values,
        sparsity=notes.sparsity(plan.round_number),
        saturated=max(upload.metrics.get("saturated", 0.0) for upload in uploads.values()),
        privacy=notes.privacy,
        epsilon=_spent(opening.delivered, "epsilon"),
        client_epsilon=_spent(opening.delivered, "client_epsilon"),
        seeded_noise=notes.seeded_noise,
        adapter_digest=after.adapter_digest,
        factor_error=_relative(opening.inexactness, first.get("product_change", 0.0)),
    )


def carry_epsilon(record: RoundRecord, earlier: RoundRecord | None) -> RoundRecord:
    """Gives a record with the most that was spent until its round.

    Who did not upload in it has spent its epsilon all the same: the record before it has the most so far.
    """
    if earlier is None:
        return record
    return replace(
        record,
        epsilon=_most(earlier.epsilon, record.epsilon),
        client_epsilon=_most(earlier.client_epsilon, record.client_epsilon),
    )


def _most(*spent: float | None) -> float | None:
    return max((one for one in spent if one is not None), default=None)


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


def _relative(error: float | None, change: float) -> dict[str, float] | None:
    if error is None:
        return None
    return {"absolute": error, "relative": error / change if change > 0 else 0.0}


def _mean(weighted: list[tuple[float, float]]) -> float:
    values, weights = zip(*weighted, strict=True)
    return float(np.average(values, weights=weights))
