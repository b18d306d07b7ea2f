"""What is wrong with a value of a TOML file, in words: one wording for the configuration and for every other file."""

import difflib
import tomllib
from collections.abc import Mapping, Sequence

from confide.config.keys import Key, toml_value

_OUT_OF_RANGE = frozenset({"greater_than", "greater_than_equal", "less_than", "less_than_equal", "value_error"})
_UNQUOTED = frozenset({"int_type", "float_type", "bool_type"})
_MAX_SHOWN_CHARACTERS = 80


def wrong_value(fault: str, key: Key, given: object) -> str:
    """Says what was expected of a key and what came; `fault` is pydantic's name for what is wrong."""
    hint = ""
    if fault == "string_type" and not isinstance(given, (list, dict)):
        hint = " Text stands in quotes."
    elif fault == "finite_number":
        hint = " It has to be finite."
    elif fault in _UNQUOTED and isinstance(given, str) and not isinstance(parse_value(given), str):
        hint = f" Leave out the quotes: {key.name} = {given}"
    elif fault in _OUT_OF_RANGE:
        hint = f" {key.meaning}"
    return f"{key.full_name} is {show(given)}, expected {key.expected}.{hint}"


def parse_value(text: str) -> object:
    """Reads one value as TOML; what is none is the bare text."""
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    # A line break in the text could bring a second key with it: then it is no single TOML value.
    return parsed["value"] if len(parsed) == 1 else text


def nearest(name: str, names: Sequence[str] | Mapping[str, object]) -> str | None:
    """The name that was probably meant, if any is near."""
    matches = difflib.get_close_matches(name.lower(), names, n=1)
    return matches[0] if matches else None


def show(value: object) -> str:
    """A value as TOML, cut where it is long."""
    text = "a table" if isinstance(value, Mapping) else toml_value(value)
    return text if len(text) <= _MAX_SHOWN_CHARACTERS else f"{text[:_MAX_SHOWN_CHARACTERS]}..."
