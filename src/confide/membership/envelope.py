"""Envelopes: what one member sends to another so that the server, which carries it, cannot read it.

An envelope is the sender's Ed25519 signature (64 bytes) over the context and the ciphertext, then the ciphertext of
HPKE (RFC 9180). The context names purpose, run, round, roster, both members and the key: it is not sent, both sides
know it, and under another the envelope does not open.
"""

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

from confide.errors import MessageError
from confide.membership.identity import ENVELOPE_SUITE, Identity
from confide.membership.roster import SIGNATURE_BYTES, PublicIdentity, verify_signature
from confide.membership.statements import envelope_statement

MAX_PLAINTEXT_BYTES = 1 << 20
OVERHEAD_BYTES = SIGNATURE_BYTES + 32 + 16
"""Signature, one-time public key, authentication tag."""


def seal_envelope(sender: Identity, recipient: PublicIdentity, plaintext: bytes, context: bytes) -> bytes:
    """Seals up to 1 MiB for one member.

    Args:
        sender: signs.
        recipient: the only one who can open it.
        plaintext: secret.
        context: from `envelope_context`.

    Raises:
        MessageError: the plaintext is too long.
    """
    if len(plaintext) > MAX_PLAINTEXT_BYTES:
        raise MessageError(f"an envelope takes at most {MAX_PLAINTEXT_BYTES} bytes, this would be {len(plaintext)}")
    key = X25519PublicKey.from_public_bytes(recipient.envelope_key)
    ciphertext = ENVELOPE_SUITE.encrypt(plaintext, key, info=context)
    return sender.sign(envelope_statement(context, ciphertext)) + ciphertext


def open_envelope(recipient: Identity, sender: PublicIdentity, envelope: bytes, context: bytes) -> bytes:
    """Opens what `seal_envelope` made.

    Guarantees:
        - What comes back was sealed by `sender`, for `recipient`, under `context`.

    Raises:
        MessageError: too short or too long, not signed by the sender, or not for this recipient and context.
    """
    most = OVERHEAD_BYTES + MAX_PLAINTEXT_BYTES
    if not OVERHEAD_BYTES <= len(envelope) <= most:
        raise MessageError(f"an envelope has {OVERHEAD_BYTES} to {most} bytes, this has {len(envelope)}")
    signature, ciphertext = envelope[:SIGNATURE_BYTES], envelope[SIGNATURE_BYTES:]
    verify_signature(sender, envelope_statement(context, ciphertext), signature)
    return recipient.open(ciphertext, context)
