"""M15 on updates: against slow twins, on a model that was over-trained, and where there is nothing to see."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.attacks.passes import Passes
from confide.attacks.updates import similarity
from confide.attacks.updates.similarity import MEASURES, RIDGE, Scores, Target, score_updates
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
    return score_updates(cast(Passes, passes), {1: START}, cast(Any, range(len(gradients))), seen)


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
            assert found["difference"][row, column] == pytest.approx(inner / squared, rel=1e-9)
            by_slot = [
                sum(g[i] * u[i] for i in part) / (sum(g[i] ** 2 for i in part) * sum(u[i] ** 2 for i in part)) ** 0.5
                for part in (range(6), range(6, 10))
            ]
            assert found["layer cosine"][row, column] == pytest.approx(sum(by_slot) / 2, rel=1e-9)


def unit(vectors: Sequence[Vector]) -> Scores:
    """As columns, in float64."""
    columns = np.array(vectors, np.float64).T
    return np.asarray(columns / np.linalg.norm(columns, axis=0))


def test_joint_scores_are_the_penalised_least_squares() -> None:
    """The twin solves for the shares that make the direction, with a row for each share's penalty.

    Overlaps of gradients are float32, 6e-8 of 1, and the solve divides them by no less than the ridge: 1e-6 is room.
    """
    gradients, targets = drawn(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12), drawn(13, 14)
    with_penalty = np.vstack([unit(gradients), RIDGE**0.5 * np.eye(12)])
    wanted = np.vstack([-unit(targets), np.zeros((12, 2))])
    expected = np.linalg.lstsq(with_penalty, wanted)[0]
    np.testing.assert_allclose(scores(gradients, *targets)["joint"], expected, atol=1e-6)


def test_records_that_share_nothing_are_ranked_by_their_cosine() -> None:
    gradients = [length * row for length, row in zip((0.5, 1, 3), np.eye(10, dtype=np.float32), strict=False)]
    found = scores(gradients, *drawn(1, 2))
    np.testing.assert_allclose(found["joint"], found["cosine"] / (1 + RIDGE), rtol=1e-6)


def test_a_record_that_is_there_twice_shares_what_it_would_have_alone() -> None:
    once, twice = np.eye(10, dtype=np.float32)[:2]
    found = scores([once, twice, 2 * twice], *drawn(1))
    np.testing.assert_allclose(found["joint"][1:], found["cosine"][1:] / (2 + RIDGE), rtol=1e-6)
    assert found["joint"][0] == pytest.approx(found["cosine"][0] / (1 + RIDGE), rel=1e-6)


def overlapping(num_values: int) -> tuple[list[Vector], Target]:
    """Gradients of 40 records that have much in common, each another share of it, and an update by every other one."""
    rng = np.random.default_rng(0)
    own = rng.standard_normal((40, num_values)) / num_values**0.5
    vectors = (rng.uniform(0, 3, (40, 1)) * own.mean(axis=0) * 40**0.5 + own).astype(np.float32)
    clipped = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    layout = Layout((Slot(name="a", shape=(num_values,)),))
    update = (-0.01 * clipped[::2].sum(axis=0)).astype(np.float32)
    return list(vectors), Target(name="client update", round_number=1, layout=layout, vector=update)


def joint_and_cosine(gradients: Sequence[Vector], target: Target) -> tuple[Scores, Scores]:
    passes = cast(Passes, GivenGradients(gradients))
    found = score_updates(passes, {1: START}, cast(Any, range(len(gradients))), [target])
    return found["joint"][:, 0], found["cosine"][:, 0]


def test_members_are_found_where_what_all_have_in_common_hides_them_from_the_cosine() -> None:
    joint, cosine = joint_and_cosine(*overlapping(2000))
    assert joint[::2].min() > joint[1::2].max()
    assert cosine[::2].min() < np.median(cosine[1::2])


def test_long_gradients_are_sketched_within_a_bound_on_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """What 40 gradients span, 8192 buckets keep but for 2 * sqrt(40 / 8192) = 0.14 of each squared length.

    That is so of A'A + r I too, whose solution is then off by at most 0.14 / 0.86 of its length as that matrix measures
    lengths.
    """
    gradients, target = overlapping(20_000)
    exact, cosine = joint_and_cosine(gradients, target)
    monkeypatch.setattr(similarity, "_MOST_KEPT", 40 * 8192)
    sketched, same = joint_and_cosine(gradients, target)
    assert (same == cosine).all()
    assert not (sketched == exact).all()
    columns = unit(gradients)
    solved = columns.T @ columns + RIDGE * np.eye(40)
    off = sketched - exact
    assert off @ solved @ off < (0.14 / 0.86) ** 2 * (exact @ solved @ exact)
    assert sketched[::2].min() > sketched[1::2].max()
    np.testing.assert_array_equal(sketched, joint_and_cosine(gradients, target)[0])  # no other sketch the next time


def test_a_record_that_alone_made_the_update_scores_highest() -> None:
    gradients = drawn(1, 2, 3)
    found = scores(gradients, np.float32(-0.1) * gradients[1])
    assert found["joint"][:, 0].argmax() == 1
    for measure in ("cosine", "layer cosine"):
        assert found[measure][:, 0].argmax() == 1
        assert found[measure][1, 0] == pytest.approx(1, abs=1e-6)  # float32 rounding of the update
    assert found["difference"][1, 0] == pytest.approx(0.1, abs=1e-6)  # the learning rate


def test_an_update_of_zeros_says_nothing() -> None:
    found = scores(drawn(1, 2), START)
    assert all((values == 0).all() for values in found.values())


def test_a_gradient_of_zeros_says_nothing() -> None:
    assert all(values.item() == 0 for values in scores([START], *drawn(1)).values())


def test_slots_that_did_not_move_do_not_dilute_the_mean_over_layers() -> None:
    gradient = drawn(1)[0]
    update = -gradient.copy()
    update[6:] = 0
    assert scores([gradient], update)["layer cosine"][0, 0] == pytest.approx(1, abs=1e-6)


def test_the_scale_of_an_update_does_not_matter() -> None:
    """A power of two, so that nothing is rounded: cosines stay, and the difference of every record grows alike."""
    gradients, (update,) = drawn(1, 2), drawn(3)
    once, often = scores(gradients, update), scores(gradients, np.float32(1024) * update)
    for measure in ("cosine", "layer cosine", "joint"):
        np.testing.assert_allclose(once[measure], often[measure], rtol=1e-12)
    np.testing.assert_allclose(1024 * once["difference"], often["difference"], rtol=1e-12)


@pytest.mark.parametrize("learning_rate", [1e-5, 1e-3, 1.0, 1e3])
def test_the_members_of_a_planted_update_are_found_whatever_the_learning_rate(learning_rate: float) -> None:
    """Gradients of 16 members and 48 others, of lengths from 0.5 to 2, that point anywhere among 10,000 directions.

    For a member <g, G> / |g|^2 is 1 plus noise with standard deviation at most |G| / (100 |g|) = 0.1, for others 0 plus
    the same: ten standard deviations apart for the shortest.
    """
    rng = np.random.default_rng(0)
    layout = Layout((Slot(name="a", shape=(100, 50)), Slot(name="b", shape=(5000,))))
    lengths = rng.uniform(0.5, 2, 64)
    gradients = [(length / 100 * rng.standard_normal(10_000)).astype(np.float32) for length in lengths]
    update = np.float32(-learning_rate) * np.sum(gradients[:16], axis=0)
    target = Target(name="client update", round_number=1, layout=layout, vector=update)
    passes = GivenGradients(gradients)
    found = score_updates(cast(Passes, passes), {1: START}, cast(Any, range(64)), [target])
    for measure in MEASURES:
        assert found[measure][:16].min() > found[measure][16:].max(), measure


@given(seed=st.integers(0, 1000))
def test_every_score_looks_at_the_update_and_not_at_the_gradient_alone(seed: int) -> None:
    """Turned around, an update turns the order of the records around, however small it is."""
    rng = np.random.default_rng(seed)
    gradients = [(length * rng.standard_normal(10)).astype(np.float32) for length in rng.uniform(1, 100, 8)]
    update = (1e-3 * rng.standard_normal(10)).astype(np.float32)
    there, back = scores(gradients, update), scores(gradients, -update)
    for measure in MEASURES:
        assert (there[measure] == -back[measure]).all()
        assert np.unique(there[measure]).size == 8


def test_an_update_of_noise_ranks_at_chance_where_lengths_alone_tell_members() -> None:
    """Members' gradients are half as long, as those of records that are known by heart; the update knows none of it.

    An AUC of 20 against 20 has standard deviation 0.092 where nothing tells them apart, its mean over 100 updates 0.01;
    the bound is four of these. The length alone has AUC 1.
    """
    rng = np.random.default_rng(0)
    lengths = np.repeat([0.5, 1.0], 20)
    gradients = [(length * rng.standard_normal(10)).astype(np.float32) for length in lengths]
    updates = [rng.standard_normal(10).astype(np.float32) for _ in range(100)]
    for measure, values in scores(gradients, *updates).items():
        areas = [(column[:20, None] > column[20:]).mean() for column in values.T]
        assert np.mean(areas) == pytest.approx(0.5, abs=0.04), measure


def test_no_measure_is_left_out_and_nan_is_refused() -> None:
    assert tuple(scores(drawn(1), *drawn(2))) == MEASURES
    broken = drawn(2)[0]
    broken[3] = np.nan
    with pytest.raises(NonFiniteUpdateError, match="the client update of round 1 holds NaN"):
        scores(drawn(1), broken)
