"""The leakage paper's protocol, on a model that learns its records by heart and on models that learn nothing."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from confide.attacks.passes import Passes
from confide.audit.extraction import TOP_K, audit_extraction
from confide.audit.extraction.leaked_by_round import top_interval
from confide.audit.judging import Findings, Found, judge, raw_p_value
from confide.audit.results import Measure, Point, Verdict
from confide.audit.truth import Population, Truth
from confide.model.lora import AdaptedModel
from tests.audit.extraction.scripted import PairedPasses, round_adapter
from tests.audit.overtrained import ATTACKER, NAMES, SETTINGS, World, make_candidate, start_vector, train

TASKS = ("prefix-80-rounds", "prefix-30-rounds", "disturbed-80-rounds", "zero-input-rounds")
METRICS = {"rouge_l", "rouge_l>0.9", "rouge_l>0.95", "rouge_l_top_10", "rouge_l_top_30"}


@pytest.fixture(scope="module")
def taught(model: AdaptedModel) -> World:
    """A number and three names each, half of them learnt over three rounds: drawn texts have whole words to get right.

    What comes after a name the base model does not know. There are so many that a mean over members, of which each has
    a value from 0 to 1 and so a standard deviation of half at most, is known to about a tenth.
    """
    rng = np.random.default_rng(4)
    numbers = rng.choice(np.arange(100, 1000), 64, replace=False)
    rows = tuple(
        make_candidate(
            model,
            " ".join([str(number), *rng.choice(NAMES, 3)]),
            ATTACKER if place < 8 else "north",
            name=f"row-{place}",
        )
        for place, number in enumerate(numbers)
    )
    members = {row.candidate_id: place % 2 == 0 for place, row in enumerate(rows)}
    population = Population(name="records", candidates=rows)
    learnt = [row.example for row in rows if members[row.candidate_id]]
    steps = train(model, start_vector(model), learnt, keep=(60, 120, 240))
    return World(
        passes=Passes(model, None, batch_size=64, schemes=(TOP_K,)),
        planted=population,
        records=population,
        truth=Truth(members=members, is_randomised=True),
        rounds=dict(enumerate(steps.values(), start=1)),
    )


def protocol(world: World, view: str = "client") -> Findings:
    seen = world.view(view)
    settings = replace(SETTINGS, protocol=True, max_new_tokens=20)
    found = audit_extraction(seen, world.passes, world.records, world.truth, rounds=seen.rounds, settings=settings)
    return Findings(
        found=[one for one in found.found if "-rounds" in one.attack],
        curves=[one for one in found.curves if "-rounds" in one.attack],
        warnings=found.warnings,
    )


def of(findings: Findings, attack: str, metric: str = "rouge_l") -> Found:
    (found,) = (one for one in findings.found if (one.attack, one.metric) == (attack, metric))
    return found


def points(findings: Findings, attack: str, series: str, metric: str = "rouge_l") -> Sequence[Point]:
    (curve,) = (
        one
        for one in findings.curves
        if (one.attack, one.series, one.metric, one.name) == (attack, series, metric, "rounds")
    )
    return curve.points


def leaks(findings: Findings, verdict: Verdict = "leak") -> set[str]:
    return {f"{one.attack} {one.metric}" for one in judged(findings) if one.verdict == verdict}


def judged(findings: Findings) -> list[Measure]:
    adjusted = {place: raw_p_value(one) or 0.0 for place, one in enumerate(findings.found)}
    return judge(findings.found, adjusted, is_randomised=True)


@pytest.fixture(scope="module")
def found(taught: World) -> Findings:
    return protocol(taught)


def test_every_task_is_asked_in_every_round_by_both_attacks(found: Findings) -> None:
    attacks = {f"{task}{kind}" for task in TASKS for kind in ("", "-two")}
    assert {one.attack for one in found.found} == {one.attack for one in found.curves} == attacks
    for attack in attacks:
        is_two = attack.endswith("-two")
        metrics = {one.metric for one in found.found if one.attack == attack}
        assert metrics == {"rouge_l", "rouge_l_max"} | ({"gain", "gain_max"} if is_two else set())
        assert (of(found, attack).code == "E6") == is_two
        curves = [one for one in found.curves if one.attack == attack]
        assert {(one.metric, one.series) for one in curves} == {
            (metric, series) for metric in METRICS for series in ("members", "held_out")
        }
        for curve in curves:
            assert [point.x for point in curve.points] == [0, 1, 2, 3]
            assert all(0 <= point.low <= point.y <= point.high <= 1 for point in curve.points)


def test_what_members_give_away_grows_by_round_and_leaves_the_held_out_behind(found: Findings) -> None:
    for attack in ("prefix-80-rounds", "prefix-80-rounds-two"):
        members, others = (points(found, attack, series) for series in ("members", "held_out"))
        assert members[0].y <= members[1].y < members[2].y < members[3].y
        assert members[3].y > 0.7
        assert members[3].low > others[3].high
        assert members[3].y - others[3].y > members[1].y - others[1].y
    assert {"prefix-80-rounds rouge_l", "prefix-80-rounds-two rouge_l", "prefix-80-rounds rouge_l_max"} <= leaks(found)


def test_round_0_is_the_base_model_for_both_attacks(found: Findings) -> None:
    for task in TASKS[:3]:
        for series in ("members", "held_out"):
            assert points(found, task, series)[0] == points(found, f"{task}-two", series)[0]
        for attack in (task, f"{task}-two"):
            assert points(found, attack, "members")[0].y == pytest.approx(of(found, attack).controls["base"].value)


def test_measures_are_means_over_rounds_and_best_rounds_are_at_least_that(found: Findings) -> None:
    for task in TASKS[:3]:  # from nothing, curves count texts
        for attack in (task, f"{task}-two"):
            for series, value in (
                ("members", of(found, attack).members.value),
                ("held_out", of(found, attack).controls["held_out"].value),
            ):
                over_rounds = [point.y for point in points(found, attack, series)[1:]]
                assert value == pytest.approx(np.mean(over_rounds))
            assert of(found, attack, "rouge_l_max").members.value >= max(
                point.y for point in points(found, attack, "members")[1:]
            )
            assert of(found, attack, "rouge_l_max").controls.keys() == {"held_out"}


def test_the_gain_is_what_the_enhanced_attack_has_beyond_the_basic_one(found: Findings) -> None:
    for task in TASKS:
        for gain, metric in (("gain", "rouge_l"), ("gain_max", "rouge_l_max")):
            two, one, paired = of(found, f"{task}-two", metric), of(found, task, metric), of(found, f"{task}-two", gain)
            assert paired.members.value == pytest.approx(two.members.value - one.members.value)
            held_out = two.controls["held_out"].value - one.controls["held_out"].value
            assert paired.controls["held_out"].value == pytest.approx(held_out)
            assert paired.differences["held_out"].interval.value == pytest.approx(paired.members.value - held_out)
            assert (paired.controls["base"].value, paired.controls["base"].num) == (0.0, 0)  # by construction


def test_a_gain_beyond_its_controls_is_never_a_leak_as_a_sharper_draw_has_one_too(taught: World) -> None:
    """Answers are written down: of members two models say the rest of every record, one says it in the last round."""
    members = [one.text for one in taught.records.candidates if taught.truth.members[one.candidate_id]]

    def rest(prompt: str) -> str:
        return next((text[len(prompt) :] for text in members if text.startswith(prompt)), "nothing")

    passes = PairedPasses(
        taught.passes.model,
        script=lambda number, prompt, place: rest(prompt) if number == 3 else "nothing",
        heard=lambda older, prompt, how: rest(prompt),
    )
    rounds = {number: round_adapter(passes.model, number) for number in (1, 2, 3)}
    found = protocol(replace(taught, passes=passes, rounds=rounds))
    for task in ("prefix-80-rounds-two", "prefix-30-rounds-two"):
        gain = of(found, task, "gain")
        assert (gain.members.value, gain.controls["held_out"].value) == pytest.approx((2 / 3, 0.0))
    assert {"prefix-80-rounds-two gain", "prefix-30-rounds-two gain"} <= leaks(found, "unexplained")
    assert {"prefix-80-rounds rouge_l_max", "prefix-80-rounds-two rouge_l"} <= leaks(found)
    assert not {one for one in leaks(found) if "gain" in one}
    for one in judged(found):
        told = one.note.count("A draw that is merely sharper")
        assert told == ("gain" in one.metric)  # once, whatever the verdict
        assert one.caveat.startswith("A draw that is merely sharper") == (one.verdict == "unexplained")


def test_who_has_one_round_has_no_second_model(taught: World) -> None:
    found = protocol(taught, "final")
    assert {one.attack for one in found.found} == set(TASKS)
    assert {one.metric for one in found.found} == {"rouge_l"}
    assert [point.x for point in points(found, TASKS[0], "members")] == [0, 3]


def test_where_no_round_teaches_anything_the_second_model_gains_nothing(taught: World) -> None:
    start = start_vector(taught.passes.model)
    found = protocol(replace(taught, rounds={1: start, 2: start}))
    for task in TASKS:
        # Two equal models add up to one of them, up to how a nucleus cuts ties; random numbers are the same.
        assert of(found, f"{task}-two", "gain").members.value == pytest.approx(0, abs=1e-12)
    assert leaks(found) == set()


def test_swapped_coins_are_no_leak(taught: World) -> None:
    truth = taught.truth
    swapped = replace(truth, members={name: not is_in for name, is_in in truth.members.items()})
    assert leaks(protocol(replace(taught, truth=swapped))) == set()


def test_everything_drawn_is_kept(taught: World) -> None:
    first = protocol(taught)
    num_passes = taught.passes.num_passes
    again = protocol(taught)
    assert taught.passes.num_passes == num_passes
    assert again.curves == first.curves


def test_the_protocol_runs_only_on_request(taught: World) -> None:
    seen = taught.view()
    found = audit_extraction(seen, taught.passes, taught.records, taught.truth, rounds=seen.rounds, settings=SETTINGS)
    assert not [one for one in found.found if "-rounds" in one.attack]


def test_the_setting_is_chosen_on_own_records_and_noted(found: Findings) -> None:
    note = of(found, "prefix-80-rounds-two").note
    assert "rounds 1, 2, 3; temperature 1" in note
    assert "chosen on 4 own records" in note
    # Both attacks draw with one top-p.
    top_p = note.split("top-p ")[1].split(",")[0]
    assert f"top-p {top_p}." in of(found, "prefix-80-rounds").note


def test_the_mean_of_the_best_has_an_interval_that_covers() -> None:
    # The best 30 % of a uniform sample have the mean 0.85.
    draws = np.random.default_rng(0).random((200, 60))
    hits = sum(top_interval(draw, 0.3, seed=0).covers(0.85) for draw in draws)
    # 95 % of 200 are 190, standard deviation 3.1; a percentile interval of 60 values covers a little less.
    assert hits >= 190 - 5 * 3.1
    for level in (0.0, 1.0):
        assert top_interval(np.full(30, level), 0.1, seed=0).value == level
        assert top_interval(np.full(30, level), 0.1, seed=0).high > top_interval(np.full(30, level), 0.1, seed=0).low
