"""E6: which two models go together, and how their fusion is chosen, on answers that are written down."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from confide.attacks.extraction.generated import Generated
from confide.attacks.extraction.prompts import Split
from confide.attacks.extraction.two_model import Amplification
from confide.attacks.view import View
from confide.audit.extraction import audit_extraction
from confide.audit.extraction.probe import Probe, model_name
from confide.audit.extraction.tasks import LONG, cut_prefixes
from confide.audit.extraction.two_models import (
    CHOSEN,
    ONLY_THESE,
    TEMPERATURES,
    audit_two_models,
    choose_amplification,
    describe,
)
from confide.audit.extraction.weight_space import audit_beyond
from confide.audit.judging import Findings
from confide.audit.truth import Population, Truth
from confide.model.lora import AdaptedModel
from confide.update import Vector
from tests.audit.extraction.scripted import Heard, PairedPasses, ScriptedPasses, round_adapter
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


def heard_as(model: AdaptedModel, hear: Heard, *, alone: str = "") -> PairedPasses:
    """Two models answer together as is told; one alone says always the same."""
    return PairedPasses(model, lambda _round, _prompt, _number: alone, hear)


def silent(model: AdaptedModel) -> PairedPasses:
    return heard_as(model, lambda _older, _prompt, _how: "x", alone="x")


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
    in_between = set(looked_at) - {last, before}
    assert {(newer, older) for newer, older, is_drawn in passes.pairs if not is_drawn} == {
        (last, older) for older in {before, 0, *in_between}
    }
    # And every note says so.
    assert f" Round {last} against round {before}: " in note_of(found, "two-model")
    assert f" Round {last} against the base model: " in note_of(found, "two-model-base")
    for attack in ("two-model", "two-model-base"):
        assert note_of(found, attack).endswith(ONLY_THESE) == (not in_between)
    assert (CHOSEN in {one.attack for one in found.found}) == bool(in_between)
    if in_between:
        tried = f", the best of {2 + len(in_between)} of the {len(there)} older models: "
        assert f" Round {last} against round {before}{tried}" in note_of(found, CHOSEN)
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
    assert ONLY_THESE not in note_of(found, "two-model-base")  # there is no other one


# ---- which older one is chosen

BEFORE, IN_BETWEEN = 5, (4, 3, 1)
OLDER = (BEFORE, 0, *IN_BETWEEN)
"""Of six rounds four are looked at: 1, 3, 4 and 6; in this order of equals the first is taken."""
_Reported = dict[str, tuple[Sequence[Generated], str]]


def probe_of_six(passes: ScriptedPasses, records: Population, truth: Truth) -> Probe:
    return replace(
        probe_of(passes, records, truth), view=view_of(passes.model, records, range(1, 7)), rounds=(1, 3, 4, 6)
    )


def rest_of(prompt: str, records: Population) -> str:
    (whole,) = (one.text for one in records.candidates if one.text.startswith(prompt))
    return whole[len(prompt) :]


def reported(probe: Probe, own: Sequence[Split], audit: Callable[..., Findings] = audit_two_models) -> _Reported:
    """Texts and note of each attack that is reported."""
    found: _Reported = {}

    def score(attack: str, code: str, texts: Sequence[Generated], note: str) -> Findings:
        assert code == "E6"
        found[attack] = (texts, note)
        return Findings()

    audit(probe, cut_prefixes(probe, probe.asked, LONG), own, max_new_tokens=12, score=score)
    return found


@pytest.mark.parametrize("best", OLDER)
@pytest.mark.parametrize("place", [0, 1])
def test_the_older_model_that_brings_out_most_own_records_is_found_wherever_it_stands(
    model: AdaptedModel, records: Population, truth: Truth, best: int, place: int
) -> None:
    """Each sweep has a best setting; one model brings out all of every record, with one of the two alone."""
    of_sweeps = {BEFORE: ("logits", 2.0, 1.0), 0: ("probabilities", 10.0, 0.9)}
    with_this = of_sweeps[best] if best in of_sweeps else list(of_sweeps.values())[place]
    tried: set[tuple[int, tuple[str, float, float]]] = set()

    def hear(older: int, prompt: str, how: Amplification) -> str:
        setting = setting_of(how)[:3]
        tried.add((older, setting))
        rest = rest_of(prompt, records)
        if (older, setting) == (best, with_this):
            return rest
        return rest[0] + "#" if setting == of_sweeps.get(older) else "#"

    probe = probe_of_six(heard_as(model, hear), records, truth)
    found = reported(probe, cut_prefixes(probe, probe.own, LONG))
    assert list(found) == ["two-model", "two-model-base", CHOSEN]
    texts, note = found[CHOSEN]
    assert [one.text for one in texts] == [one.remainder_text for one in cut_prefixes(probe, probe.asked, LONG)]
    strength = f"{with_this[0]}, {'beta 2' if with_this[0] == 'logits' else 'tau 0.1'}, top-p {with_this[2]:g}"
    assert note == (
        f"Round 6 against {model_name(best)}, the best of 5 of the 6 older models: {strength}, chosen on 4 own "
        "records, likeliest token. Those between the base model and round 5 are tried with the best settings of "
        "two-model and two-model-base alone."
    )
    # The others are what they are without it, and the models in between cost two settings each.
    assert "Round 6 against round 5: logits, beta 2, top-p 1, chosen on 4" in found["two-model"][1]
    assert (
        "Round 6 against the base model: probabilities, tau 0.1, top-p 0.9, chosen on 4" in found["two-model-base"][1]
    )
    whole = {(number, setting) for number in of_sweeps for setting in GRID}
    assert tried == whole | {(number, setting) for number in IN_BETWEEN for setting in of_sweeps.values()}


@pytest.mark.parametrize(
    ("good", "expected"),
    [((), 5), (OLDER, 5), ((0, 4, 3, 1), 0), ((1, 3, 4), 4), ((1, 3), 3)],
    ids=["none", "all", "base and in between", "in between", "further back"],
)
def test_of_equally_good_older_models_the_first_is_taken(
    model: AdaptedModel, records: Population, truth: Truth, good: Sequence[int], expected: int
) -> None:
    def hear(older: int, prompt: str, _how: Amplification) -> str:
        return rest_of(prompt, records) if older in good else "#"

    probe = probe_of_six(heard_as(model, hear), records, truth)
    assert probe.older == OLDER
    found = reported(probe, cut_prefixes(probe, probe.own, LONG))
    assert found[CHOSEN][1].startswith(f"Round 6 against {model_name(expected)}, the best of 5 ")
    # Where it is one of the two that have an attack of their own, so are its texts.
    own_name = {5: "two-model", 0: "two-model-base"}.get(expected)
    assert own_name is None or found[CHOSEN][0] is found[own_name][0]


def test_records_that_are_asked_about_have_no_say_in_the_choice(
    model: AdaptedModel, records: Population, truth: Truth
) -> None:
    """Own records come out by round 3, all others by round 1; others' texts or the truth about them change nothing."""
    others = [one for one in records.candidates if one.owner != ATTACKER]
    renamed = [make_candidate(model, f"{one.text[::-1]}!", one.owner, name=one.candidate_id) for one in others]
    own = [one for one in records.candidates if one.owner == ATTACKER]
    of_others = {one.candidate_id: not truth.members[one.candidate_id] for one in others}
    notes = []
    for rows, answers in (
        (others, truth),
        (others, replace(truth, members={**truth.members, **of_others})),
        (renamed, truth),
    ):
        population = replace(records, candidates=(*own, *rows))

        def hear(older: int, prompt: str, _how: Amplification, population: Population = population) -> str:
            is_own = any(one.text.startswith(prompt) for one in own)
            return rest_of(prompt, population) if older == (3 if is_own else 1) else "#"

        view = view_of(model, records, range(1, 7))
        passes = heard_as(model, hear, alone="x")
        found = audit_extraction(view, passes, population, answers, rounds=[1, 3, 4, 6], settings=SETTINGS)
        notes.append(note_of(found, CHOSEN).partition(" compared at most. ")[2])
        (exact,) = (one for one in found.found if (one.attack, one.metric) == (CHOSEN, "exact"))
        assert exact.members.value == 0.0
    assert notes[0].startswith("Round 6 against round 3, ")
    assert notes == [notes[0]] * 3


def test_no_older_model_is_chosen_without_own_records_or_without_one_in_between(
    model: AdaptedModel, records: Population, truth: Truth
) -> None:
    passes = silent(model)
    probe = probe_of_six(passes, records, truth)
    found = reported(probe, [])
    assert found.keys() == {"two-model", "two-model-base"}
    assert passes.pairs == {(6, 5, False), (6, 0, False)}
    assert all(note.endswith(ONLY_THESE) for _, note in found.values())
    own = cut_prefixes(probe, probe.own, LONG)
    for rounds in ((6,), (5, 6)):
        found = reported(replace(probe, rounds=rounds), own)
        assert found.keys() == {"two-model", "two-model-base"}
        assert all(note.endswith(ONLY_THESE) for _, note in found.values())
    # Of two rounds there are no others.
    found = reported(probe_of(passes, records, truth), own)
    assert found.keys() == {"two-model", "two-model-base"}
    assert not [note for _, note in found.values() if ONLY_THESE in note]


class BeyondPasses(ScriptedPasses):
    """Takes for the round ten times the number of `beyond_adapter`, which needs not be a whole one."""

    def round_of(self, adapter: Vector | None) -> int:
        assert adapter is not None
        (number,) = {round(10 * float(one)) for one in adapter if one != 1.0}
        return number


def beyond_adapter(model: AdaptedModel, number: int) -> Vector:
    """A round's adapter: A never changes, and all of B is the number."""
    layout = model.layout
    return layout.flatten(
        {slot.name: np.full(slot.shape, 1 if ".lora_A." in slot.name else number, np.float32) for slot in layout}
    )


@pytest.mark.parametrize(
    ("good", "expected"),
    [
        ({}, "Gamma 1 from round 5,"),
        ({80: 1}, "Gamma 2 from round 5,"),
        ({80: 1, 100: 1, 120: 1, 180: 1}, "Gamma 2 from round 5,"),
        ({80: 1, 180: 2, 100: 1}, "Gamma 2 from the base model,"),
        ({80: 1, 120: 2}, "Gamma 2 from round 3,"),
        ({80: 1, 120: 2, 160: 2}, "Gamma 2 from round 3,"),
        ({80: 1, 160: 2, 180: 2}, "Gamma 2 from the base model,"),
        ({70: 1, 80: 1, 90: 2}, "Gamma 1 from round 3,"),
    ],
)
def test_gamma_is_chosen_for_the_round_before_and_then_the_older_model(
    model: AdaptedModel, records: Population, truth: Truth, good: Mapping[int, int], expected: str
) -> None:
    """Round 6 moved on by gamma from round s is 6 + gamma (6 - s); good ones say so many letters."""

    def script(number: int, prompt: str, _place: int) -> str:
        return rest_of(prompt, records)[: good[number]] if number in good else "#"

    passes = BeyondPasses(model, script)
    probe = probe_of_six(passes, records, truth)
    adapters = {number: partial(beyond_adapter, model, number) for number in range(1, 7)}
    probe = replace(probe, view=replace(probe.view, adapters=adapters))
    own = cut_prefixes(probe, probe.own, LONG)
    _, note = reported(probe, own, audit_beyond)["weight-space"]
    assert note.startswith(expected)
    assert note.endswith(
        " chosen on 4 own records (gamma for round 5, then the best of 5 of the 6 older models), likeliest token."
    )
    # Four gammas, four more models with the one that was best, and what is asked about.
    gamma, asked = float(note.split()[1]), [one.round for one in passes.asked]
    by_model = {older: round(10 * (6 + gamma * (6 - older))) for older in OLDER}
    assert asked[:-1] == [70, 65, 80, 100, *(by_model[older] for older in OLDER[1:])]
    assert asked[-1] == by_model[next(older for older in OLDER if f"from {model_name(older)}," in note)]
    assert passes.asked[-1].num_prompts == 8
    _, preset = reported(probe, [], audit_beyond)["weight-space"]
    assert preset == "Gamma 1 from round 5, as preset: no own records to tune on, likeliest token."
    assert [one.round for one in passes.asked[len(asked) :]] == [70]


# ---- how they are fused


def probe_of(passes: ScriptedPasses, records: Population, truth: Truth) -> Probe:
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
    def hear(_older: int, prompt: str, how: Amplification) -> str:
        """All is right at the best setting, nothing elsewhere."""
        return rest_of(prompt, records) if setting_of(how)[:3] == best else "#"

    passes = heard_as(model, hear)
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
    def hear(_older: int, prompt: str, how: Amplification) -> str:
        return rest_of(prompt, records) if how.scheme.temperature == TEMPERATURES[1] else "#"

    passes = heard_as(model, hear)
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

    def hear(_older: int, prompt: str, how: Amplification) -> str:
        """A wide nucleus and a cool draw bring out most."""
        whole = next((text for text in texts if prompt and text.startswith(prompt)), prompt)
        worth = (how.scheme.top_p == SETTINGS.top_ps[1]) + (how.scheme.temperature == TEMPERATURES[1])
        return whole[len(prompt) :][: 2 * worth] or "#"

    passes = heard_as(model, hear, alone="x")
    view = view_of(model, records, [1, 2])
    settings = replace(SETTINGS, protocol=True)
    found = audit_extraction(view, passes, records, truth, rounds=[1, 2], settings=settings)
    enhanced = {setting_of(how)[2:] for how in passes.calls[-1]}
    assert enhanced == {(SETTINGS.top_ps[1], TEMPERATURES[1])}
    # The last three: the base model and two rounds; before them texts from nothing, with settings of their own.
    assert {(one.top_p, one.temperature) for one in passes.samplings[-3:]} == enhanced
    for attack in ("prefix-80-rounds", "prefix-80-rounds-two"):
        assert re.search(r"temperature 0\.7, .*top-p 1\b", note_of(found, attack)), attack
