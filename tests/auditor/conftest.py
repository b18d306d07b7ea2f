from collections.abc import Callable
from pathlib import Path

import pytest

from confide.audit.results import AuditResults
from confide.auditor import audit_run
from confide.auditor.audited import Audited
from confide.auditor.of_run import open_run
from confide.auditor.request import AuditRequest
from tests.recorded import shared_run


def say_nothing(phrase: str) -> None:
    """Takes what an audit tells of its progress."""


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recorded run that nobody may change."""
    return shared_run(tmp_path_factory)


@pytest.fixture(scope="session")
def audited(run: Path) -> Audited:
    """The run, ready to be attacked."""
    return open_run(run, AuditRequest(), progress=say_nothing)


@pytest.fixture(scope="session")
def phrases() -> list[str]:
    """What `results` told of its progress."""
    return []


@pytest.fixture(scope="session")
def results(run: Path, phrases: list[str]) -> AuditResults:
    """What a whole audit of the run found."""
    tell: Callable[[str], None] = phrases.append
    return audit_run(run, progress=tell)
