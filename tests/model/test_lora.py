import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import PeftModel, get_peft_model_state_dict

from confide.aggregate.travelling import travelling_slots
from confide.errors import LayoutMismatchError, ModelError, StorageError
from confide.model.adapter_files import read_adapter
from confide.model.load import BaseModel, load_base_model
from confide.model.lora import AdaptedModel, LoraSettings, attach_lora
from confide.model.lora_targets import Targets
from confide.model.tiny import TINY_MODELS
from confide.seeds import stream
from confide.update import Layout, Slot, Vector

SETTINGS = LoraSettings(lora_rank=4, lora_alpha=8)
TEXT = "What travels is one flat vector."

# What all models of the tests have in common: the architecture, and where the adapter goes.
CASES: list[tuple[str, Targets]] = [(name, targets) for name in TINY_MODELS for targets in ("auto", "all-linear")]


def adapted_model(
    name: str = "tiny-llama", *, seed: int = 0, targets: Targets = "auto", dropout: float = 0.0
) -> AdaptedModel:
    settings = replace(SETTINGS, targets=targets, dropout=dropout)
    return attach_lora(load_base_model(name), settings, seed=seed)


def some_vector(layout: Layout, seed: int = 0) -> Vector:
    return stream(seed, "test-vector").standard_normal(layout.num_values, dtype=np.float32) / np.float32(4)


def logits(module: torch.nn.Module, base: BaseModel) -> torch.Tensor:
    with torch.no_grad():
        result: torch.Tensor = module(input_ids=base.tokenizer(TEXT, return_tensors="pt").input_ids).logits
    return result


def plain_peft(base: torch.nn.Module, folder: Path) -> PeftModel:
    with warnings.catch_warnings():
        # PEFT asks transformers for a property under its old name.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        return PeftModel.from_pretrained(base, folder)


@pytest.mark.parametrize("name", TINY_MODELS)
def test_a_new_adapter_changes_no_output(name: str) -> None:
    base = load_base_model(name)
    before = logits(base.module, base)
    assert torch.equal(logits(attach_lora(base, SETTINGS, seed=0).module, base), before)


@pytest.mark.parametrize(("name", "targets"), CASES)
def test_the_layout_has_exactly_the_names_and_shapes_that_peft_saves(name: str, targets: Targets) -> None:
    adapted = adapted_model(name, targets=targets)
    saved = {name: tuple(tensor.shape) for name, tensor in get_peft_model_state_dict(adapted.module).items()}
    assert {slot.name: slot.shape for slot in adapted.layout} == saved
    assert [slot.name for slot in adapted.layout] == sorted(saved)


def test_the_initial_adapter_depends_on_the_seed_and_on_nothing_else() -> None:
    first = adapted_model(seed=1).read()
    torch.manual_seed(123)
    assert adapted_model(seed=1).read().tobytes() == first.tobytes()
    assert adapted_model(seed=2).read().tobytes() != first.tobytes()


def test_attaching_leaves_the_global_generator_alone() -> None:
    base = load_base_model("tiny-llama")
    before = torch.random.get_rng_state()
    attach_lora(base, SETTINGS, seed=0)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_starts_uniform_within_its_bound_and_b_starts_at_zero() -> None:
    adapted = adapted_model(targets="all-linear")
    for name, values in adapted.layout.unflatten(adapted.read()).items():
        if ".lora_B." in name:
            assert not values.any()
            continue
        bound = 1 / np.sqrt(values.shape[1])
        assert np.abs(values).max() <= np.float32(bound)
        # At least 128 draws a slot. The mean of n uniform draws has the standard deviation bound / sqrt(3 n): six of
        # them are never exceeded; the largest of n misses half the bound with probability 2**-n.
        assert abs(values.mean()) < 6 * bound / np.sqrt(3 * values.size)
        assert np.abs(values).max() > bound / 2


def test_every_slot_starts_from_a_stream_of_its_own() -> None:
    adapted = adapted_model(targets=("q_proj", "o_proj"))
    starts = [values for name, values in adapted.layout.unflatten(adapted.read()).items() if ".lora_A." in name]
    assert len({values.tobytes() for values in starts}) == len(starts) == 4


@pytest.mark.parametrize(("name", "targets"), CASES)
def test_what_is_written_is_read(name: str, targets: Targets) -> None:
    adapted = adapted_model(name, targets=targets)
    vector = some_vector(adapted.layout)
    vector.flags.writeable = False  # as vectors from messages are
    adapted.write(vector)
    assert adapted.read().tobytes() == vector.tobytes()


def test_what_was_read_does_not_change_with_the_model() -> None:
    adapted = adapted_model()
    before = adapted.read()
    copy = before.copy()
    adapted.write(some_vector(adapted.layout))
    assert np.array_equal(before, copy)


def test_writing_keeps_the_parameters_that_an_optimiser_holds() -> None:
    adapted = adapted_model()
    held = [parameter.data_ptr() for parameter in adapted.parameters_of(adapted.layout)]
    adapted.write(some_vector(adapted.layout))
    assert [parameter.data_ptr() for parameter in adapted.parameters_of(adapted.layout)] == held


def test_a_vector_of_another_length_is_refused_and_nothing_is_written() -> None:
    adapted = adapted_model()
    before = adapted.read()
    with pytest.raises(LayoutMismatchError, match=f"expected a flat float32 vector of {before.size} values"):
        adapted.write(np.zeros(before.size + 1, np.float32))
    assert np.array_equal(adapted.read(), before)


@pytest.mark.parametrize(("name", "targets"), CASES)
def test_a_saved_adapter_loads_in_plain_peft_and_gives_the_same_logits(
    name: str, targets: Targets, tmp_path: Path
) -> None:
    adapted = adapted_model(name, targets=targets)
    vector = some_vector(adapted.layout)
    adapted.save(tmp_path, vector)
    adapted.write(vector)
    loaded = plain_peft(load_base_model(name).module, tmp_path)
    ours, bare = logits(adapted.module, adapted.base), logits(load_base_model(name).module, adapted.base)
    assert torch.equal(logits(loaded, adapted.base), ours)
    assert not torch.allclose(ours, bare)


def test_saving_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    adapted = adapted_model()
    before = adapted.read()
    adapted.save(tmp_path, some_vector(adapted.layout))
    assert np.array_equal(adapted.read(), before)


def test_equal_vectors_are_saved_as_equal_bytes(tmp_path: Path) -> None:
    vector = some_vector(adapted_model().layout)
    for folder in ("one", "two"):
        adapted_model().save(tmp_path / folder, vector)
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_a_saved_adapter_is_read_back_bit_for_bit(tmp_path: Path) -> None:
    adapted = adapted_model("tiny-gpt2")
    vector = some_vector(adapted.layout)
    adapted.save(tmp_path, vector)
    assert read_adapter(tmp_path, adapted.layout, "tiny-gpt2").tobytes() == vector.tobytes()


def test_an_adapter_that_peft_saved_is_read(tmp_path: Path) -> None:
    adapted = adapted_model()
    vector = some_vector(adapted.layout)
    adapted.write(vector)
    adapted.module.save_pretrained(tmp_path)
    assert np.array_equal(read_adapter(tmp_path, adapted.layout, "tiny-llama"), vector)


def test_a_folder_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    adapted = adapted_model()
    (tmp_path / "adapter_model.safetensors").mkdir()
    (tmp_path / "adapter_model.safetensors" / "in-the-way").touch()
    with pytest.raises(StorageError, match=r"cannot write .*adapter_model.safetensors"):
        adapted.save(tmp_path, adapted.read())


def test_exactly_the_chosen_slots_require_gradients() -> None:
    adapted = adapted_model()
    chosen = travelling_slots(adapted.layout, "freeze-a", 1)
    for part in (adapted.layout, chosen):
        adapted.set_trainable(part)
        trainable = {name for name, parameter in adapted.module.named_parameters() if parameter.requires_grad}
        assert {name.replace(".default.", ".") for name in trainable} == {slot.name for slot in part}


def test_a_slot_that_is_frozen_loses_its_gradient() -> None:
    adapted = adapted_model()
    adapted.set_trainable(adapted.layout)
    for parameter in adapted.parameters_of(adapted.layout):
        parameter.grad = torch.ones_like(parameter)
    chosen = travelling_slots(adapted.layout, "freeze-a", 1)
    adapted.set_trainable(chosen)
    with_gradient = [slot.name for slot in adapted.layout if adapted.parameters_of(Layout((slot,)))[0].grad is not None]
    assert with_gradient == [slot.name for slot in chosen]


def test_parameters_come_in_the_order_of_the_layout_asked_for() -> None:
    adapted = adapted_model()
    backwards = Layout(tuple(reversed(adapted.layout.slots)))
    assert [id(each) for each in adapted.parameters_of(backwards)] == [
        id(each) for each in reversed(adapted.parameters_of(adapted.layout))
    ]


@pytest.mark.parametrize("method", ["set_trainable", "parameters_of"])
def test_a_slot_that_the_adapter_has_not_is_refused(method: str) -> None:
    with pytest.raises(LayoutMismatchError, match="the layout has no slots \\['elsewhere'\\]"):
        getattr(adapted_model(), method)(Layout((Slot(name="elsewhere", shape=(1,)),)))


@pytest.mark.parametrize("name", TINY_MODELS)
def test_base_only_computes_what_the_base_computes(name: str) -> None:
    bare = load_base_model(name)
    adapted = adapted_model(name)
    adapted.write(some_vector(adapted.layout))
    with_adapter = logits(adapted.module, adapted.base)
    with adapted.base_only():
        assert torch.equal(logits(adapted.module, adapted.base), logits(bare.module, bare))
    assert torch.equal(logits(adapted.module, adapted.base), with_adapter)


def test_base_only_between_forward_and_backward_leaves_the_gradient_as_it_was() -> None:
    def gradients(*, look_at_base: bool) -> list[torch.Tensor | None]:
        adapted = adapted_model()
        adapted.write(some_vector(adapted.layout))
        adapted.set_trainable(travelling_slots(adapted.layout, "freeze-a", 1))
        loss = adapted.module(input_ids=adapted.tokenizer(TEXT, return_tensors="pt").input_ids).logits.square().mean()
        if look_at_base:
            with adapted.base_only():
                logits(adapted.module, adapted.base)
        loss.backward()
        return [parameter.grad for parameter in adapted.parameters_of(adapted.layout)]

    for alone, beside in zip(gradients(look_at_base=False), gradients(look_at_base=True), strict=True):
        assert (alone is None) == (beside is None)
        assert alone is None or beside is None or torch.equal(alone, beside)


def test_base_only_puts_the_adapter_back_when_its_body_fails() -> None:
    adapted = adapted_model()
    adapted.write(some_vector(adapted.layout))
    before = logits(adapted.module, adapted.base)
    with pytest.raises(KeyError), adapted.base_only():
        raise KeyError
    assert torch.equal(logits(adapted.module, adapted.base), before)


def test_the_adapter_is_float32_on_a_half_precision_base() -> None:
    adapted = attach_lora(load_base_model("tiny-llama", dtype="bfloat16"), SETTINGS, seed=0)
    assert {parameter.dtype for parameter in adapted.parameters_of(adapted.layout)} == {torch.float32}
    assert adapted.read().tobytes() == adapted_model().read().tobytes()


def test_dropout_acts_in_training_only() -> None:
    adapted = adapted_model(dropout=0.5)
    adapted.write(some_vector(adapted.layout))
    assert torch.equal(logits(adapted.module, adapted.base), logits(adapted.module, adapted.base))
    adapted.module.train()
    assert not torch.equal(logits(adapted.module, adapted.base), logits(adapted.module, adapted.base))


def test_a_second_adapter_on_the_same_base_is_refused() -> None:
    base = load_base_model("tiny-llama")
    attach_lora(base, SETTINGS, seed=0)
    with pytest.raises(ModelError, match="tiny-llama has an adapter attached already"):
        attach_lora(base, SETTINGS, seed=0)


def test_targets_that_match_nothing_are_refused_and_the_base_stays_usable() -> None:
    base = load_base_model("tiny-gpt2")
    with pytest.raises(ModelError, match=r"'q_proj' matches nothing in tiny-gpt2.* c_attn, c_fc, c_proj"):
        attach_lora(base, LoraSettings(targets=("q_proj",)), seed=0)
    attach_lora(base, SETTINGS, seed=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lora_rank": 0}, "lora.rank is 0, expected >= 1"),
        ({"lora_alpha": 0.0}, "lora.alpha is 0.0, expected a finite number > 0"),
        ({"lora_alpha": float("nan")}, "lora.alpha is nan, expected a finite number > 0"),
        ({"dropout": 1.0}, r"lora.dropout is 1.0, expected in \[0, 1\)"),
        ({"targets": ()}, "lora.targets is empty"),
    ],
)
def test_a_setting_out_of_range_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        LoraSettings(**settings)  # type: ignore[arg-type]


@given(st.integers(1, 1000))
def test_freeze_a_sends_b_and_factors_sends_both_in_every_round(round_number: int) -> None:
    layout = LAYOUT
    assert [slot.name for slot in travelling_slots(layout, "freeze-a", round_number)] == ["x.lora_B.weight"]
    assert travelling_slots(layout, "factors", round_number) == layout


@given(st.integers(1, 1000))
def test_alternate_sends_b_in_odd_rounds_and_a_in_even_ones(round_number: int) -> None:
    factor = "B" if round_number % 2 else "A"
    names = [slot.name for slot in travelling_slots(LAYOUT, "alternate", round_number)]
    assert names == [f"x.lora_{factor}.weight"]


LAYOUT = Layout((Slot(name="x.lora_A.weight", shape=(2, 3)), Slot(name="x.lora_B.weight", shape=(3, 2))))


def test_while_b_is_zero_a_has_no_gradient() -> None:
    adapted = adapted_model()
    adapted.set_trainable(adapted.layout)
    adapted.module(input_ids=adapted.tokenizer(TEXT, return_tensors="pt").input_ids).logits.square().mean().backward()
    for slot, parameter in zip(adapted.layout, adapted.parameters_of(adapted.layout), strict=True):
        assert parameter.grad is not None
        assert bool(parameter.grad.any()) == (".lora_B." in slot.name)
