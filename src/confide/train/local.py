"""A client's local training: a few optimiser steps from the global adapter, on its own examples only.

Own loop, short enough to read. It takes plain arguments, draws only from named streams, and leaves nothing behind in
the shared model that the next client could notice: the adapter is overwritten when the next one starts.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from confide.data.batches import Batch, collate, example_order, plan_batches
from confide.data.examples import TokenizedExample
from confide.errors import NonFiniteLossError
from confide.model.lora import AdaptedModel
from confide.seeds import stream, torch_stream
from confide.train.forward import TargetScorer
from confide.train.regularizers import KlDirection, KlReference, KlReferences, Regularizer, kl_sum, squared_distance
from confide.update import Layout, Vector


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
    """The local optimiser; made fresh every round.

    Attributes:
        kind: "adamw" (Loshchilov & Hutter 2019) or "sgd" (with `momentum`).
        adam_eps: the optimiser's eps, no privacy parameter.
        clip_grad_norm: bound on the L2 norm of a step's whole gradient; 0 = off.
    """

    kind: Literal["adamw", "sgd"] = "adamw"
    momentum: float = 0.0
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    adam_eps: float = 1e-8
    weight_decay: float = 0.0
    clip_grad_norm: float = 1.0

    def make(self, parameters: Sequence[torch.nn.Parameter], learning_rate: float) -> torch.optim.Optimizer:
        """A torch optimiser over the parameters."""
        if self.kind == "sgd":
            return torch.optim.SGD(parameters, lr=learning_rate, momentum=self.momentum, weight_decay=self.weight_decay)
        return torch.optim.AdamW(
            parameters,
            lr=learning_rate,
            betas=(self.adam_beta1, self.adam_beta2),
            eps=self.adam_eps,
            weight_decay=self.weight_decay,
        )


@dataclass(frozen=True, kw_only=True)
class RegularizerSettings:
    """What is added to the loss: `strength` times the term of `kind` (see train/regularizers.py)."""

    kind: Regularizer = "none"
    strength: float = 0.0
    kl_reference: KlReference = "base"
    kl_direction: KlDirection = "current-reference"


@dataclass(frozen=True, kw_only=True)
class LocalSettings:
    """How a client trains in every round; exactly one of `local_steps` and `local_epochs` is set.

    Attributes:
        local_steps: optimiser steps a round.
        local_epochs: passes over the client's own examples a round.
        batch_size: examples in one forward pass.
        accumulation: forward passes in one optimiser step.
        gradient_checkpointing: compute activations again on the way back, to save memory.
    """

    local_steps: int | None = 10
    local_epochs: int | None = None
    batch_size: int = 8
    accumulation: int = 1
    gradient_checkpointing: bool = False
    optimizer: OptimizerSettings = OptimizerSettings()
    regularizer: RegularizerSettings = RegularizerSettings()

    def num_examples(self, available: int) -> int:
        """How many examples (with repetition) one round reads, when the client has `available` of them."""
        if self.local_epochs is not None:
            return self.local_epochs * available
        return (self.local_steps or 0) * self.batch_size * self.accumulation


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """One optimiser step, for progress displays.

    Attributes:
        step: from 1 to `num_steps`.
        loss: mean negative log-likelihood per target token of this step's examples, in nats.
    """

    step: int
    num_steps: int
    loss: float


@dataclass(frozen=True, kw_only=True)
class LocalMetrics:
    """What one client's training in one round looked like: a diagnostic about the client, kept apart from results.

    Attributes:
        loss: mean over steps of the step's mean loss, in nats per target token, without the regulariser.
        first_loss, last_loss: of the first and the last step.
        regularizer: mean over steps of the added term, strength included.
        gradient_norm: mean over steps of the L2 norm before clipping.
        num_tokens: real tokens read, padding excluded.
    """

    num_steps: int
    num_examples: int
    num_tokens: int
    num_targets: int
    loss: float
    first_loss: float
    last_loss: float
    regularizer: float
    gradient_norm: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class LocalResult:
    """Where local training ended.

    Attributes:
        vector: values of the trained slots, flat float32 in the trained layout's order.
    """

    vector: Vector = field(repr=False)
    metrics: LocalMetrics


class LocalTrainer:
    """Trains the shared model's adapter for one client at a time.

    Args:
        model: base model with one LoRA adapter; shared by all clients of the process.
        settings: the same for every client.
        seed: the run's seed, from which the streams "order", "batches" and "dropout" are derived.
    """

    def __init__(self, model: AdaptedModel, settings: LocalSettings, *, seed: int) -> None:
        self._model = model
        self._settings = settings
        self._seed = seed
        self._pad_token_id = int(model.tokenizer.pad_token_id)
        self.scorer = TargetScorer(model.module)
        if settings.gradient_checkpointing:
            model.module.get_base_model().activation_checkpointing_enable({"use_reentrant": False})

    def train(
        self,
        *,
        client: str,
        round_number: int,
        start: Vector,
        trained: Layout,
        examples: Sequence[TokenizedExample],
        num_seen: int,
        learning_rate: float,
        correction: Vector | None = None,
        on_step: Callable[[StepReport], None] | None = None,
    ) -> LocalResult:
        """Runs one round's local steps.

        Args:
            client: names the random streams, and errors.
            round_number: from 1.
            start: the global adapter, flat over the model's whole layout.
            trained: the slots to train, a part of the model's layout; all others stay as in `start`.
            examples: the client's own, at least one.
            num_seen: examples this client has read in earlier rounds; the walk over its data goes on from there.
            learning_rate: constant for the round.
            correction: added to every step's gradient (SCAFFOLD's c - c_i), flat over `trained`.
            on_step: called after every optimiser step; may raise to stop.

        Guarantees:
            - The result depends only on the arguments, the settings, the seed and the number of threads.

        Raises:
            NonFiniteLossError: a step's loss or gradient, or a weight after the last step, is NaN or infinite.
        """
        settings = self._settings
        began = time.perf_counter()
        self._model.write(start)
        self._model.set_trainable(trained)
        parameters = self._model.parameters_of(trained)
        optimizer = settings.optimizer.make(parameters, learning_rate)
        penalty = _Penalty(self._model, self.scorer, settings.regularizer, parameters, start)
        corrections = _split(correction, trained, parameters)
        meter = _Meter()
        steps = self._steps(client, round_number, examples, num_seen)
        module = self._model.module
        was_training = module.training
        module.train()
        try:
            with torch_stream(self._seed, "dropout", client, round_number):
                for number, micro_batches in enumerate(steps, start=1):
                    loss, added = self._backward(micro_batches, penalty)
                    _add_to_gradients(parameters, corrections)
                    norm = _clip(parameters, settings.optimizer.clip_grad_norm)
                    _check_finite(loss, norm, client=client, round_number=round_number, step=number)
                    optimizer.step()
                    optimizer.zero_grad(set_to_none=True)
                    meter.add(micro_batches, loss, added, norm)
                    if on_step is not None:
                        on_step(StepReport(step=number, num_steps=len(steps), loss=loss))
        finally:
            module.train(was_training)
            optimizer.zero_grad(set_to_none=True)
        vector = self._model.layout.gather(self._model.read(), trained)
        if not np.isfinite(vector).all():  # a loss shows what the step before it did: nothing shows the last one
            raise _not_finite("a weight is not finite", client=client, round_number=round_number, step=len(steps))
        return LocalResult(vector=vector, metrics=meter.metrics(time.perf_counter() - began))

    def _steps(
        self, client: str, round_number: int, examples: Sequence[TokenizedExample], num_seen: int
    ) -> list[list[list[TokenizedExample]]]:
        """The round's examples as steps of micro-batches of similar length."""
        batches = [[examples[at] for at in batch] for batch in self.plan(client, round_number, examples, num_seen)]
        size = self._settings.accumulation
        return [batches[at : at + size] for at in range(0, len(batches), size)]

    def plan(
        self, client: str, round_number: int, examples: Sequence[TokenizedExample], num_seen: int
    ) -> list[list[int]]:
        """The positions of the examples in each forward pass of a round, in order; arguments as for `train`."""
        count = self._settings.num_examples(len(examples))
        walk = example_order(len(examples), num_seen, count, seed=self._seed, client=client)
        rng = stream(self._seed, "batches", client, round_number)
        return plan_batches(walk, [example.num_tokens for example in examples], self._settings.batch_size, rng)

    def _backward(
        self, micro_batches: Sequence[Sequence[TokenizedExample]], penalty: "_Penalty"
    ) -> tuple[float, float]:
        """Accumulates the gradient of one step: mean over all its targets, plus the penalty."""
        num_targets = sum(int(example.loss_mask.sum()) for batch in micro_batches for example in batch)
        loss_total, added_total = 0.0, 0.0
        for examples in micro_batches:
            batch = collate(examples, self._pad_token_id).to(self._model.base.device)
            references = penalty.reference_states(batch)
            states, targets = self.scorer.states(batch)
            loss = self.scorer.loss_sum_of(states, targets) / num_targets
            added = penalty.per_batch(states, references) / num_targets
            (loss + added if references else loss).backward()
            loss_total += float(loss.detach())
            added_total += float(added.detach())
        on_weights = penalty.on_weights()
        if on_weights is not None:
            on_weights.backward()
            added_total += float(on_weights.detach())
        return loss_total, added_total


class _Penalty:
    """The regulariser of one client's round: what it adds per batch, and what it adds once a step."""

    def __init__(
        self,
        model: AdaptedModel,
        scorer: TargetScorer,
        settings: RegularizerSettings,
        parameters: Sequence[torch.nn.Parameter],
        start: Vector,
    ) -> None:
        self._settings = settings
        self._scorer = scorer
        self._parameters = parameters
        self._anchors = [parameter.detach().clone() for parameter in parameters] if settings.kind == "prox" else None
        contexts = []
        if settings.kind == "kl" and settings.kl_reference in ("base", "both"):
            contexts.append(model.base_only)
        if settings.kind == "kl" and settings.kl_reference in ("round", "both"):
            contexts.append(lambda: _temporarily(model, start))
        self._references = KlReferences(scorer=scorer, contexts=contexts)

    def reference_states(self, batch: Batch) -> list[Tensor]:
        return self._references.states(batch) if self._references.contexts else []

    def per_batch(self, states: Tensor, references: Sequence[Tensor]) -> Tensor:
        total = torch.zeros((), device=states.device)
        for reference in references:
            total = total + kl_sum(self._scorer, states, reference, self._settings.kl_direction)
        return self._settings.strength * total

    def on_weights(self) -> Tensor | None:
        if self._settings.kind not in ("prox", "l2"):
            return None
        return self._settings.strength * squared_distance(self._parameters, self._anchors)


@contextmanager
def _temporarily(model: AdaptedModel, vector: Vector) -> Iterator[None]:
    """Puts another adapter into the model for the body, then puts back what was there."""
    current = model.read()
    model.write(vector)
    try:
        yield
    finally:
        model.write(current)


def _split(correction: Vector | None, trained: Layout, parameters: Sequence[torch.nn.Parameter]) -> list[Tensor] | None:
    if correction is None:
        return None
    named = trained.unflatten(correction)
    return [
        torch.from_numpy(named[slot.name].copy()).to(parameter.device)
        for slot, parameter in zip(trained, parameters, strict=True)
    ]


def _add_to_gradients(parameters: Sequence[torch.nn.Parameter], corrections: Sequence[Tensor] | None) -> None:
    for parameter, correction in zip(parameters, corrections or (), strict=corrections is not None):
        if parameter.grad is not None:
            parameter.grad.add_(correction)


def _clip(parameters: Sequence[torch.nn.Parameter], bound: float) -> float:
    """Clips the gradient to `bound` (0 = not at all) and gives the norm it had."""
    return float(torch.nn.utils.clip_grad_norm_(parameters, bound if bound > 0 else math.inf))


def _check_finite(loss: float, norm: float, *, client: str, round_number: int, step: int) -> None:
    if math.isfinite(loss) and math.isfinite(norm):
        return
    what = f"the loss is {loss}" if not math.isfinite(loss) else f"the gradient's norm is {norm}"
    raise _not_finite(what, client=client, round_number=round_number, step=step)


def _not_finite(what: str, *, client: str, round_number: int, step: int) -> NonFiniteLossError:
    return NonFiniteLossError(
        f"client {client}, round {round_number}, step {step}: {what}. The last complete round is saved. "
        "Lower train.learning_rate, set train.clip_grad_norm (1.0 is usual), or use model.dtype = 'float32', and start "
        "a new run with --set run.name=NAME: a resumed run keeps its configuration."
    )


class _Meter:
    """Collects a round's numbers, step by step."""

    def __init__(self) -> None:
        self._losses: list[float] = []
        self._added: list[float] = []
        self._norms: list[float] = []
        self._examples = self._tokens = self._targets = 0

    def add(self, micro_batches: Sequence[Sequence[TokenizedExample]], loss: float, added: float, norm: float) -> None:
        self._losses.append(loss)
        self._added.append(added)
        self._norms.append(norm)
        for example in (example for batch in micro_batches for example in batch):
            self._examples += 1
            self._tokens += example.num_tokens
            self._targets += int(example.loss_mask.sum())

    def metrics(self, seconds: float) -> LocalMetrics:
        return LocalMetrics(
            num_steps=len(self._losses),
            num_examples=self._examples,
            num_tokens=self._tokens,
            num_targets=self._targets,
            loss=float(np.mean(self._losses)),
            first_loss=self._losses[0],
            last_loss=self._losses[-1],
            regularizer=float(np.mean(self._added)),
            gradient_norm=float(np.mean(self._norms)),
            seconds=seconds,
        )
