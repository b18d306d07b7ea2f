"""The member list: whose updates a round's sum is made of. Clients sign it before they release anything.

One list has one form in bytes, the canonical JSON, so that its digest stands for it.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from confide.errors import MessageError
from confide.membership.documents import MAX_DOCUMENT_BYTES, Document, positive_number
from confide.membership.roster import MAX_MEMBERS
from confide.names import name_problem

DIGEST_BYTES = 32
MAX_RUN_BYTES = 128
MAX_ROUND = 2**32 - 1
MAX_VALUES = 2**63 - 1
MOST_DILUTION = 256
"""Largest ratio of a round's reference weight to the lower median of its members' weights.

Sealed values are multiplied by weight / reference weight and then rounded: with a larger ratio one member, or a server,
could make the others' updates vanish in rounding, and the sum would be nearly one member's own. At 256 at least half of
the members keep at least 8 of the 16 bits of the profile "compact". The median, as one member's own weight does not
move it far; of two, the smaller.
"""

_VERSION = 1
HEX_DIGEST = re.compile("[0-9a-f]{64}")
_KEY_ID = re.compile("[0-9a-f]{0,64}")
_ENTRY_FIELDS = ("client", "weight", "key_id", "upload_digest")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One member of the sum.

    Args:
        client: its name in the roster.
        weight: public weight of its update, above 0, at most 2**64; the sealed values are already multiplied by it.
        key_id: of its round key, up to 64 hexadecimal digits; empty where the scheme has none.
        upload_digest: SHA-256 of all its frames in order, hexadecimal.

    Raises:
        MessageError: a field is not as described.
    """

    client: str
    weight: float
    key_id: str
    upload_digest: str

    def __post_init__(self) -> None:
        if problem := name_problem(self.client):
            raise MessageError(f"a client in the member list: its name {problem}")
        weight = positive_number(self.weight, "a weight in the member list", MessageError)
        object.__setattr__(self, "weight", weight)
        if not _KEY_ID.fullmatch(self.key_id):
            raise MessageError("a key_id in the member list must be at most 64 hexadecimal digits")
        if not HEX_DIGEST.fullmatch(self.upload_digest):
            raise MessageError("an upload_digest in the member list must be 64 hexadecimal digits")


@dataclass(frozen=True, kw_only=True)
class MemberList:
    """The members of one round's sum, sorted by name, and everything needed to read the sum.

    Args:
        run: the run's id, 1 to 128 bytes.
        round_number: from 1.
        roster_digest: 32 bytes.
        sealing_digest: of scheme and profile, 32 bytes.
        num_values: of the sealed vector, > 0.
        limit: the fixed-point range of this round: values lie in [-limit, limit]; above 0, at most 2**64.
        reference_weight: what weights were divided by before sealing; above 0, at most 2**64.
        entries: 1 to 1024, in any order; each client once.

    Raises:
        MessageError: a field is not as described.
    """

    run: str
    round_number: int
    roster_digest: bytes
    sealing_digest: bytes
    num_values: int
    limit: float
    reference_weight: float
    entries: tuple[Entry, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "entries", _sorted_entries(self.entries))
        check_run(self.run)
        if not 1 <= self.round_number <= MAX_ROUND:
            raise MessageError(f"the round of a member list must lie in 1..{MAX_ROUND}")
        if len(self.roster_digest) != DIGEST_BYTES or len(self.sealing_digest) != DIGEST_BYTES:
            raise MessageError(f"the digests of a member list must have {DIGEST_BYTES} bytes")
        if not 1 <= self.num_values <= MAX_VALUES:
            raise MessageError(f"num_values of a member list must lie in 1..{MAX_VALUES}")
        for name in ("limit", "reference_weight"):
            object.__setattr__(
                self, name, positive_number(getattr(self, name), f"{name} of a member list", MessageError)
            )

    @property
    def weights(self) -> dict[str, float]:
        """Weight by client, in the order of names."""
        return {entry.client: entry.weight for entry in self.entries}

    @property
    def total_weight(self) -> float:
        """The sum of the weights, rounded once: the same on every machine."""
        return math.fsum(entry.weight for entry in self.entries)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the canonical bytes, hexadecimal."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    @cached_property
    def members_digest(self) -> str:
        """SHA-256 of run, round, names and weights only, hexadecimal: what stays the same if a round is done again."""
        weights = {client: weight.hex() for client, weight in self.weights.items()}
        return hashlib.sha256(_canonical({"run": self.run, "round": self.round_number, "weights": weights})).hexdigest()

    def to_bytes(self) -> bytes:
        """The canonical form: JSON in ASCII with sorted keys and no space, floats as `float.hex` writes them."""
        return _canonical(
            {
                "version": _VERSION,
                "run": self.run,
                "round_number": self.round_number,
                "roster_digest": self.roster_digest.hex(),
                "sealing_digest": self.sealing_digest.hex(),
                "num_values": self.num_values,
                "limit": self.limit.hex(),
                "reference_weight": self.reference_weight.hex(),
                "entries": [
                    {
                        "client": entry.client,
                        "weight": entry.weight.hex(),
                        "key_id": entry.key_id,
                        "upload_digest": entry.upload_digest,
                    }
                    for entry in self.entries
                ],
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> "MemberList":
        """Reads the canonical form and no other, at most 1 MiB.

        Raises:
            MessageError: it is something else, or not in canonical form.
        """
        document = Document.parse(data, what="the member list", error=MessageError)
        document.expect(
            "version",
            "run",
            "round_number",
            "roster_digest",
            "sealing_digest",
            "num_values",
            "limit",
            "reference_weight",
            "entries",
        )
        document.constant("version", _VERSION)
        members = cls(
            run=document.text("run"),
            round_number=document.integer("round_number"),
            roster_digest=document.octets("roster_digest"),
            sealing_digest=document.octets("sealing_digest"),
            num_values=document.integer("num_values"),
            limit=document.number("limit"),
            reference_weight=document.number("reference_weight"),
            entries=tuple(_read_entry(item) for item in document.objects("entries", at_most=MAX_MEMBERS)),
        )
        if members.to_bytes() != data:
            raise MessageError("the member list is not in canonical form")
        return members


def check_run(run: str) -> None:
    """Checks a run's id.

    Raises:
        MessageError: it is empty, too long, or no Unicode text.
    """
    if not run or not run.isprintable() or len(run.encode()) > MAX_RUN_BYTES:
        raise MessageError(f"a run's id must be 1 to {MAX_RUN_BYTES} bytes of printable text")


def _sorted_entries(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    by_name = sorted(entries, key=lambda entry: entry.client)
    if not 1 <= len(by_name) <= MAX_MEMBERS:
        raise MessageError(f"a member list has 1 to {MAX_MEMBERS} entries, this one has {len(by_name)}")
    if len({entry.client for entry in by_name}) != len(by_name):
        raise MessageError("a client stands twice in the member list")
    return tuple(by_name)


def _read_entry(document: Document) -> Entry:
    document.expect(*_ENTRY_FIELDS)
    return Entry(
        client=document.text("client"),
        weight=document.number("weight"),
        key_id=document.text("key_id"),
        upload_digest=document.text("upload_digest"),
    )


def _canonical(value: dict[str, object]) -> bytes:
    data = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    if len(data) > MAX_DOCUMENT_BYTES:
        raise MessageError(f"a member list takes {len(data)} bytes, at most {MAX_DOCUMENT_BYTES} are allowed")
    return data
