import itertools
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.audit.results import AuditResults, Estimate, Family, Measure, Verdict, ViewKind
from confide.report.clauses import best_control, clause
from confide.report.sentences import BRACKETS, findings, guarantee, headline, not_examined, utility, worst_of
from confide.report.wording import BEYOND_CONTROLS, FAMILIES, VERDICTS, VIEWS
from tests.report.audits import (
    above_by_chance,
    audit,
    calm_audit,
    estimate,
    facts,
    leak,
    leaking_audit,
    measure,
    passive_audit,
    too_few,
    unexplained,
)

WORD = "leak"

any_measure = st.builds(
    measure,
    st.sampled_from(get_args(ViewKind)),
    st.sampled_from(get_args(Family)),
    st.sampled_from(get_args(Verdict)),
    metric=st.sampled_from(["auc", "tpr@0.01", "exact", "near", "rouge_l", "exposure"]),
    excess=st.sampled_from([None, estimate(0.2), estimate(0.02)]),
    p=st.sampled_from([None, 0.001, 0.3]),
    is_hypothetical=st.booleans(),
    note=st.sampled_from(["", "needs 200 records", "Of one seed. Needs 200 records."]),
)


def _plain(text: str) -> str:
    return text.replace("\N{NO-BREAK SPACE}", " ")


@given(st.lists(any_measure, max_size=12))
def test_the_word_is_written_for_a_view_only_where_one_of_its_verdicts_says_so(measures: list[Measure]) -> None:
    results = audit(measures=measures)
    for finding in findings(results):
        own = [one for one in measures if (one.view, one.is_hypothetical) == (finding.view, finding.is_hypothetical)]
        leaks = any(one.verdict == "leak" for one in own)
        assert (WORD in finding.text.lower()) == leaks
        assert (finding.verdict == "leak") == leaks
    assert (WORD in headline(results)) == any(one.verdict == "leak" for one in measures if not one.is_hypothetical)
    rest = " ".join([guarantee(results), utility(results), not_examined(results)])
    assert WORD not in rest.lower()


@given(st.lists(any_measure, max_size=12))
def test_views_stand_once_each_and_worst_first(measures: list[Measure]) -> None:
    found = findings(audit(measures=measures))
    views = [(finding.view, finding.is_hypothetical) for finding in found]
    assert sorted(views) == sorted({(one.view, one.is_hypothetical) for one in measures})
    places = [(finding.is_hypothetical, VERDICTS.index(finding.verdict)) for finding in found]
    assert places == sorted(places)


@given(st.lists(any_measure, max_size=12))
def test_no_more_than_the_controls_is_said_only_where_no_interval_lies_above_them(measures: list[Measure]) -> None:
    said = headline(audit(measures=measures))
    seen = [one for one in measures if not one.is_hypothetical]
    if "No attack found more" in said:
        assert seen
        assert not any(one.excess is not None and one.excess.low > 0 for one in seen)
        assert not any(one.verdict == "unexplained" for one in seen)
    for finding in findings(audit(measures=measures)):
        worst = finding.worst
        is_above = worst.excess is not None and worst.excess.low > 0
        is_sure = worst.p_adjusted is not None and worst.p_adjusted < 0.05
        may_be_chance = is_above and not is_sure and finding.verdict not in BEYOND_CONTROLS
        assert ("but not beyond" in finding.text) == may_be_chance


@given(st.lists(any_measure, max_size=12))
def test_the_headline_is_as_if_what_nobody_in_the_run_sees_had_not_been_measured(measures: list[Measure]) -> None:
    seen = [one for one in measures if not one.is_hypothetical]
    if seen:
        assert headline(audit(measures=measures)) == headline(audit(measures=seen))
    for finding in findings(audit(measures=measures)):
        assert finding.text.startswith("If this run were not sealed, ") == finding.is_hypothetical


def test_what_nobody_in_the_run_sees_stands_last_and_is_no_finding() -> None:
    results = audit(measures=[leak("server", "updates", is_hypothetical=True), measure("final")])
    calm, what_if = findings(results)
    assert (calm.view, what_if.view) == ("final", "server")
    assert what_if.text.startswith("If this run were not sealed, this would be a leak: ")
    assert headline(results) == "No attack found more than its controls explain, in the one view that was examined."
    assert headline(audit(measures=[leak("server", is_hypothetical=True)])).startswith("Nothing was measured of what")


def test_a_number_above_its_controls_that_so_many_attacks_find_by_chance_is_said_to_be_that() -> None:
    results = audit(measures=[above_by_chance(), measure("final"), measure("client")])
    finding, _ = findings(results)
    assert finding.verdict == "too few records"
    assert _plain(finding.text) == (
        "More than its controls, but not beyond what so many attacks find by chance (p 0.094 after correction): 45.5 % "
        "(16.7 to 76.6, n = 11) of repeated canaries came out word for word by attack E6 two-model-base (the model set "
        "against the base model), picked from 2 such numbers, against 0.0 % (0.0 to 17.6, n = 19) for held-out "
        "records; about 28 records that were trained on and 49 others are needed to tell."
    )
    assert headline(results) == (
        "Attacks found more than their controls in 1 of the 2 views that were examined, but not with certainty."
    )
    more = audit(measures=[above_by_chance(), too_few("client")])
    assert headline(more).endswith("but not with certainty; 1 more could not be decided.")


def test_what_no_coins_explain_is_said_to_be_that_and_asks_for_no_records() -> None:
    results = passive_audit()
    final, client = findings(results)
    assert (final.view, final.verdict, client.verdict) == ("final", "unexplained", "too few records")
    assert _plain(final.text) == (
        "More than its controls, but no coins decided what was trained on, so other differences may explain it: "
        "records that were trained on are told from others with an AUC of 0.810 (0.760 to 0.850, n = 400), where 0.5 "
        "is guessing, by attack M8 wbc (in how many short passages it beats the base model), picked from 2 such "
        "numbers, against 0.550 (0.460 to 0.650, n = 400) for a guess from the texts alone; so it is with 1 other "
        "measure."
    )
    assert headline(results) == (
        "Attacks found more than their controls in 1 of the 2 views that were examined, but not with certainty; 1 more "
        "could not be decided."
    )
    (alone,) = findings(audit(measures=[unexplained(caveat="")]))
    assert alone.text.startswith("More than its controls, but something else than training may explain it: records ")
    (what_if,) = findings(audit(measures=[unexplained("server", is_hypothetical=True)]))
    assert what_if.text.startswith("If this run were not sealed, there would be more than its controls, but no coins")


def test_of_one_view_the_headline_counts_nothing() -> None:
    examined = "the one view that was examined"
    assert headline(audit(measures=[leak(), measure()])) == f"Training data leaks in {examined}."
    assert headline(audit(measures=[above_by_chance()])) == (
        f"Attacks found more than their controls in {examined}, but not with certainty."
    )
    assert headline(audit(measures=[too_few(), measure("coalition")])) == (
        f"No attack found more than its controls explain in {examined}, but some had too few records to tell."
    )
    assert headline(audit(measures=[leak(), measure("final")])) == (
        "Training data leaks in 1 of the 2 views that were examined."
    )


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
        "A leak: 41.7 % (22.1 to 63.4, n = 24) of planted personal data came out word for word by attack E1 greedy "
        "(the model asked to go on where each was cut off), against 4.2 % (0.1 to 21.1, n = 24) for held-out records, "
        "which leaves 37.5 percentage points (17.0 to 58.9, n = 24) to training."
    )


def test_a_number_that_was_picked_from_several_of_its_kind_says_so() -> None:
    """The interval is that of a number fixed beforehand: of eight attacks on nothing one is high."""
    areas = [measure("client", "membership", attack=name, metric="auc") for name in ("loss", "wbc", "ez", "best")]
    beside = [measure("client", "membership", metric="tpr@0.1"), measure("client"), measure("final", metric="auc")]
    (finding,) = (one for one in findings(audit(measures=[*areas, *beside])) if one.view == "client")
    assert finding.worst.metric == "exact"  # the one of its kind
    assert "picked from" not in finding.text
    for worst in range(4):
        found = [one.model_copy(update={"verdict": "unexplained"} if n == worst else {}) for n, one in enumerate(areas)]
        (finding,) = (one for one in findings(audit(measures=[*found, *beside])) if one.view == "client")
        assert "), picked from 4 such numbers, against " in finding.text
    assert "its interval is not corrected for that" in BRACKETS


def test_other_families_that_found_something_are_named() -> None:
    (finding,) = findings(audit(measures=[leak(family="membership", metric="auc"), leak(), measure()]))
    assert finding.worst.family == "extraction"
    assert finding.text.endswith(" to training; attacks of membership find something as well.")


def test_too_few_records_come_with_how_many_are_needed() -> None:
    (finding,) = findings(audit(measures=[too_few(), measure("coalition")]))
    assert finding.verdict == "too few records"
    assert finding.text.endswith(
        "but at least 1,000 records that were not trained on are needed (1 other measure found no evidence)."
    )
    found = [too_few(), measure("coalition"), measure("final")]
    assert "but 1 could not be decided" in headline(audit(measures=found))


def test_a_number_above_its_controls_is_not_counted_as_no_evidence() -> None:
    """It comes after what had too few records, as its verdict says, and is no reason to be calm."""
    found = [too_few(), measure("coalition"), measure("coalition", excess=estimate(0.3), p=0.2)]
    (finding,) = findings(audit(measures=found))
    assert finding.text.endswith("(1 other measure found no evidence).")
    (finding,) = findings(audit(measures=found[:1] + found[2:]))
    assert "found no evidence" not in finding.text


def test_how_an_attack_was_set_up_stays_out_of_the_sentence() -> None:
    (finding,) = findings(audit(measures=[measure(note="tau 0.01, top-p 0.9; as preset: no own records to tune on.")]))
    assert "top-p" not in finding.text


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        ("near", "of planted personal data came out nearly word for word"),
        ("auc", "planted personal data that were trained on are told from others with an AUC of"),
        ("tpr@0.01", "are recognised as trained on while 1 % of others are mistaken for such"),
        ("rouge_l>0.9", "share with ROUGE-L above 0.9 of planted personal data is 11.0 %"),
        ("rouge_l_top_10", "the closest tenth of texts are 0.110"),
        ("exposure", "stand out among others of their form by 0.110 bits"),
        ("unheard-of", "unheard-of of planted personal data is 0.110"),
    ],
)
def test_numbers_are_said_in_plain_words(metric: str, said: str) -> None:
    assert said in _plain(clause(measure(metric=metric)))


def test_of_updates_it_is_said_what_was_seen() -> None:
    seen = measure("server", "updates", metric="auc", population="one client's update")
    assert clause(seen).startswith("from one client's update, what was trained on is told from other records with an")


def test_what_is_known_and_not_measured_has_no_interval() -> None:
    chance = Estimate(value=0.5, low=0.5, high=0.5, num=60)
    (finding,) = findings(audit(measures=[measure(metric="auc", controls={"chance": chance})]))
    assert _plain(finding.text).endswith(", against 0.500 by chance.")


def test_the_worst_is_chosen_by_verdict_and_of_leaks_by_family_then_metric_then_what_is_certain() -> None:
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
    _check_order(ordered)


def test_of_what_is_no_finding_the_worst_lies_farthest_beyond_its_controls_whatever_its_family_and_unit() -> None:
    def auc(value: float, low: float, high: float, num: int = 48) -> Measure:
        excess = Estimate(value=value, low=low, high=high, num=num)
        return measure("final", "updates", verdict, metric="auc", excess=excess)

    for verdict in (one for one in VERDICTS if one != "leak"):
        _check_order(
            [
                measure("final", "exposure", verdict, metric="exposure", excess=estimate(1.2, 1.0)),  # above, in bits
                auc(0.17, -0.01, 0.35),
                measure("final", "exposure", verdict, metric="exposure", excess=estimate(0.5, 1.0)),
                auc(0.5, -0.475, 0.5, num=4),  # high, and nothing is known
                measure(verdict=verdict, members=estimate(0.0), excess=Estimate(value=0, low=0, high=0.369, num=8)),
                measure(verdict=verdict, excess=estimate(-0.01)),
                measure(verdict=verdict),
            ]
        )


def test_an_excess_without_a_width_counts_by_its_sign() -> None:
    above, none, below = (measure(excess=estimate(value, 0.0)) for value in (0.1, 0.0, -0.1))
    assert worst_of([below, none, above]) is above
    assert worst_of([measure(), below]) is below


def _check_order(ordered: list[Measure]) -> None:
    for better, worse in itertools.pairwise(ordered):
        assert worst_of([worse, better]) is better
        assert worst_of([better, worse]) is better


def test_the_attack_that_was_chosen_is_named_once() -> None:
    (finding,) = findings(audit(measures=[measure(attack="best", code="")]))
    assert " by the best attack (chosen on the other half), against " in finding.text


def test_numbers_in_a_caveat_have_the_sign_that_others_have() -> None:
    caveat = "Without coins, the difference of -0.28 (-0.60 to +0.01) proves nothing."
    (finding,) = findings(audit(measures=[unexplained(caveat=caveat)]))
    assert "-0" not in finding.text
    assert "(\N{MINUS SIGN}0.60 to +0.01)" in finding.text


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


def test_where_no_view_could_be_decided_nothing_is_concluded() -> None:
    said = headline(audit(measures=[too_few()]))
    assert said == "Nothing could be concluded: too few records in the one view that was examined."


def test_the_guarantee_is_quoted_and_its_absence_said() -> None:
    assert guarantee(audit()).startswith("Formal guarantee: none.")
    formal = audit(run=facts(guarantee="(8, 1e-5)-DP per client."))
    assert guarantee(formal) == "Formal guarantee: (8, 1e-5)-DP per client."


def test_utility_stands_beside_the_base_models() -> None:
    assert utility(audit()) == "Utility: held-out loss 1.83 (base model 2.91)."
    assert utility(audit(run=facts(utility={}))) == "Utility: not measured."
    measured = facts(utility_change=Estimate(value=-1.08, low=-1.2, high=-0.95, num=18))
    assert _plain(utility(audit(run=measured))) == (
        "Utility: held-out loss 1.83 (base model 2.91), by record a change of \N{MINUS SIGN}1.08 "
        "(\N{MINUS SIGN}1.20 to \N{MINUS SIGN}0.950, n = 18)."
    )
    alone = audit(run=facts(utility={"base rouge_l": 0.25, "loss": 2.0}))
    assert utility(alone) == "Utility: base rouge_l 0.250, loss 2.00."


@pytest.mark.parametrize("results", [leaking_audit(), calm_audit(), audit()], ids=["leaking", "calm", "empty"])
def test_every_view_and_family_of_the_schema_has_words(results: AuditResults) -> None:
    assert set(VIEWS) == set(get_args(ViewKind))
    assert set(FAMILIES) == set(get_args(Family))
    assert set(VERDICTS) == set(get_args(Verdict))
    assert len(findings(results)) == len({one.view for one in results.measures})
