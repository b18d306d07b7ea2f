"""The names of an audit's measures, as gates and studies give them: read and checked before anything takes time.

In whole a name is VIEW.FAMILY.ATTACK.POPULATION.METRIC, as `Measure.key` and the report write it; VIEW.FAMILY.METRIC
stands for that metric of all attacks and populations.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeVar, get_args

from confide.audit.results import Family, Measure, Unmeasured, ViewKind
from confide.errors import ConfigError

METRICS: Mapping[Family, tuple[str, ...]] = MappingProxyType(
    {
        "membership": ("auc", "tpr@0.1", "tpr@0.01", "tpr@0.001"),
        "extraction": (
            "exact",
            "near",
            "rouge_l",
            "longest_run",
            "within_100",
            "coverage",
            "efficiency",
            "matched",
            "verbatim_50",
            "verbatim_20",
            "verbatim_10",
            "top_10",
            "precision_loss_ratio",
            "precision_zlib",
            "precision_ez",
            "precision_wbc",
            "rouge_l_max",
            "gain",
            "gain_max",
        ),
        "exposure": ("exposure",),
        "updates": ("auc",),
    }
)
"""Every metric that an audit's measures may have."""

CURVES: Mapping[Family, tuple[str, ...]] = MappingProxyType(
    {
        "membership": (),
        "extraction": (
            "exact",
            "within_100",
            "rouge_l",
            "rouge_l>0.9",
            "rouge_l>0.95",
            "rouge_l_top_10",
            "rouge_l_top_30",
        ),
        "exposure": ("exposure",),
        "updates": (),
    }
)
"""Every metric that a curve over rounds may have."""

ASKED_AS: Mapping[ViewKind, str] = MappingProxyType({"sealed-server": "server"})
"""What `audit.views` calls a view, where that is not its name."""

_WHOLE = "VIEW.FAMILY.ATTACK.POPULATION.METRIC"
_FORMS = f"VIEW.FAMILY.METRIC, or {_WHOLE} as the report names it"
_Choice = TypeVar("_Choice", bound=str)


@dataclass(frozen=True, kw_only=True)
class MeasureName:
    """Which measures are meant.

    Attributes:
        attack: "" for all.
        population: "" for all.
    """

    view: ViewKind
    family: Family
    attack: str = ""
    population: str = ""
    metric: str

    @property
    def is_whole(self) -> bool:
        """Whether one measure is meant and no more."""
        return bool(self.attack)

    def covers(self, measure: Measure) -> bool:
        """Whether this one is meant."""
        return (
            (self.view, self.family, self.metric) == (measure.view, measure.family, measure.metric)
            and self.attack in ("", measure.attack)
            and self.population in ("", measure.population)
        )

    def may_lack(self, missing: Unmeasured) -> bool:
        """Whether some that are meant may be among what could not be measured."""
        return (
            (self.view, self.family) == (missing.view, missing.family)
            and (not missing.metrics or self.metric in missing.metrics)
            and (not missing.attack or self.attack in ("", missing.attack))
            and self.population in ("", missing.population)
        )

    def check_asked(self, views: Collection[str], families: Collection[str], *, what: str) -> None:
        """Refuses a name of what an audit is not asked for.

        Args:
            views: as in `audit.views`.
            families: as in `audit.attacks`.
            what: begins the message.

        Raises:
            ConfigError: the view or the family is not among them.
        """
        view = ASKED_AS.get(self.view, self.view)
        for kind, name, asked in (("view", view, views), ("attack", self.family, families)):
            if name not in asked:
                raise ConfigError(
                    f"{what} is about the {kind} {name!r}, and what is asked for is {', '.join(asked)} (audit.{kind}s)."
                )


def parse_measure_name(
    text: str, *, what: str, metrics: Mapping[Family, tuple[str, ...]] = METRICS, is_whole: bool = False
) -> MeasureName:
    """Reads a name of one of the two forms.

    Args:
        text: the name.
        what: begins every message.
        metrics: that there are, by family.
        is_whole: whether only the form of five parts is right.

    Example:
        >>> parse_measure_name("client.extraction.greedy.ladder.exact", what="this").population
        'ladder'

    Raises:
        ConfigError: it is none, or names a view, a family or a metric that there is not.
    """
    forms = _WHOLE if is_whole else _FORMS
    view_part, _, rest = text.partition(".")
    family_part, _, rest = rest.partition(".")
    view = _one_of(get_args(ViewKind), view_part, what=what, kind="view", forms=forms)
    family = _one_of(get_args(Family), family_part, what=what, kind="family", forms=forms)
    if rest in metrics[family] and not is_whole:
        return MeasureName(view=view, family=family, metric=rest)
    for metric in metrics[family]:  # names of metrics have dots: "tpr@0.01"
        attack, dot, population = rest.removesuffix(f".{metric}").partition(".")
        if rest.endswith(f".{metric}") and dot and attack and population:
            return MeasureName(view=view, family=family, attack=attack, population=population, metric=metric)
    raise ConfigError(
        f"{what} names no metric of {family}, of the form {forms}. The metrics are: "
        f"{', '.join(metrics[family]) or 'none'}."
    )


def _one_of(choices: tuple[_Choice, ...], value: str, *, what: str, kind: str, forms: str) -> _Choice:
    """The choice that is called `value`.

    Raises:
        ConfigError: there is none; names what there is.
    """
    for choice in choices:
        if choice == value:
            return choice
    raise ConfigError(f"{what} has the {kind} {value!r}, expected {', '.join(choices)}, in {forms}.")
