from typing import get_args

import pytest

from confide.audit.results import AuditResults, Family, Unmeasured, ViewKind
from confide.report.comparison import comparison_table, glance_table
from confide.report.folds import fold_measures
from confide.report.measures import measure_groups
from confide.report.model_card import model_card_section
from confide.report.study import measures_markdown
from confide.report.tables import (
    MAX_MEMORISED,
    Table,
    facts_tables,
    memorised_table,
    threat_matrix,
    updates_table,
)
from tests.report.audits import (
    above_by_chance,
    audit,
    calm_audit,
    leak,
    leaking_audit,
    measure,
    memorised,
    paired_audits,
    too_few,
    unexplained,
)


def _texts(table: Table) -> list[str]:
    return [cell.text for row in table.rows for cell in row]


@pytest.mark.parametrize("results", [leaking_audit(), calm_audit(), audit()], ids=["leaking", "calm", "empty"])
def test_every_row_has_a_cell_for_each_column(results: AuditResults) -> None:
    tables = [
        threat_matrix(results),
        *(group.table for group in measure_groups(results)),
        updates_table(results),
        memorised_table(results),
        comparison_table([results, leaking_audit()], ["a", "b"]),
        glance_table([results, leaking_audit()], ["a", "b"]),
        *facts_tables(results),
    ]
    for table in tables:
        assert all(len(row) == len(table.columns) for row in table.rows), table.caption


def test_the_matrix_has_every_view_and_family_and_says_what_was_not_measured() -> None:
    table = threat_matrix(audit(measures=[leak(), measure()]))
    assert len(table.rows) == len(get_args(ViewKind))
    assert len(table.columns) == 1 + len(get_args(Family))
    kinds = [[cell.kind for cell in row[1:]] for row in table.rows]
    assert kinds[1] == ["leak", "none", "none", "none"]
    assert table.rows[1][1].text.endswith("the verdict of 1 of 2 measures")
    assert sum(kind == "none" for row in kinds for kind in row) == 5 * 4 - 1


def test_what_had_too_few_records_to_be_measured_is_not_taken_for_what_nobody_asked_about() -> None:
    missing = Unmeasured(view="final", family="extraction", population="records", reason="records: 1 member.")
    table = threat_matrix(audit(measures=[leak()], unmeasured=[missing]))
    cell, others = table.rows[0][1], [cell for row in table.rows for cell in row[1:]]
    assert (cell.kind, cell.text) == ("too few records", "not measured\nrecords: 1 member.")
    assert sum(other.kind == "too few records" for other in others) == 1


def test_a_cell_of_the_matrix_shows_the_worst_measure_there() -> None:
    table = threat_matrix(audit(measures=[measure("coalition", "membership"), too_few()]))
    assert table.rows[2][3].kind == "too few records"
    assert "12.5" not in table.rows[2][3].text  # as in the table of all numbers, not in percent
    assert "0.125" in table.rows[2][3].text


def test_the_table_of_updates_has_a_row_for_each_party_and_a_column_for_each_attack() -> None:
    table = updates_table(leaking_audit())
    assert [row[0].text.split("\n")[0] for row in table.rows] == [
        "A participating client",
        "Clients that work together",
        "A server that reads updates",
        "A server with sealed updates",
    ]
    assert table.columns[1:] == ("M15 cosine: AUC", "M15 gradient-difference: AUC")
    assert [row[1].kind for row in table.rows] == ["no evidence", "too few records", "leak", "no evidence"]


def test_what_nobody_in_the_run_sees_is_marked_in_every_table() -> None:
    results = audit(measures=[leak("server", "updates", is_hypothetical=True), leak("client")])
    matrix = threat_matrix(results)
    cells = {row[0].text.split("\n")[0]: row for row in matrix.rows}
    assert cells["A server that reads updates"][0].text.endswith("\nwhat if this run were not sealed")
    assert "what if" not in cells["A participating client"][0].text
    marked = [cell.is_hypothetical for row in matrix.rows for cell in row[1:] if cell.kind == "leak"]
    assert sorted(marked) == [False, True]
    assert "what if" in updates_table(results).rows[0][0].text
    assert updates_table(results).rows[0][1].is_hypothetical
    assert [group.is_hypothetical for group in measure_groups(results)] == [False, True]
    assert [group.is_open for group in fold_measures(measure_groups(audit(measures=results.measures * 12)))] == [
        True,
        False,
    ]
    assert glance_table([results], ["a"]).rows[0][2].is_hypothetical
    assert all(cell.is_hypothetical for cell in comparison_table([results, results], ["a", "b"]).rows[0][1:])
    assert "leak if this run were not sealed" in measures_markdown([results], ["a"], [results.measures[0].key])
    assert "leak if this run were not sealed" in model_card_section(results)


def test_a_number_above_its_controls_that_is_no_finding_has_the_reason_beside_its_verdict() -> None:
    results = audit(measures=[above_by_chance()])
    tables = [
        threat_matrix(results),
        measure_groups(results)[0].table,
        glance_table([results], ["a"]),
        comparison_table([results, results], ["a", "b"]),
    ]
    for table in tables:
        (cell, *_) = (cell for row in table.rows for cell in row if cell.kind == "too few records")
        assert "above its controls, but not beyond chance among so many attacks" in cell.text
    assert "beyond chance" not in "".join(_texts(threat_matrix(audit(measures=[leak(), too_few()]))))


def test_what_something_else_than_training_may_explain_has_that_beside_its_verdict() -> None:
    results = audit(measures=[unexplained()])
    for table in (threat_matrix(results), measure_groups(results)[0].table, glance_table([results], ["a"])):
        (cell, *_) = (cell for row in table.rows for cell in row if cell.kind == "unexplained")
        assert "beyond its controls, but something else than training may be why" in cell.text
    assert "| unexplained<br>AUC 0.810" in model_card_section(results).replace("\\", "")


def test_memorised_records_are_shown_without_their_texts() -> None:
    table = memorised_table(audit(memorised=[memorised(1, distance=0.2), memorised(0)]))
    assert len(table.columns) == 6
    assert [row[0].text for row in table.rows] == ["canary-000", "canary-001"]
    assert [(row[4].text, row[5].text) for row in table.rows] == [("61", "0"), ("62", "0.200")]


def test_texts_are_shown_where_the_results_hold_them() -> None:
    table = memorised_table(audit(memorised=[memorised(0, text="Paul, born 1961"), memorised(1)]))
    assert table.columns[6:] == ("What came out", "What was trained on")
    assert [cell.text for cell in table.rows[0][6:]] == ["Paul, born 1961"] * 2
    assert [cell.text for cell in table.rows[1][6:]] == ["", ""]


def test_of_many_memorised_records_the_nearest_are_shown_and_all_are_counted() -> None:
    many = [memorised(number, distance=1 - number / 400) for number in range(300)]
    table = memorised_table(audit(memorised=many))
    assert len(table.rows) == MAX_MEMORISED
    assert "200 of 300" in table.caption
    assert table.rows[0][0].text == "canary-299"


def test_runs_stand_side_by_side_and_their_changes_are_called_unpaired_where_records_are_not_known() -> None:
    table = comparison_table([leaking_audit(), calm_audit()], ["one", "two"])
    assert table.columns[1:] == ("one", "two")
    assert table.caption.endswith("changes are from one, unpaired")
    assert "not measured" in _texts(table)
    changed = [row[2].text for row in table.rows if "change: " in row[2].text]
    assert changed
    assert all(text.endswith("unpaired") for text in changed)
    assert not any("change" in row[1].text for row in table.rows)


def test_paired_changes_are_called_so_with_their_p_values_and_that_of_the_excess() -> None:
    first, second = paired_audits()
    table = comparison_table([first, second, calm_audit()], ["one", "two", "three"])
    assert table.caption.endswith("2 of 4 paired")
    cell = table.rows[0][2].text.replace("\N{NO-BREAK SPACE}", " ")
    assert "\nchange: \N{MINUS SIGN}0.600 [" in cell
    assert "n = 20, paired, p " in cell
    assert "\nchange of the excess over held out: " in cell
    assert table.rows[0][3].text.endswith("unpaired")


def test_every_run_has_a_line_at_a_glance_with_the_worst_of_each_view() -> None:
    table = glance_table([leaking_audit(), calm_audit()], ["one", "two"])
    assert [row[0].text for row in table.rows] == ["one", "two"]
    assert len(table.columns) == 1 + 5 + 2
    assert [cell.kind for cell in table.rows[1][1:6]] == ["no evidence", "no evidence", "none", "none", "no evidence"]
    assert table.rows[0][6].text == "none"
    assert table.rows[0][7].text == "held-out loss 1.83 (base model 2.91)"


def test_what_is_not_known_of_a_run_is_said_and_what_trained_it_is_shown() -> None:
    def facts(**changes: object) -> dict[str, str]:
        results = audit()
        table = facts_tables(results.model_copy(update={"run": results.run.model_copy(update=changes)}))[0]
        return {row[0].text: row[1].text for row in table.rows}

    unknown = facts(num_clients=None, scheme=None)
    assert [unknown[name] for name in ("clients", "sealing scheme", "trained by")] == ["not known"] * 3
    known = facts(command="confide train clinic.toml")
    assert [known[name] for name in ("clients", "sealing scheme", "trained by")] == [
        "3",
        "onetime",
        "confide train clinic.toml",
    ]


def test_settings_are_shown_as_they_are() -> None:
    results = audit(
        settings={"p": 1e-05, "names": ["a", "b"], "none": [], "rates": [0.3], "rounds": [1, 12], "seed": 12345}
    )
    (settings,) = [table for table in facts_tables(results) if table.caption.startswith("Settings")]
    assert [row[1].text for row in settings.rows] == ["1e-05", "a, b", "none", "0.3", "1, 12", "12345"]
