"""From a configuration to each client's privacy plan."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from confide.build.sealing import own_folder
from confide.config.schema import Config
from confide.errors import ConfigError
from confide.plural import plural
from confide.privacy.client_level import ClientPrivacy, delta_for_noise, plan_grid
from confide.privacy.coins import bernoulli
from confide.privacy.events import Event
from confide.privacy.example_level import ExamplePrivacy, sampling_of
from confide.privacy.gaussian import gaussian_noise
from confide.privacy.plan import Budget, NoPrivacy
from confide.privacy.randomness import NoiseSource, OsRandomness, SeededRandomness
from confide.privacy.releases import FileReleases, MemoryReleases, Releases
from confide.seal.profiles import get_profile
from confide.train.private import PrivateSettings, Randomness

Plan = NoPrivacy | ExamplePrivacy | ClientPrivacy

NO_GUARANTEE = "no formal guarantee: differential privacy is off"


@dataclass(frozen=True, kw_only=True)
class FederationPrivacy:
    """All clients' plans, and what they guarantee together.

    Attributes:
        plans: by client.
        guarantee: in words, for the whole run; never more than holds.
        warnings: what a user should know of the choice.
    """

    plans: Mapping[str, Plan]
    guarantee: str
    warnings: tuple[str, ...] = ()


def build_privacy(config: Config, num_examples: Mapping[str, int], *, num_values: int) -> FederationPrivacy:
    """Makes the plans.

    Args:
        config: of the run.
        num_examples: each client's training examples.
        num_values: of the adapter, flat.

    Raises:
        ConfigError: delta is too large for so few rows or clients, the target cannot be reached, or the sealing's grid
            is too coarse.
    """
    makers: Mapping[str, Callable[[], FederationPrivacy]] = {
        "none": lambda: FederationPrivacy(plans=dict.fromkeys(num_examples, NoPrivacy()), guarantee=NO_GUARANTEE),
        "example": lambda: _example_level(config, num_examples),
        "client": lambda: _client_level(config, list(num_examples), num_values),
    }
    return makers[config.privacy.unit]()


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One way to set the noise of a run, and what it costs.

    Attributes:
        asked: what was given: a target or a noise.
        noise_multiplier: the most over clients.
        epsilon_round: after the first round, the most over clients.
        epsilon_run: after the last.
        warnings: as in `FederationPrivacy`.
    """

    asked: str
    noise_multiplier: float
    epsilon_round: float
    epsilon_run: float
    warnings: tuple[str, ...] = ()


def choices(
    config: Config,
    num_examples: Mapping[str, int],
    *,
    unit: Literal["example", "client"],
    num_values: int,
    targets: Sequence[float],
    noises: Sequence[float],
) -> list[Choice]:
    """Gives what each target and each noise would come to; the configuration's own are not looked at.

    Args:
        config: of the run.
        num_examples: each client's training examples.
        unit: whose presence is hidden.
        num_values: of the adapter; needed for "client".
        targets: epsilons, each > 0.
        noises: noise multipliers, each > 0.

    Raises:
        ConfigError: as `build_privacy`.
    """
    asked = [(f"epsilon {one:g}", {"target_epsilon": one, "noise_multiplier": 0.0}) for one in targets]
    asked += [(f"noise {one:g}", {"target_epsilon": 0.0, "noise_multiplier": one}) for one in noises]
    found = []
    for name, given in asked:
        privacy = config.privacy.model_copy(update={**given, "unit": unit})
        made = build_privacy(config.model_copy(update={"privacy": privacy}), num_examples, num_values=num_values)
        plans = [plan for plan in made.plans.values() if not isinstance(plan, NoPrivacy)]
        found.append(
            Choice(
                asked=name,
                noise_multiplier=max(plan.noise_multiplier for plan in plans),
                epsilon_round=max(plan.epsilon(1) for plan in plans),
                epsilon_run=max(plan.epsilon(config.federation.rounds) for plan in plans),
                warnings=made.warnings,
            )
        )
    return found


def noise_source(config: Config, client: str, purpose: str, round_number: int) -> NoiseSource:
    """Where a client's noise of a round comes from."""
    if config.privacy.randomness == "system":
        return OsRandomness()
    return SeededRandomness(config.run.seed, purpose, client, round_number)


def build_private_training(config: Config, client: str, plan: Plan) -> PrivateSettings | None:
    """How a client trains where its training itself is private."""
    if not isinstance(plan, ExamplePrivacy):
        return None

    def randomness(round_number: int) -> Randomness:
        source = noise_source(config, client, "training", round_number)
        return Randomness(
            noise=lambda num_values, stddev: gaussian_noise(num_values, stddev, source),
            coins=lambda num_coins, probability: bernoulli(num_coins, probability, source),
        )

    return PrivateSettings(
        clip_norm=plan.clip_norm,
        noise_multiplier=plan.noise_multiplier,
        sampling_rate=plan.sampling_rate,
        num_steps=plan.steps,
        max_physical_batch=config.train.batch_size,
        randomness=randomness,
    )


def build_releases(private: Path | None, point: int) -> Releases:
    """Where client number `point` counts its noised releases; in memory without a folder."""
    return MemoryReleases() if private is None else FileReleases(own_folder(private, point) / "noised.json")


def _budget(config: Config) -> Budget:
    from confide.privacy.accounting import epsilon

    privacy = config.privacy
    accountant = "rdp" if privacy.unit == "client" else privacy.accountant
    return Budget(
        delta=privacy.delta,
        target_epsilon=privacy.target_epsilon or None,
        costs=partial(epsilon, accountant=accountant),
    )


def _example_level(config: Config, num_examples: Mapping[str, int]) -> FederationPrivacy:
    privacy, rounds = config.privacy, config.federation.rounds
    smallest = min(num_examples, key=lambda name: num_examples[name])
    _check_delta(privacy.delta, num_examples[smallest], f"rows that client {smallest} trains on")
    plans = {name: _example_plan(config, count) for name, count in num_examples.items()}
    most = max(plan.epsilon(rounds) for plan in plans.values())
    _check_finite(most, config)
    return FederationPrivacy(
        plans=plans,
        guarantee=(
            f"(epsilon {_number(most)}, delta {privacy.delta:g})-differential privacy after "
            f"{plural(rounds, 'round')} for each row that a client trains on, its part set to zero or not, against "
            f"everyone, the other clients and the server included{_once(config)}{_seeded(config)}"
        ),
    )


def _example_plan(config: Config, num_examples: int) -> ExamplePrivacy:
    train, privacy, budget = config.train, config.privacy, _budget(config)
    rate, steps = sampling_of(
        num_examples,
        batch_size=train.batch_size * train.accumulation,
        local_steps=train.local_steps or None,
        local_epochs=train.local_epochs or None,
    )

    def plan(noise_multiplier: float) -> ExamplePrivacy:
        return ExamplePrivacy(
            clip_norm=privacy.clip_norm,
            noise_multiplier=noise_multiplier,
            sampling_rate=rate,
            steps=steps,
            budget=budget,
        )

    return plan(_noise(config, budget.delta, lambda noise: plan(noise).events(config.federation.rounds)))


def _client_level(config: Config, clients: list[str], num_values: int) -> FederationPrivacy:
    privacy, federation, budget = config.privacy, config.federation, _budget(config)
    _check_delta(privacy.delta, len(clients), "clients")
    num_honest = federation.min_clients - privacy.coalition
    num_levels = (1 << (get_profile("onetime", config.seal.profile).value_bits - 1)) - 1

    def plan(noise_multiplier: float, client: str) -> ClientPrivacy:
        return ClientPrivacy(
            clip_norm=privacy.clip_norm,
            noise_multiplier=noise_multiplier,
            num_honest=num_honest,
            num_values=num_values,
            grid=plan_grid(
                clip_norm=privacy.clip_norm,
                noise_multiplier=noise_multiplier,
                num_honest=num_honest,
                num_values=num_values,
                num_draws=float(num_values) * len(clients) * federation.rounds,
                delta=privacy.delta,
                num_levels=num_levels,
            ),
            budget=budget,
            source=partial(noise_source, config, client, "update"),
        )

    noise = _noise(
        config, delta_for_noise(privacy.delta), lambda noise: plan(noise, clients[0]).events(federation.rounds)
    )
    plans = {name: plan(noise, name) for name in clients}
    spent = next(iter(plans.values())).epsilon(federation.rounds)
    _check_finite(spent, config)
    return FederationPrivacy(
        plans=plans,
        guarantee=(
            f"(epsilon {_number(spent)}, delta {privacy.delta:g})-differential privacy after "
            f"{plural(federation.rounds, 'round')} for all that one client contributes, set to zero or not, against up "
            f"to {privacy.coalition} of the other clients together with the server{_once(config)}{_seeded(config)}"
        ),
        warnings=_useless(config, len(clients), num_honest, num_values, noise),
    )


def _useless(config: Config, num_clients: int, num_honest: int, num_values: int, noise: float) -> tuple[str, ...]:
    """A warning where the noise of the mean is larger than any update can be."""
    cohort = config.federation.clients_per_round or num_clients
    ratio = noise * (num_values / (num_honest * cohort)) ** 0.5
    if ratio <= 1:
        return ()
    needed = noise * num_values**0.5
    return (
        f"the noise of a round's mean is {ratio:,.0f} times as long as the longest update: the model will learn "
        f"little. About {needed:,.0f} clients, all needed for a round, bring it down to one update's length; fewer "
        "values (lora.rank, lora.targets, prune.mask) or a larger target_epsilon help as well.",
    )


def _noise(config: Config, delta: float, events: Callable[[float], list[Event]]) -> float:
    from confide.privacy.accounting import noise_multiplier_for

    privacy = config.privacy
    if privacy.noise_multiplier:
        return privacy.noise_multiplier
    accountant = "rdp" if privacy.unit == "client" else privacy.accountant
    return noise_multiplier_for(privacy.target_epsilon, delta, events, accountant=accountant)


def _check_finite(epsilon: float, config: Config) -> None:
    privacy = config.privacy
    if not math.isfinite(epsilon):
        raise ConfigError(
            f"with privacy.noise_multiplier = {privacy.noise_multiplier:g} and privacy.delta = {privacy.delta:g} no "
            "epsilon can be computed. Set a larger delta or more noise."
        )


def _check_delta(delta: float, count: int, what: str) -> None:
    if delta * count >= 1:
        raise ConfigError(
            f"privacy.delta is {delta:g}, and there are {count} {what}: with a delta of one over that, publishing one "
            f"of them whole would count as private. Set privacy.delta well below {1 / count:.2g}, such as "
            f"{0.1 / count:.1g}."
        )


def _once(config: Config) -> str:
    """A target stops a run that a repeated round would bring beyond it; noise that was given does not."""
    return "" if config.privacy.target_epsilon else ", if no round is done twice"


def _seeded(config: Config) -> str:
    if config.privacy.randomness == "system":
        return ""
    return "; only for who does not know the seed that the noise is drawn from (privacy.randomness)"


def _number(epsilon: float) -> str:
    return f"{epsilon:.4g}"
