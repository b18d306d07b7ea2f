"""What crosses the wire between server and clients: versioned messages as bytes, the same in one process.

A message is a fixed head (magic, version, kind, two lengths), a JSON header with the named fields, and an opaque body.
Where a body has several parts, `pack_parts` puts them together. Nothing is unpickled, nothing is executed, and a length
is checked before it is used.

    server                                           client
    OfferRequest      a run's terms            ->    OfferReply         what it brings (between organisations)
    JoinRequest                                ->    JoinReply          where it stands
    TrainRequest                               ->    TrainReply         its sealed update, a share of its key per peer
    SignRequest       the list of members      ->    SignReply          "I am in it, and it is right"
    ReleaseRequest    the signed list          ->    ReleaseReply       its share of the members' summed key
    OpenRequest       the sealed sum, shares   ->    OpenReply          the digest of the next global adapter
    StateRequest      for who was away         ->    StateReply         the global state, encrypted for them
    CatchUpRequest    that state               ->    JoinReply
    FinishRequest     the run is over          ->    FinishReply        (between organisations)

Schemes without a key per round skip SignRequest and ReleaseRequest.
"""

import json
import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import ClassVar, Self

from confide.errors import MessageError

_MAGIC = b"CNFD"
_VERSION = 2
_HEAD = struct.Struct(">4sHHIQ")
_PART = struct.Struct(">HQ")
_MAX_HEADER_BYTES = 1 << 20
_MAX_PARTS = 1 << 12
_LARGEST_INT = 1 << 62
_LARGEST_FLOAT = 1e300

MAX_WIDENINGS = 6
"""How often the range of a round is doubled where an update does not fit: up to 64 times what it was."""

_TYPE_OF_KIND: dict[int, type["Message"]] = {}


@dataclass(frozen=True, kw_only=True)
class Message:
    """The fields every message has.

    Attributes:
        run: the run's id; a party refuses messages of another run.
        round_number: from 1; 0 before the first round.
        body: opaque bytes, for example a sealed update.
    """

    kind: ClassVar[int]

    run: str
    round_number: int
    body: bytes = field(default=b"", repr=False)

    def to_bytes(self) -> bytes:
        """Encodes the message.

        Raises:
            MessageError: a number is NaN or infinite.
        """
        named = {key: value for key, value in asdict(self).items() if key != "body"}
        try:
            header = json.dumps(named, separators=(",", ":"), sort_keys=True, allow_nan=False).encode()
        except ValueError as error:
            numbers = {**named, **named.get("metrics", {})}
            bad = [key for key, value in numbers.items() if isinstance(value, float) and not math.isfinite(value)]
            raise MessageError(f"a {type(self).__name__} cannot carry NaN or infinity: {', '.join(bad)}") from error
        return _HEAD.pack(_MAGIC, _VERSION, self.kind, len(header), len(self.body)) + header + self.body

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decodes a message of exactly this class.

        Raises:
            MessageError: the bytes are no message, of another version or kind, cut off, too long, or a field is
                missing, unknown or of the wrong type.
        """
        message = decode(data)
        if not isinstance(message, cls):
            raise MessageError(f"expected a {cls.__name__}, got a {type(message).__name__}")
        return message


@dataclass(frozen=True, kw_only=True)
class JoinRequest(Message):
    """Server to client: say who you are and where you stand."""

    kind: ClassVar[int] = 1


@dataclass(frozen=True, kw_only=True)
class JoinReply(Message):
    """Client to server: the adapter it holds after `round_number` rounds, by digest, and its signature under that."""

    kind: ClassVar[int] = 2

    client: str
    num_examples: int
    adapter_digest: str
    signature: str


@dataclass(frozen=True, kw_only=True)
class TrainRequest(Message):
    """Server to client: train in this round, from the adapter of this digest.

    Attributes:
        reference_weight: the largest weight in the cohort; sealed values are multiplied by weight / reference_weight.
        widening: 0, or where a client's update did not fit: seal in 2**widening times the round's range, up to
            `MAX_WIDENINGS`.
        signatures: of clients under the digest: a client trains only from an adapter that enough others hold too.
    """

    kind: ClassVar[int] = 3

    cohort: list[str]
    adapter_digest: str
    reference_weight: float
    widening: int
    signatures: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class TrainReply(Message):
    """Client to server: its sealed, weighted update, and diagnostics about itself.

    The body's parts: "frames", and for every member of the roster "to NAME", an envelope that only NAME can open.

    Attributes:
        weight: public weight of the update in the mean; the sealed values are already multiplied by it.
        layout_digest: of the layout that the sealed values are coordinates of.
        key_id: of the one-time key they are sealed under; empty in a scheme without one.
        limit: the fixed-point range of the sealed values.
        metrics: losses, counts and seconds of the local training.
    """

    kind: ClassVar[int] = 4

    client: str
    weight: float
    layout_digest: str
    key_id: str
    limit: float
    metrics: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class SignRequest(Message):
    """Server to a listed member: sign this list of members (body), if it is right about you."""

    kind: ClassVar[int] = 10


@dataclass(frozen=True, kw_only=True)
class SignReply(Message):
    """Client to server: its signature under the list of members."""

    kind: ClassVar[int] = 11

    client: str
    signature: str


@dataclass(frozen=True, kw_only=True)
class ReleaseRequest(Message):
    """Server to every client: release your share of the summed key for this list, which its members signed.

    The body's parts: "members", and for every member "from NAME", the envelope that NAME addressed to this client.
    """

    kind: ClassVar[int] = 12

    signatures: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class ReleaseReply(Message):
    """Client to server: its share of the summed key (body), encrypted for the clients and signed."""

    kind: ClassVar[int] = 13

    client: str


@dataclass(frozen=True, kw_only=True)
class OpenRequest(Message):
    """Server to client: the sealed sum of the members' updates, and what opens it.

    The body's parts: "members", "sum", and in a scheme with one-time keys "share NAME" for everybody who released, and
    "from NAME" as in `ReleaseRequest`.
    """

    kind: ClassVar[int] = 5


@dataclass(frozen=True, kw_only=True)
class OpenReply(Message):
    """Client to server: the digest of the next global adapter, computed from the opened sum, and signed."""

    kind: ClassVar[int] = 6

    client: str
    adapter_digest: str
    signature: str
    metrics: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class StateRequest(Message):
    """Server to client: hand over the global state, for clients that missed rounds.

    Attributes:
        recipients: who is to read it; empty for the server itself, which a client grants only where the configuration
            says so.
    """

    kind: ClassVar[int] = 7

    recipients: list[str]


@dataclass(frozen=True, kw_only=True)
class StateReply(Message):
    """Client to server: the global state after `round_number` rounds.

    The body's parts: "state", encrypted, and for every recipient "to NAME", an envelope with the key to it. For the
    server the only part is "state", in the clear.
    """

    kind: ClassVar[int] = 8

    client: str
    adapter_digest: str


@dataclass(frozen=True, kw_only=True)
class CatchUpRequest(Message):
    """Server to client: take this global state, if its digest is this and enough clients signed for it.

    The body's parts: "state" and "key" as in `StateReply`.

    Attributes:
        source: who handed the state over.
        signatures: of clients under the digest, as in `OpenReply`.
        counted: whether the client's last upload is in a sum that the others have opened.
    """

    kind: ClassVar[int] = 9

    adapter_digest: str
    source: str
    signatures: dict[str, str]
    counted: bool


@dataclass(frozen=True, kw_only=True)
class OfferRequest(Message):
    """Server to a node: take part in this run, on these terms?

    The body's parts: "config", the configuration as TOML, and "roster", as `Roster.to_json` gives it. The run's id is
    computed from both and `nonce`, so that whatever is signed for the run is signed for these terms.

    Attributes:
        nonce: random, of the run, in hexadecimal.
        challenge: random, of this request, in hexadecimal: an answer to another one proves nothing.
    """

    kind: ClassVar[int] = 14

    nonce: str
    challenge: str


@dataclass(frozen=True, kw_only=True)
class OfferReply(Message):
    """Node to server: yes, under this name.

    The body's parts: "layout", of the adapter, as JSON, and "adapter", what PEFT's adapter_config.json says.

    Attributes:
        client: its name in the roster.
        proof: the client's signature under run, challenge and name, in hexadecimal.
        base_digest: of the base model's weights.
    """

    kind: ClassVar[int] = 15

    client: str
    proof: str
    base_digest: str


@dataclass(frozen=True, kw_only=True)
class FinishRequest(Message):
    """Server to client: the run is over after `round_number` rounds."""

    kind: ClassVar[int] = 16


@dataclass(frozen=True, kw_only=True)
class FinishReply(Message):
    """Client to server: it keeps nothing for this run any more but the adapters."""

    kind: ClassVar[int] = 17

    client: str


for _message_type in (
    JoinRequest,
    JoinReply,
    TrainRequest,
    TrainReply,
    SignRequest,
    SignReply,
    ReleaseRequest,
    ReleaseReply,
    OpenRequest,
    OpenReply,
    StateRequest,
    StateReply,
    CatchUpRequest,
    OfferRequest,
    OfferReply,
    FinishRequest,
    FinishReply,
):
    _TYPE_OF_KIND[_message_type.kind] = _message_type


def decode(data: bytes) -> Message:
    """Decodes any message.

    Raises:
        MessageError: as `Message.from_bytes`.
    """
    message_type, named, start = _decode_head(data)
    make: Callable[..., Message] = message_type
    return make(**named, body=data[start:])


@dataclass(frozen=True, kw_only=True)
class Heading:
    """What a message is about, without its body."""

    kind: type[Message]
    run: str
    round_number: int


def read_heading(data: bytes) -> Heading:
    """Reads what a message is about; its body is not copied.

    Raises:
        MessageError: as `Message.from_bytes`.
    """
    message_type, named, _ = _decode_head(data)
    run, round_number = named["run"], named["round_number"]
    assert isinstance(run, str)  # as their types were checked
    assert isinstance(round_number, int)
    return Heading(kind=message_type, run=run, round_number=round_number)


def _decode_head(data: bytes) -> tuple[type[Message], dict[str, object], int]:
    """A message's type, its named fields, and where its body starts."""
    if len(data) < _HEAD.size:
        raise MessageError(f"expected a message of at least {_HEAD.size} bytes, got {len(data)}")
    magic, version, kind, header_bytes, body_bytes = _HEAD.unpack_from(data)
    if magic != _MAGIC:
        raise MessageError("these bytes are no Confide message (wrong magic)")
    if version != _VERSION:
        raise MessageError(f"message version {version}, this side speaks {_VERSION}: install the same Confide release")
    if header_bytes > _MAX_HEADER_BYTES or len(data) != _HEAD.size + header_bytes + body_bytes:
        raise MessageError(f"message of {len(data)} bytes announces {header_bytes} + {body_bytes} bytes of content")
    if kind not in _TYPE_OF_KIND:
        raise MessageError(f"unknown message kind {kind}")
    message_type = _TYPE_OF_KIND[kind]
    start = _HEAD.size + header_bytes
    return message_type, _read_header(data[_HEAD.size : start], message_type), start


def _read_header(header: bytes, message_type: type[Message]) -> dict[str, object]:
    try:
        named = json.loads(header, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise MessageError(f"the header of a {message_type.__name__} is no JSON") from error
    expected = {item.name: item.type for item in fields(message_type) if item.name != "body"}
    if not isinstance(named, dict) or named.keys() != expected.keys():
        raise MessageError(f"the header of a {message_type.__name__} must have exactly the fields {sorted(expected)}")
    for name, kind in expected.items():
        if not _has_type(named[name], kind):
            raise MessageError(f"{message_type.__name__}.{name} must be a {kind}")
    return named


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _has_type(value: object, kind: object) -> bool:
    """Whether a JSON value is of a field's type; the field types above are all that is needed."""
    if kind is str:
        return isinstance(value, str)
    if kind is bool:
        return isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _LARGEST_INT
    if kind is float:
        # JSON knows one kind of number: 1e400 reads as infinity, and an integer may have any number of digits.
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST_FLOAT
    if kind == list[str]:
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    if kind == dict[str, float]:
        return isinstance(value, dict) and all(_has_type(item, float) for item in value.values())
    if kind == dict[str, str]:
        return isinstance(value, dict) and all(isinstance(item, str) for item in value.values())
    raise AssertionError(f"no rule for fields of type {kind}")


def pack_parts(parts: Mapping[str, bytes]) -> bytes:
    """Puts named parts one after the other into one body; the inverse of `unpack_parts`."""
    pieces = []
    for name, part in parts.items():
        encoded = name.encode()
        pieces += [_PART.pack(len(encoded), len(part)), encoded, part]
    return b"".join(pieces)


def unpack_parts(body: bytes) -> dict[str, bytes]:
    """Reads the named parts of a body.

    Raises:
        MessageError: the bytes are no parts, are cut off, name a part twice, or hold more parts than any message has.
    """
    parts: dict[str, bytes] = {}
    at = 0
    while at < len(body):
        if len(body) - at < _PART.size or len(parts) >= _MAX_PARTS:
            raise MessageError(f"a body of {len(body)} bytes is cut off, or has more than {_MAX_PARTS} parts")
        name_bytes, part_bytes = _PART.unpack_from(body, at)
        start, end = at + _PART.size + name_bytes, at + _PART.size + name_bytes + part_bytes
        if end > len(body):
            raise MessageError(f"a body of {len(body)} bytes announces a part that ends at {end}")
        try:
            name = body[at + _PART.size : start].decode()
        except UnicodeDecodeError as error:
            raise MessageError("the name of a part is no text") from error
        if name in parts:
            raise MessageError("a body names a part twice")
        parts[name] = body[start:end]
        at = end
    return parts


def from_hex(text: str) -> bytes:
    """Reads bytes written in hexadecimal.

    Raises:
        MessageError: it is something else.
    """
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise MessageError("expected bytes in hexadecimal") from error


def to_floats(metrics: Mapping[str, float | int]) -> dict[str, float]:
    """Numbers as they travel in a message."""
    return {name: float(value) for name, value in metrics.items()}
