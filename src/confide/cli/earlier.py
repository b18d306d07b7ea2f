"""What an earlier audit of the same run found, kept where a later one measures less."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from rich.console import Console

from confide.files import write_atomic


@contextmanager
def keeping_earlier(path: Path, console: Console) -> Iterator[None]:
    """Puts results that are replaced aside, and says so, if they hold numbers that the new ones do not.

    They go to the first of audit-earlier-1.json, audit-earlier-2.json and so on that is free, beside `path`. Results
    that measure the same and more replace the old ones, as nothing is lost.

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
    num_lost = _num_lost(earlier, path.read_bytes())
    if num_lost == 0:
        return
    kept = next(place for number in count(1) if not (place := path.with_stem(f"{path.stem}-earlier-{number}")).exists())
    write_atomic(kept, earlier)
    what = "could not be read" if num_lost is None else f"has {num_lost:,} numbers that this one does not have"
    console.print(
        f"note: the earlier audit {what}: it is kept as {kept} (see `confide report FILE`).",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def _num_lost(earlier: bytes, later: bytes) -> int | None:
    """How many measures of the earlier results are not among the later ones; None if those cannot be read."""
    from confide.audit.results import AuditResults

    try:
        before = AuditResults.model_validate_json(earlier)
    except ValueError:
        return None
    after = {measure.key for measure in AuditResults.model_validate_json(later).measures}
    return len({measure.key for measure in before.measures} - after)
