"""The scores of an evaluation as pure functions on strings and numbers; nothing here knows a model.

Which score needs what: perplexity a mean loss; ROUGE-L a reference and a greedy answer; exact match a record's short
`answer` and a greedy answer; multiple choice a record's `choices` and one log-likelihood for each.
"""

import math
import re
import unicodedata
from collections.abc import Sequence
from decimal import Decimal

from confide.data.choices import LETTERS, choice_letter, named_choice
from confide.data.examples import Chat, Instruction, Record
from confide.errors import DataError

ANSWER_MARK = "####"
_NUMBER = re.compile(r"-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|-?\.\d+")


def perplexity(loss: float) -> float:
    """Gives exp(loss) for a mean negative log-likelihood in nats per token; infinite where that overflows.

    >>> round(perplexity(math.log(50)), 6)
    50.0
    """
    return math.exp(loss) if loss < 700.0 else math.inf  # exp(709.8) is the largest float64


def is_exact_match(reference: str, answer: str) -> bool:
    """Tells whether a generated answer is the reference answer or, where that is a number, comes to it.

    The rule, in order:
        1. Of either text that has the mark "####" (the form of GSM8K), only what follows the last mark counts.
        2. If the reference is then a number (a currency sign, a percent sign or a full stop around it is allowed), the
           last number of the answer must equal it. Commas between thousands are dropped and values are compared, so
           1,200 equals 1200.0.
        3. Otherwise both texts must be equal after normalisation: Unicode NFKC, case folded, punctuation and the
           articles a, an, the dropped, white space collapsed.

    >>> is_exact_match("18", "She makes 9 * 2 = $18 every day.")
    True
    >>> is_exact_match("Asthma", "The answer is asthma")
    False

    Source: rule 2 is "flexible-extract" of lm-evaluation-harness's gsm8k (last number of the text) and, where the mark
        is used, its "strict-match"; rule 3 is the normalisation of SQuAD (Rajpurkar et al. 2016).
    """
    expected = _after_mark(reference)
    given = _after_mark(answer)
    number = _as_number(expected)
    if number is not None:
        return _last_number(given) == number
    return _normalise(given) == _normalise(expected)


def choice_candidates(record: Record) -> tuple[str, ...]:
    """Gives the text to score as the response for each of a record's choices, in the choices' order.

    These are the letters A, B, ... where the record's own response is the letter of a choice (the question then lists
    the choices under letters), and the choices' texts otherwise: the form the data teaches.
    """
    answers_by_letter = choice_letter(response_text(record), record.choices) is not None
    return tuple(LETTERS[: len(record.choices)]) if answers_by_letter else record.choices


def correct_choice(record: Record) -> int | None:
    """Gives the index of a record's right choice, or None where the record does not say which one is right.

    `answer` decides, without one the response, if that names a choice; either by text or by letter: `named_choice`.

    Raises:
        DataError: `answer` is given and names none of the choices.
    """
    found = named_choice(record.answer if record.answer is not None else response_text(record), record.choices)
    if found is None and record.answer is not None:
        raise DataError(
            f"record {record.record_id}: its answer is none of its {len(record.choices)} choices. "
            "Expected the text of one of them, or its letter (A for the first). Correct the row, or name other columns "
            "in data.answer_column and data.choices_column."
        )
    return found


def best_choice(log_likelihoods: Sequence[float]) -> int:
    """Gives the index of the largest log-likelihood; the first of equals.

    Each value is the total log-likelihood, in nats, of one choice as the complete response with its end token: the
    probability that the model gives exactly this answer. It is not divided by length, since that would favour long
    choices where the answers are words such as yes, no and maybe; the end token keeps a choice from winning only as
    the beginning of another. lm-evaluation-harness reports the same total without an end token as `acc`, and the
    total divided by the choice's number of characters as `acc_norm`.
    """
    return max(range(len(log_likelihoods)), key=lambda index: (log_likelihoods[index], -index))


def response_text(record: Record) -> str:
    """Gives the reference response: of an instruction its response, of a chat its last assistant message.

    Empty for plain text, which has no prompt and so nothing to answer.
    """
    content = record.content
    if isinstance(content, Instruction):
        return content.response
    if isinstance(content, Chat):
        return next((message.content for message in reversed(content.messages) if message.role == "assistant"), "")
    return ""


def _after_mark(text: str) -> str:
    return text.rsplit(ANSWER_MARK, 1)[-1].strip()


def _as_number(text: str) -> Decimal | None:
    """The value of a text that is one number and nothing else but a unit sign or a full stop."""
    bare = text.strip().rstrip(".").strip("$€£% ")
    return _decimal(bare) if _NUMBER.fullmatch(bare) else None


def _last_number(text: str) -> Decimal | None:
    matches = list(_NUMBER.finditer(text))
    if not matches:
        return None
    number = matches[-1]
    is_sign = not text[: number.start()].rstrip()[-1:].isdigit()  # "9-2" subtracts, " -2" is negative
    return _decimal(number.group() if is_sign else number.group().removeprefix("-"))


def _decimal(digits: str) -> Decimal:
    return Decimal(digits.replace(",", ""))


def _normalise(text: str) -> str:
    folded = unicodedata.normalize("NFKC", text).casefold()
    kept = "".join(character for character in folded if not unicodedata.category(character).startswith("P"))
    words = kept.split()
    return " ".join([word for word in words if word not in {"a", "an", "the"}] or words)  # "A" may be the answer
