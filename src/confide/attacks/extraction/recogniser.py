"""Finds strings that look like personal data: by patterns, for attackers and scorers alike.

What a pattern misses looks like privacy. The primary numbers of an audit are on planted secrets, whose strings are
known; a recogniser is what an attacker uses, who does not know them.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

PERSONAL_PATTERNS: Mapping[str, str] = {
    "email": r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+",
    "date": (
        r"\b\d{4}-\d{2}-\d{2}\b|\b\d{1,2}[./]\s?\d{1,2}[./]\s?\d{4}\b"
        r"|\b\d{1,2}\.?[ -][^\W\d_]{3,9}\.?,?[ -]\d{4}\b|\b[^\W\d_]{3,9}\.? \d{1,2},? \d{4}\b"
    ),
    "phone": r"(?<![\w+-])(?=(?:[+()./ -]*\d){7})\+?\(?\d{1,4}\)?(?:[ ./-]?\(?\d{1,5}\)?){1,6}(?![\w-])",
    "id": r"\b(?=[A-Z0-9/-]{5})(?=[A-Z0-9/-]*\d)(?=[A-Z0-9/-]*[A-Z])[A-Z0-9]+(?:[-/][A-Z0-9]+)*\b",
}
"""Regular expressions by kind. What an earlier one took, a later one does not look at: 2024-03-12 is no phone number.
A phone number has seven digits or more, an id five characters or more with digits and capitals. Names of months are not
checked, so that dates of every language with letters are found. Names and addresses have no pattern."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """A string that was recognised.

    Attributes:
        kind: of the pattern.
        value: as it stands in the text, white space collapsed.
    """

    kind: str
    value: str


@dataclass(frozen=True, kw_only=True)
class Occurrence:
    """Where a recognised string stands: text[start:stop]."""

    found: Found
    start: int
    stop: int


class Recogniser:
    """Recognises strings by regular expressions, tried in order.

    Args:
        patterns: by kind; `PERSONAL_PATTERNS`, after the formats of planted secrets where the attacker knows them.

    Raises:
        re.error: a pattern is no regular expression.
    """

    def __init__(self, patterns: Mapping[str, str] = PERSONAL_PATTERNS) -> None:
        self._patterns = {kind: re.compile(pattern) for kind, pattern in patterns.items()}

    def occurrences(self, text: str) -> list[Occurrence]:
        """Gives what is recognised in a text, in the text's order, without overlaps."""
        taken: list[Occurrence] = []
        for kind, pattern in self._patterns.items():
            taken += [
                occurrence
                for occurrence in _matches(kind, pattern, text)
                if all(occurrence.stop <= other.start or occurrence.start >= other.stop for other in taken)
            ]
        return sorted(taken, key=lambda occurrence: occurrence.start)

    def find(self, text: str) -> frozenset[Found]:
        """Gives the different strings that are recognised in a text."""
        return frozenset(occurrence.found for occurrence in self.occurrences(text))


def _matches(kind: str, pattern: re.Pattern[str], text: str) -> Iterator[Occurrence]:
    for match in pattern.finditer(text):
        value = " ".join(match[0].split())
        if value:
            yield Occurrence(found=Found(kind=kind, value=value), start=match.start(), stop=match.end())
