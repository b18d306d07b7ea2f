import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.config.keys import Key, section_keys, toml_value
from confide.config.load import (
    RESUMABLE_KEYS,
    config_differences,
    dump_toml,
    load_config,
    load_resolved,
    parse_config,
    parse_resolved,
)
from confide.config.schema import RULES, SECTIONS, TARGET_OR_NOISE, Config, Rule
from confide.errors import ConfigError
from confide.prune.schedules import scaled_ramp

KEYS = [key for section in SECTIONS for key in section_keys(section)]
SMALLEST: dict[str, dict[str, object]] = {"model": {"base": "tiny-llama"}, "data": {"source": "clinics"}}
SMALLEST_TOML = '[model]\nbase = "tiny-llama"\n\n[data]\nsource = "clinics"\n'


def parse(*overrides: str) -> Config:
    return parse_config(SMALLEST, overrides)


def message_of(*overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(*overrides)
    return str(caught.value)


def message_of_file(folder: Path, content: str, *overrides: str) -> str:
    path = folder / "run.toml"
    path.write_text(content)
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    return str(caught.value)


def test_a_file_gives_its_values_and_defaults_for_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text(SMALLEST_TOML + '[lora]\nrank = 4\ntargets = ["q_proj"]\n')
    config = load_config(path)
    assert (config.lora.rank, config.lora.targets, config.lora.alpha) == (4, ("q_proj",), 32.0)


def test_a_byte_order_mark_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_bytes(b"\xef\xbb\xbf" + SMALLEST_TOML.encode())
    assert load_config(path) == parse()


def test_a_missing_file_is_named_with_the_command_that_writes_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: there is no such file.* confide init .*none\.toml"):
        load_config(tmp_path / "none.toml")


def test_a_folder_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="this is a folder, expected a configuration file"):
        load_config(tmp_path)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_bytes(b"[run]\nname = \xff\xfe")
    with pytest.raises(ConfigError, match=r"run\.toml: not UTF-8 text \(byte 13\)"):
        load_config(path)


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ("[run]\nseed = \n", "line 2, column 8"),
        ('[run]\nname = "open\n', "line 2, column 13"),
        ("[run]\nseed = 1\nseed = 2", "line 3, column 9"),
        ("[run\n", "line 1, column 5"),
    ],
)
def test_a_syntax_error_is_named_with_file_line_and_column(tmp_path: Path, content: str, place: str) -> None:
    message = message_of_file(tmp_path, content)
    assert message.startswith(f"{tmp_path / 'run.toml'}: not valid TOML")
    assert place in message


def test_all_faults_are_named_at_once_each_with_the_file(tmp_path: Path) -> None:
    content = SMALLEST_TOML + '[lora]\nrank = 0\nrnak = 3\n\n[run]\nseed = "x"\n'
    lines = message_of_file(tmp_path, content).splitlines()
    where = tmp_path / "run.toml"
    assert lines == [
        f'{where}: run.seed is "x", expected a whole number >= 0.',
        f"{where}: lora.rank is 0, expected a whole number >= 1. Inner dimension of the two factors A and B of each "
        "adapted matrix.",
        f"{where}: lora.rnak (given 3) is no key of [lora]. The nearest is lora.rank.",
        "Every key, with its meaning and range: `confide train --help`.",
    ]


def test_a_missing_key_is_named_with_its_meaning(tmp_path: Path) -> None:
    message = message_of_file(tmp_path, '[data]\nsource = "clinics"\n')
    assert "model.base is missing under [model], expected text that is not empty. Built-in name" in message


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("[trian]\n", "trian (given a table) is no section. The nearest is [train]."),
        ("rounds = 3\n", "rounds (given 3) is no section. The key rounds belongs to federation.rounds."),
        ("[zzz]\n", "zzz (given a table) is no section. The sections are run, model, lora, data, train,"),
        ("lora = 3\n", "lora is 3, expected a table of keys under [lora]."),
        ("[train]\nrounds = 3\n", "train.rounds (given 3) is no key of [train]. The key rounds belongs to federation."),
        (
            "[train]\nbatchsize = 3\n",
            "train.batchsize (given 3) is no key of [train]. The nearest is train.batch_size.",
        ),
        ("[seal]\nq = 3\n", "seal.q (given 3) is no key of [seal]. Its keys are scheme, profile, "),
        ("[train.adam]\n", "train.adam (given a table) is no key of [train]."),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_valid_one(tmp_path: Path, content: str, expected: str) -> None:
    assert expected in message_of_file(tmp_path, content)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ('lora.rank="10"', 'lora.rank is "10", expected a whole number >= 1. Leave out the quotes: rank = 10'),
        ("lora.rank=true", "lora.rank is true, expected a whole number >= 1."),
        ("lora.rank=2.0", "lora.rank is 2.0, expected a whole number >= 1."),
        ("lora.alpha=true", "lora.alpha is true, expected a number > 0."),
        ("lora.alpha=inf", "lora.alpha is inf, expected a number > 0. It has to be finite."),
        ("lora.dropout=nan", "lora.dropout is nan, expected a number >= 0 and < 1. It has to be finite."),
        ("train.learning_rate=1e300", "train.learning_rate is 1e+300, expected a number > 0 and <= 100."),
        (
            "federation.server_learning_rate=1e300",
            "federation.server_learning_rate is 1e+300, expected a number >= 0 and <= 100.",
        ),
        ("lora.dropout=1", "lora.dropout is 1, expected a number >= 0 and < 1."),
        ("model.load_in_8bit=1", "model.load_in_8bit is 1, expected true or false."),
        ('model.load_in_8bit="true"', "expected true or false. Leave out the quotes: load_in_8bit = true"),
        ("train.optimizer=adam", 'train.optimizer is "adam", expected one of "adamw", "sgd".'),
        ("run.name=2024-01-01", "run.name is 2024-01-01, expected text of letters"),
        ("run.name=7", "Text stands in quotes."),
        ("run.name=../out", 'run.name is "../out", expected text of letters'),
        ("run.device=gpu", 'run.device is "gpu", expected "auto", "cpu", "cuda" or "cuda:N".'),
        ('run.loggers=["wandb", "x"]', 'run.loggers is ["wandb", "x"], expected a list of "tensorboard", "mlflow",'),
        ("lora.targets=[]", 'lora.targets is [], expected "auto", "all-linear" or a list of module names'),
        ("lora.targets=[1]", 'lora.targets is [1], expected "auto", "all-linear" or a list of module names'),
        ("seal.initial_range=-1.0", "seal.initial_range is -1.0, expected a number = 0, or >= 1e-12 and <= 1e6."),
        ("seal.initial_range=9e-13", "seal.initial_range is 9e-13, expected a number = 0, or >= 1e-12 and <= 1e6."),
        ("seal.initial_range=1000001", "expected a number = 0, or >= 1e-12 and <= 1e6."),
        ("seal.initial_range=inf", "expected a number = 0, or >= 1e-12 and <= 1e6. It has to be finite."),
        ("audit.canary_clients=9", "audit.canary_clients is 9, expected a whole number = 0, or >= 10."),
        ("audit.canary_clients=-2", "audit.canary_clients is -2, expected a whole number = 0, or >= 10."),
        ("data.path={a=1}", "data.path is a table, expected text."),
    ],
)
def test_a_wrong_value_is_refused_with_what_was_expected(override: str, expected: str) -> None:
    message = message_of(override)
    assert message.startswith(f"--set {override}: {override.partition('=')[0]} is ")
    assert expected in message
    assert len(message.splitlines()) == 2  # one line for the key, one of advice


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.full_name)
def test_every_key_refuses_a_table_and_says_what_it_expects(key: Key) -> None:
    assert f"{key.full_name} is a table, expected {key.expected}." in message_of(f"{key.full_name}={{x = 1}}")


@pytest.mark.parametrize("key", [key for key in KEYS if key.default is not None], ids=lambda key: key.full_name)
def test_setting_a_key_to_its_default_changes_nothing(key: Key) -> None:
    config = parse_config(
        {"model": {"base": "tiny-llama"}}, [f"{key.full_name}={key.default}", "data.source=auto", "data.path=x.jsonl"]
    )
    assert config == parse_config({"model": {"base": "tiny-llama"}, "data": {"path": "x.jsonl"}})


def test_an_override_is_a_toml_value_or_else_bare_text_and_the_last_wins() -> None:
    config = parse(
        "lora.rank=4", "lora.rank = 8", "model.base=org/model=7b", 'lora.targets=["a", "b"]', "train.learning_rate=1e-5"
    )
    assert config.lora.rank == 8
    assert config.model.base == "org/model=7b"
    assert config.lora.targets == ("a", "b")
    assert config.train.learning_rate == 1e-5


def test_an_override_cannot_bring_a_second_key_with_it() -> None:
    assert '--set run.seed=1\nb = 2: run.seed is "1\\nb = 2"' in message_of("run.seed=1\nb = 2")


def test_overrides_leave_the_given_mapping_alone() -> None:
    values: dict[str, object] = {"model": {"base": "tiny-llama"}, "data": {"source": "clinics"}}
    parse_config(values, ["model.base=other"])
    assert values == {"model": {"base": "tiny-llama"}, "data": {"source": "clinics"}}


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("rounds=3", "--set rounds=3: expected section.key=value. The key rounds belongs to federation.rounds."),
        ("lora.rank", "--set lora.rank: expected section.key=value."),
        ("=3", "--set =3: expected section.key=value."),
        (".rank=3", "--set .rank=3: expected section.key=value."),
        ("lora.rank.x=1", "--set lora.rank.x=1: lora.rank.x (given 1) is no key of [lora]."),
        ("zzz.x=1", "--set zzz.x=1: zzz (given a table) is no section."),
    ],
)
def test_a_malformed_override_is_named(override: str, expected: str) -> None:
    assert expected in message_of(override)


def test_epochs_alone_replace_steps() -> None:
    train = parse("train.local_epochs=2").train
    assert (train.local_steps, train.local_epochs) == (0, 2)


def test_steps_are_counted_where_nothing_is_said() -> None:
    train = parse().train
    assert (train.local_steps, train.local_epochs) == (10, 0)


CANARY_CLIENTS = ("privacy.unit=client", "privacy.noise_multiplier=1", "audit.record=true", "federation.weights=equal")
EQUAL_UNCLIPPED = ("federation.weights=equal", "train.clip_grad_norm=0")  # what SCAFFOLD needs beside plain SGD

# One per rule, in the order of the rules; the first two are the keys that contradict each other.
CONTRADICTIONS = [
    ("model.load_in_8bit=true", "model.load_in_4bit=true"),
    ("model.load_in_8bit=true", "run.device=cpu"),
    ("lora.full_rank=true", "lora.average=factors"),
    ("lora.full_rank=true", "lora.rank=8"),
    ("lora.full_rank=true", "lora.alpha=16.0"),
    ("data.source=csv", 'data.path=""'),
    ("data.source=clinics", "data.path=x.csv"),
    ("data.clinic_letters=0", "data.clinic_instructions=0"),
    ("data.partition=iid", "data.clients=0"),
    ("data.min_rows_per_client=5", "data.max_rows_per_client=4"),
    ("train.local_steps=1", "train.local_epochs=1"),
    ("train.learning_rate=1e-5", "train.min_learning_rate=1e-4", "train.schedule=linear"),
    ("train.regularizer=kl", "train.regularizer_strength=0"),
    ("data.held_out=0", "evaluate.every_rounds=1"),
    ("federation.clients_per_round=2", "federation.min_clients=3"),
    ("data.clients=2", "federation.min_clients=3"),
    ("data.clients=3", "federation.clients_per_round=4"),
    ("federation.server_optimizer=scaffold", "train.optimizer=adamw", *EQUAL_UNCLIPPED),
    ("federation.server_optimizer=scaffold", "train.momentum=0.9", "train.optimizer=sgd", *EQUAL_UNCLIPPED),
    ("federation.server_optimizer=scaffold", "federation.weights=examples", "train.optimizer=sgd", EQUAL_UNCLIPPED[1]),
    ("federation.server_optimizer=scaffold", "train.clip_grad_norm=1", "train.optimizer=sgd", EQUAL_UNCLIPPED[0]),
    ("federation.server_optimizer=scaffold", "train.weight_decay=0.1", "train.optimizer=sgd", *EQUAL_UNCLIPPED),
    ("prune.mask=none", "prune.sparsity=0.5"),
    (
        "prune.mask=common",
        "federation.server_optimizer=scaffold",
        "prune.sparsity=0.5",
        "train.optimizer=sgd",
        *EQUAL_UNCLIPPED,
    ),
    ("prune.initial_sparsity=0.6", "prune.sparsity=0.5", "prune.mask=common", "prune.schedule=scaled-ramp"),
    ("prune.ramp_start=9", "prune.ramp_end=9", "prune.schedule=ramp", "prune.mask=common", "prune.sparsity=0.5"),
    ("prune.ramp_start=5", "federation.rounds=5", "prune.schedule=ramp", "prune.mask=random", "prune.sparsity=0.5"),
    ("prune.schedule=scaled-ramp", "federation.rounds=1", "prune.mask=published", "prune.sparsity=0.5"),
    ("seal.scheme=shared", "seal.profile=ultra"),
    ("seal.scheme=onetime", "federation.min_clients=1"),
    ("data.clients=4", "seal.threshold=2"),
    ("privacy.unit=example", "privacy.target_epsilon=0"),
    ("privacy.unit=both", "privacy.client_target_epsilon=0", "privacy.target_epsilon=8"),
    ("privacy.target_epsilon=8", "privacy.noise_multiplier=0", "privacy.unit=example"),
    (
        "privacy.client_target_epsilon=8",
        "privacy.client_noise_multiplier=0",
        "privacy.unit=both",
        "privacy.target_epsilon=8",
    ),
    ("privacy.unit=example", "train.gradient_checkpointing=true", "privacy.target_epsilon=8"),
    ("privacy.unit=example", "lora.dropout=0.1", "privacy.target_epsilon=8"),
    ("privacy.unit=client", "evaluate.every_rounds=1", "privacy.target_epsilon=8"),
    ("privacy.unit=client", "seal.scheme=plain", "privacy.target_epsilon=8"),
    ("privacy.unit=client", "seal.profile=ultra", "privacy.target_epsilon=8"),
    ("privacy.unit=client", "seal.initial_range=0.5", "privacy.target_epsilon=8"),
    ("privacy.coalition=3", "federation.min_clients=3", "privacy.unit=client", "privacy.noise_multiplier=1"),
    (
        "privacy.unit=example",
        "federation.server_optimizer=scaffold",
        "privacy.noise_multiplier=1",
        "train.optimizer=sgd",
        *EQUAL_UNCLIPPED,
    ),
    ('audit.canaries=["personal"]', "audit.records_per_client=9"),
    ('audit.canaries=["records"]', "audit.canaries_per_client=9"),
    ("audit.canary_clients=12", "privacy.unit=example", "privacy.noise_multiplier=1", *CANARY_CLIENTS[2:]),
    ("audit.canary_clients=12", "audit.record=false", *CANARY_CLIENTS[:2], "federation.weights=equal"),
    ("audit.canary_clients=12", "federation.weights=examples", *CANARY_CLIENTS[:3]),
    ("audit.canary_clients=12", "federation.clients_per_round=3", *CANARY_CLIENTS),
    ("audit.canary_clients=12", "lora.average=alternate", *CANARY_CLIENTS),
    ("audit.canary_clients=12", "prune.mask=random", "prune.sparsity=0.5", *CANARY_CLIENTS),
    ("prune.mask=none", "prune.schedule=ramp"),
    ("prune.mask=random", "prune.exploration=0.2", "prune.sparsity=0.5"),
    ("prune.schedule=constant", "prune.initial_sparsity=0.1", "prune.mask=random", "prune.sparsity=0.5"),
    ("prune.schedule=scaled-ramp", "prune.ramp_start=9", "prune.mask=random", "prune.sparsity=0.5"),
    ("prune.schedule=scaled-ramp", "prune.ramp_end=90", "prune.mask=random", "prune.sparsity=0.5"),
    ("seal.scheme=published", "seal.profile=precise"),
    ("seal.scheme=shared", "seal.threshold=3"),
    ("seal.scheme=shared", "seal.processes=2"),
    ("seal.scheme=plain", "seal.release=server"),
    ("seal.scheme=published", "seal.initial_range=0.5"),
    ("seal.scheme=published", "seal.max_saturated=0.5"),
    ("privacy.unit=none", "privacy.target_epsilon=8"),
    ("privacy.unit=none", "privacy.noise_multiplier=1"),
    ("privacy.unit=none", "privacy.delta=1e-6"),
    ("privacy.unit=none", "privacy.clip_norm=0.5"),
    ("privacy.unit=none", "privacy.randomness=seeded"),
    ("privacy.unit=none", "privacy.on_budget=fail"),
    ("privacy.unit=example", "privacy.coalition=2", "privacy.target_epsilon=8"),
    ("privacy.unit=client", "privacy.accountant=rdp", "privacy.target_epsilon=8"),
    ("privacy.unit=client", "privacy.client_target_epsilon=8", "privacy.target_epsilon=8"),
    ("privacy.unit=example", "privacy.client_noise_multiplier=1", "privacy.target_epsilon=8"),
    ("privacy.unit=example", "privacy.client_clip_norm=2", "privacy.target_epsilon=8"),
    ("data.source=jsonl", "data.split=test", "data.path=x"),
    ("data.source=jsonl", "data.clinic_letters=7", "data.path=x"),
    ("data.source=jsonl", "data.clinic_instructions=7", "data.path=x"),
    ("data.partition=natural", "data.dirichlet_alpha=1.0"),
    ("data.partition=natural", "data.shards_per_client=3"),
    ("data.partition=natural", "data.size_exponent=0"),
    ("train.schedule=constant", "train.min_learning_rate=1e-6"),
    ("train.optimizer=adamw", "train.momentum=0.9"),
    ("train.optimizer=sgd", "train.adam_beta1=0.8"),
    ("train.optimizer=sgd", "train.adam_beta2=0.8"),
    ("train.optimizer=sgd", "train.adam_eps=1e-6"),
    ("train.regularizer=none", "train.kl_reference=round"),
    ("train.regularizer=none", "train.kl_direction=reference-current"),
    ("federation.weights=equal", "federation.max_weight=9"),
    ("federation.server_optimizer=fedavg", "federation.server_momentum=0.5"),
    ("federation.server_optimizer=fedavgm", "federation.server_beta1=0.5"),
    ("federation.server_optimizer=fedadagrad", "federation.server_beta2=0.5"),
    ("federation.server_optimizer=fedavgm", "federation.server_tau=0.5"),
]
# The choices under which such a key counts; the others of its chooser are refused by the rules above.
WITH_EFFECT = [
    ("data.source=hub", "data.path=x", "data.split=test"),
    ("data.source=clinics", "data.clinic_letters=7", "data.clinic_instructions=7"),
    ("data.partition=dirichlet", "data.clients=3", "data.dirichlet_alpha=1.0"),
    ("data.partition=shards", "data.clients=3", "data.shards_per_client=3"),
    ("data.partition=quantity-skew", "data.clients=3", "data.size_exponent=0"),
    ("train.schedule=cosine", "train.min_learning_rate=1e-6"),
    ("train.schedule=linear", "train.min_learning_rate=1e-6"),
    ("train.optimizer=sgd", "train.momentum=0.9"),
    ("train.optimizer=adamw", "train.adam_beta1=0.8", "train.adam_beta2=0.8", "train.adam_eps=1e-6"),
    ("train.regularizer=kl", "train.regularizer_strength=1", "train.kl_reference=round"),
    ("train.regularizer=kl", "train.regularizer_strength=1", "train.kl_direction=reference-current"),
    ("prune.mask=common", "prune.sparsity=0.5", "prune.schedule=ramp", "prune.ramp_start=9", "prune.ramp_end=90"),
    ("prune.mask=random", "prune.sparsity=0.5", "prune.schedule=ramp", "prune.ramp_start=4", "federation.rounds=5"),
    ("prune.mask=random", "prune.sparsity=0.5", "prune.schedule=scaled-ramp", "federation.rounds=2"),
    ("prune.mask=common", "prune.sparsity=0.5", "prune.exploration=0.2"),
    ("prune.mask=published", "prune.sparsity=0.5", "prune.schedule=scaled-ramp", "prune.initial_sparsity=0.1"),
    ("seal.scheme=onetime", "seal.profile=ultra", "seal.threshold=3", "seal.release=server", "seal.processes=2"),
    ("seal.scheme=shared", "seal.profile=precise", "seal.initial_range=0.5", "seal.max_saturated=0.5"),
    ("privacy.unit=example", "privacy.noise_multiplier=1", "privacy.delta=1e-6", "privacy.accountant=rdp"),
    ("privacy.unit=client", "privacy.target_epsilon=8", "privacy.clip_norm=0.5", "privacy.coalition=2"),
    ("privacy.unit=client", "privacy.target_epsilon=8", "privacy.randomness=seeded"),
    ("privacy.unit=both", "privacy.target_epsilon=8", "privacy.client_noise_multiplier=1", "privacy.accountant=rdp"),
    ("privacy.unit=both", "privacy.noise_multiplier=1", "privacy.client_target_epsilon=8", "privacy.coalition=2"),
    ("privacy.unit=example", "privacy.target_epsilon=8", "privacy.on_budget=fail"),
    ("seal.scheme=published", "seal.release=server"),
    ('audit.canaries=["records", "random"]', "audit.records_per_client=9", "audit.canaries_per_client=9"),
    ("seal.scheme=shared", "federation.min_clients=2"),
    ("seal.scheme=plain", "federation.min_clients=1"),
    ("seal.scheme=shared", "seal.initial_range=1e-12"),
    ("seal.scheme=onetime", "seal.initial_range=1000000"),
    ("federation.weights=examples", "federation.max_weight=9"),
    ("federation.server_optimizer=fedavgm", "federation.server_momentum=0.5"),
    ("federation.server_optimizer=fedadagrad", "federation.server_beta1=0.5", "federation.server_tau=0.5"),
    ("federation.server_optimizer=fedadam", "federation.server_beta1=0.5", "federation.server_beta2=0.5"),
    ("federation.server_optimizer=fedyogi", "federation.server_tau=0.5", "federation.server_beta2=0.5"),
    ("federation.server_optimizer=scaffold", "train.optimizer=sgd", *EQUAL_UNCLIPPED),
]


def _name_of_case(part: object) -> str:
    return part.law if isinstance(part, Rule) else ""


@pytest.mark.parametrize(("rule", "overrides"), list(zip(RULES, CONTRADICTIONS, strict=True)), ids=_name_of_case)
def test_a_contradiction_is_refused_naming_the_keys_their_values_and_the_way_out(
    rule: Rule, overrides: tuple[str, ...]
) -> None:
    message = message_of(*overrides)
    assert f": {rule.law}. {rule.advice}" in message
    assert message.startswith("configuration with --set ")
    for override in overrides[:2]:
        assert f"--set {override}" in message
        assert f"{override.partition('=')[0]} is " in message
    assert len(message.splitlines()) == 2  # this contradiction alone, and the advice


@pytest.mark.parametrize("overrides", WITH_EFFECT, ids=" ".join)
def test_a_key_is_accepted_where_it_has_an_effect(overrides: tuple[str, ...]) -> None:
    name = overrides[-1].partition("=")[0]
    assert toml_value(parse(*overrides).value(name)) not in {key.default for key in KEYS if key.full_name == name}


def test_canary_clients_count_among_those_that_a_round_needs_and_that_open_it() -> None:
    of_data = ("data.partition=iid", "data.clients=3", *CANARY_CLIENTS)
    config = parse(*of_data, "audit.canary_clients=10", "federation.min_clients=13", "seal.threshold=13")
    assert config.federation.min_clients == config.seal.threshold == 13
    assert "at least as many clients" in message_of(*of_data, "audit.canary_clients=10", "federation.min_clients=14")
    assert "more than half of the clients" in message_of(*of_data, "audit.canary_clients=10", "seal.threshold=6")


@pytest.mark.parametrize("scheme", ["onetime", "shared", "published"])
def test_no_sealed_round_is_of_one_client(scheme: str) -> None:
    message = message_of(f"seal.scheme={scheme}", "federation.min_clients=1")
    assert "a sealed round never opens the update of one client alone" in message


@pytest.mark.parametrize("num_rounds", range(1, 30))
def test_a_scaled_ramp_prunes_within_every_run_that_it_is_allowed_in(num_rounds: int) -> None:
    words = (f"federation.rounds={num_rounds}", "prune.schedule=scaled-ramp", "prune.mask=common", "prune.sparsity=0.5")
    prunes = scaled_ramp(num_rounds).sparsity(num_rounds) > 0
    if prunes:
        parse(*words)
    else:
        assert "a scaled ramp leaves the first round unpruned" in message_of(*words)


def test_strength_without_a_regulariser_is_refused() -> None:
    assert "only a regulariser has one" in message_of("train.regularizer_strength=0.1")


def test_neither_steps_nor_epochs_is_refused() -> None:
    assert "exactly one of them is above 0" in message_of("train.local_steps=0")


def test_several_contradictions_are_named_at_once(tmp_path: Path) -> None:
    content = SMALLEST_TOML + '[federation]\nserver_optimizer = "scaffold"\nclients_per_round = 1\n'
    lines = message_of_file(tmp_path, content).splitlines()
    assert len(lines) == 5  # optimiser, weights, clipping, clients per round; and the advice
    assert all(line.startswith(f"{tmp_path / 'run.toml'}: federation.") for line in lines[:4])


def test_a_configuration_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        parse().lora.rank = 3


@given(
    path=st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    alpha=st.floats(min_value=0, exclude_min=True, allow_infinity=False),
    seed=st.integers(min_value=0),
    targets=st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1),
)
def test_a_dumped_configuration_loads_as_the_same(path: str, alpha: float, seed: int, targets: list[str]) -> None:
    config = parse_config(
        {
            "run": {"seed": seed, "loggers": ["wandb", "mlflow"]},
            "model": {"base": path},
            "lora": {"alpha": alpha, "targets": targets},
            "data": {"path": path},
            "train": {"local_epochs": 3},
        }
    )
    assert parse_config(tomllib.loads(dump_toml(config))) == config


def test_a_dump_holds_every_key_but_a_target_or_a_noise_that_was_left_out() -> None:
    either = {key for pair in TARGET_OR_NOISE for key in pair}
    for words, there in (
        ((), set()),
        (("privacy.unit=client", "privacy.target_epsilon=8"), {"privacy.target_epsilon"}),
        (("privacy.unit=client", "privacy.noise_multiplier=2"), {"privacy.noise_multiplier"}),
        (BOTH_KINDS, {"privacy.noise_multiplier", "privacy.client_target_epsilon"}),
    ):
        dumped = tomllib.loads(dump_toml(parse(*words)))
        names = {f"{section}.{name}" for section, keys in dumped.items() for name in keys}
        assert names == {key.full_name for key in KEYS} - either | there
        assert parse_config(dumped) == parse(*words)


BOTH_KINDS = ("privacy.unit=both", "privacy.noise_multiplier=1", "privacy.client_target_epsilon=8")
WITH_TARGET = '[privacy]\nunit = "example"\ntarget_epsilon = 8\n'
WITH_NOISE = '[privacy]\nunit = "example"\nnoise_multiplier = 1.1\n'


def private_config(folder: Path, content: str, *overrides: str) -> Config:
    path = folder / "run.toml"
    path.write_text(SMALLEST_TOML + content)
    return load_config(path, overrides)


@pytest.mark.parametrize("zero", ["0", "0.0", "-0.0"])
def test_a_noise_of_0_beside_a_target_is_refused_in_a_file_and_by_set(tmp_path: Path, zero: str) -> None:
    way_out = "Leave privacy.noise_multiplier out: it is found from privacy.target_epsilon."
    in_file = message_of_file(tmp_path, f"{SMALLEST_TOML}{WITH_TARGET}noise_multiplier = {zero}\n")
    assert f"privacy.noise_multiplier is {float(zero)}" in in_file
    assert way_out in in_file
    by_set = message_of_file(tmp_path, SMALLEST_TOML + WITH_TARGET, f"privacy.noise_multiplier={zero}")
    assert f"--set privacy.noise_multiplier={zero}: privacy.target_epsilon is 8" in by_set
    assert way_out in by_set


def test_a_noise_of_0_without_a_target_is_refused(tmp_path: Path) -> None:
    content = f'{SMALLEST_TOML}[privacy]\nunit = "client"\n'
    for message in (
        message_of_file(tmp_path, content, "privacy.noise_multiplier=0"),
        message_of_file(tmp_path, f"{content}noise_multiplier = 0\n"),
        message_of_file(tmp_path, SMALLEST_TOML + WITH_NOISE, "privacy.noise_multiplier=0"),
    ):
        assert "exactly one of target and noise is above 0" in message


def test_a_0_by_set_takes_back_what_was_given(tmp_path: Path) -> None:
    noisy = private_config(tmp_path, WITH_TARGET, "privacy.target_epsilon=0", "privacy.noise_multiplier=1.1")
    assert noisy == private_config(tmp_path, WITH_NOISE)
    aimed = private_config(tmp_path, WITH_NOISE, "privacy.noise_multiplier=0", "privacy.target_epsilon=8")
    assert aimed == private_config(tmp_path, WITH_TARGET)
    swapped = ("client_target_epsilon=0", "client_noise_multiplier=1", "noise_multiplier=0", "target_epsilon=8")
    both = parse(*BOTH_KINDS, *(f"privacy.{word}" for word in swapped)).privacy
    assert (both.target_epsilon, both.noise_multiplier) == (8.0, 0.0)
    assert (both.client_target_epsilon, both.client_noise_multiplier) == (0.0, 1.0)
    assert "noise_multiplier is false, expected a number" in message_of_file(
        tmp_path, SMALLEST_TOML + WITH_NOISE, "privacy.noise_multiplier=false"
    )


def test_what_a_run_wrote_loads_also_with_a_0_for_what_was_left_out(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    for content in (WITH_TARGET, WITH_NOISE):
        config = private_config(tmp_path, content)
        path.write_text(dump_toml(config))
        assert load_config(path) == load_resolved(path) == config
        values = config.model_dump(mode="json")
        assert 0.0 in (values["privacy"]["target_epsilon"], values["privacy"]["noise_multiplier"])
        assert parse_resolved(values) == config
        zeros = [f"{name} = 0.0\n" for name, value in values["privacy"].items() if value == 0]
        head, privacy, rest = dump_toml(config).partition("[privacy]\n")
        path.write_text("".join([head, privacy, *zeros, rest]))
        assert load_resolved(path) == config
        assert load_resolved(path, ["run.seed=3"]).run.seed == 3
    path.write_text(dump_toml(private_config(tmp_path, WITH_TARGET)))
    with pytest.raises(ConfigError, match=r"Leave privacy\.noise_multiplier out"):
        load_resolved(path, ["privacy.noise_multiplier=0"])


def test_differences_name_each_changed_key_with_both_values() -> None:
    new = parse("lora.rank=8", 'lora.targets=["q"]', "run.folder=elsewhere")
    assert config_differences(parse(), new) == [
        'run.folder: "runs" -> "elsewhere"',
        "lora.rank: 16 -> 8",
        'lora.targets: "auto" -> ["q"]',
    ]
    assert config_differences(parse(), new, ignoring=RESUMABLE_KEYS) == config_differences(parse(), new)[1:]
    assert config_differences(new, new) == []


def test_resumable_keys_exist() -> None:
    assert {key.full_name for key in KEYS} >= RESUMABLE_KEYS


def test_reading_a_configuration_loads_no_heavy_library() -> None:
    code = "import sys, confide.config, confide.config.describe; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "confide.config.describe" in loaded
    assert not {"torch", "numpy", "transformers", "peft", "rich", "typer"} & set(loaded)


@pytest.mark.parametrize("given", ["0", "-1", "1e30", "1e-40"])
def test_a_clip_norm_out_of_range_is_refused_with_what_it_is_for(tmp_path: Path, given: str) -> None:
    message = message_of_file(tmp_path, SMALLEST_TOML + f'[privacy]\nunit = "client"\nclip_norm = {given}\n')
    assert "expected a number >= 1e-06 and <= 1000000.0. Bound on one example's gradient" in message
