from itertools import product

import numpy as np
import pytest

from confide.canaries.secret_space import SecretSpace

SPACE = SecretSpace(parts=(("5-",), ("0", "1", "2"), ("0", "1", "2")), taken=("5-11", "5-20"))
EVERY = [secret for one, two in product("012", "012") if (secret := f"5-{one}{two}") not in ("5-11", "5-20")]


def test_the_alternatives_are_all_combinations_but_the_taken_ones() -> None:
    assert list(SPACE) == EVERY
    assert SPACE.size == len(EVERY) == 7


@pytest.mark.parametrize("num_secrets", range(9))
def test_a_sample_has_different_alternatives_and_as_many_as_there_are(num_secrets: int) -> None:
    sample = SPACE.sample(num_secrets, np.random.default_rng(num_secrets))
    assert len(sample) == len(set(sample)) == min(num_secrets, 7)
    assert set(sample) <= set(EVERY)


@pytest.mark.parametrize("num_secrets", [2, 5])  # few are drawn one by one, many from the whole list
def test_every_alternative_is_drawn_equally_often(num_secrets: int) -> None:
    rng = np.random.default_rng(3)
    num_rounds = 2000
    counts = dict.fromkeys(EVERY, 0)
    for _ in range(num_rounds):
        for secret in SPACE.sample(num_secrets, rng):
            counts[secret] += 1
    probability = num_secrets / 7
    expected, stddev = num_rounds * probability, (num_rounds * probability * (1 - probability)) ** 0.5
    assert all(abs(count - expected) < 4 * stddev for count in counts.values())  # 4 sigma: 1 in 15,000, for 7 of them


def test_a_space_too_large_to_list_is_sampled_at_once() -> None:
    huge = SecretSpace(parts=(tuple("abcdefghij"),) * 30, taken=("a" * 30,))
    assert huge.size == 10**30 - 1
    sample = huge.sample(50, np.random.default_rng(0))
    assert len(set(sample)) == 50
    assert {len(secret) for secret in sample} == {30}


def test_a_space_with_nothing_left_gives_nothing() -> None:
    assert SecretSpace(parts=((),)).sample(3, np.random.default_rng(0)) == []
    assert SecretSpace(parts=((),)).size == 0
