"""What a measurement gives: a number with its interval, and a difference with its interval and p-value.

The bottom of this folder: everything here hands these on.
"""

from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

CONFIDENCE = 0.95
"""The probability with which an interval is to cover the truth, two-sided, where nothing else is said."""

NORMAL_QUANTILE = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)
"""How many standard errors `CONFIDENCE` is to either side of a normal estimate: 1.96."""

Alternative = Literal["two-sided", "greater"]
"""What a p-value is about: "two-sided", a difference either way; "greater", only one above zero."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A number with its 95 % confidence interval.

    Attributes:
        value: the estimate.
        low: the interval's lower end, finite, included.
        high: its upper end, finite, included.
        num: how many records stand behind it.
    """

    value: float
    low: float
    high: float
    num: int

    def covers(self, value: float) -> bool:
        """Whether a value lies in the interval, ends included."""
        return self.low <= value <= self.high

    def overlaps(self, other: "Interval") -> bool:
        """Whether the two intervals share a value: then nobody may say that the numbers differ."""
        return self.low <= other.high and other.low <= self.high


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A difference with its 95 % confidence interval and a p-value.

    Attributes:
        interval: of first minus second.
        p_value: of no difference, in (0, 1], before any correction for several tests.
    """

    interval: Interval
    p_value: float


def check_alternative(alternative: Alternative) -> None:
    """Raises unless it is one of the two.

    Raises:
        ValueError: it is another word.
    """
    if alternative not in ("two-sided", "greater"):
        raise ValueError(f"alternative is {alternative!r}, expected 'two-sided' or 'greater'")
