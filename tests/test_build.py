"""A whole federation from its configuration, on tiny models: choices by name, and what the records say."""

import gc
import json
import multiprocessing
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from safetensors.numpy import load_file

from confide.assess import assess_run
from confide.build import (
    apply_threads,
    build_examples,
    build_model,
    build_optimizer,
    build_records,
    build_template,
)
from confide.cli.train import train
from confide.config.schema import Config
from confide.errors import ConfigError, DataError, ModelError
from confide.model.load import load_base_model
from confide.records import RoundRecord
from confide.run import RunDirectory

ConfigMaker = Callable[..., Config]

AVERAGES = ("freeze-a", "factors", "alternate")


def records_of(folder: Path) -> list[RoundRecord]:
    return [RoundRecord.from_json(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]


def adapter(folder: Path, number: int) -> dict[str, Any]:
    tensors: dict[str, Any] = load_file(folder / "rounds" / f"{number:04d}" / "adapter_model.safetensors")
    return tensors


def moved(folder: Path, number: int, factor: str) -> bool:
    before, after = adapter(folder, number - 1), adapter(folder, number)
    return any(not np.array_equal(before[name], after[name]) for name in before if f".{factor}." in name)


@pytest.mark.parametrize("average", AVERAGES)
def test_each_way_to_average_moves_its_factors_only(average: str, make_config: ConfigMaker) -> None:
    folder = train(make_config(lora__average=average, seal__scheme="plain"))
    found = [(moved(folder, number, "lora_A"), moved(folder, number, "lora_B")) for number in (1, 2, 3)]
    expected = {
        "freeze-a": [(False, True)] * 3,
        "factors": [(False, True), (True, True), (True, True)],
        "alternate": [(False, True), (True, False), (False, True)],
    }
    if average == "factors":  # in round 1 B is zero: A's gradient is too, until B has moved within the round
        assert [b for _, b in found] == [True] * 3
        assert [a for a, _ in found[1:]] == [True] * 2
    else:
        assert found == expected[average]


@pytest.mark.parametrize("average", AVERAGES)
def test_inexactness_is_recorded_where_both_factors_are_averaged(average: str, make_config: ConfigMaker) -> None:
    records = records_of(train(make_config(lora__average=average, seal__scheme="plain")))
    if average != "factors":
        assert [record.factor_error for record in records] == [None] * 3
        return
    errors = [record.factor_error for record in records]
    assert all(error is not None and 0 < error["relative"] < 10 for error in errors)


@pytest.mark.parametrize(
    ("scheme", "said"), [("plain", ("plain", False, True)), ("onetime", ("onetime/compact", True, False))]
)
def test_records_say_what_is_sealed_and_that_nothing_is_guaranteed(
    make_config: ConfigMaker, scheme: str, said: tuple[str, bool, bool]
) -> None:
    folder = train(make_config(evaluate__every_rounds=2, seal__scheme=scheme))
    records = records_of(folder)
    assert [(record.sealing, record.is_sealed, record.server_reads) for record in records] == [said] * 3
    assert [record.epsilon for record in records] == [None] * 3
    told = json.loads((folder / "run.json").read_text())["protection"]
    assert told[0].startswith(f"sealing: {said[0]}, {'sealed' if said[1] else 'not sealed'}")
    assert told[-1] == "privacy: no formal guarantee: differential privacy is off"
    assert all(record.privacy.startswith("no formal guarantee") for record in records)
    assert [record.held_out_loss is not None for record in records] == [False, True, False]
    losses = [record.loss for record in records if record.loss is not None]
    assert losses[-1] < losses[0]
    assert records[-1].members == ("north", "south", "west")
    for record in records:
        assert record.seconds["local"] <= record.seconds["train"] <= record.seconds["total"]
    notes = json.loads((folder / "rounds" / "0003" / "clients.json").read_text())
    assert [note["client"] for note in notes] == ["north", "south", "west"]
    assert "training" not in (folder / "rounds.jsonl").read_text()  # figures of single clients stand apart


def test_a_run_that_opens_sums_of_two_says_so_in_its_directory(make_config: ConfigMaker) -> None:
    folder = train(make_config(federation__min_clients=2, federation__rounds=1))
    told = json.loads((folder / "run.json").read_text())["protection"]
    assert any("caution: federation.min_clients is below 3" in line for line in told)


# PEFT asks transformers for a property under its old name.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_an_adapter_loads_in_plain_peft(make_config: ConfigMaker) -> None:
    config = make_config(lora__average="factors")
    folder = train(config)
    model = build_model(config)
    model.write(model.layout.flatten(adapter(folder, 3)))
    ids = torch.arange(20, 40)[None]
    with torch.no_grad():
        expected = model.module.eval()(input_ids=ids).logits
        fresh = load_base_model("tiny-llama", seed=config.run.seed).module
        loaded = peft.PeftModel.from_pretrained(fresh, folder / "final").eval()
        assert torch.equal(loaded(input_ids=ids).logits, expected)
        assert not torch.equal(fresh.base_model.forward(input_ids=ids)[0], expected)


def test_a_run_says_what_ran(make_config: ConfigMaker) -> None:
    folder = train(make_config(train__max_tokens=14))
    info = RunDirectory.open(folder).info
    assert info["status"] == "finished"
    assert info["seed"] == 0
    assert {"torch", "transformers", "peft", "python"} <= set(info["versions"])  # type: ignore[call-overload]
    data = {entry["client"]: entry for entry in info["data"]}  # type: ignore[attr-defined]
    assert set(data) == {"north", "south", "west"}
    assert data["west"]["num_truncated"]["train"] > 0
    assert (folder / "config.toml").read_text().count("[") >= 9


def test_the_same_configuration_gives_the_same_bits_and_another_seed_does_not(make_config: ConfigMaker) -> None:
    first = train(make_config(run__name="first"))
    second = train(make_config(run__name="second"))
    other = train(make_config(run__name="other", run__seed=1))
    path = Path("final") / "adapter_model.safetensors"
    assert (first / path).read_bytes() == (second / path).read_bytes()
    assert (first / path).read_bytes() != (other / path).read_bytes()


def test_one_client_that_outweighs_all_others_is_refused_before_training(
    tmp_path: Path, make_config: ConfigMaker
) -> None:
    """The median of 1, 2 and 600 is 2, and 600 is more than 256 times that."""
    rows = [("north", 1), ("south", 2), ("west", 600)]
    path = tmp_path / "skewed.jsonl"
    path.write_text(
        "".join(
            json.dumps({"client": client, "text": f"{client} {number}"}) + "\n"
            for client, size in rows
            for number in range(size)
        )
    )
    config = make_config(data__path=str(path), data__held_out=0.0, data__min_rows_per_client=1)
    with pytest.raises(ConfigError, match=r"client west weighs 600 .* Set federation.max_weight"):
        train(config)


def test_several_sealing_processes_give_the_same_adapter(make_config: ConfigMaker) -> None:
    one = train(make_config(run__name="one"))
    two = train(make_config(run__name="two", seal__processes=2))
    path = Path("final") / "adapter_model.safetensors"
    assert (one / path).read_bytes() == (two / path).read_bytes()
    gc.collect()
    assert not multiprocessing.active_children()


def test_more_clients_demanded_than_the_data_has_is_refused(make_config: ConfigMaker) -> None:
    with pytest.raises(ConfigError, match=r"federation.min_clients is 4, but the data has only 3 clients"):
        build_records(make_config(federation__min_clients=4))


def test_a_client_left_without_examples_is_named(make_config: ConfigMaker) -> None:
    config = make_config(train__max_tokens=4)
    model = build_model(config)
    with pytest.raises(DataError, match=r"client north has no training example left: .*Raise train.max_tokens"):
        build_examples(config, build_records(config), build_template(config, model.tokenizer))


@pytest.mark.parametrize(
    ("overrides", "error", "reason"),
    [
        ({"model__base": "no-such-model"}, ModelError, "unknown model 'no-such-model'"),
        ({"lora__targets": ["nowhere"]}, ModelError, "matches nothing in tiny-llama"),
        ({"data__path": "missing.jsonl"}, DataError, "missing.jsonl"),
        ({"data__client_column": "owner"}, DataError, "data.client_column"),
    ],
)
def test_bad_input_is_said_before_anything_is_trained(
    overrides: dict[str, Any], error: type[Exception], reason: str, make_config: ConfigMaker, tmp_path: Path
) -> None:
    with pytest.raises(error, match=reason):
        train(make_config(**overrides))
    assert not (tmp_path / "runs" / "tiny").exists()


def test_tensorboard_gets_the_rounds(make_config: ConfigMaker) -> None:
    pytest.importorskip("tensorboard", reason="needs the extra tensorboard")
    folder = train(make_config(run__loggers=["tensorboard"]))
    assert list(folder.rglob("events.out.tfevents.*"))


def test_threads_are_counted_without_the_affinity_that_only_linux_tells(
    make_config: ConfigMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    counts: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", counts.append)
    threads = apply_threads(make_config(run__threads=0))
    assert counts == [threads]
    assert 1 <= threads <= (os.cpu_count() or 1)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("fedavg", 1.0), ("fedavgm", 1.0), ("fedadagrad", 0.01), ("fedadam", 0.01), ("fedyogi", 0.01)],
)
def test_a_server_learning_rate_that_is_not_given_suits_the_optimizer(
    name: str, expected: float, make_config: ConfigMaker
) -> None:
    found = build_optimizer(make_config(federation__server_optimizer=name))
    given = make_config(federation__server_optimizer=name, federation__server_learning_rate=expected)
    assert found == build_optimizer(given)
    other = make_config(federation__server_optimizer=name, federation__server_learning_rate=0.3)
    assert found != build_optimizer(other)


def test_more_clients_a_round_than_the_data_has_are_refused(make_config: ConfigMaker) -> None:
    with pytest.raises(ConfigError, match=r"federation.clients_per_round is 5, but the data has only 3 clients"):
        build_records(make_config(federation__clients_per_round=5))


def test_more_tokens_than_the_model_has_positions_are_refused_before_training(make_config: ConfigMaker) -> None:
    config = make_config(model__base="tiny-gpt2", train__max_tokens=2000)
    with pytest.raises(ConfigError, match=r"train\.max_tokens is 2000, but tiny-gpt2 has positions for 1024 tokens"):
        train(config)
    assert not (Path(config.run.folder) / "tiny").exists()
    assert build_model(make_config(model__base="tiny-gpt2", train__max_tokens=1024)).base.name == "tiny-gpt2"


def test_the_rows_measured_in_a_run_are_those_that_evaluate_measures(make_config: ConfigMaker, tmp_path: Path) -> None:
    rows = [
        {"client": client, "instruction": "long" * 10 if number % 2 else "say", "response": "ab" * (1 + number % 5)}
        for client in ("north", "south", "west")
        for number in range(20)
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    folder = train(
        make_config(
            data__path=str(path),
            data__held_out=0.5,
            train__max_tokens=30,  # every second row loses its response
            evaluate__max_examples=2,
            evaluate__max_new_tokens=1,
            evaluate__every_rounds=3,
        )
    )
    in_run = records_of(folder)[-1].held_out_loss
    after = assess_run(folder).federated.overall
    assert after.num_examples == 6
    assert after.num_dropped > 0
    assert in_run == pytest.approx(after.value("loss"), rel=1e-6)  # float32, batches of other shapes
