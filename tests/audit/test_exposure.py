"""Exposure, scored: full where secrets are known by heart, that of guessing where they are not."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from confide.attacks.extraction.exposure import NULL_MEAN_BITS
from confide.audit.exposure import audit_exposure
from confide.audit.judging import Findings, judge, raw_p_value
from confide.audit.results import Verdict
from tests.audit.overtrained import ATTACKER, World, start_vector


def expose(world: World, **changes: Any) -> Findings:
    world = replace(world, **changes)
    return audit_exposure(world.view(), world.passes, world.planted, world.truth, final_round=max(world.rounds))


def verdict(findings: Findings) -> Verdict:
    (found,) = findings.found
    p_value = raw_p_value(found)
    assert p_value is not None
    return judge([found], {0: p_value}, is_randomised=True)[0].verdict


def test_secrets_known_by_heart_have_the_exposure_of_the_first_among_all(overtrained: World) -> None:
    findings = expose(overtrained)
    (found,) = findings.found
    assert found.members.value == pytest.approx(math.log2(32))
    # 14 members are others' than the attacker's: two of 16 are its own.
    assert found.members.num == sum(
        one.owner != ATTACKER and overtrained.truth.members[one.candidate_id] for one in overtrained.planted.candidates
    )
    assert found.controls.keys() == {"held_out", "base"}
    # Of 32 ranks, all equally likely, -log2(rank / 32) is a bit less than for a continuous one.
    expected = float(np.mean(math.log2(32) - np.log2(np.arange(1, 33))))
    assert expected < NULL_MEAN_BITS
    for control in found.controls.values():
        assert control.covers(expected)
    assert verdict(findings) == "leak"


def test_a_model_that_is_the_base_model_exposes_nothing(overtrained: World) -> None:
    findings = expose(overtrained, rounds={1: start_vector(overtrained.passes.model)})
    (found,) = findings.found
    assert found.members == found.controls["base"]
    assert verdict(findings) == "no evidence"


def test_swapped_coins_turn_a_leak_into_none(overtrained: World) -> None:
    truth = overtrained.truth
    swapped = replace(truth, members={name: not is_in for name, is_in in truth.members.items()})
    assert verdict(expose(overtrained, truth=swapped)) == "no evidence"


def test_exposure_grows_with_the_number_of_copies(ladder: World) -> None:
    (curve,) = expose(ladder).curves
    assert [point.x for point in curve.points] == [1, 2, 4, 8]
    values = [point.y for point in curve.points]
    assert values == sorted(values)
    assert values[-1] > values[0] + 1.0
    assert spearmanr([1, 2, 4, 8], values).statistic > 0.9


def test_alternatives_of_another_length_are_not_ranked(overtrained: World) -> None:
    longer = {
        name: tuple(replace(one, secret_stop=(one.secret_stop or 0) + 1) for one in others)
        for name, others in overtrained.planted.alternatives.items()
    }
    findings = expose(overtrained, planted=replace(overtrained.planted, alternatives=longer))
    assert findings.found == []
    assert "0 members and 0 others" in findings.warnings[0]
