"""A whole run between a server's folder and three members', with nothing shared but messages."""

from pathlib import Path

import pytest

from confide.build import build_examples, build_federation, build_model, build_records, build_template
from confide.config.load import parse_config, read_toml
from confide.federate import run, start
from confide.run import RunDirectory
from tests.deploy.field import CONFIG, NAMES, SETTINGS, Field


class _Silent:
    def round_started(self, round_number: int, num_rounds: int, num_clients: int) -> None:
        pass

    def round_finished(self, record: object, num_rounds: int) -> None:
        pass


def _in_one_process(folder: Path, config_toml: str = CONFIG) -> Path:
    path = folder / "one.toml"
    path.write_text(config_toml)
    values = read_toml(path)
    for key, value in SETTINGS.items():
        section, name = key.split(".")
        table = values.setdefault(section, {})
        assert isinstance(table, dict)
        table[name] = value
    config = parse_config(values)
    directory = RunDirectory.create(folder / "one", config_toml="", name="one", seed=3, notes={"id": "one"})
    model = build_model(config)
    examples = build_examples(config, build_records(config), build_template(config, model.tokenizer))
    federation = build_federation(config, model, examples, run="one", private=folder / "one" / "clients")
    run(federation, directory, start(federation, directory), observer=_Silent(), trackers=[])
    return directory.final


def test_the_adapter_is_that_of_one_process_bit_for_bit(tmp_path: Path) -> None:
    field = Field(tmp_path)
    field.go()
    expected = _in_one_process(tmp_path)
    for name in NAMES:
        final = field.members[name].run / "final"
        assert final.resolve().name == "0002"
        for file in ("adapter_model.safetensors", "adapter_config.json"):
            assert (final / file).read_bytes() == (expected / file).read_bytes()
    assert field.directory.status == "finished"
    assert [record.members for record in field.directory.records()] == [NAMES, NAMES]


def test_the_server_keeps_no_adapter_and_no_update(tmp_path: Path) -> None:
    field = Field(tmp_path)
    field.go()
    kept = sorted(path.name for path in field.run.rglob("*") if path.is_file())
    expected = ["clients.json"] * 2 + ["record.json"] * 2 + ["server.json"] * 3
    assert kept == sorted([*expected, "config.toml", "rounds.jsonl", "run.json", "terms", ".lock"])
    adapter = (field.members[NAMES[0]].run / "final" / "adapter_model.safetensors").read_bytes()
    assert len(adapter) > 4096
    piece = adapter[-512:]
    assert any(piece)
    assert all(piece not in message for message in field.sent)


@pytest.mark.parametrize("release", ["clients", "server"])
def test_the_server_has_the_adapter_only_where_it_may(tmp_path: Path, release: str) -> None:
    field = Field(tmp_path, f'{CONFIG}\n[seal]\nrelease = "{release}"\n')
    for member in field.members.values():
        member.policy = type(member.policy).model_validate({"sealing": {"server_may_read": True}})
        member.start()
    field.go()
    theirs = (field.members[NAMES[0]].run / "final" / "adapter_model.safetensors").read_bytes()
    own = field.run / "final" / "adapter_model.safetensors"
    assert own.exists() == (release == "server")
    if own.exists():
        assert own.read_bytes() == theirs
