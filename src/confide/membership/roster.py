"""The roster: who takes part, with which public keys. All parties hold the same one; it has no secrets.

Its members compare its fingerprint over another channel (a telephone) once; from then on its digest stands in
everything that is signed.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from confide.errors import ConfideError, MessageError, RosterError
from confide.files import write_atomic
from confide.membership.documents import MAX_DOCUMENT_BYTES, Document
from confide.membership.statements import identity_statement, roster_statement
from confide.names import MAX_NAME_BYTES, name_problem

KEY_BYTES = 32
SIGNATURE_BYTES = 64
MAX_MEMBERS = 1024

_IDENTITY_FORMAT = "confide public identity"
_ROSTER_FORMAT = "confide roster"
_VERSION = 1
_IDENTITY_DIGITS = 30
_ROSTER_DIGITS = 60

_FIELD_PRIME = 2**255 - 19
_ORDER_8 = 2707385501144840649318225287225658788936804267575313519463743609750303402022
_SMALL_ORDER_Y = {0, 1, _FIELD_PRIME - 1, _ORDER_8, _FIELD_PRIME - _ORDER_8}
"""The y coordinates of all points of small order on edwards25519: under such a key, a signature says nothing."""
_SMALL_ORDER_U = {(1 + y) * pow(1 - y, -1, _FIELD_PRIME) % _FIELD_PRIME for y in _SMALL_ORDER_Y - {1}} | {
    _FIELD_PRIME - 1
}
"""The u coordinates of all points of small order on curve25519 (RFC 7748, section 4.1) and on its twist, which adds -1:
with such a key every secret agrees on zero."""


@dataclass(frozen=True)
class PublicIdentity:
    """What others know of a member.

    Args:
        name: one that `confide.names` takes for a client.
        signing_key: Ed25519 public key, 32 bytes.
        envelope_key: X25519 public key, 32 bytes.

    Guarantees:
        - Each key has one spelling and is not of small order: a signature binds its maker, an envelope has a secret.

    Raises:
        RosterError: the name or a key is none that can be used.

    Source: small-order points: Bernstein et al. 2015, "Curve25519 for ephemeral key exchange" and RFC 7748, section
        6.1; Chalkias et al. 2020, "Taming the many EdDSAs", section 2.
    """

    name: str
    signing_key: bytes
    envelope_key: bytes

    def __post_init__(self) -> None:
        if problem := name_problem(self.name):
            raise RosterError(f"the member name {self.name[:MAX_NAME_BYTES]!r} {problem}")
        if not _is_sound_signing_key(self.signing_key):
            raise RosterError(f"the signing key of {self.name} is no Ed25519 public key that can be used")
        if not _is_sound_envelope_key(self.envelope_key):
            raise RosterError(f"the envelope key of {self.name} is no X25519 public key that can be used")

    @property
    def statement(self) -> bytes:
        """Name and keys in one canonical form."""
        return identity_statement(name=self.name, signing_key=self.signing_key, envelope_key=self.envelope_key)

    @property
    def fingerprint(self) -> str:
        """30 digits to compare by telephone: another identity of the same digits takes about 2**99 tries to find."""
        return _digits(hashlib.sha256(self.statement).digest(), _IDENTITY_DIGITS)

    def to_json(self) -> str:
        """The file that a member hands to the others."""
        head = {"format": _IDENTITY_FORMAT, "version": _VERSION}
        return json.dumps({**head, **_as_fields(self), "fingerprint": self.fingerprint}, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, *, what: str = "the public identity") -> "PublicIdentity":
        """Reads what `to_json` wrote; messages call it `what`.

        Raises:
            RosterError: it is something else, or damaged.
        """
        return cls.from_document(Document.parse(text, what=what, error=RosterError))

    @classmethod
    def from_document(cls, document: Document) -> "PublicIdentity":
        """Reads a public identity that stands in another document.

        Raises:
            ConfideError: of the document's own type; it is something else, or damaged.
        """
        document.expect("format", "version", "name", "signing_key", "envelope_key", "fingerprint")
        document.constant("format", _IDENTITY_FORMAT)
        document.constant("version", _VERSION)
        identity = _from_fields(document)
        document.constant("fingerprint", identity.fingerprint)
        return identity


@dataclass(frozen=True)
class Roster:
    """The members, sorted by name; names and keys are unique.

    Args:
        members: 1 to 1024, in any order.

    Raises:
        RosterError: there are none or too many, or two share a name or a key.
    """

    members: tuple[PublicIdentity, ...]

    def __init__(self, members: Iterable[PublicIdentity]) -> None:
        object.__setattr__(self, "members", tuple(sorted(members, key=lambda member: member.name)))
        if not 1 <= len(self.members) <= MAX_MEMBERS:
            raise RosterError(f"a roster has 1 to {MAX_MEMBERS} members, this one has {len(self.members)}")
        self._check_unique("name", [member.name for member in self.members])
        self._check_unique("signing key", [member.signing_key for member in self.members])
        self._check_unique("envelope key", [member.envelope_key for member in self.members])

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 over all names and keys, 32 bytes; the same for any order of the members."""
        return hashlib.sha256(roster_statement([member.statement for member in self.members])).digest()

    @property
    def fingerprint(self) -> str:
        """60 digits to compare by telephone.

        Twice those of an identity: who adds its own key to two rosters could look for two of the same digits, which
        takes the square root of the tries, here about 2**99.
        """
        return _digits(self.digest, _ROSTER_DIGITS)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The members' names, ascending."""
        return tuple(member.name for member in self.members)

    def point_of(self, name: str) -> int:
        """A member's number, from 1.

        Raises:
            RosterError: no such member.
        """
        return self._position(name) + 1

    def member(self, name: str) -> PublicIdentity:
        """A member by its name.

        Raises:
            RosterError: no such member.
        """
        return self.members[self._position(name)]

    def verify(self, name: str, statement: bytes, signature: bytes) -> None:
        """Checks that a member signed a statement.

        Raises:
            MessageError: it did not, or is no member.
        """
        position = self._positions.get(name)
        if position is None:
            raise MessageError("the signature is of nobody in the roster")
        verify_signature(self.members[position], statement, signature)

    def to_json(self) -> str:
        """The file that all parties hold."""
        fields = {"format": _ROSTER_FORMAT, "version": _VERSION, "members": [_as_fields(m) for m in self.members]}
        return json.dumps({**fields, "digest": self.digest.hex()}, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, *, what: str = "the roster") -> "Roster":
        """Reads what `to_json` wrote; messages call it `what`.

        Raises:
            RosterError: it is something else, or damaged.
        """
        document = Document.parse(text, what=what, error=RosterError)
        document.expect("format", "version", "members", "digest")
        document.constant("format", _ROSTER_FORMAT)
        document.constant("version", _VERSION)
        members = [
            _from_fields(item.expect("name", "signing_key", "envelope_key"))
            for item in document.objects("members", at_most=MAX_MEMBERS)
        ]
        roster = cls(members)
        document.constant("digest", roster.digest.hex())
        return roster

    def save(self, path: Path) -> None:
        """Writes the file, in one step.

        Raises:
            StorageError: it cannot be written.
        """
        write_atomic(path, self.to_json())

    @classmethod
    def load(cls, path: Path) -> "Roster":
        """Reads a file.

        Raises:
            RosterError: it is missing, no roster, or damaged.
        """
        return cls.from_json(read_bounded(path, RosterError), what=str(path))

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {name: position for position, name in enumerate(self.names)}

    def _position(self, name: str) -> int:
        try:
            return self._positions[name]
        except KeyError:
            raise RosterError(f"{name!r} is not in the roster; its members are {', '.join(self.names)}") from None

    def _check_unique(self, what: str, values: Sequence[str | bytes]) -> None:
        counts = Counter(values)
        sharing = [member.name for member, value in zip(self.members, values, strict=True) if counts[value] > 1]
        if sharing:
            raise RosterError(f"these members of the roster have the same {what}: {', '.join(sharing)}")


def verify_signature(signer: PublicIdentity, statement: bytes, signature: bytes) -> None:
    """Checks an Ed25519 signature.

    Raises:
        MessageError: it is not the signer's over this statement.
    """
    try:
        Ed25519PublicKey.from_public_bytes(signer.signing_key).verify(signature, statement)
    except (InvalidSignature, ValueError) as error:
        raise MessageError(f"the signature is not {signer.name}'s over what was expected") from error


def is_roster(content: bytes) -> bool:
    """Whether a file says that it is a roster, sound or not."""
    try:
        return Document.parse(content, what="the file", error=RosterError).fields.get("format") == _ROSTER_FORMAT
    except RosterError:
        return False


def read_bounded(path: Path, error: type[ConfideError]) -> bytes:
    """Reads a small file; one too long for a document gives its first part, which is then refused as too long.

    Raises:
        ConfideError: of type `error`; it is missing or cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(MAX_DOCUMENT_BYTES + 1)
    except OSError as problem:
        raise error(f"{path} cannot be read: {problem.strerror or problem}") from problem


def _is_sound_signing_key(key: bytes) -> bool:
    if len(key) != KEY_BYTES:
        return False
    y = int.from_bytes(key, "little") & (2**255 - 1)  # the top bit is the sign of x
    return y < _FIELD_PRIME and y not in _SMALL_ORDER_Y


def _is_sound_envelope_key(key: bytes) -> bool:
    u = int.from_bytes(key, "little")
    return len(key) == KEY_BYTES and u < _FIELD_PRIME and u not in _SMALL_ORDER_U


def _digits(digest: bytes, num_digits: int) -> str:
    digits = f"{int.from_bytes(digest, 'big') % 10**num_digits:0{num_digits}d}"
    return " ".join(digits[start : start + 5] for start in range(0, num_digits, 5))


def _as_fields(member: PublicIdentity) -> dict[str, str]:
    return {
        "name": member.name,
        "signing_key": member.signing_key.hex(),
        "envelope_key": member.envelope_key.hex(),
    }


def _from_fields(document: Document) -> PublicIdentity:
    try:
        return PublicIdentity(document.text("name"), document.octets("signing_key"), document.octets("envelope_key"))
    except RosterError as error:
        raise document.error(str(error)) from error
