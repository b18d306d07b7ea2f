"""The configuration: what every key means, and how a file and its overrides become one checked, frozen value."""

from confide.config.load import (
    RESUMABLE_KEYS,
    config_differences,
    dump_toml,
    load_config,
    load_resolved,
    parse_config,
    parse_resolved,
)
from confide.config.schema import Config

__all__ = [
    "Config",
    "RESUMABLE_KEYS",
    "config_differences",
    "dump_toml",
    "load_config",
    "load_resolved",
    "parse_config",
    "parse_resolved",
]
