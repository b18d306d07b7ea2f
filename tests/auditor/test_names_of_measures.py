from confide.audit.measure_names import CURVES, parse_measure_name
from confide.audit.results import AuditResults, Family


def test_gates_and_studies_can_name_every_measure_and_every_curve_over_rounds(results: AuditResults) -> None:
    families: set[Family] = {"membership", "extraction", "exposure", "updates"}
    assert {one.family for one in results.measures} == families
    for one in results.measures:
        assert parse_measure_name(one.key, what="this", is_whole=True).covers(one)
        assert parse_measure_name(f"{one.view}.{one.family}.{one.metric}", what="this").covers(one)
    over_rounds = [curve for curve in results.curves if curve.name == "rounds"]
    assert over_rounds
    for curve in over_rounds:
        key = ".".join((curve.view, curve.family, curve.attack, curve.population, curve.metric))
        parse_measure_name(key, what="this", metrics=CURVES, is_whole=True)


def test_what_had_too_few_records_has_metrics_that_can_be_named(results: AuditResults) -> None:
    named = [(one, metric) for one in results.unmeasured for metric in one.metrics]
    assert named
    for one, metric in named:
        assert parse_measure_name(f"{one.view}.{one.family}.{metric}", what="this").may_lack(one)
