"""The page in a real browser: sizes, colours, print, keys, screen readers, and what hostile names can do."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from confide.report.page import write_report
from confide.report.palette import DARK_INK, DARK_SERIES, INK, SERIES
from tests.report.audits import audit, calm_audit, hostile_audit, leaking_audit, passive_audit, study_audits
from tests.report.chromium import Chromium, chromium, find_chromium

BINARY = find_chromium()

pytestmark = pytest.mark.skipif(BINARY is None, reason="no Chromium on the path: the page cannot be looked at")

PAGES = {
    "one": [leaking_audit()],
    "two": [leaking_audit(), calm_audit()],
    "six": study_audits(),
    "empty": [audit()],
    "passive": [passive_audit()],
    "hostile": [hostile_audit()],
}

KEEP_PICTURES = "CONFIDE_SCREENSHOTS"
"""An environment variable: the folder in which to leave the pictures."""

A4_WIDTH = 688  # CSS pixels between margins of 14 mm

PLOTTED = "[...document.querySelectorAll('.plot')]"
DRAWN = f"{PLOTTED}.filter(one => !one.closest('details.fold:not([open])'))"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds the pages, and their pictures."""
    pages = tmp_path_factory.mktemp("report")
    for name, results in PAGES.items():
        write_report(results, pages / f"{name}.html")
    return pages


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    assert BINARY is not None
    with chromium(BINARY, tmp_path_factory.mktemp("profile")) as running:
        yield running


def _overflow(browser: Chromium) -> int:
    return int(browser.evaluate("document.documentElement.scrollWidth - innerWidth"))


def _text_colors(browser: Chromium) -> set[str]:
    return set(browser.evaluate("[...document.querySelectorAll('.plot .xtick text')].map(one => one.style.fill)"))


def _rgb(color: str) -> str:
    return "rgb({}, {}, {})".format(*(int(color[start : start + 2], 16) for start in (1, 3, 5)))


@pytest.mark.parametrize("name", sorted(PAGES, reverse=True))
def test_the_page_fits_narrow_and_wide_windows_in_light_and_dark(browser: Chromium, folder: Path, name: str) -> None:
    browser.show(width=400)
    browser.open(folder / f"{name}.html")
    for width in (400, 1600):
        for is_dark in (False, True):
            browser.show(width=width, is_dark=is_dark)
            assert _overflow(browser) <= 0
            too_wide = f"{DRAWN}.filter(one => one.querySelector('svg').clientWidth > one.clientWidth).length"
            assert browser.evaluate(too_wide) == 0
            assert _text_colors(browser) <= {_rgb(DARK_INK if is_dark else INK)}
            _photograph(browser, folder, f"{name}_{width}_{'dark' if is_dark else 'light'}")
    assert browser.troubles() == []


def test_every_figure_is_drawn_in_the_colours_of_its_legend(browser: Chromium, folder: Path) -> None:
    for is_dark, colors in ((False, SERIES), (True, DARK_SERIES)):
        browser.show(width=1600, is_dark=is_dark)
        browser.load(folder / "one.html")
        assert browser.evaluate(f"{DRAWN}.every(one => one.querySelectorAll('path.js-line').length > 1)")
        lines = "getComputedStyle(document.querySelector('.plot:not(:empty) path.js-line[style*=\"2px\"]')).stroke"
        legend = "getComputedStyle(document.querySelector('.legend line')).stroke"
        assert browser.evaluate(lines) == browser.evaluate(legend) == _rgb(colors[0])


def test_wide_tables_scroll_in_their_own_box(browser: Chromium, folder: Path) -> None:
    browser.show(width=400)
    browser.open(folder / "two.html")
    boxes = "[...document.querySelectorAll('.box')].filter(one => one.scrollWidth > one.clientWidth + 1)"
    assert browser.evaluate(f"{boxes}.length") > 3
    assert browser.evaluate(f"{boxes}.every(one => (one.scrollLeft = 50, one.scrollLeft > 0))")


@pytest.mark.parametrize("name", ["hostile", "two", "six", "one"])
def test_on_paper_nothing_is_cut_and_nothing_waits_for_a_click(browser: Chromium, folder: Path, name: str) -> None:
    browser.show(width=A4_WIDTH, is_dark=True)
    browser.open(folder / f"{name}.html")
    browser.evaluate("document.getElementById('open-all').click()")
    browser.show(width=A4_WIDTH, is_dark=True, media="print")
    assert _overflow(browser) <= 0
    assert browser.evaluate("[...document.querySelectorAll('table')].every(one => one.clientWidth <= innerWidth)")
    shown = "one => one.checkVisibility()"
    assert not browser.evaluate(f"[...document.querySelectorAll('nav, summary, .skip')].some({shown})")
    assert _text_colors(browser) == {_rgb(INK)}  # light, also from a dark screen
    assert browser.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    _photograph(browser, folder, f"{name}_print")
    browser.show(width=1600, is_dark=True)
    assert _text_colors(browser) == {_rgb(DARK_INK)}  # and dark again behind the printer's window


def test_a_dark_page_prints_light(browser: Chromium, folder: Path) -> None:
    browser.show(width=1600, is_dark=True)
    browser.open(folder / "one.html")
    browser.evaluate(
        "addEventListener('beforeprint', () => { window.seen = "
        "document.querySelector('.plot .xtick text').style.fill; })"
    )
    printed = _pictures(folder) / "report_one.pdf"
    browser.print_to(printed)
    assert printed.read_bytes().startswith(b"%PDF")
    assert browser.evaluate("window.seen") == _rgb(INK)


def test_without_scripts_the_figures_tables_stand_open(browser: Chromium, folder: Path) -> None:
    browser.show(width=1600)
    browser.run_scripts(allowed=False)
    browser.load(folder / "one.html")
    tables = "[...document.querySelectorAll('figure table')]"
    assert browser.evaluate(f"{tables}.length > 3 && {tables}.every(one => one.checkVisibility())")
    assert not browser.evaluate(f"{PLOTTED}.some(one => one.checkVisibility())")
    browser.run_scripts(allowed=True)
    browser.load(folder / "one.html")
    assert not browser.evaluate(f"{tables}.some(one => one.checkVisibility())")
    assert browser.evaluate(f"{PLOTTED}.every(one => one.checkVisibility())")


def test_figures_behind_a_disclosure_are_drawn_to_size_when_it_is_opened(browser: Chromium, folder: Path) -> None:
    browser.show(width=1600)
    browser.load(folder / "six.html")
    folded = "[...document.querySelectorAll('details.fold .plot')]"
    fits = f"{folded}.every(one => one.querySelector('svg')?.clientWidth === one.clientWidth && one.clientWidth > 200)"
    assert browser.evaluate(f"{folded}.length") == 24
    assert not browser.evaluate(f"{folded}.some(one => one.querySelector('svg'))")
    browser.evaluate("document.getElementById('open-all').click()")
    browser.settle()
    assert browser.evaluate("[...document.querySelectorAll('details.fold')].every(one => one.open)")
    assert browser.evaluate(fits)
    browser.evaluate("document.querySelectorAll('details.fold').forEach(one => { one.open = false; })")
    browser.show(width=400, is_dark=True)
    browser.evaluate("document.getElementById('open-all').click()")
    browser.settle()
    assert browser.evaluate(fits)
    assert _text_colors(browser) == {_rgb(DARK_INK)}
    assert _overflow(browser) <= 0
    assert browser.troubles() == []


def test_what_is_closed_is_not_printed_and_the_paper_says_so(browser: Chromium, folder: Path) -> None:
    said = "[...document.querySelectorAll('.left-out')].filter(one => one.checkVisibility()).length"
    folds = "[...document.querySelectorAll('details.fold')]"
    for is_open in (False, True):
        browser.show(width=1600)
        browser.load(folder / "six.html")
        if is_open:
            browser.evaluate("document.getElementById('open-all').click()")
        assert browser.evaluate(said) == 0  # on a screen nothing is left out
        closed = browser.evaluate(f"{folds}.filter(one => !one.open).length")
        assert (closed == 0) == is_open
        browser.show(width=A4_WIDTH, media="print")
        assert browser.evaluate(said) == closed
        assert _overflow(browser) <= 0
        drawn = f"{folds}.filter(one => one.open).every(one => [...one.querySelectorAll('.plot')].every("
        assert browser.evaluate(f"{drawn}plot => plot.querySelector('svg').clientWidth <= innerWidth))")
        browser.show(width=1600, media="")


def test_the_first_key_leads_past_the_contents_and_all_boxes_can_be_reached(browser: Chromium, folder: Path) -> None:
    browser.show(width=400)
    browser.load(folder / "one.html")
    browser.press("Tab", 9)
    assert browser.evaluate("document.activeElement.className") == "skip"
    assert browser.evaluate("document.activeElement.getBoundingClientRect().top") >= 0
    assert browser.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    browser.press("Enter", 13)
    assert browser.evaluate("location.hash") == "#findings"
    reached = []
    for _ in range(12):
        browser.press("Tab", 9)
        reached.append(browser.evaluate("document.activeElement.className || document.activeElement.tagName"))
    assert reached[:4] == ["box", "SUMMARY", "SUMMARY", "SUMMARY"]


def test_a_screen_reader_meets_landmarks_names_and_tables(browser: Chromium, folder: Path) -> None:
    browser.show(width=1600)
    browser.open(folder / "one.html")
    roles = browser.roles()
    for role in ("banner", "main", "navigation", "contentinfo"):
        assert len(roles[role]) == 1
    assert roles["navigation"] == ["Contents"]
    assert "For the privacy officer" in roles["region"]
    assert all(roles["image"])
    assert len(roles["image"]) == browser.evaluate(f"{PLOTTED}.length")
    assert "What each party can find out: the worst measure of each kind of attack" in roles["table"]
    assert {"rowheader", "columnheader", "caption", "figure"} <= set(roles)
    assert "StaticText" in roles


def test_hostile_names_run_nothing_and_link_nowhere(browser: Chromium, folder: Path) -> None:
    browser.show(width=1600)
    browser.open(folder / "hostile.html")
    assert browser.evaluate("document.title").startswith("Privacy audit: </script><script>")
    assert browser.evaluate("document.querySelectorAll('img').length") == 0
    assert browser.evaluate("document.querySelectorAll('.plot a').length") == 0
    assert "<img src=x" in browser.evaluate("document.querySelector('#rounds .plot .ytitle').textContent")
    assert browser.troubles() == []


def test_the_policy_stops_a_script_that_got_in(browser: Chromium, folder: Path) -> None:
    page = (folder / "one.html").read_text(encoding="utf-8")
    broken = folder / "broken.html"
    bad = "<script>document.title = 'run'</script><img src='x.png' onerror=\"document.title = 'run'\">"
    broken.write_text(page.replace("<main>", f"<main>{bad}"), encoding="utf-8")
    browser.show(width=1600)
    browser.open(broken)
    assert browser.evaluate("document.title") == "Privacy audit: clinics-2026"
    assert browser.evaluate(f"{PLOTTED}.every(one => one.querySelector('svg'))")
    assert any("Content Security Policy" in trouble for trouble in browser.troubles())


def _photograph(browser: Chromium, folder: Path, name: str) -> None:
    """Saves a picture of the first page; of all pages where somebody wants to look at them, for it takes its time."""
    if name.startswith("one") or KEEP_PICTURES in os.environ:
        picture = _pictures(folder) / f"report_{name}.png"
        browser.photograph(picture)
        assert picture.stat().st_size > 10_000


def _pictures(folder: Path) -> Path:
    return Path(os.environ.get(KEEP_PICTURES, folder))
