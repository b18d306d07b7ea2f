"""What to do beyond an audited run's own configuration, and which of its keys an audit may change."""

from dataclasses import dataclass

from confide.config.keys import toml_value
from confide.config.load import config_differences
from confide.config.schema import Config
from confide.errors import ConfigError, UsageError

ATTACK_KEYS = frozenset(
    {
        "audit.views",
        "audit.attacks",
        "audit.records_per_attack",
        "audit.rounds_per_attack",
        "audit.max_new_tokens",
        "audit.taus",
        "audit.top_ps",
        "audit.samples",
        "audit.alternatives",
        "audit.full_ranking",
        "audit.protocol",
        "audit.shadows",
    }
)
"""Keys that say how to attack."""

AUDIT_KEYS = ATTACK_KEYS | {"evaluate.batch_size", "run.device", "run.threads"}
"""Keys that an audit may change; all others say what was trained."""

_FEWEST_FOR_COALITION = 3


@dataclass(frozen=True, kw_only=True)
class AuditRequest:
    """What to do beyond the configuration; empty takes what that says.

    Attributes:
        views: of `audit.views`.
        attacks: of `audit.attacks`.
        attackers: names of the clients that attack. The first one attacks alone; all of them, if there are several,
            attack together.
        settings: "section.key=value" each, for any of `AUDIT_KEYS`.
        shadows: `audit.shadows`; None for what the configuration says.
        shows_text: whether results hold the text that came out, for the owner of the data.
    """

    views: tuple[str, ...] = ()
    attacks: tuple[str, ...] = ()
    attackers: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    shadows: int | None = None
    shows_text: bool = False

    @classmethod
    def as_in(cls, config: Config) -> "AuditRequest":
        """The request for an audit as a configuration says, whatever the run's own says."""
        return cls(settings=tuple(f"{key}={toml_value(config.value(key))}" for key in sorted(ATTACK_KEYS)))

    @property
    def overrides(self) -> tuple[str, ...]:
        """Everything that stands in the configuration, as overrides of it."""
        named = (("audit.views", self.views), ("audit.attacks", self.attacks))
        shadows = () if self.shadows is None else (f"audit.shadows={self.shadows}",)
        return (*self.settings, *(f"{key}={toml_value(names)}" for key, names in named if names), *shadows)

    @property
    def words(self) -> tuple[str, ...]:
        """The same as options of `confide audit`."""
        named = (
            ("--view", self.views),
            ("--attack", self.attacks),
            ("--attacker", self.attackers),
            ("--shadows", () if self.shadows is None else (str(self.shadows),)),
            ("--set", self.settings),
        )
        options = [word for option, values in named for value in values for word in (option, value)]
        return (*options, *["--show-text"] * self.shows_text)


@dataclass(frozen=True, kw_only=True)
class Attackers:
    """Who attacks: the client that does so alone, and those that do so together (nobody if they would be all)."""

    alone: tuple[str, ...]
    together: tuple[str, ...]

    @property
    def everyone(self) -> tuple[str, ...]:
        """All of them, sorted."""
        return tuple(sorted({*self.alone, *self.together}))


def check_only_audit_keys(trained: Config, asked: Config) -> None:
    """Refuses to audit something else than what was trained.

    Raises:
        ConfigError: names the keys that an audit cannot change.
    """
    differences = config_differences(trained, asked, ignoring=AUDIT_KEYS)
    if differences:
        raise ConfigError(
            f"an audit cannot change what was trained: {'; '.join(differences)}. It can change "
            f"{', '.join(sorted(AUDIT_KEYS))}."
        )


def choose_attackers(clients: tuple[str, ...], asked: tuple[str, ...]) -> Attackers:
    """Chooses who attacks: whom one asked for, else the first clients by name.

    Args:
        clients: all of the federation.
        asked: names, in the order in which they were given.

    Raises:
        UsageError: a name is no client's, or stands there twice; or nobody would be left to attack.
    """
    unknown = [name for name in asked if name not in clients]
    if unknown:
        raise UsageError(f"there is no client {unknown[0]!r}; the clients are: {', '.join(sorted(clients))}.")
    if len(set(asked)) < len(asked):
        raise UsageError(f"an attacker is named twice: {', '.join(asked)}.")
    if len(asked) > 1 and len(asked) == len(clients):
        raise UsageError("every client is named as an attacker: then there is nobody left to attack. Leave one out.")
    others = [name for name in sorted(clients) if name not in asked]
    alone = asked[:1] or tuple(others[:1])
    together = asked if len(asked) > 1 else (*alone, *[name for name in others if name not in alone][:1])
    can_join = len(clients) >= _FEWEST_FOR_COALITION
    return Attackers(alone=alone, together=tuple(sorted(together)) if can_join else ())
