import json
import re
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from confide.errors import ModelError
from confide.model.load import load_base_model
from confide.model.merge import (
    adapter_base,
    attach_adapter,
    check_apart,
    is_adapter_folder,
    merge_adapter,
    save_model,
)

VOCABULARY = 53

pytestmark = [  # from inside PEFT, while this test makes an adapter
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False:UserWarning"),
]


class FakeTokenizer:
    def save_pretrained(self, save_directory: str) -> None:
        (Path(save_directory) / "tokenizer.json").write_text("{}")


def _tiny_llama(*, num_layers: int = 2, hidden_size: int = 16) -> torch.nn.Module:
    torch.manual_seed(1)
    model: torch.nn.Module = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=hidden_size,
            intermediate_size=24,
            num_hidden_layers=num_layers,
            num_attention_heads=2,
        )
    )
    return model


def _tiny_gpt2() -> torch.nn.Module:
    torch.manual_seed(1)
    model: torch.nn.Module = GPT2LMHeadModel(
        GPT2Config(vocab_size=VOCABULARY, n_embd=16, n_layer=2, n_head=2, bos_token_id=1, eos_token_id=2)
    )
    return model


def _save_adapter(base: torch.nn.Module, folder: Path, targets: list[str]) -> None:
    """Saves a LoRA adapter with random weights in both factors, as a trained one has."""
    adapted = get_peft_model(base, LoraConfig(r=4, lora_alpha=8, target_modules=targets, task_type="CAUSAL_LM"))
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    adapted.peft_config["default"].base_model_name_or_path = "tiny"
    adapted.save_pretrained(str(folder), save_embedding_layers=False)


def _logits(model: torch.nn.Module) -> torch.Tensor:
    ids = torch.arange(2 * 12).reshape(2, 12) % VOCABULARY
    with torch.no_grad():
        logits: torch.Tensor = model(input_ids=ids).logits
    return logits


@pytest.fixture
def llama_adapter(tmp_path: Path) -> Path:
    _save_adapter(_tiny_llama(), tmp_path / "adapter", ["q_proj", "v_proj"])
    return tmp_path / "adapter"


@pytest.mark.parametrize(
    ("make_base", "targets"),
    [(_tiny_llama, ["q_proj", "v_proj"]), (_tiny_llama, ["q_proj", "down_proj"]), (_tiny_gpt2, ["c_attn"])],
)
def test_a_merged_model_loads_in_transformers_and_gives_the_adapted_logits(
    make_base: type[torch.nn.Module], targets: list[str], tmp_path: Path
) -> None:
    _save_adapter(make_base(), tmp_path / "adapter", targets)
    adapted = attach_adapter(make_base(), tmp_path / "adapter")
    expected, base_logits = _logits(adapted), _logits(make_base().eval())
    save_model(merge_adapter(adapted), FakeTokenizer(), tmp_path / "merged")
    found = _logits(AutoModelForCausalLM.from_pretrained(tmp_path / "merged"))
    # Float32 rounds each weight of W + BA and each partial sum of a product once more: with inner sizes up to 24, two
    # layers of a few products each, and logits of order 1, about 100 roundings of 2**-24 relative.
    tolerance = 100 * 2.0**-24 * max(1.0, float(expected.abs().max()))
    assert (found - expected).abs().max() <= tolerance
    assert (base_logits - expected).abs().max() > 1000 * tolerance


def test_a_merged_folder_has_no_adapter(llama_adapter: Path, tmp_path: Path) -> None:
    save_model(merge_adapter(attach_adapter(_tiny_llama(), llama_adapter)), FakeTokenizer(), tmp_path / "merged")
    assert is_adapter_folder(llama_adapter)
    assert not is_adapter_folder(tmp_path / "merged")
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {
        path.name for path in (tmp_path / "merged").iterdir()
    }


@pytest.mark.parametrize(
    ("base", "reason"),
    [
        (lambda: _tiny_llama(hidden_size=32), r"has shape \(\d+, \d+\), expected \(\d+, \d+\)"),
        (lambda: _tiny_llama(num_layers=3), r"it lacks weights for .*layers\.2\."),
        (lambda: _tiny_llama(num_layers=1), r"it has weights for .*layers\.1\..*, which the base model lacks"),
        (_tiny_gpt2, "none of the layers it adapts is there"),
    ],
    ids=["wider", "deeper", "shallower", "other architecture"],
)
def test_an_adapter_of_another_model_is_refused(base: type[torch.nn.Module], reason: str, llama_adapter: Path) -> None:
    with pytest.raises(ModelError, match=f"does not fit the base model .*{reason}.*adapter of another model.*--base"):
        attach_adapter(base(), llama_adapter)


def test_a_quantised_base_is_refused(llama_adapter: Path) -> None:
    adapted = attach_adapter(_tiny_llama(), llama_adapter)
    adapted.get_base_model().hf_quantizer = object()  # type: ignore[operator]
    with pytest.raises(ModelError, match=r"the base model is loaded in 8 or 4 bits.*--base"):
        merge_adapter(adapted)


def test_a_folder_with_files_is_replaced_only_when_asked(tmp_path: Path) -> None:
    folder = tmp_path / "merged"
    folder.mkdir()
    save_model(_tiny_llama(), FakeTokenizer(), folder)  # an empty folder is free
    with pytest.raises(ModelError, match=r"exists and is not empty.*--force"):
        save_model(_tiny_llama(), FakeTokenizer(), folder)
    (folder / "chat_template.jinja").touch()
    save_model(_tiny_llama(), FakeTokenizer(), folder, replace=True)
    assert not (folder / "chat_template.jinja").exists()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("notes.txt", "it has notes.txt in it"),
        ("letters", "it has letters in it"),
        (".git", "it has .git in it"),
        ("adapter_config.json", "it has adapter_config.json in it"),
        ("run.json", "it has run.json in it"),
    ],
)
def test_what_holds_more_than_a_saved_model_is_never_replaced(name: str, reason: str, tmp_path: Path) -> None:
    folder = tmp_path / "merged"
    save_model(_tiny_llama(), FakeTokenizer(), folder)
    (folder / name).mkdir()
    before = sorted(folder.rglob("*"))
    with pytest.raises(
        ModelError, match=rf"is not just a saved model \({re.escape(reason)}\).*Give another folder, or"
    ):
        save_model(_tiny_llama(), FakeTokenizer(), folder, replace=True)
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_what_is_no_whole_model_is_never_replaced(missing: str, tmp_path: Path) -> None:
    folder = tmp_path / "merged"
    save_model(_tiny_llama(), FakeTokenizer(), folder)
    (folder / missing).unlink()
    with pytest.raises(ModelError, match=r"is not just a saved model \(it lacks config.json or weights\)"):
        save_model(_tiny_llama(), FakeTokenizer(), folder, replace=True)


def test_everything_that_transformers_writes_for_a_model_may_be_replaced(tmp_path: Path) -> None:
    base = load_base_model("tiny-llama")
    folder = tmp_path / "merged"
    base.tokenizer.chat_template = {"default": "{{ messages }}", "tool_use": "{{ tools }}"}
    base.tokenizer.save_pretrained(folder)
    base.module.save_pretrained(folder, max_shard_size="50KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    save_model(_tiny_llama(), FakeTokenizer(), folder, replace=True)
    assert not list(folder.glob("model-*.safetensors"))


@pytest.mark.parametrize(
    ("out", "where"),
    [("runs/first", "is"), ("runs/first/merged", "lies inside"), ("runs", "is around"), ("link", "is")],
)
def test_a_model_is_not_written_over_what_it_is_made_from(out: str, where: str, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "first"
    run.mkdir(parents=True)
    (tmp_path / "link").symlink_to(run)
    with pytest.raises(ModelError, match=rf"{out} {where} .*first, which the model is made from\. Give a folder apart"):
        check_apart(tmp_path / out, [run])
    check_apart(tmp_path / "runs" / "first-merged", [run])


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "merged").touch()
    with pytest.raises(ModelError, match="is a file, expected a folder"):
        save_model(_tiny_llama(), FakeTokenizer(), tmp_path / "merged", replace=True)


def test_a_save_that_fails_leaves_the_old_folder(tmp_path: Path) -> None:
    class FailingTokenizer:
        def save_pretrained(self, save_directory: str) -> None:
            raise KeyboardInterrupt

    folder = tmp_path / "merged"
    save_model(_tiny_llama(), FakeTokenizer(), folder)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(KeyboardInterrupt):
        save_model(_tiny_llama(hidden_size=32), FailingTokenizer(), folder, replace=True)
    assert list(tmp_path.iterdir()) == [folder]
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_a_folder_without_an_adapter_is_refused(tmp_path: Path, llama_adapter: Path) -> None:
    with pytest.raises(ModelError, match=r"holds no adapter: expected adapter_config\.json"):
        attach_adapter(_tiny_llama(), tmp_path)
    with pytest.raises(ModelError, match="cannot be read as an adapter's configuration"):
        adapter_base(tmp_path)
    (llama_adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"holds no adapter: expected adapter_model\.safetensors"):
        attach_adapter(_tiny_llama(), llama_adapter)


def test_damaged_weights_are_refused(llama_adapter: Path) -> None:
    weights = llama_adapter / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelError, match="is damaged: it cannot be read as safetensors"):
        attach_adapter(_tiny_llama(), llama_adapter)


def test_an_adapter_names_its_base_model(llama_adapter: Path) -> None:
    assert adapter_base(llama_adapter) == "tiny"
    config = llama_adapter / "adapter_config.json"
    config.write_text(json.dumps({"base_model_name_or_path": None}))
    with pytest.raises(ModelError, match=r"does not name its base model.*--base"):
        adapter_base(llama_adapter)
    config.write_text("{")
    with pytest.raises(ModelError, match="cannot be read as an adapter's configuration"):
        adapter_base(llama_adapter)
