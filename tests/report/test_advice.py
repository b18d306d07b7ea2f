import pytest

from confide.audit.results import AuditResults, Measure
from confide.report.advice import RULES, advice
from tests.report.audits import (
    audit,
    calm_audit,
    epsilon_bound,
    estimate,
    facts,
    leak,
    leaking_audit,
    line,
    measure,
    passive_audit,
    too_few,
    unexplained,
)

CASES: dict[str, AuditResults] = {
    "nothing was measured": audit(),
    "text comes out of a model": audit(measures=[leak("final")]),
    "more copies, more exposure": audit(
        measures=[leak(family="exposure", population="ladder")],
        curves=[line("copies", "members", {1: 0.1, 16: 0.9}, population="ladder", metric="exposure")],
    ),
    "members are recognised from a model": audit(measures=[leak("client", "membership")]),
    "members are recognised from opened sums": audit(measures=[leak("coalition", "updates")]),
    "only rounds tell, not the final model": audit(measures=[leak("client"), measure("final")]),
    "members are recognised from single updates": audit(measures=[leak("server", "updates")]),
    "the server with sealed updates": audit(measures=[measure("sealed-server", "updates")]),
    "more than the controls without coins": audit(measures=[unexplained()]),
    "more with two models": audit(measures=[unexplained(metric="gain")]),
    "too few records": audit(measures=[too_few()]),
    "above the controls without a verdict": audit(measures=[measure(excess=estimate(0.3))]),
    "nothing was found": audit(measures=[measure()]),
    "the claimed epsilon is refuted": audit().model_copy(
        update={"epsilons": [epsilon_bound(low=9.0, verdict="above the claim")]}
    ),
    "the audit has warnings": audit(warnings=["Passive attacks only."]),
}


def _rules(results: AuditResults) -> set[str]:
    return {item.rule for item in advice(results)}


def test_each_rule_has_a_case() -> None:
    assert set(CASES) == {rule for rule, _ in RULES}


@pytest.mark.parametrize("rule", CASES)
def test_a_rule_applies_where_its_case_is(rule: str) -> None:
    assert rule in _rules(CASES[rule])


@pytest.mark.parametrize("rule", sorted(set(CASES) - {"nothing was measured", "the audit has warnings"}))
def test_a_rule_does_not_apply_where_nothing_was_measured(rule: str) -> None:
    assert rule not in _rules(audit())


def test_advice_claims_no_finding_of_its_own() -> None:
    for results in (*CASES.values(), leaking_audit(), calm_audit()):
        for item in advice(results):
            assert "leak" not in item.text.lower()


def test_a_guarantee_is_advised_where_there_is_none_and_a_stronger_one_where_there_is() -> None:
    found = CASES["text comes out of a model"]
    private = found.model_copy(update={"run": found.run.model_copy(update={"guarantee": "(epsilon 8, delta 1e-5)"})})
    without, having = (" ".join(item.text for item in advice(one)) for one in (found, private))
    assert "this run has none" in without
    assert "this run has none" not in having
    assert "privacy.target_epsilon" in having


def test_something_is_said_whatever_was_found() -> None:
    for results in (*CASES.values(), leaking_audit(), calm_audit()):
        assert advice(results)


def test_no_change_is_advised_only_where_everything_was_decided() -> None:
    assert "nothing was found" in _rules(calm_audit())
    assert "nothing was found" not in _rules(leaking_audit())
    assert "nothing was found" not in _rules(audit(measures=[measure(), too_few()]))
    assert "nothing was found" not in _rules(audit(measures=[measure(), measure(excess=estimate(0.3))]))
    assert "nothing was found" not in _rules(audit(measures=[measure(), unexplained("client", excess=None)]))
    assert "nothing was found" not in _rules(calm_audit().model_copy(update={"doubts": ["Swapped."]}))


def test_what_no_coins_explain_asks_for_coins_before_it_asks_for_records() -> None:
    (item,) = advice(audit(measures=[unexplained()]))
    assert "Let coins decide before the next training (audit.canaries)" in item.text
    assert "records are needed" not in item.text
    rules = [one.rule for one in advice(passive_audit())]
    assert rules.index("more than the controls without coins") < rules.index("too few records")
    (of_clients,) = advice(audit(measures=[unexplained(population="clients", attack="user")]))
    assert "Let coins decide which clients take part in the next training, and" in of_clients.text
    assert "audit.canaries" not in of_clients.text
    assert _rules(audit(measures=[unexplained("server", is_hypothetical=True), measure()])) == {"nothing was found"}


def test_a_gain_with_two_models_asks_for_no_coins_and_is_no_text_that_comes_out() -> None:
    gain = unexplained("client", family="extraction", attack="prefix-80-rounds-two", metric="gain")
    (item,) = advice(audit(measures=[gain]))
    assert "a draw that is merely sharper" in item.text
    assert "coins" not in item.text


def test_sealing_is_not_said_to_have_held_where_something_is_unexplained() -> None:
    found = [measure("sealed-server", "updates"), unexplained("sealed-server", family="updates")]
    assert _rules(audit(measures=found)) == {"more than the controls without coins"}


def test_of_an_audit_with_doubts_it_is_advised_to_settle_them_first() -> None:
    doubt = "The two lists are swapped."
    (first, *_) = advice(audit(warnings=[doubt], doubts=[doubt], measures=[leak()]))
    assert "none of its numbers means anything" in first.text
    (first, *_) = advice(audit(warnings=["Passive attacks only."], measures=[leak()]))
    assert "means anything" not in first.text


def test_a_plaintext_run_is_told_to_seal_and_a_sealed_one_to_keep_sealing() -> None:
    (plain,) = advice(audit(run=facts(scheme="plain"), measures=[leak("server", "updates")]))
    sealed, calm = advice(audit(measures=[leak("server", "updates", is_hypothetical=True), measure()]))
    assert calm.rule == "nothing was found"
    assert plain.text.startswith("Seal the updates")
    assert sealed.text.startswith("Keep sealing on")


def test_a_server_that_is_given_the_models_is_not_taken_for_one_that_broke_the_seal() -> None:
    found = [leak("sealed-server", "membership"), measure("sealed-server", "updates")]
    given = {one.rule: one.text for one in advice(audit(measures=found))}
    assert 'seal.release = "clients"' in given["the server with sealed updates"]
    assert not [text for text in given.values() if "nothing to go by" in text]
    assert [text for text in given.values() if text.startswith("Take it as known to a server with sealed updates")]


def test_a_server_that_learns_from_sealed_updates_stops_the_run() -> None:
    (stop,) = advice(audit(measures=[leak("sealed-server", "updates"), measure("sealed-server", "updates")]))
    assert stop.text.startswith("Stop")


def test_a_final_model_that_was_not_decided_is_not_called_better_than_rounds() -> None:
    rule = "only rounds tell, not the final model"
    assert rule not in _rules(audit(measures=[leak("client"), too_few("final")]))
    assert rule not in _rules(audit(measures=[leak("client"), leak("final")]))
    assert rule not in _rules(audit(measures=[leak("client")]))


def test_advice_on_too_few_records_says_how_many() -> None:
    (item,) = advice(audit(measures=[too_few()]))
    assert item.text.endswith("for M7 ez on records, at least 1,000 records that were not trained on are needed.")


@pytest.mark.parametrize(
    ("found", "values"),
    [
        (measure(family="exposure", population="ladder"), {2: 0.0, 8: 0.6}),  # a rise where nothing was found
        (leak(family="exposure", population="personal"), {2: 0.0, 8: 0.6}),  # found among others
        (leak("final", "exposure", population="ladder"), {2: 0.0, 8: 0.6}),  # found by somebody else
        (leak(family="exposure", population="ladder"), {1: 0.4, 16: 0.5}),  # intervals that overlap
        (leak(family="exposure", population="ladder"), {1: 0.4}),
    ],
)
def test_advice_on_duplicates_needs_a_finding_and_a_rise_in_one_population(
    found: Measure, values: dict[int, float]
) -> None:
    curves = [line("copies", "members", values, population="ladder", metric="exposure"), line("copies", "base", {})]
    assert "more copies, more exposure" not in _rules(audit(measures=[found], curves=curves))


def test_what_nobody_in_a_run_sees_asks_for_no_records_and_is_no_number_above_its_controls() -> None:
    of_nobody = [
        too_few("server", is_hypothetical=True),
        measure("server", excess=estimate(0.3), is_hypothetical=True),
    ]
    assert _rules(audit(measures=[*of_nobody, measure()])) == {"nothing was found"}
