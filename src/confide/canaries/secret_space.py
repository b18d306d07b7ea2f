"""The space that a kind's secrets are drawn from: what a secret is ranked against to measure its exposure."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from math import prod

import numpy as np


@dataclass(frozen=True, kw_only=True)
class SecretSpace:
    """The secrets of one format that are in nobody's data and belong to no canary.

    A canary that did not go in is one more draw from the same format: among these alternatives its rank is uniform.
    (A secret of another canary would not do, as that one may have been trained on.)

    Attributes:
        parts: a secret is one choice of each part, put together in order; no two choices give the same secret.
        taken: secrets of this format that stand in the data or belong to a canary, each once.
    """

    parts: tuple[tuple[str, ...], ...]
    taken: tuple[str, ...] = field(default=(), repr=False)

    @property
    def size(self) -> int:
        """How many alternatives there are."""
        return prod(len(choices) for choices in self.parts) - len(self.taken)

    def __iter__(self) -> Iterator[str]:
        """All alternatives, in the order of the parts; ask for `size` first."""
        taken = set(self.taken)
        joined = ("".join(choices) for choices in product(*self.parts))
        return (secret for secret in joined if secret not in taken)

    def sample(self, num_secrets: int, rng: np.random.Generator) -> list[str]:
        """Draws different alternatives, each set of them equally likely; all of them where there are no more."""
        if num_secrets >= self.size:
            return list(self)
        if 2 * num_secrets > self.size:  # so many that drawing again and again would take long
            every = list(self)
            return [every[position] for position in rng.choice(len(every), size=num_secrets, replace=False)]
        left_out = set(self.taken)
        drawn: dict[str, None] = {}
        while len(drawn) < num_secrets:
            secret = "".join(choices[int(rng.integers(len(choices)))] for choices in self.parts)
            if secret not in left_out:
                drawn[secret] = None
        return list(drawn)
