"""Exposure, scored: full where secrets are known by heart, that of guessing where they are not."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from confide.attacks.candidates import Candidate, PossibleSecrets
from confide.attacks.passes import Passes
from confide.attacks.token_stats import TokenStats
from confide.audit.exposure import audit_exposure
from confide.audit.judging import Findings, judge, raw_p_value
from confide.audit.outcomes import keep_outcomes
from confide.audit.results import Ranks, Verdict
from confide.audit.truth import Population
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
    assert verdict(findings) == "too few records"


def test_swapped_coins_turn_a_leak_into_none(overtrained: World) -> None:
    truth = overtrained.truth
    swapped = replace(truth, members={name: not is_in for name, is_in in truth.members.items()})
    assert verdict(expose(overtrained, truth=swapped)) == "too few records"


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
    assert verdict(expose(overtrained, planted=planted, rounds=base)) == "too few records"


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


def possible(world: World, candidate: Candidate, codes: Sequence[str]) -> PossibleSecrets:
    """A candidate's own three digits and, behind them, these."""
    start, own = candidate.secret_start, candidate.example.input_ids
    assert start is not None
    rows = [world.passes.model.tokenizer(code, add_special_tokens=False)["input_ids"] for code in codes]
    others = np.array(rows, np.int32).reshape(-1, 3)
    return PossibleSecrets(
        candidate_id=candidate.candidate_id,
        beginning=own[:start],
        secrets=np.concatenate([own[None, start : start + 3].astype(np.int32), others]),
    )


def all_ranked(world: World) -> Population:
    """The planted secrets, each among all 900 numbers of three digits."""
    codes = [str(code) for code in range(100, 1000)]
    every = {
        one.candidate_id: partial(
            possible, world, one, [code for code in codes if code != world.truth.secrets[one.candidate_id]]
        )
        for one in world.planted.candidates
    }
    return replace(world.planted, alternatives={}, every_secret=every, num_possible=900)


def test_among_all_secrets_those_known_by_heart_reach_all_bits(overtrained: World) -> None:
    findings = expose(overtrained, planted=all_ranked(overtrained))
    (found,) = findings.found
    assert found.attack == "rank"
    assert found.members.value == pytest.approx(math.log2(900))
    assert "by its rank of all 900 secrets of its form, at most 9.81 can be shown" in found.note
    assert verdict(findings) == "leak"


def test_among_all_secrets_those_that_were_never_planted_stand_anywhere(overtrained: World) -> None:
    base = {1: start_vector(overtrained.passes.model)}
    findings = expose(overtrained, planted=all_ranked(overtrained), rounds=base)
    assert verdict(findings) == "too few records"
    for one in (findings.found[0].members, findings.found[0].controls["held_out"]):
        # -log2 of a uniform rank has a spread of 1.44 bits; four times that of a mean.
        assert abs(one.value - 1 / math.log(2)) < 4 * 1.44 / math.sqrt(one.num)


def test_the_same_others_give_the_same_ranks_as_tokens_and_as_records(ladder: World) -> None:
    """Where not everything is known by heart: ranks of every height."""
    every = {
        one.candidate_id: partial(
            possible,
            ladder,
            one,
            [
                other.candidate_id.removeprefix(f"{one.candidate_id}-")
                for other in ladder.planted.alternatives[one.candidate_id]
            ],
        )
        for one in ladder.planted.candidates
    }
    as_tokens = expose(ladder, planted=replace(ladder.planted, alternatives={}, every_secret=every))
    as_records = expose(ladder)
    (found,), (expected,) = as_tokens.found, as_records.found
    assert 0.5 < expected.members.value < 4.9
    assert (found.members, found.controls) == (expected.members, expected.controls)
    assert as_tokens.curves == as_records.curves


def test_what_cannot_be_compared_is_told_and_a_secret_without_others_is_left_alone(overtrained: World) -> None:
    planted = all_ranked(overtrained)
    first, second = [one for one in planted.candidates if one.owner != ATTACKER][:2]
    codes = [str(code) for code in range(100, 1000)]
    short = {
        first.candidate_id: partial(possible, overtrained, first, []),
        second.candidate_id: partial(possible, overtrained, second, codes[:449]),
    }
    findings = expose(overtrained, planted=replace(planted, every_secret={**planted.every_secret, **short}))
    (found,) = findings.found
    all_found = expose(overtrained, planted=planted).found[0]
    assert found.members.num + found.controls["held_out"].num == (
        all_found.members.num + all_found.controls["held_out"].num - 1
    )
    assert "of those 450 to 900 of all 900 secrets of its form" in found.note


def test_the_bound_in_the_note_is_that_of_each_secrets_own_others(overtrained: World) -> None:
    """All secrets that went in stand first: each has as many bits as its others allow, from 4 values to 900."""
    planted = all_ranked(overtrained)
    others_than_attackers = [one for one in planted.candidates if one.owner != ATTACKER]
    first = next(one for one in others_than_attackers if overtrained.truth.members[one.candidate_id])
    own = overtrained.truth.secrets[first.candidate_id]
    others = [code for code in ("100", "200", "300", "400") if code != own][:3]
    few = {first.candidate_id: partial(possible, overtrained, first, others)}
    (found,) = expose(overtrained, planted=replace(planted, every_secret={**planted.every_secret, **few})).found
    assert "of those 4 to 900 of all 900 secrets of its form" in found.note
    assert "at most between 2.00 and 9.81 bits can be shown, by the secret" in found.note
    assert found.outcomes is not None
    assert found.outcomes.base is not None
    values = found.outcomes.values[found.outcomes.labels]
    assert (values.min(), values.max()) == pytest.approx((2.0, math.log2(900)))
    assert max(found.outcomes.values.max(), found.outcomes.base.max()) <= math.log2(900)
    assert found.outcomes.ranks == Ranks(fewest=4, most=900)


def test_the_bound_in_the_note_is_a_span_for_samples_too(overtrained: World) -> None:
    alternatives = dict(overtrained.planted.alternatives)
    first = next(one.candidate_id for one in overtrained.planted.candidates if one.owner != ATTACKER)
    alternatives[first] = alternatives[first][:3]
    (found,) = expose(overtrained, planted=replace(overtrained.planted, alternatives=alternatives)).found
    assert "with 3 to 31 alternatives of equal length at most between 2.00 and 5.00 bits can be shown" in found.note
    assert found.outcomes is not None
    assert found.outcomes.values.max() == pytest.approx(5.0)


def test_among_how_many_secrets_stand_is_kept_with_what_happened_to_them(overtrained: World) -> None:
    ranked, fitted = expose(overtrained, planted=replace(overtrained.planted, num_possible=900)).found
    (among_all,) = expose(overtrained, planted=all_ranked(overtrained)).found
    for found, num in ((ranked, 32), (fitted, 900), (among_all, 900)):
        _, (kept,) = keep_outcomes([found.outcomes], b"data")
        assert kept is not None
        assert kept.ranks == Ranks(fewest=num, most=num)
