"""From a configuration to each client's privacy plan."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from confide.build.privacy_asked import FederationPrivacy as FederationPrivacy  # what is built here
from confide.build.privacy_asked import noise_source
from confide.build.privacy_clients import client_privacy
from confide.build.privacy_rows import row_privacy
from confide.build.sealing import own_folder
from confide.canaries.canary_clients import canary_client_names
from confide.config.load import parse_resolved, resolved_values
from confide.config.schema import Config
from confide.errors import ConfigError
from confide.privacy.both_levels import BothPrivacy
from confide.privacy.client_level import ClientPrivacy
from confide.privacy.coins import bernoulli
from confide.privacy.example_level import ExamplePrivacy
from confide.privacy.gaussian import gaussian_noise
from confide.privacy.plan import NoPrivacy
from confide.privacy.releases import FileReleases, MemoryReleases, Releases
from confide.train.private import PrivateSettings, Randomness

Plan = NoPrivacy | ExamplePrivacy | ClientPrivacy | BothPrivacy

NO_GUARANTEE = "no formal guarantee: differential privacy is off"


def build_privacy(config: Config, num_examples: Mapping[str, int], *, num_values: int) -> FederationPrivacy[Plan]:
    """Makes the plans.

    Args:
        config: of the run.
        num_examples: each client's training examples.
        num_values: that travel in a round, at most.

    Raises:
        ConfigError: delta is too large for so few rows or clients, the target cannot be reached, or the sealing's grid
            is too coarse.
    """
    makers: Mapping[str, Callable[[], FederationPrivacy[Plan]]] = {
        "none": lambda: FederationPrivacy(plans=dict.fromkeys(num_examples, NoPrivacy()), guarantee=NO_GUARANTEE),
        "example": lambda: row_privacy(config, num_examples),
        "client": lambda: client_privacy(config, num_examples, num_values),
        "both": lambda: _both(config, num_examples, num_values),
    }
    return makers[config.privacy.unit]()


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One way to set the noise of a run, and what it costs; the numbers are None where it is not possible.

    Attributes:
        asked: what was given: a target or a noise.
        noise_multiplier: the most over clients.
        epsilon_round: after the first round, the most over clients.
        epsilon_run: after the last.
        warnings: as in `FederationPrivacy`.
        not_possible: why training would refuse it, in sentences; "" where it would not.
    """

    asked: str
    noise_multiplier: float | None = None
    epsilon_round: float | None = None
    epsilon_run: float | None = None
    warnings: tuple[str, ...] = ()
    not_possible: str = ""


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
        num_values: that travel in a round, at most; needed for "client".
        targets: epsilons, each > 0.
        noises: noise multipliers, each > 0.

    Returns:
        One for each target and then for each noise, of which at least one is possible; none where nothing is asked.

    Raises:
        ConfigError: of the first one where none is possible: as `build_privacy`; or the configuration cannot be with
            that unit, so that no epsilon would hold.
    """
    asked = [(f"epsilon {one:g}", "target_epsilon", one) for one in targets]
    asked += [(f"noise {one:g}", "noise_multiplier", one) for one in noises]
    found, refused = [], []
    for name, key, value in asked:
        try:
            made = build_privacy(_as_asked(config, unit, key, value), num_examples, num_values=num_values)
        except ConfigError as error:
            refused.append(error)
            found.append(Choice(asked=name, not_possible=str(error)))
        else:
            found.append(_as_choice(name, made, config.federation.rounds))
    if refused and len(refused) == len(found):
        raise refused[0]
    return found


def _as_choice(name: str, made: FederationPrivacy[Plan], num_rounds: int) -> Choice:
    plans = [plan for plan in made.plans.values() if isinstance(plan, (ExamplePrivacy, ClientPrivacy))]
    return Choice(
        asked=name,
        noise_multiplier=max(plan.noise_multiplier for plan in plans),
        epsilon_round=max(plan.epsilon(1) for plan in plans),
        epsilon_run=max(plan.epsilon(num_rounds) for plan in plans),
        warnings=made.warnings,
    )


def _as_asked(config: Config, unit: Literal["example", "client"], key: str, value: float) -> Config:
    """The configuration with that unit alone and one key of its noise, checked as one that was written so.

    Raises:
        ConfigError: it contradicts itself.
    """
    values = resolved_values(config)
    given = values["privacy"]
    if unit == "client" and config.privacy.unit == "both":
        given["clip_norm"] = given["client_clip_norm"]
    if unit == "example":
        values["audit"]["canary_clients"] = 0  # they are there to find out about clients
    kept = ("delta", "clip_norm", "randomness", "on_budget", "coalition" if unit == "client" else "accountant")
    values["privacy"] = {name: given[name] for name in kept} | {"unit": unit, key: value}
    return parse_resolved(values, where=f'the configuration with privacy.unit = "{unit}"')


def build_private_training(config: Config, client: str, plan: Plan) -> PrivateSettings | None:
    """How a client trains where its training itself is private."""
    if isinstance(plan, BothPrivacy):
        plan = plan.example
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


def _both(config: Config, num_examples: Mapping[str, int], num_values: int) -> FederationPrivacy[Plan]:
    canaries = canary_client_names(config.audit.canary_clients)
    rows = row_privacy(config, {name: count for name, count in num_examples.items() if name not in canaries})
    clients = client_privacy(config, num_examples, num_values)
    without_rows = replace(next(iter(rows.plans.values())), steps=0)  # of a canary client, which trains on nothing
    return FederationPrivacy(
        plans={
            name: BothPrivacy(example=rows.plans.get(name, without_rows), client=plan)
            for name, plan in clients.plans.items()
        },
        guarantee=f"{rows.guarantee}; and {clients.guarantee}",
        warnings=clients.warnings,
    )
