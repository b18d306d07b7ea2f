"""The canary clients of a run: which of them are looked for, from whose points of view, and against which claim."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from confide.aggregate.travelling import travelling_slots
from confide.attacks.view import View
from confide.audit.canary_clients import ClientClaim, audit_canary_clients
from confide.audit.judging import Findings
from confide.auditor.adapters import Adapters
from confide.canaries.canary_clients import canary_client_names
from confide.config.schema import Config
from confide.plural import plural
from confide.update import Layout

_FEWEST = 2


@dataclass(frozen=True, kw_only=True)
class CanaryClients:
    """What is known of a run's canary clients.

    Attributes:
        everyone: names of all of them.
        in_every_round: those whose update is in the sum of every round.
        trained: the slots that every round trained.
        claim: what the run says of a client's epsilon.
        seed: of the run.
    """

    everyone: tuple[str, ...]
    in_every_round: tuple[str, ...]
    trained: Layout
    claim: ClientClaim
    seed: int


def find_canary_clients(
    config: Config, layout: Layout, members: Mapping[int, frozenset[str]], *, spent: float | None
) -> CanaryClients | None:
    """Gives the canary clients of a run; None where it has none.

    Args:
        config: of the run.
        layout: of the whole adapter.
        members: by round, the clients whose updates are in its sum.
        spent: what the run's guarantee of a client has cost; None if that is not known.
    """
    everyone = canary_client_names(config.audit.canary_clients)
    if not everyone:
        return None
    return CanaryClients(
        everyone=everyone,
        in_every_round=tuple(name for name in everyone if all(name in one for one in members.values())),
        trained=travelling_slots(layout, config.lora.average, 1),
        claim=ClientClaim(epsilon=spent, delta=config.privacy.delta, coalition=config.privacy.coalition),
        seed=config.run.seed,
    )


def look_for_canary_clients(clients: CanaryClients, views: Sequence[View], adapters: Adapters) -> Findings:
    """Bounds from these views, and in sentences what could not be looked for."""
    warnings = []
    missing = [name for name in clients.everyone if name not in clients.in_every_round]
    if missing:
        warnings.append(
            f"Of {plural(len(clients.everyone), 'canary client')} {len(missing)} are not in every round's sum and are "
            f"not looked for: {', '.join(missing)}."
        )
    if len(clients.in_every_round) < _FEWEST:
        return Findings(warnings=[*warnings, "So no epsilon of a client was measured: two are needed."])
    if not adapters.has(0):
        return Findings(warnings=[*warnings, _NO_START])
    blind = [view.party for view in views if view.name != "final" and not view.others_means]
    if blind:
        warnings.append(
            f"No opened sum is in the transcript, so canary clients were not looked for from the view of "
            f"{' and '.join(blind)}."
        )
    if not views:
        warnings.append(_NO_VIEW)
    found = audit_canary_clients(
        views,
        names=clients.in_every_round,
        start=adapters.read(0),
        trained=clients.trained,
        claim=clients.claim,
        seed=clients.seed,
    )
    return replace(found, warnings=warnings)


_NO_START = (
    "The run's folder has no adapter from before the first round, so canary clients were not looked for and no epsilon "
    "of a client was measured."
)
_NO_VIEW = (
    "Canary clients are looked for from the views final, client and coalition. None of them is asked for, so no "
    "epsilon of a client was measured."
)
