"""Orders a client's examples, groups them by length, and pads them to tensors.

Knows nothing of rounds or optimisers: training asks for the next stretch of a client's walk over its data and gets
batches that waste little on padding.
"""

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from confide.data.examples import TokenizedExample
from confide.seeds import stream


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Examples of different length side by side, padded on the right.

    Attributes:
        input_ids: shape (num_examples, num_tokens), int64; the pad token behind an example's end.
        attention_mask: same shape, int64; 1 at an example's tokens, 0 at padding.
        loss_mask: same shape, bool; True where this token is a target, predicted from the tokens before it.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    loss_mask: torch.Tensor

    def to(self, device: torch.device) -> "Batch":
        """The same batch on a device."""
        return Batch(
            input_ids=self.input_ids.to(device),
            attention_mask=self.attention_mask.to(device),
            loss_mask=self.loss_mask.to(device),
        )

    @property
    def num_targets(self) -> int:
        """The number of tokens the loss is taken over."""
        return int(self.loss_mask.sum())


def example_order(num_examples: int, start: int, count: int, *, seed: int, client: str) -> list[int]:
    """A stretch of a client's endless walk over its examples.

    The walk passes through all examples in a random order, then again in another one, and so on. Since every pass has
    its own stream, a stretch can be computed from anywhere: nothing has to be remembered between rounds.

    Args:
        num_examples: >= 1.
        start: how many steps of the walk lie behind, >= 0.
        count: how many steps to give, >= 0; may reach over several passes.
        seed: of the run.
        client: whose walk it is.

    Returns:
        The examples' positions, in [0, num_examples).

    Guarantees:
        - Stretches that follow each other are the stretch over both.
        - Each pass, `num_examples` steps from a multiple of `num_examples`, holds every position once.

    Raises:
        ValueError: there is no example to walk over.
    """
    if num_examples < 1:
        raise ValueError(f"client {client!r} has no examples to walk over")
    passes = range(start // num_examples, -(-(start + count) // num_examples))
    walk = [
        int(position)
        for number in passes
        for position in stream(seed, "order", client, number).permutation(num_examples)
    ]
    offset = start % num_examples
    return walk[offset : offset + count]


def plan_batches(
    walk: Sequence[int], lengths: Sequence[int], batch_size: int, rng: np.random.Generator
) -> list[list[int]]:
    """Groups a stretch of a walk into batches of similar length, and puts the batches in a random order.

    Args:
        walk: positions of examples, as `example_order` gives them; an example may come again in a later pass.
        lengths: of each example, in tokens; `lengths[position]` for every position of the walk.
        batch_size: >= 1.
        rng: decides the order of batches, and which of equally long examples come together.

    Returns:
        Batches of positions, each as often as in the walk; all have `batch_size` of them except one, which may have
        fewer.

    Guarantees:
        - Each pass is grouped by itself, so that training for several passes is that. A batch holds an example twice
          only if the rest of the walk has fewer than `batch_size` different ones.
    """
    num_met: Counter[int] = Counter()
    passes = []
    for position in walk:
        passes.append(num_met[position])
        num_met[position] += 1
    shuffled = [int(at) for at in rng.permutation(len(walk))]
    shuffled.sort(key=lambda at: (passes[at], lengths[walk[at]]))
    waiting = deque(walk[at] for at in shuffled)
    num_waiting = Counter(waiting)
    batches = []
    while waiting:
        batch = _take_first_different(waiting, min(batch_size, len(num_waiting)))
        batch += [waiting.popleft() for _ in range(min(batch_size - len(batch), len(waiting)))]
        batches.append(batch)
        for position in batch:
            num_waiting[position] -= 1
            if not num_waiting[position]:
                del num_waiting[position]
    return [batches[number] for number in rng.permutation(len(batches))]


def _take_first_different(waiting: deque[int], count: int) -> list[int]:
    """Takes the first `count` different positions, of which there are enough, out of `waiting`, which stays in order.

    Stops at the last one of them, so that over all batches the work grows with the walk and not with its square: what
    is passed over was met in this batch before, and is taken in the next ones.
    """
    taken: dict[int, None] = {}
    passed_over = []
    while len(taken) < count:
        position = waiting.popleft()
        if position in taken:
            passed_over.append(position)
        taken[position] = None
    waiting.extendleft(reversed(passed_over))
    return list(taken)


def collate(examples: Sequence[TokenizedExample], pad_token_id: int) -> Batch:
    """Pads examples on the right to the longest of them.

    Args:
        examples: at least one.
        pad_token_id: the token behind an example's end; any id will do, as no mask has it.

    Raises:
        ValueError: there are no examples.
    """
    if not examples:
        raise ValueError("a batch needs at least one example")
    shape = (len(examples), max(example.num_tokens for example in examples))
    input_ids = torch.full(shape, pad_token_id, dtype=torch.int64)
    attention_mask = torch.zeros(shape, dtype=torch.int64)
    loss_mask = torch.zeros(shape, dtype=torch.bool)
    for row, example in enumerate(examples):
        input_ids[row, : example.num_tokens] = torch.from_numpy(example.input_ids)
        attention_mask[row, : example.num_tokens] = 1
        loss_mask[row, : example.num_tokens] = torch.from_numpy(example.loss_mask)
    return Batch(input_ids=input_ids, attention_mask=attention_mask, loss_mask=loss_mask)
