"""Passes against slow obvious twins on tiny models, and that nothing is computed twice."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from confide.aggregate.travelling import Average, travelling_slots
from confide.attacks import passes as passes_module
from confide.attacks import token_reader
from confide.attacks.candidates import PossibleSecrets
from confide.attacks.decoding import DecodingScheme
from confide.attacks.extraction.probabilistic import log_probability
from confide.attacks.passes import Passes
from confide.attacks.token_stats import TokenStats
from confide.data.examples import TokenizedExample
from confide.errors import DataError, LayoutMismatchError, NonFiniteLossError, NonFiniteUpdateError, UsageError
from confide.evaluate.generation import Sampling, generate_answers
from confide.model.lora import AdaptedModel
from confide.model.tiny import TINY_MODELS
from confide.seeds import stream
from confide.update import Layout, Slot, Vector
from tests.attacks.sure_models import random_adapter, sure_model

WARM = DecodingScheme("warm", temperature=2.0, top_k=40, top_p=0.9)
# Losses of at most 30 nats: log-sum-exp and the logits' products of width 32 round some 100 times at 2**-24.
TOLERANCE = 100 * 2.0**-24 * 30
PROMPTS = [[5, 6], [7, 8, 9, 10, 11], [3], [12, 13, 14]]


def _examples(*shapes: tuple[int, int], seed: int = 0) -> list[TokenizedExample]:
    """Random examples of (prompt length, response length)."""
    rng = stream(seed, "test-examples")
    return [
        TokenizedExample(
            record_id=f"r{number}",
            input_ids=rng.integers(6, 262, prompt + response),
            loss_mask=np.arange(prompt + response) >= prompt,
        )
        for number, (prompt, response) in enumerate(shapes)
    ]


EXAMPLES = _examples((3, 9), (20, 2), (1, 30), (7, 7), (12, 1))


@pytest.fixture
def model() -> AdaptedModel:
    return sure_model()


def _twin(model: AdaptedModel, adapter: Vector | None, example: TokenizedExample) -> torch.Tensor:
    """Log-probabilities over the vocabulary at every position, in float64: one record, the whole model at once."""
    ids = torch.from_numpy(example.input_ids)[None, :]
    model.module.eval()
    with torch.no_grad():
        if adapter is None:
            with model.module.disable_adapter():
                logits = model.module(input_ids=ids).logits
        else:
            model.write(adapter)
            logits = model.module(input_ids=ids).logits
    logp: torch.Tensor = logits[0, :-1].double().log_softmax(dim=-1)
    return logp


def _assert_is_twin(found: TokenStats, logp: torch.Tensor, example: TokenizedExample) -> None:
    targets = torch.from_numpy(example.input_ids)[1:, None]
    own = logp.gather(1, targets)
    p = logp.exp()
    mean = (p * logp).sum(dim=1)
    std = (p * (logp - mean[:, None]) ** 2).sum(dim=1).sqrt()
    np.testing.assert_allclose(found.logp, own[:, 0], atol=TOLERANCE, rtol=0)
    np.testing.assert_allclose(found.mean, mean, atol=TOLERANCE, rtol=0)
    np.testing.assert_allclose(found.std, std, atol=TOLERANCE, rtol=0)
    # A rank can move only past tokens that rounding cannot tell from the target.
    assert (found.rank >= (logp > own + TOLERANCE).sum(dim=1).numpy()).all()
    assert (found.rank <= (logp > own - TOLERANCE).sum(dim=1).numpy()).all()
    np.testing.assert_array_equal(found.is_top, found.rank == 0)  # no two of these random logits are equal
    np.testing.assert_array_equal(found.is_target, example.loss_mask[1:])


def _assert_close(found: Sequence[TokenStats], expected: Sequence[TokenStats]) -> None:
    for one, other in zip(found, expected, strict=True):
        for name in ("logp", "mean", "std"):
            np.testing.assert_allclose(getattr(one, name), getattr(other, name), atol=TOLERANCE, rtol=0)
        assert one.decoded.keys() == other.decoded.keys()
        for name, values in one.decoded.items():
            np.testing.assert_array_equal(np.isneginf(values), np.isneginf(other.decoded[name]))
            drawn = ~np.isneginf(values)
            np.testing.assert_allclose(values[drawn], other.decoded[name][drawn], atol=TOLERANCE, rtol=0)


def _assert_same(found: Sequence[TokenStats], expected: Sequence[TokenStats]) -> None:
    for one, other in zip(found, expected, strict=True):
        for name in ("logp", "is_top", "rank", "mean", "std", "is_target"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize("name", sorted(TINY_MODELS))
@pytest.mark.parametrize("is_base", [True, False], ids=["base", "adapter"])
def test_stats_are_those_of_the_full_softmax_of_one_record_at_a_time(name: str, is_base: bool) -> None:
    model = sure_model(name)
    adapter = None if is_base else random_adapter(model)
    found = Passes(model, None, batch_size=2).stats(adapter, EXAMPLES)
    for stats, example in zip(found, EXAMPLES, strict=True):
        _assert_is_twin(stats, _twin(model, adapter, example), example)
        arrays = (stats.logp, stats.mean, stats.std, stats.rank, stats.is_top, stats.is_target)
        assert [array.dtype.name for array in arrays] == ["float32", "float32", "float32", "int32", "bool", "bool"]
    assert any(stats.is_top.any() for stats in found)


def test_a_schemes_probabilities_are_those_of_its_own_formula(model: AdaptedModel) -> None:
    warm = DecodingScheme("warm", temperature=2.0)
    (stats,) = Passes(model, None, schemes=(warm,)).stats(None, EXAMPLES[:1])
    logp = (_twin(model, None, EXAMPLES[0]) / 2.0).log_softmax(dim=-1)
    own = logp.gather(1, torch.from_numpy(EXAMPLES[0].input_ids)[1:, None])[:, 0]
    np.testing.assert_allclose(stats.decoded["warm"], own, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("splits_head", [True, False])
@pytest.mark.parametrize("batch_size", [1, 5])
def test_results_do_not_depend_on_the_batch_size(splits_head: bool, batch_size: int) -> None:
    model = sure_model()
    if not splits_head:
        model.base.module.config.final_logit_softcapping = 30.0  # the name alone: this architecture has no cap
    expected = Passes(sure_model(), None, batch_size=2, schemes=(WARM,)).stats(None, EXAMPLES)
    _assert_close(Passes(model, None, batch_size=batch_size, schemes=(WARM,)).stats(None, EXAMPLES), expected)


def test_logits_in_chunks_give_the_same(model: AdaptedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = Passes(model, None).stats(None, EXAMPLES)
    monkeypatch.setattr(token_reader, "_LOGITS_IN_MEMORY", 3 * 262)
    _assert_close(Passes(model, None).stats(None, EXAMPLES), expected)


@pytest.mark.parametrize("on_disk", [True, False])
def test_a_second_call_makes_no_passes(model: AdaptedModel, tmp_path: Path, on_disk: bool) -> None:
    folder = tmp_path / "passes" if on_disk else None
    passes = Passes(model, folder, schemes=(WARM,))
    adapter = random_adapter(model)
    first = passes.stats(adapter, EXAMPLES)
    assert passes.num_passes == len(EXAMPLES)
    _assert_same(passes.stats(adapter, list(reversed(EXAMPLES))), list(reversed(first)))
    assert passes.num_passes == len(EXAMPLES)
    again = Passes(model, folder, schemes=(WARM,))
    _assert_same(again.stats(adapter, EXAMPLES), first)
    assert again.num_passes == (0 if on_disk else len(EXAMPLES))


_OTHER_PROCESS = """
import json, sys
from pathlib import Path
import torch
from confide.attacks.passes import Passes
from tests.attacks.sure_models import random_adapter, sure_model
from tests.attacks.test_passes import EXAMPLES, PROMPTS

torch.set_num_threads(1)
model = sure_model()
passes = Passes(model, Path(sys.argv[1]))
stats = passes.stats(random_adapter(model), EXAMPLES)
answers = passes.generate(None, PROMPTS, max_new_tokens=5)
print(json.dumps([passes.num_passes, float(stats[0].logp.sum()), [answer.token_ids for answer in answers]]))
"""


def test_another_process_finds_what_is_on_disk(model: AdaptedModel, tmp_path: Path) -> None:
    passes = Passes(model, tmp_path)
    stats = passes.stats(random_adapter(model), EXAMPLES)
    answers = passes.generate(None, PROMPTS, max_new_tokens=5)
    finished = subprocess.run(
        [sys.executable, "-c", _OTHER_PROCESS, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    num_passes, total, token_ids = json.loads(finished.stdout)
    assert num_passes == 0
    assert total == float(stats[0].logp.sum())
    assert token_ids == [list(answer.token_ids) for answer in answers]


@pytest.mark.parametrize(
    "change",
    [
        lambda model: (model, random_adapter(model, seed=1)),
        lambda model: (model, None),
        lambda _: (sure_model(lora_alpha=16), random_adapter(sure_model())),
        lambda _: (sure_model(seed=1), random_adapter(sure_model())),
        lambda _: (sure_model(dtype="bfloat16"), random_adapter(sure_model())),
    ],
    ids=["adapter", "base model alone", "lora_alpha", "base weights", "dtype"],
)
def test_another_model_is_computed_anew(
    model: AdaptedModel, tmp_path: Path, change: Callable[[AdaptedModel], tuple[AdaptedModel, Vector | None]]
) -> None:
    first = Passes(model, tmp_path).stats(random_adapter(model), EXAMPLES)
    other, adapter = change(model)
    passes = Passes(other, tmp_path)
    second = passes.stats(adapter, EXAMPLES)
    assert passes.num_passes == len(EXAMPLES)
    assert all((one.logp != two.logp).any() for one, two in zip(first, second, strict=True))


def test_the_base_model_is_one_whatever_adapter_it_carries(model: AdaptedModel, tmp_path: Path) -> None:
    Passes(model, tmp_path).stats(None, EXAMPLES)
    other = Passes(sure_model(lora_alpha=16), tmp_path)
    other.model.write(random_adapter(model))
    other.stats(None, EXAMPLES)
    assert other.num_passes == 0


def test_equal_tokens_take_one_pass_and_keep_their_own_targets(model: AdaptedModel) -> None:
    first = EXAMPLES[0]
    other = replace(first, record_id="twin", loss_mask=np.arange(first.num_tokens) >= 1)
    passes = Passes(model, None)
    one, two, three = passes.stats(None, [first, other, first])
    assert passes.num_passes == 1
    np.testing.assert_array_equal(one.logp, two.logp)
    np.testing.assert_array_equal(one.is_target, first.loss_mask[1:])
    assert two.is_target.all()
    _assert_same([three], [one])


def test_a_scheme_added_later_takes_a_pass_and_a_new_name_takes_none(model: AdaptedModel, tmp_path: Path) -> None:
    Passes(model, tmp_path, schemes=(WARM,)).stats(None, EXAMPLES)
    renamed = Passes(model, tmp_path, schemes=(replace(WARM, name="other"),))
    assert renamed.stats(None, EXAMPLES)[0].decoded.keys() == {"other"}
    assert renamed.num_passes == 0
    more = Passes(model, tmp_path, schemes=(WARM, DecodingScheme("k", top_k=3)))
    assert more.stats(None, EXAMPLES)[0].decoded.keys() == {"warm", "k"}
    assert more.num_passes == len(EXAMPLES)
    first_alone = Passes(model, tmp_path, schemes=(WARM,))
    first_alone.stats(None, EXAMPLES)
    assert first_alone.num_passes == 0


def test_a_part_cut_off_on_disk_is_computed_again(model: AdaptedModel, tmp_path: Path) -> None:
    expected = Passes(model, tmp_path).stats(None, EXAMPLES)
    (part,) = tmp_path.rglob("*.safetensors")
    part.write_bytes(part.read_bytes()[:-100])
    passes = Passes(model, tmp_path)
    _assert_same(passes.stats(None, EXAMPLES), expected)
    assert passes.num_passes == len(EXAMPLES)


def test_an_interrupted_call_keeps_what_was_done(
    model: AdaptedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passes_module, "_RECORDS_PER_PART", 2)
    bad = replace(EXAMPLES[4], record_id="bad")  # the third longest: in the second part
    passes = Passes(model, tmp_path)
    score = passes._score

    def stop_at_the_second_part(examples: Sequence[TokenizedExample]) -> object:
        if bad in examples:
            raise KeyboardInterrupt
        return score(examples)

    monkeypatch.setattr(passes, "_score", stop_at_the_second_part)
    with pytest.raises(KeyboardInterrupt):
        passes.stats(None, [*EXAMPLES[:4], bad])
    again = Passes(model, tmp_path)
    again.stats(None, EXAMPLES)
    assert (passes.num_passes, again.num_passes) == (2, 3)


def test_no_tokens_of_a_record_and_no_name_are_on_disk(model: AdaptedModel, tmp_path: Path) -> None:
    Passes(model, tmp_path).stats(None, EXAMPLES)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    for path in files:
        content = path.read_bytes()
        for example in EXAMPLES:
            assert example.record_id.encode() not in path.name.encode()
            for dtype in (np.int64, np.int32, np.int16):
                assert example.input_ids[:4].astype(dtype).tobytes() not in content


def test_a_model_that_gives_nan_is_refused_and_nothing_is_kept(model: AdaptedModel, tmp_path: Path) -> None:
    passes = Passes(model, tmp_path)
    adapter = np.full(model.layout.num_values, 1e30, np.float32)  # finite, but no activation is
    with pytest.raises(NonFiniteLossError, match=r"record 'r2': a log-probability is NaN or infinite"):
        passes.stats(adapter, EXAMPLES)
    with pytest.raises(NonFiniteLossError, match=r"record 'r0': a gradient is NaN or infinite"):
        next(passes.gradients(adapter, EXAMPLES, model.layout))
    assert list(tmp_path.iterdir()) == []


def test_an_adapter_that_holds_nan_is_refused_and_nothing_is_kept(model: AdaptedModel, tmp_path: Path) -> None:
    passes = Passes(model, tmp_path)
    adapter = random_adapter(model)
    adapter[7] = np.nan
    for call in (
        lambda: passes.stats(adapter, EXAMPLES),
        lambda: passes.generate(adapter, PROMPTS, max_new_tokens=2),
        lambda: next(passes.gradients(adapter, EXAMPLES, model.layout)),
    ):
        with pytest.raises(NonFiniteUpdateError, match="the adapter holds values that are NaN or infinite"):
            call()
    assert list(tmp_path.iterdir()) == []


def test_records_that_the_model_cannot_read_are_refused() -> None:
    passes = Passes(sure_model("tiny-gpt2"), None)
    with pytest.raises(DataError, match=r"record 'r0' has 1025 tokens, but tiny-gpt2 has positions for 1024"):
        passes.stats(None, _examples((1000, 25)))
    unknown = replace(EXAMPLES[1], input_ids=EXAMPLES[1].input_ids + 100)
    with pytest.raises(DataError, match=r"record 'r1' has tokens that tiny-gpt2 does not know: its ids are 0 to 261"):
        passes.stats(None, [EXAMPLES[0], unknown])
    with pytest.raises(DataError, match=r"prompt 1 has tokens that tiny-gpt2 does not know"):
        passes.generate(None, [[5], [6, 262]], max_new_tokens=5)
    with pytest.raises(UsageError, match="1025 positions, but the model has 1024"):
        passes.generate(None, [[5] * 1020], max_new_tokens=5)
    assert passes.num_passes == 0


def test_an_adapter_of_another_size_is_refused(model: AdaptedModel) -> None:
    passes = Passes(model, None)
    short = random_adapter(model)[:-1]
    for call in (
        lambda: passes.stats(short, EXAMPLES),
        lambda: passes.generate(short, PROMPTS, max_new_tokens=2),
        lambda: passes.gradients(short, EXAMPLES, model.layout),
    ):
        with pytest.raises(LayoutMismatchError, match="expected a flat float32 vector"):
            call()


def test_no_records_give_no_results(model: AdaptedModel) -> None:
    passes = Passes(model, None)
    assert passes.stats(None, []) == []
    assert passes.generate(None, [], max_new_tokens=3) == []
    assert passes.generate(None, [], max_new_tokens=3, sampling=Sampling(temperature=1.0)) == []
    assert list(passes.gradients(random_adapter(model), [], model.layout)) == []


def test_bad_settings_are_refused(model: AdaptedModel) -> None:
    with pytest.raises(ValueError, match="batch_size is 0, expected >= 1"):
        Passes(model, None, batch_size=0)
    with pytest.raises(ValueError, match="two decoding schemes have one name: warm, warm"):
        Passes(model, None, schemes=(WARM, replace(WARM, top_k=3)))


@pytest.mark.parametrize("sampling", [None, Sampling(temperature=1.5, top_p=0.9, seed=3)], ids=["greedy", "sampled"])
@pytest.mark.parametrize("is_base", [True, False], ids=["base", "adapter"])
def test_answers_are_those_of_plain_generation_and_are_kept(
    model: AdaptedModel, tmp_path: Path, sampling: Sampling | None, is_base: bool
) -> None:
    adapter = None if is_base else random_adapter(model)
    passes = Passes(model, tmp_path, batch_size=3)
    passes.generate(adapter, PROMPTS[:2], max_new_tokens=6, sampling=sampling)  # some are known already
    answers = passes.generate(adapter, PROMPTS, max_new_tokens=6, sampling=sampling)
    model.write(model.layout.flatten({slot.name: np.zeros(slot.shape, np.float32) for slot in model.layout}))
    if adapter is not None:
        model.write(adapter)
    assert answers == generate_answers(
        model.module,
        PROMPTS,
        max_new_tokens=6,
        end_token_ids=(model.tokenizer.eos_token_id,),
        pad_token_id=model.tokenizer.pad_token_id,
        sampling=sampling,
    )
    again = Passes(model, tmp_path)
    assert again.generate(adapter, PROMPTS, max_new_tokens=6, sampling=sampling) == answers
    assert again.num_passes == 0


def test_greedy_answers_that_are_known_are_not_computed_again(model: AdaptedModel) -> None:
    passes = Passes(model, None)
    passes.generate(None, PROMPTS[:2], max_new_tokens=3)
    passes.generate(None, [*PROMPTS, PROMPTS[0]], max_new_tokens=3)
    assert passes.num_passes == len(PROMPTS)


def test_one_prompt_asked_several_times_is_drawn_several_times(model: AdaptedModel) -> None:
    answers = Passes(model, None).generate(None, [[5]] * 8, max_new_tokens=6, sampling=Sampling(temperature=2.0))
    assert len({answer.token_ids for answer in answers}) > 1


@pytest.mark.parametrize(
    "changes",
    [
        {"max_new_tokens": 4},
        {"sampling": Sampling(temperature=1.0)},
        {"sampling": Sampling(temperature=1.5, seed=1)},
        {"sampling": Sampling(temperature=1.5, top_p=0.5)},
    ],
    ids=["length", "temperature", "seed", "top_p"],
)
def test_answers_under_other_settings_are_generated_anew(model: AdaptedModel, changes: dict[str, Any]) -> None:
    passes = Passes(model, None)
    settings: dict[str, Any] = {"max_new_tokens": 5, "sampling": Sampling(temperature=1.5)}
    passes.generate(None, PROMPTS, **settings)
    passes.generate(None, PROMPTS, **{**settings, **changes})
    assert passes.num_passes == 2 * len(PROMPTS)


def _twin_gradient(model: AdaptedModel, example: TokenizedExample, layout: Layout) -> Vector:
    """The model's own loss, and torch's own `backward`."""
    model.set_trainable(layout)
    model.module.eval()
    parameters = model.parameters_of(layout)
    ids = torch.from_numpy(example.input_ids)[None, :]
    labels = ids.where(torch.from_numpy(example.loss_mask)[None, :], -100)
    model.module(input_ids=ids, labels=labels).loss.backward()
    gradient = torch.cat([one.grad.reshape(-1) for one in parameters if one.grad is not None])
    for one in parameters:
        one.grad = None
    vector: Vector = gradient.numpy()
    return vector


@pytest.mark.parametrize("average", ["factors", "freeze-a"])
def test_gradients_are_those_of_the_models_own_loss(model: AdaptedModel, average: Average) -> None:
    adapter, layout = random_adapter(model), travelling_slots(model.layout, average, 1)
    found = list(Passes(model, None).gradients(adapter, EXAMPLES, layout))
    model.write(adapter)
    for gradient, example in zip(found, EXAMPLES, strict=True):
        expected = _twin_gradient(model, example, layout)
        assert gradient.dtype == np.float32
        layout.check(gradient)
        # Two ways through float32 products of width 64 and sums over up to 30 tokens.
        assert np.linalg.norm(gradient - expected) < 1e-5 * np.linalg.norm(expected)


def test_a_step_against_the_gradient_lowers_the_loss_by_what_it_says(model: AdaptedModel) -> None:
    adapter, example = random_adapter(model), EXAMPLES[0]
    passes = Passes(model, None)
    (gradient,) = passes.gradients(adapter, [example], model.layout)

    def loss(vector: Vector) -> float:
        (stats,) = passes.stats(vector, [example])
        return -float(stats.logp[stats.is_target].astype(np.float64).mean())

    size = 1e-3
    step = (gradient * (size / np.linalg.norm(gradient))).astype(np.float32)
    slope = (loss(adapter + step) - loss(adapter - step)) / (2 * size)
    # Rounding of two losses over the step, and the step's own square times the third derivative.
    assert slope == pytest.approx(float(np.linalg.norm(gradient)), rel=1e-2)


def test_between_gradients_the_model_may_be_used_for_anything(model: AdaptedModel) -> None:
    adapter = random_adapter(model)
    passes = Passes(model, None)
    expected = list(passes.gradients(adapter, EXAMPLES, model.layout))
    for number, gradient in enumerate(passes.gradients(adapter, EXAMPLES, model.layout)):
        np.testing.assert_array_equal(gradient, expected[number])
        passes.stats(random_adapter(model, seed=number + 5), EXAMPLES[:1])


def test_a_slot_that_the_model_has_not_is_refused(model: AdaptedModel) -> None:
    stranger = Layout((Slot(name="stranger", shape=(2,)),))
    with pytest.raises(LayoutMismatchError, match="no slots"):
        Passes(model, None).gradients(random_adapter(model), EXAMPLES, stranger)


@pytest.mark.parametrize("training", [True, False])
def test_calls_leave_mode_flags_and_gradients_as_they_were(model: AdaptedModel, training: bool) -> None:
    layout = travelling_slots(model.layout, "freeze-a", 1)
    model.set_trainable(layout)
    for parameter in model.parameters_of(layout):
        parameter.grad = torch.ones_like(parameter)
    model.module.train(training)
    before = {name: parameter.requires_grad for name, parameter in model.module.named_parameters()}
    passes = Passes(model, None)
    adapter = random_adapter(model)
    for one in (None, adapter):
        passes.stats(one, EXAMPLES)
        passes.generate(one, PROMPTS, max_new_tokens=2)
    list(passes.gradients(adapter, EXAMPLES, model.layout.select([next(iter(model.layout)).name])))
    assert model.module.training is training
    assert {name: parameter.requires_grad for name, parameter in model.module.named_parameters()} == before
    assert all((parameter.grad == 1).all() for parameter in model.parameters_of(layout) if parameter.grad is not None)
    assert all(parameter.grad is not None for parameter in model.parameters_of(layout))


def test_dropout_is_off_whatever_mode_the_model_is_in(model: AdaptedModel) -> None:
    adapter = random_adapter(model)
    passes = Passes(model, None)
    stats, gradients = passes.stats(adapter, EXAMPLES), list(passes.gradients(adapter, EXAMPLES, model.layout))
    model.module.train()
    in_training = Passes(model, None)
    _assert_same(in_training.stats(adapter, EXAMPLES), stats)
    for found, expected in zip(in_training.gradients(adapter, EXAMPLES, model.layout), gradients, strict=True):
        np.testing.assert_array_equal(found, expected)


def _possible(num_secrets: int = 100) -> PossibleSecrets:
    numbers = np.array([[20 + number // 10, 20 + number % 10] for number in range(num_secrets)], np.int32)
    return PossibleSecrets(candidate_id="canary", beginning=EXAMPLES[1].input_ids, secrets=numbers)


@pytest.mark.parametrize("has_adapter", [True, False])
def test_secrets_are_as_likely_as_in_whole_records(model: AdaptedModel, has_adapter: bool) -> None:
    adapter, possible = random_adapter(model) if has_adapter else None, _possible()
    start = possible.beginning.size
    records = [np.concatenate([possible.beginning, secret, [2]]) for secret in possible.secrets]
    examples = [
        TokenizedExample(record_id="", input_ids=ids.astype(np.int64), loss_mask=np.arange(ids.size) >= start)
        for ids in records
    ]
    passes = Passes(model, None)
    expected = [log_probability(one, start, start + 2) for one in passes.stats(adapter, examples)]
    np.testing.assert_allclose(passes.secrets(adapter, possible), expected, atol=2 * TOLERANCE, rtol=0)


def test_secrets_take_one_pass_and_none_again(model: AdaptedModel, tmp_path: Path) -> None:
    passes, possible = Passes(model, tmp_path), _possible()
    first = passes.secrets(random_adapter(model), possible)
    assert passes.num_passes == 1
    assert not first.flags.writeable
    again = Passes(sure_model(), tmp_path)
    np.testing.assert_array_equal(again.secrets(random_adapter(model), replace(possible, candidate_id="twin")), first)
    assert again.num_passes == 0
    for other in (
        replace(possible, secrets=possible.secrets[::-1]),
        replace(possible, beginning=possible.beginning[1:]),
        replace(possible, secrets=possible.secrets.reshape(50, 4)),
    ):
        again.secrets(random_adapter(model), other)
    assert again.num_passes == 3
    again.secrets(None, possible)
    assert again.num_passes == 4


def test_secrets_that_the_model_cannot_read_are_refused() -> None:
    passes, possible = Passes(sure_model("tiny-gpt2"), None), _possible()
    unknown = replace(possible, secrets=possible.secrets + 262)
    with pytest.raises(DataError, match="record 'canary' has tokens that tiny-gpt2 does not know"):
        passes.secrets(None, unknown)
    long = replace(possible, beginning=np.full(1023, 7))
    with pytest.raises(DataError, match="record 'canary' has 1025 tokens, but tiny-gpt2 has positions for 1024"):
        passes.secrets(None, long)


def test_secrets_under_a_model_that_gives_no_numbers_are_refused(model: AdaptedModel) -> None:
    with pytest.raises(NonFiniteUpdateError):
        Passes(model, None).secrets(np.full_like(random_adapter(model), np.nan), _possible())
    with torch.no_grad():
        model.base.module.get_decoder().norm.weight.fill_(torch.inf)
    with pytest.raises(NonFiniteLossError, match="record 'canary': a secret's log-probability is NaN or infinite"):
        Passes(model, None).secrets(None, _possible())
