"""What is asked, and that the questions do not give away the answers."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from confide.auditor.case import NEVER_REACHED, Case, Secrets, make_case
from confide.auditor.passive import claimed_coins, passive_coins
from confide.auditor.reader import Reader, learnt_text, lowered, with_secret
from confide.build import build_model
from confide.canaries.coins import flip_coins
from confide.canaries.plan import Coin
from confide.canaries.settings import CanarySettings
from confide.config.load import parse_config
from confide.data.examples import Chat, ChatMessage, ClientRecords, Instruction, Record, Text
from confide.data.templates import make_template
from tests.recorded import words

MAX_TOKENS = 160


@pytest.fixture(scope="module")
def reader() -> Reader:
    model = build_model(parse_config({"model": {"base": "tiny-llama"}, "data": {"source": "clinics"}}))
    return Reader(model, make_template("plain", model.tokenizer), MAX_TOKENS)


def record(record_id: str, response: str = "", instruction: str = "Say it.") -> Record:
    return Record(
        record_id=record_id, content=Instruction(instruction=instruction, response=response or words(6, record_id))
    )


def coin(item_id: str, *, included: bool = True, client: str = "north", **changes: Any) -> Coin:
    made = Coin(item_id=item_id, client=client, kind="records", included=included, copies=1, records=(record(item_id),))
    return replace(made, **changes)


def case_of(coins: list[Coin], reader: Reader, **arguments: Any) -> Case:
    return make_case(coins, reader, is_randomised=True, seed=0, **arguments)


def test_the_truth_is_what_the_coins_said(reader: Reader) -> None:
    coins = [coin(f"r{number}", included=number % 3 == 0) for number in range(9)]
    case = case_of(coins, reader)
    (population,) = case.populations
    assert case.truth.members == {one.item_id: one.included for one in coins}
    labels = case.truth.labels(population.candidates)
    assert [one.candidate_id in ("r0", "r3", "r6") for one in population.candidates] == labels.tolist()
    assert (case.counts["records: members"], case.counts["records: others"]) == (3, 6)


def test_the_order_of_candidates_does_not_follow_from_the_coins(reader: Reader) -> None:
    coins = [coin(f"r{number}", included=number < 5) for number in range(10)]
    flipped = [replace(one, included=not one.included) for one in reversed(coins)]
    order = [one.candidate_id for one in case_of(coins, reader).populations[0].candidates]
    assert order == [one.candidate_id for one in case_of(flipped, reader).populations[0].candidates]
    assert order != sorted(order)


def test_what_training_never_came_to_is_left_out_and_counted(reader: Reader) -> None:
    coins = [
        coin("read"),
        coin("unread"),
        coin("out", included=False),
        coin("half", copies=2, records=(record("half-1"), record("half-2"))),
    ]
    read = {"north": frozenset({"read", "half-2"})}
    case = case_of(coins, reader, read=read)
    assert case.truth.members == {"read": True, "out": False, "half": True}
    assert case.truth.copies == {"read": 1, "out": 1, "half": 1}
    assert case.counts[f"records: {NEVER_REACHED}"] == 1
    assert [one.num_unread for one in case.populations] == [1]


def test_what_the_bound_on_tokens_cut_off_is_left_out_and_counted(reader: Reader) -> None:
    long = coin("long", records=(record("long", instruction="x" * MAX_TOKENS),))
    case = case_of([coin("short"), coin("other", included=False), long], reader)
    assert case.truth.members == {"short": True, "other": False}
    assert case.counts["records: cut off by train.max_tokens"] == 1


def test_every_candidate_is_what_training_reads(reader: Reader) -> None:
    case = case_of([coin("a"), coin("b", included=False)], reader)
    (population,) = case.populations
    for candidate in population.candidates:
        (example,) = reader.examples([record(candidate.candidate_id)])
        assert candidate.example.input_ids.tolist() == example.input_ids.tolist()
        assert candidate.example.loss_mask.tolist() == example.loss_mask.tolist()
        assert candidate.text == words(6, candidate.candidate_id)
    assert population.lower is not None
    assert [one.text for one in population.lower] == [one.text.lower() for one in population.candidates]


def clients_with(num_rows: int) -> list[ClientRecords]:
    return [
        ClientRecords(
            name=name,
            train=tuple(record(f"{name}-{number}") for number in range(num_rows)),
            held_out=tuple(record(f"{name}-out-{number}") for number in range(4)),
        )
        for name in ("east", "north")
    ]


def test_planted_secrets_are_found_and_ranked_among_others_of_their_form(reader: Reader) -> None:
    settings = CanarySettings(kinds=("personal",), records_per_client=1, canaries_per_client=4, seed=0)
    flipped = flip_coins(clients_with(8), settings)
    case = case_of(list(flipped.plan.coins), reader, secrets=Secrets(spaces=flipped.plan.spaces, num_alternatives=12))
    (population,) = case.populations
    assert population.lower is None
    assert len(population.candidates) == 8
    for candidate in population.candidates:
        secret = case.truth.secrets[candidate.candidate_id]
        others = population.alternatives[candidate.candidate_id]
        assert len(others) == 12
        start, stop = candidate.secret_start, candidate.secret_stop
        assert start is not None
        assert stop is not None
        assert stop - start == len(secret)  # a tiny model's tokens are bytes
        for other in others:
            assert secret not in other.text
            assert len(other.text) == len(candidate.text)
            same = other.example.input_ids == candidate.example.input_ids
            assert same[:start].all()
            assert same[stop:].all()
            assert not same[start:stop].all()


def test_passive_questions_are_training_rows_that_were_read_against_held_out_rows_that_repeat_none(
    reader: Reader,
) -> None:
    east, north = clients_with(6)
    repeating = replace(record("copy"), content=east.train[5].content)
    north = replace(north, held_out=(*north.held_out, repeating))
    read = {"east": frozenset(one.record_id for one in east.train[2:]), "north": frozenset({"north-1"})}
    passive = passive_coins([east, north], 3, read=read)
    assert passive.num_duplicates == 1
    by_label = {label: sorted(one.item_id for one in passive.coins if one.included == label) for label in (True, False)}
    assert by_label[True] == ["east-2", "east-3", "east-4", "north-1"]
    assert by_label[False] == [f"{name}-out-{number}" for name in ("east", "north") for number in range(3)]
    case = make_case(passive.coins, reader, is_randomised=False, seed=0)
    assert len(case.unseen) == 6
    assert case.held_out == ()


def test_ids_of_claimed_records_tell_nothing_and_lead_back(reader: Reader) -> None:
    members = [replace(record(f"members.jsonl:{number}"), client="east") for number in range(30)]
    others = [record(f"others.jsonl:{number}") for number in range(30)]
    claimed = claimed_coins(members, [*others, replace(record("again"), content=members[0].content)])
    assert claimed.num_duplicates == 1
    assert sorted(claimed.names.values()) == sorted(one.record_id for one in (*members, *others))
    assert all(claimed.names[one.item_id].startswith("members") == one.included for one in claimed.coins)
    numbers = np.array([int(one.item_id.removeprefix("record-")) for one in claimed.coins])
    is_member = np.array([one.included for one in claimed.coins])
    assert sorted(numbers) == list(range(1, 61))
    # Members and others are mixed: a rank sum as uneven as this has a chance below 1e-6 (z above 4.9).
    assert abs(numbers[is_member].sum() - 30 * 61 / 2) < 4.9 * np.sqrt(30 * 30 * 61 / 12)


@pytest.mark.parametrize(
    "content",
    [
        Instruction(instruction="Call 555-1234", response="Yes, 555-1234 it Is"),
        Chat(
            messages=(
                ChatMessage(role="user", content="Call 555-1234"),
                ChatMessage(role="assistant", content="Yes, 555-1234 it Is"),
            )
        ),
        Text(text="Yes, 555-1234 it Is"),
    ],
)
def test_only_what_is_learnt_is_changed(content: Instruction | Chat | Text) -> None:
    made = Record(record_id="r", content=content)
    assert learnt_text(with_secret(made, "555-1234", "555-9999")) == "Yes, 555-9999 it Is"
    assert learnt_text(lowered(made)) == "yes, 555-1234 it is"
    for changed in (with_secret(made, "555-1234", "555-9999"), lowered(made)):
        if not isinstance(content, Text):
            assert "Call 555-1234" in repr(changed)
