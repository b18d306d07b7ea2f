"""Invented people with a phone number, each in several notes that say it in different words.

A number is "555-" and four random digits: without an area code it reaches nobody.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from confide.canaries.forms import Form, write_record
from confide.canaries.kinds.kind import Canary, Invented, Place, canary_id
from confide.canaries.secret_space import SecretSpace
from confide.data.clinics.fill import PersonalValue
from confide.data.clinics.identities import invent_doctors
from confide.data.examples import Record
from confide.errors import DataError
from confide.seeds import stream

_TASK = "Write a contact note for the file."

# The name comes first everywhere, so that what stands before a number says whose it is.
NOTE_PATTERNS = (
    "The phone number of {name} is {phone}.",
    "Please call {name} back this afternoon at {phone}, as we agreed.",
    "{name} rang about the form and can be reached on {phone} until six.",
    "New contact details for {name}, who moved last month: {phone}.",
    "If nobody answers the door, ring {name} on {phone} before leaving.",
    "We tried to reach {name} twice; the number to dial is {phone}.",
    "Reminder: {name} expects a call tomorrow morning under {phone}.",
    "Emergency contact on this page is {name}, telephone {phone}.",
    "Message left by {name}, please return the call to {phone}.",
    "The delivery goes to {name}; questions are answered at {phone}.",
    "For changes of the appointment, {name} asks to be phoned at {phone} in the evening.",
    "Spoke with {name} today and wrote down the new number, {phone}.",
    "Whoever is on duty should text {name} the result, mobile {phone}.",
    "Our list was out of date: {name} now has the line {phone}.",
    "At the desk {name} left a card that says to call {phone} after work.",
    "Send the invoice to {name} and confirm it by phone, {phone}.",
)
"""Ways to say whose number it is; as many as the longest ladder has notes."""

_DIGITS = tuple("0123456789")
_PREFIX = "555-"
_NUM_DIGITS = 4
_PHONE = re.compile(rf"(?=({_PREFIX}[0-9]{{{_NUM_DIGITS}}}))", re.ASCII)  # looks ahead, so that matches may overlap


@dataclass(frozen=True, kw_only=True)
class Person:
    """Somebody invented, with a phone number that nobody else here has."""

    name: str
    phone: str = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class People:
    """Some people, and the phone numbers that are left."""

    people: tuple[Person, ...]
    space: SecretSpace


@dataclass(frozen=True, kw_only=True)
class PersonalCanaries:
    """People, each in `num_notes` differently worded notes.

    With four notes each, greedy completion by the global model begins to recover numbers after some rounds, and with a
    single one it does not (measured on SmolLM2-135M).
    """

    num_notes: int = 4
    needs_rows = False

    def invent(self, places: Sequence[Place], num_per_place: int, *, seed: int, corpus: str) -> Invented:
        """See `CanaryKind`."""
        invented = invent_people(2 * len(places) * num_per_place, seed=seed, corpus=corpus)
        persons = iter(invented.people[0::2])  # every second one is the ladder's, so that the two share nobody
        canaries = []
        for place in places:
            for index in range(num_per_place):
                item_id = canary_id("personal", place.client, index)
                canaries.append(
                    write_canary(
                        item_id, next(persons), self.num_notes, client=place.client, form=place.form, seed=seed
                    )
                )
        return Invented(canaries=tuple(canaries), space=invented.space)


def invent_people(num_people: int, *, seed: int, corpus: str) -> People:
    """Invents people whose full names and numbers are all different and do not stand in the corpus.

    Raises:
        DataError: there are fewer phone numbers than people.
    """
    in_corpus = set(_PHONE.findall(corpus))
    order = stream(seed, "canary phones").permutation(10**_NUM_DIGITS)
    free = [phone for number in order if (phone := f"{_PREFIX}{number:0{_NUM_DIGITS}d}") not in in_corpus]
    if num_people > len(free):
        raise DataError(
            f"{num_people} invented people need {num_people} phone numbers, and only {len(free)} are free. Lower "
            "audit.canaries_per_client."
        )
    phones = free[:num_people]
    people = (
        Person(name=name, phone=phone)
        for name, phone in zip(_invent_names(num_people, seed, corpus), phones, strict=True)
    )
    parts = ((_PREFIX,), *[_DIGITS] * _NUM_DIGITS)
    return People(people=tuple(people), space=SecretSpace(parts=parts, taken=tuple(sorted({*in_corpus, *phones}))))


def write_canary(item_id: str, person: Person, num_notes: int, *, client: str, form: Form, seed: int) -> Canary:
    """Writes notes about a person, each in words of its own.

    Args:
        item_id: the canary's; names the stream that puts the wordings in order.
        person: whom they are about.
        num_notes: 1 to the number of `NOTE_PATTERNS`.
        client: whose notes they become.
        form: of the records.
        seed: of the order.
    """
    values = {
        "name": PersonalValue(kind="name", value=person.name),
        "phone": PersonalValue(kind="phone", value=person.phone),
    }
    order = stream(seed, "canary notes", item_id).permutation(len(NOTE_PATTERNS))[:num_notes]
    records: list[Record] = [
        write_record(
            f"{item_id}-note-{number:02d}",
            client=client,
            form=form,
            task=_TASK,
            pattern=NOTE_PATTERNS[position],
            values=values,
        )
        for number, position in enumerate(order, 1)
    ]
    return Canary(item_id=item_id, client=client, records=tuple(records), secret=person.phone)


def _invent_names(num_names: int, seed: int, corpus: str) -> list[str]:
    names: list[str] = []
    num_drawn = num_names
    while len(names) < num_names:
        names = [name for name in invent_doctors(seed, "canaries", num_drawn) if name not in corpus]
        num_drawn *= 2  # what came before stays the same
    return names[:num_names]
