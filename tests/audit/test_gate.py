import re

import pytest

from confide.audit.gate import check_asked, failed_conditions, parse_condition
from confide.audit.measure_names import METRICS
from confide.audit.results import AuditResults, Estimate, Measure, Unmeasured
from confide.errors import ConfigError
from tests.report.audits import audit, estimate, measure


def with_measures(*measures: Measure) -> AuditResults:
    return audit().model_copy(update={"measures": list(measures)})


GREEDY = measure("client", "extraction", "leak", attack="greedy", metric="exact", members=estimate(0.3, half=0.1))
PREFIX = measure("client", "extraction", attack="prefix", metric="exact", members=estimate(0.1, half=0.05))
AREA = measure(
    "final", "membership", attack="loss", metric="auc", members=estimate(0.7), excess=estimate(0.2, half=0.05)
)
TPR = measure("final", "membership", attack="loss", metric="tpr@0.01", members=estimate(0.2), excess=None)
RESULTS = with_measures(GREEDY, PREFIX, AREA, TPR)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("client.extraction.exact > 0.01", ("client", "extraction", "exact", "value", ">", 0.01)),
        ("final.membership.tpr@0.01:low>=1e-3", ("final", "membership", "tpr@0.01", "low", ">=", 0.001)),
        (" server.updates.auc:excess  <  -0.5 ", ("server", "updates", "auc", "excess", "<", -0.5)),
        ("final.extraction.within_100 : high <= 1", ("final", "extraction", "within_100", "high", "<=", 1)),
        ("sealed-server.updates.auc:leaks > 0", ("sealed-server", "updates", "auc", "leaks", ">", 0)),
    ],
)
def test_a_condition_reads_as_it_is_written(text: str, expected: tuple[object, ...]) -> None:
    found = parse_condition(text)
    about = found.measures
    assert (about.view, about.family, about.metric, found.part, found.comparison, found.bound) == expected
    assert (about.attack, about.population) == ("", "")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not VIEW.FAMILY.METRIC"),
        ("client.extraction.exact", "is not VIEW.FAMILY.METRIC"),
        ("client.extraction.exact = 1", "is not VIEW.FAMILY.METRIC"),
        ("client.extraction.exact > ", "is not VIEW.FAMILY.METRIC"),
        ("nobody.extraction.exact > 0", "has the view 'nobody', expected final, client, coalition, server"),
        ("client.theft.exact > 0", "has the family 'theft', expected membership, extraction, exposure, updates"),
        ("client.extraction.exact:middle > 0", "has the part 'middle', expected value, low, high, excess, leaks"),
        ("client.extraction > 0", "names no metric of extraction"),
        ("client.extraction.exacct > 0", "names no metric of extraction.* The metrics are: exact, near, "),
        ("client.membership.exact > 0", "names no metric of membership.* are: auc, tpr@0.1, tpr@0.01, tpr@0.001"),
        ("client.membership.tpr@0.05 > 0", "names no metric of membership"),
        ("client.extraction.greedy.exact > 0", "names no metric of extraction"),
        ("client.extraction.greedy.ladder.exacct > 0", "names no metric of extraction"),
        ("client.extraction.exact > much", "needs a finite number"),
        ("client.extraction.exact > nan", "needs a finite number"),
        ("client.extraction.exact > inf", "needs a finite number"),
    ],
)
def test_what_is_no_condition_is_refused_with_the_reason(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_condition(text)


@pytest.mark.parametrize(
    ("condition", "why"),
    [
        ("final.membership.auc > 80", "an AUC lies in [0, 1]"),
        ("final.membership.auc > 1", "an AUC lies in [0, 1]"),
        ("final.membership.auc < 0", "an AUC lies in [0, 1]"),
        ("final.membership.auc <= -0.01", "an AUC lies in [0, 1]"),
        ("final.membership.tpr@0.01 >= 1.01", "tpr@0.01 lies in [0, 1]"),
        ("client.extraction.exact:high > 1.1", "the high end of exact lies in [0, 1]"),
        ("client.extraction.greedy.ladder.exact:low < 0", "the low end of exact lies in [0, 1]"),
        ("client.extraction.exact:excess > 1", "excess lies in [-1, 1]"),
        ("client.extraction.rouge_l:excess < -1", "excess lies in [-1, 1]"),
        ("client.extraction.gain > 1", "gain lies in [-1, 1]"),
        ("client.extraction.gain_max:excess > 2", "excess lies in [-2, 2]"),
        ("client.exposure.exposure < 0", "exposure is never below 0"),
        ("client.exposure.exposure:leaks > 1", "leaks lies in [0, 1]"),
        ("final.membership.auc:leaks >= 2", "leaks lies in [0, 1]"),
    ],
)
def test_a_condition_that_no_number_can_fulfil_is_refused_and_says_why(condition: str, why: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"the condition {condition!r} can never hold: {why}.")):
        parse_condition(condition)


@pytest.mark.parametrize(
    "text",
    [
        "final.membership.auc >= 1",
        "final.membership.auc <= 0",
        "final.membership.auc >= -5",  # always holds, which shows
        "client.extraction.exact > 0.99",
        "client.extraction.exact:low <= 0",
        "client.extraction.exact:leaks >= 1",
        "client.extraction.exact:excess > -1",
        "client.extraction.exact:excess < 0",
        "client.extraction.gain < 0",
        "client.extraction.gain:high > 1",  # the interval of a mean of differences knows no bounds
        "client.extraction.longest_run > 50",
        "client.extraction.efficiency > 1",
        "client.exposure.exposure > 80",
        "client.exposure.exposure:excess < -80",
    ],
)
def test_a_condition_that_can_hold_is_taken(text: str) -> None:
    assert parse_condition(text).text == text


def test_every_metric_has_a_range_in_which_a_gate_can_lie() -> None:
    for family, metrics in METRICS.items():
        for metric in metrics:
            assert parse_condition(f"final.{family}.{metric} > 0.5").bound == 0.5


@pytest.mark.parametrize(
    ("text", "failing"),
    [
        ("client.extraction.exact > 0.2", [GREEDY]),
        ("client.extraction.exact > 0.05", [GREEDY, PREFIX]),
        ("client.extraction.exact > 0.3", []),
        ("client.extraction.exact >= 0.3", [GREEDY]),
        ("client.extraction.exact:low > 0.15", [GREEDY]),
        ("client.extraction.exact:high < 0.2", [PREFIX]),
        ("client.extraction.exact:leaks > 0", [GREEDY]),
        ("final.membership.auc:excess > 0.1", [AREA]),
        ("final.membership.auc:excess > 0.2", []),
        ("final.membership.tpr@0.01 <= 0.2", [TPR]),
        ("client.extraction.greedy.personal.exact > 0.05", [GREEDY]),
        ("client.extraction.prefix.personal.exact:low >= 0.05", [PREFIX]),
        ("client.extraction.greedy.personal.exact > 0.3", []),
    ],
)
def test_a_condition_fails_exactly_the_measures_for_which_it_holds(text: str, failing: list[Measure]) -> None:
    lines = failed_conditions(RESULTS, [parse_condition(text)])
    assert len(lines) == len(failing)
    assert all(one.key in line and text in line for one, line in zip(failing, lines, strict=True))


def test_a_gate_that_looks_at_nothing_does_not_pass() -> None:
    with pytest.raises(ConfigError, match=r"about nothing that this audit measured.*client\.extraction\.exact"):
        failed_conditions(RESULTS, [parse_condition("coalition.extraction.exact > 0.5")])
    with pytest.raises(ConfigError, match=r"measured: client\.extraction\.greedy\.personal\.exact, client\.extr"):
        failed_conditions(RESULTS, [parse_condition("client.extraction.greedy.ladder.exact > 0.5")])
    with pytest.raises(ConfigError, match="It measured: nothing"):
        failed_conditions(with_measures(), [parse_condition("client.extraction.exact > 0.5")])


def test_an_excess_that_a_measure_does_not_have_is_not_known_beside_those_that_have_one() -> None:
    """Otherwise a gate on all of an audit's excesses would pass where nothing stood beside the worst number."""
    bare = AREA.model_copy(update={"attack": "zlib", "excess": None})
    (line,) = failed_conditions(with_measures(AREA, bare), [parse_condition("final.membership.auc:excess > 0.5")])
    assert line.startswith(f"final.membership.auc:excess > 0.5: not known. {bare.key} has no excess")
    lines = failed_conditions(with_measures(AREA, bare), [parse_condition("final.membership.auc:excess > 0.1")])
    assert [AREA.key in lines[0], bare.key in lines[1]] == [True, True]
    assert failed_conditions(with_measures(AREA, bare), [parse_condition("final.membership.auc > 0.9")]) == []


def missing(population: str = "records", attack: str = "", *metrics: str) -> Unmeasured:
    return Unmeasured(
        view="client",
        family="extraction",
        population=population,
        attack=attack,
        metrics=list(metrics),
        reason=f"{population}: 1 members and 0 others to ask about; at least 2 of each are needed.",
    )


def test_a_gate_does_not_pass_on_what_there_were_too_few_records_for() -> None:
    """Another population's number is far from the bound; of the one without nobody knows."""
    results = RESULTS.model_copy(update={"unmeasured": [missing()]})
    (line,) = failed_conditions(results, [parse_condition("client.extraction.exact > 0.9")])
    assert line.startswith("client.extraction.exact > 0.9: not known. client.extraction.records: ")
    assert "1 members and 0 others" in line
    # What holds is said as well, and other families and views are not held up.
    assert len(failed_conditions(results, [parse_condition("client.extraction.exact:leaks > 0")])) == 2
    assert failed_conditions(results, [parse_condition("final.membership.auc > 0.9")]) == []
    # A number of which nothing at all was measured is not known either; without a shortage it is a mistake.
    (line,) = failed_conditions(results, [parse_condition("client.extraction.coverage > 0.5")])
    assert "not known" in line


def test_what_is_not_known_of_many_is_said_once() -> None:
    results = RESULTS.model_copy(update={"unmeasured": [missing(name) for name in ("records", "ladder", "personal")]})
    (line,) = failed_conditions(results, [parse_condition("client.extraction.exact > 0.9")])
    assert line.startswith("client.extraction.exact > 0.9: not known. client.extraction.records: ")
    assert line.endswith("needed. So it is with 2 more.")


def test_an_attack_that_did_not_run_holds_up_its_own_numbers_alone() -> None:
    results = RESULTS.model_copy(update={"unmeasured": [missing("personal", "own-prefix", "coverage", "efficiency")]})
    (line,) = failed_conditions(results, [parse_condition("client.extraction.coverage > 0.9")])
    assert "client.extraction.own-prefix.personal" in line
    assert failed_conditions(results, [parse_condition("client.extraction.exact > 0.9")]) == []
    (line,) = failed_conditions(results, [parse_condition("client.extraction.own-prefix.personal.coverage > 0.9")])
    assert "not known" in line
    with pytest.raises(ConfigError, match="about nothing"):  # what is missing is another population's
        failed_conditions(results, [parse_condition("client.extraction.own-prefix.ladder.coverage > 0.9")])


NEED = "3 members and 4 others; at least 10 of each are needed."
FEW = measure(
    "client",
    "extraction",
    "too few records",
    attack="greedy",
    metric="exact",
    members=Estimate(value=0.25, low=0.01, high=0.8, num=4),
    excess=Estimate(value=0.0, low=-0.6, high=0.6, num=4),
).model_copy(update={"caveat": NEED})


@pytest.mark.parametrize(
    "text",
    [
        "client.extraction.exact > 0.5",
        "client.extraction.exact < 0.1",
        "client.extraction.exact:low > 0.01",
        "client.extraction.exact:low >= 0.5",
        "client.extraction.exact:high < 0.2",
        "client.extraction.exact:high <= 0.2",
        "client.extraction.exact:excess > 0.1",
        "client.extraction.exact:leaks > 0",
        "client.extraction.greedy.personal.exact:leaks > 0",
    ],
)
def test_what_does_not_hold_of_too_few_records_is_not_known_and_fails(text: str) -> None:
    condition = parse_condition(text)
    (line,) = failed_conditions(with_measures(FEW), [condition])
    assert line.startswith(f"{text}: not known. {FEW.key} has {condition.part} ")
    assert line.endswith(NEED)
    enough = FEW.model_copy(update={"verdict": "no evidence"})
    assert failed_conditions(with_measures(enough), [condition]) == []


@pytest.mark.parametrize("text", ["client.extraction.exact > 0.2", "client.extraction.exact:high > 0.7"])
def test_what_holds_of_too_few_records_fails_as_it_does_of_many(text: str) -> None:
    (line,) = failed_conditions(with_measures(FEW), [parse_condition(text)])
    assert "not known" not in line
    assert FEW.key in line


@pytest.mark.parametrize("text", ["client.extraction.exact:high > 0.8", "client.extraction.exact:low < 0.01"])
def test_what_an_interval_rules_out_is_known_from_few_records_too(text: str) -> None:
    assert failed_conditions(with_measures(FEW), [parse_condition(text)]) == []


UNEXPLAINED = AREA.model_copy(update={"verdict": "unexplained", "caveat": "No coins decided."})


@pytest.mark.parametrize("comparison", ["> 0", ">= 1", "<= 0", "< 1"])
def test_whether_what_is_unexplained_leaks_is_not_known(comparison: str) -> None:
    text = f"final.membership.auc:leaks {comparison}"
    (line,) = failed_conditions(with_measures(UNEXPLAINED), [parse_condition(text)])
    assert line.startswith(f"{text}: not known. {UNEXPLAINED.key} is beyond its controls, and may be a leak: ")
    assert line.endswith("No coins decided.")


@pytest.mark.parametrize(
    ("part", "number"), [("", AREA.members.value), (":low", AREA.members.low), (":high", AREA.members.high)]
)
def test_the_numbers_of_what_is_unexplained_are_known(part: str, number: float) -> None:
    for by, num_failing in ((-0.01, 1), (0.01, 0)):
        condition = parse_condition(f"final.membership.auc{part} > {number + by}")
        assert len(failed_conditions(with_measures(UNEXPLAINED), [condition])) == num_failing
    assert (
        len(failed_conditions(with_measures(UNEXPLAINED), [parse_condition("final.membership.auc:excess > 0.1")])) == 1
    )
    assert failed_conditions(with_measures(UNEXPLAINED), [parse_condition("final.membership.auc:excess > 0.3")]) == []


def test_no_condition_passes_on_an_audit_with_doubts_and_what_holds_is_still_said() -> None:
    results = with_measures(GREEDY, PREFIX, FEW, AREA).model_copy(update={"doubts": ["Swapped.", "Another base."]})
    for text in ("client.extraction.exact > 0.9", "final.membership.auc:leaks > 0"):
        assert failed_conditions(results, [parse_condition(text)]) == [f"{text}: not known. Swapped."]
    text = "client.extraction.exact > 0.28"
    held, unknown = failed_conditions(results, [parse_condition(text)])
    assert GREEDY.key in held
    assert unknown == f"{text}: not known. Swapped."
    with pytest.raises(ConfigError, match="about nothing"):
        failed_conditions(results, [parse_condition("client.exposure.exposure > 1")])


def test_one_measure_of_too_few_records_fails_a_gate_that_all_others_pass() -> None:
    (line,) = failed_conditions(with_measures(PREFIX, FEW, AREA), [parse_condition("client.extraction.exact > 0.9")])
    assert FEW.key in line
    assert NEED in line


def test_conditions_on_what_is_not_asked_for_are_refused_before_an_audit() -> None:
    asked = {"views": ("final", "server"), "families": ("membership", "updates")}
    fine = ["final.membership.auc >= 1", "sealed-server.updates.auc >= 1", "server.updates.auc >= 1"]
    check_asked([parse_condition(text) for text in fine], **asked)
    with pytest.raises(ConfigError, match=r"'client.membership.auc >= 1' is about the view 'client'.*final, server"):
        check_asked([parse_condition("client.membership.auc >= 1")], **asked)
    with pytest.raises(ConfigError, match=r"is about the attack 'extraction'.*membership, updates"):
        check_asked([parse_condition("final.extraction.exact >= 1")], **asked)


def test_every_condition_is_looked_at() -> None:
    conditions = [parse_condition("client.extraction.exact > 0.2"), parse_condition("final.membership.auc > 0.65")]
    assert len(failed_conditions(RESULTS, conditions)) == 2
    assert failed_conditions(RESULTS, []) == []


def test_a_measure_at_the_edge_is_compared_without_rounding() -> None:
    just_above = Estimate(value=0.01 + 1e-12, low=0.0, high=1.0, num=4)
    condition = parse_condition("client.extraction.exact > 0.01")
    assert failed_conditions(with_measures(measure(members=just_above)), [condition])


def test_a_gate_on_a_view_that_nobody_in_the_run_has_works_and_says_so() -> None:
    found = measure("server", "updates", "leak", metric="auc", members=estimate(0.9), is_hypothetical=True)
    (said,) = failed_conditions(with_measures(found), [parse_condition("server.updates.auc > 0.6")])
    assert said.endswith("has value 0.9 if the run were not sealed")
    (said,) = failed_conditions(with_measures(found), [parse_condition("server.updates.auc:leaks > 0")])
    assert "if the run were not sealed" in said
    assert "sealed" not in failed_conditions(RESULTS, [parse_condition("client.extraction.exact > 0.2")])[0]
