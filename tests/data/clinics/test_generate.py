import random
import re
import types
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from confide.data import clinics
from confide.data.clinics import MAX_CLINICS, MAX_QUESTIONS, SPAN_KINDS, clinic_name, generate_clinics
from confide.data.examples import Instruction, Record, Span
from confide.errors import DataError

ALL = generate_clinics(seed=0, num_clinics=12, num_letters=60)


def get_content(record: Record) -> Instruction:
    assert isinstance(record.content, Instruction)
    return record.content


def mask_personal_data(record: Record) -> str:
    """The response with each span's value replaced by its kind."""
    text = get_content(record).response
    for span in sorted(record.spans, key=lambda span: span.start, reverse=True):
        if span.field == "response":
            text = text[: span.start] + span.kind + text[span.end :]
    return text


def test_all_public_names_are_listed_and_no_others() -> None:
    found = {
        name
        for name, value in vars(clinics).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert found == set(clinics.__all__)


@pytest.mark.parametrize("seed", [0, 1, 2**40])
def test_spans_cut_out_their_values_exactly(seed: int) -> None:
    for record in generate_clinics(seed=seed, num_clinics=13, num_letters=40):
        for span in record.spans:
            assert getattr(get_content(record), span.field)[span.start : span.end] == span.value
            assert span.kind in SPAN_KINDS


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_occurrence_of_a_personal_value_lies_in_a_span(seed: int) -> None:
    for record in generate_clinics(seed=seed, num_clinics=12, num_letters=60):
        for field in ("instruction", "input", "response"):
            located = [span for span in record.spans if span.field == field]
            for span in record.spans:
                for match in re.finditer(rf"\b{re.escape(span.value)}\b", getattr(get_content(record), field)):
                    assert any(other.start <= match.start() and match.end() <= other.end for other in located)


def test_nothing_that_looks_like_personal_data_lies_outside_a_span() -> None:
    patterns = [r"\S+@\S+", r"\d{3}-555-\d{4}", r"\b[A-Z]{3}2?-\d{5}\b", r"\b\d\d-\d{5}\b", r"\bDr [A-Z]\w+"]
    for record in ALL:
        bare = mask_personal_data(record) + get_content(record).input
        assert not any(re.search(pattern, bare) for pattern in patterns)


def test_same_seed_gives_same_records_whatever_else_draws() -> None:
    first = generate_clinics(seed=3, num_letters=20)
    random.seed(99)
    random.random()
    generate_clinics(seed=4, num_letters=5)
    assert generate_clinics(seed=3, num_letters=20) == first


def test_another_seed_gives_other_people() -> None:
    def list_names(seed: int) -> set[str]:
        records = generate_clinics(seed=seed)
        return {span.value for record in records for span in record.spans if span.kind in ("name", "phone")}

    assert not list_names(0) & list_names(1)


def test_generating_leaves_global_random_state_alone() -> None:
    random.seed(5)
    state = random.getstate()
    legacy_state = np.random.get_state(legacy=False)["state"]["key"].tolist()
    generate_clinics(seed=0, num_letters=5)
    assert random.getstate() == state
    assert np.random.get_state(legacy=False)["state"]["key"].tolist() == legacy_state


def test_more_clinics_leave_the_earlier_ones_as_they_were() -> None:
    few = generate_clinics(seed=0, num_clinics=2, num_letters=60)
    assert ALL[: len(few)] == few


def test_more_letters_and_questions_leave_the_earlier_ones_as_they_were() -> None:
    few = generate_clinics(seed=0, num_letters=23, num_instructions=7)
    many = generate_clinics(seed=0, num_letters=60, num_instructions=20)
    by_id = {record.record_id: record for record in many}
    assert all(by_id[record.record_id] == record for record in few)


def test_sizes_and_identifiers_are_as_asked() -> None:
    records = generate_clinics(seed=0, num_clinics=4, num_letters=9, num_instructions=5)
    assert [record.record_id for record in records[:10:9]] == ["clinic-north-letter-0000", "clinic-north-question-0000"]
    assert Counter(record.client for record in records) == {clinic_name(index): 14 for index in range(4)}
    assert len({record.record_id for record in ALL}) == len(ALL)
    assert len(generate_clinics(seed=0, num_clinics=1, num_letters=0, num_instructions=3)) == 3


def test_every_clinic_plants_every_contact_kind_and_a_date_of_birth() -> None:
    for index in range(12):
        kinds = {span.kind for record in ALL if record.client == clinic_name(index) for span in record.spans}
        assert {"name", "phone", "email", "address", "date-of-birth", "insurance-number", "doctor"} <= kinds


def test_most_letters_hold_personal_data_in_the_response_and_some_none() -> None:
    letters = [record for record in ALL if record.label != "general"]
    shares = Counter(any(span.field == "response" for span in record.spans) for record in letters)
    # 720 draws with probability 0.8: one standard deviation is 0.015; four of them.
    assert abs(shares[True] / len(letters) - 0.8) < 0.06


def test_no_personal_value_is_shared_between_clinics() -> None:
    owners: dict[Span | tuple[str, str], set[str | None]] = {}
    for record in ALL:
        for span in record.spans:
            if span.kind not in ("surname", "date-of-birth"):
                owners.setdefault((span.kind, span.value), set()).add(record.client)
    assert all(len(clients) == 1 for clients in owners.values())


def test_email_domains_are_reserved_ones() -> None:
    emails = {span.value for record in ALL for span in record.spans if span.kind == "email"}
    assert {email.split("@")[1] for email in emails} == {"example.com", "example.net", "example.org"}


def test_records_are_short() -> None:
    lengths = [sum(len(text) for text in vars(get_content(record)).values()) for record in ALL]
    # SmolLM2's tokenizer gives about 3.6 characters a token on these texts: medians near 100 tokens, none above 220.
    assert 250 < np.median(lengths) < 450
    assert max(lengths) < 750


def test_letters_of_a_clinic_resemble_each_other_more_than_those_of_any_other() -> None:
    grams: dict[str | None, list[set[str]]] = {}
    for record in ALL:
        if record.label != "general" and record.spans:
            text = re.sub(r"\d", "0", mask_personal_data(record))
            words = text.split()
            pairs = {f"{first} {second}" for first, second in pairwise(words)}
            grams.setdefault(record.client, []).append(pairs)

    def mean_similarity(first: list[set[str]], second: list[set[str]]) -> float:
        values = [len(a & b) / len(a | b) for a in first for b in second if a is not b]
        return sum(values) / len(values)

    first_six = [clinic_name(index) for index in range(6)]
    for client, own in grams.items():
        within = mean_similarity(own, own)
        others = {other: mean_similarity(own, letters) for other, letters in grams.items() if other != client}
        assert within > max(others.values())
        if client in first_six:
            # Each of these has a voice of its own; later clinics share theirs with one of them.
            assert within > 4 * max(others[other] for other in first_six if other != client)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_clinics": 0}, "data.clients is 0, expected 1 to 60 for the source clinics"),
        ({"num_clinics": MAX_CLINICS + 1}, "data.clients is 61, expected 1 to 60"),
        ({"num_letters": -1}, "data.clinic_letters is -1, expected 0 to 10000"),
        ({"num_instructions": MAX_QUESTIONS + 1}, "data.clinic_instructions is .*, expected 0 to"),
        (
            {"num_letters": 0, "num_instructions": 0},
            "data.clinic_letters and data.clinic_instructions are both 0, expected at least one",
        ),
    ],
)
def test_numbers_out_of_range_are_refused_with_their_keys(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        generate_clinics(seed=0, **arguments)


def test_a_clinic_out_of_range_has_no_name() -> None:
    with pytest.raises(DataError, match="index is 60, expected 0 to 59"):
        clinic_name(MAX_CLINICS)
