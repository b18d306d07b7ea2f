"""Canary clients: a direction of each one's own, of full length, the same in every round and every process."""

from typing import Any

import numpy as np
import pytest
from scipy.stats import kstest

from confide.canaries.canary_clients import (
    CanaryTrainer,
    canary_client_names,
    client_direction,
    held_out_direction,
    without_data,
)
from confide.update import Layout, Slot

LAYOUT = Layout((Slot(name="a", shape=(3, 4)), Slot(name="b", shape=(20, 20))))
TRAINED = LAYOUT.select(["b"])
START = np.linspace(-1, 1, LAYOUT.num_values, dtype=np.float32)


def trained(client: str, *, length: float = 2.5, seed: int = 7, round_number: int = 1) -> Any:
    """What a canary client gives for a round."""
    return CanaryTrainer(layout=LAYOUT, length=length, seed=seed).train(
        client=client,
        round_number=round_number,
        start=START,
        trained=TRAINED,
        examples=without_data(client).train,
        num_seen=0,
        learning_rate=0.1,
        correction=None,
        on_step=None,
    )


def test_an_update_is_the_direction_at_full_length_from_the_start_of_what_is_trained() -> None:
    update = trained("canary-01").vector - LAYOUT.gather(START, TRAINED)
    assert update.dtype == np.float32
    expected = 2.5 * client_direction("canary-01", TRAINED.num_values, seed=7)
    assert np.abs(update - expected).max() < 1e-6  # float32 around 1
    assert np.linalg.norm(update) == pytest.approx(2.5, rel=1e-5)


def test_a_direction_is_of_client_and_seed_and_the_same_in_every_round() -> None:
    first = trained("canary-01").vector
    assert np.array_equal(first, trained("canary-01", round_number=5).vector)
    assert not np.array_equal(first, trained("canary-02").vector)
    assert not np.array_equal(first, trained("canary-01", seed=8).vector)


def test_no_direction_is_another_one() -> None:
    drawn = [client_direction(name, 400, seed=3) for name in canary_client_names(20)]
    drawn += [held_out_direction(number, 400, seed=3) for number in range(20)]
    cosines = np.stack(drawn) @ np.stack(drawn).T
    assert np.allclose(np.diag(cosines), 1)
    assert np.abs(cosines - np.eye(40)).max() < 5 / np.sqrt(400)  # 780 pairs, each N(0, 1 / 400)


@pytest.mark.parametrize("kind", ["inserted", "held out"])
def test_directions_are_spread_evenly(kind: str) -> None:
    """Towards any fixed vector they lean as N(0, 1 / num_values)."""
    if kind == "inserted":
        drawn = [client_direction(f"canary-{number}", 300, seed=1) for number in range(400)]
    else:
        drawn = [held_out_direction(number, 300, seed=1) for number in range(400)]
    fixed = np.arange(300) / np.linalg.norm(np.arange(300))
    assert kstest(np.stack(drawn) @ fixed * np.sqrt(300), "norm").pvalue > 1e-3


@pytest.mark.parametrize(
    ("number", "first", "last"), [(2, "canary-01", "canary-02"), (120, "canary-001", "canary-120")]
)
def test_names_sort_as_they_are_counted(number: int, first: str, last: str) -> None:
    names = canary_client_names(number)
    assert (names[0], names[-1], len(names)) == (first, last, number)
    assert list(names) == sorted(names)
    assert canary_client_names(0) == ()


def test_nothing_is_told_of_a_training_that_there_was_not() -> None:
    metrics = trained("canary-01").metrics
    assert (metrics.num_steps, metrics.num_examples, metrics.num_tokens) == (0, 0, 0)
    assert np.isnan(metrics.loss)
