"""A whole audit of a run whose coins, as the scorers know them, fell otherwise than those that decided."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from confide.audit.results import AuditResults
from confide.audit.statistics import shuffle_coins
from confide.auditor import audit, audit_run
from confide.auditor.audited import Audited
from confide.auditor.of_run import open_run
from confide.seeds import stream


def shuffled(audited: Audited) -> Audited:
    case = audited.case
    members = dict(case.truth.members)
    for population in case.populations:
        labels = case.truth.labels(population.candidates)
        owners = np.array([candidate.owner for candidate in population.candidates], np.str_)
        fell = shuffle_coins(labels, owners, stream(0, "test shuffled coins", population.name))
        members |= dict(zip(population.ids, fell.tolist(), strict=True))
    return replace(audited, case=replace(case, truth=replace(case.truth, members=members)))


def test_no_family_finds_a_leak(
    run: Path, results: AuditResults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "copy", symlinks=True))

    def open_shuffled(*args: Any, **kwargs: Any) -> Audited:
        return shuffled(open_run(*args, **kwargs))

    monkeypatch.setattr(audit, "open_run", open_shuffled)
    found = audit_run(copy)
    assert {measure.family for measure in found.measures} == {"membership", "extraction", "exposure", "updates"}
    assert {measure.key for measure in found.measures} == {measure.key for measure in results.measures}
    assert [measure.key for measure in found.measures if measure.verdict == "leak"] == []
    # With the coins that decided, the same run's single updates tell members from others.
    updates = "server.updates.layer cosine.one client's update.auc"
    (true,), (fell,) = (
        [measure.members for measure in audited.measures if measure.key == updates] for audited in (results, found)
    )
    assert true.value > 0.7 > fell.value
    assert fell.low < 0.5 < fell.high
