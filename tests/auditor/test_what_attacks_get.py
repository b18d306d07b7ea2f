"""Whatever an audit hands to an attack, model passes included, leads neither to the truth nor back into the run."""

import json
import math
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest

from confide.attacks.candidates import PossibleSecrets
from confide.attacks.passes import Passes
from confide.audit.results import AuditResults
from confide.auditor import AuditRequest, audit_run
from confide.build import build_model
from confide.canaries.kinds import personal
from confide.config.load import load_config
from confide.config.sections import AuditSection
from tests.auditor.test_views import FORBIDDEN, reachable
from tests.recorded import record_run

ATTACKS = "confide.attacks."
NUM_PLANTED = 12
NUM_POSSIBLE = 100 - 2 * NUM_PLANTED + 1
"""What a phone number of two digits could be: itself, and all but those of the people planted and of the ladder's."""


def handed_to_attacks(work: Callable[[], object]) -> tuple[dict[int, Any], set[str]]:
    """Every argument, `self` included, of every call from elsewhere into attacks; and the modules that were called.

    Making `Passes` is no attack: the audit does it, and names the folder.
    """
    found: dict[int, Any] = {}
    called: set[str] = set()
    outside: set[CodeType] = set()  # most calls are of the same functions, and a watch is asked about every one

    def watch(frame: FrameType, event: str, _argument: object) -> None:
        if event != "call" or frame.f_code in outside or frame.f_back is None:
            return
        name, caller = (one.f_globals.get("__name__", "") for one in (frame, frame.f_back))
        if not name.startswith(ATTACKS) or frame.f_code is Passes.__init__.__code__:
            outside.add(frame.f_code)
            return
        if caller.startswith(ATTACKS):
            return
        called.add(name.removeprefix(ATTACKS))
        code = frame.f_code
        count = code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & 4) + bool(code.co_flags & 8)
        for one in code.co_varnames[:count]:
            if one in frame.f_locals:
                found[id(frame.f_locals[one])] = frame.f_locals[one]

    sys.setprofile(watch)
    try:
        work()
    finally:
        sys.setprofile(None)
    return found, called


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run in which every party but a plaintext server attacks all that there is.

    Phone numbers have two digits: few enough that each is ranked among all, as where nobody sets `audit.full_ranking`.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(personal, "_NUM_DIGITS", 2)
        patch.setattr(personal, "_PHONE", re.compile("(?=(555-[0-9]{2}))", re.ASCII))
        yield record_run(
            tmp_path_factory.mktemp("what attacks get"),
            seal__release="server",
            federation__rounds=2,
            audit__full_ranking=AuditSection().full_ranking,
        )


def test_no_argument_of_any_attack_leads_to_the_truth_or_to_the_run(released: Path) -> None:
    config = load_config(released / "config.toml")
    model = build_model(config)
    audited: list[AuditResults] = []
    given, called = handed_to_attacks(lambda: audited.append(audit_run(released, AuditRequest(), model=model)))
    families = {"passes", "membership", "extraction", "updates"}
    assert families <= {name.split(".")[0] for name in called}
    assert any(isinstance(value, Passes) for value in given.values())
    values = reachable(list(given.values()))
    assert [type(value).__name__ for value in values if isinstance(value, FORBIDDEN)] == []
    private = (str(released), released.name + "/", config.run.folder, config.data.path)
    assert not [text for text in values if isinstance(text, str) and any(one in text for one in private)]
    assert not [text for text in values if isinstance(text, bytes) and str(released).encode() in text]
    # Every secret was ranked among all, and what it was ranked among was looked through as well.
    assert len([value for value in given.values() if isinstance(value, PossibleSecrets)]) == NUM_PLANTED
    ranks = [one for one in audited[0].measures if one.family == "exposure"]
    assert {(one.view, one.attack) for one in ranks} == {
        (view, "rank") for view in ("final", "client", "sealed-server")
    }
    for one in ranks:
        assert f"of all {NUM_POSSIBLE} secrets of its form, at most {math.log2(NUM_POSSIBLE):.2f}" in one.note
        assert 0 <= one.members.value <= math.log2(NUM_POSSIBLE)


def test_the_watch_sees_what_is_handed_over(tmp_path: Path) -> None:
    """What the test above rests on: were passes to hold their folder's path, it would be found."""
    passes = Passes.__new__(Passes)
    passes.__dict__["folder"] = tmp_path

    def ask() -> None:
        with pytest.raises(AttributeError):
            passes.stats(None, [])

    given, called = handed_to_attacks(ask)
    assert called == {"passes"}
    assert tmp_path in [value for value in reachable(list(given.values())) if isinstance(value, Path)]


def test_what_is_kept_of_passes_stands_in_the_run_all_the_same(released: Path) -> None:
    assert list((released / "audit" / "cache").rglob("*.safetensors"))
    assert json.loads((released / "audit" / "audit.json").read_text())["measures"]
