"""The bytes that parties sign, and those that bind an envelope to its place: one function for each purpose.

A statement opens with a fixed word, the version and its purpose, and every field carries its length. So no statement
can be read as one of another purpose, and no two lists of fields give the same bytes.
"""

import hashlib

from confide.errors import MessageError

_DOMAIN = b"confide statement 1"
_LENGTH_BYTES = 8


def frame_statement(header: bytes, body: bytes) -> bytes:
    """What the sender of a frame signs: the header as it is, and the body by its SHA-256.

    The body is hashed once here instead of twice inside Ed25519; finding another body takes a collision of SHA-256.
    """
    return _statement("frame", header, _sha256(body))


def member_list_statement(member_list: bytes) -> bytes:
    """What a client signs to agree to a round's member list, given as its canonical bytes."""
    return _statement("member list", member_list)


def release_statement(
    *, run: str, round_number: int, roster_digest: bytes, member_list_digest: str, sender: str, share: bytes
) -> bytes:
    """What a client signs when it releases its share of the summed key, for one member list."""
    return _statement("release", run, round_number, roster_digest, member_list_digest, sender, _sha256(share))


def adapter_statement(*, run: str, round_number: int, roster_digest: bytes, sender: str, adapter_digest: str) -> bytes:
    """What a client signs to say: after this round, the global adapter that I computed myself has this digest."""
    return _statement("adapter", run, round_number, roster_digest, sender, adapter_digest)


def envelope_context(
    *, purpose: str, run: str, round_number: int, roster_digest: bytes, sender: str, recipient: str, key_id: str
) -> bytes:
    """What an envelope is for; sealed under it, the envelope opens for nothing else.

    Args:
        purpose: what is inside, for example "round key share".
        run: the run's id.
        round_number: from 1.
        roster_digest: of the roster that both sides hold.
        sender: its name in the roster.
        recipient: its name in the roster.
        key_id: of the round key that the content belongs to; empty where there is none.
    """
    return _statement("envelope context", purpose, run, round_number, roster_digest, sender, recipient, key_id)


def envelope_statement(context: bytes, ciphertext: bytes) -> bytes:
    """What the sender of an envelope signs."""
    return _statement("envelope", context, ciphertext)


def presence_statement(*, run: str, challenge: str, roster_digest: bytes, sender: str) -> bytes:
    """What a client signs to say: it is me that answers this challenge, for this run."""
    return _statement("presence", run, challenge, roster_digest, sender)


def run_commitment(*, config: bytes, roster_digest: bytes, nonce: str) -> str:
    """The id of a run between organisations: 64 hexadecimal digits that stand for its terms.

    Whoever was offered other terms computes another id, and no signature of one run is valid in another.
    """
    return hashlib.sha256(_statement("run", config, roster_digest, nonce)).hexdigest()


def identity_statement(*, name: str, signing_key: bytes, envelope_key: bytes) -> bytes:
    """What the fingerprint of a public identity is computed from."""
    return _statement("identity", name, signing_key, envelope_key)


def roster_statement(identities: list[bytes]) -> bytes:
    """What the digest of a roster is computed from: its members' identity statements, in order."""
    return _statement("roster", *identities)


def _statement(purpose: str, *fields: bytes | str | int) -> bytes:
    return b"".join(_with_length(_encode(field)) for field in (_DOMAIN, purpose, *fields))


def _encode(field: bytes | str | int) -> bytes:
    try:
        if isinstance(field, str):
            return field.encode()
        return field.to_bytes(_LENGTH_BYTES, "big") if isinstance(field, int) else field
    except (UnicodeEncodeError, OverflowError) as error:
        raise MessageError(
            "a text that is no Unicode, or a number below 0 or above 64 bits, cannot be signed"
        ) from error


def _with_length(data: bytes) -> bytes:
    return len(data).to_bytes(_LENGTH_BYTES, "big") + data


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
