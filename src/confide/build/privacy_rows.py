"""Plans that hide one row: DP-SGD at each client."""

from collections.abc import Mapping

from confide.agreed import seeded
from confide.build.privacy_asked import FederationPrivacy, check_delta, check_finite, number, of_rows
from confide.config.schema import Config
from confide.plural import plural
from confide.privacy.example_level import ExamplePrivacy, sampling_of


def row_privacy(config: Config, num_examples: Mapping[str, int]) -> FederationPrivacy[ExamplePrivacy]:
    """Makes the plans that hide rows.

    Args:
        config: of the run.
        num_examples: each client's training examples.

    Raises:
        ConfigError: see `confide.build.privacy.build_privacy`.
    """
    privacy, rounds, asked = config.privacy, config.federation.rounds, of_rows(config)
    largest = max(num_examples, key=lambda name: num_examples[name])
    check_delta(privacy.delta, num_examples[largest], f"rows that client {largest} trains on")
    plans = {name: _example_plan(config, count) for name, count in num_examples.items()}
    most = max(plan.epsilon(rounds) for plan in plans.values())
    check_finite(most, asked, privacy.delta)
    return FederationPrivacy(
        plans=plans,
        guarantee=(
            f"(epsilon {number(most)}, delta {privacy.delta:g})-differential privacy after "
            f"{plural(rounds, 'round')} for each row that a client trains on, its part set to zero or not, against "
            f"everyone, the other clients and the server included{asked.once}{seeded(config)}"
        ),
    )


def _example_plan(config: Config, num_examples: int) -> ExamplePrivacy:
    train, asked = config.train, of_rows(config)
    budget = asked.budget(config.privacy.delta)
    rate, steps = sampling_of(
        num_examples,
        batch_size=train.batch_size * train.accumulation,
        local_steps=train.local_steps or None,
        local_epochs=train.local_epochs or None,
    )

    def plan(noise_multiplier: float) -> ExamplePrivacy:
        return ExamplePrivacy(
            clip_norm=asked.clip_norm,
            noise_multiplier=noise_multiplier,
            sampling_rate=rate,
            steps=steps,
            budget=budget,
        )

    return plan(asked.noise(budget.delta, lambda noise: plan(noise).events(config.federation.rounds)))
