import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from torch.utils.flop_counter import FlopCounterMode

from confide.aggregate.travelling import travelling_slots
from confide.errors import ModelError
from confide.model.load import BaseModel, load_base_model
from confide.model.lora import AdaptedModel, LoraSettings, attach_lora
from confide.model.lora_targets import linear_modules
from confide.model.tiny import TINY_MODELS
from confide.seeds import stream
from confide.train.per_example import watch_examples
from confide.update import Layout, Vector

TEXT = "What travels is one flat vector."


def full_rank(name: str = "tiny-llama", *, dtype: str = "float32", dropout: float = 0.0) -> AdaptedModel:
    settings = LoraSettings(full_rank=True, targets="all-linear", dropout=dropout)
    return attach_lora(load_base_model(name, dtype=dtype), settings, seed=0)


def trained_part(model: AdaptedModel) -> Layout:
    return travelling_slots(model.layout, "freeze-a", 1)


def some_vector(model: AdaptedModel, seed: int = 0) -> Vector:
    """An adapter whose A is what it is in the model and whose B is large beside rounding."""
    part = trained_part(model)
    values = stream(seed, "test-vector").standard_normal(part.num_values, dtype=np.float32) / np.float32(50)
    tensors = model.layout.unflatten(model.read()) | part.unflatten(values)
    return model.layout.flatten({name: np.asarray(tensor) for name, tensor in tensors.items()})


def tokens(base: BaseModel) -> torch.Tensor:
    ids: torch.Tensor = base.tokenizer(TEXT, return_tensors="pt").input_ids
    return ids


def logits(module: torch.nn.Module, base: BaseModel) -> torch.Tensor:
    with torch.no_grad():
        result: torch.Tensor = module(input_ids=tokens(base)).logits
    return result


def assert_close(found: torch.Tensor, expected: torch.Tensor) -> None:
    """The same sums of products in another order: some roundings of float32 through two layers."""
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def in_plain_peft(name: str, folder: Path, dtype: str = "float32") -> torch.nn.Module:
    with warnings.catch_warnings():
        # PEFT asks transformers for a property under its old name.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        loaded: torch.nn.Module = PeftModel.from_pretrained(load_base_model(name, dtype=dtype).module, folder)
    return loaded.eval()


@pytest.mark.parametrize("name", TINY_MODELS)
def test_training_is_that_of_the_models_own_matrices(name: str) -> None:
    plain, adapted = load_base_model(name), full_rank(name)
    part = trained_part(adapted)
    adapted.set_trainable(part)
    matrices = [layer.get_parameter("weight") for layer in linear_modules(plain.module).values()]
    for matrix in matrices:
        matrix.requires_grad_()
    both: Sequence[tuple[torch.nn.Module, list[torch.nn.Parameter]]] = (
        (adapted.module, adapted.parameters_of(part)),
        (plain.module, matrices),
    )
    ids = tokens(plain)
    for module, parameters in both:
        optimizer = torch.optim.SGD(parameters, lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            module(input_ids=ids, labels=ids).loss.backward()
            optimizer.step()
    assert part.num_values == sum(matrix.numel() for matrix in matrices)
    assert_close(logits(adapted.module, plain), logits(plain.module, plain))
    assert not torch.allclose(logits(plain.module, plain), logits(load_base_model(name).module, plain), atol=1e-3)


@pytest.mark.parametrize("name", TINY_MODELS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_is_saved_gives_the_same_logits_in_plain_peft(name: str, dtype: str, tmp_path: Path) -> None:
    model = full_rank(name, dtype=dtype)
    vector = some_vector(model)
    model.save(tmp_path, vector)
    model.write(vector)
    # In bfloat16 both take the same steps, for multiplying by the identity changes nothing.
    assert_close(logits(model.module, model.base), logits(in_plain_peft(name, tmp_path, dtype), model.base))
    bare = logits(full_rank(name, dtype=dtype).module, model.base)
    assert not torch.allclose(logits(model.module, model.base), bare, atol=1e-2)


@pytest.mark.parametrize("name", TINY_MODELS)
def test_a_pass_multiplies_as_often_as_the_base_model(name: str) -> None:
    def operations(module: torch.nn.Module, ids: torch.Tensor, *, backward: bool) -> int:
        with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(backward):
            loss = module(input_ids=ids, labels=ids).loss
            if backward:
                loss.backward()
        return int(counter.get_total_flops())

    base, model = load_base_model(name), full_rank(name)
    model.write(some_vector(model))
    model.set_trainable(trained_part(model))
    for layer in linear_modules(base.module).values():
        layer.get_parameter("weight").requires_grad_()
    for backward in (False, True):
        expected = operations(base.module, tokens(base), backward=backward)
        assert operations(model.module, tokens(base), backward=backward) == expected > 0


def test_nothing_but_the_change_is_held_beside_the_base() -> None:
    model = full_rank()
    own = sum(parameter.numel() for parameter in load_base_model("tiny-llama").module.parameters())
    held = sum(parameter.numel() for parameter in model.module.parameters())
    assert held - own == trained_part(model).num_values < model.layout.num_values


def test_a_is_read_as_the_identity_and_what_is_written_is_read() -> None:
    model = full_rank("tiny-gpt2")
    start = model.layout.unflatten(model.read())
    for name, tensor in start.items():
        assert np.array_equal(tensor, np.eye(*tensor.shape) if ".lora_A." in name else np.zeros(tensor.shape)), name
    vector = some_vector(model)
    vector.flags.writeable = False
    model.write(vector)
    assert model.read().tobytes() == vector.tobytes()


def test_every_change_is_seen_by_the_next_pass() -> None:
    model = full_rank()
    part = trained_part(model)
    model.set_trainable(part)
    optimizer = torch.optim.SGD(model.parameters_of(part), lr=0.1)
    ids = tokens(model.base)
    for seed in range(2):
        model.write(some_vector(model, seed))
        loss = model.module(input_ids=ids, labels=ids).loss
        logits(model.module, model.base)
        loss.backward()
        optimizer.step()
        fresh = full_rank()
        fresh.write(model.read())
        assert torch.equal(logits(model.module, model.base), logits(fresh.module, fresh.base))


@pytest.mark.parametrize("name", TINY_MODELS)
def test_dropout_drops_inputs_of_the_change_alone(name: str) -> None:
    model = full_rank(name, dropout=0.5)
    bare = logits(load_base_model(name).module, model.base)
    model.module.train()
    assert torch.equal(logits(model.module, model.base), bare)  # the change is still zero
    model.write(some_vector(model))
    assert not torch.equal(logits(model.module, model.base), logits(model.module, model.base))


def test_gradients_of_examples_add_up_to_that_of_their_sum() -> None:
    model = full_rank()
    part = trained_part(model)
    parameters = model.parameters_of(part)
    model.write(some_vector(model))
    model.set_trainable(part)
    model.module.train()
    ids = torch.stack([tokens(model.base)[0], tokens(model.base)[0].flip(0)])

    def loss() -> torch.Tensor:
        total: torch.Tensor = model.module(input_ids=ids, labels=ids).loss * ids.numel()
        return total

    whole = torch.autograd.grad(loss(), parameters)
    with watch_examples(model.module, parameters) as watched:
        watched.expect((2, ids.shape[1]))
        loss().backward()
        each = watched.take()
    for gradient, gradients in zip(whole, each, strict=True):
        assert_close(gradients.sum(dim=0), gradient)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("is_full", [True, False])
def test_adapters_that_take_turns_give_what_each_gives_alone(dtype: str, is_full: bool) -> None:
    base = load_base_model("tiny-llama", dtype=dtype)
    model = attach_lora(base, LoraSettings(full_rank=is_full, lora_rank=4), seed=0)
    first, second = some_vector(model, 1), some_vector(model, 2)
    expected = []
    for vector in (first, second):
        model.write(vector)
        expected.append(logits(model.module, base))
    with model.base_only():
        expected.append(logits(model.module, base))
    held = [parameter.data_ptr() for parameter in model.module.parameters()]
    with model.taking_turns([first, second, None]) as put_in:
        for number in (2, 0, 1, 0, 2):
            put_in(number)
            assert torch.equal(logits(model.module, base), expected[number])
    assert [parameter.data_ptr() for parameter in model.module.parameters()] == held
    model.write(first)
    assert torch.equal(logits(model.module, base), expected[0])


def test_an_adapter_whose_a_is_not_the_identity_is_refused_and_nothing_is_written() -> None:
    model = full_rank()
    vector = some_vector(model)
    vector[model.layout.slice_of(next(slot.name for slot in model.layout if ".lora_A." in slot.name))] *= 2
    before = model.read()
    with pytest.raises(ModelError, match=r"lora_A\.weight is not the identity.*lora\.full_rank"):
        model.write(vector)
    assert model.read().tobytes() == before.tobytes()


@pytest.mark.parametrize("method", ["set_trainable", "parameters_of"])
def test_training_a_is_refused(method: str) -> None:
    model = full_rank()
    with pytest.raises(ModelError, match=r"is the identity and stays so.*'freeze-a'"):
        getattr(model, method)(travelling_slots(model.layout, "factors", 1))


def test_a_second_adapter_on_the_same_base_is_refused() -> None:
    model = full_rank()
    with pytest.raises(ModelError, match="tiny-llama has an adapter attached already"):
        attach_lora(model.base, LoraSettings(), seed=0)
