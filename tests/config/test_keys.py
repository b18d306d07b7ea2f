import pytest

from confide.config.keys import Key, section_keys, section_meaning, toml_value
from confide.config.schema import RULES, SECTIONS, Config

KEYS = {key.full_name: key for section in SECTIONS for key in section_keys(section)}
NUMBERS_THAT_MEASURE_NOTHING = {"run.seed"}


@pytest.mark.parametrize("key", KEYS.values(), ids=lambda key: key.full_name)
def test_every_key_has_a_meaning_and_every_number_a_range_and_a_unit(key: Key) -> None:
    assert key.meaning.endswith(".")
    is_number = key.kind in ("a number", "a whole number", "a list of numbers")
    assert bool(key.range) == is_number
    assert bool(key.unit) == (is_number and key.full_name not in NUMBERS_THAT_MEASURE_NOTHING)


@pytest.mark.parametrize("section", SECTIONS)
def test_every_section_has_its_own_meaning(section: str) -> None:
    assert section_meaning(section).endswith(".")
    assert "What all sections share" not in section_meaning(section)


def test_every_field_of_the_configuration_is_a_section() -> None:
    assert list(SECTIONS) == list(Config.model_fields)


def test_rules_speak_of_keys_that_exist() -> None:
    assert {key for rule in RULES for key in rule.keys} <= set(KEYS)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("lora.rank", "a whole number >= 1"),
        ("lora.dropout", "a number >= 0 and < 1"),
        ("train.learning_rate", "a number > 0 and <= 100"),
        ("model.load_in_4bit", "true or false"),
        ("train.optimizer", 'one of "adamw", "sgd"'),
        ("privacy.unit", 'one of "none", "example", "client", "both"'),
        ("privacy.target_epsilon", "a number = 0, or > 0"),
        ("run.loggers", 'a list of "tensorboard", "mlflow", "wandb"'),
        ("data.path", "text"),
    ],
)
def test_expectations_read_as_words(name: str, expected: str) -> None:
    assert KEYS[name].expected == expected


def test_only_the_base_model_must_be_given() -> None:
    assert [name for name, key in KEYS.items() if key.default is None] == ["model.base"]


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (True, "true"),
        (7, "7"),
        (1e-8, "1e-08"),
        ('a "b"\n', r'"a \"b\"\n"'),
        (("a", 1), '["a", 1]'),
        ([], "[]"),
    ],
)
def test_values_are_written_as_toml_on_one_line(value: object, written: str) -> None:
    assert toml_value(value) == written
