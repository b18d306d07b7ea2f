"""Tokens that a vocabulary holds and no text uses: found in a tokenizer, and let through into examples.

Templates read control tokens that occur in the data as the text they are, so that data cannot end a turn. A planted
reserved token has to reach the model as the one token it is; `let_through` makes a tokenizer that does this for the
planted ones and nothing else.
"""

import re
from collections.abc import Collection, Mapping
from typing import Protocol, overload

from jinja2 import TemplateError

from confide.data.templates import Tokenizer
from confide.data.wordings import AddedToken, control_tokens

# Llama's <|reserved_special_token_7|>, Gemma's <unused7>, BERT's [unused7], T5's <extra_id_7>, Phi's <|placeholder7|>.
_NUMBERED = re.compile(r"\W*(?:reserved|unused|extra|placeholder|dummy)[a-z_]*?_?\d+\W*", re.IGNORECASE)
_PROBES = (
    [("system", "a"), ("user", "b"), ("assistant", "c")],
    [("user", "b"), ("assistant", "c")],
)


class NamedTokens(Tokenizer, Protocol):
    """What finding reserved tokens needs of a transformers tokenizer: also the tokens that have a part to play."""

    bos_token: str | None
    eos_token: str | None
    pad_token: str | None
    unk_token: str | None


def find_reserved_tokens(tokenizer: NamedTokens) -> tuple[str, ...]:
    """Gives the tokens that a tokenizer keeps in reserve, as text, by id.

    Those with a number where it has any (Llama's `<|reserved_special_token_7|>`, Gemma's `<unused7>`); else control
    tokens that neither its chat template writes nor training on plain text meets (SmolLM2's `<file_sep>`).

    Returns:
        Maybe none. Each is tokenised as one token.
    """
    added = [token.content for _, token in sorted(tokenizer.added_tokens_decoder.items())]
    numbered = [token for token in added if _NUMBERED.fullmatch(token)]
    if not numbered:
        named = {tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token, tokenizer.unk_token}
        written = "\n".join([tokenizer.chat_template or "", *_probe_texts(tokenizer)])
        special = set(control_tokens(tokenizer).values())
        numbered = [token for token in added if token in special - named and token not in written]
    return tuple(token for token in numbered if _is_one_token(tokenizer, token))


def let_through(tokenizer: Tokenizer, tokens: Collection[str]) -> Tokenizer:
    """Gives the tokenizer for templates under which some tokens mean themselves wherever they stand in the data.

    Args:
        tokenizer: of the base model.
        tokens: reserved tokens; not the ones that start or end a turn.
    """
    return _LettingThrough(tokenizer, tokens) if tokens else tokenizer


class _LettingThrough:
    """A tokenizer that takes some control tokens for ordinary ones."""

    def __init__(self, tokenizer: Tokenizer, tokens: Collection[str]) -> None:
        self._tokenizer = tokenizer
        self._tokens = frozenset(tokens)
        longest_first = sorted(tokens, key=len, reverse=True)
        self._planted = re.compile(f"({'|'.join(map(re.escape, longest_first))})")
        self.chat_template = tokenizer.chat_template
        self.eos_token_id = tokenizer.eos_token_id

    @property
    def added_tokens_decoder(self) -> Mapping[int, AddedToken]:
        every = self._tokenizer.added_tokens_decoder
        return {token_id: token for token_id, token in every.items() if token.content not in self._tokens}

    def apply_chat_template(
        self, conversation: list[dict[str, str]], *, add_generation_prompt: bool, tokenize: bool
    ) -> str:
        return self._tokenizer.apply_chat_template(
            conversation, add_generation_prompt=add_generation_prompt, tokenize=tokenize
        )

    @overload
    def __call__(
        self, text: str, *, add_special_tokens: bool, split_special_tokens: bool, verbose: bool
    ) -> Mapping[str, list[int]]: ...

    @overload
    def __call__(
        self, text: list[str], *, add_special_tokens: bool, split_special_tokens: bool, verbose: bool
    ) -> Mapping[str, list[list[int]]]: ...

    def __call__(
        self, text: str | list[str], *, add_special_tokens: bool, split_special_tokens: bool, verbose: bool
    ) -> Mapping[str, list[int]] | Mapping[str, list[list[int]]]:
        texts = [text] if isinstance(text, str) else text
        if add_special_tokens or not split_special_tokens or not any(map(self._planted.search, texts)):
            return self._tokenizer(
                text, add_special_tokens=add_special_tokens, split_special_tokens=split_special_tokens, verbose=verbose
            )
        if isinstance(text, str):
            return {"input_ids": self._ids_of(text, verbose=verbose)}
        return {"input_ids": [self._ids_of(one, verbose=verbose) for one in text]}

    def _ids_of(self, text: str, *, verbose: bool) -> list[int]:
        ids: list[int] = []
        for position, part in enumerate(self._planted.split(text)):  # every second part is a planted token
            if part:
                encoding = self._tokenizer(
                    part, add_special_tokens=False, split_special_tokens=position % 2 == 0, verbose=verbose
                )
                ids += encoding["input_ids"]
        return ids


def _probe_texts(tokenizer: Tokenizer) -> list[str]:
    """Conversations as the chat template writes them, which may put the names of tokens together from parts."""
    texts = []
    for turns in _PROBES if tokenizer.chat_template else ():
        messages = [{"role": role, "content": content} for role, content in turns]
        try:
            texts.append(tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))
        except (TemplateError, ValueError):  # many templates refuse a system message
            continue
    return texts


def _is_one_token(tokenizer: Tokenizer, token: str) -> bool:
    encoding = tokenizer(token, add_special_tokens=False, split_special_tokens=False, verbose=False)
    return len(encoding["input_ids"]) == 1
