import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import get_args

import pytest

from confide.audit.results import Asked, AuditResults, Ranks, ViewKind
from confide.errors import StorageError, UsageError
from confide.report.page import render_report, write_report
from confide.report.wording import VERDICTS, counted
from tests.report.audits import (
    HOSTILE,
    audit,
    calm_audit,
    facts,
    hostile_audit,
    leak,
    leaking_audit,
    line,
    measure,
    memorised,
    paired_audits,
    passive_audit,
    ranked_audit,
    study_audits,
)

VOID = {"meta", "br", "img", "link", "input", "hr"}

SECTIONS = (
    *("findings", "comparison", "matrix", "epsilon", "roc", "rounds", "samples", "copies"),
    *("updates", "memorised", "measures", "made"),
)

PAGES = {
    "one": [leaking_audit()],
    "several": [leaking_audit(), calm_audit()],
    "empty": [audit()],
    "passive": [passive_audit()],
    "hostile": [hostile_audit()],
}


class Outline(HTMLParser):
    """What a page is made of: tags with their attributes, text outside scripts, scripts, what was left open."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.scripts: list[tuple[dict[str, str], str]] = []
        self.styles: list[str] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        self.tags.append((tag, attributes))
        if tag == "script":
            self.scripts.append((attributes, ""))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            attributes, text = self.scripts.pop()
            self.scripts.append((attributes, text + data))
        elif self.open and self.open[-1] == "style":
            self.styles.append(data)
        else:
            self.texts.append(data)

    def values(self, name: str, tag: str = "") -> list[str]:
        return [attributes[name] for at, attributes in self.tags if name in attributes and tag in ("", at)]

    @property
    def text(self) -> str:
        return " ".join(self.texts)


@pytest.fixture(scope="module", params=PAGES)
def outline(request: pytest.FixtureRequest) -> Outline:
    return Outline(render_report(PAGES[request.param]))


def _parsed(*results: AuditResults) -> Outline:
    return Outline(render_report(results))


def test_every_value_stands_on_the_page_with_its_interval_and_sample_size() -> None:
    results = leaking_audit()
    text = _parsed(results).text
    for one in results.measures:
        for estimate in (one.members, *one.controls.values(), *([one.excess] if one.excess else [])):
            assert counted(estimate) in text
        assert one.key in text
    for name in (*results.settings, *results.versions, *results.counts, *results.machine, results.command):
        assert name in text
    assert "seed" in text


def test_the_parts_stand_in_the_order_that_readers_need(outline: Outline) -> None:
    identifiers = [attributes["id"] for tag, attributes in outline.tags if tag == "section"]
    assert identifiers == [name for name in SECTIONS if name in identifiers]
    assert set(SECTIONS) - set(identifiers) <= {"comparison"}


def test_several_runs_are_compared_and_one_is_not() -> None:
    assert "comparison" in _parsed(leaking_audit(), calm_audit()).values("id")
    assert "unpaired" in _parsed(leaking_audit(), calm_audit()).text
    assert "comparison" not in _parsed(leaking_audit()).values("id")


def test_runs_on_other_records_are_said_to_be_where_they_are_compared() -> None:
    first, second = paired_audits()
    elsewhere = second.model_copy(update={"asked": {"all": Asked(members=[-1] * 20, others=[-2] * 20)}})
    sentence = "kl was not asked about the same records as plain (0 of 2 records)"
    assert sentence in render_report([first, elsewhere])
    assert "the same records as" not in render_report([first, second])


def test_exposures_that_are_not_compared_are_said_to_be_where_runs_are_compared() -> None:
    few, many = ranked_audit(4.7, Ranks(fewest=32, most=32)), ranked_audit(9.5, Ranks(fewest=900, most=900))
    page = render_report([few, many])
    assert "ranked planted secrets among other numbers of values than" in page
    assert "change: " not in page
    assert "other numbers of values than" not in render_report([few, few])
    assert "change: " in render_report([few, few])


def test_a_page_without_findings_never_uses_the_word() -> None:
    few = measure("final", "membership", "too few records", metric="tpr@0.01")
    for results in (audit(), calm_audit(), audit(measures=[few, measure(note="x")])):
        page = _parsed(results)
        assert "leak" not in page.text.lower()
        assert "leak" not in " ".join(page.values("aria-label")).lower()
    assert "leak" in _parsed(leaking_audit()).text


def test_every_verdict_has_a_mark_that_is_read_without_colour() -> None:
    measures = [measure(view, verdict=verdict) for view, verdict in zip(get_args(ViewKind), VERDICTS, strict=False)]
    page = _parsed(audit(measures=measures))
    marks = {attributes["class"] for tag, attributes in page.tags if "mark" in attributes.get("class", "").split()}
    assert len(marks) == len(VERDICTS)
    text = " ".join(page.text.split())
    symbols = [re.findall(rf"(\S) {verdict}\b", text)[0] for verdict in VERDICTS]
    assert len(set(symbols)) == len(VERDICTS)
    css = files("confide.report").joinpath("page.css").read_text()
    for name in {one.split()[-1] for one in marks}:
        assert f".mark.{name} {{" in css
        assert f".findings li.{name} {{" in css


def test_it_is_said_what_is_corrected_for_and_what_is_not(outline: Outline) -> None:
    text = " ".join(outline.text.split())
    assert "The correction (Holm\N{RIGHT SINGLE QUOTATION MARK}s) is over the attacks of one party" in text
    assert "nothing corrects over parties, kinds of records and metrics" in text
    assert "is tested at a further 5\N{NO-BREAK SPACE}%" in outline.text


def test_nothing_is_loaded_from_anywhere(outline: Outline) -> None:
    for name in ("src", "srcset", "data", "action", "poster", "background", "xlink:href"):
        assert outline.values(name) == []
    assert not [tag for tag, _ in outline.tags if tag in {"link", "iframe", "object", "embed", "base", "img"}]
    assert all(link.startswith("#") for link in outline.values("href"))
    for style in [*outline.styles, *outline.values("style")]:
        assert not re.search(r"url\(|@import|https?:|//", style)
    (policy,) = [
        attributes["content"]
        for _, attributes in outline.tags
        if "http-equiv" in attributes and "content" in attributes
    ]
    assert policy.startswith("default-src 'none';")


def test_only_the_pages_own_scripts_may_run(outline: Outline) -> None:
    (policy,) = [value for value in outline.values("content") if "script-src" in value]
    allowed = set(re.findall(r"'sha256-([^']+)'", policy))
    run = [text for attributes, text in outline.scripts if attributes.get("type") != "application/json"]
    assert {base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in run} == allowed
    assert "'unsafe-inline'" not in policy.split("script-src")[1].split(";")[0]
    assert not [name for _, attributes in outline.tags for name in attributes if name.startswith("on")]


def test_a_page_without_figures_has_no_scripts() -> None:
    page = render_report([audit()])
    assert _parsed(audit()).scripts == []
    assert len(page) < 100_000


def test_what_names_hold_is_shown_as_text() -> None:
    page = _parsed(hostile_audit())
    assert page.text.count(HOSTILE) > 20
    assert "img" not in [tag for tag, _ in page.tags]
    (data,) = [text for attributes, text in page.scripts if attributes.get("type") == "application/json"]
    assert json.loads(data)["figures"]
    assert not re.search("[<>&\u2028\u2029]", data)


def test_every_tag_is_closed_and_every_id_is_there_once(outline: Outline) -> None:
    assert outline.open == []
    identifiers = outline.values("id")
    assert len(identifiers) == len(set(identifiers))
    named = [*outline.values("aria-labelledby"), *outline.values("aria-describedby")]
    wanted = {word for value in named for word in value.split()} | {link[1:] for link in outline.values("href")}
    assert wanted <= set(identifiers)


def test_headings_skip_no_level_and_there_is_one_title(outline: Outline) -> None:
    levels = [int(tag[1]) for tag, _ in outline.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later - earlier <= 1 for earlier, later in pairwise(levels))


def test_tables_have_captions_scopes_and_boxes_that_keys_can_scroll(outline: Outline) -> None:
    tags = [tag for tag, _ in outline.tags]
    assert tags.count("table") == tags.count("caption") == tags.count("thead")
    assert all(attributes.get("scope") in {"col", "row"} for tag, attributes in outline.tags if tag == "th")
    boxes = [attributes for tag, attributes in outline.tags if attributes.get("class") == "box"]
    assert len(boxes) == tags.count("table")
    assert all(box["tabindex"] == "0" and box["role"] == "region" and box["aria-label"] for box in boxes)


def test_each_figure_has_a_name_a_description_and_its_numbers_as_a_table(outline: Outline) -> None:
    tags = [tag for tag, _ in outline.tags]
    plots = [attributes for _, attributes in outline.tags if attributes.get("class") == "plot"]
    twins = [attributes for _, attributes in outline.tags if attributes.get("class") == "twin"]
    assert tags.count("figure") == len(plots) == len(twins) == tags.count("figcaption")
    assert all(plot["role"] == "img" and plot["aria-labelledby"] and plot["aria-describedby"] for plot in plots)
    assert all("open" in twin for twin in twins)


@pytest.mark.parametrize("results", [[leaking_audit()], [leaking_audit(), calm_audit()], study_audits()])
def test_no_two_disclosures_figures_or_tables_have_the_same_name(results: list[AuditResults]) -> None:
    page = render_report(results)
    for pattern in (r"<summary>(.*?)</summary>", r'<p class="title"[^>]*>(.*?)</p>', r'aria-label="([^"]*)"'):
        names = re.findall(pattern, page)
        assert len(names) == len(set(names)) > 4, pattern


def test_of_many_figures_and_measures_those_in_which_nothing_was_found_are_closed() -> None:
    curves = [line("rounds", "members", {1: 0.1}, population=f"kind {number}") for number in range(6)]
    quiet = [measure("final", attack=f"a{number}") for number in range(30)]
    many = _folds(audit(measures=[*quiet, leak(population="kind 2")], curves=curves))
    assert many == {
        "Over the rounds: 5 figures in which nothing was found": False,
        "The holder of the final model: extraction: 30 measures no evidence": False,
        "A participating client: extraction: 1 measure leak": True,
    }
    few = _folds(audit(measures=[*quiet[:9], leak(population="kind 2")], curves=curves[:4]))
    assert few == {
        "The holder of the final model: extraction: 9 measures no evidence": True,
        "A participating client: extraction: 1 measure leak": True,
    }


@pytest.mark.parametrize(("num", "is_open"), [(20, True), (21, False)])
def test_a_long_list_of_records_that_came_out_is_closed(num: int, is_open: bool) -> None:
    listed = _folds(audit(memorised=[memorised(number) for number in range(num)]))
    assert listed == {f"Memorised examples: {num} records that came out": is_open}


def test_what_is_closed_is_still_on_the_page_and_said_to_be_left_out_of_print() -> None:
    curves = [line("rounds", "members", {1: 0.1}, population=f"kind {number}") for number in range(6)]
    page = _parsed(audit(measures=[measure()], curves=curves))
    assert len([1 for _, attributes in page.tags if attributes.get("class") == "plot"]) == 6
    left_out = "Not printed, as it was closed on the screen: "
    assert f"{left_out}6 figures in which nothing was found." in page.text
    assert f"{left_out}A participating client: extraction, 1 measure (no evidence)." in page.text


def test_warnings_have_the_minus_sign_that_numbers_have() -> None:
    page = _parsed(audit(warnings=["The difference is -0.28."]))
    assert "The difference is \N{MINUS SIGN}0.28." in page.text


def _folds(results: AuditResults) -> dict[str, bool]:
    """The name of each disclosure of figures or measures, and whether it is open."""
    found = re.findall(r'<details class="fold[^"]*"( open)?><summary>(.*?)</summary>', render_report([results]))
    return {
        " ".join(re.sub(r"<span aria-hidden.*?</span>|<[^>]*>", "", name).split()): bool(is_open)
        for is_open, name in found
    }


def test_texts_stand_on_the_page_only_where_the_results_hold_them() -> None:
    shown = audit(memorised=[memorised(0, text="Paula Kern, 0170 555 01 23")])
    assert "Paula Kern, 0170 555 01 23" in _parsed(shown).text
    assert "keep this page as safe as the data" in _parsed(shown).text
    hidden = _parsed(audit(memorised=[memorised(0)])).text
    assert "Texts are left out" in hidden
    assert memorised(0).sha256[:16] in hidden


def test_the_same_results_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.html", "b.html"):
        write_report([leaking_audit(), calm_audit()], tmp_path / name)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_a_page_comes_from_the_results_alone() -> None:
    results = leaking_audit()
    assert render_report([AuditResults.model_validate_json(results.model_dump_json())]) == render_report([results])


def test_names_in_any_script_are_kept(tmp_path: Path) -> None:
    name = "клиника 诊所 عيادة 🩺"
    curves = [line("rounds", "members", {1: 0.5}, attack=name)]
    write_report([audit(run=facts(name=name), curves=curves)], tmp_path / "page.html")
    page = Outline((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert f"Privacy audit: {name}" in page.text
    assert page.text.count(name) > 2


def test_no_results_and_no_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least one audit, got none"):
        write_report([], tmp_path / "page.html")
    with pytest.raises(StorageError, match=r"could not be written to .*page\.html: No such file"):
        write_report([audit()], tmp_path / "missing" / "page.html")
