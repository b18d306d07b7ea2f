import re

import pytest

from confide.audit.results import Estimate, Ranks
from confide.errors import UsageError
from confide.report.differences import compare
from confide.report.study import curve_markdown, measures_markdown
from confide.report.wording import interval, number
from tests.report.audits import audit, estimate, facts, leak, leaking_audit, line, measure, paired_audits, ranked_audit

EXACT = "client.extraction.greedy.personal.exact"


def cells(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in row.split("|")[1:-1]] for row in table.splitlines()]


def test_a_row_per_measure_has_each_runs_numbers_and_the_paired_change_from_the_first() -> None:
    runs = paired_audits()
    head, rule, row, *utility = cells(measures_markdown(runs, ["plain", "kl"], [EXACT]))
    assert head == ["measure", "plain", "kl"]
    assert set(rule) == {"---"}
    (change,) = next(one.changes for one in compare(runs) if one.key == EXACT)
    assert change is not None
    assert row[0] == f"`{EXACT}`"
    assert row[1].startswith("0.800")
    assert "change" not in row[1]
    controls = next(one for one in runs[0].measures if one.key == EXACT).controls
    assert all(f"{number(one.value)} (n = {one.num})" in row[1] for one in controls.values())
    assert f"change: {interval(change.members)}, paired, p < 0.001" in row[2]
    assert f"change: {interval(change.members)}" in row[2]
    assert change.members.value == pytest.approx(-0.6)
    assert [one[0] for one in utility] == ["held-out loss", "base held-out loss"]


def test_the_change_of_a_records_loss_has_a_row_where_a_run_has_one() -> None:
    first, second = paired_audits()
    change = Estimate(value=-1.5, low=-1.75, high=-1.25, num=18)
    measured = second.model_copy(update={"run": second.run.model_copy(update={"utility_change": change})})
    *_, row = cells(measures_markdown([first, measured], ["plain", "kl"], [EXACT]))
    assert row == ["change of a held-out record's loss", "", f"{interval(change)}, n = 18"]


def test_a_measure_that_one_run_lacks_is_said_to_be_missing() -> None:
    first, second = paired_audits()
    table = measures_markdown([first, second.model_copy(update={"measures": []})], ["plain", "kl"], [EXACT])
    assert cells(table)[2][2] == "not measured"


def test_exposures_among_other_numbers_of_values_have_no_change() -> None:
    few, many = (ranked_audit(bits, Ranks(fewest=num, most=num)) for bits, num in ((4.7, 32), (9.5, 900)))
    key = few.measures[0].key
    assert "change" not in measures_markdown([few, many], ["few", "many"], [key])
    assert "change: " in measures_markdown([few, few], ["few", "again"], [key])


def test_a_measure_that_no_run_has_is_an_error_that_names_those_there_are() -> None:
    with pytest.raises(UsageError, match=re.escape(f"the measure 'client.extraction.nothing'. There are {EXACT}")):
        measures_markdown(paired_audits(), ["plain", "kl"], ["client.extraction.nothing"])


def test_a_curve_has_a_row_per_round_and_a_column_per_run_and_line() -> None:
    runs = [
        audit(
            run=facts(name=name),
            curves=[
                line("rounds", "members", rounds),
                line("rounds", "held_out", {1: 0.25}),
                line("copies", "members", {}),
            ],
        )
        for name, rounds in (("plain", {0: 0.125, 1: 0.5, 2: 0.75}), ("kl", {1: 0.25}))
    ]
    head, _, *rows = cells(curve_markdown(runs, ["plain", "kl"], EXACT))
    assert len(head) == 1 + 4
    assert [row[0] for row in rows] == ["0", "1", "2"]
    assert [row[1].split(" ")[0] for row in rows] == ["0.125", "0.500", "0.750"]
    assert (rows[0][3], rows[1][3].split(" ")[0]) == ("", "0.250")
    with pytest.raises(UsageError, match=r"no run has the curve 'client\.x'"):
        curve_markdown(runs, ["plain", "kl"], "client.x")


def test_every_measure_and_curve_of_a_real_report_can_be_asked_for() -> None:
    results = leaking_audit()
    keys = [measure.key for measure in results.measures]
    assert len(cells(measures_markdown([results], ["one"], keys))) == 2 + len(keys) + len(results.run.utility)


def test_a_verdict_stands_beside_the_p_values_before_and_after_correction_over_the_audits_attacks() -> None:
    """The same numbers in an audit with one attack and in one with more: what tells them apart is shown."""
    alone = leak().model_copy(update={"p_value": 0.019, "p_adjusted": 0.019})
    crowded = alone.model_copy(update={"p_adjusted": 0.057, "verdict": "no evidence"})
    table = measures_markdown([audit(measures=[one]) for one in (alone, crowded)], ["one", "two"], [alone.key])
    first, second = (cell.split("<br>") for cell in cells(table)[2][1:])
    beyond = f"beyond: {interval(leak().excess or estimate(0.0))}"
    assert first[-1] == f"{beyond}, leak, p 0.019"
    assert second[2:4] == [
        f"{beyond}, no evidence, p 0.019, corrected 0.057",
        "above its controls, but not beyond chance among so many attacks",
    ]


def test_a_cell_says_why_a_number_decides_nothing() -> None:
    few = measure(verdict="too few records", excess=estimate(0.1, 0.3), note="at least 24 of each are needed.")
    open_ = measure(verdict="unexplained", attack="other", excess=estimate(0.3), p=1e-5)
    calm = measure(attack="calm", excess=estimate(0.0))
    table = cells(measures_markdown([audit(measures=[few, open_, calm])], ["one"], [few.key, open_.key, calm.key]))
    assert table[2][1].endswith("at least 24 records that were trained on and as many others are needed")
    assert table[3][1].endswith("beyond its controls, but something else than training may be why")
    assert table[4][1].endswith("no evidence, p 0.300, corrected 0.900")


def test_what_is_so_by_construction_is_not_given_a_sample_size() -> None:
    nothing = Estimate(value=0.0, low=0.0, high=0.0, num=0)
    gain = measure(metric="gain", controls={"held_out": estimate(0.0, num=7), "base": nothing})
    (row,) = cells(measures_markdown([audit(measures=[gain])], ["one"], [gain.key]))[2:3]
    assert "held out 0 (n = 7), base model 0 (by construction)" in row[1]
