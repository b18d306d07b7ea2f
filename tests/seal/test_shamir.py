"""Shamir's sharing: enough shares give the secret, fewer give nothing, wrong ones are noticed."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from confide.errors import SealError
from confide.seal.profiles import PROFILES
from confide.seal.shamir import FIELD, LARGEST_SUM, add_shares, combine, split

Secret = np.ndarray[tuple[int], np.dtype[np.int64]]


def ternary(seed: int, count: int = 64) -> Secret:
    return np.random.default_rng(seed).integers(-1, 2, count)


@given(data=st.data(), num_shares=st.integers(1, 10))
@settings(max_examples=50, deadline=None)
def test_any_threshold_shares_give_the_secret(data: st.DataObject, num_shares: int) -> None:
    threshold = data.draw(st.integers(1, num_shares))
    secret = np.array(data.draw(st.lists(st.integers(-5, 5), min_size=1, max_size=8)), np.int64)
    shares = split(secret, num_shares, threshold)
    assert shares.shape == (num_shares, len(secret))
    assert shares.dtype == np.uint8
    points = data.draw(st.permutations(range(1, num_shares + 1)))[: data.draw(st.integers(threshold, num_shares))]
    assert combine({point: shares[point - 1] for point in points}, threshold, 5).tolist() == secret.tolist()


@pytest.mark.parametrize(("num_shares", "threshold"), [(3, 2), (5, 3), (10, 6)])
def test_fewer_than_threshold_shares_never_combine(num_shares: int, threshold: int) -> None:
    shares = split(ternary(1), num_shares, threshold)
    for points in itertools.islice(itertools.combinations(range(1, num_shares + 1), threshold - 1), 20):
        few = {point: shares[point - 1] for point in points}
        with pytest.raises(SealError, match=f"{threshold - 1} shares of the key's sum, but {threshold} are needed"):
            combine(few, threshold, 1)
        with pytest.raises(SealError, match="give no sum of keys"):  # nor with a threshold that is not the real one
            combine(few, threshold - 1, 1)


def test_fewer_than_threshold_shares_fit_every_secret() -> None:
    # Perfect secrecy, shown: for any other secret there is a last share with which the same few shares give it.
    shares = split(ternary(1), 5, 3)
    for other in (ternary(2), np.zeros(64, np.int64)):
        # Lagrange at 0 with points 1, 2, 4: secret = 8/3 f(1) - 2 f(2) + 1/3 f(4), solved for f(4).
        third = pow(3, -1, FIELD)
        rest = (8 * third * shares[0].astype(np.int64) - 2 * shares[1].astype(np.int64)) % FIELD
        last = ((other - rest) * 3 % FIELD).astype(np.uint8)
        assert combine({1: shares[0], 2: shares[1], 4: last}, 3, 1).tolist() == other.tolist()


def test_a_share_is_uniform_whatever_the_secret() -> None:
    # Chi-square with 250 degrees of freedom beyond 470: probability below 1e-15.
    each = 400
    shares = split(np.ones(FIELD * each, np.int64), 3, 2)
    for share in shares:
        counts = np.bincount(share, minlength=FIELD)
        assert len(counts) == FIELD
        assert float(((counts - each) ** 2 / each).sum()) < 470


def test_splitting_twice_gives_other_shares() -> None:
    assert not np.array_equal(split(ternary(1), 3, 2), split(ternary(1), 3, 2))


def test_summed_shares_give_the_sum_of_secrets() -> None:
    secrets = [ternary(seed) for seed in range(64)]
    shares = [split(secret, 5, 3) for secret in secrets]
    members = range(3, 60)
    held = {point: add_shares(shares[member][point - 1] for member in members) for point in (5, 2, 4)}
    assert all(share.dtype == np.uint8 for share in held.values())
    total = combine(held, 3, len(members))
    assert total.dtype == np.int64
    assert total.tolist() == np.sum([secrets[member] for member in members], axis=0).tolist()


def test_shares_of_different_lists_do_not_combine() -> None:
    shares = [split(ternary(seed), 5, 3) for seed in range(4)]
    held = {point: add_shares(shares[member][point - 1] for member in range(3)) for point in (1, 2)}
    held[3] = add_shares(shares[member][2] for member in range(1, 4))
    with pytest.raises(SealError, match="give no sum of keys"):
        combine(held, 3, 3)


def test_a_wrong_share_is_noticed() -> None:
    shares = dict(enumerate(split(ternary(1), 5, 3), start=1))
    wrong = shares[3].copy()
    wrong[10] = (int(wrong[10]) + 40) % FIELD
    with pytest.raises(SealError, match="give no sum of keys"):
        combine({1: shares[1], 2: shares[2], 3: wrong}, 3, 1)
    with pytest.raises(SealError, match=r"the share of point 4 does not fit those of points \[1, 2, 3\]"):
        combine(shares | {3: wrong}, 3, 1)
    with pytest.raises(SealError, match="the share of point 5"):
        combine(shares | {5: wrong}, 3, 1)


def test_shares_of_another_shape_type_or_point_are_refused() -> None:
    shares = dict(enumerate(split(ternary(1), 3, 2), start=1))
    for bad in (shares[2][:-1], shares[2].astype(np.int64), shares[2].reshape(2, -1)):
        with pytest.raises(SealError, match="expected"):
            combine({1: shares[1], 2: bad}, 2, 1)
        with pytest.raises(SealError, match="expected"):
            add_shares([shares[1], bad])
    for point in (0, -1, FIELD, FIELD + 1):
        with pytest.raises(SealError, match=f"point {point}"):
            combine({1: shares[1], point: shares[2]}, 2, 1)
    too_large = np.full(64, FIELD, np.uint8)
    with pytest.raises(SealError, match="not below 251"):
        add_shares([shares[1], too_large])
    with pytest.raises(SealError, match="no shares"):
        add_shares([])


@pytest.mark.parametrize(("num_shares", "threshold"), [(3, 0), (3, 4), (0, 0), (FIELD, 2)])
def test_impossible_numbers_of_shares_are_refused(num_shares: int, threshold: int) -> None:
    with pytest.raises(ValueError, match="need 1 <= threshold <= num_shares"):
        split(ternary(1), num_shares, threshold)


def test_a_secret_that_the_field_cannot_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="larger than 125"):
        split(np.array([126]), 3, 2)
    shares = dict(enumerate(split(np.array([125]), 3, 2), start=1))
    with pytest.raises(ValueError, match="a sum of up to 126 does not fit the field of 251 elements"):
        combine(shares, 2, 126)


def test_the_field_holds_the_sums_of_every_profile_and_a_point_for_each_client() -> None:
    for profile in PROFILES.values():
        assert 2 * profile.max_clients + 1 <= FIELD
        assert profile.max_clients <= LARGEST_SUM
        assert profile.max_clients < FIELD


def test_known_answer() -> None:
    # f(x) = -1 + 250 x + 200 x^2 and g(x) = 64 + 2 x + 249 x^2 in Python integers, at 2, 3 and 250.
    points = (2, 3, 250)
    shares = {
        x: np.array([(-1 + 250 * x + 200 * x**2) % 251, (64 + 2 * x + 249 * x**2) % 251], np.uint8) for x in points
    }
    assert {x: share.tobytes().hex() for x, share in shares.items()} == {2: "2c3c", 3: "2734", 250: "c83c"}
    assert combine(shares, 3, 64).tolist() == [-1, 64]


def test_evaluation_at_large_points_does_not_overflow() -> None:
    secret = np.array([-125, 125, -1] * 200, np.int64)
    shares = split(secret, 250, 3)
    few = {250: shares[249], 249: shares[248], 248: shares[247], 1: shares[0]}
    assert combine(few, 3, 125).tolist() == secret.tolist()


def test_a_share_that_is_made_up_gives_a_small_key_as_rarely_as_is_claimed() -> None:
    """Each coefficient is then uniform: within 64 of zero with a probability of 129 / 251."""
    count = 100_000
    shares = split(np.zeros(count, np.int64), 3, 2)
    made_up = np.random.default_rng(0).integers(0, FIELD, count).astype(np.uint8)
    both = {1: shares[0].astype(np.int64), 2: made_up.astype(np.int64)}
    # Lagrange at 0 with points 1 and 2: 2 f(1) - f(2).
    key = (2 * both[1] - both[2]) % FIELD
    small = float(np.mean((key <= 64) | (key >= FIELD - 64)))
    assert abs(small - 129 / 251) < 6 * math.sqrt(0.25 / count)  # six standard deviations
    with pytest.raises(SealError, match="give no sum of keys"):
        combine({1: shares[0], 2: made_up}, 2, 64)
