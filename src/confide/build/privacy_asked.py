"""What a configuration asks of each unit of privacy, and what both units' plans are checked for alike."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Generic, Literal, TypeVar

from confide.config.schema import Config
from confide.errors import ConfigError
from confide.privacy.events import Event
from confide.privacy.plan import Budget, PrivacyPlan
from confide.privacy.randomness import NoiseSource, OsRandomness, SeededRandomness

P = TypeVar("P", bound=PrivacyPlan, covariant=True)


@dataclass(frozen=True, kw_only=True)
class FederationPrivacy(Generic[P]):
    """All clients' plans, and what they guarantee together.

    Attributes:
        plans: by client.
        guarantee: in words, for the whole run; never more than holds.
        warnings: what a user should know of the choice.
    """

    plans: Mapping[str, P]
    guarantee: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class AskedNoise:
    """What the configuration asks of one unit.

    Attributes:
        target_epsilon: 0 where the noise is given.
        noise_multiplier: 0 where the target is given.
        clip_norm: the bound, > 0.
        accountant: how epsilon is computed.
        key: of the configuration, that has the target.
    """

    target_epsilon: float
    noise_multiplier: float
    clip_norm: float
    accountant: Literal["pld", "rdp"]
    key: str

    def budget(self, delta: float) -> Budget:
        """What may be spent."""
        from confide.privacy.accounting import epsilon

        return Budget(
            delta=delta,
            target_epsilon=self.target_epsilon or None,
            costs=partial(epsilon, accountant=self.accountant),
            key=self.key,
        )

    def noise(self, delta: float, events: Callable[[float], list[Event]]) -> float:
        """The noise multiplier, given or found; `events` are those of the whole run with some noise."""
        from confide.privacy.accounting import noise_multiplier_for

        if self.noise_multiplier:
            return self.noise_multiplier
        return noise_multiplier_for(self.target_epsilon, delta, events, accountant=self.accountant)

    @property
    def once(self) -> str:
        """A target stops a run that a repeated round would bring beyond it; noise that was given does not."""
        return "" if self.target_epsilon else ", if no round is done twice"


def of_rows(config: Config) -> AskedNoise:
    """For one row."""
    privacy = config.privacy
    return AskedNoise(
        target_epsilon=privacy.target_epsilon,
        noise_multiplier=privacy.noise_multiplier,
        clip_norm=privacy.clip_norm,
        accountant=privacy.accountant,
        key="privacy.target_epsilon",
    )


def of_clients(config: Config) -> AskedNoise:
    """For one client."""
    privacy = config.privacy
    if privacy.unit != "both":
        return replace(of_rows(config), accountant="rdp")
    return AskedNoise(
        target_epsilon=privacy.client_target_epsilon,
        noise_multiplier=privacy.client_noise_multiplier,
        clip_norm=privacy.client_clip_norm,
        accountant="rdp",
        key="privacy.client_target_epsilon",
    )


def noise_source(config: Config, client: str, purpose: str, number: int) -> NoiseSource:
    """Where a client's noise comes from: of a training by the round's number, of an update by the upload's."""
    if config.privacy.randomness == "system":
        return OsRandomness()
    return SeededRandomness(config.run.seed, purpose, client, number)


def check_finite(epsilon: float, asked: AskedNoise, delta: float) -> None:
    """Refuses noise that no epsilon covers.

    Raises:
        ConfigError: epsilon is infinite.
    """
    if not math.isfinite(epsilon):
        raise ConfigError(
            f"with a noise multiplier of {asked.noise_multiplier:g} and privacy.delta = {delta:g} no "
            "epsilon can be computed. Set a larger delta or more noise."
        )


def check_delta(delta: float, count: int, what: str) -> None:
    """Refuses a delta that allows publishing somebody.

    Raises:
        ConfigError: it is 1 / `count` or more.
    """
    if delta * count >= 1:
        raise ConfigError(
            f"privacy.delta is {delta:g}, and there are {count} {what}: with a delta of one over that, publishing one "
            f"of them whole would count as private. Set privacy.delta well below {1 / count:.2g}, such as "
            f"{0.1 / count:.1g}."
        )


def number(epsilon: float) -> str:
    """Epsilon as it is written in a guarantee."""
    return f"{epsilon:.4g}"
