"""The audit's section of a model card, in Markdown."""

import re
from pathlib import Path

from confide.audit.results import AuditResults
from confide.errors import StorageError
from confide.report.advice import advice
from confide.report.sentences import findings, guarantee, headline, not_examined, utility
from confide.report.tables import Cell, Table, threat_matrix
from confide.report.wording import VERDICTS, WHAT_IF, verdict_name, with_minus_signs

_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+!|~$@])")


BEGIN, END = "<!-- confide: privacy audit -->", "<!-- confide: end of the privacy audit -->"
"""What the section stands between, so that the next audit's takes its place."""


def write_model_card(results: AuditResults, path: Path) -> None:
    """Writes the section into a model card: in the place of an earlier one, or at the end; a new file if there is none.

    Raises:
        StorageError: the file cannot be read or written, or it has a mark of where a section begins or ends and not the
            other.
    """
    section = f"{BEGIN}\n{model_card_section(results)}\n{END}"
    try:
        card = path.read_text(encoding="utf-8") if path.exists() else ""
        path.write_text(_placed(section, card, path), encoding="utf-8", newline="\n")
    except (OSError, UnicodeDecodeError) as error:
        raise StorageError(f"the model card {path} could not be read or written ({type(error).__name__}).") from error


def _placed(section: str, card: str, path: Path) -> str:
    before, begin, rest = card.partition(BEGIN)
    _, end, after = rest.partition(END)
    if bool(begin) != bool(end) or (not begin and END in card):
        raise StorageError(f"{path} has only one of the lines {BEGIN!r} and {END!r}: add the other, or remove both.")
    if begin:
        return f"{before}{section}{after}"
    return f"{card.rstrip()}\n\n{section}\n".lstrip()


def model_card_section(results: AuditResults) -> str:
    """Gives a section for a model card: findings by view, guarantee, utility, the threat matrix, how it was made.

    Guarantees:
        - Text from the results stands in it as text: nothing of it becomes HTML, an image or a cell of a table.
    """
    card = [
        "## Privacy audit",
        "",
        _escaped(headline(results)),
        "",
        *(
            f"- **{_escaped(finding.title)}** ({verdict_name(finding.worst)}): {_escaped(finding.text)}"
            for finding in findings(results)
        ),
        *(
            f"- {_escaped(sentence)}"
            for sentence in (not_examined(results), guarantee(results), utility(results))
            if sentence
        ),
        *(f"- Warning: {_escaped(with_minus_signs(warning))}" for warning in results.warnings),
        "",
        *_table(threat_matrix(results)),
        "",
        "What to do:",
        "",
        *(f"- {_escaped(item.text)}" for item in advice(results)),
        "",
        f"Audited {_escaped(results.created)} with {_versions(results)}. Made again by:",
        "",
        "",
        *(f"    {line}" for line in results.command.splitlines()),
        "",
    ]
    return "\n".join(card)


def _versions(results: AuditResults) -> str:
    return ", ".join(_escaped(f"{name} {version}") for name, version in results.versions.items()) or "unknown versions"


def _table(table: Table) -> list[str]:
    return [
        f"| {' | '.join(_escaped(column) for column in table.columns)} |",
        f"| {' | '.join('---' for _ in table.columns)} |",
        *(f"| {' | '.join(_shown(cell) for cell in row)} |" for row in table.rows),
    ]


def _shown(cell: Cell) -> str:
    what_if = f" {WHAT_IF}" if cell.is_hypothetical else ""
    verdict = f"{cell.kind}{what_if}\n" if cell.kind in VERDICTS else ""
    return "<br>".join(_escaped(line) for line in f"{verdict}{cell.text}".split("\n"))


def _escaped(text: str) -> str:
    """Writes text so that Markdown shows it as it is, on one line."""
    flat = " ".join(text.split())
    return _MARKDOWN.sub(r"\\\1", flat.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"))
