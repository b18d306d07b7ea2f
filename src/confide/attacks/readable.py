"""Whether a model can read what an attack gives it, and whether its numbers can be read: what is refused, and why."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from confide.attacks.candidates import PossibleSecrets
from confide.attacks.pass_keys import TokenIds
from confide.data.examples import TokenizedExample
from confide.errors import DataError, NonFiniteUpdateError
from confide.model.context import max_positions
from confide.model.lora import AdaptedModel
from confide.update import Vector

_WHAT_TO_DO = (
    "The adapter was damaged or training diverged: leave this round out, or train again with a lower "
    "train.learning_rate."
)


def check_records(model: AdaptedModel, examples: Sequence[TokenizedExample]) -> None:
    """Checks whole records.

    Raises:
        DataError: a record has more tokens, or other ones, than the model can read.
    """
    limit = max_positions(model.module)
    for example in examples:
        _check_length(model, example.record_id, example.num_tokens, limit)
        _check_tokens(model, f"record {example.record_id!r}", example.input_ids)


def check_secrets(model: AdaptedModel, possible: PossibleSecrets) -> None:
    """Checks secrets and what stands before them.

    Raises:
        DataError: they have more tokens, or other ones, than the model can read.
    """
    num_tokens = possible.beginning.size + possible.secrets.shape[1]
    _check_length(model, possible.candidate_id, num_tokens, max_positions(model.module))
    for ids in (possible.beginning, possible.secrets):
        _check_tokens(model, f"record {possible.candidate_id!r}", ids)


def check_prompts(model: AdaptedModel, prompts: Sequence[Sequence[int]]) -> None:
    """Checks prompts; whether there is room for an answer is for generation to say.

    Raises:
        DataError: a prompt has tokens that the model cannot read.
    """
    for number, prompt in enumerate(prompts):
        _check_tokens(model, f"prompt {number}", prompt)


def check_finite(adapter: Vector | None) -> None:
    """Checks an adapter's values; the base model has none.

    Raises:
        NonFiniteUpdateError: the adapter holds NaN or infinity.
    """
    if adapter is not None and not np.isfinite(adapter).all():
        raise NonFiniteUpdateError(f"the adapter holds values that are NaN or infinite. {_WHAT_TO_DO}")


def not_finite(record_id: str, what: str) -> str:
    """Says of a record that a model gave no number for it."""
    return f"record {record_id!r}: {what} is NaN or infinite. {_WHAT_TO_DO}"


def _check_length(model: AdaptedModel, record_id: str, num_tokens: int, limit: int | None) -> None:
    if limit is not None and num_tokens > limit:
        raise DataError(
            f"record {record_id!r} has {num_tokens} tokens, but {model.base.name} has positions for {limit}. Cut "
            "records as training does (train.max_tokens)."
        )


def _check_tokens(model: AdaptedModel, name: str, token_ids: TokenIds | npt.NDArray[np.int32]) -> None:
    num_ids = model.base.module.get_input_embeddings().num_embeddings
    ids = np.asarray(token_ids)
    if not ((ids >= 0) & (ids < num_ids)).all():
        raise DataError(
            f"{name} has tokens that {model.base.name} does not know: its ids are 0 to {num_ids - 1}. "
            "Tokenise with the model's own tokenizer."
        )
