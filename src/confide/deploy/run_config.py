"""A run's configuration in a deployment: what the server offers to all, and what each member sets for itself."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import tomli_w

from confide.config.keys import section_keys, toml_value
from confide.config.load import parse_config, read_toml, resolved_values
from confide.config.schema import Config
from confide.deploy.documents import parse_tables
from confide.errors import ConfigError

_PLACES_OF_DATA = ("source", "path", "split", "clinic_letters", "clinic_instructions")
_COLUMNS = tuple(key.name for key in section_keys("data") if key.name.endswith("_column"))

NODE_KEYS = frozenset(
    {f"data.{name}" for name in (*_PLACES_OF_DATA, *_COLUMNS)}
    | {"run.device", "run.threads", "run.folder", "run.loggers", "seal.processes"}
)
"""Keys that each member sets for itself in its node.toml: where its data is, and the machine. They are no part of an
offer, and what a server says of them has no effect."""

REPLACEABLE_KEYS = frozenset({"model.base"})
"""Keys of an offer that a member may replace by a name of its own for the same thing: its copy of the base model. The
digest of what was loaded goes into the member's answer, so that another model is noticed."""

_NO_DATA: Mapping[str, object] = {"source": "clinics", "path": ""}
"""Stands where a configuration needs some data and nobody has set any: the server has none, and never reads it."""

_MAX_NAME_CHARACTERS = 64


@dataclass(frozen=True, kw_only=True)
class _Demand:
    """A key that has to have certain values in a deployment.

    Attributes:
        key: as "section.key".
        needed: the values, in words.
        advice: why, and what to do instead.
        is_met: True for a value that can work.
    """

    key: str
    needed: str
    advice: str
    is_met: Callable[[object], bool]


DEMANDS: tuple[_Demand, ...] = (
    _Demand(
        key="seal.scheme",
        needed='"onetime" or "plain"',
        advice='"shared" and "published" have one key for all clients and are for comparisons in one process. '
        'Set seal.scheme to "onetime".',
        is_met=lambda value: value in ("onetime", "plain"),
    ),
    _Demand(
        key="audit.record",
        needed="false",
        advice="A record holds what every party saw, in one place. Audit what you hold: confide audit --adapters.",
        is_met=lambda value: value is False,
    ),
    _Demand(
        key="audit.canaries",
        needed="[]",
        advice="Coins are thrown over all clients' data in one place. Leave the key out; for an audit with canaries "
        "train the same configuration in one process.",
        is_met=lambda value: value == (),
    ),
    _Demand(
        key="audit.canary_clients",
        needed="0",
        advice="Canary clients are made where the run is. Leave the key out; measure with them in one process.",
        is_met=lambda value: value == 0,
    ),
    _Demand(
        key="data.partition",
        needed='"natural"',
        advice="The other partitions deal one heap of rows out to clients; here every member's rows are its own. "
        "Leave the key out.",
        is_met=lambda value: value == "natural",
    ),
    _Demand(
        key="data.clients",
        needed="0",
        advice="The members are those of the roster. Leave the key out.",
        is_met=lambda value: value == 0,
    ),
)
"""What `check_deployable` asks for."""


def check_deployable(config: Config) -> None:
    """Checks that nothing in a configuration needs all clients in one process.

    Raises:
        ConfigError: something does; every such key is named, with what to do.
    """
    lines = [
        f"{one.key} is {toml_value(config.value(one.key))}, a deployment needs {one.needed}: {one.advice}"
        for one in DEMANDS
        if not one.is_met(config.value(one.key))
    ]
    if lines:
        raise ConfigError("\n".join(lines))


def load_run_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Reads the configuration of a run as the server offers it.

    Args:
        path: a TOML file without the keys that members set for themselves.
        overrides: as `confide.config.load.load_config` takes them.

    Returns:
        The configuration; `NODE_KEYS` have no meaning in it.

    Raises:
        ConfigError: as `load_config`, or it sets a key that is a member's, or one that cannot work in a deployment.
    """
    values = read_toml(path)
    values.pop("study", None)
    _refuse_node_keys([*_names_in(values), *(one.partition("=")[0].strip() for one in overrides)], where=str(path))
    config = parse_config(_with_data(values, _NO_DATA), overrides, where=str(path))
    check_deployable(config)
    return config


def offered_toml(config: Config) -> str:
    """Writes a configuration as resolved, without the keys that members set for themselves: what is offered to them."""
    values = resolved_values(config)
    for name in NODE_KEYS:
        section, key = name.split(".")
        del values[section][key]
    return tomli_w.dumps(values)


def read_offer(text: bytes) -> Config:
    """Reads what `offered_toml` wrote, from a server that may send anything.

    Returns:
        The configuration; `NODE_KEYS` have no meaning in it until `node_config` has set them.

    Raises:
        ConfigError: it is no such configuration, it holds a key that is a member's, or one that cannot work in a
            deployment.
    """
    where = "the offered configuration"
    values = parse_tables(text, where=where, error=ConfigError)
    strange = [name for name in _names_in(values) if not name.isprintable() or len(name) > _MAX_NAME_CHARACTERS]
    if strange:
        raise ConfigError(f"{where} has keys that are no names ({len(strange)} of them)")
    _refuse_node_keys(_names_in(values), where=where)
    try:
        config = parse_config(_with_data(values, _NO_DATA), where=where)
    except ConfigError as error:
        raise ConfigError(_printable(str(error))) from None
    except RecursionError:
        raise ConfigError(f"{where} is nested too deeply") from None
    check_deployable(config)
    return config


def node_config(offered: Config, settings: Mapping[str, object], *, where: str = "node.toml") -> Config:
    """Puts a member's own settings into an offered configuration.

    Args:
        offered: from the server; whatever it has for `NODE_KEYS` is dropped.
        settings: "section.key" to value, of `NODE_KEYS` and `REPLACEABLE_KEYS`.
        where: the name of the settings' file in messages.

    Raises:
        ConfigError: a setting is not a member's to make, or the two together contradict each other.
    """
    check_settings(settings, where=where)
    values = resolved_values(offered)
    for name in NODE_KEYS:
        section, key = name.split(".")
        values[section].pop(key)
    for name, value in settings.items():
        section, key = name.split(".")
        values[section][key] = value
    return parse_config(values, where=f"the offered configuration with {where}")


def check_settings(settings: Mapping[str, object], *, where: str = "node.toml") -> None:
    """Checks that settings are a member's to make.

    Raises:
        ConfigError: some are not; every such key is named.
    """
    others = sorted(name for name in settings if name not in NODE_KEYS | REPLACEABLE_KEYS)
    if others:
        own = ", ".join(sorted(NODE_KEYS | REPLACEABLE_KEYS))
        raise ConfigError(
            f"{where} sets {', '.join(others)}, which all members have alike from the server's offer. A member sets "
            f"only: {own}. What it accepts of the others stands in policy.toml."
        )


def _refuse_node_keys(names: Sequence[str], *, where: str) -> None:
    found = sorted(set(names) & NODE_KEYS)
    if found:
        raise ConfigError(
            f"{where} sets {', '.join(found)}, which every member sets for itself in its node.toml: leave "
            f"{'it' if len(found) == 1 else 'them'} out"
        )


def _names_in(values: Mapping[str, object]) -> list[str]:
    return [
        name
        for section, table in values.items()
        for name in ([f"{section}.{key}" for key in table] if isinstance(table, Mapping) and table else [section])
    ]


def _with_data(values: Mapping[str, object], data: Mapping[str, object]) -> dict[str, object]:
    given = values.get("data", {})
    return {**values, "data": {**given, **data} if isinstance(given, Mapping) else given}


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() or character == "\n" else "?" for character in text)
