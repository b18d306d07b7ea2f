import re
from importlib.resources import files

import pytest

from confide.report.palette import (
    CHANCE,
    DARK_BACKGROUND,
    DARK_CHANCE,
    DARK_INK,
    DARK_SERIES,
    INK,
    LIGHT_BACKGROUND,
    SERIES,
    band,
)

READABLE = 4.5  # WCAG 2.2, success criterion 1.4.3, level AA

PAIRS = [  # text and ground, as page.css puts them together
    ("ink", "background"),
    ("ink", "raised"),
    ("quiet", "background"),
    ("quiet", "raised"),
    ("link", "background"),
    ("link", "raised"),
    ("bad", "bad-ground"),
    ("odd", "odd-ground"),
    ("open", "open-ground"),
    ("calm", "calm-ground"),
    ("ink", "open-ground"),
    ("focus", "background"),
]


def _luminance(color: str) -> float:
    parts = [int(color[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    darker, lighter = sorted([_luminance(first), _luminance(second)])
    return (lighter + 0.05) / (darker + 0.05)


def _variables() -> list[dict[str, str]]:
    """The colours of page.css: the light ones, then the dark ones."""
    css = files("confide.report").joinpath("page.css").read_text()
    blocks = re.findall(r":root \{(.*?)\}", css, flags=re.DOTALL)
    return [dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", block)) for block in blocks]


def test_contrast_is_that_of_the_guideline() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21.0)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)  # the well-known near miss


@pytest.mark.parametrize("color", [*SERIES, CHANCE, INK])
def test_light_lines_are_readable(color: str) -> None:
    assert contrast(color, LIGHT_BACKGROUND) >= READABLE


@pytest.mark.parametrize("color", [*DARK_SERIES, DARK_CHANCE, DARK_INK])
def test_dark_lines_are_readable(color: str) -> None:
    assert contrast(color, DARK_BACKGROUND) >= READABLE


@pytest.mark.parametrize(("text", "ground"), PAIRS)
def test_text_is_readable_on_both_pages(text: str, ground: str) -> None:
    for colors in _variables():
        assert contrast(colors[text], colors[ground]) >= READABLE


def test_the_pages_backgrounds_are_those_that_lines_are_chosen_for() -> None:
    assert [colors["background"] for colors in _variables()] == [LIGHT_BACKGROUND, DARK_BACKGROUND]
    assert [colors["ink"] for colors in _variables()] == [INK, DARK_INK]


def test_lines_have_colours_of_their_own() -> None:
    assert len({*SERIES, CHANCE}) == len(SERIES) + 1
    assert len({*DARK_SERIES, DARK_CHANCE}) == len(DARK_SERIES) + 1


def test_a_band_is_its_line_seen_through() -> None:
    assert band("#2457a6") == "rgba(36,87,166,0.16)"
