from itertools import chain

from confide.report.measures import measure_groups
from confide.report.wording import counted
from tests.report.audits import audit, leak, leaking_audit, measure, too_few


def test_every_number_of_every_measure_stands_in_a_table_with_its_sample_size() -> None:
    results = leaking_audit()
    groups = measure_groups(results)
    rows = {row[0].text.split("\n")[1]: row for group in groups for row in group.table.rows}
    assert sum(group.num for group in groups) == sum(len(group.table.rows) for group in groups) == len(results.measures)
    for one in results.measures:
        row = rows[one.key]
        assert row[1].text == counted(one.members)
        assert row[2].text.count("n\N{NO-BREAK SPACE}=") == len(one.controls)
        assert all(counted(control) in row[2].text for control in one.controls.values())
        assert row[3].text == ("\N{EN DASH}" if one.excess is None else counted(one.excess))
        assert row[5].kind == one.verdict


def test_there_is_a_group_for_each_party_and_kind_of_attack_with_the_worst_verdict() -> None:
    groups = measure_groups(audit(measures=[too_few("client"), measure(), leak(), measure("final")]))
    assert [(group.title, group.verdict, group.num) for group in groups] == [
        ("The holder of the final model: extraction", "no evidence", 1),
        ("A participating client: extraction", "leak", 2),
        ("A participating client: membership", "too few records", 1),
    ]
    assert measure_groups(audit()) == []


def test_a_note_stands_once_and_its_rows_name_it_by_number() -> None:
    notes = ["few records", "", "the difference is -0.28", "few records"]
    (group,) = measure_groups(audit(measures=[measure(note=note) for note in notes]))
    assert group.notes == ("few records", "the difference is \N{MINUS SIGN}0.28")
    assert [row[5].text for row in group.table.rows] == ["note 1", "", "note 2", "note 1"]
    assert not set("".join(chain.from_iterable(group.notes))) & {"-"}
