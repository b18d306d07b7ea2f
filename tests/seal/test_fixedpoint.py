"""Fixed point: rounding, packing, and the bound on the error of a sum."""

from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from confide.errors import NonFiniteUpdateError, SealError
from confide.seal.fixedpoint import dequantize, pack, quantize, received, sum_error_bound, unpack
from confide.seal.profiles import PROFILES, Profile, get_profile

every_profile = pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda one: f"{one.scheme}-{one.name}")
profiles = st.sampled_from(list(PROFILES.values()))
floats = st.floats(-0.5, 0.5, width=32)


def some(num_values: int, limit: float, seed: int = 0) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(-limit, limit, num_values).astype(np.float32)


@given(profile=profiles, values=st.lists(floats, max_size=30))
def test_each_value_goes_to_the_nearest_step(profile: Profile, values: list[float]) -> None:
    half = 2 ** (profile.value_bits - 1) - 1
    step = Fraction(1, 2) / half
    levels = quantize(np.array(values, np.float32), 0.5, profile).levels
    assert levels.dtype == np.uint64
    for value, level in zip(values, levels.tolist(), strict=True):
        assert 1 <= level <= 2 * half + 1
        # Nearest in exact arithmetic, up to the rounding of a product in float64.
        assert abs(Fraction(value) - (level - half - 1) * step) <= step / 2 * (1 + Fraction(1, 2**20))


@every_profile
def test_zero_is_exact_and_levels_are_symmetric(profile: Profile) -> None:
    values = some(1000, 0.3)
    zero = 2 ** (profile.value_bits - 1)
    up, down = (quantize(sign * values, 0.25, profile).levels.astype(np.int64) for sign in (1, -1))
    assert (up - zero).tolist() == (zero - down).tolist()
    assert quantize(np.zeros(3, np.float32), 0.25, profile).levels.tolist() == [zero] * 3
    assert received(np.zeros(3, np.float32), 0.25, profile)[0].tolist() == [0.0] * 3


@every_profile
def test_saturated_values_are_counted_and_moved_to_the_edge(profile: Profile) -> None:
    values = some(40000, 0.1)  # more than one block
    values[[3, 20000, 39999]] = [0.2, -5.0, 3e38]
    result = quantize(values, 0.1, profile)
    assert result.num_saturated == 3
    largest = 2**profile.value_bits - 1
    assert result.levels[[3, 20000, 39999]].tolist() == [largest, 1, largest]
    np.testing.assert_allclose(received(values, 0.1, profile)[0][[3, 20000, 39999]], [0.1, -0.1, 0.1], rtol=1e-6)
    assert quantize(np.array([0.1, -0.1], np.float32), float(np.float32(0.1)), profile).num_saturated == 0


@every_profile
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(profile: Profile, bad: float) -> None:
    values = some(20000, 0.1)
    values[17000] = bad
    with pytest.raises(NonFiniteUpdateError, match="NaN or infinity"):
        quantize(values, 0.1, profile)


@pytest.mark.parametrize("limit", [0.0, -1.0, np.nan, np.inf, 1e-31])
def test_a_limit_that_is_no_range_is_refused(limit: float) -> None:
    with pytest.raises(ValueError, match="limit is"):
        quantize(np.zeros(1, np.float32), limit, get_profile("onetime", "compact"))


@every_profile
def test_rounding_twice_is_rounding_once(profile: Profile) -> None:
    values = some(5000, 0.3)
    once, _ = received(values, 0.25, profile)
    assert once.dtype == np.float32
    assert np.array_equal(received(once, 0.25, profile)[0], once)


@given(profile=profiles, num_clients=st.integers(1, 64), data=st.data())
def test_the_sum_is_within_the_bound(profile: Profile, num_clients: int, data: st.DataObject) -> None:
    values = data.draw(arrays(np.float32, (num_clients, 3), elements=floats))
    totals = sum((quantize(row, 0.5, profile).levels for row in values), start=np.zeros(3, np.uint64))
    opened = dequantize(totals, num_clients, 0.5, profile)
    exact = [sum(Fraction(float(value)) for value in column) for column in values.T]
    bound = sum_error_bound(num_clients, 0.5, profile)
    assert all(abs(Fraction(float(got)) - want) <= bound for got, want in zip(opened, exact, strict=True))


def test_the_bound_is_nearly_reached_by_clients_that_all_round_the_same_way() -> None:
    profile, limit = get_profile("onetime", "compact"), 0.25
    step = limit / (2**15 - 1)
    value = np.array([1000.499 * step], np.float32)
    total = dequantize(64 * quantize(value, limit, profile).levels, 64, limit, profile)
    error = abs(float(total[0]) - 64 * float(value[0]))
    assert 0.9 * sum_error_bound(64, limit, profile) < error <= sum_error_bound(64, limit, profile)


@pytest.mark.parametrize(("name", "largest"), [("compact", 2e-4), ("precise", 3.1e-6)])
def test_fifty_clients_are_within_the_stated_error_even_in_the_worst_case(name: str, largest: float) -> None:
    profile = get_profile("onetime", name)
    assert sum_error_bound(50, profile.initial_limit, profile) < largest


@pytest.mark.parametrize(("name", "largest"), [("compact", 1e-4), ("precise", 1e-6)])
def test_fifty_different_clients_are_within_the_target(name: str, largest: float) -> None:
    profile = get_profile("onetime", name)
    values = np.random.default_rng(0).normal(0, 0.02, (50, 20000)).astype(np.float32)
    totals = sum((quantize(row, profile.initial_limit, profile).levels for row in values), np.zeros(20000, np.uint64))
    opened = dequantize(totals, 50, profile.initial_limit, profile)
    assert np.abs(opened - values.astype(np.float64).sum(axis=0)).max() <= largest


@given(profile=profiles, num_values=st.integers(0, 40), num_clients=st.integers(1, 64), data=st.data())
def test_unpacking_a_sum_of_packed_levels_gives_the_sums(
    profile: Profile, num_values: int, num_clients: int, data: st.DataObject
) -> None:
    level = st.integers(1, 2**profile.value_bits - 1) | st.just(2**profile.value_bits - 1)
    levels = data.draw(arrays(np.uint64, num_values, elements=level))
    packed = pack(levels, profile)
    assert packed.shape == (profile.plain_coefficients(num_values),)
    assert all(number < profile.plain_modulus for number in packed.tolist())
    total = packed * np.uint64(num_clients)
    assert unpack(total, num_values, profile).tolist() == [num_clients * level for level in levels.tolist()]


def test_field_j_of_coefficient_i_holds_value_j_c_plus_i() -> None:
    profile = get_profile("onetime", "ultra")  # three fields of 17 bits
    packed = pack(np.arange(1, 6, dtype=np.uint64), profile)
    assert packed.tolist() == [1 | 3 << 17 | 5 << 34, 2 | 4 << 17]


@every_profile
def test_a_wrong_number_of_coefficients_is_refused(profile: Profile) -> None:
    packed = pack(np.ones(10, np.uint64), profile)
    with pytest.raises(SealError, match="values take"):
        unpack(packed[:-1], 10, profile)


@every_profile
def test_totals_that_so_many_clients_cannot_make_are_refused(profile: Profile) -> None:
    highest = 3 * (2**profile.value_bits - 1)
    dequantize(np.array([3, highest], np.uint64), 3, 0.25, profile)
    for bad in (0, 2, highest + 1, 2**profile.field_bits - 1):
        with pytest.raises(SealError, match="cannot be a sum of 3"):
            dequantize(np.array([100, bad], np.uint64), 3, 0.25, profile)
    for num_clients in (0, 65):
        with pytest.raises(SealError, match="1 to 64 clients"):
            dequantize(np.array([100], np.uint64), num_clients, 0.25, profile)


@every_profile
def test_nothing_comes_from_nothing(profile: Profile) -> None:
    empty = np.empty(0, np.float32)
    assert len(pack(quantize(empty, 0.25, profile).levels, profile)) == 0
    assert received(empty, 0.25, profile)[0].shape == (0,)
    assert unpack(np.empty(0, np.uint64), 0, profile).shape == (0,)


def test_known_answer() -> None:
    profile = get_profile("onetime", "compact")
    values = np.array([0.0, 0.25, -0.25, 0.1, -0.1, 1e-5, 3e-6], np.float32)
    assert [f"{level:04x}" for level in quantize(values, 0.25, profile).levels.tolist()] == [
        "8000",
        "ffff",
        "0001",
        "b333",
        "4ccd",
        "8001",
        "8000",
    ]
