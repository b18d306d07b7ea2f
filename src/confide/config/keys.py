"""Every key of the configuration as plain data, read off the models: for error messages, help and the reference.

One wording of types and ranges serves all three.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo

from confide.config.schema import SECTIONS
from confide.config.sections import Form, Range, Section, Unit

_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


@dataclass(frozen=True, kw_only=True)
class Key:
    """One key of the configuration, in words.

    Attributes:
        section: the TOML table it stands in.
        name: its name there.
        meaning: what it does, as one or more sentences.
        kind: its type or its choices, e.g. "a whole number".
        range: the range of a number, e.g. ">= 1", else empty.
        unit: the unit of a number, else empty.
        default: the default as TOML, or None where the key must be given.
    """

    section: str
    name: str
    meaning: str
    kind: str
    range: str
    unit: str
    default: str | None

    @property
    def full_name(self) -> str:
        """The name as `--set` takes it."""
        return f"{self.section}.{self.name}"

    @property
    def expected(self) -> str:
        """Kind and range together, e.g. "a whole number >= 1"."""
        return f"{self.kind} {self.range}".strip()


def section_keys(section: str) -> tuple[Key, ...]:
    """Gives the keys of one section in the order of its model."""
    return model_keys(section, SECTIONS[section])


def model_keys(section: str, model: type[Section]) -> tuple[Key, ...]:
    """Gives the keys of a section's model, of the configuration or of another file, in its order."""
    return tuple(_key(section, name, field) for name, field in model.model_fields.items())


def section_meaning(section: str) -> str:
    """Gives what a section is about, as one sentence."""
    return _one_line(SECTIONS[section].__doc__ or "")


def toml_value(value: object) -> str:
    """Writes a value of the configuration as TOML on one line; what TOML has no value for, as Python would."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, Sequence):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    return str(value)


def _key(section: str, name: str, field: FieldInfo) -> Key:
    forms = [mark.words for mark in field.metadata if isinstance(mark, Form)]
    units = [mark.words for mark in field.metadata if isinstance(mark, Unit)]
    return Key(
        section=section,
        name=name,
        meaning=_one_line(field.description or ""),
        kind=forms[0] if forms else _kind(field.annotation),
        range=_range(field.metadata),
        unit=units[0] if units else "",
        default=None if field.is_required() else toml_value(field.default),
    )


def _kind(annotation: object) -> str:
    if get_origin(annotation) is Literal:
        choices = [toml_value(choice) for choice in get_args(annotation)]
        return choices[0] if len(choices) == 1 else "one of " + ", ".join(choices)
    if get_origin(annotation) is tuple:
        return "a list of " + _kind(get_args(annotation)[0]).removeprefix("one of ")
    if isinstance(annotation, type) and annotation in _WORDS:
        return _WORDS[annotation]
    raise TypeError(f"no words for the type {annotation} of a configuration key; give the key a Form")


def _range(metadata: Iterable[object]) -> str:
    bounds: list[str] = []
    for mark in metadata:
        match mark:
            case Ge(ge=bound):
                bounds.append(f">= {bound}")
            case Gt(gt=bound):
                bounds.append(f"> {bound}")
            case Le(le=bound):
                bounds.append(f"<= {bound}")
            case Lt(lt=bound):
                bounds.append(f"< {bound}")
            case Range(words=words):
                bounds.append(words)
            case _:
                pass
    return " and ".join(bounds)


def _one_line(text: str) -> str:
    return " ".join(text.split())
