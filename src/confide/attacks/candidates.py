"""What an attacker asks about: records with their tokens, without the answer whether they were trained on."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from confide.data.examples import TokenizedExample


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One record that an attacker knows or guesses, and asks about: was it trained on?

    There is no answer in here, and nothing that follows from it: candidates stand in an order of their own, and of a
    canary that was repeated only one form is asked about.

    Attributes:
        example: the whole record as tokens; `loss_mask` marks what training would take its loss on.
        text: what would be learnt (the response, or the whole plain text).
        owner: the client it would belong to; attacks on clients group by it.
        secret_start: first token of the planted secret (in `example.input_ids`), None without a planted secret.
        secret_stop: one behind its last token.
    """

    candidate_id: str
    example: TokenizedExample
    text: str
    owner: str
    secret_start: int | None = None
    secret_stop: int | None = None


@dataclass(frozen=True, kw_only=True)
class PossibleSecrets:
    """All that a candidate's planted secret could have been, as tokens in its place.

    Attributes:
        candidate_id: whose.
        beginning: the record's tokens before the secret, shape (num_before,), int64, at least one.
        secrets: shape (num_secrets, num_tokens), int32, no dimension empty; the candidate's own comes first.
    """

    candidate_id: str
    beginning: npt.NDArray[np.int64] = field(repr=False)
    secrets: npt.NDArray[np.int32] = field(repr=False)
