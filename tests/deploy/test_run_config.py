import tomllib
from pathlib import Path

import pytest
import tomli_w

from confide.config.keys import section_keys
from confide.config.load import parse_config
from confide.config.schema import SECTIONS, TARGET_OR_NOISE, Config
from confide.deploy.run_config import (
    DEMANDS,
    NODE_KEYS,
    REPLACEABLE_KEYS,
    check_deployable,
    load_run_config,
    node_config,
    offered_toml,
    read_offer,
)
from confide.errors import ConfigError

KEYS = {key.full_name for section in SECTIONS for key in section_keys(section)}
OWN = {"data.source": "jsonl", "data.path": "/rows.jsonl", "run.device": "cpu", "run.threads": 2}


def config(*overrides: str) -> Config:
    return parse_config({"model": {"base": "tiny-llama"}, "data": {"source": "clinics"}}, overrides)


def test_the_keys_of_a_member_are_keys_of_the_configuration() -> None:
    assert NODE_KEYS | REPLACEABLE_KEYS <= KEYS
    assert {"data.path", "data.client_column", "run.device", "run.folder", "seal.processes"} <= NODE_KEYS
    assert not {"data.template", "data.held_out", "train.batch_size", "seal.scheme", "run.seed"} & NODE_KEYS


def test_an_offer_holds_everything_but_what_members_set() -> None:
    values = tomllib.loads(offered_toml(config("federation.rounds=7")))
    not_given = {key for pair in TARGET_OR_NOISE for key in pair}
    assert {f"{section}.{key}" for section, table in values.items() for key in table} == KEYS - NODE_KEYS - not_given
    assert values["federation"]["rounds"] == 7


def test_what_was_offered_is_what_is_read() -> None:
    offered = config("federation.rounds=7", "lora.rank=3", "run.device=cpu")
    read = read_offer(offered_toml(offered).encode())
    assert offered_toml(read) == offered_toml(offered)


def test_a_member_puts_its_own_settings_in() -> None:
    mine = node_config(read_offer(offered_toml(config("lora.rank=3")).encode()), OWN)
    assert (mine.data.source, mine.data.path, mine.run.device, mine.run.threads) == ("jsonl", "/rows.jsonl", "cpu", 2)
    assert mine.lora.rank == 3


def test_what_a_server_says_of_a_members_keys_has_no_effect() -> None:
    told = config("run.device=cpu", "run.threads=7", "run.folder=/elsewhere", "data.text_column=secret")
    mine = node_config(told, {"data.source": "jsonl", "data.path": "/rows.jsonl"})
    assert (mine.run.device, mine.run.threads, mine.run.folder) == ("auto", 0, "runs")
    assert mine.data.text_column == "text"


@pytest.mark.parametrize("key", sorted(KEYS - NODE_KEYS - REPLACEABLE_KEYS))
def test_a_member_cannot_set_what_all_have_alike(key: str) -> None:
    with pytest.raises(ConfigError, match=rf"node\.toml sets {key}, which all members have alike"):
        node_config(config(), {**OWN, key: config().value(key)})


def test_a_member_may_name_its_own_copy_of_the_base_model() -> None:
    assert node_config(config(), {**OWN, "model.base": "/models/base"}).model.base == "/models/base"


def test_a_member_that_has_not_said_where_its_data_is_gets_told() -> None:
    with pytest.raises(ConfigError, match=r"with node\.toml: .*Set data\.path to a file"):
        node_config(config(), {})


@pytest.mark.parametrize(
    ("override", "needed"),
    [
        ("seal.scheme=shared", '"onetime" or "plain"'),
        ("seal.scheme=published", '"onetime" or "plain"'),
        ("audit.record=true", "false"),
        ('audit.canaries=["random"]', r"\[\]"),
        ("data.clients=3", "0"),
    ],
)
def test_what_needs_all_clients_in_one_process_is_refused(override: str, needed: str) -> None:
    key = override.partition("=")[0]
    with pytest.raises(ConfigError, match=rf"^{key} is .*, a deployment needs {needed}: "):
        check_deployable(config(override))


def test_everything_that_cannot_be_deployed_is_named_at_once() -> None:
    overrides = ("data.partition=iid", "data.clients=3", "audit.record=true", "audit.canary_clients=10")
    private = ("privacy.unit=client", "privacy.target_epsilon=8.0", "federation.weights=equal")
    with pytest.raises(ConfigError) as caught:
        check_deployable(config(*overrides, *private, 'audit.canaries=["random"]'))
    lines = str(caught.value).splitlines()
    assert {line.split()[0] for line in lines} == {demand.key for demand in DEMANDS} - {"seal.scheme"}


def test_a_run_that_needs_nothing_in_one_place_is_taken() -> None:
    check_deployable(config())
    check_deployable(config("seal.scheme=plain"))


def test_a_server_reads_a_configuration_without_data(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('[model]\nbase = "tiny-llama"\n[data]\nheld_out = 0.2\n')
    read = load_run_config(path, ["federation.rounds=3"])
    assert (read.data.held_out, read.federation.rounds) == (0.2, 3)
    assert tomllib.loads(offered_toml(read))["data"]["held_out"] == 0.2


@pytest.mark.parametrize("key", sorted(NODE_KEYS))
def test_a_server_cannot_set_what_is_a_members(tmp_path: Path, key: str) -> None:
    section, name = key.split(".")
    path = tmp_path / "config.toml"
    path.write_text(tomli_w.dumps({"model": {"base": "tiny-llama"}} | {section: {name: config().value(key)}}))
    with pytest.raises(ConfigError, match=rf"config\.toml sets {key}, which every member sets for itself"):
        load_run_config(path)
    path.write_text('[model]\nbase = "tiny-llama"\n')
    with pytest.raises(ConfigError, match=rf"sets {key}, which every member sets for itself"):
        load_run_config(path, [f"{key}=1"])
    values = tomllib.loads(offered_toml(config()))
    values[section][name] = config().value(key)
    with pytest.raises(ConfigError, match=rf"the offered configuration sets {key}, which every member"):
        read_offer(tomli_w.dumps(values).encode())


def test_a_server_cannot_offer_what_cannot_be_deployed() -> None:
    with pytest.raises(ConfigError, match=r"audit\.record is true, a deployment needs false"):
        read_offer(offered_toml(config("audit.record=true")).encode())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"x = " + b"[" * 100_000,
        b"[model]\nbase = 3\n",
        b'[model]\nbase = "a"\n[train]\nlearning_rate = nan\n',
        b'[model]\nbase = "a"\n["x\\ny"]\nz = 1\n',
        b'[model]\nbase = "a"\n"\\u001b[2J" = 1\n',
        b'data = "a"\n[model]\nbase = "a"\n',
        b'[model]\nbase = "a"\n[run]\nname = "../../etc"\n',
        b"x = [" + b'"\\u202e", ' * 50 + b"]\n",
        b"#" * (1 << 20) + b"#",
    ],
    ids=range(11),
)
def test_a_hostile_offer_is_refused_in_plain_words(content: bytes) -> None:
    with pytest.raises(ConfigError) as caught:
        read_offer(content)
    message = str(caught.value)
    assert all(character.isprintable() or character == "\n" for character in message)
    assert len(message) < 4000
