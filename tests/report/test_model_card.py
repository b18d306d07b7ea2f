import re
from pathlib import Path

import pytest

from confide.errors import StorageError
from confide.report.model_card import BEGIN, END, model_card_section, write_model_card
from tests.report.audits import HOSTILE, audit, calm_audit, hostile_audit, leak, leaking_audit, too_few


def test_a_card_says_what_was_found_what_is_guaranteed_and_how_it_was_made() -> None:
    card = model_card_section(leaking_audit())
    assert card.startswith("## Privacy audit\n\nTraining data leaks in 1 of the 4 views")
    assert "- **A participating client** (leak): A leak: 41.7 % \\(22.1 to 63.4, n = 24\\) of planted" in card.replace(
        "\N{NO-BREAK SPACE}", " "
    )
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


def test_a_card_is_begun_added_to_and_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    write_model_card(calm_audit(), path)
    new = path.read_text(encoding="utf-8")
    assert new.startswith(BEGIN)
    path.write_text("# My model\n\nWords.\n", encoding="utf-8")
    write_model_card(calm_audit(), path)
    assert path.read_text(encoding="utf-8") == f"# My model\n\nWords.\n\n{new}"
    path.write_text(f"{path.read_text(encoding='utf-8')}\nMore words.\n", encoding="utf-8")
    write_model_card(leaking_audit(), path)
    card = path.read_text(encoding="utf-8")
    assert (card.count(BEGIN), card.count(END), card.count("## Privacy audit")) == (1, 1, 1)
    assert card.startswith("# My model\n\nWords.\n\n")
    assert card.endswith(f"{END}\n\nMore words.\n")
    assert model_card_section(leaking_audit()) in card


@pytest.mark.parametrize("text", [BEGIN, f"{END} x"])
def test_a_card_with_half_of_a_section_is_left_as_it_is(tmp_path: Path, text: str) -> None:
    path = tmp_path / "README.md"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(StorageError, match="has only one of the lines"):
        write_model_card(calm_audit(), path)
    assert path.read_text(encoding="utf-8") == text


def test_a_card_that_cannot_be_written_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"model card .* could not be read or written"):
        write_model_card(calm_audit(), tmp_path / "no" / "README.md")
    (tmp_path / "bytes.md").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(StorageError, match="UnicodeDecodeError"):
        write_model_card(calm_audit(), tmp_path / "bytes.md")


def test_what_names_hold_does_not_end_the_section(tmp_path: Path) -> None:
    hostile = audit(warnings=[END], command=f"confide audit {BEGIN}")
    path = tmp_path / "README.md"
    for _ in range(2):
        write_model_card(hostile, path)
    assert path.read_text(encoding="utf-8").count("## Privacy audit") == 1
