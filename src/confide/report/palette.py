"""Colours of the report's figures, for light and dark pages.

Distinct to colour-blind readers together with the dashes and markers that go with them, and readable on the page's
background: at least 4.5 to 1 for lines and text (WCAG 2.2, 1.4.3).
"""

from collections.abc import Mapping
from types import MappingProxyType

LIGHT_BACKGROUND, DARK_BACKGROUND = "#ffffff", "#14181d"

INK, DARK_INK = "#1d2329", "#e6e8ea"
GRID, DARK_GRID = "#dfe3e7", "#333a42"
CHANCE, DARK_CHANCE = "#6a7178", "#a9b0b7"

SERIES = ("#2457a6", "#b3261e", "#1b7440", "#7d3fb5", "#96520a", "#0b7080", "#a02a70")
DARK_SERIES = ("#8ab4f8", "#f28b82", "#81c995", "#c9a0fa", "#fdba74", "#78d9ec", "#f5a3d0")

DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
"""What tells lines of one colour apart."""


def band(color: str) -> str:
    """Gives a line's colour as that of its band: the same, seen through."""
    red, green, blue = (int(color[start : start + 2], 16) for start in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.16)"


DARK_FOR_LIGHT: Mapping[str, str] = MappingProxyType(
    {
        INK: DARK_INK,
        GRID: DARK_GRID,
        CHANCE: DARK_CHANCE,
        band(CHANCE): band(DARK_CHANCE),
        **dict(zip(SERIES, DARK_SERIES, strict=True)),
        **{band(light): band(dark) for light, dark in zip(SERIES, DARK_SERIES, strict=True)},
    }
)
"""Figures are made in light colours; a dark page shows each of them as the colour given here."""
