"""E1 and E5: give a model the beginning of a record and let it go on, greedily or by sampling.

E5's basic attack of the leakage paper is this with nucleus sampling; how much of a record is given is the split's
matter (`prompts`), and so is disturbing it (`disturbed`).
"""

from collections.abc import Sequence

from confide.attacks.extraction.generated import Generated, read_answer
from confide.attacks.extraction.prompts import Split
from confide.attacks.passes import Passes
from confide.evaluate.generation import Sampling
from confide.update import Vector


def complete(
    passes: Passes,
    adapter: Vector | None,
    splits: Sequence[Split],
    *,
    max_new_tokens: int,
    sampling: Sampling | None = None,
) -> list[Generated]:
    """Lets a model continue every split's prompt.

    Args:
        passes: runs the model.
        adapter: whose model is attacked; None for the base model, the control with the same prompts.
        splits: only their prompts are used.
        max_new_tokens: the longest continuation. The attacker does not know how long the remainder is: scores cut.
        sampling: None for greedy.

    Returns:
        One text per split, in their order.

    Source: Carlini et al. 2023, "Quantifying memorization across neural language models", section 3 (greedy); the
        leakage paper (arXiv 2509.20680), sections 3.2 and 3.3 ("basic": top-p sampling until the end token).
    """
    answers = passes.generate(
        adapter, [split.prompt for split in splits], max_new_tokens=max_new_tokens, sampling=sampling
    )
    return [
        read_answer(passes.model.tokenizer, answer, split.candidate_id)
        for answer, split in zip(answers, splits, strict=True)
    ]
