"""A client's local training: a few optimiser steps from the global adapter, on its own examples only.

Own loop, short enough to read. It takes plain arguments, draws only from named streams, and leaves nothing behind in
the shared model that the next client could notice: the adapter is overwritten when the next one starts.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from confide.data.batches import example_order, plan_batches
from confide.data.examples import TokenizedExample
from confide.errors import ConfigError, NonFiniteLossError
from confide.model.lora import AdaptedModel
from confide.seeds import stream, torch_stream
from confide.train.forward import TargetScorer
from confide.train.meter import Meter
from confide.train.objective import Objective
from confide.train.objective import RegularizerSettings as RegularizerSettings  # a part of the settings here
from confide.train.optimizer import OptimizerSettings
from confide.train.outcome import LocalResult, StepReport
from confide.train.private import PrivateSettings, PrivateSteps
from confide.train.steps import MeanSteps, MicroBatches, RoundSteps, StepGradient
from confide.update import Layout, Vector


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
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    regularizer: RegularizerSettings = field(default_factory=RegularizerSettings)

    def num_examples(self, available: int) -> int:
        """How many examples (with repetition) one round reads, when the client has `available` of them."""
        if self.local_epochs is not None:
            return self.local_epochs * available
        return (self.local_steps or 0) * self.batch_size * self.accumulation


class LocalTrainer:
    """Trains the shared model's adapter for one client at a time.

    Args:
        model: base model with one LoRA adapter; shared by all clients of the process.
        settings: the same for every client.
        seed: the run's seed, from which the streams "order", "batches" and "dropout" are derived.
        private: makes every step one of DP-SGD (see train/private.py); of one client, as its sampling rate is. The
            numbers of steps and examples in `settings` are not used then, nor is the seed.

    Raises:
        ConfigError: private training with gradient checkpointing.
    """

    def __init__(
        self, model: AdaptedModel, settings: LocalSettings, *, seed: int, private: PrivateSettings | None = None
    ) -> None:
        if private is not None and settings.gradient_checkpointing:
            # Layers run twice then, and the hooks that keep each example's gradient count the second run as another.
            raise ConfigError(
                "train.gradient_checkpointing is on, expected off with privacy.unit = 'example'. To save memory, lower "
                "how many examples go through the model at once."
            )
        self._model = model
        self._settings = settings
        self._seed = seed
        self._private = private
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
            correction: added to every step's gradient (SCAFFOLD's c - c_i), flat over `trained`; in private training
                after the noise, so it must follow from what was released.
            on_step: called after every optimiser step; may raise to stop.

        Guarantees:
            - The result depends only on the arguments, the settings, the seed and the number of threads; in private
              training, on the private draws instead of the seed.

        Raises:
            NonFiniteLossError: a step's loss or gradient, the gradient of one example in private training, or a weight
                after the last step, is NaN or infinite. Nothing of the round has left then.
            ModelError: private training of what has no per-example gradients.
        """
        settings = self._settings
        began = time.perf_counter()
        self._model.write(start)
        self._model.set_trainable(trained)
        parameters = self._model.parameters_of(trained)
        optimizer = settings.optimizer.make(parameters, learning_rate)
        objective = Objective(self._model, self.scorer, settings.regularizer, parameters, start)
        corrections = _split(correction, trained, parameters)
        steps = self._round_steps(objective, client, round_number, examples, num_seen)
        bound = settings.optimizer.clip_grad_norm if self._private is None else 0.0
        meter = Meter(math.inf if self._private is None else self._private.clip_norm)
        module = self._model.module
        was_training = module.training
        module.train()
        try:
            with torch_stream(steps.dropout_seed, "dropout", client, round_number), steps.running():
                for number, batches in enumerate(steps.batches, start=1):
                    made = steps.make_gradient(batches)
                    _add_to_gradients(parameters, corrections)
                    norm = _clip(parameters, bound)
                    # What a private step says of single examples decides nothing: only what it releases does.
                    told = made if self._private is None else replace(made, loss=0.0, example_norms=())
                    _check_finite(told, norm, batches, client=client, round_number=round_number, step=number)
                    optimizer.step()
                    optimizer.zero_grad(set_to_none=True)
                    meter.add(batches, made, norm)
                    if on_step is not None:
                        on_step(StepReport(step=number, num_steps=len(steps.batches), loss=made.loss))
        finally:
            module.train(was_training)
            optimizer.zero_grad(set_to_none=True)
        vector = self._model.layout.gather(self._model.read(), trained)
        if not np.isfinite(vector).all():  # a loss shows what the step before it did: nothing shows the last one
            last = len(steps.batches)
            raise _not_finite("a weight is not finite", client=client, round_number=round_number, step=last)
        return LocalResult(vector=vector, metrics=meter.metrics(time.perf_counter() - began))

    def _round_steps(
        self,
        objective: Objective,
        client: str,
        round_number: int,
        examples: Sequence[TokenizedExample],
        num_seen: int,
    ) -> RoundSteps:
        if self._private is not None:
            return PrivateSteps(self._model, objective, self._private, examples, round_number)
        return MeanSteps(objective, self._steps(client, round_number, examples, num_seen), self._seed)

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


def _check_finite(
    made: StepGradient, norm: float, batches: MicroBatches, *, client: str, round_number: int, step: int
) -> None:
    if batches and not math.isfinite(made.loss):
        what = f"the loss is {made.loss}"
    elif not all(math.isfinite(found) for found in made.example_norms):
        what = "the gradient of an example is not finite"
    elif not math.isfinite(norm):
        what = f"the gradient's norm is {norm}"
    else:
        return
    raise _not_finite(what, client=client, round_number=round_number, step=step)


def _not_finite(what: str, *, client: str, round_number: int, step: int) -> NonFiniteLossError:
    return NonFiniteLossError(
        f"client {client}, round {round_number}, step {step}: {what}. The last complete round is saved. "
        "Lower train.learning_rate, set train.clip_grad_norm (1.0 is usual), or use model.dtype = 'float32', and start "
        "a new run with --set run.name=NAME: a resumed run keeps its configuration."
    )
