"""Private steps against a slow twin: each example alone, through the model's own logits and plain autograd."""

import logging
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from confide.aggregate.travelling import Average, travelling_slots
from confide.data.examples import TokenizedExample
from confide.errors import ConfigError, ModelError, NonFiniteLossError, RunInterrupted
from confide.model.load import load_base_model
from confide.model.lora import AdaptedModel, LoraSettings, attach_lora
from confide.model.tiny import TINY_MODELS
from confide.privacy.coins import bernoulli
from confide.privacy.gaussian import gaussian_noise
from confide.privacy.randomness import SeededRandomness
from confide.train.forward import TargetScorer
from confide.train.local import LocalSettings, LocalTrainer
from confide.train.objective import Objective, RegularizerSettings
from confide.train.optimizer import OptimizerSettings
from confide.train.outcome import LocalResult, StepReport
from confide.train.per_example import watch_examples
from confide.train.private import PrivateSettings, PrivateSteps, Randomness, add_clipped, grid_step
from confide.train.steps import MeanSteps, StepGradient
from confide.update import Layout, Vector

SGD = OptimizerSettings(kind="sgd", clip_grad_norm=1e-6)  # a bound that private training must not use
# Of a norm near 1: two ways through a tiny model in float32, over a few hundred values.
TOLERANCE = 1e-5


def make_model(name: str = "tiny-llama", dropout: float = 0.0) -> AdaptedModel:
    settings = LoraSettings(lora_rank=2, dropout=dropout, targets="all-linear")
    model = attach_lora(load_base_model(name, device="cpu"), settings, seed=0)
    model.write(np.random.default_rng(1).normal(0, 0.1, model.layout.num_values).astype(np.float32))
    return model


def make_examples(count: int = 6) -> list[TokenizedExample]:
    """Of lengths 5 to 14, in no order of length, each with targets of its own number."""
    rng = np.random.default_rng(7)
    examples = []
    for index in range(count):
        length = 5 + 7 * index % 10
        mask = np.arange(length) >= 2 + index % 3
        examples.append(TokenizedExample(record_id=str(index), input_ids=rng.integers(6, 250, length), loss_mask=mask))
    return examples


class Draws:
    """Noise and coins of a test's own, and what was asked for."""

    def __init__(self, joins: Sequence[Sequence[bool]] | None = None, *, is_noisy: bool = False, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.joins = None if joins is None else list(joins)
        self.is_noisy = is_noisy
        self.noises: list[Vector] = []
        self.asked: list[tuple[int, float]] = []

    def noise(self, num_values: int, noise_stddev: float) -> Vector:
        self.asked.append((num_values, noise_stddev))
        stddev = noise_stddev if self.is_noisy else 0.0
        self.noises.append((stddev * self.rng.standard_normal(num_values)).astype(np.float32))
        return self.noises[-1]

    def coins(self, num_coins: int, probability: float) -> npt.NDArray[np.bool_]:
        if self.joins is None:
            return self.rng.random(num_coins) < probability
        return np.array(self.joins.pop(0))

    def __call__(self, round_number: int) -> Randomness:
        return Randomness(noise=self.noise, coins=self.coins)


def private(draws: Callable[[int], Randomness], **changes: Any) -> PrivateSettings:
    given_ = PrivateSettings(
        clip_norm=1.0, noise_multiplier=0.5, sampling_rate=1.0, num_steps=1, max_physical_batch=4, randomness=draws
    )
    return replace(given_, **changes)


def make_steps(
    model: AdaptedModel,
    settings: PrivateSettings,
    examples: Sequence[TokenizedExample],
    trained: Layout,
    regularizer: RegularizerSettings | None = None,
) -> PrivateSteps:
    model.set_trainable(trained)
    settled = regularizer or RegularizerSettings()
    objective = Objective(model, TargetScorer(model.module), settled, model.parameters_of(trained), model.read())
    return PrivateSteps(model, objective, settings, examples, 1)


def flat_gradient(model: AdaptedModel, trained: Layout) -> Vector:
    found = [parameter.grad for parameter in model.parameters_of(trained)]
    gradient: Vector = np.concatenate([part.numpy().reshape(-1) for part in found if part is not None])
    for parameter in model.parameters_of(trained):
        parameter.grad = None
    return gradient


def gradients_of(model: AdaptedModel, steps: PrivateSteps, trained: Layout) -> tuple[list[Vector], list[StepGradient]]:
    """The gradient of each step at the same weights, and what was told of it."""
    model.module.train()
    gradients, told = [], []
    with steps.running():
        for batches in steps.batches:
            told.append(steps.make_gradient(batches))
            gradients.append(flat_gradient(model, trained))
    model.module.eval()
    return gradients, told


def twin_gradients(model: AdaptedModel, examples: Sequence[TokenizedExample], trained: Layout) -> list[Vector]:
    model.set_trainable(trained)
    gradients = []
    for example in examples:
        ids = torch.from_numpy(example.input_ids)[None]
        logits = model.module(input_ids=ids).logits[0, :-1]
        losses = torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="none")
        losses[torch.from_numpy(example.loss_mask[1:])].mean().backward()
        gradients.append(flat_gradient(model, trained))
    return gradients


def clipped(gradient: Vector, clip_norm: float) -> npt.NDArray[np.float64]:
    wide = gradient.astype(np.float64)
    return wide * min(1.0, clip_norm / float(np.linalg.norm(wide)))


@pytest.mark.parametrize("max_physical_batch", [1, 2, 4, 6])
@pytest.mark.parametrize("average", ["freeze-a", "factors"])
@pytest.mark.parametrize("name", TINY_MODELS)
def test_the_sum_before_noise_is_that_of_each_example_alone(
    name: str, average: Average, max_physical_batch: int
) -> None:
    model, examples = make_model(name), make_examples()
    model.module.double()  # in float32 the two ways differ by what a processor's kernels round
    trained = travelling_slots(model.layout, average, 1)
    alone = twin_gradients(model, examples, trained)
    norms = [float(np.linalg.norm(gradient)) for gradient in alone]
    bound = float(np.median(norms))  # half of the examples are clipped
    settings = private(Draws(), clip_norm=bound, max_physical_batch=max_physical_batch)
    (gradient,), (told,) = gradients_of(model, make_steps(model, settings, examples, trained), trained)
    expected = sum(clipped(one, bound) for one in alone) / len(examples)
    assert float(np.linalg.norm(gradient - expected)) < TOLERANCE * bound
    assert sorted(told.example_norms) == pytest.approx(sorted(norms), rel=TOLERANCE)


@pytest.mark.parametrize("reference", ["base", "both"])
def test_a_term_at_the_targets_is_a_part_of_the_examples_own_loss(reference: Any) -> None:
    model, examples = make_model(), make_examples()
    trained, term = model.layout, RegularizerSettings(kind="kl", strength=3.0, kl_reference=reference)
    settings = private(Draws(), clip_norm=0.8)
    (gradient,), (told,) = gradients_of(model, make_steps(model, settings, examples, trained, term), trained)
    objective = Objective(model, TargetScorer(model.module), term, model.parameters_of(trained), model.read())
    expected = np.zeros(trained.num_values)
    model.module.train()
    for example in examples:
        MeanSteps(objective, [], 0).make_gradient([[example]])
        expected += clipped(flat_gradient(model, trained), 0.8) / len(examples)
    assert float(np.linalg.norm(gradient - expected)) < TOLERANCE
    assert told.added > 0


def test_noise_is_drawn_once_a_step_and_divided_with_the_sum() -> None:
    model, examples = make_model(), make_examples(8)
    trained = travelling_slots(model.layout, "freeze-a", 1)
    joins = [[True] * 8, [True, False, True, True, False, False, True, True], [False] * 8]
    silent, loud = Draws(joins), Draws(joins, is_noisy=True)
    settings = private(
        silent, max_physical_batch=2, clip_norm=0.7, noise_multiplier=1.5, sampling_rate=0.5, num_steps=3
    )
    sums, _ = gradients_of(model, make_steps(model, settings, examples, trained), trained)
    settings = replace(settings, randomness=loud)
    noisy, _ = gradients_of(model, make_steps(model, settings, examples, trained), trained)
    assert loud.asked == [(trained.num_values, 1.5 * 0.7)] * 3
    divisor = np.float32(0.5 * 8)  # a power of two: divided and multiplied back, every bit of a sum is there again
    step = 2.0**-20  # for a standard deviation from 1 to 2
    for gradient, total, noise in zip(noisy, sums, loud.noises, strict=True):
        released = gradient.astype(np.float64) * divisor
        assert np.abs(released - (total * divisor + noise)).max() <= step  # each of the two was rounded by half of it
        np.testing.assert_array_equal(released, np.rint(released / step) * step)
    # Nobody joined: noise alone.
    np.testing.assert_array_equal(noisy[2] * divisor, np.rint(loud.noises[2].astype(np.float64) / step) * step)


def test_what_is_released_lies_on_one_grid_whatever_it_was_made_of() -> None:
    """A float32 sum near zero is a multiple of the last place of what was added: so of the example's gradient."""
    assert [grid_step(stddev) for stddev in (1.0, 1.99, 2.0, 0.3)] == [2.0**-20, 2.0**-20, 2.0**-19, 2.0**-22]
    model, examples = make_model(), make_examples(4)
    settings = private(Draws(is_noisy=True), clip_norm=0.01, noise_multiplier=100.0)
    (gradient,), _ = gradients_of(model, make_steps(model, settings, examples, model.layout), model.layout)
    released = gradient.astype(np.float64) * 4
    levels = np.rint(released / 2.0**-20)
    np.testing.assert_array_equal(released, levels * 2.0**-20)
    small = levels[np.abs(levels) < 2**18].astype(np.int64)
    assert small.size > 100
    assert 0.3 < float(np.mean(small % 2)) < 0.7  # no coarser grid shows through


def test_the_divisor_is_the_expected_batch_whoever_joined() -> None:
    model, examples = make_model(), make_examples()
    alone = twin_gradients(model, examples, model.layout)
    joins = [[False, False, True, False, False, False], [True, True, False, True, True, True]]
    settings = private(Draws(joins), sampling_rate=0.25, num_steps=2, clip_norm=0.5)
    gradients, _ = gradients_of(model, make_steps(model, settings, examples, model.layout), model.layout)
    for gradient, members in zip(gradients, joins, strict=True):
        total = sum(clipped(one, 0.5) for one, joined in zip(alone, members, strict=True) if joined)
        assert float(np.linalg.norm(gradient - total / (0.25 * 6))) < TOLERANCE


def test_each_example_joins_each_step_with_the_sampling_rate() -> None:
    model, examples = make_model(), make_examples(30)
    rate, steps = 0.3, 3000
    source = SeededRandomness(0, "test")

    def randomness(round_number: int) -> Randomness:
        return Randomness(
            noise=lambda count, stddev: gaussian_noise(count, stddev, source),
            coins=lambda count, probability: bernoulli(count, probability, source),
        )

    settings = private(randomness, sampling_rate=rate, num_steps=steps)
    drawn = make_steps(model, settings, examples, model.layout)
    members = [[int(example.record_id) for batch in step for example in batch] for step in drawn.batches]
    assert len(members) == steps
    assert all(len(set(step)) == len(step) for step in members)
    assert all(len(batch) <= 4 for step in drawn.batches for batch in step)
    matrix = np.array([np.isin(np.arange(30), step) for step in members])
    # Binomial(30, rate) members a step: mean and variance within 5 standard errors (of a variance: sqrt(2/m) of it).
    sizes, variance = matrix.sum(axis=1), 30 * rate * (1 - rate)
    assert abs(sizes.mean() - 30 * rate) < 5 * math.sqrt(variance / steps)
    assert abs(sizes.var() / variance - 1) < 5 * math.sqrt(2 / steps)
    # Every example alike, however long and wherever it stands, and no two together more often than by chance.
    assert np.abs(matrix.mean(axis=0) - rate).max() < 5 * math.sqrt(rate * (1 - rate) / steps)
    together = np.corrcoef(matrix.T) - np.eye(30)
    assert np.abs(together).max() < 5 / math.sqrt(steps)


@hypothesis_settings(deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    powers=st.lists(st.integers(-4, 4), min_size=1, max_size=6),
    clip_power=st.integers(-2, 2),
)
def test_one_example_adds_at_most_the_bound(seed: int, powers: list[int], clip_power: int) -> None:
    rng = np.random.default_rng(seed)
    gradients = (10.0 ** np.array(powers)[:, None] * rng.normal(size=(len(powers), 5))).astype(np.float32)
    gradients[rng.random(gradients.shape) < 0.2] = 0
    clip_norm = 10.0**clip_power
    parts = [torch.tensor(gradients)[:, :2].reshape(-1, 1, 2), torch.tensor(gradients)[:, 2:]]

    def total(of: slice) -> npt.NDArray[np.float64]:
        totals = [torch.zeros(1, 2), torch.zeros(3)]
        norms = add_clipped(totals, [part[of] for part in parts], clip_norm)
        np.testing.assert_allclose(norms, np.linalg.norm(gradients[of].astype(np.float64), axis=1), rtol=1e-6)
        return np.concatenate([part.numpy().reshape(-1) for part in totals]).astype(np.float64)

    for at in range(len(gradients)):
        alone = total(slice(at, at + 1))
        norm = float(np.linalg.norm(gradients[at].astype(np.float64)))
        assert float(np.linalg.norm(alone)) <= clip_norm  # in real numbers, rounding included
        if norm > clip_norm:
            assert float(np.linalg.norm(alone)) >= clip_norm * (1 - 3e-6)  # attained
        if norm < clip_norm * (1 - 2e-6):
            np.testing.assert_array_equal(alone, gradients[at])
    # Rounding of a float32 sum of n terms: at most n * 2**-24 of the sum of their sizes in each of 5 coordinates.
    room = 5 * len(gradients) ** 2 * 2.0**-24 * clip_norm
    last = len(gradients) - 1
    rest = total(slice(0, last)) if last else np.zeros(5)
    assert float(np.linalg.norm(total(slice(0, last + 1)) - rest)) <= clip_norm + room


@pytest.mark.parametrize("left_out", range(3))
def test_leaving_one_example_out_moves_the_sum_by_the_bound_at_most(left_out: int) -> None:
    model, examples = make_model(), make_examples()
    bound = 0.05  # shorter than any example's gradient: all are clipped, and the bound is attained
    everyone = [True] * 6
    others = [at != left_out for at in range(6)]
    settings = private(Draws([everyone, others]), clip_norm=bound, num_steps=2)
    (whole, without), _ = gradients_of(model, make_steps(model, settings, examples, model.layout), model.layout)
    moved = float(np.linalg.norm(whole - without)) * 6
    assert moved == pytest.approx(bound, rel=TOLERANCE)


def test_a_gradient_of_zero_adds_nothing_and_one_that_is_not_finite_shows() -> None:
    totals = [torch.zeros(2)]
    assert add_clipped(totals, [torch.zeros(3, 2)], 1.0) == [0.0, 0.0, 0.0]
    assert totals[0].tolist() == [0.0, 0.0]
    norms = add_clipped(totals, [torch.tensor([[1.0, math.nan], [math.inf, 0.0], [3e38, 3e38]])], 1.0)
    assert [math.isfinite(norm) for norm in norms] == [False, False, True]


def train(
    model: AdaptedModel, settings: PrivateSettings | None, local: LocalSettings | None = None, **changes: Any
) -> LocalResult:
    local = local or LocalSettings(local_steps=2, batch_size=3)
    start = changes.pop("start", None)
    arguments: dict[str, Any] = {
        "client": "north",
        "round_number": 1,
        "start": model.read() if start is None else start,
        "trained": travelling_slots(model.layout, "factors", 1),
        "examples": make_examples(),
        "num_seen": 0,
        "learning_rate": 0.01,
    }
    trainer = LocalTrainer(model, local, seed=changes.pop("seed", 3), private=settings)
    return trainer.train(**(arguments | changes))


def logits(model: AdaptedModel) -> torch.Tensor:
    ids = torch.arange(10, 40, device=model.base.device)[None]
    with torch.no_grad():
        found: torch.Tensor = model.module(input_ids=ids).logits
    return found.cpu()


def leftovers(model: AdaptedModel) -> tuple[int, set[str]]:
    """Hooks on the model, and names of what stands at its layers and parameters beyond torch's own."""
    hooks = sum(
        len(module._forward_hooks) + len(module._forward_pre_hooks) + len(module._backward_hooks)
        for module in model.module.modules()
    )
    names = {name for module in model.module.modules() for name in vars(module)}
    names |= {name for parameter in model.module.parameters() for name in vars(parameter)}
    return hooks, names


@pytest.mark.parametrize("name", TINY_MODELS)
def test_what_was_trained_is_what_the_model_computes_with(name: str) -> None:
    """PEFT with Opacus is known to move parameters that the model no longer uses (Opacus issue 820)."""
    model = make_model(name)
    start = model.read()
    behind = leftovers(model)
    parameters = model.parameters_of(model.layout)
    rate, num_steps = 0.01, 4
    fresh = make_model(name)
    seen, shown = [start], [logits(model)]

    def look(report: StepReport) -> None:
        """Each step moves every adapter, by as much as it should, in the model that computes."""
        seen.append(model.read())
        shown.append(logits(model))
        assert len(seen) == report.step + 1
        assert np.isfinite(seen[-1]).all()
        # AdamW without memory moves every value by the learning rate in every step, up or down.
        moved = model.layout.unflatten(np.abs(seen[-1] - seen[-2]))
        for slot in model.layout:
            assert float(moved[slot.name].max()) <= 1.001 * rate, slot.name
            assert float(moved[slot.name].mean()) > 0.9 * rate, slot.name
        assert not torch.allclose(shown[-1], shown[-2], atol=1e-3)
        fresh.write(seen[-1])
        assert torch.equal(logits(fresh), shown[-1])

    local = LocalSettings(optimizer=OptimizerSettings(adam_beta1=0.0, adam_beta2=0.0))
    settings = private(Draws(is_noisy=True), num_steps=num_steps)
    result = train(model, settings, local, start=start, learning_rate=rate, on_step=look)
    assert len(seen) == num_steps + 1
    np.testing.assert_array_equal(result.vector, seen[-1])
    assert leftovers(model) == behind
    assert all(one is other for one, other in zip(parameters, model.parameters_of(model.layout), strict=True))
    after = logits(model)
    assert torch.equal(after, shown[-1])
    model.module.to(torch.float64).to(torch.float32)
    np.testing.assert_array_equal(model.read(), result.vector)
    assert torch.equal(logits(model), after)


CUDA = pytest.param(
    "cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")]
)


def train_in_two_rounds(name: str, device: str) -> tuple[AdaptedModel, list[Vector]]:
    """A round of private steps on the CPU, and one on a device that the model moves to after hooks are attached."""
    model = make_model(name)
    seen = [model.read()]
    settings, local = private(Draws(is_noisy=True), num_steps=2), LocalSettings(optimizer=SGD)
    train(model, settings, local, learning_rate=0.1)
    seen.append(model.read())
    behind, parameters = leftovers(model), model.parameters_of(model.layout)
    prepared = PrivateSteps.running

    @contextmanager
    def running(steps: PrivateSteps) -> Iterator[None]:
        with prepared(steps):
            model.module.to(device)
            yield

    # Batches go where the model will be; it is still on the CPU while the hooks are attached.
    model.base = replace(model.base, device=torch.device(device))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PrivateSteps, "running", running)
        train(model, settings, local, learning_rate=0.1, on_step=lambda _: seen.append(model.read()))
    assert leftovers(model) == behind
    assert all(one is other for one, other in zip(parameters, model.parameters_of(model.layout), strict=True))
    return model, seen


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize("name", TINY_MODELS)
def test_a_model_that_moves_after_its_hooks_are_attached_trains_as_on_the_cpu(name: str, device: str) -> None:
    """The order in which PEFT with Opacus corrupts adapters (Opacus issue 820)."""
    stayed, expected = train_in_two_rounds(name, "cpu")
    model, seen = train_in_two_rounds(name, device)
    assert {parameter.device.type for parameter in model.module.parameters()} == {device}
    assert len(seen) == len(expected) == 4
    for before, here, there in zip(expected, expected[1:], seen[1:], strict=False):
        assert np.isfinite(there).all()
        assert float(np.abs(here - before).mean()) > 100 * TOLERANCE  # what is compared has moved by far more
        np.testing.assert_allclose(there, here, atol=TOLERANCE, rtol=0)
    assert torch.allclose(logits(model), logits(stayed), atol=1e-3)
    model.module.to("cpu")
    model.base = stayed.base
    np.testing.assert_array_equal(model.read(), seen[-1])
    fresh = make_model(name)
    fresh.write(seen[-1])
    assert torch.equal(logits(model), logits(fresh))


def test_ordinary_training_afterwards_is_what_it_was_before() -> None:
    model = make_model(dropout=0.2)
    start = model.read()
    before = train(model, None, start=start)
    train(model, private(Draws(is_noisy=True), num_steps=3), start=start)
    assert train(model, None, start=start).vector.tobytes() == before.vector.tobytes()


def test_a_stop_or_an_error_in_a_step_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model()
    behind = leftovers(model)

    def stop(report: StepReport) -> None:
        raise RunInterrupted("enough")

    with pytest.raises(RunInterrupted):
        train(model, private(Draws(), num_steps=2), on_step=stop)
    assert leftovers(model) == behind

    def fail(scorer: TargetScorer, states: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        raise MemoryError

    monkeypatch.setattr(TargetScorer, "loss_sum_of", fail)  # between the hooks of one pass
    with pytest.raises(MemoryError):
        train(model, private(Draws()))
    assert leftovers(model) == behind
    assert not model.module.training


def test_the_run_depends_on_its_private_draws_and_not_on_the_seed() -> None:
    model = make_model()
    start = model.read()
    settings = {"num_steps": 2, "sampling_rate": 0.5, "clip_norm": 10.0}

    def of(draws: Draws, seed: int) -> bytes:
        return train(model, private(draws, **settings), start=start, seed=seed).vector.tobytes()

    assert of(Draws(seed=1), seed=3) == of(Draws(seed=1), seed=4)
    assert of(Draws(seed=1), seed=3) != of(Draws(seed=2), seed=3)


@pytest.mark.parametrize("regularizer", [RegularizerSettings(), RegularizerSettings(kind="kl", strength=0.5)])
def test_private_steps_drop_nothing_out_and_ordinary_ones_do(regularizer: RegularizerSettings) -> None:
    """Whether in an adapter, in a layer of the base model's own, or in its attention."""
    local = LocalSettings(optimizer=SGD, regularizer=regularizer)
    results = {}
    for dropout in (0.0, 0.4):
        model = make_model(dropout=dropout)
        for part in model.module.modules():
            if hasattr(part, "attention_dropout"):
                part.attention_dropout = dropout
        start = model.read()
        settings = private(Draws(is_noisy=True), num_steps=2)
        results[dropout] = [train(model, one, local, start=start).vector.tobytes() for one in (settings, None)]
        assert not any(part.training for part in model.module.modules())
    assert results[0.0][0] == results[0.4][0]
    assert results[0.0][1] != results[0.4][1]


def test_a_step_of_sgd_is_the_noisy_gradient_with_what_comes_after_noise() -> None:
    model, examples = make_model(), make_examples()
    start, trained = model.read(), model.layout
    steps = make_steps(model, private(Draws(is_noisy=True)), examples, trained)
    (gradient,), _ = gradients_of(model, steps, trained)
    push = np.full(trained.num_values, 0.25, np.float32)
    local = LocalSettings(optimizer=SGD, regularizer=RegularizerSettings(kind="l2", strength=0.5))
    result = train(model, private(Draws(is_noisy=True)), local, start=start, learning_rate=0.1, correction=push)
    expected = start - 0.1 * (gradient + 0.5 * start + push)
    np.testing.assert_allclose(result.vector, expected, atol=1e-6)
    assert result.metrics.gradient_norm == pytest.approx(float(np.linalg.norm(gradient + 0.5 * start + push)), rel=1e-4)


def test_metrics_are_the_clients_own() -> None:
    model, examples = make_model(), make_examples()
    alone = twin_gradients(model, examples, model.layout)
    norms = [float(np.linalg.norm(one)) for one in alone]
    joins = [[False] * 6, [True] * 6, [False] * 6]
    bound = sorted(norms)[3] * 0.999  # three of six are longer
    reports: list[StepReport] = []
    settings = private(Draws(joins), num_steps=3, clip_norm=bound, sampling_rate=0.5)
    result = train(model, settings, LocalSettings(optimizer=SGD), on_step=reports.append, learning_rate=1e-9)
    metrics = result.metrics
    assert [math.isnan(report.loss) for report in reports] == [True, False, True]
    assert (metrics.num_steps, metrics.num_examples) == (3, 6)
    assert metrics.loss == metrics.first_loss == metrics.last_loss == reports[1].loss
    assert metrics.example_norm == pytest.approx(np.mean(norms), rel=1e-4)
    assert metrics.clipped_share == 0.5
    nobody = train(model, private(Draws([[False] * 6]))).metrics
    assert math.isnan(nobody.loss)
    assert (nobody.num_examples, nobody.example_norm, nobody.clipped_share) == (0, 0.0, 0.0)
    ordinary = train(model, None).metrics
    assert (ordinary.example_norm, ordinary.clipped_share) == (0.0, 0.0)


def test_an_example_whose_gradient_is_not_finite_adds_nothing_and_nobody_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To stop would tell that it was there, which no noise covers."""
    model = make_model()
    start = model.read()
    loss_sum_of = TargetScorer.loss_sum_of

    def steep(scorer: TargetScorer, states: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        states.register_hook(lambda gradient: gradient * torch.tensor(math.inf))
        return loss_sum_of(scorer, states, targets)

    monkeypatch.setattr(TargetScorer, "loss_sum_of", steep)
    draws = Draws(is_noisy=True)
    result = train(model, private(draws), LocalSettings(optimizer=SGD), start=start, learning_rate=1.0)
    moved = start - result.vector
    np.testing.assert_allclose(moved, draws.noises[0] / 6, atol=1e-5)  # noise alone, over the expected batch


def test_an_example_that_is_not_finite_leaves_the_others_as_they_are() -> None:
    gradients = [torch.tensor([[1.0, 0.0], [math.nan, 1.0], [0.0, math.inf]]), torch.tensor([[2.0], [3.0], [4.0]])]
    totals = [torch.zeros(2), torch.zeros(1)]
    norms = add_clipped(totals, gradients, 100.0)
    assert [total.tolist() for total in totals] == [[1.0, 0.0], [2.0]]
    assert [math.isfinite(norm) for norm in norms] == [True, False, False]


def test_weights_that_overflow_stop_with_advice() -> None:
    model = make_model()
    with pytest.raises(NonFiniteLossError, match=r"client north, round 1, step 1: .*Lower train.learning_rate"):
        train(model, private(Draws()), LocalSettings(optimizer=SGD), learning_rate=math.inf)


def test_gradient_checkpointing_is_refused() -> None:
    model = make_model()
    with pytest.raises(ConfigError, match=r"train\.gradient_checkpointing is on, expected off with privacy"):
        LocalTrainer(model, LocalSettings(gradient_checkpointing=True), seed=0, private=private(Draws()))
    LocalTrainer(model, LocalSettings(gradient_checkpointing=True), seed=0)  # leaves it on in the model
    behind = leftovers(model)
    found = train(model, private(Draws()))  # in which no layer runs twice: it is not in training mode
    assert found.vector.tobytes() == train(make_model(), private(Draws())).vector.tobytes()
    assert leftovers(model) == behind


def test_a_model_that_trains_more_than_its_adapter_is_refused() -> None:
    model = make_model()
    model.module.get_input_embeddings().weight.requires_grad_(True)
    with pytest.raises(ModelError, match=r"embed_tokens \(Embedding\) is trained, but DP-SGD trains the linear layers"):
        train(model, private(Draws()))
    model.module.get_input_embeddings().weight.requires_grad_(False)
    train(model, private(Draws()))


def test_a_linear_layer_beside_the_adapter_is_refused() -> None:
    both = torch.nn.Sequential(torch.nn.Linear(2, 2, bias=False), torch.nn.Linear(2, 2, bias=False))
    with (
        pytest.raises(ModelError, match=r"1 \(Linear\) is trained"),
        watch_examples(both, list(both.parameters())[:1]),
    ):
        pass


class Routed(torch.nn.Module):
    """Puts the tokens of all examples in one row, as experts do."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = torch.nn.Linear(3, 2, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return cast("torch.Tensor", self.inner(x.reshape(-1, 3)))


def test_a_layer_that_sees_no_examples_is_refused() -> None:
    module = Routed()
    with watch_examples(module, list(module.parameters())) as gradients:
        gradients.expect((2, 4))
        with pytest.raises(ModelError, match=r"inner gets an input of shape \(8, 3\), expected .* = \(2, 4, 3\)"):
            module(torch.ones(2, 4, 3))


def test_a_layer_that_takes_no_part_is_refused() -> None:
    module = torch.nn.ModuleList([torch.nn.Linear(3, 2, bias=False), torch.nn.Linear(3, 2, bias=False)])
    with watch_examples(module, list(module.parameters())) as gradients:
        gradients.expect((2, 4))
        module[0](torch.ones(2, 4, 3)).sum().backward()
        with pytest.raises(ModelError, match="a trained layer has no gradient per example"):
            gradients.take()


def test_fewer_values_of_noise_than_weights_are_refused() -> None:
    def randomness(round_number: int) -> Randomness:
        return Randomness(noise=lambda count, stddev: np.zeros(count - 1, np.float32), coins=Draws().coins)

    with pytest.raises(RuntimeError, match="split"):
        train(make_model(), private(randomness))


@pytest.mark.parametrize(
    "wrong",
    [
        {"clip_norm": 0.0},
        {"clip_norm": math.inf},
        {"noise_multiplier": 0.0},
        {"noise_multiplier": math.nan},
        {"sampling_rate": 0.0},
        {"sampling_rate": 1.5},
        {"num_steps": 0},
        {"max_physical_batch": 0},
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} is .*, expected"):
        private(Draws(), **wrong)


def test_importing_opacus_leaves_logging_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name == "opacus" or name.startswith("opacus.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    layer = torch.nn.Linear(2, 2, bias=False)
    with watch_examples(layer, list(layer.parameters())):
        pass
    assert logging.getLogger().handlers == []
