"""The sections of a member's policy file: every key with its type, range and default, and its meaning beneath it."""

from typing import Annotated, Literal

from pydantic import Field

from confide.config.sections import Form, Section, Unit

Phase = Literal["offer", "train", "sign", "release", "open", "state", "catch-up", "finish"]

_DIGEST = r"^[0-9a-f]{64}$"


class SealingPolicy(Section):
    """Who can read an update of this member."""

    schemes: Annotated[tuple[Literal["onetime", "plain"], ...], Field(min_length=1, strict=False)] = ("onetime",)
    """Sealing schemes that are accepted. With "plain" the server reads every update of this member."""

    least_members: Annotated[int, Field(ge=1), Unit("members")] = 3
    """Fewest members of a sum that this member's update may be part of (federation.min_clients). Of a sum of two, each
    knows the other's update."""

    least_threshold: Annotated[int, Field(ge=0), Unit("members")] = 0
    """Fewest members that open a sum together (seal.threshold); 0 asks for no number. They are always more than half
    of the roster."""

    least_threshold_share: Annotated[float, Field(ge=0, le=1), Unit("fraction of the roster")] = 0.0
    """The same as a share of the roster; 0.0 asks for no share. docs/trust.md says how many members may collude."""

    server_may_read: bool = False
    """Whether the server may get each round's sum and the global adapter (seal.release = "server")."""


class PrivacyPolicy(Section):
    """Differential privacy that a run must have."""

    units: Annotated[tuple[Literal["example", "client", "both"], ...], Field(strict=False)] = ()
    """Units of privacy that are accepted (privacy.unit). Empty requires none: then nothing bounds what the final model
    may tell about this member's rows."""

    largest_epsilon: Annotated[float, Field(ge=0), Unit("epsilon")] = 0.0
    """Largest target_epsilon and client_target_epsilon of a run. 0.0 sets no bound; with one, a run that has no
    guarantee, or gives noise instead of a target, is refused."""

    largest_delta: Annotated[float, Field(gt=0, lt=1), Unit("probability")] = 1e-5
    """Largest delta of a guarantee (privacy.delta); without a bound on it epsilon says nothing."""

    least_coalition: Annotated[int, Field(ge=1), Unit("members")] = 1
    """Fewest members that may collude without weakening the guarantee of a client (privacy.coalition)."""

    seeded_noise: bool = False
    """Whether noise may come from the run's seed (privacy.randomness = "seeded"). The server chose the seed: it could
    take the noise off again. For trying out only."""


class RunPolicy(Section):
    """How many runs there may be, and how much work and how many releases each may ask for."""

    most_runs: Annotated[int, Field(ge=1), Unit("runs")] = 20
    """Most runs that this member ever accepts. Epsilons of several runs on the same rows add up, so this times
    privacy.largest_epsilon is what all may cost together."""

    most_rounds: Annotated[int, Field(ge=1), Unit("rounds")] = 100
    """Most rounds of a run (federation.rounds): every round opens one more sum."""

    most_local_steps: Annotated[int, Field(ge=1), Unit("optimiser steps")] = 1000
    """Most local steps of a round (train.local_steps)."""

    most_local_epochs: Annotated[int, Field(ge=1), Unit("passes")] = 10
    """Most passes over this member's rows in a round (train.local_epochs)."""

    most_batch_size: Annotated[int, Field(ge=1), Unit("examples")] = 256
    """Most examples that go through the model at once (train.batch_size)."""

    most_accumulation: Annotated[int, Field(ge=1), Unit("batches")] = 64
    """Most batches of one local step (train.accumulation)."""

    most_tokens: Annotated[int, Field(ge=2), Unit("tokens")] = 8192
    """Longest that an example may be (train.max_tokens)."""

    most_rank: Annotated[int, Field(ge=1), Unit("dimensions")] = 256
    """Largest rank of an adapter (lora.rank): its memory and its messages grow with it."""

    full_rank: bool = False
    """Whether whole matrices may be trained in place of an adapter of a rank (lora.full_rank): everything is then as
    large as the matrices."""

    most_evaluate_examples: Annotated[int, Field(ge=1), Unit("examples")] = 1000
    """Most held-out rows that are measured after a round (evaluate.max_examples)."""

    most_evaluate_batch_size: Annotated[int, Field(ge=1), Unit("examples")] = 256
    """Most examples that go through the model at once while measuring (evaluate.batch_size)."""

    phases: Annotated[tuple[Phase, ...], Field(min_length=1, strict=False)] = (
        "offer",
        "train",
        "sign",
        "release",
        "open",
        "state",
        "catch-up",
        "finish",
    )
    """Requests of the server that are answered. Without one of them a run gets no further than that; "state" and
    "catch-up" are how a member that was away gets on."""


class ModelPolicy(Section):
    """Base models that a run may start from."""

    bases: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(strict=False), Form("a list of names")] = ()
    """Names of base models that are accepted (model.base). Empty takes any. A name alone does not say what is behind
    it: add the digest."""

    digests: Annotated[
        tuple[Annotated[str, Field(pattern=_DIGEST)], ...],
        Field(strict=False),
        Form("a list of digests of 64 hexadecimal digits each"),
    ] = ()
    """Digests of base models that are accepted, as this member's node shows them when it has loaded one. Empty takes
    any."""
