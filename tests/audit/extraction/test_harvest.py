"""E8: what own prefixes bring out, that the attacker did not have and the base model does not say."""

from dataclasses import replace

import pytest

from confide.attacks.extraction.prompts import split_at_secret
from confide.attacks.view import View
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
    model: AdaptedModel, script: Script, *, secrets: tuple[str, ...] = PHONES, own: str = "call me: "
) -> Findings:
    """The first four records are the attacker's, and all of them trained on; of the others every other one was."""
    candidates = [
        make_candidate(
            model,
            f"{own if place < NUM_OWN else 'reach: '}{secret}",
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
        passes=ScriptedPasses(model, script),
        asked=others,
        own=replace(others, candidates=tuple(candidates[:NUM_OWN])),
        truth=Truth(
            members={one.candidate_id: place % 2 == 0 for place, one in enumerate(candidates)},
            secrets={one.candidate_id: secret for one, secret in zip(candidates, secrets, strict=True)},
            is_randomised=True,
        ),
        rounds=(1,),
        settings=SETTINGS,
    )
    return audit_harvest(probe, splits_of(others, lambda one: split_at_secret(one, model.tokenizer)))


def test_coverage_counts_others_secrets_that_the_base_model_does_not_say(model: AdaptedModel) -> None:
    # Members among the others are PHONES[4], PHONES[6], ...; the base model says one of them, too.
    said = [PHONES[4], PHONES[6], PHONES[8], PHONES[0], "no number", PHONES[4], PHONES[5], "+1 555-1010"]
    findings = harvested(model, lambda number, _, place: said[place] if number else PHONES[8])
    (found,) = findings.found
    assert (found.metric, found.code) == ("coverage", "E8")
    # 4, 6, 8 and, with a country code before it, 10: of ten members. 5 is one of ten others.
    assert found.members.value == pytest.approx(4 / 10)
    assert found.controls["held_out"].value == pytest.approx(1 / 10)
    assert found.controls["base"].value == pytest.approx(1 / 10)
    assert found.note.startswith(f"3 that the base model does not say, in {TEXTS_PER_RECORD * NUM_OWN} texts")


def test_prompts_are_the_attackers_own_words_and_not_the_victims(model: AdaptedModel) -> None:
    prompts: set[str] = set()

    def remember(_: int, prompt: str, __: int) -> str:
        prompts.add(prompt)
        return "nothing"

    harvested(model, remember)
    assert prompts == {"call me: "}


def test_strings_that_the_attacker_has_are_not_sought(model: AdaptedModel) -> None:
    shared = (*PHONES[:NUM_OWN], PHONES[0], PHONES[1], *PHONES[NUM_OWN + 2 :])
    (found,) = harvested(model, lambda *_: "nothing", secrets=shared).found
    assert found.members.num + found.controls["held_out"].num == len(PHONES) - NUM_OWN - 2


def test_secrets_that_nobody_takes_for_personal_data_are_not_looked_for(model: AdaptedModel) -> None:
    words = tuple(f"word{'abcdefghijklmnopqrstuvwx'[place]}" for place in range(24))
    findings = harvested(model, lambda *_: "nothing", secrets=words)
    assert (findings.found, findings.warnings) == ([], [])


def test_an_attacker_without_personal_data_of_its_own_is_reported(model: AdaptedModel) -> None:
    plain = tuple("none at all" if place < NUM_OWN else secret for place, secret in enumerate(PHONES))
    findings = harvested(model, lambda *_: "nothing", secrets=plain)
    assert findings.found == []
    assert "hold no personal data" in findings.warnings[0]
