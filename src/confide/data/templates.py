"""Turns records into token ids with an exact loss mask: a wording put together with a tokenizer.

Training, evaluation and generation all see a record through the same template.

How boundaries are handled: every piece continues the text before it and is tokenised in that context. Where the
tokenizer would merge characters across a boundary, the piece is tokenised on its own instead, so a token never belongs
half to a prompt and half to a response, and the prompt's ids are the same with and without the response behind them.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol, overload

from confide.data.examples import Instruction, Record, Text
from confide.data.wordings import (
    GUARD_END,
    GUARD_START,
    AlpacaWording,
    AutoWording,
    ChatTokenizer,
    ChatWording,
    Piece,
    PlainWording,
    VicunaWording,
    Wording,
    control_tokens,
)
from confide.errors import ConfigError, DataError, ModelError

_GUARDED = re.compile(f"{GUARD_START}(.*?){GUARD_END}", re.DOTALL)


class Tokenizer(ChatTokenizer, Protocol):
    """What a template needs of a transformers tokenizer."""

    eos_token_id: int | None

    # Gives the "input_ids" of a text, or of each of some texts.
    @overload
    def __call__(
        self, text: str, *, add_special_tokens: bool, split_special_tokens: bool, verbose: bool
    ) -> Mapping[str, list[int]]: ...

    @overload
    def __call__(
        self, text: list[str], *, add_special_tokens: bool, split_special_tokens: bool, verbose: bool
    ) -> Mapping[str, list[list[int]]]: ...


def make_template(name: str, tokenizer: Tokenizer) -> "Template":
    """Puts a wording together with a tokenizer.

    Args:
        name: one of `TEMPLATES`. "auto" is the tokenizer's own chat template or, where it has none, alpaca for
            instructions and vicuna for conversations.
        tokenizer: of the base model.

    Raises:
        ConfigError: no template has this name.
        ModelError: the tokenizer has no chat template or no end-of-sequence token, and needs one.
    """
    if name not in _WORDINGS:
        raise ConfigError(f"data.template is {name!r}, expected one of: {', '.join(TEMPLATES)}.")
    return Template(tokenizer, _WORDINGS[name](tokenizer))


class Template:
    """A wording with a tokenizer: records in, token ids out.

    Plain text is never wrapped, whatever the wording: it is learnt whole, from the tokenizer's opening tokens to its
    end-of-sequence token. Control tokens that occur literally in the data are tokenised as the text they are.
    """

    def __init__(self, tokenizer: Tokenizer, wording: Wording) -> None:
        if tokenizer.eos_token_id is None:
            raise ModelError(
                "the model's tokenizer has no end-of-sequence token, so a response would have no end to learn. "
                "Use a model whose tokenizer defines eos_token."
            )
        self._tokenizer = tokenizer
        self._wording = wording
        self._end_id = tokenizer.eos_token_id
        self._opening_ids = _opening_ids(tokenizer)
        self._control_ids = {*control_tokens(tokenizer), self._end_id}

    def prompt(self, record: Record) -> list[int]:
        """The token ids up to where the response starts: what generation continues.

        For a conversation, up to its last assistant message; for plain text, only the tokenizer's opening tokens,
        which may be none.

        Raises:
            DataError: the wording cannot express the record.
        """
        if isinstance(record.content, Text):
            return list(self._opening_ids)
        return self._encode_pieces(record, self._pieces(record)[:-1], self._ids_of)[0]

    def encode(self, record: Record) -> tuple[list[int], list[bool]]:
        """The token ids of the whole record, and which of them are to be learnt.

        Returns:
            The ids and a mask of the same length, True at the tokens of responses (of all of a plain text) and at the
            end mark behind each. Nothing follows the last target. The first token is never a target, as nothing
            predicts it.

        Guarantees:
            - `prompt(record)` is a prefix of the ids; for an instruction it is exactly the part that is not learnt.
            - Instructions and texts end with the end-of-sequence token; under the chat template, instructions and
              conversations with what it ends a turn with.

        Raises:
            DataError: the wording cannot express the record.
        """
        return self._encode_whole(record, self._pieces(record), self._ids_of)

    def encode_all(self, records: Sequence[Record]) -> list[tuple[list[int], list[bool]]]:
        """What `encode` gives of each record; the tokenizer is asked for all of their texts at once, which is faster.

        Raises:
            DataError: the wording cannot express a record.
        """
        pieces = [(record, self._pieces(record)) for record in records]
        together = _Together(self._tokenizer, self._ids_of)
        for record, some in pieces:
            self._encode_whole(record, some, together.note)
        together.tokenize()
        return [self._encode_whole(record, some, together.ids_of) for record, some in pieces]

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """The token ids that end a response: end of sequence, and what the chat template ends a turn with."""
        if not self._wording.writes_control_tokens:
            return (self._end_id,)
        probe = Record(record_id="probe", content=Instruction(instruction="a", response="b"))
        last_id = self.encode(probe)[0][-1]
        return tuple(sorted({self._end_id, last_id} & self._control_ids))

    def _pieces(self, record: Record) -> list[Piece]:
        if isinstance(record.content, Text):
            return [Piece(record.content.text, True)]
        try:
            return self._wording.pieces(record.content)
        except DataError as error:
            raise DataError(f"record {record.record_id}: {error}") from error

    def _encode_whole(self, record: Record, pieces: list[Piece], ids_of: "_IdsOf") -> tuple[list[int], list[bool]]:
        ids, mask = self._encode_pieces(record, pieces, ids_of)
        num_kept = 1 + max((position for position, is_target in enumerate(mask) if is_target), default=len(ids) - 1)
        return ids[:num_kept], [False, *mask[1:num_kept]]

    def _encode_pieces(self, record: Record, pieces: list[Piece], ids_of: "_IdsOf") -> tuple[list[int], list[bool]]:
        is_rendered = self._wording.writes_control_tokens and not isinstance(record.content, Text)
        return self._encode_rendered(pieces, ids_of) if is_rendered else self._encode_text(pieces, ids_of)

    def _encode_text(self, pieces: list[Piece], ids_of: "_IdsOf") -> tuple[list[int], list[bool]]:
        """Pieces of mere text: opening tokens in front, an end-of-sequence token behind every target."""
        ids = list(self._opening_ids)
        mask = [False] * len(ids)
        context = _Context(partial(ids_of, is_data=True))
        for piece in pieces:
            piece_ids = context.extend(piece.text)
            if piece.is_target:
                piece_ids = [*piece_ids, self._end_id]
                context = _Context(partial(ids_of, is_data=True))  # what follows an end starts afresh
            ids += piece_ids
            mask += [piece.is_target] * len(piece_ids)
        return ids, mask

    def _encode_rendered(self, pieces: list[Piece], ids_of: "_IdsOf") -> tuple[list[int], list[bool]]:
        """Pieces with control tokens in them: a target goes as far as the last one of its turn, its end mark."""
        ids: list[int] = []
        mask: list[bool] = []
        context = _Context(partial(_rendered_ids, ids_of))
        for piece in pieces:
            piece_ids = context.extend(piece.text)
            ends = [position for position, token in enumerate(piece_ids, 1) if token in self._control_ids]
            num_targets = (ends[-1] if ends else len(piece_ids)) if piece.is_target else 0
            ids += piece_ids
            mask += [position < num_targets for position in range(len(piece_ids))]
        return ids, mask

    def _ids_of(self, text: str, *, is_data: bool) -> list[int]:
        encoding = self._tokenizer(text, add_special_tokens=False, split_special_tokens=is_data, verbose=False)
        return encoding["input_ids"]


class _IdsOf(Protocol):
    def __call__(self, text: str, *, is_data: bool) -> list[int]:
        """Gives a text's ids; in data, control tokens are the text that they are."""


def _rendered_ids(ids_of: _IdsOf, text: str) -> list[int]:
    ids: list[int] = []
    for position, part in enumerate(_GUARDED.split(text)):  # every second part stood between guards
        ids += ids_of(part, is_data=position % 2 == 1)
    return ids


class _Together:
    """Texts that are noted first and tokenised at once."""

    def __init__(self, tokenizer: Tokenizer, otherwise: _IdsOf) -> None:
        self._tokenizer = tokenizer
        self._otherwise = otherwise
        self._known: dict[bool, dict[str, list[int]]] = {False: {}, True: {}}

    def note(self, text: str, *, is_data: bool) -> list[int]:
        """Notes a text, and gives no ids: without any, nothing merges across a boundary."""
        self._known[is_data][text] = []
        return []

    def tokenize(self) -> None:
        """Tokenises all that was noted."""
        for is_data, known in self._known.items():
            if texts := list(known):
                encoding = self._tokenizer(texts, add_special_tokens=False, split_special_tokens=is_data, verbose=False)
                known.update(zip(texts, encoding["input_ids"], strict=True))

    def ids_of(self, text: str, *, is_data: bool) -> list[int]:
        """The ids of a text, also of one that was not noted."""
        ids = self._known[is_data].get(text)
        return self._otherwise(text, is_data=is_data) if ids is None else ids


class _Context:
    """Text so far and its token ids; the ids only ever grow."""

    def __init__(self, tokenize: Callable[[str], list[int]]) -> None:
        self._tokenize = tokenize
        self._text = ""
        self._ids: list[int] = []

    def extend(self, text: str) -> list[int]:
        """Adds text and gives the ids it adds."""
        ids = self._tokenize(self._text + text)
        if ids[: len(self._ids)] != self._ids:  # a merge across the boundary
            ids = self._ids + self._tokenize(text)
        added = ids[len(self._ids) :]
        self._text += text
        self._ids = ids
        return added


def _opening_ids(tokenizer: Tokenizer) -> list[int]:
    """What the tokenizer puts before a text (a beginning-of-sequence token), or nothing."""
    bare = tokenizer("a", add_special_tokens=False, split_special_tokens=False, verbose=False)["input_ids"]
    full = tokenizer("a", add_special_tokens=True, split_special_tokens=False, verbose=False)["input_ids"]
    starts = [start for start in range(len(full)) if full[start : start + len(bare)] == bare]
    return full[: starts[0]] if starts else []


_WORDINGS: dict[str, Callable[[Tokenizer], Wording]] = {
    "auto": lambda tokenizer: ChatWording(tokenizer) if tokenizer.chat_template else AutoWording(),
    "alpaca": lambda _: AlpacaWording(),
    "vicuna": lambda _: VicunaWording(),
    "chat": ChatWording,
    "plain": lambda _: PlainWording(),
}

TEMPLATES = tuple(_WORDINGS)
"""The names that `make_template` knows."""
