"""E8's third strategy: teach the global model to complete the attacker's own prefixes, then ask with them.

A client that trains the model a little on what stands before its own personal data, and on that data, makes it readier
to answer such prefixes with personal data at all: others' too, where the model associates them.
"""

import math
from collections.abc import Sequence

import numpy as np

from confide.aggregate.travelling import travelling_slots
from confide.attacks.extraction.generated import Decoder, decode_tokens
from confide.attacks.extraction.own_prefix import num_tokens_before
from confide.attacks.extraction.recogniser import Recogniser
from confide.attacks.passes import Passes
from confide.data.examples import TokenizedExample
from confide.update import Vector

MOST_PAIRS = 16
NUM_EPOCHS = 2
BATCH_SIZE = 4
LEARNING_RATE = 1e-3
"""Of Adam, whose first steps move every weight by about so much: a usual rate for LoRA."""
_BETA_1, _BETA_2, _ADAM_EPS = 0.9, 0.999, 1e-8


def collect_pairs(
    examples: Sequence[TokenizedExample], recogniser: Recogniser, tokenizer: Decoder, *, num_context_tokens: int
) -> list[TokenizedExample]:
    """Cuts out each recognised string with the tokens before it; only the string's tokens are targets.

    Args:
        examples: the attacker's own records.
        recogniser: tells what is personal data.
        tokenizer: of the model.
        num_context_tokens: the longest prefix, >= 1; a string without a token before it is left out.
    """
    pairs = []
    for example in examples:
        ids = [int(token) for token in example.input_ids]
        for occurrence in recogniser.occurrences(decode_tokens(tokenizer, ids)):
            start = num_tokens_before(ids, occurrence.start, tokenizer)
            stop = max(start + 1, num_tokens_before(ids, occurrence.stop, tokenizer))
            first = max(0, start - num_context_tokens)
            if first < start:
                cut = np.array(ids[first:stop], np.int64)
                mask = np.arange(first, stop) >= start
                pairs.append(TokenizedExample(record_id=example.record_id, input_ids=cut, loss_mask=mask))
    return pairs


def tune_on_pairs(passes: Passes, adapter: Vector, pairs: Sequence[TokenizedExample]) -> Vector:
    """Fine-tunes an adapter briefly: `NUM_EPOCHS` of Adam over the first `MOST_PAIRS` pairs, B factors alone.

    Args:
        passes: gives gradients, without dropout.
        adapter: where to begin; not changed.
        pairs: as `collect_pairs` cuts them, at least one.

    Returns:
        The tuned adapter; the same for the same arguments.

    Raises:
        NonFiniteUpdateError, NonFiniteLossError: as `Passes.gradients`.

    Source: FedPII, arXiv 2506.06060, strategy 3 (latent-association fine-tuning); Kingma and Ba 2015, "Adam",
        Algorithm 1.
    """
    layout = passes.model.layout
    part = travelling_slots(layout, "freeze-a", 1)
    weights = layout.gather(adapter, part).astype(np.float64)
    mean, square = np.zeros_like(weights), np.zeros_like(weights)
    chosen = pairs[:MOST_PAIRS]
    batches = [chosen[start : start + BATCH_SIZE] for start in range(0, len(chosen), BATCH_SIZE)]
    current = adapter
    for step, batch in enumerate(batches * NUM_EPOCHS, start=1):
        gradient = np.mean(list(passes.gradients(current, batch, part)), axis=0, dtype=np.float64)
        mean = _BETA_1 * mean + (1 - _BETA_1) * gradient
        square = _BETA_2 * square + (1 - _BETA_2) * gradient**2
        size = LEARNING_RATE * math.sqrt(1 - _BETA_2**step) / (1 - _BETA_1**step)
        weights = weights - size * mean / (np.sqrt(square) + _ADAM_EPS)
        current = layout.scatter(adapter, part, weights.astype(np.float32))
    return current


def like_base(passes: Passes, adapter: Vector) -> Vector:
    """The same adapter with all B factors zero: it adds nothing to the base model, and can be trained, unlike none."""
    part = travelling_slots(passes.model.layout, "freeze-a", 1)
    return passes.model.layout.scatter(adapter, part, np.zeros(part.num_values, np.float32))
