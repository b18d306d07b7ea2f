"""From a configuration to the objects that run: the one place that knows every choice by name.

Configuration stops here. What is built takes plain arguments.
"""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from confide.aggregate.factors import factor_pairs, inexactness
from confide.aggregate.optimizers import FedAdaptive, FedAvg, FedAvgM, ServerOptimizer
from confide.aggregate.step import GlobalStep, payload_layout
from confide.aggregate.weights import client_weight
from confide.config.schema import Config
from confide.data.clinics import generate_clinics
from confide.data.examples import ClientRecords, Record, TokenizedClient
from confide.data.partition import NEEDED_FIELD, partition_records
from confide.data.rows import ColumnNames
from confide.data.sources import load_records
from confide.data.templates import Template, Tokenizer, make_template
from confide.data.tokenize import tokenize_client
from confide.errors import ConfigError, DataError
from confide.evaluate.heldout import HeldOutLoss
from confide.federate import Federation
from confide.global_state import GlobalState
from confide.messages import TrainReply
from confide.model.context import max_positions
from confide.model.load import load_base_model, load_tokenizer
from confide.model.lora import AdaptedModel, LoraSettings, attach_lora, travelling_slots
from confide.parties.client import Client, ClientRules, ClientState
from confide.parties.server import RoundPlan, Server
from confide.privacy.plan import NoPrivacy, PrivacyPlan
from confide.round import Inspector, RoundNotes
from confide.seal.plain import PlainClient, PlainServer, read_values
from confide.seal.scheme import ClientSealing, ServerSealing
from confide.train.local import (
    LocalSettings,
    LocalTrainer,
    OptimizerSettings,
    RegularizerSettings,
    StepReport,
)
from confide.train.schedule import round_learning_rate
from confide.transport.inprocess import InProcessTransport
from confide.update import Layout

DEFAULT_CLINICS = 3
ADAPTIVE_LEARNING_RATE = 1e-2
"""The server learning rate of the adaptive optimisers where none is given.

Source: Reddi et al. 2021, "Adaptive Federated Optimization": the tuned rate of FedAdam and FedYogi on both language
    tasks, Shakespeare and Stack Overflow next word; FedAdagrad's was larger there (10^-1.5 to 10^-0.5).
"""


@dataclass(frozen=True, kw_only=True)
class SealingPair:
    """Both halves of a sealing scheme; they part here, each to its side."""

    client: ClientSealing
    server: ServerSealing


def apply_threads(config: Config, *, kept: int = 0) -> int:
    """Sets torch's CPU threads and gives their number: `kept`, or where that is 0 as configured.

    The number decides the order in which sums are formed, and so the last bits: who goes on with a run keeps its own.
    """
    threads = kept or config.run.threads or _physical_cores()
    torch.set_num_threads(threads)
    return threads


def build_records(config: Config) -> list[ClientRecords]:
    """Reads or generates the data and divides it among the clients.

    Raises:
        DataError, ConfigError: see `load_records` and `partition_records`; or the federation has fewer clients than
            `federation.min_clients` or `federation.clients_per_round`.
    """
    data = config.data
    clients = partition_records(
        _records(config),
        scheme=data.partition,
        seed=config.run.seed,
        num_clients=data.clients,
        dirichlet_alpha=data.dirichlet_alpha,
        shards_per_client=data.shards_per_client,
        size_exponent=data.size_exponent,
        min_rows_per_client=data.min_rows_per_client,
        max_rows_per_client=data.max_rows_per_client,
        held_out=data.held_out,
    )
    for key, wanted in [
        ("federation.min_clients", config.federation.min_clients),
        ("federation.clients_per_round", config.federation.clients_per_round),
    ]:
        if len(clients) < wanted:
            raise ConfigError(
                f"{key} is {wanted}, but the data has only {len(clients)} "
                f"client{'s' if len(clients) > 1 else ''}. Lower {key}, or check data.client_column."
            )
    return clients


def build_tokenizer(config: Config) -> Tokenizer:
    """Loads the base model's tokenizer without its weights."""
    tokenizer: Tokenizer = load_tokenizer(config.model.base)
    return tokenizer


def build_template(config: Config, tokenizer: Tokenizer) -> Template:
    """The template that turns records into tokens."""
    return make_template(config.data.template, tokenizer)


def build_examples(config: Config, clients: Sequence[ClientRecords], template: Template) -> list[TokenizedClient]:
    """Tokenises every client's records.

    Raises:
        DataError: a client has no example left to train on.
    """
    tokenized = [tokenize_client(client, template, config.train.max_tokens) for client in clients]
    for client in tokenized:
        if not client.train:
            raise DataError(
                f"client {client.name} has no training example left: cutting to train.max_tokens = "
                f"{config.train.max_tokens} removed every response. Raise train.max_tokens."
            )
    return tokenized


def build_model(config: Config) -> AdaptedModel:
    """Loads the base model and puts a fresh LoRA adapter on it, the same at every client.

    Raises:
        ConfigError: the model has fewer positions than `train.max_tokens`.
        ModelError, MissingExtraError: see `load_base_model` and `attach_lora`.
    """
    base = load_base_model(
        config.model.base,
        device=config.run.device,
        dtype=config.model.dtype,
        load_in_8bit=config.model.load_in_8bit,
        load_in_4bit=config.model.load_in_4bit,
        seed=config.run.seed,
    )
    limit = max_positions(base.module)
    if limit is not None and config.train.max_tokens > limit:
        raise ConfigError(
            f"train.max_tokens is {config.train.max_tokens}, but {base.name} has positions for {limit} tokens. Set "
            f"train.max_tokens to {limit} or less, or take a model that reads longer texts."
        )
    targets = config.lora.targets
    settings = LoraSettings(
        lora_rank=config.lora.rank,
        lora_alpha=config.lora.alpha,
        dropout=config.lora.dropout,
        targets=targets if isinstance(targets, str) else tuple(targets),
    )
    return attach_lora(base, settings, seed=config.run.seed)


def build_federation(
    config: Config,
    model: AdaptedModel,
    clients: Sequence[TokenizedClient],
    *,
    run: str,
    on_step: Callable[[str, StepReport], None] | None = None,
) -> Federation:
    """Puts all parties of a federation into this process.

    Args:
        config: of the run.
        model: shared by all clients.
        clients: who takes part, with their data as tokens.
        run: the run's id.
        on_step: called with a client's name after each of its local steps; may raise to stop.
    """
    sealing = _sealing(config)
    privacy = _privacy(config)
    rules = _rules(config, model.layout, num_clients=len(clients))
    trainer = LocalTrainer(model, local_settings(config), seed=config.run.seed)
    start = ClientState(shared=GlobalState(layout=model.layout, round_number=0, adapter=model.read()))
    parties = [
        Client(
            name=client.name,
            run=run,
            rules=rules,
            state=start,
            examples=client.train,
            trainer=trainer,
            sealing=sealing.client,
            privacy=privacy,
            evaluate=HeldOutLoss(
                model,
                trainer.scorer,
                client.held_out[: config.evaluate.max_examples],
                batch_size=config.evaluate.batch_size,
            ),
            on_step=on_step,
        )
        for client in clients
    ]

    def payload(round_number: int) -> Layout:
        return payload_layout(rules.trained(round_number), with_control=rules.step.with_control)

    server = Server(
        run=run,
        clients=[client.name for client in clients],
        clients_per_round=config.federation.clients_per_round,
        min_clients=config.federation.min_clients,
        seed=config.run.seed,
        payload=payload,
        weight=rules.weight,
        sealing=sealing.server,
    )
    return Federation(
        server=server,
        clients=parties,
        transport=InProcessTransport({party.name: party.handle for party in parties}),
        notes=RoundNotes(
            learning_rate=rules.learning_rate,
            sealing=sealing.client.name,
            is_sealed=sealing.client.is_sealed,
            privacy=privacy.guarantee,
            inspect=None if sealing.client.is_sealed else _inspector(rules),
        ),
        layout=model.layout,
        writer=model,
        num_rounds=config.federation.rounds,
    )


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


def describe_protection(config: Config) -> list[str]:
    """Who can read what in this run, and the formal guarantee: a sentence each, for the user."""
    return [
        f"sealing: {config.seal.scheme}, {_sealing(config).client.description}",
        f"privacy: {_privacy(config).guarantee}",
    ]


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


def _records(config: Config) -> list[Record]:
    data = config.data
    if data.source == "clinics":
        return generate_clinics(
            seed=config.run.seed,
            num_clinics=data.clients if data.partition == "natural" and data.clients else DEFAULT_CLINICS,
            num_letters=data.clinic_letters,
            num_instructions=data.clinic_instructions,
        )
    columns = ColumnNames(
        instruction=data.instruction_column,
        input=data.input_column,
        response=data.response_column,
        messages=data.messages_column,
        text=data.text_column,
        answer=data.answer_column,
        choices=data.choices_column,
        id=data.id_column,
        client=data.client_column,
        label=data.label_column,
    )
    needed = [NEEDED_FIELD[data.partition]] if data.partition in NEEDED_FIELD else []
    return load_records(data.source, data.path, columns=columns, split=data.split, required=needed)


def _rules(config: Config, layout: Layout, *, num_clients: int) -> ClientRules:
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
    return ClientRules(
        trained=trained,
        learning_rate=learning_rate,
        weight=weight,
        step=GlobalStep(
            optimizer=build_optimizer(config),
            with_control=federation.server_optimizer == "scaffold",
            num_clients=num_clients,
        ),
        is_evaluation_round=lambda number: every > 0 and number % every == 0,
        measures_factors=config.lora.average == "factors",
    )


def _inspector(rules: ClientRules) -> Inspector | None:
    """Measures from plaintext updates how inexact the mean of the factors is, where it is."""
    if not rules.measures_factors:
        return None

    def inspect(plan: RoundPlan, updates: Mapping[str, TrainReply]) -> float:
        trained = rules.trained(plan.round_number)
        num_values = payload_layout(trained, with_control=rules.step.with_control).num_values
        if not any(factor_pairs(trained)):
            return 0.0
        vectors = [
            read_values(reply.body, num_values)[: trained.num_values] / np.float32(reply.weight)
            for reply in updates.values()
        ]
        return inexactness(vectors, [reply.weight for reply in updates.values()], trained)

    return inspect


def _sealing(config: Config) -> SealingPair:
    schemes = {"plain": lambda: SealingPair(client=PlainClient(), server=PlainServer())}
    return schemes[config.seal.scheme]()


def _privacy(config: Config) -> PrivacyPlan:
    plans = {"none": NoPrivacy}
    return plans[config.privacy.unit]()


def _physical_cores() -> int:
    """Physical cores this process may use; hyper-threads do not help dense arithmetic."""
    usable = os.sched_getaffinity(0) if sys.platform == "linux" else range(os.cpu_count() or 1)
    siblings = set()
    for cpu in usable:
        listing = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        siblings.add(listing.read_text().strip() if listing.exists() else str(cpu))
    return max(1, len(siblings))
