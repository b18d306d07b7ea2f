"""From a configuration to one client: its rules, its training, its keys at work, and where it keeps what must last."""

from collections.abc import Callable, Mapping
from pathlib import Path

from confide.aggregate.optimizers import FedAdaptive, FedAvg, FedAvgM, ServerOptimizer
from confide.aggregate.step import GlobalStep
from confide.agreed import Agreed, agree, most_values_sent, opening_threshold
from confide.build.canary_clients import canary_trainer
from confide.build.privacy import build_privacy, build_private_training, build_releases
from confide.build.sealing import (
    build_kept_store,
    build_ledger,
    build_pending_store,
    build_sealing,
    build_tried_sums,
)
from confide.canaries.canary_clients import canary_client_names
from confide.config.schema import Config
from confide.data.examples import TokenizedClient
from confide.evaluate.heldout import HeldOutLoss
from confide.global_state import GlobalState
from confide.membership.identity import Identity
from confide.membership.roster import Roster
from confide.model.lora import AdaptedModel
from confide.parties.client import Client, Recorder
from confide.parties.key_holder import KeyHolder
from confide.parties.rules import ClientRules
from confide.parties.state import ClientState
from confide.parties.training import Trainer
from confide.seal.scheme import ClientSealing
from confide.train.forward import TargetScorer
from confide.train.local import LocalSettings, LocalTrainer, RegularizerSettings
from confide.train.optimizer import OptimizerSettings
from confide.train.outcome import StepReport

ADAPTIVE_LEARNING_RATE = 1e-2
"""The server learning rate of the adaptive optimisers where none is given.

Source: Reddi et al. 2021, "Adaptive Federated Optimization": the tuned rate of FedAdam and FedYogi on both language
    tasks, Shakespeare and Stack Overflow next word; FedAdagrad's was larger there (10^-1.5 to 10^-0.5).
"""


class ClientMaker:
    """Makes the clients of one process, which share its model: all of a federation, or the one that a member runs.

    Attributes:
        agreed: what all parties know of the run's rounds.
        sealing: both halves of the scheme.
        privacy: the plans of all clients.

    Args:
        config: of the run.
        model: shared by the clients, as `build_model` made it.
        roster: everybody in the federation, canary clients included.
        num_examples: each client's training examples. Where only its own are known, a client gives that number for all:
            a plan of its own follows from its own examples and from how many clients there are.
        run: the run's id.
        private: folder in which each client keeps what must survive a restart; in memory if None.
        on_step: called with a client's name after each of its local steps; may raise to stop.

    Raises:
        ConfigError: what is configured cannot be with these clients.
    """

    def __init__(
        self,
        config: Config,
        model: AdaptedModel,
        roster: Roster,
        num_examples: Mapping[str, int],
        *,
        run: str,
        private: Path | None = None,
        on_step: Callable[[str, StepReport], None] | None = None,
    ) -> None:
        self.agreed = agree(config, model.layout)
        self._threshold = opening_threshold(config, len(roster.names))
        self.sealing = build_sealing(config, roster, self._threshold)
        self.privacy = build_privacy(config, num_examples, num_values=most_values_sent(config, model.layout))
        self._config = config
        self._model = model
        self._roster = roster
        self._run = run
        self._private = private
        self._on_step = on_step
        self._rules = client_rules(
            config,
            self.agreed,
            num_clients=len(roster.names),
            sealing=self.sealing.client,
            fixed_limit=max(plan.fixed_limit for plan in self.privacy.plans.values()),
        )
        self._canaries = frozenset(canary_client_names(config.audit.canary_clients))
        self._scorer = TargetScorer(model.module)
        self._start = ClientState(shared=GlobalState(layout=model.layout, round_number=0, adapter=model.read()))

    def make(
        self,
        identity: Identity,
        data: TokenizedClient,
        *,
        keep: Callable[[ClientState], None] | None = None,
        recorder: Recorder | None = None,
    ) -> Client:
        """Makes one client.

        Args:
            identity: its secret keys; its name is in the roster.
            data: its data as tokens.
            keep: see `Client`.
            recorder: keeps what it sends and opens, where the run is recorded for an audit.
        """
        config, point = self._config, self._roster.point_of(data.name)
        return Client(
            run=self._run,
            rules=self._rules,
            state=self._start,
            examples=data.train,
            trainer=self._trainer(data.name),
            sealing=self.sealing.client,
            keys=KeyHolder(
                identity=identity,
                roster=self._roster,
                ledger=build_ledger(self._private, point),
                sealing=self.sealing.client,
                min_clients=config.federation.min_clients,
                threshold=self._threshold,
                tried=build_tried_sums(self._private, point),
            ),
            privacy=self.privacy.plans[data.name],
            evaluate=HeldOutLoss(
                self._model,
                self._scorer,
                data.held_out[: config.evaluate.max_examples],
                batch_size=config.evaluate.batch_size,
            ),
            store=build_pending_store(self._private, point),
            kept=build_kept_store(self._private, point),
            releases=build_releases(self._private, point),
            keep=keep,
            on_step=self._on_step,
            recorder=recorder,
        )

    def _trainer(self, client: str) -> Trainer:
        if client in self._canaries:
            return canary_trainer(self._config, self._model.layout)
        private = build_private_training(self._config, client, self.privacy.plans[client])
        return LocalTrainer(self._model, local_settings(self._config), seed=self._config.run.seed, private=private)


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


def client_rules(
    config: Config, agreed: Agreed, *, num_clients: int, sealing: ClientSealing, fixed_limit: float
) -> ClientRules:
    """What every client does alike.

    Args:
        config: of the run.
        agreed: what follows from it for all parties.
        num_clients: all clients of the federation.
        sealing: the clients' half of the scheme.
        fixed_limit: the fixed-point range that a privacy plan asks for in every round; 0 where none does.
    """
    every = config.evaluate.every_rounds
    initial_limit = (config.seal.initial_range or sealing.initial_limit) if sealing.initial_limit else 0.0
    return ClientRules(
        trained=agreed.trained,
        learning_rate=agreed.learning_rate,
        weight=agreed.weight,
        step=GlobalStep(
            optimizer=build_optimizer(config),
            with_control=agreed.with_control,
            num_clients=num_clients,
            accumulates=agreed.pruning.goes_by_magnitude,
            initial_limit=fixed_limit or initial_limit,
            keeps_limit=fixed_limit > 0,
        ),
        pruning=agreed.pruning,
        max_saturated=config.seal.max_saturated,
        server_may_read=config.seal.release == "server",
        is_evaluation_round=lambda number: every > 0 and number % every == 0,
        measures_factors=config.lora.average == "factors",
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
