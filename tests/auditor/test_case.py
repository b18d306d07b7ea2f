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
from confide.canaries.secret_space import SecretSpace
from confide.canaries.settings import CanarySettings
from confide.config.load import parse_config
from confide.data.examples import Chat, ChatMessage, ClientRecords, Instruction, Record, Text
from confide.data.templates import make_template
from confide.model.lora import AdaptedModel
from tests.auditor.test_views import FORBIDDEN, reachable
from tests.recorded import words

MAX_TOKENS = 160


@pytest.fixture(scope="module")
def model() -> AdaptedModel:
    return build_model(parse_config({"model": {"base": "tiny-llama"}, "data": {"source": "clinics"}}))


@pytest.fixture(scope="module")
def reader(model: AdaptedModel) -> Reader:
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


DIGITS = tuple("0123456789")
CODES = SecretSpace(parts=(("7-",), DIGITS, DIGITS), taken=("7-00", "7-42"))


def planted(item_id: str, secret: str = "7-42", **changes: Any) -> Coin:
    """One of `CODES` in the middle of what is learnt."""
    made = record(item_id, response=f"Call {secret} at noon.")
    return coin(item_id, kind="personal", secret=secret, records=(made,), **changes)


def test_where_there_are_few_possible_secrets_all_are_taken_as_tokens(reader: Reader) -> None:
    coins = [planted("a"), planted("b", included=False)]
    secrets = Secrets(spaces={"personal": CODES}, num_alternatives=10, full_ranking=99)
    (population,) = case_of(coins, reader, secrets=secrets).populations
    assert population.has_secrets
    assert population.alternatives == {}
    assert population.num_possible == 99  # all of a hundred but one that is taken
    for candidate in population.candidates:
        possible = population.every_secret[candidate.candidate_id]()
        assert possible is population.every_secret[candidate.candidate_id]()  # made once
        assert possible.candidate_id == candidate.candidate_id
        assert possible.beginning.tolist() == candidate.example.input_ids[: candidate.secret_start].tolist()
        made = [planted("a", secret).records[0] for secret in ("7-42", *CODES)]
        texts = [one.input_ids.tolist() for one in reader.examples(made)]
        start, stop = candidate.secret_start, candidate.secret_stop
        assert possible.secrets.tolist() == [ids[start:stop] for ids in texts]
        assert possible.secrets.dtype == np.int32
        assert not [one for one in reachable([possible]) if isinstance(one, FORBIDDEN)]  # attacks get it


def test_one_possible_secret_too_many_makes_a_sample(reader: Reader) -> None:
    secrets = Secrets(spaces={"personal": CODES}, num_alternatives=10, full_ranking=98)
    (population,) = case_of([planted("a"), planted("b", included=False)], reader, secrets=secrets).populations
    assert population.every_secret == {}
    assert {len(others) for others in population.alternatives.values()} == {10}


def test_secrets_that_cannot_be_compared_are_left_out(reader: Reader) -> None:
    """Longer ones; and all where a record has its secret in two places."""
    made = planted("a")
    candidate = reader.candidate("a", made.records[0], "north", "7-42")
    assert candidate is not None
    others = ["7-43", "7-430", "", "7-4é", "8-00"]
    possible = reader.possible_secrets(candidate, made.records[0], "7-42", others)
    kept = [reader.examples([planted("a", other).records[0]])[0].input_ids for other in ("7-42", "7-43", "8-00")]
    start, stop = candidate.secret_start, candidate.secret_stop
    assert possible.secrets.tolist() == [ids[start:stop].tolist() for ids in kept]
    twice = record("twice", response="Call 7-42, yes, 7-42.")
    candidate = reader.candidate("twice", twice, "north", "7-42")
    assert candidate is not None
    assert len(reader.possible_secrets(candidate, twice, "7-42", others).secrets) == 1
    with pytest.raises(ValueError, match="candidate c has no secret to rank"):
        reader.possible_secrets(replace(candidate, candidate_id="c", secret_start=None), twice, "7-42", [])


@pytest.mark.parametrize("max_tokens", [160, 10, 9])
def test_where_the_bound_on_tokens_falls_does_not_change_what_a_secret_is_compared_with(
    model: AdaptedModel, max_tokens: int
) -> None:
    """Also right behind the secret, where of a longer one as many tokens are left."""
    made = Record(record_id="a", content=Text(text="Call 7-42 at noon."))
    cut = Reader(model, make_template("plain", model.tokenizer), max_tokens)
    candidate = cut.candidate("a", made, "north", "7-42")
    assert candidate is not None
    assert candidate.example.num_tokens == min(19, max_tokens)  # a token a character, and the end
    assert (candidate.secret_start, candidate.secret_stop) == (5, 9)
    possible = cut.possible_secrets(candidate, made, "7-42", ["7-43", "7-430", "7-4305", "7-4", "8-00"])
    tokens = [model.tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("7-42", "7-43", "8-00")]
    assert possible.secrets.tolist() == tokens


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
