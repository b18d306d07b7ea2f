import re
from itertools import pairwise

import pytest

from confide.canaries.forms import whole_text
from confide.canaries.kinds.kind import Place
from confide.canaries.kinds.ladder import LADDER, LadderCanaries
from confide.canaries.kinds.personal import NOTE_PATTERNS, PersonalCanaries, invent_people
from confide.data.clinics import generate_clinics
from confide.data.examples import Record
from confide.errors import DataError

PLACES = [Place(client=name, form="text") for name in ("east", "north", "south", "west", "up", "down")]


def wording(record: Record) -> str:
    """A note with everything personal replaced by its kind."""
    text = whole_text(record)
    for span in sorted(record.spans, key=lambda span: span.start, reverse=True):
        text = f"{text[: span.start]}{{{span.kind}}}{text[span.end :]}"
    return text


def test_every_note_names_the_person_before_the_number() -> None:
    assert len(set(NOTE_PATTERNS)) == len(NOTE_PATTERNS) >= max(LADDER)
    for pattern in NOTE_PATTERNS:
        assert re.findall(r"\{(\w+)\}", pattern) == ["name", "phone"]
        # Two notes about one person share less than a near-duplicate would: no five words beside name and number.
        words = re.findall(r"\w+", pattern)
        for other in set(NOTE_PATTERNS) - {pattern}:
            theirs = re.findall(r"\w+", other)
            assert not {tuple(words[i : i + 4]) for i in range(len(words) - 3)} & {
                tuple(theirs[i : i + 4]) for i in range(len(theirs) - 3)
            }


@pytest.mark.parametrize("kind", [PersonalCanaries(), LadderCanaries()])
def test_all_notes_about_one_person_are_worded_differently(kind: PersonalCanaries | LadderCanaries) -> None:
    for canary in kind.invent(PLACES, 10, seed=0, corpus="").canaries:
        wordings = [wording(record) for record in canary.records]
        assert len(set(wordings)) == len(wordings)
        assert set(wordings) <= set(NOTE_PATTERNS)
        names = {span.value for record in canary.records for span in record.spans if span.kind == "name"}
        assert len(names) == 1


def test_the_form_that_is_asked_about_is_not_always_the_same() -> None:
    canaries = PersonalCanaries().invent(PLACES, 20, seed=0, corpus="").canaries
    assert len({wording(canary.records[0]) for canary in canaries}) == len(NOTE_PATTERNS)


def test_the_ladder_has_every_step_equally_often() -> None:
    canaries = LadderCanaries().invent(PLACES, 5, seed=0, corpus="").canaries
    for place in PLACES:
        assert sorted(len(canary.records) for canary in canaries if canary.client == place.client) == list(LADDER)
    few = LadderCanaries().invent(PLACES[:5], 1, seed=0, corpus="").canaries
    assert sorted(len(canary.records) for canary in few) == list(LADDER)
    assert all(high == 2 * low for low, high in pairwise(LADDER))


def test_personal_and_ladder_share_nobody() -> None:
    personal = PersonalCanaries().invent(PLACES, 8, seed=0, corpus="")
    ladder = LadderCanaries().invent(PLACES, 8, seed=0, corpus="")
    everyone = [
        next((span.value for span in canary.records[0].spans if span.kind == "name"), "")
        for canary in (*personal.canaries, *ladder.canaries)
    ]
    secrets = {canary.secret for canary in (*personal.canaries, *ladder.canaries)}
    assert len(set(everyone)) == len(everyone) == len(secrets)
    assert personal.space == ladder.space
    assert secrets <= set(personal.space.taken)


def test_nobody_has_a_name_or_number_of_the_data() -> None:
    corpus = "\n".join(map(whole_text, generate_clinics(seed=0, num_letters=200)))
    invented = invent_people(300, seed=0, corpus=corpus)
    in_data = set(re.findall(r"555-\d{4}", corpus))
    assert in_data  # clinics have numbers of this format too
    assert not in_data & {person.phone for person in invented.people}
    assert not in_data & set(invented.space)
    assert not [person.name for person in invented.people if person.name in corpus]
    assert invented.space.size == 10_000 - 300 - len(in_data)


def test_more_people_than_numbers_are_refused() -> None:
    with pytest.raises(DataError, match=r"10001 invented people need 10001 phone numbers, and only 10000 are free"):
        invent_people(10_001, seed=0, corpus="")
