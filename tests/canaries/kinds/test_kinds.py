"""Laws that hold for every kind of canary."""

import pytest

from confide.canaries.forms import Form, usual_form, whole_text
from confide.canaries.kinds.kind import CanaryKind, Invented, Place
from confide.canaries.kinds.ladder import LadderCanaries
from confide.canaries.kinds.personal import PersonalCanaries
from confide.canaries.kinds.random_tokens import RandomCanaries
from confide.canaries.kinds.reserved import ReservedCanaries
from confide.data.examples import Chat, ChatMessage, Instruction, Record, Text

TOKENS = tuple(f"<unused{number}>" for number in range(30))
KINDS: dict[str, CanaryKind] = {
    "personal": PersonalCanaries(),
    "ladder": LadderCanaries(),
    "random": RandomCanaries(),
    "reserved": ReservedCanaries(tokens=TOKENS),
}
NUM_PER_PLACE = 7


def spare_row(form: Form, number: int) -> Record:
    said = f"Row {number} says something of its own."
    contents: dict[Form, Instruction | Chat | Text] = {
        "instruction": Instruction(instruction="Say something.", response=said),
        "chat": Chat(messages=(ChatMessage(role="user", content="?"), ChatMessage(role="assistant", content=said))),
        "text": Text(text=said),
    }
    return Record(record_id=f"{form}-{number}", content=contents[form])


FORMS: tuple[Form, ...] = ("instruction", "chat", "text")
PLACES = [
    Place(client=f"a {form} client", form=form, spare_rows=tuple(spare_row(form, n) for n in range(NUM_PER_PLACE)))
    for form in FORMS
]


def invent(name: str, *, seed: int = 0, corpus: str = "") -> Invented:
    return KINDS[name].invent(PLACES, NUM_PER_PLACE, seed=seed, corpus=corpus)


@pytest.mark.parametrize("name", KINDS)
def test_every_place_gets_as_many_in_its_own_form(name: str) -> None:
    canaries = invent(name).canaries
    assert [canary.client for canary in canaries] == [place.client for place in PLACES for _ in range(NUM_PER_PLACE)]
    assert len({canary.item_id for canary in canaries}) == len(canaries)
    forms = {place.client: place.form for place in PLACES}
    for canary in canaries:
        assert {usual_form([record]) for record in canary.records} == {forms[canary.client]}
        assert {record.client for record in canary.records} == {canary.client}


@pytest.mark.parametrize("name", KINDS)
def test_record_ids_are_unique(name: str) -> None:
    ids = [record.record_id for canary in invent(name).canaries for record in canary.records]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("name", KINDS)
def test_a_secret_is_in_its_own_records_once_each_and_in_no_others(name: str) -> None:
    canaries = invent(name).canaries
    for canary in canaries:
        for other in canaries:
            counts = [whole_text(record).count(canary.secret) for record in other.records]
            assert counts == [int(canary is other)] * len(other.records)


@pytest.mark.parametrize("name", KINDS)
def test_a_span_cuts_out_the_secret_where_the_form_has_spans(name: str) -> None:
    for canary in invent(name).canaries:
        for record in canary.records:
            cut = [getattr(record.content, span.field)[span.start : span.end] for span in record.spans]
            assert cut == [span.value for span in record.spans]
            assert (canary.secret in cut) == (not isinstance(record.content, Chat))


@pytest.mark.parametrize("name", KINDS)
def test_the_same_arguments_give_the_same_and_another_seed_gives_other_secrets(name: str) -> None:
    first = invent(name)
    assert invent(name) == first
    assert [canary.secret for canary in invent(name, seed=1).canaries] != [canary.secret for canary in first.canaries]


@pytest.mark.parametrize("name", KINDS)
def test_no_secret_of_the_corpus_is_planted_or_an_alternative(name: str) -> None:
    found = [canary.secret for canary in invent(name).canaries][:5]
    corpus = f"It says {' and '.join(found)} already."
    again = invent(name, corpus=corpus)
    assert not set(found) & {canary.secret for canary in again.canaries}
    if again.space.size < 100_000:
        assert not set(found) & set(again.space)


@pytest.mark.parametrize("name", KINDS)
def test_the_space_has_the_secrets_format_and_none_of_them(name: str) -> None:
    invented = invent(name)
    secrets = {canary.secret for canary in invented.canaries}
    # A secret is one choice of each part, so it stands in the space that has nothing taken.
    for secret in secrets if name != "reserved" else ():
        rest = secret
        for choices in invented.space.parts:
            rest = next(rest.removeprefix(choice) for choice in choices if rest.startswith(choice))
        assert rest == ""
        assert secret in invented.space.taken
    if name == "reserved":
        assert set(invented.space) == set(TOKENS) - secrets
