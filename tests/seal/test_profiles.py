"""Profiles: frozen numbers, checked against SEAL's choices and SEAL's security table."""

import dataclasses
import math
from fractions import Fraction
from itertools import product
from typing import Any

import pytest
import seal

from confide.seal.profiles import NOISE_BOUND, PROFILES, Profile, failure_log2, get_profile

every_profile = pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda one: f"{one.scheme}-{one.name}")

DIGESTS = {
    ("onetime", "compact"): "2d7d2072aca3da5e02e2acc20784185da149db192571da211a59ea2352c16412",
    ("onetime", "precise"): "7b4ea8ca01e3a641519ae21f9d3cecb80820008682ef510dd649be637344973c",
    ("onetime", "ultra"): "00a270483a3bfd41e5266d2ce6430a8006fe295828989862fce65dc0b2d514b6",
    ("shared", "compact"): "05c2e31717552ffac21b66f79a554f9bb926799bb38caccf358c7e2a8a25558f",
    ("shared", "precise"): "3c1deb475d3ac56ae7177ebbf97e6ec9291b06ddbbca260f03b914fe8d52ad91",
}

# Row of SEAL's table of HomomorphicEncryption.org's standard that the whole modulus, special prime included, must meet.
LEVELS = {
    ("onetime", "compact"): seal.sec_level_type.tc256,
    ("onetime", "precise"): seal.sec_level_type.tc256,
    ("onetime", "ultra"): seal.sec_level_type.tc192,
    ("shared", "compact"): seal.sec_level_type.tc128,
    ("shared", "precise"): seal.sec_level_type.tc128,
}


def primes(profile: Profile) -> list[int]:
    return [*profile.modulus, *([] if profile.special_prime is None else [profile.special_prime])]


def test_every_profile_is_found_by_scheme_and_name() -> None:
    assert set(PROFILES) == {*product(["onetime"], ["compact", "precise", "ultra"])} | {
        *product(["shared"], ["compact", "precise"])
    }
    assert all((one.scheme, one.name) == key and get_profile(*key) is one for key, one in PROFILES.items())


@every_profile
def test_primes_are_those_that_seal_chooses(profile: Profile) -> None:
    bits = [prime.bit_length() for prime in primes(profile)]
    assert [one.value() for one in seal.CoeffModulus.Create(profile.ring_degree, bits)] == primes(profile)


@every_profile
def test_the_whole_modulus_is_within_seals_security_table(profile: Profile) -> None:
    total_bits = math.prod(primes(profile)).bit_length()
    assert total_bits <= seal.CoeffModulus.MaxBitCount(profile.ring_degree, LEVELS[profile.scheme, profile.name])


def test_one_time_profiles_use_the_smaller_half_of_the_modulus_that_128_bits_would_allow() -> None:
    # A sum of secrets is opened, which is a hint on each; the wide margin is there for that.
    for profile in PROFILES.values():
        if profile.scheme == "onetime":
            assert profile.modulus[0].bit_length() <= 60 < 109
            assert seal.CoeffModulus.MaxBitCount(profile.ring_degree, seal.sec_level_type.tc128) == 109


@every_profile
def test_the_sum_of_all_clients_fits_a_field_and_the_fields_fit_a_coefficient(profile: Profile) -> None:
    largest_level = 2**profile.value_bits - 1
    assert profile.max_clients * largest_level < 2**profile.field_bits
    assert profile.values_per_coefficient * profile.field_bits <= profile.plain_bits
    assert profile.message_scale * profile.plain_modulus <= math.prod(profile.modulus)
    assert profile.max_clients == 64


@every_profile
def test_a_sum_of_all_clients_opens_wrong_with_negligible_probability(profile: Profile) -> None:
    # A hundred million values have at most 2**27 coefficients: below 2**-36 per round even then.
    assert failure_log2(profile, profile.max_clients) < -63
    assert failure_log2(profile, 1) < failure_log2(profile, 2) < failure_log2(profile, profile.max_clients)


def test_the_failure_bound_holds_against_the_exact_distribution_of_the_noise() -> None:
    # The sum of k centred binomials of 21 bits each is one of 21 k bits, minus its mean: its tail is a sum of
    # binomial coefficients, exact in integers.
    for name, num_clients in product(["compact", "precise", "ultra"], [1, 10, 64]):
        profile = get_profile("onetime", name)
        num_bits, margin = 2 * NOISE_BOUND * num_clients, (profile.message_scale - 1) // 2 + 1
        tail = sum(math.comb(num_bits, num_bits // 2 + x) for x in range(margin, num_bits // 2 + 1))
        exact = Fraction(2 * tail, 2**num_bits)
        bound = failure_log2(profile, num_clients)
        assert exact == 0 or math.log2(exact.numerator) - math.log2(exact.denominator) <= bound


@pytest.mark.parametrize(
    ("scheme", "name", "bytes_per_value"),
    [
        ("onetime", "compact", 3.5),
        ("onetime", "precise", 5.0),
        ("onetime", "ultra", 8 / 3),
        ("shared", "compact", 7.0),
        ("shared", "precise", 10.0),
    ],
)
def test_a_full_chunk_takes_the_stated_bytes_per_value(scheme: str, name: str, bytes_per_value: float) -> None:
    profile = get_profile(scheme, name)
    assert profile.chunk_values == 64 * profile.ring_degree * profile.values_per_coefficient
    assert profile.wire_bytes(profile.chunk_values) == pytest.approx(bytes_per_value * profile.chunk_values)


def test_a_cut_off_chunk_takes_only_what_it_needs() -> None:
    onetime, shared = get_profile("onetime", "compact"), get_profile("shared", "precise")
    assert onetime.wire_bytes(0) == 0
    assert onetime.wire_bytes(1) == onetime.wire_bytes(2) == 7
    assert onetime.wire_bytes(3) == 14
    assert onetime.wire_bytes(2 * 4096 + 1) == 7 * 4097
    assert shared.wire_bytes(0) == 0
    assert shared.wire_bytes(1) == 10 * (1 + 8192)
    assert shared.wire_bytes(2 * 8192 + 1) == 10 * (8193 + 2 * 8192)


def test_digests_are_frozen() -> None:
    assert {key: one.digest.hex() for key, one in PROFILES.items()} == DIGESTS


def test_every_number_changes_the_digest() -> None:
    profile = get_profile("shared", "compact")
    other: dict[str, Any] = {
        "name": "x",
        "scheme": "y",
        "modulus": (3, 5),
        "special_prime": None,
        "initial_limit": 0.2500000001,
    }
    for field in dataclasses.fields(profile):
        changed: dict[str, Any] = {field.name: other.get(field.name, 7)}
        assert dataclasses.replace(profile, **changed).digest != profile.digest, field.name
