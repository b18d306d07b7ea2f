"""What secrets of one length have in common: the tree of their beginnings, each of which a model reads once.

Ten thousand numbers of four digits have 1,111 different beginnings of fewer than four. What a model says behind each of
these gives the probability of every number; the last digits are never read.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Some nodes of a trie that stand one after another, with what leads to the first of them.

    Attributes:
        nodes: numbers of the nodes, shape (num_nodes,).
        num_ancestors: how many of `tokens` lead there and are not among `nodes`.
        tokens: that are read last at these ancestors and nodes, shape (num_ancestors + num_nodes,).
        parents: place in `tokens` of the one before each; -1 where it is a secret's first.
    """

    nodes: Ints
    num_ancestors: int
    tokens: Ints
    parents: Ints


@dataclass(frozen=True, kw_only=True)
class SecretTrie:
    """All beginnings of some secrets that are shorter than these.

    A node is a beginning; node 0 is the empty one, and each stands before all that go on from it. Rows are secrets in
    the order of their tokens.

    Attributes:
        rows: the different secrets, shape (num_rows, num_tokens).
        row_of: the row of each secret as given, shape (num_secrets,).
        paths: the node behind a row's first so many tokens, shape (num_rows, num_tokens).
        depths: how many tokens a node has, shape (num_nodes,).
        starts: the first row that goes through a node, shape (num_nodes,).
        stops: one behind the last.
    """

    rows: Ints = field(repr=False)
    row_of: Ints = field(repr=False)
    paths: Ints = field(repr=False)
    depths: Ints = field(repr=False)
    starts: Ints = field(repr=False)
    stops: Ints = field(repr=False)

    @classmethod
    def of(cls, secrets: npt.NDArray[np.int32]) -> "SecretTrie":
        """Makes the trie of secrets, shape (num_secrets, num_tokens), no dimension empty."""
        rows, row_of = np.unique(secrets, axis=0, return_inverse=True)
        differs = np.ones_like(rows, np.bool_)
        differs[1:] = np.logical_or.accumulate(rows[1:] != rows[:-1], axis=1)
        is_new = np.zeros_like(differs)  # the first row through its node
        is_new[0] = True
        is_new[1:, 1:] = differs[1:, :-1]
        starts, depths = np.nonzero(is_new)
        paths = np.maximum.accumulate(np.where(is_new, np.cumsum(is_new).reshape(is_new.shape) - 1, 0), axis=0)
        stops = np.empty_like(starts)
        for depth in range(rows.shape[1]):
            here = np.flatnonzero(depths == depth)
            stops[here] = [*starts[here[1:]], len(rows)]
        return cls(
            rows=rows.astype(np.int64), row_of=row_of.ravel(), paths=paths, depths=depths, starts=starts, stops=stops
        )

    @property
    def num_nodes(self) -> int:
        """How many beginnings there are."""
        return self.depths.size

    def stretches(self, most_tokens: int) -> Iterator[Stretch]:
        """Divides all nodes but the empty beginning into stretches of so many tokens, one node at least in each."""
        first = 1
        while first < self.num_nodes:
            ancestors = self.paths[self.starts[first], 1 : self.depths[first]]
            nodes = np.arange(first, min(first + max(most_tokens - ancestors.size, 1), self.num_nodes))
            everyone = np.concatenate([ancestors, nodes])
            depths = self.depths[everyone]
            before = self.paths[self.starts[everyone], depths - 1]
            # A node of the stretch that follows one from before it follows one of the ancestors: they stand by depth.
            places = np.where(before >= first, before - first + ancestors.size, self.depths[before] - 1)
            yield Stretch(
                nodes=nodes,
                num_ancestors=ancestors.size,
                tokens=self.rows[self.starts[everyone], depths - 1],
                parents=places,
            )
            first += nodes.size

    def cells(self, nodes: Ints) -> tuple[Ints, Ints, Ints]:
        """The tokens that follow on nodes: for each the place of its node in `nodes`, its row and its column."""
        sizes = self.stops[nodes] - self.starts[nodes]
        places = np.repeat(np.arange(nodes.size), sizes)
        within = np.arange(places.size) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        return places, self.starts[nodes][places] + within, self.depths[nodes][places]
