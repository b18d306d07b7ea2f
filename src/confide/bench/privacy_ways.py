"""The ways that a benchmark of private training compares, on one model: the same rows, steps, adapter and optimiser.

A way is a kind of `RoundSteps`, run as local training runs them: gradient, clip of the whole, optimiser. Private ones
draw noise from the operating system. Their coins are tossed too, but who joins a step is fixed, so that every way reads
equal batches: what is measured is time and memory, and nothing here is released.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from confide.aggregate.travelling import travelling_slots
from confide.bench.ghost_steps import GhostSteps
from confide.bench.plain_pass import rows_in_order
from confide.bench.privacy_work import PRIVATE_WAYS, WAYS, PassTime, PrivacyWork
from confide.bench.process import read_examples
from confide.data.examples import TokenizedExample
from confide.errors import UsageError
from confide.model.load import load_base_model
from confide.model.lora import AdaptedModel, LoraSettings, attach_lora
from confide.privacy.coins import bernoulli
from confide.privacy.gaussian import gaussian_noise
from confide.privacy.randomness import OsRandomness
from confide.train.forward import TargetScorer
from confide.train.objective import Objective, RegularizerSettings
from confide.train.optimizer import OptimizerSettings
from confide.train.private import PrivateSettings, PrivateSteps, Randomness
from confide.train.steps import MeanSteps, RoundSteps
from confide.update import Layout, Vector


@dataclass(frozen=True, kw_only=True)
class Lab:
    """What all ways share.

    Attributes:
        model: with an adapter.
        trained: its slots that are trained.
        start: the adapter before any pass.
        objective: over these slots.
        examples: the rows, in the order of the steps.
        device: of the model.
    """

    model: AdaptedModel
    trained: Layout
    start: Vector
    objective: Objective
    examples: Sequence[TokenizedExample]
    device: torch.device


def make_lab(work: PrivacyWork) -> Lab:
    """Loads the model, attaches the adapter, reads the rows.

    Raises:
        UsageError: there are too few synthetic records.
        ModelError: the model cannot be loaded.
    """
    base = load_base_model(work.model, device=work.device, seed=work.seed)
    examples = read_examples(work.training, base)
    shape = work.training
    settings = LoraSettings(
        lora_rank=shape.lora_rank, lora_alpha=shape.lora_alpha, dropout=0.0, targets=shape.lora_targets
    )
    model = attach_lora(base, settings, seed=work.seed)
    trained = travelling_slots(model.layout, work.average, 1)
    model.set_trainable(trained)
    start = model.read()
    parameters = model.parameters_of(trained)
    objective = Objective(model, TargetScorer(model.module), RegularizerSettings(), parameters, start)
    model.module.train()
    return Lab(model=model, trained=trained, start=start, objective=objective, examples=examples, device=base.device)


def make_steps(lab: Lab, work: PrivacyWork, way: str, num_rows: int) -> RoundSteps:
    """The steps of one pass over the first `num_rows` rows.

    Raises:
        UsageError: there is no such way.
    """
    if way not in WAYS:
        raise UsageError(f"no way is called {way!r}, expected one of {', '.join(WAYS)}")
    examples = lab.examples[:num_rows]
    steps = rows_in_order(num_rows, work.batch_size)
    rate = min(1.0, work.batch_size / num_rows)
    settings = PrivateSettings(
        clip_norm=work.clip_norm,
        noise_multiplier=work.noise_multiplier,
        sampling_rate=rate,
        num_steps=len(steps),
        max_physical_batch=work.batch_size,
        randomness=lambda _: _draws(steps, num_rows, rate),
    )
    private = PrivateSteps(lab.model, lab.objective, settings, examples, 1)
    if way == "plain":
        return MeanSteps(lab.objective, private.batches, work.seed)
    if way == "ghost":
        return GhostSteps(lab.model.module, lab.objective, clip_norm=work.clip_norm, private=private)
    return private


def run_pass(lab: Lab, work: PrivacyWork, way: str, num_rows: int) -> PassTime:
    """Trains from the start on the first rows once and gives the time it took."""
    lab.model.write(lab.start)
    parameters = lab.objective.parameters
    settings = OptimizerSettings(weight_decay=0.0)
    optimizer = settings.make(parameters, work.training.learning_rate)
    bound = math.inf if way in PRIVATE_WAYS else settings.clip_grad_norm
    _wait_for(lab.device)
    began, cpu_began = time.perf_counter(), time.process_time()
    steps = make_steps(lab, work, way, num_rows)
    with steps.running():
        for batches in steps.batches:
            steps.make_gradient(batches)
            torch.nn.utils.clip_grad_norm_(parameters, bound)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    _wait_for(lab.device)
    return PassTime(seconds=time.perf_counter() - began, cpu_seconds=time.process_time() - cpu_began)


def norms_of_first_step(lab: Lab, work: PrivacyWork, way: str) -> npt.NDArray[np.float64]:
    """What a private way finds as norms of the rows of the first step."""
    lab.model.write(lab.start)
    steps = make_steps(lab, work, way, min(work.batch_size, len(lab.examples)))
    with steps.running():
        found = steps.make_gradient(steps.batches[0])
    for parameter in lab.objective.parameters:
        parameter.grad = None
    return np.array(found.example_norms)


def _draws(steps: Sequence[Sequence[int]], num_rows: int, rate: float) -> Randomness:
    """Noise and coins of the operating system, but for who joins: exactly the rows of each step."""
    source = OsRandomness()
    members = iter(steps)

    def coins(num_coins: int, probability: float) -> npt.NDArray[np.bool_]:
        tossed = bernoulli(num_coins, probability, source)
        if (num_coins, probability) != (num_rows, rate):  # the seed of dropout, which is off: 63 coins at 1/2
            return tossed
        joins: npt.NDArray[np.bool_] = np.isin(np.arange(num_rows), next(members))
        return joins

    return Randomness(noise=lambda num_values, stddev: gaussian_noise(num_values, stddev, source), coins=coins)


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
