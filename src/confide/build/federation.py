"""From a configuration to all parties of a federation."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median_low

import numpy as np

from confide.aggregate.factors import factor_pairs, inexactness
from confide.aggregate.optimizers import FedAdaptive, FedAvg, FedAvgM, ServerOptimizer
from confide.aggregate.step import GlobalStep, payload_layout
from confide.aggregate.weights import client_weight
from confide.build.canary_clients import build_canary_clients, canary_caution, canary_trainer
from confide.build.privacy import FederationPrivacy, Plan, build_privacy, build_private_training, build_releases
from confide.build.sealing import (
    build_kept_store,
    build_ledger,
    build_pending_store,
    build_pruning,
    build_sealing,
    build_tried_sums,
    most_values_sent,
    opening_threshold,
)
from confide.config.schema import Config
from confide.data.examples import TokenizedClient
from confide.errors import ConfigError
from confide.evaluate.heldout import HeldOutLoss
from confide.federate import Federation
from confide.global_state import GlobalState
from confide.membership.identity import Identity
from confide.membership.roster import Roster
from confide.model.lora import AdaptedModel, travelling_slots
from confide.parties.client import Client
from confide.parties.key_holder import MOST_DILUTION, KeyHolder
from confide.parties.payload import num_sealed_values
from confide.parties.rules import ClientRules
from confide.parties.server import PayloadShape, RoundPlan, Server, Upload
from confide.parties.state import ClientState
from confide.parties.training import Trainer
from confide.round import Inspector, RoundNotes
from confide.seal.scheme import ClientSealing
from confide.train.forward import TargetScorer
from confide.train.local import (
    LocalSettings,
    LocalTrainer,
    RegularizerSettings,
    StepReport,
)
from confide.train.optimizer import OptimizerSettings
from confide.train.schedule import round_learning_rate
from confide.transcript.recorder import (
    ClientRecorder,
    RecordingTransport,
    client_folder,
    server_folder,
    start_transcript,
)
from confide.transport.base import Transport
from confide.transport.inprocess import InProcessTransport
from confide.update import Layout

ADAPTIVE_LEARNING_RATE = 1e-2
"""The server learning rate of the adaptive optimisers where none is given.

Source: Reddi et al. 2021, "Adaptive Federated Optimization": the tuned rate of FedAdam and FedYogi on both language
    tasks, Shakespeare and Stack Overflow next word; FedAdagrad's was larger there (10^-1.5 to 10^-0.5).
"""


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
    threshold = opening_threshold(config, len(clients))
    sealing = build_sealing(config, roster, threshold)
    sizes = {client.name: len(client.train) for client in clients}
    privacy = build_privacy(config, sizes, num_values=most_values_sent(config, model.layout))
    fixed_limit = max(plan.fixed_limit for plan in privacy.plans.values())
    rules = _rules(config, model.layout, num_clients=len(clients), sealing=sealing.client, fixed_limit=fixed_limit)
    _check_weights({name: rules.weight(size) for name, size in sizes.items()})
    trainers: dict[str, Trainer] = {client.name: canary_trainer(config, model.layout) for client in canaries}
    trainers |= {name: _trainer(config, model, name, privacy) for name in sizes if name not in trainers}
    scorer = TargetScorer(model.module)
    start = ClientState(shared=GlobalState(layout=model.layout, round_number=0, adapter=model.read()))
    parties = [
        Client(
            run=run,
            rules=rules,
            state=start,
            examples=client.train,
            trainer=trainers[client.name],
            sealing=sealing.client,
            keys=KeyHolder(
                identity=identity,
                roster=roster,
                ledger=build_ledger(private, roster.point_of(client.name)),
                sealing=sealing.client,
                min_clients=config.federation.min_clients,
                threshold=threshold,
                tried=build_tried_sums(private, roster.point_of(client.name)),
            ),
            privacy=privacy.plans[client.name],
            evaluate=HeldOutLoss(
                model,
                scorer,
                client.held_out[: config.evaluate.max_examples],
                batch_size=config.evaluate.batch_size,
            ),
            store=build_pending_store(private, roster.point_of(client.name)),
            kept=build_kept_store(private, roster.point_of(client.name)),
            releases=build_releases(private, roster.point_of(client.name)),
            on_step=on_step,
            recorder=None
            if transcript is None
            else ClientRecorder(client_folder(transcript, roster.point_of(client.name))),
        )
        for client, identity in zip(clients, identities, strict=True)
    ]

    def shape(round_number: int) -> PayloadShape:
        trained = rules.trained(round_number)
        controls = trained.num_values if rules.step.with_control else 0
        return PayloadShape(
            layout_digest=payload_layout(trained, with_control=rules.step.with_control).digest,
            num_values=num_sealed_values(
                rules.pruning.num_kept(trained.num_values, round_number),
                controls,
                has_peaks=rules.step.initial_limit > 0 and not rules.step.keeps_limit,
            ),
        )

    server = Server(
        run=run,
        roster=roster,
        clients_per_round=config.federation.clients_per_round,
        min_clients=config.federation.min_clients,
        threshold=threshold,
        seed=config.run.seed,
        layout=model.layout,
        shape=shape,
        weight=rules.weight,
        sealing=sealing.server,
        is_private=config.privacy.unit != "none",
    )
    return Federation(
        server=server,
        clients=parties,
        transport=_transport(parties, transcript),
        notes=RoundNotes(
            learning_rate=rules.learning_rate,
            sealing="/".join(filter(None, (sealing.client.name, sealing.client.profile_name))),
            is_sealed=sealing.client.is_sealed,
            server_reads=rules.server_may_read,
            sparsity=lambda number: 0.0 if config.prune.mask == "none" else rules.pruning.schedule.sparsity(number),
            privacy=privacy.guarantee,
            warnings=privacy.warnings,
            inspect=None if sealing.client.is_sealed or config.prune.mask != "none" else _inspector(rules),
        ),
        sealing=sealing.client,
        layout=model.layout,
        writer=model,
        num_rounds=config.federation.rounds,
        stops_at_budget=config.privacy.on_budget == "stop",
    )


def _trainer(config: Config, model: AdaptedModel, client: str, privacy: FederationPrivacy[Plan]) -> LocalTrainer:
    private = build_private_training(config, client, privacy.plans[client])
    return LocalTrainer(model, local_settings(config), seed=config.run.seed, private=private)


def local_settings(config: Config) -> LocalSettings:
    """How every client trains in a round."""
    train = config.train
    return LocalSettings(
        local_steps=train.local_steps or None,
        local_epochs=train.local_epochs or None,
        batch_size=train.batch_size,
        accumulation=train.accumulation,
        gradient_checkpointing=train.gradient_checkpointing,
        optimizer=OptimizerSettings(
            kind=train.optimizer,
            momentum=train.momentum,
            adam_beta1=train.adam_beta1,
            adam_beta2=train.adam_beta2,
            adam_eps=train.adam_eps,
            weight_decay=train.weight_decay,
            clip_grad_norm=train.clip_grad_norm,
        ),
        regularizer=RegularizerSettings(
            kind=train.regularizer,
            strength=train.regularizer_strength,
            kl_reference=train.kl_reference,
            kl_direction=train.kl_direction,
        ),
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


def _transport(parties: Sequence[Client], transcript: Path | None) -> Transport:
    transport = InProcessTransport({party.name: party.handle for party in parties})
    return transport if transcript is None else RecordingTransport(transport, server_folder(transcript))


def _check_weights(weights: Mapping[str, float]) -> None:
    """Refuses a federation in which one client outweighs the others so far that no client would sign a list with it."""
    heaviest = max(weights, key=lambda name: weights[name])
    median = median_low(weights.values())
    if weights[heaviest] > MOST_DILUTION * median:
        raise ConfigError(
            f"client {heaviest} weighs {weights[heaviest]:g} (its number of examples), more than {MOST_DILUTION} times "
            f"the median client's {median:g}: next to nothing of the others' updates would be left, and the sum would "
            "be nearly its own update. Set federation.max_weight to cap weights, or federation.weights to "
            '"equal".'
        )


def build_optimizer(config: Config) -> ServerOptimizer:
    """The server optimiser by its name; SCAFFOLD's server step is FedAvg's (its control variates are apart)."""
    federation = config.federation
    rate = federation.server_learning_rate or 1.0
    adaptive_rate = federation.server_learning_rate or ADAPTIVE_LEARNING_RATE
    adaptive = {"beta1": federation.server_beta1, "beta2": federation.server_beta2, "tau": federation.server_tau}
    makers: Mapping[str, Callable[[], ServerOptimizer]] = {
        "fedavg": lambda: FedAvg(learning_rate=rate),
        "scaffold": lambda: FedAvg(learning_rate=rate),
        "fedavgm": lambda: FedAvgM(learning_rate=rate, momentum=federation.server_momentum),
        "fedadagrad": lambda: FedAdaptive(rule="adagrad", learning_rate=adaptive_rate, **adaptive),
        "fedadam": lambda: FedAdaptive(rule="adam", learning_rate=adaptive_rate, **adaptive),
        "fedyogi": lambda: FedAdaptive(rule="yogi", learning_rate=adaptive_rate, **adaptive),
    }
    return makers[federation.server_optimizer]()


def _rules(
    config: Config, layout: Layout, *, num_clients: int, sealing: ClientSealing, fixed_limit: float
) -> ClientRules:
    federation, train = config.federation, config.train

    def trained(round_number: int) -> Layout:
        return travelling_slots(layout, config.lora.average, round_number)

    def learning_rate(round_number: int) -> float:
        return round_learning_rate(
            train.schedule,
            learning_rate=train.learning_rate,
            min_learning_rate=train.min_learning_rate,
            round_number=round_number,
            num_rounds=federation.rounds,
        )

    def weight(num_examples: int) -> float:
        return client_weight(federation.weights, num_examples=num_examples, max_weight=federation.max_weight)

    every = config.evaluate.every_rounds
    pruning = build_pruning(config)
    initial_limit = (config.seal.initial_range or sealing.initial_limit) if sealing.initial_limit else 0.0
    return ClientRules(
        trained=trained,
        learning_rate=learning_rate,
        weight=weight,
        step=GlobalStep(
            optimizer=build_optimizer(config),
            with_control=federation.server_optimizer == "scaffold",
            num_clients=num_clients,
            accumulates=pruning.goes_by_magnitude,
            initial_limit=fixed_limit or initial_limit,
            keeps_limit=fixed_limit > 0,
        ),
        pruning=pruning,
        max_saturated=config.seal.max_saturated,
        server_may_read=config.seal.release == "server",
        is_evaluation_round=lambda number: every > 0 and number % every == 0,
        measures_factors=config.lora.average == "factors",
    )


def _inspector(rules: ClientRules) -> Inspector | None:
    """Measures from plaintext updates how inexact the mean of the factors is, where it is."""
    if not rules.measures_factors:
        return None

    def inspect(plan: RoundPlan, uploads: Mapping[str, Upload]) -> float:
        trained = rules.trained(plan.round_number)
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
