import math
from typing import Any

import numpy as np
import pytest
import torch

from confide.aggregate.travelling import travelling_slots
from confide.data.examples import TokenizedExample
from confide.errors import NonFiniteLossError, RunInterrupted
from confide.model.load import load_base_model
from confide.model.lora import AdaptedModel, LoraSettings, attach_lora
from confide.train.local import LocalSettings, LocalTrainer, RegularizerSettings
from confide.train.optimizer import OptimizerSettings
from confide.train.outcome import LocalResult, StepReport
from confide.update import Vector


def make_model(dropout: float = 0.0) -> AdaptedModel:
    return attach_lora(load_base_model("tiny-llama"), LoraSettings(lora_rank=2, dropout=dropout), seed=0)


def make_examples(count: int = 6, seed: int = 0) -> list[TokenizedExample]:
    rng = np.random.default_rng(seed)
    examples = []
    for index in range(count):
        length = int(rng.integers(5, 12))
        mask = np.arange(length) >= 3
        examples.append(TokenizedExample(record_id=str(index), input_ids=rng.integers(6, 250, length), loss_mask=mask))
    return examples


def train(model: AdaptedModel, settings: LocalSettings, **changes: Any) -> LocalResult:
    arguments: dict[str, Any] = {
        "client": "north",
        "round_number": 1,
        "start": changes.pop("start", None),
        "trained": travelling_slots(model.layout, "factors", 1),
        "examples": make_examples(),
        "num_seen": 0,
        "learning_rate": 0.05,
    }
    if arguments["start"] is None:
        arguments["start"] = model.read()
    return LocalTrainer(model, settings, seed=3).train(**(arguments | changes))


def in_steps(count: int, **settings: Any) -> LocalSettings:
    return LocalSettings(local_steps=count, batch_size=2, **settings)


def test_one_sgd_step_is_the_plain_gradient_step() -> None:
    model = make_model()
    start = np.random.default_rng(1).normal(0, 0.1, model.layout.num_values).astype(np.float32)
    settings = LocalSettings(local_steps=1, batch_size=6, optimizer=OptimizerSettings(kind="sgd", clip_grad_norm=0.0))
    result = train(model, settings, start=start, learning_rate=0.5)
    # The slow twin: every example alone, through the model's own logits, one mean over all targets.
    model.write(start)
    model.set_trainable(model.layout)
    total, count = torch.zeros(()), 0
    for example in make_examples():
        ids = torch.from_numpy(example.input_ids)[None]
        logits = model.module(input_ids=ids).logits[0, :-1]
        losses = torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="none")
        total = total + losses[torch.from_numpy(example.loss_mask[1:])].sum()
        count += int(example.loss_mask.sum())
    (total / count).backward()
    gradients = [parameter.grad for parameter in model.parameters_of(model.layout)]
    gradient = np.concatenate([found.numpy().reshape(-1) for found in gradients if found is not None])
    np.testing.assert_allclose(result.vector, start - 0.5 * gradient, atol=1e-6)
    assert result.metrics.loss == pytest.approx(total.item() / count, rel=1e-5)
    assert result.metrics.num_targets == count
    assert result.metrics.gradient_norm == pytest.approx(float(np.linalg.norm(gradient)), rel=1e-4)


def test_accumulation_equals_one_large_batch() -> None:
    model = make_model()
    start = model.read()
    sgd = OptimizerSettings(kind="sgd")
    whole = train(model, LocalSettings(local_steps=2, batch_size=6, optimizer=sgd), start=start)
    parts = train(model, LocalSettings(local_steps=2, batch_size=2, accumulation=3, optimizer=sgd), start=start)
    # Batches are grouped by length within the round, so steps hold other examples: compare one full pass per step.
    assert parts.metrics.num_examples == whole.metrics.num_examples == 12
    one = train(model, LocalSettings(local_steps=1, batch_size=6, optimizer=sgd), start=start)
    three = train(model, LocalSettings(local_steps=1, batch_size=2, accumulation=3, optimizer=sgd), start=start)
    np.testing.assert_allclose(one.vector, three.vector, atol=1e-6)
    assert one.metrics.loss == pytest.approx(three.metrics.loss, rel=1e-5)


def test_loss_falls_on_the_clients_own_examples() -> None:
    model = make_model()
    result = train(model, in_steps(30), learning_rate=0.02)
    assert result.metrics.last_loss < result.metrics.first_loss - 0.05


def test_the_result_depends_only_on_the_arguments() -> None:
    model = make_model(dropout=0.3)
    start = model.read()
    first = train(model, in_steps(3), start=start)
    torch.manual_seed(99)
    train(model, in_steps(2), start=start, client="south")
    again = train(model, in_steps(3), start=start)
    assert first.vector.tobytes() == again.vector.tobytes()
    assert train(model, in_steps(3), start=start, client="south").vector.tobytes() != first.vector.tobytes()
    assert train(model, in_steps(3), start=start, round_number=2).vector.tobytes() != first.vector.tobytes()


def test_two_short_rounds_read_the_same_examples_as_one_long_one() -> None:
    model = make_model()
    seen: list[str] = []
    settings = in_steps(3)
    trainer = LocalTrainer(model, settings, seed=3)
    examples = make_examples(12)
    for num_seen in (0, 6):
        for step in trainer._steps("north", 1, examples, num_seen):
            seen += [example.record_id for batch in step for example in batch]
    assert sorted(seen) == sorted(example.record_id for example in examples)


def test_only_the_trained_slots_move() -> None:
    model = make_model()
    start = np.random.default_rng(1).normal(0, 0.1, model.layout.num_values).astype(np.float32)
    trained = travelling_slots(model.layout, "freeze-a", 1)
    result = train(model, in_steps(2), start=start, trained=trained)
    assert result.vector.shape == (trained.num_values,)
    after = model.read()
    frozen = model.layout.select(slot.name for slot in model.layout if ".lora_A." in slot.name)
    np.testing.assert_array_equal(model.layout.gather(after, frozen), model.layout.gather(start, frozen))
    assert not np.array_equal(result.vector, model.layout.gather(start, trained))


def test_epochs_read_every_example_that_often() -> None:
    model = make_model()
    result = train(model, LocalSettings(local_steps=None, local_epochs=2, batch_size=4))
    assert result.metrics.num_examples == 12
    assert result.metrics.num_steps == 3
    assert result.metrics.num_tokens == 2 * sum(example.num_tokens for example in make_examples())


def test_gradients_are_clipped_as_a_whole() -> None:
    model = make_model()
    start = np.random.default_rng(1).normal(0, 0.3, model.layout.num_values).astype(np.float32)
    bound = 1e-3
    settings = in_steps(1, optimizer=OptimizerSettings(kind="sgd", clip_grad_norm=bound))
    result = train(model, settings, start=start, learning_rate=1.0)
    assert result.metrics.gradient_norm > bound
    assert float(np.linalg.norm(result.vector - start)) == pytest.approx(bound, rel=1e-3)


def test_the_correction_is_added_to_every_gradient() -> None:
    model = make_model()
    start = model.read()
    push = np.full(model.layout.num_values, 0.25, np.float32)
    settings = in_steps(1, optimizer=OptimizerSettings(kind="sgd", clip_grad_norm=0.0))
    without = train(model, settings, start=start, learning_rate=0.1)
    with_push = train(model, settings, start=start, learning_rate=0.1, correction=push)
    np.testing.assert_allclose(with_push.vector, without.vector - 0.1 * push, atol=1e-7)


def regularized(kind: Any, strength: float, **more: Any) -> LocalSettings:
    return in_steps(8, regularizer=RegularizerSettings(kind=kind, strength=strength, **more))


def start_away_from_zero(model: AdaptedModel) -> Vector:
    return np.random.default_rng(5).normal(0, 0.2, model.layout.num_values).astype(np.float32)


def test_prox_stays_nearer_to_the_start_and_l2_nearer_to_zero() -> None:
    model = make_model()
    start = start_away_from_zero(model)
    free = train(model, in_steps(8), start=start)
    near = train(model, regularized("prox", 50.0), start=start)
    small = train(model, regularized("l2", 50.0), start=start)
    assert np.linalg.norm(near.vector - start) < 0.8 * np.linalg.norm(free.vector - start)
    assert np.linalg.norm(small.vector) < 0.9 * np.linalg.norm(free.vector)
    assert near.metrics.regularizer > 0


def whole_passes(count: int, **settings: Any) -> LocalSettings:
    """Plain SGD on all six examples at once, so that every step has the same loss function."""
    sgd = OptimizerSettings(kind="sgd", clip_grad_norm=0.0)
    return LocalSettings(local_steps=count, batch_size=6, optimizer=sgd, **settings)


@pytest.mark.parametrize("kind", ["prox", "l2"])
def test_one_step_adds_the_terms_gradient_times_its_strength(kind: Any) -> None:
    model = make_model()
    start = start_away_from_zero(model)
    strength, rate = 0.5, 0.1
    free = train(model, whole_passes(1), start=start, learning_rate=rate)
    regularizer = RegularizerSettings(kind=kind, strength=strength)
    held = train(model, whole_passes(1, regularizer=regularizer), start=start, learning_rate=rate)
    # The gradient of strength/2 |w - anchor|^2 at the start: strength * start for l2, zero for prox.
    pull = strength * start if kind == "l2" else np.zeros_like(start)
    np.testing.assert_allclose(held.vector, free.vector - rate * pull, atol=1e-6)
    # A second step feels prox too: it pulls back by strength times the way gone.
    two = train(model, whole_passes(2, regularizer=regularizer), start=start, learning_rate=rate)
    way = held.vector - start
    expected = strength / 2 * (float(start @ start + held.vector @ held.vector) if kind == "l2" else float(way @ way))
    assert two.metrics.regularizer == pytest.approx(expected / 2, rel=1e-4)


def predictions(model: AdaptedModel) -> torch.Tensor:
    ids = torch.arange(10, 40)[None]
    with torch.no_grad():
        log_probabilities: torch.Tensor = model.module(input_ids=ids).logits.log_softmax(-1)
    return log_probabilities


@pytest.mark.parametrize("direction", ["current-reference", "reference-current"])
@pytest.mark.parametrize("reference", ["base", "round", "both"])
def test_kl_keeps_predictions_nearer_to_the_reference(reference: str, direction: str) -> None:
    model = make_model()
    start = start_away_from_zero(model)
    model.write(start)
    at_start = predictions(model)
    with model.base_only():
        at_base = predictions(model)
    train(model, in_steps(8), start=start)
    free = predictions(model)
    settings = regularized("kl", 20.0, kl_reference=reference, kl_direction=direction)
    result = train(model, settings, start=start)
    held = predictions(model)

    def distance(one: torch.Tensor, other: torch.Tensor) -> float:
        return float((one.exp() * (one - other)).sum())

    if reference in ("base", "both"):
        assert distance(held, at_base) < distance(free, at_base)
    if reference in ("round", "both"):
        assert distance(held, at_start) < distance(free, at_start)
    assert result.metrics.regularizer > 0


def test_a_regularizer_of_strength_zero_changes_nothing() -> None:
    model = make_model()
    start = start_away_from_zero(model)
    free = train(model, in_steps(2), start=start)
    for kind in ("prox", "l2", "kl"):
        assert np.allclose(train(model, regularized_in_two_steps(kind), start=start).vector, free.vector, atol=1e-7)


def regularized_in_two_steps(kind: Any) -> LocalSettings:
    return in_steps(2, regularizer=RegularizerSettings(kind=kind, strength=0.0, kl_reference="both"))


def test_gradient_checkpointing_changes_no_result() -> None:
    start = make_model().read()
    plain = train(make_model(), in_steps(2), start=start)
    saving = train(make_model(), in_steps(2, gradient_checkpointing=True), start=start)
    np.testing.assert_allclose(saving.vector, plain.vector, atol=1e-7)


def test_a_loss_that_is_not_finite_stops_with_advice() -> None:
    model = make_model()
    start = model.read()
    with pytest.raises(NonFiniteLossError, match=r"client north, round 1, step 2: .*Lower train.learning_rate"):
        train(model, in_steps(3), start=start, learning_rate=math.inf)


def test_a_last_step_to_where_no_number_is_finite_stops_with_advice() -> None:
    model = make_model()
    settings = in_steps(1, optimizer=OptimizerSettings(kind="sgd"))
    with pytest.raises(NonFiniteLossError, match=r"north, round 1, step 1: a weight .*Lower train.learning_rate"):
        train(model, settings, learning_rate=math.inf)


def test_a_stop_asked_for_in_a_step_passes_through_and_leaves_the_model_usable() -> None:
    model = make_model()
    start = model.read()

    def stop(report: StepReport) -> None:
        if report.step == 2:
            raise RunInterrupted("enough")

    with pytest.raises(RunInterrupted):
        train(model, in_steps(5), start=start, on_step=stop)
    fresh = train(make_model(), in_steps(2), start=start)
    assert train(model, in_steps(2), start=start).vector.tobytes() == fresh.vector.tobytes()
    assert not model.module.training


def test_a_result_shows_no_weight() -> None:
    assert "vector" not in repr(train(make_model(), in_steps(1)))


def test_every_step_is_reported() -> None:
    model = make_model()
    reports: list[StepReport] = []
    train(model, in_steps(3), on_step=reports.append)
    assert [(report.step, report.num_steps) for report in reports] == [(1, 3), (2, 3), (3, 3)]
    assert all(math.isfinite(report.loss) for report in reports)
