"""E6 in weight space: an adapter moved further along the way that it took between two rounds.

What is extrapolated is the product B A that a layer adds, not the factors: A and B can be rotated against each other
without any change of the model, so a difference of factors says nothing by itself.

The result (1 + gamma) B_t A_t - gamma B_s A_s has rank 2r at most, and an adapter holds rank r. Where A stood still
between the two rounds (the default, "freeze-a"), where B did, and where s is the start (its product is zero), rank r is
enough and nothing is lost. Otherwise the best approximation of rank r is taken, and what it loses is said.
Extrapolating in logits (`two_model`) needs no approximation.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from confide.errors import LayoutMismatchError
from confide.update import Layout, Vector

_Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Extrapolated:
    """An adapter beyond the newer round's.

    Attributes:
        vector: of the same layout, to be used like any round's adapter.
        lost_share: Frobenius norm of what rank r could not hold over that of the whole extrapolated product, over all
            layers, in [0, 1]; 0 where the adapter is exact up to float32 rounding.
    """

    vector: Vector = field(repr=False)
    lost_share: float


def extrapolate(layout: Layout, newer: Vector, older: Vector | None, gamma: float) -> Extrapolated:
    """Moves an adapter's products by gamma times their change since an older round.

    Args:
        layout: of the whole adapter, with a lora_A of shape (lora_rank, inputs) and a lora_B of shape (outputs,
            lora_rank) for every layer.
        newer: the adapter of round t, flat over `layout`.
        older: the adapter of round t - j; None for the base model.
        gamma: how far; 0 changes nothing.

    Raises:
        LayoutMismatchError: a vector does not fit, or a factor has no partner.

    Source: seed of the attack as in `two_model`; the best approximation is that of Eckart and Young 1936.
    """
    new = {name: tensor.astype(np.float64) for name, tensor in layout.unflatten(newer).items()}
    old = layout.unflatten(np.zeros_like(newer) if older is None else older)
    result: dict[str, npt.NDArray[np.float32]] = {}
    lost = whole = 0.0
    for name_a in (name for name in new if ".lora_A." in name):
        name_b = name_a.replace(".lora_A.", ".lora_B.")
        if name_b not in new:
            raise LayoutMismatchError(f"the layout has {name_a} but no {name_b}; only pairs of factors have a product")
        factors = _Factors(new[name_a], new[name_b], old[name_a].astype(np.float64), old[name_b].astype(np.float64))
        a, b, squared_lost, squared_whole = factors.extrapolate(gamma)
        result[name_a], result[name_b] = a.astype(np.float32), b.astype(np.float32)
        lost, whole = lost + squared_lost, whole + squared_whole
    return Extrapolated(vector=layout.flatten(result), lost_share=float(np.sqrt(lost / whole)) if lost else 0.0)


@dataclass(frozen=True)
class _Factors:
    """One layer's factors in both rounds; its product is `b @ a`, shape (outputs, inputs)."""

    new_a: _Matrix
    new_b: _Matrix
    old_a: _Matrix
    old_b: _Matrix

    def extrapolate(self, gamma: float) -> tuple[_Matrix, _Matrix, float, float]:
        """A, B, the squared norm that is lost, and that of the whole product (0, 0 where nothing is lost)."""
        if not self.old_b.any():
            return self.new_a, (1 + gamma) * self.new_b, 0.0, 0.0
        if np.array_equal(self.new_a, self.old_a):
            return self.new_a, self.new_b + gamma * (self.new_b - self.old_b), 0.0, 0.0
        if np.array_equal(self.new_b, self.old_b):
            return self.new_a + gamma * (self.new_a - self.old_a), self.new_b, 0.0, 0.0
        # With B = Q_b R_b and A^T = Q_a R_a for the stacked factors, the product's singular values are those of the
        # small matrix R_b R_a^T: the whole product is never formed.
        q_b, r_b = np.linalg.qr(np.hstack([(1 + gamma) * self.new_b, -gamma * self.old_b]))
        q_a, r_a = np.linalg.qr(np.vstack([self.new_a, self.old_a]).T)
        left, values, right = np.linalg.svd(r_b @ r_a.T)
        rank = self.new_a.shape[0]
        root = np.sqrt(values[:rank])
        squares = np.square(values)
        b = q_b @ (left[:, : root.size] * root)
        a = (root[:, None] * right[: root.size]) @ q_a.T
        return a, b, float(squares[rank:].sum()), float(squares.sum())
