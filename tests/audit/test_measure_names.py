import pytest

from confide.attacks.extraction.scoring import PAPER_THRESHOLDS
from confide.audit.extraction import from_nothing, leaked_by_round
from confide.audit.measure_names import CURVES, METRICS, MeasureName, parse_measure_name
from confide.audit.membership import FALSE_POSITIVE_RATES
from confide.audit.results import Family, Measure, ViewKind
from confide.errors import ConfigError
from tests.report.audits import leaking_audit, measure

PLACES: list[tuple[ViewKind, Family, str, str, str]] = [
    ("final", "membership", "best", "records", "tpr@0.01"),
    ("client", "extraction", "prefix-80-rounds-two", "records", "rouge_l_max"),
    ("sealed-server", "updates", "cosine", "one client's update, FedShield's pruning, 20 %", "auc"),
    ("server", "updates", "gradient-difference", "noise of 0.5", "auc"),
    ("coalition", "exposure", "fit", "ladder", "exposure"),
]


def measured(place: tuple[ViewKind, Family, str, str, str]) -> Measure:
    view, family, attack, population, metric = place
    return measure(view, family, attack=attack, population=population, metric=metric)


@pytest.mark.parametrize("place", PLACES)
def test_the_key_of_a_measure_is_read_back_and_means_that_measure_alone(
    place: tuple[ViewKind, Family, str, str, str],
) -> None:
    mine = measured(place)
    found = parse_measure_name(mine.key, what="this", is_whole=True)
    assert (found.view, found.family, found.attack, found.population, found.metric) == place
    assert found.is_whole
    assert [one for one in PLACES if found.covers(measured(one))] == [place]
    for changes in ({"attack": "other"}, {"population": "other"}, {"metric": "other"}, {"view": "?"}, {"family": "?"}):
        assert not found.covers(mine.model_copy(update=changes))


def test_a_name_of_three_parts_means_all_attacks_and_populations() -> None:
    found = parse_measure_name("client.extraction.exact", what="this")
    assert found == MeasureName(view="client", family="extraction", metric="exact")
    assert not found.is_whole
    assert found.covers(measure(attack="greedy", population="ladder"))
    assert found.covers(measure(attack="union", population="personal"))
    assert not found.covers(measure(metric="near"))


@pytest.mark.parametrize(
    "text", ["client.extraction.exact", "client.extraction.greedy.exact", "client.extraction..x.exact"]
)
def test_where_one_measure_is_wanted_all_five_parts_are_needed(text: str) -> None:
    with pytest.raises(
        ConfigError, match=r"^this names no metric of extraction, of the form VIEW\.FAMILY\.ATTACK\.POP"
    ):
        parse_measure_name(text, what="this", is_whole=True)


def test_every_metric_that_names_a_constant_of_an_attack_has_its_value() -> None:
    """An attack that counts in another way has another name, which gates must know."""
    extraction = METRICS["extraction"]
    assert METRICS["membership"] == ("auc", *(f"tpr@{rate:g}" for rate in FALSE_POSITIVE_RATES))
    assert {one for one in extraction if one.startswith("verbatim")} == {
        f"verbatim_{number}" for number in from_nothing.QUOTED_TOKENS
    }
    assert {one for one in extraction if one.startswith("precision")} == {
        f"precision_{name}" for name in from_nothing.RANKINGS
    }
    assert {one for one in CURVES["extraction"] if "_top_" in one} == {
        f"rouge_l_top_{100 * share:g}" for share in leaked_by_round.TOP_SHARES
    }
    assert {one for one in CURVES["extraction"] if ">" in one} == {
        f"rouge_l>{threshold:g}" for threshold in PAPER_THRESHOLDS
    }


def test_every_measure_of_a_report_has_a_name_that_can_be_asked_for() -> None:
    for one in leaking_audit().measures:
        assert parse_measure_name(one.key, what="this", is_whole=True).covers(one)
