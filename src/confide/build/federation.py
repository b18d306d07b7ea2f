"""From a configuration to all parties of a federation."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from confide.aggregate.factors import factor_pairs, inexactness
from confide.agreed import Agreed, build_notes, build_server, check_weights
from confide.build.canary_clients import build_canary_clients, canary_caution
from confide.build.client import ClientMaker
from confide.config.schema import Config
from confide.data.examples import TokenizedClient
from confide.federate import Federation
from confide.membership.identity import Identity
from confide.membership.roster import Roster
from confide.model.lora import AdaptedModel
from confide.parties.client import Client
from confide.parties.server import RoundPlan, Upload
from confide.round_record import Inspector
from confide.train.outcome import StepReport
from confide.transcript.recorder import (
    ClientRecorder,
    RecordingTransport,
    client_folder,
    server_folder,
    start_transcript,
)
from confide.transport.base import Transport
from confide.transport.inprocess import InProcessTransport


def build_federation(
    config: Config,
    model: AdaptedModel,
    clients: Sequence[TokenizedClient],
    *,
    run: str,
    on_step: Callable[[str, StepReport], None] | None = None,
    private: Path | None = None,
    transcript: Path | None = None,
) -> Federation:
    """Puts all parties of a federation into this process.

    The identities are made here and live as long as the process: no secret key is ever written.

    Args:
        config: of the run.
        model: shared by all clients.
        clients: who takes part, with their data as tokens; canary clients join them here.
        run: the run's id.
        on_step: called with a client's name after each of its local steps; may raise to stop.
        private: folder in which each client keeps what must survive a restart; in memory if None.
        transcript: folder in which each party keeps what it sees, for an audit; none is kept if None.

    Raises:
        ConfigError: what is configured cannot be with these clients.
    """
    canaries = build_canary_clients(config, [client.name for client in clients])
    clients = [*clients, *canaries]
    if transcript is not None:
        start_transcript(transcript)
    identities = [Identity.generate(client.name) for client in clients]
    roster = Roster([identity.public for identity in identities])
    sizes = {client.name: len(client.train) for client in clients}
    maker = ClientMaker(config, model, roster, sizes, run=run, private=private, on_step=on_step)
    check_weights({name: maker.agreed.weight(size) for name, size in sizes.items()})
    parties = [
        maker.make(identity, client, recorder=_recorder(transcript, roster.point_of(client.name)))
        for client, identity in zip(clients, identities, strict=True)
    ]
    return Federation(
        server=build_server(config, maker.agreed, model.layout, roster, run=run, sealing=maker.sealing.server),
        clients=parties,
        transport=_transport(parties, transcript),
        notes=build_notes(
            config,
            maker.agreed,
            guarantee=maker.privacy.guarantee,
            warnings=maker.privacy.warnings,
            inspect=_inspector(config, maker.agreed),
        ),
        sealing=maker.sealing.client,
        layout=model.layout,
        writer=model,
        num_rounds=config.federation.rounds,
        stops_at_budget=config.privacy.on_budget == "stop",
    )


def describe_protection(config: Config, federation: Federation) -> list[str]:
    """Who can read what in this run, and the formal guarantee: a sentence each, for the user."""
    sealing = federation.sealing
    lines = [f"sealing: {federation.notes.sealing}, {sealing.description}"]
    if sealing.is_sealed:
        readers = "the clients only" if config.seal.release == "clients" else "the clients and the server"
        lines.append(f"the global adapter: read by {readers}; sealing hides nothing of what it has learnt")
    if sealing.is_sealed and config.federation.min_clients < 3:
        lines.append(
            "caution: federation.min_clients is below 3: of a sum of two, each member knows the other's update"
        )
    lines.append(f"privacy: {federation.notes.privacy}")
    warnings = [warning for warning in (canary_caution(config), *federation.notes.warnings) if warning]
    return lines + [f"caution: {warning}" for warning in warnings]


def _recorder(transcript: Path | None, point: int) -> ClientRecorder | None:
    return None if transcript is None else ClientRecorder(client_folder(transcript, point))


def _transport(parties: Sequence[Client], transcript: Path | None) -> Transport:
    transport = InProcessTransport({party.name: party.handle for party in parties})
    return transport if transcript is None else RecordingTransport(transport, server_folder(transcript))


def _inspector(config: Config, agreed: Agreed) -> Inspector | None:
    """Measures from plaintext updates how inexact the mean of the factors is, where it is."""
    if config.lora.average != "factors" or config.seal.scheme != "plain" or config.prune.mask != "none":
        return None

    def inspect(plan: RoundPlan, uploads: Mapping[str, Upload]) -> float:
        trained = agreed.trained(plan.round_number)
        if not any(factor_pairs(trained)):
            return 0.0
        weights = [upload.entry.weight for upload in uploads.values()]
        vectors = [
            np.frombuffer(b"".join(upload.bodies), np.float32)[: trained.num_values]
            * np.float32(plan.reference_weight / upload.entry.weight)
            for upload in uploads.values()
        ]
        return inexactness(vectors, weights, trained)

    return inspect
