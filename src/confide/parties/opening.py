"""What opens a round's sum, and what its record needs: all that the server must not lose once the key is released.

From then on clients may hold the next global state. A server that is restarted there reads this back and has the others
open the same sum, instead of making another one.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from confide.errors import MessageError
from confide.membership.memberlist import Entry, MemberList
from confide.messages import pack_parts, unpack_parts
from confide.parties.server import PayloadShape, RoundPlan, ServerState, Upload


@dataclass(frozen=True, kw_only=True)
class Opening:
    """A round whose members released their key.

    Attributes:
        before: the server's state before the round; its `current` clients are asked to open.
        plan: of the round.
        members: whose updates are in the sum.
        total: the framed sum.
        released: shares of the summed key, encrypted for the clients, by who released; empty in a scheme without.
        delivered: all uploads, also of clients that are no members.
        failures: why each client of the cohort that is no member is left out.
        inexactness: of averaging LoRA's factors, where the updates could be read and it is not zero; else None.
        bytes_up: received so far.
        bytes_down: sent so far.
        seconds: by phase so far.
    """

    before: ServerState
    plan: RoundPlan
    members: MemberList
    total: bytes = field(repr=False)
    released: Mapping[str, bytes] = field(repr=False)
    delivered: Mapping[str, Upload]
    failures: Mapping[str, str]
    inexactness: float | None = None
    bytes_up: int = 0
    bytes_down: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def uploads(self) -> dict[str, Upload]:
        """The members' uploads."""
        return {entry.client: self.delivered[entry.client] for entry in self.members.entries}

    def to_bytes(self) -> bytes:
        """Encodes it, without the updates: the sum holds them."""
        described = {
            "before": state_to_json(self.before),
            "plan": asdict(self.plan),
            "delivered": {
                client: {"entry": asdict(upload.entry), "limit": upload.limit, "metrics": dict(upload.metrics)}
                for client, upload in self.delivered.items()
            },
            "failures": dict(self.failures),
            "inexactness": self.inexactness,
            "bytes_up": self.bytes_up,
            "bytes_down": self.bytes_down,
            "seconds": dict(self.seconds),
        }
        envelopes = {client: pack_parts(upload.envelopes) for client, upload in self.delivered.items()}
        return pack_parts(
            {
                "described": json.dumps(described).encode(),
                "members": self.members.to_bytes(),
                "released": pack_parts(self.released),
                "envelopes": pack_parts(envelopes),
                "total": self.total,
            }
        )

    @staticmethod
    def from_bytes(data: bytes) -> "Opening":
        """Decodes it.

        Raises:
            MessageError: the bytes are damaged.
        """
        try:
            parts = unpack_parts(data)
            described = json.loads(parts["described"])
            before, plan = described.pop("before"), described.pop("plan")
            envelopes = unpack_parts(parts["envelopes"])
            delivered = {
                client: Upload(
                    entry=Entry(**told["entry"]),
                    limit=told["limit"],
                    bodies=(),
                    envelopes=unpack_parts(envelopes[client]),
                    metrics=told["metrics"],
                )
                for client, told in described.pop("delivered").items()
            }
            return Opening(
                before=state_from_json(before),
                plan=RoundPlan(**{**plan, "cohort": tuple(plan["cohort"]), "shape": PayloadShape(**plan["shape"])}),
                members=MemberList.from_bytes(parts["members"]),
                total=parts["total"],
                released=unpack_parts(parts["released"]),
                delivered=delivered,
                **described,
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise MessageError("what the server kept of a round that is to be opened is damaged") from error


def state_to_json(state: ServerState) -> str:
    """The server's state as JSON."""
    named = {**asdict(state), "current": sorted(state.current), "counted": sorted(state.counted)}
    return json.dumps(named, indent=2) + "\n"


def state_from_json(text: str) -> ServerState:
    """Reads what `state_to_json` wrote.

    Raises:
        MessageError: it is something else.
    """
    try:
        named = json.loads(text)
        return ServerState(**{**named, "current": frozenset(named["current"]), "counted": frozenset(named["counted"])})
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise MessageError("the server's saved state is damaged") from error
