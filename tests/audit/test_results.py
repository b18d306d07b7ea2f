import json
from importlib import resources

import pytest

from confide.audit.results import SCHEMA_VERSION, AuditResults, Estimate, Verdict, schema_text, written_version
from tests.report.audits import audit, estimate, facts, leaking_audit, measure


def test_the_schema_in_the_package_is_that_of_the_results() -> None:
    """Made again by: python -m confide.audit.results > src/confide/audit/audit.schema.json"""
    shipped = resources.files("confide.audit").joinpath("audit.schema.json").read_text(encoding="utf-8")
    assert json.loads(shipped) == json.loads(schema_text())
    assert shipped == schema_text()


def test_the_schema_names_its_version_and_every_field_that_results_have() -> None:
    schema = json.loads(schema_text())
    assert schema["properties"]["schema_version"]["const"] == SCHEMA_VERSION
    assert json.loads(leaking_audit().to_json()).keys() == schema["properties"].keys()


def test_the_version_of_results_is_read_whatever_else_they_hold() -> None:
    assert written_version(audit().to_json()) == SCHEMA_VERSION
    assert written_version('{"schema_version": 7, "measures": "gone"}') == 7
    for text in ("", "{", "[1]", "{}", "[" * 100_000):
        assert written_version(text) is None


@pytest.mark.parametrize("value", [[1, 3, 12], [0.8, 0.3], [1.0, 2.0], ["final"], [], True, 3, 0.5, "auto"])
def test_a_setting_comes_back_as_it_was(value: object) -> None:
    results = audit(settings={"setting": value})
    read = AuditResults.model_validate_json(results.to_json()).settings["setting"]
    assert (read, str(read)) == (value, str(value))


def test_what_nobody_knows_of_adapters_alone_is_left_empty() -> None:
    facts = audit().run.model_copy(update={"num_clients": None, "scheme": None})
    results = audit(run=facts)
    assert AuditResults.model_validate_json(results.to_json()) == results


def test_results_from_before_there_was_this_verdict_are_read_with_it() -> None:
    """A version without the verdict called what no coins explained "no evidence"."""
    beyond, by_chance, below = measure(excess=estimate(0.3), p=1e-6), measure(excess=estimate(0.3)), measure(p=1e-6)
    few = measure(verdict="too few records", excess=estimate(0.3), p=1e-6)
    given = json.loads(audit(measures=[beyond, by_chance, below, few]).to_json())
    del given["doubts"]
    found = AuditResults.model_validate_json(json.dumps(given))
    assert found.doubts == []
    assert [one.verdict for one in found.measures] == ["unexplained", "no evidence", "no evidence", "too few records"]
    assert AuditResults.model_validate_json(found.to_json()) == found


@pytest.mark.parametrize(("scheme", "is_hypothetical"), [("onetime", True), ("plain", False), ("unknown", False)])
def test_results_from_before_measures_said_what_nobody_sees_are_read_as_if_they_had(
    scheme: str, is_hypothetical: bool
) -> None:
    given = json.loads(audit(run=facts(scheme=scheme), measures=[measure("server"), measure("client")]).to_json())
    for one in given["measures"]:
        del one["is_hypothetical"]
    found = AuditResults.model_validate_json(json.dumps(given))
    assert [one.is_hypothetical for one in found.measures] == [is_hypothetical, False]
    assert AuditResults.model_validate_json(found.to_json()) == found


@pytest.mark.parametrize(("verdict", "read_as"), [("leak", "unexplained"), ("no evidence", "no evidence")])
@pytest.mark.parametrize("metric", ["gain", "gain_max"])
def test_results_from_when_a_gain_could_be_a_leak_are_read_as_if_it_could_not(
    metric: str, verdict: Verdict, read_as: Verdict
) -> None:
    controls = {"held_out": estimate(0.0), "base": Estimate(value=0.0, low=0.0, high=0.0, num=14)}
    old = measure(verdict=verdict, attack="prefix-80-rounds-two", metric=metric, controls=controls)
    other = measure(verdict="leak", attack="prefix-80-rounds-two", metric="rouge_l", controls=controls)
    found = AuditResults.model_validate_json(audit(measures=[old, other]).to_json())
    assert [one.verdict for one in found.measures] == [read_as, "leak"]
    assert [one.controls["base"].num for one in found.measures] == [0, 14]  # by construction, and measured
    assert found.measures[0].controls["held_out"] == controls["held_out"]
    assert AuditResults.model_validate_json(found.to_json()) == found
