import itertools
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.audit.results import AuditResults, Estimate, Family, Measure, Verdict, ViewKind
from confide.report.sentences import best_control, findings, guarantee, headline, not_examined, utility, worst_of
from confide.report.wording import FAMILIES, VERDICTS, VIEWS
from tests.report.audits import audit, calm_audit, estimate, facts, leak, leaking_audit, measure, too_few

WORD = "leak"

any_measure = st.builds(
    measure,
    st.sampled_from(get_args(ViewKind)),
    st.sampled_from(get_args(Family)),
    st.sampled_from(get_args(Verdict)),
    metric=st.sampled_from(["auc", "tpr@0.01", "exact", "near", "rouge_l", "exposure"]),
    excess=st.sampled_from([None, estimate(0.2), estimate(0.02)]),
    note=st.sampled_from(["", "needs 200 records", "Of one seed. Needs 200 records."]),
)


def _plain(text: str) -> str:
    return text.replace("\N{NO-BREAK SPACE}", " ")


@given(st.lists(any_measure, max_size=12))
def test_the_word_is_written_for_a_view_only_where_one_of_its_verdicts_says_so(measures: list[Measure]) -> None:
    results = audit(measures=measures)
    for finding in findings(results):
        leaks = any(one.verdict == "leak" for one in measures if one.view == finding.view)
        assert (WORD in finding.text.lower()) == leaks
        assert (finding.verdict == "leak") == leaks
    assert (WORD in headline(results)) == any(one.verdict == "leak" for one in measures)
    rest = " ".join([guarantee(results), utility(results), not_examined(results)])
    assert WORD not in rest.lower()


@given(st.lists(any_measure, max_size=12))
def test_views_stand_once_each_and_worst_first(measures: list[Measure]) -> None:
    found = findings(audit(measures=measures))
    assert sorted(finding.view for finding in found) == sorted({one.view for one in measures})
    places = [VERDICTS.index(finding.verdict) for finding in found]
    assert places == sorted(places)


@given(st.lists(any_measure, min_size=1, max_size=8))
def test_each_view_has_one_sentence_with_a_value_an_interval_and_a_sample_size(measures: list[Measure]) -> None:
    for finding in findings(audit(measures=measures)):
        text = _plain(finding.text)
        assert text.endswith(".")
        assert ". " not in text
        assert f"n = {finding.worst.members.num:,}" in text


def test_a_finding_says_what_came_out_by_how_much_and_above_what() -> None:
    (finding,) = findings(audit(measures=[leak()]))
    assert _plain(finding.text) == (
        "A leak: text that was trained on comes out, by E1 greedy on planted personal data: "
        "exact match 41.7 % (22.1 to 63.4, n = 24), against 4.2 % (0.1 to 21.1, n = 24) on held-out records, "
        "an excess of 37.5 percentage points (17.0 to 58.9, n = 24); 1 of 1 measure found one."
    )


def test_other_families_that_found_something_are_named() -> None:
    (finding,) = findings(audit(measures=[leak(family="membership", metric="auc"), leak(), measure()]))
    assert finding.worst.family == "extraction"
    assert finding.text.endswith("2 of 3 measures found one, and it also leaks by membership.")


def test_too_few_records_come_with_how_many_are_needed() -> None:
    (finding,) = findings(audit(measures=[too_few(), measure("coalition")]))
    assert finding.verdict == "too few records"
    assert "needs at least 1,000 records that were not trained on" in finding.text
    assert finding.text.endswith("1 of 2 measures had too few, 1 other found no evidence.")
    assert "but 1 could not be decided" in headline(audit(measures=[too_few(), measure("coalition")]))


def test_a_note_on_what_looks_like_a_finding_stands_in_the_sentence() -> None:
    passive = measure(excess=estimate(0.4), note="No coins decided who was trained on.")
    (finding,) = findings(audit(measures=[measure(family="exposure"), measure(), passive]))
    assert finding.worst is passive
    assert finding.text.endswith("(No coins decided who was trained on).")


def test_the_worst_is_chosen_by_verdict_then_family_then_metric_then_what_is_certain() -> None:
    ordered = [
        leak(metric="exact"),
        leak(metric="exact", excess=Estimate(value=0.4, low=0.1, high=0.7, num=24)),
        leak(metric="near"),
        leak(family="exposure"),
        leak(family="membership", metric="auc"),
        leak(family="updates", metric="auc"),
        too_few(),
        measure(family="membership", excess=estimate(0.2)),
        measure(family="extraction", excess=estimate(0.05)),
    ]
    for better, worse in itertools.pairwise(ordered):
        assert worst_of([worse, better]) is better
        assert worst_of([better, worse]) is better


def test_the_best_control_is_the_one_that_explains_most() -> None:
    controls = {"held_out": estimate(0.1), "base": estimate(0.3), "blind": estimate(0.2)}
    assert best_control(measure(controls=controls)) == ("base", controls["base"])
    assert best_control(measure(controls={})) is None
    (finding,) = findings(audit(measures=[measure(controls={})]))
    assert "against" not in finding.text


def test_nothing_measured_is_called_neither_safe_nor_not() -> None:
    assert headline(audit()) == "Nothing was measured, so nothing can be concluded either way."
    assert findings(audit()) == []


def test_views_without_attacks_are_named() -> None:
    assert not_examined(calm_audit()) == "Not examined: Clients that work together; A server that reads updates."
    assert not_examined(leaking_audit()) == ""


def test_the_guarantee_is_quoted_and_its_absence_said() -> None:
    assert guarantee(audit()).startswith("Formal guarantee: none.")
    formal = audit(run=facts(guarantee="(8, 1e-5)-DP per client."))
    assert guarantee(formal) == "Formal guarantee: (8, 1e-5)-DP per client."


def test_utility_stands_beside_the_base_models() -> None:
    assert utility(audit()) == "Utility: held-out loss 1.83 (base model 2.91)."
    assert utility(audit(run=facts(utility={}))) == "Utility: not measured."
    alone = audit(run=facts(utility={"base rouge_l": 0.25, "loss": 2.0}))
    assert utility(alone) == "Utility: base rouge_l 0.250, loss 2.00."


@pytest.mark.parametrize("results", [leaking_audit(), calm_audit(), audit()], ids=["leaking", "calm", "empty"])
def test_every_view_and_family_of_the_schema_has_words(results: AuditResults) -> None:
    assert set(VIEWS) == set(get_args(ViewKind))
    assert set(FAMILIES) == set(get_args(Family))
    assert set(VERDICTS) == set(get_args(Verdict))
    assert len(findings(results)) == len({one.view for one in results.measures})
