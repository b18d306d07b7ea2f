"""What an earlier audit of the same run found, kept where a later one measures less, or on fewer records."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from confide.files import write_atomic
from confide.plural import plural

if TYPE_CHECKING:
    from confide.audit.results import AuditResults, Measure

_NUMBERS_OF = {"samples": "more samples", "alternatives": "more alternatives", "full_ranking": "a larger full_ranking"}
"""Settings that say how much was drawn: with less, numbers rest on less, also where they are of as many records."""


@contextmanager
def keeping_earlier(path: Path, console: Console) -> Iterator[None]:
    """Puts results that are replaced aside, and says so, if something of them is lost.

    That is if they hold numbers that the new ones do not, or numbers of more records, or were made with more samples or
    alternatives, or a larger `full_ranking`. They go to the first of audit-earlier-1.json, audit-earlier-2.json and so
    on that is free, beside `path`. Results that measure the same and more replace the old ones, as nothing is lost.

    Args:
        path: of the results, which are replaced in the body; there need be none before.
        console: told in one line.

    Raises:
        StorageError: the disk is full or the folder cannot be written.
    """
    earlier = path.read_bytes() if path.is_file() else b""
    yield
    if not earlier:
        return
    lost = _lost(earlier, path.read_bytes())
    if not lost:
        return
    kept = next(place for number in count(1) if not (place := path.with_stem(f"{path.stem}-earlier-{number}")).exists())
    write_atomic(kept, earlier)
    console.print(
        f"note: the earlier audit {lost}: it is kept as {kept} (see `confide report FILE`).",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def _lost(earlier: bytes, later: bytes) -> str:
    """What of the earlier results is not in the later ones, for a sentence that begins with them; "" for nothing."""
    from confide.audit.results import AuditResults

    try:
        before = AuditResults.model_validate_json(earlier)
    except ValueError:
        return "could not be read"
    after = AuditResults.model_validate_json(later)
    now = {measure.key: measure for measure in after.measures}
    missing = {measure.key for measure in before.measures} - now.keys()
    smaller = {one.key for one in before.measures if one.key in now and _has_more(one, now[one.key])}
    found = [
        f"has {plural(len(keys), 'number')} {what}"
        for keys, what in ((missing, "that this one does not have"), (smaller, "of more records"))
        if keys
    ]
    found += [
        f"was made with {more}" for name, more in _NUMBERS_OF.items() if _setting(before, name) > _setting(after, name)
    ]
    return ", and ".join(found)


def _has_more(before: "Measure", after: "Measure") -> bool:
    """Whether more records stand behind a number, or behind one of the controls that both have."""
    return before.members.num > after.members.num or any(
        name in after.controls and one.num > after.controls[name].num for name, one in before.controls.items()
    )


def _setting(results: "AuditResults", name: str) -> float:
    value = results.settings.get(name)
    return value if isinstance(value, (int, float)) else 0
