"""A study: one configuration in several variants, to be trained, audited and compared."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from confide.audit.measure_names import CURVES, METRICS, parse_measure_name
from confide.config.keys import toml_value
from confide.config.load import parse_config, read_toml
from confide.config.schema import Config
from confide.errors import ConfigError

_NAME = re.compile(r"[\w-]+")
_EXAMPLE = """for example
    [study]
    measures = ["client.extraction.greedy.ladder.exact"]
    [study.variants]
    lora = []
    kl = ["train.regularizer=kl", "train.regularizer_strength=0.3"]"""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    variants: Annotated[dict[str, list[str]], Field(min_length=1)]
    measures: list[str] = []
    curves: list[str] = []
    utility: bool = False
    seeds: list[Annotated[int, Field(ge=0)]] = []


@dataclass(frozen=True, kw_only=True)
class Study:
    """What to train and to compare.

    Attributes:
        name: the run's name in the file; variant V is trained as the run NAME-V.
        folder: where the runs are.
        variants: by name, in the file's order; others are compared with the first.
        measures: rows of the table, named as for gates: view.family.attack.population.metric.
        curves: tables over rounds, named in the same way.
        utility: whether it is usefulness alone that is measured: nothing is audited then.
        seeds: with `utility`, each variant is trained once with each; none: once, with the configuration's own.
    """

    name: str
    folder: Path
    variants: Mapping[str, Config]
    measures: tuple[str, ...] = ()
    curves: tuple[str, ...] = ()
    utility: bool = False
    seeds: tuple[int, ...] = ()

    def repeats(self, variant: str) -> tuple[Config, ...]:
        """One configuration for each run of a variant: with seeds, the run of seed S is named NAME-V-seedS."""
        config = self.variants[variant]
        if not self.seeds:
            return (config,)
        return tuple(
            config.model_copy(
                update={"run": config.run.model_copy(update={"name": f"{config.run.name}-seed{seed}", "seed": seed})}
            )
            for seed in self.seeds
        )


def load_study(path: Path, overrides: Sequence[str] = ()) -> Study:
    """Reads a study file: a configuration with a table [study] in which each variant lists its own settings.

    Args:
        path: a TOML file.
        overrides: "section.key=value" each, for all variants; a variant's own settings win.

    Raises:
        ConfigError: there is no [study], or it is malformed; or a variant is no configuration, as `load_config` says;
            or a measure or a curve has a name that none can have, or is of a view or a family that no variant audits.
    """
    values = read_toml(path)
    section = _section(path, values.pop("study", None))
    if strange := [name for name in section.variants if not _NAME.fullmatch(name)]:
        raise ConfigError(f"{path}: the variant {strange[0]!r} has a name of other than letters, digits, _ and -.")
    common = parse_config(values, overrides, where=str(path))
    variants = {}
    for name, own in section.variants.items():
        try:
            config = parse_config(values, [*overrides, *own], where=str(path))
        except ConfigError as error:
            raise ConfigError(f"{path}, variant {name}: {error}") from error
        run = config.run.model_copy(update={"name": f"{config.run.name}-{name}"})
        variants[name] = config.model_copy(update={"run": run})
    _check_names(path, section, list(variants.values()))
    if section.utility and (section.measures or section.curves):
        raise ConfigError(
            f"{path}: study.utility measures usefulness and audits nothing: leave out measures and curves."
        )
    if section.seeds and not section.utility:
        raise ConfigError(f"{path}: study.seeds is for studies with study.utility = true: audits compare single runs.")
    return Study(
        name=common.run.name,
        folder=Path(common.run.folder),
        variants=variants,
        measures=tuple(section.measures),
        curves=tuple(section.curves),
        utility=section.utility,
        seeds=tuple(dict.fromkeys(section.seeds)),
    )


def _section(path: Path, given: object) -> _Section:
    """The table [study].

    Raises:
        ConfigError: there is none, or it is malformed.
    """
    if given is None:
        raise ConfigError(f"{path}: there is no table [study]. Expected one, {_EXAMPLE}.")
    if not isinstance(given, Mapping):
        raise ConfigError(f"{path}: study is {toml_value(given)}. Expected a table [study], {_EXAMPLE}.")
    try:
        return _Section.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(["study", *map(str, first["loc"])])
        raise ConfigError(f"{path}: {where}: {first['msg']}. Expected a table [study], {_EXAMPLE}.") from error


def _check_names(path: Path, section: _Section, variants: Sequence[Config]) -> None:
    """Checks what is to be shown before hours of training, not after.

    Raises:
        ConfigError: names the first that cannot be shown.
    """
    views = list(dict.fromkeys(view for config in variants for view in config.audit.views))
    families = list(dict.fromkeys(family for config in variants for family in config.audit.attacks))
    for key, names, metrics in (("measures", section.measures, METRICS), ("curves", section.curves, CURVES)):
        for name in names:
            what = f"{path}: study.{key}: {name!r}"
            found = parse_measure_name(name, what=what, metrics=metrics, is_whole=True)
            found.check_asked(views, families, what=what)
