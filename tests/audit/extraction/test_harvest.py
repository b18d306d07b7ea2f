"""E8: what own prefixes bring out, that the attacker did not have and the base model does not say."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from confide.attacks.extraction.prompts import split_at_secret
from confide.attacks.view import View
from confide.audit.extraction import ExtractionSettings, harvest
from confide.audit.extraction.harvest import TEXTS_PER_RECORD, audit_harvest
from confide.audit.extraction.probe import Probe, splits_of
from confide.audit.judging import Findings
from confide.audit.truth import Population, Truth
from confide.model.lora import AdaptedModel
from tests.audit.extraction.scripted import Script, ScriptedPasses, round_adapter
from tests.audit.overtrained import SETTINGS, make_candidate

PHONES = tuple(f"555-{number}" for number in range(1000, 1024))
NUM_OWN = 4


def harvested(
    model: AdaptedModel,
    script: Script,
    *,
    secrets: tuple[str, ...] = PHONES,
    own: Sequence[str] = ("call me: ",),
    settings: ExtractionSettings = SETTINGS,
    passes: ScriptedPasses | None = None,
) -> Findings:
    """The first four records are the attacker's, and all of them trained on; of the others every other one was."""
    candidates = [
        make_candidate(
            model,
            f"{own[place % len(own)] if place < NUM_OWN else 'reach: '}{secret}",
            "west" if place < NUM_OWN else "north",
            secret=secret,
            name=str(place),
        )
        for place, secret in enumerate(secrets)
    ]
    others = Population(name="personal", candidates=tuple(candidates[NUM_OWN:]))
    view = View(
        name="client",
        party="west",
        layout=model.layout,
        adapters={1: lambda: round_adapter(model, 1)},
        own_examples=tuple(one.example for one in candidates[:NUM_OWN]),
        own_clients=frozenset({"west"}),
    )
    probe = Probe(
        view=view,
        passes=passes or ScriptedPasses(model, script),
        asked=others,
        own=replace(others, candidates=tuple(candidates[:NUM_OWN])),
        truth=Truth(
            members={one.candidate_id: place % 2 == 0 for place, one in enumerate(candidates)},
            secrets={one.candidate_id: secret for one, secret in zip(candidates, secrets, strict=True)},
            is_randomised=True,
        ),
        rounds=(1,),
        settings=settings,
    )
    return audit_harvest(probe, splits_of(others, lambda one: split_at_secret(one, model.tokenizer)))


def test_coverage_counts_others_secrets_that_the_base_model_does_not_say(model: AdaptedModel) -> None:
    # Members among the others are PHONES[4], PHONES[6], ...; the base model says one of them, too.
    said = [PHONES[4], PHONES[6], PHONES[8], PHONES[0], "no number", PHONES[4], PHONES[5], "+1 555-1010"]
    findings = harvested(model, lambda number, _, place: said[place] if number else PHONES[8])
    found, efficiency = findings.found
    assert (found.attack, found.metric, found.code) == ("own-prefix", "coverage", "E8")
    # 4, 6, 8 and, with a country code before it, 10: of ten members. 5 is one of ten others.
    assert found.members.value == pytest.approx(4 / 10)
    assert found.controls["held_out"].value == pytest.approx(1 / 10)
    assert found.controls["base"].value == pytest.approx(1 / 10)
    assert efficiency.metric == "efficiency"
    assert efficiency.members.value == pytest.approx(4 / (TEXTS_PER_RECORD * NUM_OWN))
    assert efficiency.controls["base"].value == pytest.approx(1 / (TEXTS_PER_RECORD * NUM_OWN))
    assert efficiency.differences["base"].p_value == found.differences["base"].p_value
    assert found.note.startswith(f"3 that the base model does not say, in {TEXTS_PER_RECORD * NUM_OWN} texts")


def test_prompts_are_the_attackers_own_words_and_not_the_victims(model: AdaptedModel) -> None:
    prompts: set[str] = set()

    def remember(_: int, prompt: str, __: int) -> str:
        prompts.add(prompt)
        return "nothing"

    harvested(model, remember)
    assert prompts == {"call me: "}


def test_the_second_strategy_spends_its_texts_on_frequent_prefixes(model: AdaptedModel) -> None:
    prompts: list[str] = []

    def remember(number: int, prompt: str, _: int) -> str:
        prompts.extend([prompt] if number else [])
        return "nothing"

    findings = harvested(model, remember, own=("call me: ", "call me: ", "fax: ", "call me: "))
    assert [one.attack for one in findings.found] == ["own-prefix"] * 2 + ["own-prefix-frequent"] * 2
    budget = TEXTS_PER_RECORD * NUM_OWN
    assert prompts == ["call me: "] * (budget // 2) + ["fax: "] * (budget // 2) + ["call me: "] * budget


def test_the_base_model_is_asked_as_often_and_with_the_same_seed(model: AdaptedModel) -> None:
    """What differs between the two is the model alone."""
    passes = ScriptedPasses(model, lambda *_: "nothing")
    harvested(model, lambda *_: "nothing", own=("call me: ", "fax: "), passes=passes)
    assert [one.round for one in passes.asked] == [1, 0] * 2
    for final, base in zip(passes.asked[::2], passes.asked[1::2], strict=True):
        assert final == replace(base, round=1)
        assert final.sampling is not None
        assert final.sampling.seed == SETTINGS.seed


def test_the_third_strategy_asks_tuned_models_on_request(model: AdaptedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """What tuning adds is the script's; that the control is the base model, tuned likewise, shows in what it says."""
    start = round_adapter(model, 1)
    monkeypatch.setattr(harvest, "like_base", lambda *_: round_adapter(model, 0))
    monkeypatch.setattr(harvest, "tune_on_pairs", lambda _, adapter, pairs: adapter + 2 * np.eye(1, start.size)[0])
    said = {0: "nothing", 1: PHONES[4], 2: PHONES[6], 3: PHONES[8]}
    findings = harvested(model, lambda number, *_: said[number], settings=replace(SETTINGS, protocol=True))
    coverage = {one.attack: one for one in findings.found if one.metric == "coverage"}
    assert coverage.keys() == {"own-prefix", "own-prefix-tuned"}
    assert coverage["own-prefix-tuned"].members.value == coverage["own-prefix-tuned"].controls["base"].value == 1 / 10
    assert coverage["own-prefix"].controls["base"].value == 0


def test_strings_that_the_attacker_has_are_not_sought(model: AdaptedModel) -> None:
    shared = (*PHONES[:NUM_OWN], PHONES[0], PHONES[1], *PHONES[NUM_OWN + 2 :])
    found = harvested(model, lambda *_: "nothing", secrets=shared).found[0]
    assert found.members.num + found.controls["held_out"].num == len(PHONES) - NUM_OWN - 2


def test_where_hardly_any_string_is_sought_it_is_said_which_numbers_are_missing(model: AdaptedModel) -> None:
    shared = (*PHONES[:NUM_OWN], *[PHONES[0]] * (len(PHONES) - NUM_OWN - 1), PHONES[-1])
    findings = harvested(model, lambda *_: "nothing", secrets=shared)
    assert findings.found == []
    (missing,) = findings.unmeasured
    assert (missing.attack, missing.metrics) == ("own-prefix", ["coverage", "efficiency"])
    assert missing.reason in findings.all_warnings()[0]


def test_secrets_that_nobody_takes_for_personal_data_are_not_looked_for(model: AdaptedModel) -> None:
    words = tuple(f"word{'abcdefghijklmnopqrstuvwx'[place]}" for place in range(24))
    findings = harvested(model, lambda *_: "nothing", secrets=words)
    assert (findings.found, findings.warnings) == ([], [])


def test_an_attacker_without_personal_data_of_its_own_is_reported(model: AdaptedModel) -> None:
    plain = tuple("none at all" if place < NUM_OWN else secret for place, secret in enumerate(PHONES))
    findings = harvested(model, lambda *_: "nothing", secrets=plain)
    assert findings.found == []
    assert "hold no personal data" in findings.warnings[0]
