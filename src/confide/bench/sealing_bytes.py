"""Counts what one client sends and gets in a round of the sealing benchmark: every message of the round, whole.

Messages that a round has only now and then are not in it: joining, catching up, a round that is done again.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from confide.membership.memberlist import Entry, MemberList
from confide.membership.roster import SIGNATURE_BYTES, Roster
from confide.messages import (
    Message,
    OpenReply,
    OpenRequest,
    ReleaseReply,
    ReleaseRequest,
    SignReply,
    SignRequest,
    TrainReply,
    TrainRequest,
    pack_parts,
)
from confide.parties.client import TOLD
from confide.parties.server import ENVELOPES, FIGURES

_DIGEST = "0" * 64
_KEY_ID = "0" * 32
_FIGURE = 1 / 3  # as long as most numbers are in JSON


@dataclass(frozen=True, kw_only=True)
class RoundBytes:
    """Of one client, in one round."""

    upload: int
    download: int


def count_round(
    *,
    roster: Roster,
    run: str,
    sealing_digest: bytes,
    num_values: int,
    frames_bytes: int,
    total_bytes: int,
    envelopes: Mapping[str, bytes],
    released: Mapping[str, bytes],
) -> RoundBytes:
    """Counts the messages of a round in which everybody in the roster takes part.

    Args:
        roster: of the federation.
        run: the run's id.
        sealing_digest: of scheme and profile.
        num_values: of the sealed vector.
        frames_bytes: of the client's sealed vector, headers and signatures included.
        total_bytes: of the framed sum.
        envelopes: the client's, "share NAME" and "group NAME"; those of the others are as long. Empty in a scheme
            without round keys: then no list is signed and nothing is released.
        released: "release NAME": the bodies of the released shares that a server sends on.
    """
    names = roster.names
    client = names[0]
    signature = "0" * (2 * SIGNATURE_BYTES)
    signatures = dict.fromkeys(names, signature)
    key_id = _KEY_ID if envelopes else ""
    members = MemberList(
        run=run,
        round_number=1,
        roster_digest=roster.digest,
        sealing_digest=sealing_digest,
        num_values=num_values,
        limit=_FIGURE,
        reference_weight=1.0,
        entries=tuple(Entry(client=name, weight=1.0, key_id=key_id, upload_digest=_DIGEST) for name in names),
    ).to_bytes()
    addressed = {f"{what} {name}": envelopes[f"{what} {client}"] for what in ENVELOPES for name in names if envelopes}
    group = {name: envelope for name, envelope in addressed.items() if name.startswith(ENVELOPES[1])}
    sent: list[Message] = [
        TrainReply(
            run=run,
            round_number=1,
            client=client,
            weight=1.0,
            layout_digest=_DIGEST,
            key_id=key_id,
            limit=_FIGURE,
            metrics=dict.fromkeys(TOLD, _FIGURE),
            body=pack_parts({"frames": b"", **envelopes}),
        ),
        OpenReply(
            run=run,
            round_number=1,
            client=client,
            adapter_digest=_DIGEST,
            signature=signature,
            metrics=dict.fromkeys(FIGURES - {*TOLD, "epsilon", "client_epsilon"}, _FIGURE),
        ),
    ]
    received: list[Message] = [
        TrainRequest(
            run=run,
            round_number=1,
            cohort=list(names),
            adapter_digest=_DIGEST,
            reference_weight=1.0,
            widening=0,
            signatures=signatures,
        ),
        OpenRequest(run=run, round_number=1, body=pack_parts({"members": members, "sum": b"", **released, **group})),
    ]
    if envelopes:
        sent += [
            SignReply(run=run, round_number=1, client=client, signature=signature),
            ReleaseReply(run=run, round_number=1, client=client, body=next(iter(released.values()))),
        ]
        received += [
            SignRequest(run=run, round_number=1, body=members),
            ReleaseRequest(
                run=run, round_number=1, signatures=signatures, body=pack_parts({"members": members, **addressed})
            ),
        ]
    return RoundBytes(upload=frames_bytes + _size(sent), download=total_bytes + _size(received))


def _size(messages: list[Message]) -> int:
    return sum(len(message.to_bytes()) for message in messages)
