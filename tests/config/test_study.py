from pathlib import Path

import pytest

from confide.config.load import load_config
from confide.config.study import load_study
from confide.errors import ConfigError

FILE = """
[study]
measures = ["client.extraction.greedy.ladder.exact"]
[study.variants]
plain = []
kl = ["train.regularizer=kl", "train.regularizer_strength=0.5", "run.seed=3"]
[run]
name = "both"
folder = "somewhere"
[model]
base = "tiny-llama"
[data]
source = "clinics"
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "study.toml"
    path.write_text(text)
    return path


def test_each_variant_is_the_file_with_its_own_settings_and_a_name_of_its_own(tmp_path: Path) -> None:
    study = load_study(written(tmp_path, FILE))
    assert (study.name, study.folder, list(study.variants)) == ("both", Path("somewhere"), ["plain", "kl"])
    assert study.measures == ("client.extraction.greedy.ladder.exact",)
    plain, kl = study.variants.values()
    assert (plain.run.name, kl.run.name) == ("both-plain", "both-kl")
    assert (plain.train.regularizer, kl.train.regularizer, kl.train.regularizer_strength) == ("none", "kl", 0.5)
    assert plain.model_copy(update={"run": kl.run, "train": kl.train}) == kl


def test_what_is_set_for_one_command_holds_for_all_variants_but_for_their_own_settings(tmp_path: Path) -> None:
    study = load_study(written(tmp_path, FILE), ["run.seed=7", "federation.rounds=4"])
    assert [config.federation.rounds for config in study.variants.values()] == [4, 4]
    assert [config.run.seed for config in study.variants.values()] == [7, 3]


def test_a_study_is_a_configuration_too(tmp_path: Path) -> None:
    assert load_config(written(tmp_path, FILE)).run.name == "both"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[model]\nbase = "tiny-llama"\n', "there is no table [study]. Expected one"),
        ("study = 3\n", "study is 3. Expected a table [study]"),
        ('study = ["plain"]\n', 'study is ["plain"]. Expected a table [study]'),
        ('[study]\n[model]\nbase = "tiny-llama"\n', "study.variants: Field required"),
        ("[study.variants]\n", "study.variants: Dictionary should have at least 1 item"),
        (FILE.replace("plain = []", "plain = 3"), "study.variants.plain: Input should be a valid list"),
        (FILE.replace("plain = []", '"../plain" = []'), "the variant '../plain' has a name of other than letters"),
        (FILE.replace("run.seed=3", "run.sed=3"), "variant kl"),
        (FILE.replace("[study]\n", "[study]\nmeasure = 1\n"), "study.measure: Extra inputs are not permitted"),
    ],
)
def test_what_is_wrong_with_a_study_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as raised:
        load_study(path)
    assert str(raised.value).startswith(str(path))
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("client.extraction.exact", "names no metric of extraction, of the form VIEW.FAMILY.ATTACK.POPULATION.METRIC"),
        ("client.extraction.greedy.ladder.exacct", "names no metric of extraction"),
        ("cleint.extraction.greedy.ladder.exact", "has the view 'cleint', expected final, client"),
        ("client.extractoin.greedy.ladder.exact", "has the family 'extractoin', expected membership, extraction"),
        ("coalition.extraction.greedy.ladder.exact", "is about the view 'coalition'"),
        ("client.exposure.rank.ladder.exposure", "is about the attack 'exposure'"),
    ],
)
@pytest.mark.parametrize("key", ["measures", "curves"])
def test_what_no_variant_can_show_is_refused_when_the_file_is_read(
    tmp_path: Path, key: str, name: str, message: str
) -> None:
    asked = '[audit]\nviews = ["client"]\nattacks = ["extraction"]\n'
    fine = "client.extraction.greedy.ladder.exact"
    study = load_study(written(tmp_path, FILE.replace("[study]\n", f'[study]\ncurves = ["{fine}"]\n') + asked))
    assert study.curves == (fine,)
    names = f'{key} = ["{fine}", "{name}"]'
    text = FILE.replace(f'measures = ["{fine}"]', names) + asked
    with pytest.raises(ConfigError) as raised:
        load_study(written(tmp_path, text))
    assert str(raised.value).startswith(f"{tmp_path / 'study.toml'}: study.{key}: {name!r} ")
    assert message in str(raised.value)


def test_a_view_that_one_variant_audits_is_enough(tmp_path: Path) -> None:
    text = FILE.replace("plain = []", """plain = ['audit.views=["client"]']""") + '[audit]\nviews = ["final"]\n'
    assert load_study(written(tmp_path, text)).measures == ("client.extraction.greedy.ladder.exact",)


UTILITY = """
[study]
utility = true
seeds = [3, 5, 3]
[study.variants]
plain = []
row = ["privacy.unit=example", "privacy.target_epsilon=8"]
"""


def of_utility(text: str) -> str:
    return text + FILE[FILE.index("[run]") :]


def test_a_study_of_usefulness_trains_each_variant_once_with_each_seed(tmp_path: Path) -> None:
    study = load_study(written(tmp_path, of_utility(UTILITY)))
    assert study.utility
    repeats = study.repeats("row")
    assert [(one.run.name, one.run.seed) for one in repeats] == [("both-row-seed3", 3), ("both-row-seed5", 5)]
    assert {one.privacy.target_epsilon for one in repeats} == {8.0}


def test_without_seeds_a_variant_is_one_run(tmp_path: Path) -> None:
    study = load_study(written(tmp_path, FILE))
    assert study.repeats("kl") == (study.variants["kl"],)


@pytest.mark.parametrize(
    ("added", "message"),
    [
        ('utility = true\nmeasures = ["client.extraction.greedy.ladder.exact"]', "audits nothing"),
        ("seeds = [1]", "audits compare single runs"),
        ("utility = true\nseeds = [-1]", "greater than or equal to 0"),
    ],
)
def test_what_a_study_cannot_do_is_refused_before_training(added: str, message: str, tmp_path: Path) -> None:
    text = of_utility(f"[study]\n{added}\n[study.variants]\nplain = []\n")
    with pytest.raises(ConfigError, match=message):
        load_study(written(tmp_path, text))
