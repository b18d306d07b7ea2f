"""E6: which two models go together, and how their fusion is chosen, on answers that are written down."""

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import pytest

from confide.attacks.extraction.two_model import Amplification
from confide.attacks.view import View
from confide.audit.extraction import audit_extraction
from confide.audit.extraction.probe import Probe
from confide.audit.extraction.tasks import LONG, cut_prefixes
from confide.audit.extraction.two_models import ONLY_THESE, TEMPERATURES, choose_amplification, describe
from confide.audit.judging import Findings
from confide.audit.truth import Population, Truth
from confide.model.lora import AdaptedModel
from tests.audit.extraction.scripted import PairedPasses, round_adapter
from tests.audit.overtrained import ATTACKER, NAMES, SETTINGS, make_candidate


@pytest.fixture(scope="module")
def records(model: AdaptedModel) -> Population:
    rows = [
        make_candidate(model, f"{name} {NAMES[-1 - place]}", ATTACKER if place < 4 else "north", name=f"row-{place}")
        for place, name in enumerate(NAMES[:12])
    ]
    return Population(name="records", candidates=tuple(rows))


@pytest.fixture(scope="module")
def truth(records: Population) -> Truth:
    members = {one.candidate_id: place % 2 == 0 for place, one in enumerate(records.candidates)}
    return Truth(members=members, is_randomised=True)


def view_of(model: AdaptedModel, records: Population, rounds: Sequence[int], name: str = "client") -> View:
    own = [one for one in records.candidates if one.owner == ATTACKER] if name == "client" else []
    return View(
        name="client" if name == "client" else "final",
        party=name,
        layout=model.layout,
        adapters={number: partial(round_adapter, model, number) for number in rounds},
        own_examples=tuple(one.example for one in own),
        own_clients=frozenset({ATTACKER} if own else ()),
    )


def silent(model: AdaptedModel) -> PairedPasses:
    return PairedPasses(model, lambda _round, _prompt, _number: "x", lambda _prompt, _how: "x")


def note_of(findings: Findings, attack: str) -> str:
    gains = ("gain", "gain_max")
    (note,) = {one.note for one in findings.found if one.attack == attack and one.metric not in gains}
    of_gains = {one.note for one in findings.found if one.attack == attack and one.metric in gains}
    assert all(one.startswith(note) and one.endswith("and amplifying makes draws sharper.") for one in of_gains)
    return note


def rounds_in(text: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", text)))


# ---- which two


@pytest.mark.parametrize(
    ("there", "looked_at", "expected"),
    [
        (range(1, 10), (1, 5, 9), {(1, 0), (5, 4), (9, 8)}),
        (range(1, 10), (9,), {(9, 8)}),
        ((2, 4, 5, 9), (2, 5, 9), {(2, 0), (5, 4), (9, 5)}),
        ((500, 1000, 1500, 2000), (500, 2000), {(500, 0), (2000, 1500)}),
    ],
    ids=["thinned", "the last alone", "with holes", "checkpoints"],
)
def test_a_round_is_set_against_the_one_right_before_it_whatever_is_looked_at(
    model: AdaptedModel,
    records: Population,
    truth: Truth,
    there: Sequence[int],
    looked_at: Sequence[int],
    expected: set[tuple[int, int]],
) -> None:
    passes = silent(model)
    found = audit_extraction(
        view_of(model, records, there),
        passes,
        records,
        truth,
        rounds=looked_at,
        settings=replace(SETTINGS, protocol=True, max_new_tokens=4),
    )
    assert {(newer, older) for newer, older, is_drawn in passes.pairs if is_drawn} == expected
    last = max(looked_at)
    before = dict(expected)[last]
    assert {(newer, older) for newer, older, is_drawn in passes.pairs if not is_drawn} == {(last, before), (last, 0)}
    # And every note says so.
    assert f" Round {last} against round {before}: " in note_of(found, "two-model")
    assert f" Round {last} against the base model: " in note_of(found, "two-model-base")
    for attack in ("two-model", "two-model-base"):
        assert note_of(found, attack).endswith(ONLY_THESE)
    assert f" from round {before}," in note_of(found, "weight-space")
    for attack in ("prefix-80-rounds", "prefix-80-rounds-two"):
        (drawn,) = re.findall(r"each of the rounds ([\d, ]+);", note_of(found, attack))
        assert rounds_in(drawn) == tuple(looked_at)
    (pairs,) = re.findall(
        r"Rounds (\d+ against .*); no other pairs are tried\.$", note_of(found, "prefix-80-rounds-two")
    )
    assert rounds_in(pairs.replace("the base model", "0")) == tuple(one for pair in sorted(expected) for one in pair)
    assert {point.x for curve in found.curves if curve.name == "rounds" for point in curve.points} == {0, *looked_at}


def test_who_has_the_final_model_alone_sets_it_against_the_base_model(
    model: AdaptedModel, records: Population, truth: Truth
) -> None:
    passes = silent(model)
    view = view_of(model, records, [9], "final")
    found = audit_extraction(view, passes, records, truth, rounds=[9], settings=SETTINGS)
    assert passes.pairs == {(9, 0, False)}
    assert {one.attack for one in found.found if one.code == "E6"} == {"two-model-base", "weight-space"}
    assert "Round 9 against the base model: " in note_of(found, "two-model-base")


# ---- how they are fused


def probe_of(passes: PairedPasses, records: Population, truth: Truth) -> Probe:
    return Probe(
        view=view_of(passes.model, records, [1, 2]),
        passes=passes,
        asked=replace(records, candidates=tuple(one for one in records.candidates if one.owner != ATTACKER)),
        own=replace(records, candidates=tuple(one for one in records.candidates if one.owner == ATTACKER)),
        truth=truth,
        rounds=(1, 2),
        settings=SETTINGS,
    )


def setting_of(how: Amplification) -> tuple[str, float, float, float]:
    return (how.difference, round(how.beta, 9), how.scheme.top_p, how.scheme.temperature)


GRID = {
    (difference, beta, top_p)
    for difference, betas in (("probabilities", (100.0, 10.0, 1.0)), ("logits", (0.5, 1.0, 2.0, 4.0)))
    for beta in betas
    for top_p in SETTINGS.top_ps
}


@pytest.mark.parametrize("best", sorted(GRID))
@pytest.mark.parametrize("seed", [None, 3])
def test_the_setting_that_brings_out_most_own_records_is_found_wherever_it_stands(
    model: AdaptedModel, records: Population, truth: Truth, best: tuple[str, float, float], seed: int | None
) -> None:
    texts = [one.text for one in records.candidates]

    def hear(prompt: str, how: Amplification) -> str:
        """All is right at the best setting, nothing elsewhere."""
        (whole,) = (text for text in texts if text.startswith(prompt))
        return whole[len(prompt) :] if setting_of(how)[:3] == best else "#"

    passes = PairedPasses(model, lambda _round, _prompt, _number: "", hear)
    probe = probe_of(passes, records, truth)
    own = cut_prefixes(probe, probe.own, LONG)
    chosen = choose_amplification(probe, probe.final, probe.adapter(1), own, max_new_tokens=12, seed=seed)
    assert setting_of(chosen) == (*best, TEMPERATURES[0])
    assert chosen.seed == seed
    # One batch for the grid, and where something is drawn one more for the temperature.
    tried = [{setting_of(how) for how in call} for call in passes.calls]
    assert tried[0] == {(*one, 1.0) for one in GRID}
    assert tried[1:] == ([] if seed is None else [{(*best, temperature) for temperature in TEMPERATURES}])
    assert all(len(call) == len(settings) * len(own) for call, settings in zip(passes.calls, tried, strict=True))
    strength = "tau" if best[0] == "probabilities" else "beta"
    assert describe(chosen, own).startswith(f"{best[0]}, {strength} ")
    assert describe(chosen, own).endswith(f"top-p {best[2]:g}, chosen on 4 own records")


def test_a_draw_s_temperature_is_chosen_too(model: AdaptedModel, records: Population, truth: Truth) -> None:
    texts = [one.text for one in records.candidates]

    def hear(prompt: str, how: Amplification) -> str:
        (whole,) = (text for text in texts if text.startswith(prompt))
        return whole[len(prompt) :] if how.scheme.temperature == TEMPERATURES[1] else "#"

    passes = PairedPasses(model, lambda _round, _prompt, _number: "", hear)
    probe = probe_of(passes, records, truth)
    own = cut_prefixes(probe, probe.own, LONG)
    drawn = choose_amplification(probe, probe.final, None, own, max_new_tokens=12, seed=1)
    assert drawn.scheme.temperature == TEMPERATURES[1]
    assert drawn.scheme.top_p == SETTINGS.top_ps[0]
    likeliest = choose_amplification(probe, probe.final, None, own, max_new_tokens=12, seed=None)
    assert likeliest.scheme.temperature == 1.0
    preset = choose_amplification(probe, probe.final, None, [], max_new_tokens=12, seed=1)
    assert setting_of(preset) == ("probabilities", 100.0, SETTINGS.top_ps[0], TEMPERATURES[0])


def test_basic_and_enhanced_attack_draw_at_the_same_top_p_and_temperature(
    model: AdaptedModel, records: Population, truth: Truth
) -> None:
    texts = [one.text for one in records.candidates]

    def hear(prompt: str, how: Amplification) -> str:
        """A wide nucleus and a cool draw bring out most."""
        whole = next((text for text in texts if prompt and text.startswith(prompt)), prompt)
        worth = (how.scheme.top_p == SETTINGS.top_ps[1]) + (how.scheme.temperature == TEMPERATURES[1])
        return whole[len(prompt) :][: 2 * worth] or "#"

    passes = PairedPasses(model, lambda _round, _prompt, _number: "x", hear)
    view = view_of(model, records, [1, 2])
    settings = replace(SETTINGS, protocol=True)
    found = audit_extraction(view, passes, records, truth, rounds=[1, 2], settings=settings)
    enhanced = {setting_of(how)[2:] for how in passes.calls[-1]}
    assert enhanced == {(SETTINGS.top_ps[1], TEMPERATURES[1])}
    # The last three: the base model and two rounds; before them texts from nothing, with settings of their own.
    assert {(one.top_p, one.temperature) for one in passes.samplings[-3:]} == enhanced
    for attack in ("prefix-80-rounds", "prefix-80-rounds-two"):
        assert re.search(r"temperature 0\.7, .*top-p 1\b", note_of(found, attack)), attack
