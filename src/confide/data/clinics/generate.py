"""Puts the clinics' records together."""

from confide.data.clinics.houses import MAX_CLINICS, build_clinic
from confide.data.clinics.letters import write_letters
from confide.data.clinics.questions import QUESTIONS, write_questions
from confide.data.examples import Record
from confide.errors import DataError

MAX_LETTERS = 10_000
"""Letters per clinic; beyond, invented phone numbers would come again."""

MAX_QUESTIONS = 3 * len(QUESTIONS)
"""General questions per clinic; beyond, the same record would come again."""


def generate_clinics(
    *, seed: int, num_clinics: int = 3, num_letters: int = 40, num_instructions: int = 20
) -> list[Record]:
    """Invents the records of some clinics: patient letters with known personal data, and general medical questions.

    Clinics differ in departments, letterhead, tone, dates and length, so that their data is skewed as in life. A letter
    follows from the notes in the record's input; what the notes do not tell (date of birth, phone number, ...) can only
    be memorised. Nobody in it exists; see `confide.data.clinics.identities` for the ranges used.

    Args:
        seed: of all that is invented.
        num_clinics: 1 to `MAX_CLINICS`; each is one client.
        num_letters: letters per clinic, 0 to `MAX_LETTERS`; label is the department.
        num_instructions: general questions per clinic, 0 to `MAX_QUESTIONS`; label is "general".

    Returns:
        Clinic after clinic, letters before questions. `client` is `clinic_name(i)`.

    Guarantees:
        - The same arguments give the same records (with the same version of Faker), whatever else draws at random.
        - More clinics, letters or questions leave the earlier records of each clinic as they were.
        - For each span, the named field of the content has exactly `value` at [start:end], and every field that holds
          a personal value has its span.

    Raises:
        DataError: a number is out of range, or there would be no record at all.
    """
    _check_range(num_clinics, name="data.clients", low=1, high=MAX_CLINICS)
    _check_range(num_letters, name="data.clinic_letters", low=0, high=MAX_LETTERS)
    _check_range(num_instructions, name="data.clinic_instructions", low=0, high=MAX_QUESTIONS)
    if num_letters == num_instructions == 0:
        raise DataError(
            "data.clinic_letters and data.clinic_instructions are both 0, expected at least one record per clinic. "
            "Ask for some letters or some instructions."
        )
    records: list[Record] = []
    for index in range(num_clinics):
        clinic = build_clinic(index)
        records += write_letters(seed, clinic, num_letters)
        records += write_questions(seed, clinic, num_instructions)
    return records


def clinic_name(index: int) -> str:
    """Gives the client name of the clinic at a place, 0 to `MAX_CLINICS` - 1, e.g. "clinic-north"."""
    _check_range(index, name="index", low=0, high=MAX_CLINICS - 1)
    return build_clinic(index).name


def _check_range(value: int, *, name: str, low: int, high: int) -> None:
    if not low <= value <= high:
        raise DataError(
            f"{name} is {value}, expected {low} to {high} for the source clinics. Choose a number in this range."
        )
