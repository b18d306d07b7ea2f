"""Usefulness by variant: a table and a picture that say the same."""

import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from confide.privacy.randomness import SEEDED_MEANS
from confide.report.utility import VariantUtility, utility_markdown, utility_svg

PLAIN = VariantUtility(
    name="none", unit="none", epsilon=None, client_epsilon=None, losses=(2.0, 2.2), base_losses=(3.0, 3.1)
)
BOTH = VariantUtility(name="<both>", unit="both", epsilon=7.996, client_epsilon=3.5, losses=(9.0,), base_losses=(3.0,))
SVG = "{http://www.w3.org/2000/svg}"


def test_a_row_tells_what_is_hidden_what_it_cost_and_what_is_left() -> None:
    lines = utility_markdown([PLAIN, BOTH]).splitlines()
    assert lines[2].replace("\N{MINUS SIGN}", "-") == (
        "| none | nothing | no guarantee | 2.10 [2.00, 2.20] | -0.950 [-1.00, -0.900] | 2 |"
    )
    assert lines[3] == "| <both> | one row and one client | 8.00; of a client 3.50 | 9.00 | 6.00 | 1 |"


def test_an_epsilon_of_seeded_noise_is_called_that_and_below_it_stands_what_it_means() -> None:
    lines = utility_markdown([PLAIN, replace(BOTH, seeded_noise=True), BOTH]).splitlines()
    assert "| 8.00; of a client 3.50 (seeded noise) |" in lines[3]
    assert "| 8.00; of a client 3.50 |" in lines[4]
    assert lines[5:] == ["", f"Note: {SEEDED_MEANS}."]
    assert "seed" not in utility_markdown([PLAIN, BOTH]).replace("| seeds |", "")


def test_a_higher_loss_is_drawn_higher_on_a_logarithmic_axis() -> None:
    picture = ElementTree.fromstring(utility_svg([PLAIN, BOTH], title="a & b"))
    assert picture.findtext(f"{SVG}title") == "a & b"
    assert "<both>: 9.00" in (picture.findtext(f"{SVG}desc") or "")
    dots = [float(dot.attrib["cy"]) for dot in picture.iter(f"{SVG}circle")]
    assert len(dots) == 3
    ticks = {
        text.text: float(text.attrib["y"]) - 4
        for text in picture.iter(f"{SVG}text")
        if re.fullmatch(r"[\d.]+", text.text or "")
    }
    assert dots[0] == pytest.approx(ticks["2"])  # a loss stands where its tick does
    assert dots[0] > dots[1] > dots[2]
    per_doubling = ticks["2"] - ticks["4"]
    assert ticks["3"] - ticks["6"] == pytest.approx(per_doubling, abs=0.2)


def test_the_base_models_loss_is_the_dashed_line() -> None:
    one = VariantUtility(name="x", unit="example", epsilon=1.0, client_epsilon=None, losses=(2.0,), base_losses=(2.0,))
    picture = ElementTree.fromstring(utility_svg([one, PLAIN], title="t"))
    (base,) = [line for line in picture.iter(f"{SVG}line") if line.attrib["class"] == "base"]
    assert base.attrib["y1"] == base.attrib["y2"]
    dots = [float(dot.attrib["cy"]) for dot in picture.iter(f"{SVG}circle")]
    assert float(base.attrib["y1"]) < min(dots)  # the base model's mean, 2.7, is above all of them
