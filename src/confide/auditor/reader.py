"""Records as attackers are asked about them: tokenised as training tokenised them, with the planted secret found."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from confide.attacks.candidates import Candidate
from confide.canaries.locate_secret import secret_token_range
from confide.data.examples import Chat, ChatMessage, Instruction, Record, Text, TokenizedExample
from confide.data.templates import Template
from confide.data.tokenize import tokenize_records
from confide.model.lora import AdaptedModel


class Reader:
    """Turns records into candidates, as training turns them into examples.

    Args:
        max_tokens: of training: what it cut off was never trained on.
    """

    def __init__(self, model: AdaptedModel, template: Template, max_tokens: int) -> None:
        self._tokenizer = model.tokenizer
        self._template = template
        self._max_tokens = max_tokens

    def candidate(self, candidate_id: str, record: Record, owner: str, secret: str | None = None) -> Candidate | None:
        """A record as a candidate; None if nothing of it would be learnt, or its secret was cut off."""
        examples = self.examples([record])
        if not examples:
            return None
        example = replace(examples[0], record_id=candidate_id)
        place = None if secret is None else secret_token_range(example, self._tokenizer, secret)
        if secret is not None and place is None:
            return None
        start, stop = place or (None, None)
        return Candidate(
            candidate_id=candidate_id,
            example=example,
            text=learnt_text(record),
            owner=owner,
            secret_start=start,
            secret_stop=stop,
        )

    def examples(self, records: Sequence[Record]) -> tuple[TokenizedExample, ...]:
        """Records as examples, without those of which nothing would be learnt."""
        return tokenize_records(records, self._template, self._max_tokens).examples


def learnt_text(record: Record) -> str:
    """What of a record is learnt, as text."""
    content = record.content
    if isinstance(content, Instruction):
        return content.response
    if isinstance(content, Chat):
        return "\n".join(message.content for message in content.messages if message.role == "assistant")
    return content.text


def with_secret(record: Record, secret: str, other: str) -> Record:
    """The same record with another secret in its place."""
    return _changed(record, lambda text: text.replace(secret, other))


def lowered(record: Record) -> Record:
    """The same record with what is learnt in small letters."""
    return _changed(record, str.lower)


def _changed(record: Record, change: Callable[[str], str]) -> Record:
    content = record.content
    if isinstance(content, Instruction):
        content = replace(content, response=change(content.response))
    elif isinstance(content, Chat):
        content = Chat(
            messages=tuple(
                ChatMessage(role=m.role, content=change(m.content) if m.role == "assistant" else m.content)
                for m in content.messages
            )
        )
    else:
        content = Text(text=change(content.text))
    return replace(record, content=content, spans=())
