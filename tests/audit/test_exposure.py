"""Exposure, scored: full where secrets are known by heart, that of guessing where they are not."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from confide.attacks.passes import Passes
from confide.attacks.token_stats import TokenStats
from confide.audit.exposure import audit_exposure
from confide.audit.judging import Findings, judge, raw_p_value
from confide.audit.results import Verdict
from confide.data.examples import TokenizedExample
from confide.model.lora import AdaptedModel
from confide.update import Vector
from tests.audit.overtrained import ATTACKER, World, make_world, start_vector


def expose(world: World, **changes: Any) -> Findings:
    world = replace(world, **changes)
    return audit_exposure(world.view(), world.passes, world.planted, world.truth, final_round=max(world.rounds))


def verdict(findings: Findings) -> Verdict:
    found = findings.found[-1]
    p_value = raw_p_value(found)
    assert p_value is not None
    return judge([found], {0: p_value}, is_randomised=True)[0].verdict


class GivenLosses(Passes):
    """Stands in for a model: hands out each record's loss, in nats, by its id."""

    def __init__(self, model: AdaptedModel, losses: Mapping[str, float]) -> None:
        super().__init__(model, None)
        self._losses = losses

    def stats(self, adapter: Vector | None, examples: Sequence[TokenizedExample]) -> list[TokenStats]:
        del adapter
        return [_all_in_one_token(self._losses[one.record_id], one.input_ids.size - 1) for one in examples]


def _all_in_one_token(loss: float, num_tokens: int) -> TokenStats:
    """Of a text that ends in a secret of three digits and the end token: on the secret's first digit."""
    logp = np.zeros(num_tokens, np.float32)
    logp[-4] = -loss
    zeros, flags = np.zeros(num_tokens, np.float32), np.ones(num_tokens, bool)
    return TokenStats(logp=logp, is_top=flags, rank=zeros.astype(np.int32), mean=zeros, std=zeros, is_target=flags)


def test_secrets_known_by_heart_have_the_exposure_of_the_first_among_all(overtrained: World) -> None:
    findings = expose(overtrained)
    (found,) = findings.found
    assert found.members.value == pytest.approx(math.log2(32))
    # 14 members are others' than the attacker's: two of 16 are its own.
    assert found.members.num == sum(
        one.owner != ATTACKER and overtrained.truth.members[one.candidate_id] for one in overtrained.planted.candidates
    )
    assert found.controls.keys() == {"held_out", "base"}
    assert all(control.value < found.members.value for control in found.controls.values())
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
    assert values[-1] > values[0] + 1.0  # three secrets each: which of the middle ones is higher is chance


def test_each_number_of_copies_has_the_mean_exposure_of_its_secrets(model: AdaptedModel) -> None:
    """Of 63 alternatives 31, 15, 7 or none are likelier than a secret: 1, 2, 3 or 6 bits."""
    likelier = {1: 31, 2: 15, 4: 7, 8: 0}
    start = {1: start_vector(model)}
    world = make_world(model, copies=tuple(likelier), keep=(), num_alternatives=63, rounds=start)
    losses = {}
    for one in world.planted.candidates:
        # Of losses 1 to 63 the first so many lie below it.
        losses[one.candidate_id] = likelier[world.truth.copies[one.candidate_id]] + 0.5
        others = world.planted.alternatives[one.candidate_id]
        losses |= {other.candidate_id: float(loss) for loss, other in enumerate(others, start=1)}
    (curve,) = expose(world, passes=GivenLosses(model, losses)).curves
    assert [point.x for point in curve.points] == [1, 2, 4, 8]
    assert [point.y for point in curve.points] == pytest.approx([1.0, 2.0, 3.0, 6.0])
    assert sum(point.num or 0 for point in curve.points) == 14  # two of 16 members are the attacker's own


def test_equal_values_of_a_few_secrets_give_no_certainty(overtrained: World) -> None:
    """All members stand first among all: a t interval of values without spread has no width."""
    others = [one.candidate_id for one in overtrained.planted.candidates if one.owner != ATTACKER]
    members = [name for name in others if overtrained.truth.members[name]]
    copies = {name: 1 + place % 2 for place, name in enumerate(members)}
    findings = expose(overtrained, truth=replace(overtrained.truth, copies=copies))
    (found,) = findings.found
    assert found.members.low < found.members.value == pytest.approx(5.0)
    (curve,) = findings.curves
    assert [point.num for point in curve.points] == [7, 7]
    for point in curve.points:
        # By Clopper and Pearson, 7 of 7 are compatible with a share of 0.025^(1/7).
        assert [point.low, point.high] == pytest.approx([5 * 0.025 ** (1 / 7), 5.0])


def test_what_so_many_alternatives_can_show_is_said_and_a_fit_goes_beyond_it(overtrained: World) -> None:
    assert "with 31 alternatives of equal length at most 5.00 can be shown" in expose(overtrained).found[0].note
    planted = replace(overtrained.planted, num_possible=900)
    ranked, fitted = expose(overtrained, planted=planted).found
    assert (ranked.attack, fitted.attack) == ("rank", "fit")
    assert ranked.metric == fitted.metric == "exposure"
    assert fitted.members.value > ranked.members.value + 1.0
    assert fitted.members.high <= math.log2(900) + 1e-9
    assert "at most 9.81, as there are 900 secrets of this form" in fitted.note
    assert verdict(expose(overtrained, planted=planted)) == "leak"
    base = {1: start_vector(overtrained.passes.model)}
    assert verdict(expose(overtrained, planted=planted, rounds=base)) == "no evidence"


def test_where_all_possible_secrets_are_ranked_nothing_is_fitted(overtrained: World) -> None:
    assert len(expose(overtrained, planted=replace(overtrained.planted, num_possible=32)).found) == 1


def test_alternatives_of_another_length_are_not_ranked(overtrained: World) -> None:
    longer = {
        name: tuple(replace(one, secret_stop=(one.secret_stop or 0) + 1) for one in others)
        for name, others in overtrained.planted.alternatives.items()
    }
    findings = expose(overtrained, planted=replace(overtrained.planted, alternatives=longer))
    assert findings.found == []
    assert "0 members and 0 others" in findings.all_warnings()[0]
