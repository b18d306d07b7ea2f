from typing import get_args

import pytest

from confide.audit.results import AuditResults, Family, ViewKind
from confide.report.tables import (
    MAX_MEMORISED,
    Table,
    comparison_table,
    facts_tables,
    measure_table,
    memorised_table,
    threat_matrix,
    updates_table,
)
from confide.report.wording import counted
from tests.report.audits import audit, calm_audit, leak, leaking_audit, measure, memorised, too_few


def _texts(table: Table) -> list[str]:
    return [cell.text for row in table.rows for cell in row]


@pytest.mark.parametrize("results", [leaking_audit(), calm_audit(), audit()], ids=["leaking", "calm", "empty"])
def test_every_row_has_a_cell_for_each_column(results: AuditResults) -> None:
    tables = [
        threat_matrix(results),
        measure_table(results.measures, "all"),
        updates_table(results),
        memorised_table(results),
        comparison_table([results, leaking_audit()], ["a", "b"]),
        *facts_tables(results),
    ]
    for table in tables:
        assert all(len(row) == len(table.columns) for row in table.rows), table.caption


def test_every_number_of_every_measure_stands_in_the_table_with_its_sample_size() -> None:
    results = leaking_audit()
    table = measure_table(results.measures, "all")
    for one, row in zip(results.measures, table.rows, strict=True):
        assert row[0].text.endswith(f"\n{one.key}")
        assert row[1].text == counted(one.members)
        assert row[2].text.count("n\N{NO-BREAK SPACE}=") == len(one.controls)
        assert all(counted(control) in row[2].text for control in one.controls.values())
        assert row[3].text == ("\N{EN DASH}" if one.excess is None else counted(one.excess))
        assert row[5].kind == one.verdict
        assert row[5].text == one.note


def test_the_matrix_has_every_view_and_family_and_says_what_was_not_measured() -> None:
    table = threat_matrix(audit(measures=[leak(), measure()]))
    assert len(table.rows) == len(get_args(ViewKind))
    assert len(table.columns) == 1 + len(get_args(Family))
    kinds = [[cell.kind for cell in row[1:]] for row in table.rows]
    assert kinds[1] == ["leak", "none", "none", "none"]
    assert table.rows[1][1].text.endswith("the verdict of 1 of 2 measures")
    assert sum(kind == "none" for row in kinds for kind in row) == 5 * 4 - 1


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


def test_runs_stand_side_by_side_and_their_differences_are_called_unpaired() -> None:
    table = comparison_table([leaking_audit(), calm_audit()], ["one", "two"])
    assert table.columns[1:] == ("one", "two", "two, difference")
    assert table.caption.endswith("differences are to one, unpaired")
    assert "not measured" in _texts(table)


def test_settings_are_shown_as_they_are() -> None:
    results = audit(settings={"p": 1e-05, "names": ["a", "b"], "none": [], "rates": [0.3], "seed": 12345})
    (settings,) = [table for table in facts_tables(results) if table.caption.startswith("Settings")]
    assert [row[1].text for row in settings.rows] == ["1e-05", "a, b", "none", "0.3", "12345"]
