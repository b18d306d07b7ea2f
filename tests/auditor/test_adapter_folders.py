"""Anybody's adapters: what is read of them, and what is refused."""

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from confide.auditor.adapter_folders import common_shape, find_rounds, read_shape
from confide.errors import ModelError
from confide.model.adapter_files import read_adapter
from confide.model.load import load_base_model
from confide.model.lora import LoraSettings, attach_lora


def save_with_peft(folder: Path, **settings: Any) -> torch.nn.Module:
    """An adapter of a tiny model as PEFT writes it, all its weights drawn at random."""
    base = load_base_model("tiny-llama", device="cpu").module
    config = LoraConfig(**{"r": 4, "lora_alpha": 6, "target_modules": ["q_proj", "down_proj"], **settings})
    with torch.random.fork_rng(), warnings.catch_warnings():
        # PEFT asks transformers for a property under its old name.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        torch.manual_seed(0)
        model = get_peft_model(base, config)
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(parameter, std=0.3)
    model.eval().save_pretrained(str(folder))
    adapted: torch.nn.Module = model
    return adapted


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "round-1"
    save_with_peft(folder)
    return folder


@pytest.fixture
def adapter(saved: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(saved, tmp_path / "round-1"))


def change(folder: Path, **values: object) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"use_rslora": True},
        {"target_modules": r".*layers\.1\..*(k_proj|up_proj)"},
        {"target_modules": "all-linear"},
        {"target_modules": ["v_proj"], "layers_to_transform": [0]},
        {"r": 1, "lora_alpha": 32},
    ],
)
def test_the_model_that_is_audited_is_the_one_that_peft_makes(settings: dict[str, Any], tmp_path: Path) -> None:
    theirs = save_with_peft(tmp_path, **settings)
    shape = read_shape(tmp_path)
    ours = attach_lora(
        load_base_model("tiny-llama", device="cpu"),
        LoraSettings(lora_rank=shape.lora_rank, lora_alpha=shape.lora_alpha, targets=shape.layers),
        seed=0,
    )
    ours.write(read_adapter(tmp_path, ours.layout, "tiny-llama"))
    ids = torch.arange(6, 46).reshape(2, 20)
    with torch.no_grad():
        expected, found = theirs(input_ids=ids).logits, ours.module(input_ids=ids).logits
        plain = load_base_model("tiny-llama", device="cpu").module(input_ids=ids).logits
    # The same float32 operations in the same order, but for the scaling, which rounds once more with rslora.
    assert torch.allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(plain, expected, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"peft_type": "IA3"}, "is of type 'IA3', expected 'LORA'"),
        ({"use_dora": True}, "not plain LoRA: it uses use_dora"),
        ({"rank_pattern": {"q_proj": 8}, "alpha_pattern": {"q_proj": 8}}, "it uses alpha_pattern, rank_pattern"),
        ({"modules_to_save": ["lm_head"]}, "it uses modules_to_save"),
        ({"bias": "all"}, "it uses bias"),
        ({"lora_bias": True}, "it uses lora_bias"),
        ({"layer_replication": [[0, 2]]}, "it uses layer_replication"),
        ({"trainable_token_indices": [5]}, "it uses trainable_token_indices"),
        ({"some_later_variant": {"depth": 2}}, "it uses some_later_variant"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights 'pissa', which changes the base model's weights"),
        ({"r": 0}, "has rank 0"),
        ({"r": "4"}, "has rank '4'"),
        ({"lora_alpha": -1}, "alpha -1"),
    ],
)
def test_what_is_not_plain_lora_is_refused_by_name(adapter: Path, values: dict[str, object], message: str) -> None:
    change(adapter, **values)
    with pytest.raises(ModelError, match=message):
        read_shape(adapter)


@pytest.mark.parametrize("values", [{"some_later_variant": None}, {"another": False}, {"third": {}}])
def test_what_a_later_peft_lists_and_does_not_use_is_no_hindrance(adapter: Path, values: dict[str, object]) -> None:
    change(adapter, **values)
    assert read_shape(adapter) == read_shape(adapter)


def test_weights_beside_the_factors_are_refused(adapter: Path) -> None:
    """As PEFT saves them where tokens were added to the vocabulary."""
    path = adapter / "adapter_model.safetensors"
    save_file(load_file(path) | {"base_model.model.model.embed_tokens.weight": torch.zeros(270, 32)}, path)
    with pytest.raises(ModelError, match=r"1 tensors of 9 that are no LoRA factors.*tokens were added"):
        read_shape(adapter)


def test_files_that_cannot_be_read_are_named(adapter: Path) -> None:
    (adapter / "adapter_model.safetensors").write_bytes(b"damaged")
    with pytest.raises(ModelError, match=r"adapter_model\.safetensors cannot be read"):
        read_shape(adapter)
    (adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"has no adapter_model\.safetensors"):
        read_shape(adapter)
    for content in ("{", "[]"):
        (adapter / "adapter_config.json").write_text(content)
        with pytest.raises(ModelError, match="Expected a PEFT adapter"):
            read_shape(adapter)


def test_adapters_of_two_trainings_are_not_taken_for_rounds_of_one(adapter: Path, tmp_path: Path) -> None:
    shutil.copytree(adapter, tmp_path / "round-2")
    assert common_shape(find_rounds(tmp_path).folders).lora_rank == 4
    change(tmp_path / "round-2", lora_alpha=12)
    with pytest.raises(ModelError, match="not of one training: rank 4 and 4, alpha 6 and 12"):
        common_shape(find_rounds(tmp_path).folders)


def rounds_in(tmp_path: Path, adapter: Path, names: list[str]) -> Path:
    folder = tmp_path / "all"
    for name in names:
        shutil.copytree(adapter, folder / name)
    return folder


@pytest.mark.parametrize(
    ("names", "numbers", "missing"),
    [
        (["round-2", "round-10", "round-1"], [1, 2, 10], [3, 4, 5, 6, 7, 8, 9]),
        (["checkpoint-500", "checkpoint-1000", "checkpoint-1607"], [500, 1000, 1607], []),
        (["checkpoint-500", "checkpoint-1000", "checkpoint-2000"], [500, 1000, 2000], [1500]),
        (["llama3-round7"], [7], []),
        (["1", "3", "4"], [1, 3, 4], [2]),
        (["2", "3"], [2, 3], [1]),
        (["0003"], [3], []),
        (["1", "3", "5"], [1, 3, 5], [2, 4]),
        (["2", "4", "6"], [2, 4, 6], []),
        (["step-1", "step-501", "step-1001"], [1, 501, 1001], []),
    ],
)
def test_rounds_are_found_by_the_last_number_in_their_names(
    tmp_path: Path, saved: Path, names: list[str], numbers: list[int], missing: list[int]
) -> None:
    folder = rounds_in(tmp_path, saved, names)
    (folder / "notes").mkdir()
    (folder / "readme-4.txt").write_text("no adapter")
    found = find_rounds(folder)
    assert list(found.folders) == numbers
    assert list(found.missing) == missing
    assert found.ignored == ()


def test_a_single_adapter_is_round_one(saved: Path) -> None:
    assert dict(find_rounds(saved).folders) == {1: saved}


def test_what_is_not_looked_at_is_said(tmp_path: Path, saved: Path) -> None:
    folder = rounds_in(tmp_path, saved, ["round-1", "final"])
    assert find_rounds(folder).ignored == (folder / "final",)
    inner = rounds_in(tmp_path / "nested", saved, ["."])
    shutil.copytree(saved, inner / "checkpoint-5")
    assert find_rounds(inner).ignored == (inner / "checkpoint-5",)


def test_an_adapter_numbered_zero_is_the_start_only_if_it_changes_nothing(tmp_path: Path, saved: Path) -> None:
    folder = rounds_in(tmp_path, saved, ["0", "1"])
    assert list(find_rounds(folder).folders) == [1, 2]
    path = folder / "0" / "adapter_model.safetensors"
    tensors = load_file(path)
    save_file({name: tensor * (".lora_A." in name) for name, tensor in tensors.items()}, path)
    assert list(find_rounds(folder).folders) == [0, 1]


def test_two_rounds_of_one_number_are_refused(tmp_path: Path, saved: Path) -> None:
    with pytest.raises(ModelError, match="have the same number, 1"):
        find_rounds(rounds_in(tmp_path, saved, ["round-1", "round-01"]))


@pytest.mark.parametrize("name", ["nothing", "empty"])
def test_a_folder_without_adapters_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"there is no folder|is no PEFT adapter and has no folder with one"):
        find_rounds(tmp_path / name)


def test_layers_come_from_the_tensors(saved: Path) -> None:
    shape = read_shape(saved)
    assert shape.layers == tuple(
        sorted(f"model.layers.{n}.{name}" for n in (0, 1) for name in ("self_attn.q_proj", "mlp.down_proj"))
    )
    assert np.isclose(shape.lora_alpha, 6)
