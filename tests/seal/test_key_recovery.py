"""The published key recovery breaks scheme `published` and no other; the algebra it stands on is checked by itself."""

import json

import numpy as np
import pytest

from confide.bench.key_recovery import (
    Attempt,
    Updates,
    attack_onetime,
    attack_published,
    attack_shared,
    open_exact,
    run_key_recovery,
    shared_pair,
)
from confide.bench.linear_attack import SeenSum, possible_share, solve_one_sum, solve_two_sums
from confide.bench.ring_algebra import Integers, RootValues, decode_reals, encode_reals
from confide.seal.adder import ModularAdder
from confide.seal.fixedpoint import quantize
from confide.seal.profiles import get_profile
from confide.seal.shared import SharedClient, new_shared_keys
from tests.seal.federations import needs_tenseal

UPDATES = Updates(3, seed=1)
SMALL = RootValues(prime=97, degree=8)


def integers(*numbers: int) -> Integers:
    return np.array(numbers, object)


# --- The attack


@needs_tenseal
def test_two_sums_and_their_float64_results_give_the_whole_key_of_published() -> None:
    exact, rounded = attack_published(UPDATES)
    assert exact.is_recovered
    assert (exact.possible_share, exact.opened_share) == (1.0, 1.0)
    # Rounding to float32 stops these equations: 2^-24 of a value near 0.1 is thousands of units of 2^-40.
    assert not rounded.is_recovered
    assert rounded.opened_share < 0.01


@pytest.mark.parametrize("attack", [attack_shared, attack_onetime])
def test_the_same_procedure_finds_no_key_where_opening_is_exact(attack: object) -> None:
    """What is tried: one sum with its noise taken as 0, and the two-sum equations that break `published`.

    Both candidates are uniform modulo q, since the unknown noise is divided by a uniform c1: none of their thousands of
    coefficients is as small as a key's (by chance: 129 * 8192 / 2^54, below 10^-10), and no value opens beyond chance.
    """
    assert callable(attack)
    attempts: list[Attempt] = attack(UPDATES)
    solved = [attempt for attempt in attempts if attempt.cpu_seconds > 0]
    assert len(solved) == 2
    for attempt in solved:
        assert not attempt.is_recovered
        assert attempt.possible_share == 0
        assert attempt.opened_share < 0.01


def test_the_key_of_a_onetime_sum_is_a_key_and_opens_no_members_update() -> None:
    *_, known = attack_onetime(UPDATES)
    assert known.possible_share == 1
    assert known.opened_share < 0.01
    assert not known.is_recovered


def test_with_the_noise_told_the_equations_find_the_shared_key_so_it_is_the_noise_that_protects_it() -> None:
    profile = get_profile("shared", "compact")
    keys = new_shared_keys(profile)
    client = SharedClient(profile, keys)
    num_values = profile.ring_degree * profile.values_per_coefficient
    roots = RootValues(profile.modulus[0], profile.ring_degree)
    secret = keys.secret.coefficients().astype(object)
    seen = []
    for number in (1, 2):
        one = UPDATES.record(client, ModularAdder(profile), num_values, number)
        first, second = shared_pair(one.total, one.context, profile, roots)
        with_noise = roots.to_coefficients(first + second * roots.from_coefficients(secret))
        seen.append(SeenSum(first=first, second=second, result=with_noise))
    np.testing.assert_array_equal(solve_one_sum(seen[0], roots), secret)
    np.testing.assert_array_equal(solve_two_sums(seen[0], seen[1], roots), secret)
    upload = shared_pair(one.uploads[0], one.context, profile, roots)
    levels = quantize(UPDATES.of(2, 0, num_values), profile.initial_limit, profile).levels
    np.testing.assert_array_equal(open_exact(upload, secret, profile, roots), levels)


@needs_tenseal
def test_the_demonstration_is_plain_data_with_what_it_ran_on() -> None:
    result = json.loads(json.dumps(run_key_recovery(num_clients=2).to_dict()))
    assert {(one["scheme"], one["is_recovered"]) for one in result["attempts"]} == {
        ("published", True),
        ("published", False),
        ("shared", False),
        ("onetime", False),
    }
    assert {"tenseal", "seal-python"} <= result["versions"].keys()
    assert result["machine"]["usable_cores"] >= 1


def test_possible_share_counts_coefficients_that_a_key_can_have() -> None:
    assert possible_share(integers(-1, 0, 1, 2), 1) == 0.75
    assert possible_share(integers(-1, 0, 1, 2), 2) == 1


# --- Its algebra


def test_values_at_the_roots_multiply_as_polynomials_do() -> None:
    first, second = integers(1, 2, 3, 4, 5, 6, 7, 8), integers(0, 1, 0, 0, 0, 0, 0, 0)
    product = SMALL.from_coefficients(first) * SMALL.from_coefficients(second)
    np.testing.assert_array_equal(SMALL.to_coefficients(product), integers(-8, 1, 2, 3, 4, 5, 6, 7))


def test_values_at_the_roots_are_those_of_horners_rule() -> None:
    numbers = integers(1, 2, 3, 4, 5, 6, 7, 8)
    psi = min(root for root in range(97) if pow(root, 8, 97) == 96)
    expected = [sum(int(c) * pow(psi, (2 * i + 1) * k, 97) for k, c in enumerate(numbers)) % 97 for i in range(8)]
    np.testing.assert_array_equal(SMALL.from_coefficients(numbers), integers(*expected))


def test_coefficients_come_back_centred() -> None:
    numbers = integers(0, 1, -1, 48, -48, 7, 0, 2)
    np.testing.assert_array_equal(SMALL.to_coefficients(SMALL.from_coefficients(numbers)), numbers)


def test_reversed_values_are_those_of_the_polynomial_in_one_over_x() -> None:
    numbers = SMALL.from_coefficients(integers(1, 2, 3, 4, 5, 6, 7, 8))
    # a_k X^-k = -a_k X^(8 - k)
    np.testing.assert_array_equal(SMALL.to_coefficients(numbers[::-1]), integers(1, -8, -7, -6, -5, -4, -3, -2))


def test_division_undoes_multiplication() -> None:
    first, second = integers(3, 1, 4, 1, 5, 9, 2, 6), integers(2, 7, 1, 8, 2, 8, 1, 8)
    np.testing.assert_array_equal(SMALL.divide(first * second % 97, second), first)


def test_reals_come_back_from_their_polynomial() -> None:
    reals = np.random.default_rng(0).normal(0, 0.1, 512)
    polynomial = encode_reals(reals, 2.0**40)
    # Rounding moves each of 1024 coefficients by at most 1/2, so a slot by at most 512 / 2^40.
    np.testing.assert_allclose(decode_reals(polynomial, 2.0**40), reals, rtol=0, atol=512 * 2.0**-40)


def test_a_prime_without_the_roots_is_refused() -> None:
    with pytest.raises(ValueError, match="97 has no root of unity of order 64"):
        RootValues(prime=97, degree=32)
