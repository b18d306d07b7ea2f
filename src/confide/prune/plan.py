"""The pruning of a run: how much is dropped in a round, and by which mask."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from confide.prune.masks import Mask, common_mask, published_mask, random_mask
from confide.prune.schedules import SparsitySchedule, kept_count
from confide.update import Layout, Vector

MaskKind = Literal["none", "common", "random", "published"]


@dataclass(frozen=True, kw_only=True)
class Pruning:
    """What every client prunes alike.

    With "common" and "random" all clients keep the same coordinates; the others neither travel nor are lost: each
    client remembers them and adds them to its next update. With "published" each client zeroes its own small weights
    and sends the zeros, as FedShield-LLM's code does; nothing is saved and what is dropped is gone.

    Attributes:
        kind: whose mask.
        schedule: the sparsity by round.
        exploration: share of kept coordinates that "common" draws instead of choosing by magnitude.
        rng: the public stream of a round's mask, by round number; the same at every client.
    """

    kind: MaskKind
    schedule: SparsitySchedule
    exploration: float
    rng: Callable[[int], np.random.Generator]

    @property
    def goes_by_magnitude(self) -> bool:
        """Whether masks need the accumulated global update."""
        return self.kind == "common"

    def num_kept(self, num_values: int, round_number: int) -> int:
        """How many of an update's coordinates travel in a round."""
        if self.kind in ("none", "published"):
            return num_values
        return kept_count(num_values, self.schedule.sparsity(round_number))

    def mask(self, accumulated: Vector, round_number: int) -> Mask | None:
        """The coordinates that travel in a round, the same at all clients; None for all of them.

        Args:
            accumulated: the sum of all steps of the global adapter so far, flat float32 over what is trained in this
                round. Only its length matters where masks do not go by magnitude.
            round_number: from 1.
        """
        num_kept = self.num_kept(accumulated.size, round_number)
        if num_kept == accumulated.size:
            return None
        rng = self.rng(round_number)
        if self.kind == "random":
            return random_mask(accumulated.size, num_kept, rng)
        return common_mask(accumulated, num_kept, exploration=self.exploration, rng=rng)

    def zero_own(self, start: Vector, update: Vector, layout: Layout, round_number: int) -> Vector:
        """With "published", the update that leads to local weights with the smallest set to zero; else as it was.

        Args:
            start: the global adapter that the update starts from, same layout.
            update: flat float32 over `layout`.
            layout: of both.
            round_number: from 1.

        Source: FedShield-LLM's code, which prunes a client's weights themselves, not their change.
        """
        if self.kind != "published":
            return update
        weights = start + update
        kept = published_mask(weights, layout, self.schedule.sparsity(round_number))
        return np.where(kept, weights, np.float32(0)) - start
