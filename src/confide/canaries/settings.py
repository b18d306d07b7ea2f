"""What coins are flipped for: how many rows and canaries of which kinds."""

from collections import Counter
from dataclasses import dataclass

from confide.errors import ConfigError

KINDS = ("records", "personal", "random", "reserved", "ladder")
"""What coins can be flipped for: the clients' own rows, and the kinds of canaries."""


@dataclass(frozen=True, kw_only=True)
class CanarySettings:
    """How many coins are flipped, for what.

    Attributes:
        kinds: of `KINDS`, each at most once; in any order, which changes nothing.
        records_per_client: how many of a client's training rows get a coin, >= 1 if `kinds` has "records", and read
            only then.
        canaries_per_client: how many canaries of each other kind a client gets, >= 1 if `kinds` has one, and read only
            then.
        seed: of every draw: which rows get coins, what canaries say, how coins fall, where canaries stand.

    Raises:
        ConfigError: a kind is unknown or named twice, or a number is out of range.
    """

    kinds: tuple[str, ...]
    records_per_client: int
    canaries_per_client: int
    seed: int

    def __post_init__(self) -> None:
        unknown = [kind for kind in self.kinds if kind not in KINDS]
        if unknown:
            raise ConfigError(f"audit.canaries has the kind {unknown[0]!r}, expected: {', '.join(KINDS)}.")
        twice = [kind for kind, number in Counter(self.kinds).items() if number > 1]
        if twice:
            raise ConfigError(f"audit.canaries names the kind {twice[0]!r} twice. Name each kind once.")
        if self.has_records:
            _check_number(self.records_per_client, name="audit.records_per_client", kinds=("records",))
        if self.canary_kinds:
            _check_number(self.canaries_per_client, name="audit.canaries_per_client", kinds=self.canary_kinds)

    @property
    def has_records(self) -> bool:
        """Whether the clients' own rows get coins."""
        return "records" in self.kinds

    @property
    def canary_kinds(self) -> tuple[str, ...]:
        """The kinds beside the clients' own rows, in the order of `KINDS`."""
        return tuple(kind for kind in KINDS if kind in self.kinds and kind != "records")


def _check_number(value: int, *, name: str, kinds: tuple[str, ...]) -> None:
    if value < 1:
        raise ConfigError(
            f"{name} is {value}, but canaries are asked for ({', '.join(kinds)}), expected >= 1. Raise {name}, or take "
            "the kinds out."
        )
