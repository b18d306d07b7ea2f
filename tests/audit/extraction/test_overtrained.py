"""Extraction from a model that knows its records by heart, and from models that do not."""

import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from confide.attacks.extraction.weight_space import extrapolate
from confide.attacks.passes import Passes
from confide.audit.extraction import TOP_K, audit_extraction, prefixes
from confide.audit.judging import Findings, Found, judge, raw_p_value
from confide.audit.membership import audit_membership
from confide.audit.truth import Population
from confide.evaluate.generation import Answer
from confide.update import Vector
from tests.audit.overtrained import ATTACKER, SETTINGS, World, start_vector


def extract(world: World, population: Population, view: str = "client", **settings: Any) -> Findings:
    seen = world.view(view)
    return audit_extraction(
        seen,
        world.passes,
        population,
        world.truth,
        rounds=seen.rounds,
        settings=replace(SETTINGS, **settings),
    )


def of(findings: Findings, attack: str, metric: str = "exact") -> Found:
    (found,) = (one for one in findings.found if (one.attack, one.metric) == (attack, metric))
    return found


def leaks(findings: Findings) -> set[str]:
    adjusted = {place: raw_p_value(one) or 0.0 for place, one in enumerate(findings.found)}
    measures = judge(findings.found, adjusted, is_randomised=True)
    return {f"{one.attack} {one.metric}" for one in measures if one.verdict == "leak"}


SAMPLES = ("probabilistic", "within_100")


@pytest.fixture(scope="module")
def planted(overtrained: World) -> Findings:
    return extract(overtrained, overtrained.planted)


@pytest.fixture(scope="module")
def records(overtrained: World) -> Findings:
    return extract(overtrained, overtrained.records)


@pytest.fixture(scope="module")
def untrained(overtrained: World) -> World:
    """Every round's model is the base model."""
    start = start_vector(overtrained.passes.model)
    return replace(overtrained, rounds={1: start, 2: start})


def test_planted_secrets_come_out_of_members_and_of_nothing_else(planted: Findings) -> None:
    greedy = of(planted, "greedy")
    assert greedy.members.value > 0.9
    for control in greedy.controls.values():  # one of 900 codes may be guessed
        assert control.value <= 1 / control.num
    assert {"greedy exact", "union exact"} <= leaks(planted)
    assert {"two-model exact", "two-model-base exact", "two-model-chosen exact"} <= leaks(planted)
    assert "probabilistic within_100" in leaks(planted)


def test_planted_secrets_come_out_of_a_model_a_little_beyond_one_that_knows_them_by_heart(overtrained: World) -> None:
    """The last step is a twentieth of the way: how far beyond a trained model the next one breaks is chance."""
    start, known = start_vector(overtrained.passes.model), overtrained.rounds[3]
    rounds = {1: start + (known - start) * np.float32(0.95), 2: known}
    found = extract(replace(overtrained, rounds=rounds), overtrained.planted)
    assert of(found, "weight-space").members.value > 0.9
    assert "weight-space exact" in leaks(found)


def test_records_come_out_behind_their_beginning(records: Findings) -> None:
    assert of(records, "prefix-80").members.value > 0.9
    assert of(records, "prefix-80").controls["held_out"].value < 0.3
    assert {"prefix-80 exact", "prefix-80 rouge_l", "two-model exact"} <= leaks(records)
    assert {one.code for one in records.found} == {"E2", "E4", "E5", "E6"}


def test_every_number_says_how_much_is_given_and_how_much_compared(planted: Findings, records: Findings) -> None:
    # The begin token, a word of 4 to 6 letters and a blank; three digits.
    assert "Behind 7 tokens on average, 3 tokens compared at most." in of(planted, "greedy").note
    for findings in (planted, records):
        for one in findings.found:
            assert re.search(r"Behind \d+ tokens on average, \d+ tokens compared at most|texts", one.note), one.attack
    needed = re.search(r"members needs ([\d.]+) samples, that of the others ([\d.]+) sam", of(planted, *SAMPLES).note)
    assert needed is not None
    assert 1 <= float(needed[1]) < 200 < float(needed[2])  # of 900 codes, 624 draws bring out one for an even chance


def test_what_is_compared_is_no_longer_than_what_is_generated(overtrained: World) -> None:
    found = extract(overtrained, overtrained.records, max_new_tokens=2)
    assert "2 tokens compared at most" in of(found, "prefix-30").note


def test_a_model_beyond_the_last_round_is_chosen_on_own_records(overtrained: World, planted: Findings) -> None:
    note = of(planted, "weight-space").note
    assert re.search(
        r"Gamma [\d.]+ from (round [12]|the base model),.* chosen on 2 own records \(gamma for round 2,", note
    )
    alone = extract(overtrained, overtrained.planted, "final")
    assert "Gamma 1 from the base model, as preset" in of(alone, "weight-space").note


@pytest.mark.parametrize("view", ["final", "client"])
def test_a_model_beyond_the_last_round_says_what_the_extrapolated_adapter_says(overtrained: World, view: str) -> None:
    """Of a model on the way to one that knows the records by heart: what comes out of it and beyond it differ."""
    layout, start = overtrained.passes.model.layout, start_vector(overtrained.passes.model)
    # As both factors grow, seven tenths of the way are half of the product: from there one step more is all of it.
    early = {
        number: start + (overtrained.rounds[3] - start) * np.float32(share) for number, share in ((1, 0.35), (2, 0.7))
    }
    rounds = early if view == "client" else {1: early[2]}
    found = of(extract(replace(overtrained, rounds=rounds), overtrained.planted, view), "weight-space")
    gamma = re.search(r"Gamma ([\d.]+) from (round 1|the base model),", found.note)
    assert gamma is not None
    last, older = early[2], {"round 1": early[1], "the base model": None}[gamma[2]]
    beyond = extrapolate(layout, last, older, float(gamma[1])).vector
    expected = of(extract(replace(overtrained, rounds={1: beyond}), overtrained.planted, view), "greedy")
    assert found.outcomes is not None
    assert expected.outcomes is not None
    np.testing.assert_array_equal(found.outcomes.values, expected.outcomes.values)
    plain = of(extract(replace(overtrained, rounds={1: last}), overtrained.planted, view), "greedy")
    assert plain.outcomes is not None
    assert (plain.outcomes.values != found.outcomes.values).any()


class SaysAlready(Passes):
    """Passes whose base model writes what a trained one does."""

    known: Vector

    def generate(
        self, adapter: Vector | None, prompts: Sequence[Sequence[int]], *, max_new_tokens: int, **options: Any
    ) -> list[Answer]:
        adapter = self.known if adapter is None else adapter
        return super().generate(adapter, prompts, max_new_tokens=max_new_tokens, **options)


def test_a_secret_that_the_base_model_says_anyway_is_no_leak_of_any_attack(overtrained: World) -> None:
    passes = SaysAlready(overtrained.passes.model, None, batch_size=64, schemes=(TOP_K,))
    passes.known = overtrained.rounds[max(overtrained.rounds)]
    findings = extract(replace(overtrained, passes=passes), overtrained.planted)
    greedy = of(findings, "greedy")
    for attack in ("greedy", "union", "two-model", "two-model-base", "two-model-chosen", "weight-space"):
        assert of(findings, attack).controls["base"].value == greedy.members.value > 0.9, attack
    assert not [name for name in leaks(findings) if name.endswith(" exact")]


def test_records_that_are_long_enough_are_asked_for_fifty_tokens_behind_fifty(
    overtrained: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not [one for one in extract(overtrained, overtrained.records).found if "-tokens" in one.attack]
    monkeypatch.setattr(prefixes, "NUM_PROMPT", 6)
    monkeypatch.setattr(prefixes, "NUM_REMAINDER", 3)
    found = of(extract(overtrained, overtrained.records), "prefix-50-tokens")
    assert found.code == "E1"
    assert "Behind 6 tokens on average, 3 tokens compared at most." in found.note
    is_longer = [one for one in overtrained.records.candidates if len(one.text) + 1 >= 9 and one.owner != ATTACKER]
    assert found.members.num + found.controls["held_out"].num == len(is_longer)


def test_the_union_has_what_any_round_has_and_rounds_start_at_the_base_model(planted: Findings) -> None:
    curves = {curve.series: curve for curve in planted.curves if (curve.attack, curve.name) == ("greedy", "rounds")}
    assert curves.keys() == {"members", "held_out"}
    points = curves["members"].points
    assert [point.x for point in points] == [0, 1, 2, 3]
    assert points[0].y == of(planted, "greedy").controls["base"].value
    assert points[-1].y == of(planted, "greedy").members.value
    assert of(planted, "union").members.value >= max(point.y for point in points[1:])


def test_rates_grow_with_the_number_of_samples_and_members_are_above_the_controls(planted: Findings) -> None:
    curves = {curve.series: curve.points for curve in planted.curves if curve.name == "samples"}
    assert curves.keys() == {"members", "held_out", "base"}
    for points in curves.values():
        assert [point.y for point in points] == sorted(point.y for point in points)
        assert all(point.low <= point.y <= point.high for point in points)
    assert curves["members"][0].y > max(curves["held_out"][0].y, curves["base"][0].y)
    over_rounds = [curve for curve in planted.curves if (curve.attack, curve.name) == ("probabilistic", "rounds")]
    assert [curve.points[0].x for curve in over_rounds] == [0, 0]


def test_the_two_model_attack_is_tuned_on_own_records_that_were_trained_on(
    overtrained: World, planted: Findings
) -> None:
    num_own = sum(
        one.owner == ATTACKER and overtrained.truth.members[one.candidate_id] for one in overtrained.planted.candidates
    )
    assert num_own == 2
    assert "chosen on 2 own records" in of(planted, "two-model").note
    assert re.search(
        r", the best of 3 of the 3 older models: .* on 2 own records", of(planted, "two-model-chosen").note
    )
    assert "no own records" in of(extract(overtrained, overtrained.planted, "final"), "two-model-base").note


def test_who_has_only_the_final_model_gets_no_attack_on_rounds(overtrained: World) -> None:
    found = extract(overtrained, overtrained.planted, "final")
    assert {one.attack for one in found.found} == {"greedy", "probabilistic", "two-model-base", "weight-space"}
    assert of(found, "greedy").members.num == 16  # nobody's own are left out
    records = extract(overtrained, overtrained.records, "final")
    assert {one.attack for one in records.found if one.code == "E6"} == {"two-model-base", "weight-space"}
    assert "two-model-base exact" in leaks(records)


def test_the_attackers_own_records_are_not_counted(overtrained: World, planted: Findings) -> None:
    assert of(planted, "greedy").members.num == 14
    own = {one.candidate_id for one in overtrained.planted.candidates if one.owner == ATTACKER}
    assert not own & {one.candidate_id for one in planted.memorised}


def test_what_came_out_is_redacted_under_a_key_unless_its_owner_asks(overtrained: World, planted: Findings) -> None:
    assert planted.memorised
    for one in planted.memorised:
        secret = overtrained.truth.secrets[one.candidate_id]
        assert overtrained.truth.members[one.candidate_id]
        assert (one.text, one.truth) == (None, None)
        assert one.sha256 == hmac.new(b"key", secret.encode(), hashlib.sha256).hexdigest()
        # Trying all 900 secrets of this form gives nothing away without the key.
        assert one.sha256 not in {hashlib.sha256(str(code).encode()).hexdigest() for code in range(100, 1000)}
        assert secret not in one.model_dump_json().replace(one.sha256, "")
    shown = extract(overtrained, overtrained.planted, shows_text=True).memorised
    assert {one.truth for one in shown} <= set(overtrained.truth.secrets.values())


def test_nothing_leaks_from_the_base_model(untrained: World) -> None:
    for population in (untrained.planted, untrained.records):
        findings = extract(untrained, population)
        assert leaks(findings) == set()
        for one in findings.found:
            # The same model twice says the same with the same prompts. (Two equal models add up to one of them, but in
            # the two-model attack a narrower nucleus may cut ties differently.)
            if one.code != "E6" and one.metric != "top_10":
                assert one.members.value == pytest.approx(one.controls["base"].value), (one.attack, one.metric)


def test_nothing_leaks_with_swapped_coins(overtrained: World) -> None:
    truth = overtrained.truth
    swapped = replace(truth, members={name: not is_in for name, is_in in truth.members.items()})
    for population in (overtrained.planted, overtrained.records):
        assert leaks(extract(replace(overtrained, truth=swapped), population)) == set()


def test_one_sided_populations_are_reported_and_not_measured(overtrained: World) -> None:
    members = [one for one in overtrained.planted.candidates if overtrained.truth.members[one.candidate_id]]
    findings = extract(overtrained, replace(overtrained.planted, candidates=tuple(members)))
    assert findings.found == []
    assert "at least 2 of each are needed" in findings.all_warnings()[0]
    assert [(one.family, one.population, one.metrics) for one in findings.unmeasured] == [
        ("extraction", "personal", [])
    ]


def test_every_reference_attack_tells_members_known_by_heart(overtrained: World) -> None:
    view = overtrained.view("final")
    client = overtrained.view()
    for seen in (view, client):
        findings = audit_membership(
            seen,
            overtrained.passes,
            overtrained.records,
            overtrained.truth,
            held_out=[],
            rounds=seen.rounds,
            seed=0,
        )
        areas = {one.attack: one.members.value for one in findings.found if one.metric == "auc"}
        for attack in ("reference", "reference_ratio", "ez", "wbc"):
            assert areas[attack] > 0.99, attack
    assert np.isfinite(list(areas.values())).all()
