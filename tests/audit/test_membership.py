"""Membership, scored: nulls stay null, what is there is found, and nothing is said that the records do not carry."""

from dataclasses import replace
from typing import cast

import numpy as np
import pytest

from confide.attacks.membership import MEMBERSHIP_ATTACKS
from confide.attacks.passes import Passes
from confide.audit.areas import area
from confide.audit.judging import Findings, Found, Subject, judge, raw_p_value
from confide.audit.membership import BEST, EPSILON_SCORES, SECRET_GAIN, audit_membership
from confide.audit.outcomes import RecordOutcomes
from confide.audit.results import Measure
from confide.audit.statistics import auc, holm, uniformity_p_value
from confide.audit.truth import Truth
from confide.errors import ModelError
from tests.audit.made_case import ROUNDS, GivenStats, MadeCase, client_view, make_case

STRONG = 0.1
"""Of every round: each token of a member costs 0.67 of what it did after four of them."""


def audit(case: MadeCase, *, passes: GivenStats | None = None, truth: Truth | None = None) -> Findings:
    stands_in = cast(Passes, passes or case.passes)
    return audit_membership(
        case.view,
        stands_in,
        case.population,
        truth or case.truth,
        held_out=case.held_out,
        rounds=case.view.rounds,
        seed=0,
    )


def judged(found: list[Found], *, is_randomised: bool = True) -> list[Measure]:
    """With Holm's correction over all of one metric, as an auditor does it."""
    adjusted: dict[int, float] = {}
    for metric in {one.metric for one in found}:
        places = [place for place, one in enumerate(found) if one.metric == metric]
        values = [1.0 if (p := raw_p_value(found[place])) is None else p for place in places]
        adjusted |= dict(zip(places, holm(values).tolist(), strict=True))
    return judge(found, adjusted, is_randomised=is_randomised)


def leaks(findings: Findings, *, is_randomised: bool = True) -> list[str]:
    return [one.key for one in judged(findings.found, is_randomised=is_randomised) if one.verdict == "leak"]


def of(findings: Findings, attack: str, metric: str = "auc") -> Found:
    (found,) = (one for one in findings.found if (one.attack, one.metric) == (attack, metric))
    return found


@pytest.fixture(scope="module")
def trained() -> tuple[MadeCase, Findings]:
    case = make_case(0, num_candidates=200, effect=STRONG)
    return case, audit(case)


# ---- nulls


def test_records_that_nobody_trained_on_are_no_leak() -> None:
    for seed in (1, 2):
        assert leaks(audit(make_case(seed, num_candidates=80))) == []


def test_the_base_model_as_the_final_one_is_no_leak_and_reference_attacks_are_at_chance() -> None:
    case = make_case(3, num_candidates=80, effect=STRONG)
    findings = audit(case, passes=case.untrained())
    assert leaks(findings) == []
    for name, attack in MEMBERSHIP_ATTACKS.items():
        if attack.needs & {"base", "rounds"} and "shadows" not in attack.needs:
            assert of(findings, name).members.value == 0.5, name


def test_shuffled_coins_are_no_leak_though_the_model_was_trained() -> None:
    case = make_case(4, num_candidates=80, effect=STRONG)
    shuffled = np.random.default_rng(0).permutation(case.labels)
    assert leaks(audit(case, truth=case.relabelled(shuffled))) == []


def test_over_shuffled_coins_the_p_value_of_chance_is_uniform_and_leaks_are_rarer_than_they_may_be() -> None:
    case = make_case(5, num_candidates=40, effect=STRONG)
    rng = np.random.default_rng(0)
    scores = {
        name: MEMBERSHIP_ATTACKS[name].scores(case.made.seen)
        for name in ("loss", "reference", "ez", "wbc", "standardised_gain")
    }
    p_values: list[float] = []
    num_with_leaks = 0
    for _ in range(200):
        labels = rng.permutation(case.labels)
        blind = rng.random(labels.size)
        found = [
            area(
                Subject(view="client", family="membership", attack=name, code="", population="", labels=labels),
                values,
                blind,
            )
            for name, values in scores.items()
        ]
        p_values.append(found[0].differences["chance"].p_value)
        num_with_leaks += any(one.verdict == "leak" for one in judged(found))
    assert uniformity_p_value(p_values) > 0.01  # seeded: the chance of a false alarm was taken once
    # 5 % of 200 are allowed; demanding no overlap with the blind baseline's interval makes them much rarer.
    assert num_with_leaks <= 2


# ---- what is there


def test_training_is_found_by_the_best_attack_and_by_every_one_that_compares_models(
    trained: tuple[MadeCase, Findings],
) -> None:
    found = {key.split(".")[2] for key in leaks(trained[1]) if key.endswith(".auc")}
    assert {BEST, "reference", "reference_ratio", "wbc", "summed_gain", "standardised_gain"} <= found


def test_the_best_attack_is_measured_on_the_half_that_did_not_choose_it_and_so_is_its_curve(
    trained: tuple[MadeCase, Findings],
) -> None:
    case, findings = trained
    best = of(findings, BEST)
    chosen = best.note.removeprefix("Chosen on the other half of the records: ").split(".")[0]
    assert best.members.num == case.labels.size // 2
    assert of(findings, chosen).members.num == case.labels.size
    curves = {curve.series: curve for curve in findings.curves}
    assert curves["members"].attack == chosen
    assert curves.keys() == {"members", "blind"}
    for curve in curves.values():
        # Steps of one record: rates are multiples of one in the half's 50 or so non-members.
        assert max(len({point.x for point in curve.points}), 1) <= case.labels.size // 2 + 2


def area_over(outcomes: RecordOutcomes, names: set[str]) -> float:
    """The AUC over the records of these names, pair by pair."""
    rows = list(zip(outcomes.records, outcomes.labels, outcomes.values, strict=True))
    members, others = ([value for name, is_in, value in rows if name in names and is_in == label] for label in (1, 0))
    return float(np.mean([(one > other) + (one == other) / 2 for one in members for other in others]))


@pytest.mark.parametrize("seed", [20, 21, 22])
def test_the_best_attack_is_the_best_of_the_records_that_it_is_not_measured_on(seed: int) -> None:
    findings = audit(make_case(seed, num_candidates=80, effect=0.01))
    outcomes = {one.attack: one.outcomes for one in findings.found if one.metric == "auc" and one.outcomes is not None}
    best = of(findings, BEST)
    measured = set(outcomes.pop(BEST).records)
    chosen_on = {name for one in outcomes.values() for name in one.records} - measured
    areas = {name: area_over(one, chosen_on) for name, one in outcomes.items()}
    chosen = max(areas, key=lambda name: areas[name])
    assert f"Chosen on the other half of the records: {chosen}." in best.note
    assert best.members.value == pytest.approx(area_over(outcomes[chosen], measured))


def test_lower_cased_twins_are_read_by_the_model_under_attack_alone() -> None:
    case = make_case(16, num_candidates=80, effect=STRONG)
    others = {
        number: {
            name: replace(stats, logp=stats.logp * np.float32(2)) if name.startswith("lower-") else stats
            for name, stats in by_name.items()
        }
        for number, by_name in case.passes.by_round.items()
        if number != ROUNDS[-1]
    }
    found = of(audit(case, passes=GivenStats({**case.passes.by_round, **others})), "lowercase").outcomes
    assert found is not None
    np.testing.assert_array_equal(found.values, MEMBERSHIP_ATTACKS["lowercase"].scores(case.made.seen))


def test_true_positive_rates_are_given_only_where_the_records_resolve_them(trained: tuple[MadeCase, Findings]) -> None:
    # 100 others resolve 10 / 100.
    assert {one.metric for one in trained[1].found} == {"auc", "tpr@0.1"}
    few = audit(make_case(6, num_candidates=120))
    assert {one.metric for one in few.found} == {"auc"}
    assert "resolve false-positive rates from" in of(few, BEST).note
    # A gate on such a rate must know that there is none.
    assert [one.metrics for one in trained[1].unmeasured] == [["tpr@0.01"], ["tpr@0.001"]]
    assert [one.metrics for one in few.unmeasured] == [["tpr@0.1"], ["tpr@0.01"], ["tpr@0.001"]]


def test_every_number_stands_beside_chance_and_the_blind_baseline(trained: tuple[MadeCase, Findings]) -> None:
    for one in trained[1].found:
        assert one.differences.keys() == one.controls.keys()
        assert one.controls.keys() == ({"chance", "blind"} if one.metric == "auc" else {"false positives", "blind"})


def test_texts_that_tell_members_by_themselves_are_no_leak_however_much_was_learnt() -> None:
    case = make_case(7, num_candidates=120, effect=STRONG)
    told = tuple(
        replace(one, text=f"{one.text} {'member' if is_in else 'other'}")
        for one, is_in in zip(case.population.candidates, case.labels, strict=True)
    )
    findings = audit(replace(case, population=replace(case.population, candidates=told)))
    assert of(findings, "reference").members.low > 0.5
    assert of(findings, "reference").controls["blind"].value == 1.0
    assert leaks(findings) == []


# ---- what may not be said


def test_a_passive_audit_says_unexplained_instead_of_leak_and_warns_where_members_show_no_trace() -> None:
    trained = make_case(8, num_candidates=120, effect=STRONG, is_randomised=False)
    findings = audit(trained)
    passive = {one.key: one.verdict for one in judged(findings.found, is_randomised=False)}
    assert "leak" not in passive.values()
    assert {key for key, verdict in passive.items() if verdict == "unexplained"} == set(leaks(findings))
    assert leaks(findings)
    assert findings.warnings == []
    untrained = audit(make_case(8, num_candidates=120, is_randomised=False))
    assert len(untrained.warnings) == 1
    # The interval covers chance: nothing is shown, and nothing ruled out.
    assert untrained.warnings[0].startswith("No trace of training is shown on the members of records: ")
    assert "Were they trained on?" in untrained.warnings[0]
    assert (findings.doubts, untrained.doubts) == ([], [])  # a good defence shows none either


def test_without_coins_others_that_were_learnt_better_than_members_are_a_doubt() -> None:
    case = make_case(8, num_candidates=120, effect=STRONG, is_randomised=False)
    swapped = audit(case, truth=case.relabelled(~case.labels))
    assert swapped.doubts == swapped.warnings
    (doubt,) = swapped.doubts
    assert doubt.startswith("Training left less trace on the members of records than on others: ")
    assert audit(case, truth=replace(case.relabelled(~case.labels), is_randomised=True)).doubts == []


def test_without_coins_a_score_that_only_tells_owners_apart_is_at_chance() -> None:
    """North has nine members to one other and lower losses, south the reverse: raw scores would tell members."""
    case = make_case(9, num_candidates=80, is_randomised=False)
    rng = np.random.default_rng(0)
    is_north = np.arange(80) < 40
    labels = rng.random(80) < np.where(is_north, 0.9, 0.1)
    candidates = tuple(
        replace(one, owner="north" if north else "south", text="same")
        for one, north in zip(case.population.candidates, is_north, strict=True)
    )
    moved = {
        number: {
            name: replace(stats, logp=stats.logp / np.float32(2))
            if name in {one.candidate_id for one in candidates[:40]}
            else stats
            for name, stats in by_name.items()
        }
        for number, by_name in case.passes.by_round.items()
    }
    confounded = replace(case, population=replace(case.population, candidates=candidates), passes=GivenStats(moved))
    truth = confounded.relabelled(labels)
    assert of(audit(confounded, truth=replace(truth, is_randomised=True)), "loss").members.low > 0.7
    assert of(audit(confounded, truth=truth), "loss").members.covers(0.5)


def test_with_too_few_records_for_a_blind_baseline_nothing_is_a_leak_and_the_shortage_says_how_many() -> None:
    findings = audit(make_case(10, num_candidates=18, effect=3 * STRONG))
    measures = judged(findings.found)
    assert {one.verdict for one in measures} == {"too few records"}
    assert all("10 members and as many others" in one.note for one in measures)


def test_one_sided_populations_are_reported_and_not_measured() -> None:
    case = make_case(11)
    findings = audit(case, truth=case.relabelled(np.ones(60, np.bool_)))
    assert (findings.found, findings.curves) == ([], [])
    assert "60 members and 0 others" in findings.all_warnings()[0]
    (missing,) = findings.unmeasured
    assert (missing.view, missing.family, missing.population, missing.metrics) == (
        "client",
        "membership",
        "records",
        [],
    )
    assert missing.reason in findings.all_warnings()[0]


def test_records_of_the_attackers_own_are_not_asked_about() -> None:
    case = make_case(12, num_candidates=80, effect=STRONG)
    own = case.population.candidates[0].owner
    findings = audit(replace(case, view=client_view(ROUNDS, frozenset({own}))))
    num_own = sum(one.owner == own for one in case.population.candidates)
    assert of(findings, "loss").members.num == 80 - num_own


def test_one_round_alone_runs_no_attack_on_rounds() -> None:
    case = make_case(13, num_rounds=1)
    assert not {one.code for one in audit(case).found} & {"M14"}


def test_the_scores_that_bound_epsilon_are_fixed_and_come_without_another_pass(
    trained: tuple[MadeCase, Findings],
) -> None:
    case, findings = trained
    assert [one.attack for one in findings.told] == list(EPSILON_SCORES)
    for told in findings.told:
        assert (told.view, told.population) == ("client", "records")
        np.testing.assert_array_equal(told.coins, case.labels)
        area = auc(told.scores[told.coins], told.scores[~told.coins]).interval.value
        assert area == pytest.approx(of(findings, told.attack).members.value)


def test_of_planted_secrets_their_own_tokens_bound_epsilon() -> None:
    case = make_case(0, num_candidates=40, effect=STRONG)
    planted = tuple(replace(one, secret_start=2, secret_stop=4) for one in case.population.candidates)
    (_, told) = audit(replace(case, population=replace(case.population, candidates=planted))).told
    assert told.attack == SECRET_GAIN
    final, base = case.made.seen.final, case.made.seen.base
    np.testing.assert_allclose(
        told.scores,
        [
            float(x.logp[1]) + float(x.logp[2]) - float(y.logp[1]) - float(y.logp[2])
            for x, y in zip(final, base, strict=True)
        ],
        rtol=1e-5,
    )
    mixed = (replace(planted[0], secret_start=None, secret_stop=None), *planted[1:])
    found = audit(replace(case, population=replace(case.population, candidates=mixed))).told
    assert [one.attack for one in found] == list(EPSILON_SCORES)


def test_without_coins_or_with_several_copies_nothing_bounds_epsilon_and_the_gap_is_named() -> None:
    passive = audit(make_case(0, is_randomised=False))
    assert passive.told == []
    assert "no coins decided" in passive.epsilon_gaps[0]
    case = make_case(0)
    copies = dict.fromkeys(case.population.ids, 4)
    ladder = audit(case, truth=replace(case.truth, copies=copies))
    assert ladder.told == []
    assert "several copies" in ladder.epsilon_gaps[0]


def test_shadow_models_of_the_attackers_own_add_their_attacks() -> None:
    case = make_case(14, num_candidates=80, effect=STRONG)
    stands_in = cast(Passes, case.passes)
    findings = audit_membership(
        client_view([ROUNDS[-1]]),
        stands_in,
        case.population,
        case.truth,
        held_out=case.held_out,
        rounds=[ROUNDS[-1]],
        seed=0,
        shadows=case.made.seen.shadows,
    )
    assert {"rmia", "lira_online", "lira_offline"} <= {one.attack for one in findings.found}
    assert of(findings, "rmia").members.low > 0.5
    assert findings.warnings == []
    # What this attacker knows beyond others stands beside its numbers, and beside no other attack's.
    noted = {one.attack for one in findings.found if "knows all records that are asked about" in one.note}
    best = of(findings, BEST).note
    chosen = best.partition(": ")[2].partition(".")[0]
    assert noted - {BEST} == {"rmia", "lira_online", "lira_offline"}
    assert (BEST in noted) == (chosen in noted)


def test_attacks_with_shadows_that_cannot_run_are_named_with_what_they_need() -> None:
    case = make_case(16, num_candidates=80, effect=STRONG)
    stands_in = cast(Passes, case.passes)
    shadows = case.made.seen.shadows
    assert shadows is not None
    first = np.arange(80) % 2 == 0
    pair = replace(
        shadows,
        stats=shadows.stats[:2],
        population=[[], []],
        trained_on=np.stack([first, ~first]),
    )
    findings = audit_membership(
        client_view([ROUNDS[-1]]),
        stands_in,
        case.population,
        case.truth,
        held_out=(),
        rounds=[ROUNDS[-1]],
        seed=0,
        shadows=pair,
    )
    assert not {"rmia", "lira_online", "lira_offline"} & {one.attack for one in findings.found}
    lira, offline, rmia = findings.warnings
    assert all(one.startswith("LiRA") for one in (lira, offline))
    assert all("it needs at least four shadow models (audit.shadows)" in one for one in (lira, offline))
    assert rmia.startswith("RMIA")
    assert "did not run on records: it needs at least two held-out records" in rmia


def test_a_score_that_is_no_number_stops_the_audit() -> None:
    case = make_case(15)
    stats = dict(case.passes.by_round[ROUNDS[-1]])
    broken = stats["record-007"]
    stats["record-007"] = replace(broken, logp=np.full_like(broken.logp, np.nan))
    with pytest.raises(ModelError, match="NaN or infinite"):
        audit(case, passes=GivenStats({**case.passes.by_round, ROUNDS[-1]: stats}))
