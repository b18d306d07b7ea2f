"""Reads JSON from others strictly: bounded, exact fields, exact types, no key twice, no number that is not an integer.

Floats travel as the text of `float.hex`, so that a document has one spelling on every machine.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from confide.errors import ConfideError

MAX_DOCUMENT_BYTES = 1 << 20
MAX_NUMBER = 2.0**64
_MAX_INTEGER_DIGITS = 20
_HEX = re.compile("(?:[0-9a-f]{2})*")

ErrorType = type[ConfideError]


@dataclass(frozen=True)
class Document:
    """One JSON object from somebody else, read field by field.

    Args:
        fields: of the object, as parsed.
        what: the document's name in messages.
        error: raised, with a message, for whatever is wrong.
    """

    fields: Mapping[str, object]
    what: str
    error: ErrorType

    @classmethod
    def parse(cls, data: str | bytes, *, what: str, error: ErrorType) -> "Document":
        """Reads a JSON object of at most `MAX_DOCUMENT_BYTES`.

        Raises:
            ConfideError: of type `error`; it is too long or no such object.
        """
        if len(data) > MAX_DOCUMENT_BYTES:
            raise error(f"{what} has {len(data)} bytes, at most {MAX_DOCUMENT_BYTES} are read")
        fields = _parse(data)
        if fields is None:  # raised here, not where parsing failed: the parser's errors hold the whole text
            raise error(f"{what} is not the JSON object that was expected")
        return cls(fields, what, error)

    def expect(self, *names: str) -> "Document":
        """Gives the document back if it has exactly these fields."""
        if self.fields.keys() != set(names):
            raise self.error(f"{self.what} must have exactly the fields {', '.join(sorted(names))}")
        return self

    def constant(self, name: str, value: str | int) -> None:
        """Checks a field whose value is fixed, such as a format's name or version."""
        found = self.fields[name]
        if type(found) is not type(value) or found != value:
            raise self.error(f"{self.what}: {name} must be {value!r}")

    def text(self, name: str) -> str:
        """A text that can be written as UTF-8."""
        value = self.fields[name]
        if not isinstance(value, str) or any("\ud800" <= character <= "\udfff" for character in value):
            raise self.error(f"{self.what}: {name} must be a text")
        return value

    def integer(self, name: str) -> int:
        """An integer of at most 20 digits."""
        value = self.fields[name]
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.error(f"{self.what}: {name} must be an integer")
        return value

    def number(self, name: str) -> float:
        """A float, from the text of `float.hex`; NaN and infinity are left to the caller."""
        try:
            return float.fromhex(self.text(name))
        except (ValueError, OverflowError):
            raise self.error(f"{self.what}: {name} must be a number in the form of float.hex") from None

    def octets(self, name: str) -> bytes:
        """Bytes, from lower-case hexadecimal digits."""
        value = self.text(name)
        if not _HEX.fullmatch(value):
            raise self.error(f"{self.what}: {name} must be lower-case hexadecimal digits, two for each byte")
        return bytes.fromhex(value)

    def object(self, name: str) -> "Document":
        """An object inside the document."""
        what = f"{self.what}, {name}"
        return Document(_as_object(self.fields[name], what, self.error), what, self.error)

    def objects(self, name: str, *, at_most: int) -> "list[Document]":
        """A list of objects inside the document."""
        value = self.fields[name]
        if not isinstance(value, list) or len(value) > at_most:
            raise self.error(f"{self.what}: {name} must be a list of at most {at_most} objects")
        what = f"{self.what}, {name}"
        return [Document(_as_object(item, what, self.error), what, self.error) for item in value]


def positive_number(value: float, what: str, error: ErrorType) -> float:
    """Gives a number back as a float; raises `error` unless it lies above 0 and at or below `MAX_NUMBER`.

    The bound keeps sums and products of such numbers finite.
    """
    if not 0 < value <= MAX_NUMBER:  # false for NaN too
        raise error(f"{what} must lie above 0 and at most at 2**64")
    return float(value)


def _parse(data: str | bytes) -> dict[str, object] | None:
    try:
        found = json.loads(
            data if isinstance(data, str) else data.decode(),
            object_pairs_hook=_unique,
            parse_constant=_refuse,
            parse_float=_refuse,
            parse_int=_small_integer,
        )
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _as_object(value: object, what: str, error: ErrorType) -> dict[str, object]:
    if not isinstance(value, dict):
        raise error(f"{what} must be an object")
    return value


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    named = dict(pairs)
    if len(named) != len(pairs):
        raise ValueError("a key stands twice")
    return named


def _refuse(text: str) -> object:
    del text
    raise ValueError("a number that is no integer")


def _small_integer(text: str) -> int:
    if len(text) > _MAX_INTEGER_DIGITS:
        raise ValueError("an integer of too many digits")
    return int(text)
