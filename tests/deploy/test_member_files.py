"""Who can read what a member keeps of its runs, at every moment of a run."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.field import NAMES, Field

OTHERS = stat.S_IRWXG | stat.S_IRWXO
OWN = {"releases.jsonl", "tried.json", "pending"}
"""What a member keeps in clients/: what it released, tried and uploaded."""

STATE = {"global.safetensors", "own.safetensors"}
"""What it keeps beside a round's adapter, to go on from."""


@pytest.fixture(autouse=True)
def _open_umask() -> Iterator[None]:
    """As on a machine whose files are open to a group unless they say otherwise."""
    before = os.umask(0o002)
    yield
    os.umask(before)


def is_closed(path: Path) -> bool:
    return not path.stat().st_mode & OTHERS


def test_nobody_else_can_read_what_a_member_keeps_to_itself(tmp_path: Path) -> None:
    field = Field(tmp_path)
    seen: dict[str, bool] = {}

    def note(path: Path, *, closed: bool) -> None:
        seen[path.name] = seen.get(path.name, True) and closed

    def look(name: str, phase: str, number: int) -> None:
        del phase, number
        for own in field.members[name].folder.glob("*/clients/*/*"):
            note(own, closed=is_closed(own) and is_closed(own.parent))
        for folder in field.members[name].folder.rglob("state"):
            for kept in folder.iterdir():
                note(kept, closed=is_closed(kept) and is_closed(folder))

    for member in field.members.values():
        member.after = look
    field.go()
    assert set(seen) == OWN | STATE
    assert all(seen.values()), [name for name, closed in seen.items() if not closed]
    accepted = field.members[NAMES[0]].folder / "accepted"
    assert is_closed(accepted)
