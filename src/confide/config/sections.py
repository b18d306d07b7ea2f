"""The sections of the configuration: every key with its type, range, unit and default, and its meaning beneath it.

Defaults stand here and nowhere else. What two keys must not say together stands in `confide.config.schema`.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator


@dataclass(frozen=True)
class Unit:
    """What one of a number counts or measures; "ratio" for a pure number."""

    words: str


@dataclass(frozen=True)
class Form:
    """How a value is written, in words, where the type alone does not tell a reader."""

    words: str


@dataclass(frozen=True)
class Range:
    """The range of a number, in words, where it has a gap."""

    words: str


_NOT_EMPTY = Form("text that is not empty")


def _zero_or_a_range(value: float) -> float:
    """A fixed-point range that makes sense for the weights of a model; 0 stands for the profile's own."""
    if value != 0 and not 1e-12 <= value <= 1e6:
        raise ValueError("a range is 0, or 1e-12 to 1e6")
    return value


def _zero_or_above(value: float) -> float:
    """A number above 0; 0 stands for one that is not given."""
    if value < 0:
        raise ValueError("a number >= 0 is needed")
    return value


def _in_pairs(value: int) -> int:
    """A number of shadow models: they come in pairs."""
    if value % 2:
        raise ValueError("shadow models come in pairs")
    return value


_FEWEST_CANARY_CLIENTS = 10


def _none_or_several(value: int) -> int:
    """A number of canary clients: fewer would pass a run with half of its noise."""
    if value != 0 and value < _FEWEST_CANARY_CLIENTS:
        raise ValueError("too few canary clients to notice much")
    return value


class Section(BaseModel):
    """What all sections share: frozen, no unknown keys, no conversion between types, finite numbers."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class RunSection(Section):
    """The run: its name, its randomness, and the machine it uses."""

    name: Annotated[
        str,
        Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100),
        Form("text of letters, digits, '.', '_' and '-', at most 100, the first a letter or digit"),
    ] = "run"
    """Name of the run; its directory is `folder/name`."""

    folder: Annotated[str, Field(min_length=1), _NOT_EMPTY] = "runs"
    """Folder that holds run directories, relative to where the command is started."""

    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of every random choice; the same seed gives the same run on the same machine."""

    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:[0-9]+)?)$"), Form('"auto", "cpu", "cuda" or "cuda:N"')] = (
        "auto"
    )
    """Where tensors live; "auto" takes CUDA where there is a GPU, else the CPU."""

    threads: Annotated[int, Field(ge=0), Unit("threads")] = 0
    """CPU threads of torch; 0 takes one per physical core. More threads than free cores are far slower than one. A run
    that is resumed keeps the number it was started with."""

    loggers: Annotated[tuple[Literal["tensorboard", "mlflow", "wandb"], ...], Field(strict=False)] = ()
    """Trackers that get each round's numbers, beside rounds.jsonl; each needs the extra of its name."""


class ModelSection(Section):
    """The base model that everybody starts from; it is never changed."""

    base: Annotated[str, Field(min_length=1), _NOT_EMPTY]
    """Built-in name (`confide models list`), local folder, GGUF file, or hub id of a causal language model."""

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Number type of the base model's weights; "auto" takes bfloat16 on a GPU that has it, float16 on one that has not,
    and float32 on the CPU."""

    load_in_8bit: bool = False
    """Hold the base model's weights in 8 bits; needs CUDA and the extra `quantization`."""

    load_in_4bit: bool = False
    """Hold the base model's weights in 4 bits; needs CUDA and the extra `quantization`."""


class LoraSection(Section):
    """The LoRA adapter: the only weights that are trained and that travel."""

    rank: Annotated[int, Field(ge=1), Unit("dimensions")] = 16
    """Inner dimension of the two factors A and B of each adapted matrix."""

    alpha: Annotated[float, Field(gt=0), Unit("ratio")] = 32.0
    """Numerator of the adapter's scaling, alpha / rank."""

    full_rank: bool = False
    """Whether whole matrices are trained instead: A is the identity, B the matrix's change, and rank and alpha mean
    nothing. For small models, and to compare with: everything is as large as the matrices."""

    dropout: Annotated[float, Field(ge=0, lt=1), Unit("probability")] = 0.0
    """Probability that an input of the adapter is dropped in training."""

    targets: Annotated[
        Literal["auto", "all-linear"]
        | Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1, strict=False)],
        Form('"auto", "all-linear" or a list of module names such as ["q_proj", "v_proj"]'),
    ] = "auto"
    """Matrices that get an adapter; "auto" takes the attention matrices usual for the architecture."""

    average: Literal["freeze-a", "factors", "alternate"] = "freeze-a"
    """What travels: "freeze-a" only B, so that the mean is exact; "factors" A and B, averaged apart, which is not exact
    and is measured; "alternate" A and B in turn, round by round."""


class DataSection(Section):
    """The data: where it comes from, how it is read, and who owns which part."""

    source: Literal["auto", "jsonl", "csv", "parquet", "folder", "hub", "clinics", "sotu"] = "auto"
    """Kind of source. "auto" goes by the ending of `path`; "folder" is one file per client; "hub" is a data set id of
    the Hugging Face hub; "clinics" are generated patient letters; "sotu" are State of the Union addresses."""

    path: str = ""
    """File, folder or hub id, relative to where the command is started. Empty for "clinics" and "sotu"."""

    split: Annotated[str, Field(min_length=1), _NOT_EMPTY] = "train"
    """Split to read of a hub data set."""

    template: Literal["auto", "alpaca", "vicuna", "chat", "plain"] = "auto"
    """How a record becomes text; "chat" is the tokenizer's own, which "auto" takes where there is one."""

    instruction_column: Annotated[str, Field(min_length=1), _NOT_EMPTY] = "instruction"
    """Column of the instruction."""

    input_column: Annotated[str, Field(min_length=1), _NOT_EMPTY] = "input"
    """Column of the instruction's optional input."""

    response_column: Annotated[str, Field(min_length=1), _NOT_EMPTY] = "response"
    """Column of the response to learn."""

    messages_column: Annotated[str, Field(min_length=1), _NOT_EMPTY] = "messages"
    """Column of a conversation: a list of messages with role and content."""

    text_column: Annotated[str, Field(min_length=1), _NOT_EMPTY] = "text"
    """Column of plain text, learnt as a whole."""

    answer_column: Annotated[str, Field(min_length=1), _NOT_EMPTY] = "answer"
    """Column of the short reference answer, used by `confide evaluate` where the data has one."""

    choices_column: Annotated[str, Field(min_length=1), _NOT_EMPTY] = "choices"
    """Column of the options of a multiple-choice row, used by `confide evaluate` where the data has them."""

    id_column: Annotated[str, Field(min_length=1), _NOT_EMPTY] = "id"
    """Column of a row's own id; rows without one are known by file and line."""

    client_column: Annotated[str, Field(min_length=1), _NOT_EMPTY] = "client"
    """Column that names a row's owner, read by the partition "natural"."""

    label_column: Annotated[str, Field(min_length=1), _NOT_EMPTY] = "label"
    """Column of a row's class, read by the partitions "dirichlet" and "shards"."""

    partition: Literal["natural", "iid", "dirichlet", "shards", "quantity-skew"] = "natural"
    """Who owns which rows: "natural" by `client_column` (or by file); the others deal the rows out to `clients`."""

    clients: Annotated[int, Field(ge=0), Unit("clients")] = 0
    """Number of clients; 0 takes all that the partition "natural" finds (three for the source "clinics")."""

    dirichlet_alpha: Annotated[float, Field(gt=0), Unit("ratio")] = 0.5
    """Concentration of the partition "dirichlet": small gives each client few labels, large gives all the same mix."""

    shards_per_client: Annotated[int, Field(ge=1), Unit("shards")] = 2
    """Pieces of the rows sorted by label that each client gets in the partition "shards"."""

    size_exponent: Annotated[float, Field(ge=0), Unit("ratio")] = 1.0
    """Skew of the partition "quantity-skew": client i gets a share proportional to (i + 1) ** -size_exponent; 0 gives
    equal shares."""

    min_rows_per_client: Annotated[int, Field(ge=1), Unit("rows")] = 2
    """Fewest rows that a client may have; fewer is an error, so that nobody is lost silently."""

    max_rows_per_client: Annotated[int, Field(ge=0), Unit("rows")] = 0
    """Most rows that a client uses, drawn by the seed; 0 uses all."""

    held_out: Annotated[float, Field(ge=0, lt=1), Unit("fraction of rows")] = 0.1
    """Share of each client's rows that is never trained on and serves to measure."""

    clinic_letters: Annotated[int, Field(ge=0), Unit("rows per clinic")] = 40
    """Patient letters generated for each clinic by the source "clinics"."""

    clinic_instructions: Annotated[int, Field(ge=0), Unit("rows per clinic")] = 20
    """General medical instructions given to each clinic by the source "clinics"."""


class TrainSection(Section):
    """Local training: what each client does in each round."""

    optimizer: Literal["adamw", "sgd"] = "adamw"
    """Local optimiser; it starts fresh in every round."""

    learning_rate: Annotated[float, Field(gt=0, le=100), Unit("weight per step")] = 2e-4
    """Learning rate of the first round. "adamw" wants about 1e-5 to 1e-2, "sgd" often more; far beyond, training
    diverges."""

    schedule: Literal["constant", "cosine", "linear"] = "constant"
    """Curve of the learning rate over the rounds; inside a round it is constant."""

    min_learning_rate: Annotated[float, Field(ge=0), Unit("weight per step")] = 0.0
    """Learning rate that the schedules "cosine" and "linear" fall towards and would reach after the last round."""

    momentum: Annotated[float, Field(ge=0, lt=1), Unit("ratio")] = 0.0
    """Momentum of "sgd"."""

    adam_beta1: Annotated[float, Field(ge=0, lt=1), Unit("ratio")] = 0.9
    """Decay of the mean of gradients in "adamw"."""

    adam_beta2: Annotated[float, Field(ge=0, lt=1), Unit("ratio")] = 0.999
    """Decay of the mean of squared gradients in "adamw"."""

    adam_eps: Annotated[float, Field(gt=0), Unit("gradient")] = 1e-8
    """What "adamw" adds to the root of the mean of squared gradients."""

    weight_decay: Annotated[float, Field(ge=0), Unit("ratio")] = 0.0
    """Decoupled weight decay of "adamw", L2 penalty of "sgd"."""

    local_steps: Annotated[int, Field(ge=0), Unit("optimiser steps")] = 10
    """Optimiser steps of each client in a round; 0 counts in `local_epochs` instead."""

    local_epochs: Annotated[int, Field(ge=0), Unit("passes")] = 0
    """Passes of each client over its rows in a round; 0 counts in `local_steps` instead. Alone it sets those to 0."""

    batch_size: Annotated[int, Field(ge=1), Unit("examples")] = 8
    """Examples that go through the model at once."""

    accumulation: Annotated[int, Field(ge=1), Unit("batches")] = 1
    """Batches whose gradients make one optimiser step."""

    max_tokens: Annotated[int, Field(ge=2), Unit("tokens")] = 512
    """Length to which examples are cut; cuts are counted and reported."""

    clip_grad_norm: Annotated[float, Field(ge=0), Unit("L2 norm of the gradient")] = 1.0
    """Bound on the gradient of a step, for stability only: no privacy follows from it. 0 is off. Not used with
    `privacy.unit` "example", which bounds each example's gradient."""

    gradient_checkpointing: bool = False
    """Compute activations again on the way back: less memory, about a third more time."""

    regularizer: Literal["none", "prox", "kl", "l2"] = "none"
    """Term added to the loss: "prox" holds the adapter near the round's start, "kl" holds the predictions near
    `kl_reference`, "l2" keeps the adapter small."""

    regularizer_strength: Annotated[float, Field(ge=0), Unit("loss per unit of the term")] = 0.0
    """Factor of the regulariser."""

    kl_reference: Literal["base", "round", "both"] = "base"
    """Whose predictions "kl" holds on to: the base model's, those of the round's start, or both."""

    kl_direction: Literal["current-reference", "reference-current"] = "current-reference"
    """Which way "kl" measures: "current-reference" weighs by the current model's probabilities, "reference-current" by
    the reference's."""

    @model_validator(mode="before")
    @classmethod
    def _count_in_epochs_where_only_they_are_given(cls, values: object) -> object:
        if isinstance(values, dict) and values.get("local_epochs"):
            return {"local_steps": 0, **values}
        return values


class EvaluateSection(Section):
    """Measuring: during the run, and with `confide evaluate`."""

    every_rounds: Annotated[int, Field(ge=0), Unit("rounds")] = 0
    """Rounds between two measurements of the global adapter's loss on each client's held-out rows; 0 is never."""

    max_examples: Annotated[int, Field(ge=1), Unit("examples per client")] = 32
    """Held-out rows measured per client, the same ones each time."""

    max_new_tokens: Annotated[int, Field(ge=1), Unit("tokens")] = 64
    """Length of a generated answer."""

    batch_size: Annotated[int, Field(ge=1), Unit("examples")] = 8
    """Examples that go through the model at once while measuring."""


class FederationSection(Section):
    """The federation: rounds, who takes part, and how updates become the next global adapter."""

    rounds: Annotated[int, Field(ge=1), Unit("rounds")] = 10
    """Number of rounds; the learning-rate schedule depends on it."""

    clients_per_round: Annotated[int, Field(ge=0), Unit("clients")] = 0
    """Clients drawn for each round; 0 takes all."""

    min_clients: Annotated[int, Field(ge=1), Unit("clients")] = 3
    """Fewest valid updates that make a round; with fewer the round fails and the run can be resumed."""

    weights: Literal["examples", "equal"] = "examples"
    """A client's weight in the mean: its number of training examples, or the same for all."""

    max_weight: Annotated[int, Field(ge=0), Unit("examples")] = 0
    """Cap on the number of examples that a client is weighted by; 0 is no cap."""

    server_optimizer: Literal["fedavg", "fedavgm", "fedadagrad", "fedadam", "fedyogi", "scaffold"] = "fedavg"
    """How the mean update changes the global adapter."""

    server_learning_rate: Annotated[float, Field(ge=0, le=100), Unit("ratio")] = 0.0
    """Step of the server optimiser; 0 takes what suits it: 1.0 for fedavg, fedavgm and scaffold, which then take the
    mean update as it is, and 0.01 for the adaptive ones (fedadagrad, fedadam, fedyogi), where it is about how far a
    weight moves in a round."""

    server_momentum: Annotated[float, Field(ge=0, lt=1), Unit("ratio")] = 0.9
    """Momentum of "fedavgm"."""

    server_beta1: Annotated[float, Field(ge=0, lt=1), Unit("ratio")] = 0.9
    """Decay of the mean of updates in "fedadagrad", "fedadam" and "fedyogi"."""

    server_beta2: Annotated[float, Field(ge=0, lt=1), Unit("ratio")] = 0.99
    """Decay of the mean of squared updates in "fedadam" and "fedyogi"."""

    server_tau: Annotated[float, Field(gt=0), Unit("weight")] = 1e-3
    """How adaptive "fedadagrad", "fedadam" and "fedyogi" are: small is more; it is added to the root of the mean of
    squared updates."""


class PruneSection(Section):
    """Pruning: which coordinates of an update travel; the others cost no bytes."""

    sparsity: Annotated[float, Field(ge=0, lt=1), Unit("fraction of values")] = 0.0
    """Share of an update's coordinates that do not travel, or that the schedule leads to."""

    schedule: Literal["constant", "ramp", "scaled-ramp"] = "constant"
    """Sparsity over the rounds: "constant"; "ramp" none before `ramp_start`, then from `initial_sparsity` in a straight
    line to `sparsity` at `ramp_end`; "scaled-ramp" the same with the first fifth of this run's rounds unpruned."""

    mask: Literal["none", "common", "random", "published"] = "none"
    """Who travels: "common" what the global adapter moved most and a random rest, "random" a random part, both the same
    at all clients, with what is dropped remembered for the next round; "published" each client zeroes its own small
    weights and sends the zeros, for comparison: no bytes are saved, and what is dropped is lost."""

    exploration: Annotated[float, Field(gt=0, le=1), Unit("fraction of kept values")] = 0.1
    """Share of the kept coordinates that the mask "common" draws at random, so that none is shut out for ever."""

    initial_sparsity: Annotated[float, Field(ge=0, lt=1), Unit("fraction of values")] = 0.2
    """Sparsity of a ramp's first pruned round."""

    ramp_start: Annotated[int, Field(ge=0), Unit("rounds")] = 40
    """Rounds that go by unpruned in the schedule "ramp"."""

    ramp_end: Annotated[int, Field(ge=1), Unit("rounds")] = 200
    """Rounds after which the schedule "ramp" has reached `sparsity`."""


class DeploySection(Section):
    """A run between organisations (`confide deploy`): how long the server waits. In one process nothing waits."""

    join_seconds: Annotated[float, Field(ge=1, le=86400), Unit("seconds")] = 600.0
    """How long a run waits at its start for members to come and to load the model; it then goes on without those that
    have not, if the others are enough."""

    train_seconds: Annotated[float, Field(ge=1, le=604800), Unit("seconds")] = 3600.0
    """How long a member may take to train in a round; a slower one is left out of that round. Updates of more than
    1 MiB have as long again, at most an hour, to be handed over, all of them together."""

    answer_seconds: Annotated[float, Field(ge=1, le=86400), Unit("seconds")] = 300.0
    """How long a member may take for anything else: to sign, release and open, held-out evaluation included. Answers
    of more than 1 MiB have as long again, at most an hour, to be handed over."""


class SealSection(Section):
    """Sealing: what hides a client's update from everybody else."""

    scheme: Literal["plain", "published", "shared", "onetime"] = "onetime"
    """How an update is sealed: "onetime" nobody can open one, clients together open the sum; "shared" the server
    cannot, every client can; "published" the same with a published paper's parameters, to compare with (its own extra);
    "plain" hides nothing: the server can read every update."""

    profile: Literal["compact", "precise", "ultra"] = "compact"
    """Bits per value of "onetime" and "shared": "compact" 16, "precise" 24 (23), "ultra" 11 ("onetime" only)."""

    threshold: Annotated[int, Field(ge=0), Unit("clients")] = 0
    """Clients that open a sum of "onetime" together, more than half of all; 0 takes the fewest that are."""

    release: Literal["clients", "server"] = "clients"
    """Who gets a round's sum and the global adapter: only the clients, or the server too."""

    processes: Annotated[int, Field(ge=1, le=64), Unit("processes")] = 1
    """Processes that seal one client's update with "onetime": more than one pays for large adapters on idle cores.
    Speed only: the sum is the same."""

    initial_range: Annotated[
        float,
        AfterValidator(_zero_or_a_range),
        Range("= 0, or >= 1e-12 and <= 1e6"),
        Unit("weight"),
    ] = 0.0
    """Largest size of an update's values in the first round; later ranges follow from the last opened sum. 0 takes the
    profile's own, 0.125 to 0.5."""

    max_saturated: Annotated[float, Field(ge=0, lt=1), Unit("fraction of values")] = 1e-3
    """Share of an update's values that may lie outside the range; with more the round is done again in a wider one, up
    to 64 times as wide, and then the run stops."""


class PrivacySection(Section):
    """Differential privacy of what is released."""

    unit: Literal["none", "example", "client", "both"] = "none"
    """Whose presence the guarantee hides. "example": one training row, from everyone, by DP-SGD at its client.
    "client": all that one client contributes, from everyone who sees opened sums and adapters, by noise that all
    clients add together. "both": both at once, each with its own epsilon. "none" gives no formal guarantee, and every
    output says so."""

    target_epsilon: Annotated[float, AfterValidator(_zero_or_above), Range("= 0, or > 0"), Unit("epsilon")] = 0.0
    """What the whole run may cost; the noise follows from it. Left out where `privacy.noise_multiplier` is given. With
    "both", what it may cost one row."""

    noise_multiplier: Annotated[float, AfterValidator(_zero_or_above), Range("= 0, or > 0"), Unit("ratio")] = 0.0
    """Standard deviation of the noise over `privacy.clip_norm`; epsilon follows from it. Left out where
    `privacy.target_epsilon` is given: a 0 beside that is refused."""

    delta: Annotated[float, Field(gt=0, lt=1), Unit("probability")] = 1e-5
    """Delta of the guarantee, with "both" of each: well below one over the number of rows ("example") or clients
    ("client")."""

    clip_norm: Annotated[float, Field(ge=1e-6, le=1e6), Unit("L2 norm")] = 1.0
    """Bound on one example's gradient ("example") or on one client's update ("client"): smaller is less noise in
    absolute terms, and more of the gradient or update lost. Without a bound nothing is guaranteed, so there
    always is one; 1.0 is a start. With "both", on one example's gradient."""

    client_target_epsilon: Annotated[float, AfterValidator(_zero_or_above), Range("= 0, or > 0"), Unit("epsilon")] = 0.0
    """With "both": what the whole run may cost one client. Left out where `privacy.client_noise_multiplier` is
    given."""

    client_noise_multiplier: Annotated[float, AfterValidator(_zero_or_above), Range("= 0, or > 0"), Unit("ratio")] = 0.0
    """With "both": standard deviation of the noise on updates over `privacy.client_clip_norm`. Left out where
    `privacy.client_target_epsilon` is given: a 0 beside that is refused."""

    client_clip_norm: Annotated[float, Field(ge=1e-6, le=1e6), Unit("L2 norm")] = 1.0
    """With "both": bound on one client's update. Without a bound nothing is guaranteed, so there always is one; 1.0 is
    a start."""

    coalition: Annotated[int, Field(ge=1), Unit("clients")] = 1
    """With "client" and "both": how many clients may put together what they know of their own noise without seeing a
    sum with less than is accounted for: each client knows its own, so at least 1."""

    accountant: Literal["pld", "rdp"] = "pld"
    """How epsilon of a row is computed: "pld" is the tighter one. That of a client is always computed with "rdp"."""

    randomness: Literal["system", "seeded"] = "system"
    """Where noise comes from: the operating system, or for tests the run's seed. Who knows the seed knows the noise."""

    on_budget: Literal["stop", "fail"] = "stop"
    """What a run does where one more round would pass the target (releases that were made twice count twice): end as
    finished with the last model inside it, or fail."""

    @property
    def seeded_noise(self) -> bool:
        """Whether who knows the run's seed knows the noise."""
        return self.randomness == "seeded"

    @property
    def hides_rows(self) -> bool:
        """Whether training itself is private."""
        return self.unit in ("example", "both")

    @property
    def hides_clients(self) -> bool:
        """Whether updates are noised."""
        return self.unit in ("client", "both")


class AuditSection(Section):
    """Auditing: what goes into the data so that it can be looked for, what is kept, and what `confide audit` does."""

    record: bool = False
    """Whether the run keeps what each party saw, single clients' updates included, in RUN/transcript, marked private:
    attacks on updates need it, all others do not."""

    canaries: Annotated[
        tuple[Literal["records", "personal", "random", "reserved", "ladder"], ...], Field(strict=False)
    ] = ()
    """What fair coins put into each client's training data or leave out, before training: "records" rows of its own,
    "personal" notes about invented people with a number each, "random" texts of random words, "reserved" rows with a
    vocabulary token that nothing else uses, "ladder" people with 1, 2, 4, 8 and 16 notes. Without any, an audit cannot
    know what is due to the data and what to training, and says so."""

    records_per_client: Annotated[int, Field(ge=1), Unit("rows per client")] = 16
    """Rows of each client that get a coin with "records"; about half of them are not trained on."""

    canaries_per_client: Annotated[int, Field(ge=1), Unit("canaries per client")] = 8
    """Canaries of each other kind that get a coin at each client; about half of them go in."""

    canary_clients: Annotated[int, AfterValidator(_none_or_several), Range("= 0, or >= 10"), Unit("clients")] = 0
    """Further clients without data that take part like any other and send a random direction of the full length
    `privacy.clip_norm` (with "both" `privacy.client_clip_norm`) in every round: how far sums and the model lean their
    way measures a client's epsilon with `privacy.unit` "client" or "both". Fewer than ten would hardly notice half of
    the noise. Such a model is for an audit and not for use."""

    views: Annotated[
        tuple[Literal["final", "client", "coalition", "server"], ...], Field(min_length=1, strict=False)
    ] = ("final", "client", "coalition", "server")
    """From whose point of view the run is attacked: "final" who gets the final model, "client" one client, which sees
    every round, "coalition" two clients together, "server" the server, with what it holds under the run's scheme. In a
    sealed run with `audit.record` "server" also asks what single updates would tell if the run were not sealed; that
    stands apart, and counts as no finding."""

    attacks: Annotated[
        tuple[Literal["membership", "extraction", "exposure", "updates"], ...], Field(min_length=1, strict=False)
    ] = ("membership", "extraction", "exposure", "updates")
    """Families of attacks: "membership" was a row trained on, "extraction" what text comes out, "exposure" how far a
    planted number is above all others, "updates" what single and summed updates tell."""

    records_per_attack: Annotated[int, Field(ge=1), Unit("rows per client")] = 16
    """Rows of each client, trained on and not, that texts are generated for: most of an audit's time goes into that."""

    rounds_per_attack: Annotated[int, Field(ge=1), Unit("rounds")] = 6
    """Rounds whose models an attack over rounds looks at, evenly spread, the first and the last among them; 1 takes the
    last alone. Each costs a pass over every record, and with `audit.protocol` texts. Whatever this is, the two-model
    attack sets each of them against the round right before it. An older model that is chosen on the attacker's own
    records is one of these rounds, that one or the base model; each round to choose from costs three texts a record, of
    at most eight."""

    max_new_tokens: Annotated[int, Field(ge=1), Unit("tokens")] = 48
    """Length of a generated text."""

    taus: Annotated[
        tuple[Annotated[float, Field(gt=0)], ...],
        Field(min_length=1, strict=False),
        Form("a list of numbers"),
        Range("> 0"),
        Unit("probability"),
    ] = (0.01, 0.1, 1.0)
    """How strongly the two-model attack follows what the newer model says more readily than the older one, in its form
    with probabilities: small is strong. The attacker chooses among these, and among fixed strengths of the form with
    raw logits, on its own records; who has none takes the first. The older model is the base model, that of the round
    right before or, chosen with the strength, any round that is looked at (`audit.rounds_per_attack`); rounds further
    back than the one right before are tried with the best strengths of the other two alone."""

    top_ps: Annotated[
        tuple[Annotated[float, Field(gt=0, le=1)], ...],
        Field(min_length=1, strict=False),
        Form("a list of numbers"),
        Range("> 0 and <= 1"),
        Unit("probability"),
    ] = (0.9, 1.0)
    """The likeliest tokens of the newer model that together reach this probability are what the two-model attack can
    say at all; chosen as `audit.taus` are."""

    samples: Annotated[int, Field(ge=1), Unit("texts")] = 30
    """Texts sampled from nothing, per model; behind the attacker's own prefixes at most eight times as many."""

    full_ranking: Annotated[int, Field(ge=0), Unit("secrets")] = 10_000
    """Where there are so many possible secrets of a form or fewer, a planted one is ranked among all of them: phone
    numbers have ten thousand, and ranks show up to 13.3 bits of exposure. All beginnings of a secret are read once,
    1,111 for a number of four digits: some five seconds for every secret and model of 135 million weights on one CPU
    core. 0 takes a sample always."""

    alternatives: Annotated[int, Field(ge=10), Unit("secrets")] = 64
    """Other secrets of the same form that a planted one is ranked against where there are more than
    `audit.full_ranking`. Ranks show at most log2(n + 1) bits of exposure; from 30 up, and 100 over all secrets, a
    fitted distribution goes beyond. Each costs a pass for every secret and model."""

    protocol: bool = False
    """Whether attacks that take long run as well. On plain rows the leakage paper's protocol: texts drawn from each
    model that is looked at, and from each amplified against the round before, behind 80 % and 30 % of a row, behind a
    disturbed one and behind nothing; for five rounds that is 33 texts a row, half of them from two models at once. On
    planted ones the harvest of a model that the attacker tunes on its own personal data."""

    shadows: Annotated[
        int, Field(ge=0), AfterValidator(_in_pairs), Range("even (they come in pairs)"), Unit("models")
    ] = 0
    """Models that the attacker trains itself, as the clients train, on random halves of the records that are asked
    about: what LiRA and RMIA compare with. Each costs about one client's whole training; 4 are a good number, 2 are
    too few for LiRA."""
