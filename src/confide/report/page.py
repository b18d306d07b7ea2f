"""Writes the report: one HTML page on one or several audits that opens offline and runs nothing but its own scripts."""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from confide.audit.results import AuditResults, Verdict
from confide.errors import StorageError, UsageError
from confide.plural import plural
from confide.report.advice import Advice, advice
from confide.report.claims import epsilon_sentence
from confide.report.comparison import HOW_COMPARED, comparison_table, glance_table
from confide.report.differences import notes_on_changes
from confide.report.drawing import plotly_script
from confide.report.epsilons import epsilon_figures, epsilon_table
from confide.report.figures import line_figures, roc_figures
from confide.report.folds import FEW_MEMORISED, FoldedFigures, FoldedGroup, Placed, fold_figures, fold_measures
from confide.report.measures import measure_groups
from confide.report.palette import (
    CHANCE,
    DARK_CHANCE,
    DARK_FOR_LIGHT,
    DARK_SERIES,
    SERIES,
)
from confide.report.sentences import BRACKETS, Finding, findings, guarantee, headline, not_examined, utility
from confide.report.tables import (
    Table,
    facts_tables,
    memorised_table,
    threat_matrix,
    updates_table,
    utility_table,
)
from confide.report.wording import run_names, with_minus_signs

_TONES: Mapping[Verdict, str] = MappingProxyType(
    {"leak": "bad", "unexplained": "odd", "too few records": "open", "no evidence": "calm"}
)
_SYMBOLS: Mapping[Verdict, str] = MappingProxyType(
    {
        "leak": "\N{BLACK UP-POINTING TRIANGLE}",
        "unexplained": "\N{WHITE UP-POINTING TRIANGLE}",
        "too few records": "?",
        "no evidence": "\N{WHITE CIRCLE}",
    }
)

_FIGURE_SECTIONS = (
    (
        "roc",
        "Recognising members",
        "How many records that were trained on are recognised, at each share of others that are mistaken for them.",
    ),
    ("rounds", "Over the rounds", "What the global models of single rounds give away."),
    ("samples", "Over the number of samples", "What comes out when the model is asked more often."),
    ("copies", "Over the number of copies", "What it changes when a canary stands in the data more often."),
)

_DASHES = {
    "solid": "none",
    "dash": "9 6",
    "dot": "2 4",
    "dashdot": "9 4 2 4",
    "longdash": "14 6",
    "longdashdot": "14 4 2 4",
}


@dataclass(frozen=True, kw_only=True)
class _Run:
    """One audit's part of the page: what the template shows of it."""

    name: str
    results: AuditResults
    warnings: list[str]
    headline: str
    findings: list[Finding]
    not_examined: str
    guarantee: str
    utility: str
    advice: list[Advice]
    matrix: Table
    figures: dict[str, FoldedFigures]
    updates: Table
    memorised: Table
    memorised_note: str
    measures: list[FoldedGroup]
    facts: list[Table]
    epsilon: str
    epsilons: Table


def write_report(results: Sequence[AuditResults], path: Path) -> None:
    """Writes one self-contained HTML page on one or several audits, side by side.

    Args:
        results: of at least one audit, in the order to show; differences are to the first.
        path: of the page, whose folder exists; an existing file is replaced.

    Guarantees:
        - The same results give the same bytes.
        - Whatever the results hold is shown as text: a policy in the page lets only its own scripts run, by their
          hashes, and lets nothing be loaded.

    Raises:
        UsageError: there are no results.
        StorageError: the file cannot be written.
    """
    page = render_report(results)
    try:
        path.write_text(page, encoding="utf-8", newline="\n")
    except OSError as error:
        raise StorageError(f"the report could not be written to {path}: {error.strerror}.") from error


def render_report(results: Sequence[AuditResults]) -> str:
    """Gives the page that `write_report` writes.

    Raises:
        UsageError: there are no results.
    """
    if not results:
        raise UsageError("a report needs the results of at least one audit, got none. Run `confide audit` first.")
    names = run_names(list(results))
    runs = [_run(number, name, audit) for number, (name, audit) in enumerate(zip(names, results, strict=True))]
    placed = [
        figure for run in runs for figures in run.figures.values() for figure in (*figures.shown, *figures.folded)
    ]
    scripts = [plotly_script(), _resource("page.js")] if placed else []
    is_compared = len(runs) > 1
    return _template().render(
        title=f"Privacy audit: {names[0]}" if len(runs) == 1 else f"Privacy audits: {', '.join(names)}",
        policy=_policy(scripts),
        css=Markup(_resource("page.css")),
        colors_css=Markup(_colors_css()),
        contents=_contents(is_compared=is_compared),
        runs=runs,
        small="h3" if len(runs) == 1 else "h4",  # no level of headings is skipped
        brackets=BRACKETS,
        glance=glance_table(results, names) if is_compared else None,
        comparison=comparison_table(results, names) if is_compared else None,
        how_compared=HOW_COMPARED,
        notes_on_changes=notes_on_changes(results, names),
        figure_sections=_FIGURE_SECTIONS,
        drawn={kind for run in runs for kind, figures in run.figures.items() if figures.shown or figures.folded},
        has_figures=bool(placed),
        figure_data=Markup(_script_json(placed)),
        plotly=Markup(scripts[0] if scripts else ""),
        script=Markup(scripts[1] if scripts else ""),
        tone=_TONES,
        symbol=_SYMBOLS,
        variable=_variables(),
        plural=plural,
        few_memorised=FEW_MEMORISED,
        dash=_DASHES,
    )


def _run(number: int, name: str, results: AuditResults) -> _Run:
    drawn = {"epsilon": epsilon_figures(results), "roc": roc_figures(results)} | {
        kind: line_figures(results, kind) for kind in ("rounds", "samples", "copies")
    }
    facts = facts_tables(results)
    if results.run.utility:
        facts.insert(1, utility_table(results))
    return _Run(
        name=name,
        results=results,
        warnings=[with_minus_signs(warning) for warning in results.warnings],
        headline=headline(results),
        findings=findings(results),
        not_examined=not_examined(results),
        guarantee=guarantee(results),
        utility=utility(results),
        advice=advice(results),
        matrix=threat_matrix(results),
        figures={kind: fold_figures(f"figure-{number}-{kind}", figures) for kind, figures in drawn.items()},
        updates=updates_table(results),
        memorised=memorised_table(results),
        memorised_note=_memorised_note(results),
        measures=fold_measures(measure_groups(results)),
        facts=facts,
        epsilon=epsilon_sentence(results),
        epsilons=epsilon_table(results),
    )


def _memorised_note(results: AuditResults) -> str:
    if any(record.text is not None for record in results.memorised):
        return "Texts are shown because the owner of the data asked for them: keep this page as safe as the data."
    return "Texts are left out: whoever owns the data can find a record by its name and hash."


def _contents(*, is_compared: bool) -> list[tuple[str, str]]:
    compared = [("comparison", "Runs side by side")] if is_compared else []
    return [
        ("findings", "For the privacy officer"),
        *compared,
        ("matrix", "Who can find out what"),
        ("epsilon", "Claimed and measured epsilon"),
        *((identifier, name) for identifier, name, _ in _FIGURE_SECTIONS),
        ("updates", "What updates tell"),
        ("memorised", "Memorised examples"),
        ("measures", "Every number"),
        ("made", "How this was made"),
    ]


def _template() -> Template:
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.from_string(_resource("page.html.j2"))


def _resource(name: str) -> str:
    return files("confide.report").joinpath(name).read_text(encoding="utf-8")


def _variables() -> dict[str, str]:
    """Names the CSS variable of each line's colour."""
    return {color: f"--series-{place}" for place, color in enumerate((*SERIES, CHANCE))}


def _colors_css() -> str:
    names = _variables().values()
    light, dark = (
        "".join(f"{name}:{color};" for name, color in zip(names, colors, strict=True))
        for colors in ((*SERIES, CHANCE), (*DARK_SERIES, DARK_CHANCE))
    )
    return f":root{{{light}}}\n@media screen and (prefers-color-scheme: dark){{:root{{{dark}}}}}\n"


def _policy(scripts: Sequence[str]) -> str:
    """Gives the page's content security policy: nothing is loaded, and only these scripts run."""
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes) or "'none'"
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _script_json(placed: Sequence[Placed]) -> str:
    """Gives figures and colours as JSON that no HTML parser can take for the end of a script."""
    figures = {place.id: json.loads(place.figure.plot) for place in placed}
    text = json.dumps({"colors": dict(DARK_FOR_LIGHT), "figures": figures}, sort_keys=True, allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
