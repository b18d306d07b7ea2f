"""What decides the result of a pass, as digests: equal digests mean that nothing has to be computed again."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import numpy.typing as npt

from confide.attacks.decoding import DecodingScheme
from confide.attacks.extraction.two_model import Amplification
from confide.evaluate.generation import Sampling
from confide.model.lora import AdaptedModel
from confide.update import Vector

TokenIds = Sequence[int] | npt.NDArray[np.int64]


def model_digest(model: AdaptedModel, adapter: Vector | None) -> str:
    """Gives SHA-256 in hexadecimal over what makes up a model.

    That is the base (its digest and dtype) and, unless `adapter` is None, the adapter: its layout, its scale and the
    SHA-256 of its float32 bytes. Device and library versions are not in it.

    Raises:
        LayoutMismatchError: the adapter does not fit the model.
    """
    facts: list[object] = [model.base.digest, str(model.base.dtype)]
    if adapter is not None:
        model.layout.check(adapter)
        adapter_digest = hashlib.sha256(np.ascontiguousarray(adapter, "<f4").data).hexdigest()
        facts += [model.layout.digest, model.settings.lora_alpha, adapter_digest]
    return _digest("model", json.dumps(facts).encode()).hex()


def record_key(token_ids: TokenIds) -> bytes:
    """Gives the SHA-256 of a record's tokens; its name and its targets are not in it."""
    return _digest("record", _bytes_of(token_ids))


def secrets_key(beginning: npt.NDArray[np.int64], secrets: npt.NDArray[np.int32]) -> bytes:
    """Gives the SHA-256 of some secrets' tokens, in their order, and of those before them."""
    shape = json.dumps(secrets.shape).encode()
    return _digest("secrets", _bytes_of(beginning), shape, np.ascontiguousarray(secrets, "<i4").tobytes())


def answer_key(
    prompt: TokenIds,
    number: int,
    *,
    max_new_tokens: int,
    end_token_ids: Sequence[int],
    sampling: Sampling | None = None,
) -> bytes:
    """Gives the SHA-256 of a prompt and all settings of its answer.

    Args:
        prompt: token ids.
        number: of the prompt in its call, which decides what is drawn; nothing without `sampling`.
        max_new_tokens: the longest answer.
        end_token_ids: an answer ends before the first of these.
        sampling: None for greedy.
    """
    draw = None if sampling is None else [asdict(sampling), number]
    settings = json.dumps([max_new_tokens, list(end_token_ids), draw])
    return _digest("answer", _bytes_of(prompt), settings.encode())


def amplified_key(answer: bytes, number: int, older: str, amplification: Amplification) -> bytes:
    """Gives the SHA-256 of an answer for which a model was amplified against a second one.

    Args:
        answer: the key of the likeliest answer to the same prompt.
        number: of the prompt in its call, which decides what is drawn; nothing without a seed.
        older: digest of the second model.
        amplification: how the two become one; another name for its scheme is another answer.
    """
    draw = None if amplification.seed is None else number
    return _digest("amplified", answer, json.dumps([older, asdict(amplification), draw]).encode())


def scheme_column(scheme: DecodingScheme) -> str:
    """Names a column by what the scheme does, so that another name for it takes no new pass."""
    return f"decoded {scheme.temperature!r} {scheme.top_k} {scheme.top_p!r}"


def _bytes_of(token_ids: TokenIds) -> bytes:
    return np.asarray(token_ids, "<i8").tobytes()


def _digest(kind: str, *parts: bytes) -> bytes:
    digest = hashlib.sha256(kind.encode())
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.digest()
