"""Plans that hide one client: its update clipped, and noise that all clients add together."""

from collections.abc import Mapping, Sequence
from functools import partial

from confide.aggregate.weights import client_weight
from confide.agreed import seeded
from confide.build.privacy_asked import (
    FederationPrivacy,
    check_delta,
    check_finite,
    noise_source,
    number,
    of_clients,
)
from confide.config.schema import Config
from confide.parties.releasing import MOST_NOISINGS
from confide.plural import plural
from confide.privacy.client_level import ClientPrivacy, delta_for_noise, plan_grid
from confide.seal.profiles import get_profile

_MOST_UPLOADS = 2
"""For each round, as often as a run without a target may do all of them: the sealing's range is planned for these."""
_MANY = 10.0
"""Times from which on no decimals are told."""
_ROOM = 1.05
"""In that range, for the little that epsilon depends on the range itself."""


def client_privacy(
    config: Config, num_examples: Mapping[str, int], num_values: int
) -> FederationPrivacy[ClientPrivacy]:
    """Makes the plans that hide a client's whole contribution.

    Args:
        config: of the run.
        num_examples: each client's training examples; noise and epsilon do not depend on them, what is left of an
            update does.
        num_values: that travel in a round, at most.

    Raises:
        ConfigError: see `confide.build.privacy.build_privacy`.
    """
    privacy, federation, asked = config.privacy, config.federation, of_clients(config)
    clients = list(num_examples)
    budget = asked.budget(privacy.delta)
    check_delta(privacy.delta, len(clients), "clients")
    num_honest = federation.min_clients - privacy.coalition
    num_levels = (1 << (get_profile("onetime", config.seal.profile).value_bits - 1)) - 1

    def plan(noise_multiplier: float, client: str, epsilon: float) -> ClientPrivacy:
        return ClientPrivacy(
            clip_norm=asked.clip_norm,
            noise_multiplier=noise_multiplier,
            num_honest=num_honest,
            num_values=num_values,
            grid=plan_grid(
                clip_norm=asked.clip_norm,
                noise_multiplier=noise_multiplier,
                num_honest=num_honest,
                num_values=num_values,
                num_draws=float(num_values) * len(clients) * federation.rounds * MOST_NOISINGS,
                delta=privacy.delta,
                epsilon=epsilon,
                num_levels=num_levels,
            ),
            budget=budget,
            source=partial(noise_source, config, client, "update"),
        )

    delta = delta_for_noise(privacy.delta)
    most = asked.target_epsilon
    noise = asked.noise(delta, lambda noise: plan(noise, clients[0], most).events(federation.rounds))
    if not asked.target_epsilon:
        most = _ROOM * budget.costs(plan(noise, clients[0], 0.0).events(_MOST_UPLOADS * federation.rounds), delta)
    plans = {name: plan(noise, name, most) for name in clients}
    spent = next(iter(plans.values())).epsilon(federation.rounds)
    check_finite(spent, asked, privacy.delta)
    return FederationPrivacy(
        plans=plans,
        guarantee=(
            f"(epsilon {number(spent)}, delta {privacy.delta:g})-differential privacy after "
            f"{plural(federation.rounds, 'round')} for all that one client contributes, set to zero or not, against up "
            f"to {privacy.coalition} of the other clients together with the server{asked.once}{seeded(config)}"
        ),
        warnings=_useless(config, list(num_examples.values()), num_honest, num_values, noise),
    )


def _useless(
    config: Config, num_examples: Sequence[int], num_honest: int, num_values: int, noise: float
) -> tuple[str, ...]:
    """A warning where the noise of the mean is larger than any update can be.

    Everybody adds noise as for the largest weight, so a mean in which others weigh less has more of it.
    """
    federation = config.federation
    weights = [
        client_weight(federation.weights, num_examples=count, max_weight=federation.max_weight)
        for count in num_examples
    ]
    typical = sum(weights) / len(weights) / max(weights)  # of the largest weight; of a drawn cohort, on average
    cohort = federation.clients_per_round or len(weights)
    ratio = noise * (num_values / (num_honest * cohort)) ** 0.5 / typical
    if ratio <= 1:
        return ()
    needed = noise * num_values**0.5 / typical
    alike = "" if len(set(weights)) == 1 else ', equal weights (federation.weights = "equal")'
    times = f"{ratio:,.0f}" if ratio >= _MANY else f"{ratio:.1f}"
    return (
        f"the noise of a round's mean is {times} times as long as the longest update: the model will learn "
        f"little. About {needed:,.0f} clients, all needed for a round, bring it down to one update's length; fewer "
        f"values (lora.rank, lora.targets, prune.mask){alike} or a larger target_epsilon help as well.",
    )
