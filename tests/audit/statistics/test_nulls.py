import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.audit.statistics.nulls import shuffle_coins, uniformity_p_value
from confide.errors import DataError

ROWS = st.lists(st.tuples(st.booleans(), st.sampled_from("abc")), min_size=1, max_size=30)


@given(ROWS, st.integers(0, 1000))
def test_every_owner_keeps_its_number_of_members(rows: list[tuple[bool, str]], seed: int) -> None:
    labels, owners = (np.array(column) for column in zip(*rows, strict=True))
    shuffled = shuffle_coins(labels, owners, np.random.default_rng(seed))
    for owner in "abc":
        assert shuffled[owners == owner].sum() == labels[owners == owner].sum()


def test_every_choice_within_owners_is_equally_likely() -> None:
    labels = np.array([True, False, True, False, False])
    owners = np.array(["b", "a", "a", "b", "a"])
    rng = np.random.default_rng(1)
    counts: dict[tuple[bool, ...], int] = {}
    for _ in range(6000):
        key = tuple(shuffle_coins(labels, owners, rng).tolist())
        counts[key] = counts.get(key, 0) + 1
    # One of two for b times one of three for a: six choices, 1000 times each, standard deviation 28.9.
    assert len(counts) == 6
    assert all(abs(count - 1000) < 4 * 28.9 for count in counts.values())


def test_uniformity_is_told_from_a_test_that_rejects_too_often() -> None:
    rng = np.random.Generator(np.random.Philox(6))
    assert uniformity_p_value(rng.random(200)) > 0.01
    assert uniformity_p_value(rng.random(200) ** 2) < 1e-6
    assert uniformity_p_value(np.sqrt(rng.random(200))) < 1e-6


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(DataError, match="3 p-values cannot show that they are uniform"):
        uniformity_p_value([0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match=r"p-values range from 0.1 to 2, expected 0 to 1"):
        uniformity_p_value([0.1] * 10 + [2.0])
