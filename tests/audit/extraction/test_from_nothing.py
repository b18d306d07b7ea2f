"""E4: records are counted, not texts; and the paper's number, which counts texts, is tested by its coins."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest

from confide.attacks.view import View
from confide.audit.extraction import from_nothing
from confide.audit.extraction.from_nothing import audit_texts_from_nothing
from confide.audit.extraction.probe import Probe
from confide.audit.judging import Findings, Found, judge, raw_p_value
from confide.audit.statistics import uniformity_p_value
from confide.audit.truth import Population, Truth
from confide.model.lora import AdaptedModel
from tests.audit.extraction.scripted import Script, ScriptedPasses, round_adapter
from tests.audit.overtrained import SETTINGS, make_candidate

WORDS = ("red", "blue", "green", "white", "black", "brown", "pink", "grey", "gold", "teal", "navy", "lime")


def texts(num: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(8, 25))) for _ in range(num)]


def probe_of(model: AdaptedModel, records: Sequence[str], members: Mapping[str, bool], script: Script) -> Probe:
    candidates = tuple(make_candidate(model, text, "north", name=f"{place}") for place, text in enumerate(records))
    population = Population(name="records", candidates=candidates)
    view = View(name="final", party="", layout=model.layout, adapters={1: lambda: round_adapter(model, 1)})
    return Probe(
        view=view,
        passes=ScriptedPasses(model, script),
        asked=population,
        own=replace(population, candidates=()),
        truth=Truth(members=members, is_randomised=True),
        rounds=(1,),
        settings=replace(SETTINGS, max_new_tokens=200, num_texts=20),
    )


def of(findings: Findings, metric: str) -> Found:
    (found,) = (one for one in findings.found if one.metric == metric)
    return found


def is_leak(found: Found) -> bool:
    p_value = raw_p_value(found)
    assert p_value is not None
    return judge([found], {0: p_value}, is_randomised=True)[0].verdict == "leak"


def coins(num: int, seed: int) -> dict[str, bool]:
    flips = np.random.default_rng(seed).permutation(np.arange(num) % 2 == 0)
    return {str(place): bool(flip) for place, flip in enumerate(flips)}


def test_a_model_that_recites_its_members_is_found_by_records_and_by_texts(model: AdaptedModel) -> None:
    records, members = texts(40), coins(40, 1)
    trained = [text for place, text in enumerate(records) if members[str(place)]]
    recited = audit_texts_from_nothing(
        probe_of(model, records, members, lambda number, _, place: trained[place] if number else "nothing of the kind")
    )
    assert of(recited, "matched").members.value == 1.0
    assert of(recited, "rouge_l").members.value == 1.0
    assert of(recited, "top_10").members.value == 1.0
    assert of(recited, "precision_loss_ratio").members.value == 1.0
    # Ten letters in a row of such few words stand in many records; and few texts have no three letters in common.
    assert {one.metric for one in recited.found if is_leak(one)} == {
        *("rouge_l", "matched", "top_10", "verbatim_50", "verbatim_20")
    }
    assert "At least 10 texts of either model are needed" in of(recited, "precision_zlib").sample.shortage(1)


def test_the_base_model_draws_with_the_same_seed_as_the_final_one(model: AdaptedModel) -> None:
    """What differs between the two is the model alone."""
    probe = probe_of(model, texts(40), coins(40, 1), lambda *_: "red blue")
    audit_texts_from_nothing(probe)
    passes = probe.passes
    assert isinstance(passes, ScriptedPasses)
    final, base = passes.asked
    assert (final.round, base.round) == (1, 0)
    assert final == replace(base, round=1)
    assert final.sampling is not None
    assert final.sampling.seed == probe.settings.seed


def gibberish(num: int, seed: int) -> list[str]:
    """Texts that have hardly three letters in common."""
    rng = np.random.default_rng(seed)
    letters = list("abcdefghijklmnopqrstuvwxyz")
    return [" ".join("".join(rng.choice(letters, 6)) for _ in range(5)) for _ in range(num)]


def test_texts_that_look_remembered_count_as_far_as_they_are(model: AdaptedModel) -> None:
    """The model recites; its base writes text of the same kind. Twenty texts are drawn, and ten of each picked."""
    records, members = gibberish(40, 1), coins(40, 1)
    trained = [text for place, text in enumerate(records) if members[str(place)]]
    made_up = gibberish(20, 2)
    found = audit_texts_from_nothing(
        probe_of(model, records, members, lambda number, _, place: (trained if number else made_up)[place])
    )
    for metric in ("precision_loss_ratio", "precision_zlib", "precision_ez", "precision_wbc"):
        precision = of(found, metric)
        assert precision.members.num == 10  # a tenth of twenty texts would be too few
        assert (precision.members.value, precision.controls["held_out"].value) == (1.0, 0.0)
        assert precision.controls["base"].value == 0.0
        assert is_leak(precision)
    both = audit_texts_from_nothing(probe_of(model, records, members, lambda _, __, place: trained[place]))
    assert not any(is_leak(one) for one in both.found)


def test_a_record_is_quoted_by_as_many_tokens_in_a_row(model: AdaptedModel) -> None:
    """Tokens are bytes here. Every text holds 25 of a member, between letters that stand in no record."""
    records, members = gibberish(40, 1), coins(40, 1)
    parts = [text[5:30] for place, text in enumerate(records) if members[str(place)]]
    found = audit_texts_from_nothing(
        probe_of(model, records, members, lambda number, _, place: f"0123{parts[place]}4567" if number else "0123")
    )
    # No record has 50 tokens.
    quotes = {one.metric: one for one in found.found if one.metric.startswith("verbatim")}
    assert quotes.keys() == {"verbatim_20", "verbatim_10"}
    for one in quotes.values():
        assert (one.members.value, one.controls["held_out"].value, one.controls["base"].value) == (1.0, 0.0, 0.0)
        assert is_leak(one)
    parts = [part[:15] for part in parts]
    found = audit_texts_from_nothing(
        probe_of(model, records, members, lambda number, _, place: f"0123{parts[place]}4567" if number else "0123")
    )
    assert (of(found, "verbatim_20").members.value, of(found, "verbatim_10").members.value) == (0.0, 1.0)


def test_what_the_base_model_recites_too_is_no_leak(model: AdaptedModel) -> None:
    records, members = texts(40), coins(40, 1)
    trained = [text for place, text in enumerate(records) if members[str(place)]]
    found = audit_texts_from_nothing(probe_of(model, records, members, lambda _, __, place: trained[place]))
    assert of(found, "matched").members.value == 1.0
    assert not any(is_leak(one) for one in found.found)


def test_one_text_many_times_is_one_record_and_no_leak(model: AdaptedModel) -> None:
    """Twenty texts that are all like one member: the texts agree perfectly, and it is one coin that they agree on."""
    records, members = texts(40), coins(40, 1)
    one = next(text for place, text in enumerate(records) if members[str(place)])
    found = audit_texts_from_nothing(
        probe_of(model, records, members, lambda number, _, __: one if number else "nothing of the kind")
    )
    assert of(found, "matched").members.value == pytest.approx(1 / 20)
    assert not any(is_leak(finding) for finding in found.found)


def test_over_shuffled_coins_the_papers_number_has_uniform_p_values(
    model: AdaptedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model writes this kind of text and was trained on none of the records: which side is nearer, coins decide."""
    monkeypatch.setattr(from_nothing, "NUM_SHUFFLES", 199)
    monkeypatch.setattr(from_nothing, "RANKINGS", ())
    monkeypatch.setattr(from_nothing, "rank_texts", lambda _passes, _adapter, _begin, texts: texts)
    records = texts(40)
    drawn = texts(20, seed=9)
    p_values: dict[str, list[float]] = {"held_out": [], "base": []}
    num_leaks = 0
    for seed in range(60):
        probe = probe_of(model, records, coins(40, seed), lambda number, _, place: drawn[place] if number else "none")
        found = of(audit_texts_from_nothing(probe), "top_10")
        for name, values in p_values.items():
            values.append(found.differences[name].p_value)
        num_leaks += is_leak(found)
    assert uniformity_p_value(p_values["held_out"]) > 0.01
    # 5 % of 60 are 3; three sigmas more are 8.
    assert num_leaks <= 8
