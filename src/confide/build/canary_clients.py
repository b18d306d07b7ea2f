"""From a configuration to the canary clients that take part beside the owners of data."""

from collections.abc import Sequence

from confide.build.privacy_asked import of_clients
from confide.canaries.canary_clients import CanaryTrainer, canary_client_names, without_data
from confide.config.schema import Config
from confide.data.examples import TokenizedClient
from confide.errors import ConfigError
from confide.plural import plural
from confide.update import Layout


def build_canary_clients(config: Config, owners: Sequence[str]) -> list[TokenizedClient]:
    """The canary clients of a run; none where it has none.

    Args:
        config: of the run.
        owners: names of the clients that have data.

    Raises:
        ConfigError: a client of the data has a canary client's name.
    """
    names = canary_client_names(config.audit.canary_clients)
    taken = sorted(set(names) & set(owners))
    if taken:
        raise ConfigError(
            f"the data has a client {taken[0]}, which is the name of a canary client. Rename it in the data, or set "
            "audit.canary_clients to 0."
        )
    return [without_data(name) for name in names]


def canary_trainer(config: Config, layout: Layout) -> CanaryTrainer:
    """What canary clients do in place of training."""
    return CanaryTrainer(layout=layout, length=of_clients(config).clip_norm, seed=config.run.seed)


def canary_caution(config: Config) -> str:
    """What a user must know of a run with canary clients; empty without any."""
    names = canary_client_names(config.audit.canary_clients)
    if not names:
        return ""
    return (
        f"{plural(len(names), 'canary client')} ({names[0]} to {names[-1]}) take part, to measure epsilon by: each "
        f"sends a random direction of the full length {of_clients(config).clip_norm:g} in every round. "
        "This adapter is for an audit, and not for use"
    )
