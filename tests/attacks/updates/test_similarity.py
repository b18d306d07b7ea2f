"""M15 on updates: against a slow twin, on a model that was over-trained, and where there is nothing to see."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from confide.attacks.updates.similarity import MEASURES, Target, score_updates
from confide.errors import NonFiniteUpdateError
from confide.update import Layout, Slot, Vector

LAYOUT = Layout((Slot(name="a", shape=(2, 3)), Slot(name="b", shape=(4,))))
START = np.zeros(10, np.float32)


@dataclass
class GivenGradients:
    """Stands in for `Passes`: hands out gradients that are given."""

    vectors: Sequence[Vector]

    def gradients(self, adapter: Vector, examples: Sequence[int], layout: Layout) -> Iterator[Vector]:
        del adapter, layout
        return (self.vectors[number] for number in examples)


def scores(gradients: Sequence[Vector], *targets: Vector) -> dict[str, np.ndarray]:
    seen = [Target(name="client update", round_number=1, layout=LAYOUT, vector=vector) for vector in targets]
    passes = GivenGradients(gradients)
    return score_updates(passes, {1: START}, range(len(gradients)), seen)  # type: ignore[arg-type]


def drawn(*numbers: int) -> list[Vector]:
    return [np.random.default_rng(number).standard_normal(10).astype(np.float32) for number in numbers]


def test_scores_are_the_formulas() -> None:
    gradients, targets = drawn(1, 2, 3), drawn(4, 5)
    found = scores(gradients, *targets)
    for row, gradient in enumerate(gradients):
        for column, update in enumerate(targets):
            g, u = [float(x) for x in gradient], [-float(x) for x in update]
            inner = sum(x * y for x, y in zip(g, u, strict=True))
            squared, moved = sum(x * x for x in g), sum(x * x for x in u)
            assert found["cosine"][row, column] == pytest.approx(inner / (squared * moved) ** 0.5, rel=1e-9)
            assert found["difference"][row, column] == pytest.approx(inner - squared / 2, rel=1e-9)
            by_slot = [
                sum(g[i] * u[i] for i in part) / (sum(g[i] ** 2 for i in part) * sum(u[i] ** 2 for i in part)) ** 0.5
                for part in (range(6), range(6, 10))
            ]
            assert found["layer cosine"][row, column] == pytest.approx(sum(by_slot) / 2, rel=1e-9)


def test_a_record_that_alone_made_the_update_scores_highest() -> None:
    gradients = drawn(1, 2, 3)
    found = scores(gradients, np.float32(-0.1) * gradients[1])
    for measure in ("cosine", "layer cosine"):
        assert found[measure][:, 0].argmax() == 1
        assert found[measure][1, 0] == pytest.approx(1, abs=1e-6)  # float32 rounding of the update


def test_an_update_of_zeros_says_nothing() -> None:
    found = scores(drawn(1, 2), START)
    assert (found["cosine"] == 0).all()
    assert (found["layer cosine"] == 0).all()


def test_slots_that_did_not_move_do_not_dilute_the_mean_over_layers() -> None:
    gradient = drawn(1)[0]
    update = -gradient.copy()
    update[6:] = 0
    assert scores([gradient], update)["layer cosine"][0, 0] == pytest.approx(1, abs=1e-6)


def test_the_scale_of_an_update_does_not_matter_to_cosines() -> None:
    gradients, (update,) = drawn(1, 2), drawn(3)
    once, often = scores(gradients, update), scores(gradients, np.float32(1000) * update)
    for measure in ("cosine", "layer cosine"):
        np.testing.assert_allclose(once[measure], often[measure], rtol=1e-6)


def test_no_measure_is_left_out_and_nan_is_refused() -> None:
    assert tuple(scores(drawn(1), *drawn(2))) == MEASURES
    broken = drawn(2)[0]
    broken[3] = np.nan
    with pytest.raises(NonFiniteUpdateError, match="the client update of round 1 holds NaN"):
        scores(drawn(1), broken)
