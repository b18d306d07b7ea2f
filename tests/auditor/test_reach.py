from pathlib import Path

import pytest

from confide.auditor.reach import records_read
from confide.build import build_examples, build_model, build_records, build_template, local_settings
from confide.data.examples import TokenizedClient
from confide.train.local import LocalTrainer
from tests.recorded import recorded_config


@pytest.mark.parametrize("train", [{"local_steps": 1}, {"local_steps": 3, "accumulation": 2}, {"local_epochs": 2}])
@pytest.mark.parametrize("num_rounds", [0, 1, 3])
def test_records_read_are_those_that_training_plans(tmp_path: Path, train: dict[str, int], num_rounds: int) -> None:
    """Against the trainer's own plan of every round."""
    epochs = {"train__local_epochs": 0} if "local_steps" in train else {}
    config = recorded_config(tmp_path, **epochs, **{f"train__{key}": value for key, value in train.items()})
    model = build_model(config)
    clients = build_examples(config, build_records(config), build_template(config, model.tokenizer))
    trainer = LocalTrainer(model, local_settings(config), seed=config.run.seed)

    def planned(client: TokenizedClient) -> frozenset[str]:
        seen, num_seen = set(), 0
        for number in range(1, num_rounds + 1):
            batches = trainer.plan(client.name, number, client.train, num_seen)
            seen |= {client.train[place].record_id for batch in batches for place in batch}
            num_seen += sum(map(len, batches))
        return frozenset(seen)

    found = records_read(
        clients, {client.name: num_rounds for client in clients}, local_settings(config), seed=config.run.seed
    )
    assert found == {client.name: planned(client) for client in clients}
    assert num_rounds == 0 or all(found.values())


def test_where_secret_coins_decide_what_a_step_reads_every_record_of_who_took_part_counts(tmp_path: Path) -> None:
    config = recorded_config(tmp_path)
    model = build_model(config)
    clients = build_examples(config, build_records(config), build_template(config, model.tokenizer))
    rounds = {client.name: number for number, client in enumerate(clients)}  # the first in none
    found = records_read(clients, rounds, local_settings(config), seed=0, is_sampled=True)
    assert [len(found[client.name]) for client in clients] == [0, len(clients[1].train), len(clients[2].train)]
