"""Reads a small TOML file of a deployment strictly, and says in one error everything that is wrong with it."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar, get_args

from pydantic import BaseModel, ValidationError

from confide.config.faults import nearest, show, wrong_value
from confide.config.keys import Key, model_keys
from confide.config.sections import Section
from confide.errors import ConfideError

MAX_BYTES = 1 << 20

AnyModel = TypeVar("AnyModel", bound=BaseModel)


def read_tables(path: Path, *, error: type[ConfideError]) -> dict[str, object]:
    """Reads a TOML file of at most `MAX_BYTES` as it is.

    Raises:
        ConfideError: of type `error`; it is missing, too long, or no TOML.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as problem:
        raise error(f"{path} cannot be read: {problem.strerror or problem}") from problem
    return parse_tables(content, where=str(path), error=error)


def parse_tables(content: bytes, *, where: str, error: type[ConfideError]) -> dict[str, object]:
    """Reads TOML, also from somebody else, as it is.

    Raises:
        ConfideError: of type `error`; it is too long, or no TOML.
    """
    if len(content) > MAX_BYTES:
        raise error(f"{where} is longer than {MAX_BYTES} bytes, which no such file is")
    try:
        return tomllib.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as problem:
        line = f": {problem}" if isinstance(problem, tomllib.TOMLDecodeError) else ""
        raise error(f"{where}: not valid TOML{line}. Expected lines like key = value under a [section].") from None


def check_tables(
    values: Mapping[str, object], model: type[AnyModel], *, where: str, error: type[ConfideError]
) -> AnyModel:
    """Checks tables against a model whose fields are sections.

    Raises:
        ConfideError: of type `error`; it names every key that is unknown, missing, or has a wrong value.
    """
    try:
        return model.model_validate(dict(values))
    except ValidationError as problem:
        sections = sections_of(model)
        lines: dict[tuple[int | str, ...], str] = {}
        for fault in problem.errors(include_url=False):
            lines.setdefault(fault["loc"][:2], f"{where}: {_explain(fault['type'], fault['loc'], values, sections)}")
        raise error("\n".join(lines.values())) from None
    except RecursionError:
        raise error(f"{where}: the values are nested too deeply") from None


def sections_of(model: type[BaseModel]) -> dict[str, type[Section]]:
    """The sections of a model, by name."""
    return {name: _section_type(field.annotation) for name, field in model.model_fields.items()}


def _section_type(annotation: object) -> type[Section]:
    for choice in (annotation, *get_args(annotation)):
        if isinstance(choice, type) and issubclass(choice, Section):
            return choice
    raise TypeError(f"{annotation} is no section")


def _explain(
    fault: str, location: tuple[int | str, ...], values: Mapping[str, object], sections: Mapping[str, type[Section]]
) -> str:
    section = str(location[0])
    if section not in sections:
        likely = nearest(section, sections)
        return f"{section!r} is no section." + (
            f" The nearest is [{likely}]." if likely else f" The sections are {', '.join(sections)}."
        )
    table = values.get(section)
    if len(location) == 1:
        if fault == "missing":
            return f"the section [{section}] is missing."
        return f"{section} is {show(table)}, expected a table of keys under [{section}]."
    keys = {key.name: key for key in model_keys(section, sections[section])}
    return _explain_key(fault, str(location[1]), section, keys, table if isinstance(table, Mapping) else {})


def _explain_key(fault: str, name: str, section: str, keys: Mapping[str, Key], table: Mapping[str, object]) -> str:
    if name not in keys:
        likely = nearest(name, keys)
        return f"{name!r} is no key of [{section}]." + (
            f" The nearest is {section}.{likely}." if likely else f" Its keys are {', '.join(keys)}."
        )
    if fault == "missing":
        return f"{section}.{name} is missing, expected {keys[name].expected}. {keys[name].meaning}"
    return wrong_value(fault, keys[name], table.get(name))
