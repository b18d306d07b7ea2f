"""Keys that the clients of a round have in common and the server has not, and what is encrypted under them.

Each member of a round gives every client a random part in an envelope; the key is derived from all parts, so that no
single client chooses it. AES-256-GCM with random nonces; a key lives for one round, far below the number of messages at
which random nonces of 96 bits would matter (NIST SP 800-38D, section 8.3: 2^32).
"""

import os
from collections.abc import Mapping

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from confide.errors import MessageError

KEY_BYTES = 32
_NONCE_BYTES = 12


def new_key_part() -> bytes:
    """32 bytes from the operating system: one member's part of a group key, or a whole key for one message (secret)."""
    return os.urandom(KEY_BYTES)


def combine_key_parts(parts: Mapping[str, bytes], context: bytes) -> bytes:
    """Derives the group key from all members' parts.

    Args:
        parts: by member, each 32 bytes (secret).
        context: public bytes that name run, round and members; another context gives an unrelated key.

    Returns:
        A key of 32 bytes (secret), the same for the same parts in any order.

    Raises:
        MessageError: a part has another length, or there are none.
    """
    if not parts or any(len(part) != KEY_BYTES for part in parts.values()):
        raise MessageError(f"expected parts of a group key of {KEY_BYTES} bytes, and at least one")
    material = b"".join(parts[name] for name in sorted(parts))
    return HKDF(algorithm=hashes.SHA256(), length=KEY_BYTES, salt=None, info=context).derive(material)


def encrypt_for_group(key: bytes, plaintext: bytes, context: bytes) -> bytes:
    """Encrypts and authenticates under a group key.

    Args:
        key: 32 bytes (secret).
        plaintext: any bytes (secret).
        context: public bytes that the result is bound to.

    Returns:
        28 bytes more than the plaintext: nonce, ciphertext, tag.
    """
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, plaintext, context)


def decrypt_for_group(key: bytes, sealed: bytes, context: bytes) -> bytes:
    """The inverse of `encrypt_for_group`.

    Raises:
        MessageError: the bytes were changed, or made under another key or for another context.
    """
    if len(key) != KEY_BYTES or len(sealed) < _NONCE_BYTES:
        raise MessageError("bytes encrypted for the clients are cut off, or their key is")
    try:
        return AESGCM(key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], context)
    except InvalidTag:
        raise MessageError(
            "bytes encrypted for the clients do not open: changed, or for another round or key"
        ) from None
