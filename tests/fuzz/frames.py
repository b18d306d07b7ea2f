"""Fuzz target: whatever the bytes are, who reads them raises our error or gives back what means exactly these bytes.

Covers what a party reads before it knows who sent it: messages, frames of an upload and of a sum, member lists,
rosters, public identities. Run it by hand, with atheris installed, for as long as you like; what it finds new goes into
the first folder, which git ignores and `make clean` keeps:

    python tests/fuzz/frames.py -max_total_time=60 tests/fuzz/found/frames tests/fuzz/corpus/frames

The corpus is `samples()`, one file each; `python tests/fuzz/frames.py --write-corpus` makes it again. What broke a
reader gets a test of its own beside the reader's other tests.
"""

import hashlib
import importlib
import sys
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from confide.errors import MessageError, RosterError
from confide.membership.frames import FrameSpec, read_frames, sum_from_bytes, sum_to_bytes, write_frames
from confide.membership.identity import Identity
from confide.membership.memberlist import Entry, MemberList
from confide.membership.roster import PublicIdentity, Roster
from confide.messages import TrainReply, decode

CORPUS = Path(__file__).parent / "corpus" / "frames"
FOUND = Path(__file__).parent / "found" / "frames"


def _identity(name: str) -> Identity:
    secret = hashlib.sha256(name.encode()).digest()
    return Identity(name, Ed25519PrivateKey.from_private_bytes(secret), X25519PrivateKey.from_private_bytes(secret))


IDENTITIES = [_identity("north"), _identity("south")]
ROSTER = Roster(identity.public for identity in IDENTITIES)
SPEC = FrameSpec(
    sealing_digest=bytes(32),
    roster_digest=ROSTER.digest,
    run="run",
    round_number=1,
    num_values=5,
    limit=0.25,
    chunk_values=3,
)
BODIES = [b"abc", b"de"]


def samples() -> dict[str, bytes]:
    """One of each kind, whole and sound."""
    entry = Entry(client="north", weight=2.0, key_id="ab", upload_digest="00" * 32)
    return {
        "identity": ROSTER.members[0].to_json().encode(),
        "member-list": MemberList(
            run="run",
            round_number=1,
            roster_digest=ROSTER.digest,
            sealing_digest=bytes(32),
            num_values=5,
            limit=0.25,
            reference_weight=2.0,
            entries=(entry,),
        ).to_bytes(),
        "message": TrainReply(
            run="run",
            round_number=1,
            client="north",
            weight=2.0,
            layout_digest="cd",
            key_id="ab",
            limit=0.25,
            metrics={"loss": 1.5},
            body=b"body",
        ).to_bytes(),
        "roster": ROSTER.to_json().encode(),
        "sum": sum_to_bytes(BODIES, SPEC),
        "upload": b"".join(write_frames(SPEC, 1, BODIES, IDENTITIES[0].sign)),
    }


def check(data: bytes) -> list[str]:
    """Gives the bytes to every reader.

    Returns:
        The kinds as which they were accepted.

    Raises:
        Exception: a reader failed with another error than its own, or accepted what does not mean these bytes.
    """
    return [kind for kind, reader in READERS.items() if _is_accepted(reader, data)]


def _is_accepted(reader: Callable[[bytes], None], data: bytes) -> bool:
    try:
        reader(data)
    except (MessageError, RosterError):
        return False
    return True


def _read_message(data: bytes) -> None:
    message = decode(data)
    assert decode(message.to_bytes()) == message


def _read_member_list(data: bytes) -> None:
    assert MemberList.from_bytes(data).to_bytes() == data


def _read_roster(data: bytes) -> None:
    roster = Roster.from_json(data)
    assert Roster.from_json(roster.to_json()).digest == roster.digest


def _read_identity(data: bytes) -> None:
    identity = PublicIdentity.from_json(data)
    assert PublicIdentity.from_json(identity.to_json()) == identity


def _read_upload(data: bytes) -> None:
    def verify(statement: bytes, signature: bytes) -> None:
        ROSTER.verify("north", statement, signature)

    assert read_frames(data, SPEC, 1, verify, _check_body) == BODIES, "a forged signature"


def _read_upload_of_anybody(data: bytes) -> None:
    """Reaches what stands behind a signature: a member may sign anything."""
    bodies = read_frames(data, SPEC, 1, lambda statement, signature: None, _check_body)
    again = list(write_frames(SPEC, 1, bodies, lambda statement: b""))
    assert all(frame in data for frame in again)
    assert len(data) == sum(map(len, again)) + 64 * SPEC.num_chunks


def _read_sum(data: bytes) -> None:
    assert sum_to_bytes(sum_from_bytes(data, SPEC, _check_body), SPEC) == data


def _check_body(body: bytes, num_values: int) -> None:
    if len(body) != num_values:
        raise MessageError("the body has another length than its values")


READERS: dict[str, Callable[[bytes], None]] = {
    "identity": _read_identity,
    "member-list": _read_member_list,
    "message": _read_message,
    "roster": _read_roster,
    "sum": _read_sum,
    "upload": _read_upload,
    "upload of anybody": _read_upload_of_anybody,
}


def main(arguments: list[str]) -> None:
    """Runs atheris with libFuzzer's arguments."""
    if arguments[1:] == ["--write-corpus"]:
        for name, data in samples().items():
            (CORPUS / name).write_bytes(data)
        return
    atheris = importlib.import_module("atheris")
    atheris.instrument_all()
    atheris.Setup(arguments, check_quietly)
    atheris.Fuzz()


def check_quietly(data: bytes) -> None:
    """As `check`, for a fuzzer that wants no answer."""
    check(data)


if __name__ == "__main__":
    main(sys.argv)
