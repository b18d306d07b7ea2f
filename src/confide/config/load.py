"""Reads a configuration from TOML and `--set` overrides, and says in one error everything that is wrong with it."""

import copy
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import ValidationError

from confide.config.faults import nearest, parse_value, show, wrong_value
from confide.config.keys import section_keys, toml_value
from confide.config.schema import SECTIONS, TARGET_OR_NOISE, Config, ContradictionError, Rule
from confide.errors import ConfigError

RESUMABLE_KEYS = frozenset(
    {"run.folder", "run.loggers", "deploy.join_seconds", "deploy.train_seconds", "deploy.answer_seconds"}
)
"""Keys that may differ between a run and its resume: none of them changes a bit of the result."""

_LEFT_OUT_AT_0 = frozenset(key for pair in TARGET_OR_NOISE for key in pair)
_ADVICE = "Every key, with its meaning and range: `confide train --help`."


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Reads, overrides and checks a configuration file; its [study], if any, is left to `confide.config.study`.

    Args:
        path: a TOML file.
        overrides: "section.key=value" each, the value as TOML or, where it is none, as bare text; the last one of a
            key wins. A 0 for a target or a noise (`TARGET_OR_NOISE`) that was given before takes it back.

    Raises:
        ConfigError: the file is missing or no TOML, an override is malformed, a key is unknown or missing, a value has
            the wrong type or range, or two keys contradict each other. All keys at fault are named at once.
    """
    values = read_toml(path)
    values.pop("study", None)
    return parse_config(values, overrides, where=str(path))


def parse_config(
    values: Mapping[str, object], overrides: Sequence[str] = (), *, where: str = "configuration"
) -> Config:
    """Checks a configuration given as a mapping of sections to mappings of keys; `where` names it in errors.

    Raises:
        ConfigError: as `load_config`.
    """
    given = _Given(values={name: {} for name in SECTIONS} | copy.deepcopy(dict(values)), where=where)
    for override in overrides:
        given.apply(override)
    try:
        return Config.model_validate(given.values)
    except ValidationError as error:
        raise ConfigError("\n".join([*_explain_all(error, given), _ADVICE])) from error


def load_resolved(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Reads the configuration that a run wrote into its folder; else as `load_config`.

    Raises:
        ConfigError: as `load_config`.
    """
    return parse_resolved(read_toml(path), overrides, where=str(path))


def parse_resolved(
    values: Mapping[str, object], overrides: Sequence[str] = (), *, where: str = "configuration"
) -> Config:
    """Checks a configuration that a run wrote; else as `parse_config`.

    Nobody typed its values. So a 0 for a target or a noise says that it was left out: runs may hold one, although
    `dump_toml` writes none.

    Raises:
        ConfigError: as `load_config`.
    """
    return parse_config(_without_zeros(values), overrides, where=where)


def dump_toml(config: Config) -> str:
    """Writes a configuration as resolved, so that `parse_config` gives it back equal.

    That is every key of every section, but those of `TARGET_OR_NOISE` that were left out.
    """
    return tomli_w.dumps(resolved_values(config))


def resolved_values(config: Config) -> dict[str, Any]:
    """The same as sections of keys."""
    return _without_zeros(config.model_dump())


def config_differences(old: Config, new: Config, *, ignoring: frozenset[str] = frozenset()) -> list[str]:
    """Lists the keys whose values differ as "section.key: old -> new", without those in `ignoring`."""
    names = [key.full_name for section in SECTIONS for key in section_keys(section)]
    return [
        f"{name}: {toml_value(old.value(name))} -> {toml_value(new.value(name))}"
        for name in names
        if name not in ignoring and old.value(name) != new.value(name)
    ]


@dataclass
class _Given:
    """What the user gave, and where each key of it comes from.

    Attributes:
        values: sections to keys to values, as TOML has them.
        where: the file's name.
        overrides: the `--set` text of each key that one has set.
    """

    values: dict[str, object]
    where: str
    overrides: dict[str, str] = field(default_factory=dict)

    def apply(self, override: str) -> None:
        name, equals, text = override.partition("=")
        section, dot, key = name.strip().partition(".")
        if not (equals and dot and section and key):
            raise ConfigError(f"--set {override}: expected section.key=value.{_where_key_belongs(section)}")
        table = self.values.setdefault(section, {})
        if isinstance(table, dict):
            value, full_name = parse_value(text.strip()), f"{section}.{key}"
            if full_name in _LEFT_OUT_AT_0 and _is_zero(value) and not _is_zero(table.get(key, 0)):
                del table[key]
            else:
                table[key] = value
            self.overrides[full_name] = f"--set {override}"

    def value(self, section: str, name: str) -> object:
        """Gives the value of a key, None where it or its table is missing."""
        table = self.values[section]
        return table.get(name) if isinstance(table, Mapping) else None

    def origin(self, *keys: str) -> str:
        """Names where `keys` were set: the overrides among them, else the file."""
        return ", ".join(self.overrides[key] for key in keys if key in self.overrides) or self.where


def read_toml(path: Path) -> dict[str, object]:
    """Reads a TOML file as it is.

    Raises:
        ConfigError: the file is missing or no TOML.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise ConfigError(
            f"{path}: there is no such file, expected a configuration in TOML. Write one with: confide init {path}"
        ) from error
    except IsADirectoryError as error:
        raise ConfigError(f"{path}: this is a folder, expected a configuration file in TOML.") from error
    except OSError as error:
        raise ConfigError(f"{path}: the configuration cannot be read: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text (byte {error.start}), expected a configuration in TOML.") from error
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        last_line, last_column = text.count("\n") + 1, len(text) - text.rfind("\n")
        problem = str(error).replace("at end of document", f"at line {last_line}, column {last_column}, the end")
        raise ConfigError(
            f"{path}: not valid TOML: {problem}. Expected lines like key = value under a [section]; text in quotes."
        ) from error


def _without_zeros(values: Mapping[str, object]) -> dict[str, Any]:
    """The same without targets and noises that were left out."""
    return {
        section: {
            key: value for key, value in keys.items() if not (f"{section}.{key}" in _LEFT_OUT_AT_0 and _is_zero(value))
        }
        if isinstance(keys, Mapping)
        else keys
        for section, keys in values.items()
    }


def _is_zero(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == 0


def _explain_all(error: ValidationError, given: _Given) -> list[str]:
    lines: dict[tuple[int | str, ...], str] = {}
    for fault in error.errors(include_url=False):
        contradiction = fault.get("ctx", {}).get("error")
        if isinstance(contradiction, ContradictionError):
            return [_explain_rule(rule, contradiction.config, given) for rule in contradiction.rules]
        # Deeper places are the parts of a list or the arms of a union: one line for the key says it all.
        lines.setdefault(fault["loc"][:2], _explain_fault(fault["type"], fault["loc"], given))
    return list(lines.values())


def _explain_rule(rule: Rule, config: Config, given: _Given) -> str:
    values = " and ".join(f"{key} is {show(config.value(key))}" for key in rule.keys)
    overrides = [given.overrides[key] for key in rule.keys if key in given.overrides]
    origin = f"{given.where} with {', '.join(overrides)}" if overrides else given.where
    return f"{origin}: {values}: {rule.law}. {rule.advice}"


def _explain_fault(fault: str, location: tuple[int | str, ...], given: _Given) -> str:
    section = str(location[0])
    if section not in SECTIONS:
        return f"{_section_origin(section, given)}: {_unknown_section(section, given.values[section])}"
    if len(location) == 1:
        return f"{given.where}: {section} is {show(given.values[section])}, expected a table of keys under [{section}]."
    name = str(location[1])
    keys = {key.name: key for key in section_keys(section)}
    origin = given.origin(f"{section}.{name}")
    if name not in keys:
        return f"{origin}: {_unknown_key(section, name, given.value(section, name))}"
    if fault == "missing":
        key = keys[name]
        return f"{given.where}: {key.full_name} is missing under [{section}], expected {key.expected}. {key.meaning}"
    return f"{origin}: {wrong_value(fault, keys[name], given.value(section, name))}"


def _section_origin(section: str, given: _Given) -> str:
    overridden = [name for name in given.overrides if name.partition(".")[0] == section]
    return given.origin(*overridden)


def _unknown_section(section: str, given: object) -> str:
    belongs = _where_key_belongs(section)
    likely = nearest(section, SECTIONS)
    advice = belongs or (f" The nearest is [{likely}]." if likely else f" The sections are {', '.join(SECTIONS)}.")
    return f"{section} (given {show(given)}) is no section.{advice}"


def _unknown_key(section: str, name: str, given: object) -> str:
    names = [key.name for key in section_keys(section)]
    likely = nearest(name, names)
    advice = (f" The nearest is {section}.{likely}." if likely else "") + _where_key_belongs(name)
    advice = advice or f" Its keys are {', '.join(names)}."
    return f"{section}.{name} (given {show(given)}) is no key of [{section}].{advice}"


def _where_key_belongs(name: str) -> str:
    homes = [key.full_name for section in SECTIONS for key in section_keys(section) if key.name == name]
    return f" The key {name} belongs to {' or '.join(homes)}." if homes else ""
