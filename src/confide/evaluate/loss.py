"""Response loss and token accuracy of a model on tokenised examples, and the log-likelihood of each."""

from collections.abc import Callable, Sequence

import numpy as np

from confide.data.batches import collate
from confide.data.examples import TokenizedExample
from confide.evaluate.generation import device_of
from confide.evaluate.scores import ExampleLosses
from confide.model.evaluation_mode import evaluation_mode
from confide.train.forward import TargetScorer


def example_losses(
    scorer: TargetScorer,
    examples: Sequence[TokenizedExample],
    *,
    pad_token_id: int,
    batch_size: int = 8,
    progress: Callable[[int], None] | None = None,
) -> ExampleLosses:
    """Gives every example's loss over its targets, without dropout and without gradients.

    Args:
        scorer: the model, with vocabulary logits computed only at the targets.
        examples: any number; those of similar length share a batch.
        pad_token_id: any valid id; what is padded is masked.
        batch_size: examples at a time. Speed only, up to float rounding.
        progress: called with the number of examples done since the last call.

    Returns:
        Sums and counts in the examples' order. An example's log-likelihood is its sum with the sign turned.
    """
    sums = np.zeros(len(examples), np.float64)
    num_correct = np.zeros(len(examples), np.int64)
    num_targets = np.array([int(example.loss_mask.sum()) for example in examples], np.int64)
    order = sorted(range(len(examples)), key=lambda index: examples[index].num_tokens, reverse=True)
    device = device_of(scorer.model)
    with evaluation_mode(scorer.model):
        for start in range(0, len(order), batch_size):
            indices = order[start : start + batch_size]
            batch = collate([examples[index] for index in indices], pad_token_id).to(device)
            found = scorer.score(batch)
            rows = found.row.cpu().numpy()
            sums[indices] = np.bincount(rows, found.losses.double().cpu().numpy(), len(indices))
            num_correct[indices] = np.bincount(rows[found.is_correct.cpu().numpy()], minlength=len(indices))
            if progress is not None:
                progress(len(indices))
    return ExampleLosses(sums=sums, num_targets=num_targets, num_correct=num_correct)
