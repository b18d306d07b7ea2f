import re

from confide.report.model_card import model_card_section
from tests.report.audits import HOSTILE, audit, calm_audit, hostile_audit, leak, leaking_audit, too_few


def test_a_card_says_what_was_found_what_is_guaranteed_and_how_it_was_made() -> None:
    card = model_card_section(leaking_audit())
    assert card.startswith("## Privacy audit\n\nTraining data leaks in 2 of the 5 views")
    assert "- **A participating client** (leak): A leak: text that was trained on comes out" in card
    assert "- Formal guarantee: none." in card
    assert "- Utility: held-out loss 1.83 \\(base model 2.91\\)." in card
    assert "- Warning: The run has three clients" in card
    assert "\n\n    confide audit runs/clinics-2026\n" in card


def test_a_card_without_findings_never_uses_the_word() -> None:
    for results in (audit(), calm_audit(), audit(measures=[too_few()])):
        assert "leak" not in model_card_section(results).lower()
    assert "leak" in model_card_section(audit(measures=[leak()]))


def test_the_matrix_is_a_table_whose_rows_have_as_many_cells() -> None:
    for results in (leaking_audit(), hostile_audit()):
        rows = [row for row in model_card_section(results).splitlines() if row.startswith("|")]
        assert len(rows) == 2 + 5
        assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {6}


def test_what_names_hold_does_not_become_markup() -> None:
    card = model_card_section(hostile_audit())
    prose = "\n".join(line for line in card.splitlines() if not line.startswith("    "))
    assert "<script" not in prose
    assert set(re.findall(r"<[^>]*>", prose)) == {"<br>"}
    assert HOSTILE not in prose
