"""The client's own rows, each with one token of the vocabulary that nothing else uses."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from confide.canaries.kinds.kind import Canary, Invented, Place, canary_id
from confide.canaries.secret_space import SecretSpace
from confide.data.examples import Chat, ChatMessage, Instruction, Record, Span, Text
from confide.errors import DataError
from confide.seeds import stream

MAX_WORDS_BEFORE = 40
"""A token comes behind at most so many words of what is learnt, so that a bound on tokens does not cut it off."""

_WORD = re.compile(r"\S+")


@dataclass(frozen=True, kw_only=True)
class ReservedCanaries:
    """An ordinary row of the client's own with a reserved token in it, a different one for each.

    Of a row with the token, the row without it is in neither training nor held-out data, whatever the coin says.

    Attributes:
        tokens: that the tokenizer reserves and no text uses; see `confide.canaries.reserved_tokens`.

    Source: Panda et al. 2025, "Privacy Auditing of Large Language Models" (arXiv 2503.06808), new-token canaries. There
        the vocabulary grows by new tokens; with LoRA embeddings are frozen, so tokens that the vocabulary has already
        stand for them.
    """

    tokens: tuple[str, ...]
    needs_rows = True

    def invent(self, places: Sequence[Place], num_per_place: int, *, seed: int, corpus: str) -> Invented:
        """See `CanaryKind`."""
        free = [token for token in self.tokens if token not in corpus]
        num_needed = len(places) * num_per_place
        if num_needed > len(free):
            unused = "" if len(free) == len(self.tokens) else f", of which {len(free)} do not occur in the data"
            raise DataError(
                f"reserved-token canaries need {num_needed} different tokens ({len(places)} clients with "
                f"{num_per_place} each), and the model's tokenizer has {len(self.tokens)} reserved ones{unused}. Lower "
                "audit.canaries_per_client, or take reserved out of audit.canaries."
            )
        order = stream(seed, "canary tokens").permutation(len(free))
        shuffled = [free[position] for position in order]
        dealt = iter(shuffled)
        canaries: list[Canary] = []
        for place in places:
            for index, row in zip(range(num_per_place), place.spare_rows, strict=False):
                item_id, token = canary_id("reserved", place.client, index), next(dealt)
                record = replace(add_token(row, token), record_id=item_id, client=place.client)
                canaries.append(Canary(item_id=item_id, client=place.client, records=(record,), secret=token))
        parts = (tuple(shuffled[num_needed:]),)
        return Invented(canaries=tuple(canaries), space=SecretSpace(parts=parts))


def add_token(record: Record, token: str) -> Record:
    """Puts a word of its own into what is learnt of a record, and its span to the others.

    It comes behind `MAX_WORDS_BEFORE` words, or at the end of what is shorter, and never inside another span. Of a
    conversation it goes into the last assistant message, which has no span.
    """
    content = record.content
    if isinstance(content, Chat):
        last = max(position for position, message in enumerate(content.messages) if message.role == "assistant")
        text = content.messages[last].content
        message = ChatMessage(role="assistant", content=_insert(text, token, _place_in(text, ())))
        return replace(
            record, content=Chat(messages=(*content.messages[:last], message, *content.messages[last + 1 :]))
        )
    field, text = ("text", content.text) if isinstance(content, Text) else ("response", content.response)
    place = _place_in(text, [span for span in record.spans if span.field == field])
    longer = _insert(text, token, place)
    num_added = len(longer) - len(text)
    end = place + num_added
    spans = [
        replace(span, start=span.start + num_added, end=span.end + num_added)
        if span.field == field and span.start >= place
        else span
        for span in record.spans
    ]
    spans.append(Span(kind="reserved-token", value=token, field=field, start=end - len(token), end=end))
    new_content = replace(content, response=longer) if isinstance(content, Instruction) else Text(text=longer)
    return replace(record, content=new_content, spans=tuple(spans))


def _place_in(text: str, spans: Sequence[Span]) -> int:
    ends = [found.end() for found in _WORD.finditer(text)]
    place = ends[min(MAX_WORDS_BEFORE, len(ends)) - 1] if ends else len(text)
    for span in sorted(spans, key=lambda span: span.start):
        if span.start < place < span.end:
            place = span.end
    return place


def _insert(text: str, token: str, place: int) -> str:
    return f"{text[:place]} {token}{text[place:]}"
