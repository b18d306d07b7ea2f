"""Records as attackers are asked about them: tokenised as training tokenised them, with the planted secret found."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np
import numpy.typing as npt

from confide.attacks.candidates import Candidate, PossibleSecrets
from confide.canaries.locate_secret import secret_token_range
from confide.data.examples import Chat, ChatMessage, Instruction, Record, Text, TokenizedExample
from confide.data.templates import Template
from confide.data.tokenize import tokenize_records
from confide.model.lora import AdaptedModel

_RECORDS_AT_ONCE = 1000  # texts and ids of so many lie in memory as Python's own


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

    def possible_secrets(
        self, candidate: Candidate, record: Record, secret: str, others: Iterable[str]
    ) -> PossibleSecrets:
        """A candidate's secret and all others that can be compared with it, as tokens in its place.

        Args:
            candidate: made of the record.
            record: with the secret.
            secret: the candidate's own.
            others: what it could have been.

        Returns:
            The others in their order, without those that change the record's tokens elsewhere too, or are more or
            fewer tokens: a longer one is less likely for its length alone. That is told by whole records, also by what
            training cuts off: cut where the secret ends, a longer one looks as long.

        Raises:
            ValueError: the candidate has no secret.
        """
        start, stop = candidate.secret_start, candidate.secret_stop
        if start is None or stop is None:
            raise ValueError(f"candidate {candidate.candidate_id} has no secret to rank")
        own = np.array(self._template.encode(record)[0], np.int64)
        comparable = [own[None, start:stop].astype(np.int32)]
        changed = (with_secret(record, secret, other) for other in others)
        while some := list(islice(changed, _RECORDS_AT_ONCE)):
            ids = self._ids_of_length(own.size, some)
            is_same = ids == own
            is_same[:, start:stop] = True
            comparable.append(ids[is_same.all(axis=1), start:stop].astype(np.int32))
        return PossibleSecrets(
            candidate_id=candidate.candidate_id, beginning=own[:start], secrets=np.concatenate(comparable)
        )

    def _ids_of_length(self, num_tokens: int, records: Sequence[Record]) -> npt.NDArray[np.int64]:
        """The tokens of those records that have so many before training cuts any, shape (num_found, num_tokens)."""
        found = [ids for ids, _ in self._template.encode_all(records) if len(ids) == num_tokens]
        return np.array(found, np.int64).reshape(-1, num_tokens)

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
