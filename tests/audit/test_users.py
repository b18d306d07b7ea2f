"""User inference, scored: the unit is the client, and only clients that took part by a coin can leak."""

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

import numpy as np
import pytest

from confide.attacks.candidates import Candidate
from confide.attacks.passes import Passes
from confide.attacks.token_stats import TokenStats
from confide.attacks.view import View
from confide.audit.area_samples import NEEDS_BLIND
from confide.audit.judging import Findings, judge, raw_p_value
from confide.audit.truth import Population
from confide.audit.users import NOT_DRAWN, audit_users
from tests.attacks.membership.records import token_stats
from tests.audit.made_case import GivenStats, client_view, example

NUM_RECORDS = 4


def users(num_clients: int, *, effect: float, seed: int = 0) -> tuple[GivenStats, Population, Mapping[str, bool]]:
    """Fresh records of clients, every other one of which took part: its kind of text became likelier by `effect`."""
    rng = np.random.default_rng(seed)
    candidates: list[Candidate] = []
    base: dict[str, TokenStats] = {}
    final: dict[str, TokenStats] = {}
    took_part = {f"client-{number:02}": number % 2 == 0 for number in range(num_clients)}
    for owner, is_in in took_part.items():
        for number in range(NUM_RECORDS):
            name = f"{owner}-{number}"
            text = "".join(rng.choice(list("abcdefgh "), 40))
            candidates.append(Candidate(candidate_id=name, example=example(name), text=text, owner=owner))
            logp = -rng.gamma(4.0, 0.6, 30).clip(1e-3)
            base[name] = token_stats(logp)
            final[name] = token_stats(logp * np.exp(-effect * is_in - rng.normal(0.0, 0.05)))
    return GivenStats({0: base, 1: final}), Population(name="fresh", candidates=tuple(candidates)), took_part


def infer(
    stats: GivenStats,
    population: Population,
    took_part: Mapping[str, bool],
    *,
    is_randomised: bool = True,
    view: View | None = None,
) -> Findings:
    passes = cast(Passes, stats)
    return audit_users(
        view or client_view([1]), passes, population, took_part, is_randomised=is_randomised, final_round=1, seed=0
    )


def verdict(findings: Findings) -> tuple[str, str]:
    (found,) = findings.found
    p_value = raw_p_value(found)
    assert p_value is not None
    (measure,) = judge([found], {0: p_value}, is_randomised=True)
    return measure.verdict, measure.note


def test_clients_that_took_part_are_told_from_others_and_numbers_count_clients() -> None:
    findings = infer(*users(80, effect=0.5))
    (found,) = findings.found
    assert (found.code, found.metric, found.members.value, found.members.num) == ("M18", "auc", 1.0, 80)
    assert verdict(findings)[0] == "leak"


def test_a_client_s_score_is_how_far_the_loss_of_its_own_records_fell() -> None:
    stats, population, took_part = users(20, effect=0.1)
    found = infer(stats, population, took_part).found[0].outcomes
    assert found is not None
    base, final = stats.by_round[0], stats.by_round[1]
    falls = {
        owner: np.mean(
            [
                final[one.candidate_id].logp.mean(dtype=np.float64) - base[one.candidate_id].logp.mean(dtype=np.float64)
                for one in population.candidates
                if one.owner == owner
            ]
        )
        for owner in took_part
    }
    assert dict(zip(found.records, found.values, strict=True)) == pytest.approx(falls)


def test_clients_whose_text_the_model_did_not_learn_are_no_leak() -> None:
    for seed in range(3):
        assert verdict(infer(*users(40, effect=0.0, seed=seed)))[0] != "leak"


@pytest.mark.parametrize("num", [80, 12])  # of 12, six on each side are too few for a blind baseline
def test_clients_that_were_not_drawn_by_coins_are_unexplained_however_clear_and_however_few(num: int) -> None:
    found = verdict(infer(*users(num, effect=0.5), is_randomised=False))
    assert found[0] == "unexplained"
    assert NOT_DRAWN in found[1]
    assert (NEEDS_BLIND in found[1]) == (num == 12)


def test_a_handful_of_clients_is_too_few_and_the_note_says_so() -> None:
    found = verdict(infer(*users(8, effect=0.5)))
    assert found[0] == "too few records"
    assert NEEDS_BLIND in found[1]


def test_without_clients_on_both_sides_nothing_is_measured() -> None:
    stats, population, took_part = users(8, effect=0.5)
    findings = infer(stats, population, dict.fromkeys(took_part, True))
    assert findings.found == []
    assert "8 members and 0 others" in findings.all_warnings()[0]
    assert [one.metrics for one in findings.unmeasured] == [["auc"]]


def test_the_attackers_own_client_is_not_asked_about() -> None:
    findings = infer(*users(80, effect=0.5), view=client_view([1], frozenset({"client-00"})))
    assert findings.found[0].members.num == 79


def test_an_owner_of_whom_nobody_says_whether_it_took_part_stops_it() -> None:
    stats, population, took_part = users(8, effect=0.5)
    stranger = replace(population.candidates[0], owner="stranger")
    with pytest.raises(KeyError, match="stranger"):
        infer(stats, replace(population, candidates=(stranger, *population.candidates)), took_part)
