"""The secret half of a member: its signing key and the key that opens its envelopes, in memory and in a file.

The server's side never imports this module.

The file is one JSON object that only its owner can read:

    public                the public half, readable without the passphrase
    passphrase_salt       16 bytes in hexadecimal; empty if the keys are not encrypted
    signing_private_key   Ed25519, PKCS #8 in PEM
    envelope_private_key  X25519, PKCS #8 in PEM
"""

import json
import os
import secrets
import shlex
import stat
from pathlib import Path
from typing import NoReturn

from cryptography.exceptions import InternalError, InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from confide.errors import KeyFileError, MessageError, SecretKeyError
from confide.files import write_new
from confide.membership.documents import MAX_DOCUMENT_BYTES, Document
from confide.membership.roster import PublicIdentity

ENVELOPE_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
"""HPKE in base mode (RFC 9180); the sender is known by its signature."""

_FORMAT = "confide identity"
_VERSION = 1
_FIELDS = ("format", "version", "public", "passphrase_salt", "signing_private_key", "envelope_private_key")
_TOO_OPEN = stat.S_IRWXG | stat.S_IRWXO
_SALT_BYTES = 16
_SCRYPT_COST = 2**17
_SCRYPT_BLOCKS = 8

PrivateKey = Ed25519PrivateKey | X25519PrivateKey


class Identity:
    """A member's name with its two secret keys.

    Args:
        name: in the roster.
        signing_key: signs statements.
        envelope_key: opens envelopes.

    Guarantees:
        - It cannot be copied or pickled, and neither its text nor an error holds a key.

    Raises:
        RosterError: the name is none that a roster takes.
    """

    __slots__ = ("_envelope_key", "_signing_key", "public")

    def __init__(self, name: str, signing_key: Ed25519PrivateKey, envelope_key: X25519PrivateKey) -> None:
        self._signing_key = signing_key
        self._envelope_key = envelope_key
        self.public = PublicIdentity(
            name, signing_key.public_key().public_bytes_raw(), envelope_key.public_key().public_bytes_raw()
        )

    @classmethod
    def generate(cls, name: str) -> "Identity":
        """Makes new keys from the operating system's randomness."""
        return cls(name, Ed25519PrivateKey.generate(), X25519PrivateKey.generate())

    def __repr__(self) -> str:
        return f"<Identity of {self.public.name}, keys hidden>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise SecretKeyError(
            f"the secret keys of {self.public.name} cannot be copied or pickled: pass the object itself"
        )

    def sign(self, statement: bytes) -> bytes:
        """Signs a statement of `confide.membership.statements`: 64 bytes, Ed25519."""
        return self._signing_key.sign(statement)

    def open(self, ciphertext: bytes, context: bytes) -> bytes:
        """Opens what was encrypted to this member under this context; `open_envelope` also checks who sent it.

        Raises:
            MessageError: it was not.
        """
        try:
            return ENVELOPE_SUITE.decrypt(ciphertext, self._envelope_key, info=context)
        except (InvalidTag, ValueError):
            raise MessageError(f"the envelope does not open for {self.public.name} in this place") from None

    def save(self, path: Path, passphrase: bytes | None) -> None:
        """Writes the key file: readable by its owner only, encrypted if there is a passphrase.

        Guarantees:
            - A file at `path` is never replaced, and a new one appears whole or not at all.

        Raises:
            KeyFileError: there is something at `path` already, or the passphrase is empty.
            StorageError: it cannot be written.
        """
        salt = b"" if passphrase is None else secrets.token_bytes(_SALT_BYTES)
        encryption = NoEncryption() if passphrase is None else BestAvailableEncryption(_stretch(passphrase, salt))
        fields = {
            "format": _FORMAT,
            "version": _VERSION,
            "public": json.loads(self.public.to_json()),
            "passphrase_salt": salt.hex(),
            "signing_private_key": _to_pem(self._signing_key, encryption),
            "envelope_private_key": _to_pem(self._envelope_key, encryption),
        }
        _write_new(path, (json.dumps(fields, indent=2) + "\n").encode())

    @classmethod
    def load(cls, path: Path, passphrase: bytes | None) -> "Identity":
        """Reads a key file.

        Raises:
            KeyFileError: it is missing, open to others, damaged or no key file; or the passphrase is missing, wrong or
                not needed.
        """
        document = _read(path)
        public = _public_of(document)
        salt = document.octets("passphrase_salt")
        if salt and passphrase is None:
            raise KeyFileError(f"{path} is encrypted: give its passphrase")
        if passphrase is not None and not salt:
            raise KeyFileError(f"{path} is not encrypted: leave the passphrase out, or make a new key file with one")
        stretched = None if passphrase is None else _stretch(passphrase, salt)
        signing_key = _from_pem(document, "signing_private_key", stretched)
        envelope_key = _from_pem(document, "envelope_private_key", stretched)
        if not isinstance(signing_key, Ed25519PrivateKey) or not isinstance(envelope_key, X25519PrivateKey):
            raise KeyFileError(f"{path} holds keys of another kind than Ed25519 and X25519: it is damaged")
        identity = cls(public.name, signing_key, envelope_key)
        if identity.public != public:
            raise KeyFileError(f"the secret keys of {path} are not those of its public half: it is damaged")
        return identity


def read_public_half(path: Path) -> tuple[PublicIdentity, bool]:
    """Reads from a key file what others may know, and whether its secret keys are encrypted; needs no passphrase.

    Raises:
        KeyFileError: the file is missing, open to others, damaged or no key file.
    """
    document = _read(path)
    return _public_of(document), bool(document.octets("passphrase_salt"))


def is_key_file(content: bytes) -> bool:
    """Whether bytes look like those of a key file, whole or damaged: to warn who is about to hand them on."""
    return b"PRIVATE KEY-----" in content


def _read(path: Path) -> Document:
    document = Document.parse(_read_private(path), what=str(path), error=KeyFileError).expect(*_FIELDS)
    document.constant("format", _FORMAT)
    document.constant("version", _VERSION)
    return document


def _public_of(document: Document) -> PublicIdentity:
    return PublicIdentity.from_document(document.object("public"))


def _read_private(path: Path) -> bytes:
    """Reads a file that only its owner can; the check is made on what was opened."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if mode & _TOO_OPEN:
                raise KeyFileError(
                    f"{path} can be read or written by others (mode {stat.S_IMODE(mode):04o}). "
                    f"Close it with: chmod 600 {shlex.quote(str(path))}; if others could have read it, make new keys."
                )
            return file.read(MAX_DOCUMENT_BYTES + 1)
    except FileNotFoundError:
        raise KeyFileError(f"there is no key file {path}. Make one with: confide keys new NAME") from None
    except OSError as error:
        raise KeyFileError(f"the key file {path} cannot be read: {error.strerror or error}") from error


def _write_new(path: Path, content: bytes) -> None:
    try:
        write_new(path, content, mode=0o600)
    except FileExistsError:
        raise KeyFileError(f"{path} is there already, and keys are never overwritten: choose another place") from None


def _stretch(passphrase: bytes, salt: bytes) -> bytes:
    """Makes guessing a passphrase dear: 128 MiB and a third of a second for each try.

    PKCS #8 alone stretches with 2048 rounds of PBKDF2, which a graphics card tries millions of times a second.

    Source: Percival and Josefsson 2016, RFC 7914; N = 2**17, r = 8, p = 1 as OWASP's cheat sheet on password storage.
    """
    if not passphrase:
        raise KeyFileError("the passphrase is empty: give one, or none at all")
    return Scrypt(salt=salt, length=32, n=_SCRYPT_COST, r=_SCRYPT_BLOCKS, p=1).derive(passphrase).hex().encode()


def _to_pem(key: PrivateKey, encryption: KeySerializationEncryption) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption).decode()


def _from_pem(document: Document, name: str, passphrase: bytes | None) -> object:
    key = _try_pem(document.text(name).encode(), passphrase)
    if key is None:  # raised here, not where loading failed: the library's errors quote the file
        likely = "it is damaged" if passphrase is None else "the passphrase is wrong, or the file is damaged"
        raise KeyFileError(f"{document.what}: {name} cannot be read: {likely}")
    return key


def _try_pem(pem: bytes, passphrase: bytes | None) -> object | None:
    try:
        return load_pem_private_key(pem, passphrase)
    except (ValueError, TypeError, UnsupportedAlgorithm, InternalError):
        return None
