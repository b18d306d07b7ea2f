"""Both rings: exact sums, known answers by the schoolbook, real noise, and secrets that stay where they are."""

import copy
import dataclasses
import itertools
import pickle
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from functools import cache

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from confide.errors import MessageError, SealError, SecretKeyError
from confide.seal.coefficients import Coefficients, add
from confide.seal.commonpoly import common_polynomial
from confide.seal.fixedpoint import dequantize, pack, quantize, unpack
from confide.seal.profiles import NOISE_BOUND, get_profile
from confide.seal.ring import PublicKeyRing, Ring, RingSecret, SharedSecret
from tests.seal import schoolbook

ONETIME = ("compact", "precise", "ultra")
SHARED = ("compact", "precise")
SEED = bytes(range(32))
N = 4096
every_onetime = pytest.mark.parametrize("name", ONETIME)
every_shared = pytest.mark.parametrize("name", SHARED)


@cache
def ring(name: str) -> Ring:
    return Ring(get_profile("onetime", name))


@cache
def public_key_ring(name: str) -> PublicKeyRing:
    return PublicKeyRing(get_profile("shared", name))


@cache
def keys(name: str) -> tuple[SharedSecret, bytes]:
    return public_key_ring(name).new_keys()


def prime_of(name: str) -> int:
    return get_profile("onetime", name).modulus[0]


def common(name: str, first: int = 0) -> Callable[[int], Coefficients]:
    return lambda index: common_polynomial(SEED, first + index, prime_of(name), N)


def some_plain(count: int, bound: int, seed: int = 0) -> Coefficients:
    return np.random.default_rng(seed).integers(0, bound, count, dtype=np.uint64)


def fixed_secret(name: str) -> npt.NDArray[np.int64]:
    return np.array(schoolbook.fixed_numbers(name, N, 3), np.int64) - 1


@cache
def common_coefficients(name: str, index: int) -> list[int]:
    """The coefficients of a common polynomial, by the schoolbook."""
    return schoolbook.from_values(common(name)(index).tolist(), prime_of(name))


@cache
def fixed_product(name: str) -> list[int]:
    """The first common polynomial times the fixed secret, by the schoolbook."""
    return schoolbook.multiply(common_coefficients(name, 0), fixed_secret("known answer").tolist(), prime_of(name))


# --- Known answers


def test_the_schoolbook_agrees_with_its_own_definition_and_with_small_cases() -> None:
    assert schoolbook.multiply([1, 2, 3, 4], [0, 1, 0, 0], 97) == [93, 1, 2, 3]  # times X: 4 comes in as -4
    first, second = (schoolbook.fixed_numbers(name, 16, 97) for name in ("first", "second"))
    whole = schoolbook.multiply(first, second, 97)
    assert whole == [schoolbook.coefficient(first, second, i, 97) for i in range(16)]
    assert whole == schoolbook.multiply(second, first, 97)
    values = [schoolbook.value(first, i, 97) for i in range(16)]
    assert schoolbook.from_values(values, 97) == first
    products = [x * schoolbook.value(second, i, 97) % 97 for i, x in enumerate(values)]
    assert schoolbook.from_values(products, 97) == whole
    assert schoolbook.root(16, 97) == min(x for x in range(97) if pow(x, 16, 97) == 96)


@every_onetime
def test_opening_a_fixed_sum_gives_the_schoolbooks_answer(name: str) -> None:
    profile = get_profile("onetime", name)
    prime, scale, t = profile.modulus[0], profile.message_scale, profile.plain_modulus
    secret = fixed_secret("known answer")
    plain = schoolbook.fixed_numbers("plain", N, t)
    plain[:4] = [0, t - 1, 0, t - 1]  # the ends of the range, with noise to either side
    largest = (scale - 1) // 2  # as much noise as still opens right
    noise = [x - largest for x in schoolbook.fixed_numbers("noise", N, 2 * largest + 1)]
    noise[:4] = [-largest, largest, largest, -largest]
    total = schoolbook.seal(plain, fixed_product(name), noise, scale, prime)
    assert schoolbook.digest(total) == KNOWN_TOTALS[name]
    assert schoolbook.open_sum(total, fixed_product(name), scale, prime) == plain
    assert ring(name).open(np.array(total, np.uint64), secret, common(name)).tolist() == plain


KNOWN_TOTALS = {
    "compact": "d53b430946bc4ae76fb49188aa0d4a905b1fac1a25820c1395ff1caa4247b041",
    "precise": "83f1a7305978d33c4c85f2589edf7f1d711def0dba38982fbea69e9a9a11c265",
    "ultra": "4838d68236b2f62da319d08874b3be42091be18caf61b85004687422eb6e3e94",
}


@every_onetime
def test_sealed_minus_message_and_key_is_small_noise_in_every_coefficient(name: str) -> None:
    profile = get_profile("onetime", name)
    plain = some_plain(N, profile.plain_modulus)
    sealed = ring(name).seal(ring(name).restore_secret(fixed_secret("known answer")), plain, common(name))
    clean = schoolbook.seal(plain.tolist(), fixed_product(name), [0] * N, profile.message_scale, profile.modulus[0])
    noise = [schoolbook.centred(b - c, profile.modulus[0]) for b, c in zip(sealed.tolist(), clean, strict=True)]
    assert max(abs(e) for e in noise) <= NOISE_BOUND
    assert 2.5 < np.std(noise) < 4  # 3.24; its own spread over 4096 numbers is 0.04


@every_onetime
def test_every_polynomial_of_a_chunk_has_noise_of_its_own(name: str) -> None:
    """The same noise twice: the difference of two polynomials is one equation without noise, and many give the key."""
    one, profile, count = ring(name), get_profile("onetime", name), 5
    secret = one.new_secret()
    plain = some_plain(count * N, profile.plain_modulus)
    sealed = one.seal(secret, plain, common(name)).reshape(count, N)
    prime = profile.modulus[0]
    noises = []
    for index, (body, message) in enumerate(zip(sealed, plain.reshape(count, N), strict=True)):
        pair = np.stack([common(name)(index)] * 2)
        product = one._library.products(pair, secret._key)[0]
        phase = add(body, product, prime)
        noises.append(add(phase, (prime - message * np.uint64(profile.message_scale)) % np.uint64(prime), prime))
    for first, second in itertools.combinations(noises, 2):
        # Two independent numbers of this distribution are equal with probability 0.087; 4096 of them in 356 +- 18.
        assert 200 < np.count_nonzero(first == second) < 520
    for noise in noises:
        assert int(add(noise, np.uint64(NOISE_BOUND), prime).max()) <= 2 * NOISE_BOUND


def test_a_product_of_the_library_is_the_schoolbooks() -> None:
    one = ring("compact")
    prime, secret = one.profile.modulus[0], fixed_secret("product") * 64
    pair = np.stack([common("compact", i)(0) for i in range(2)])
    products = one._library.products(pair, one._library.key(secret))
    for number, product in enumerate(products.tolist()):
        a = common_coefficients("compact", number)
        assert schoolbook.value(a, 1234, prime) == int(pair[number, 1234])
        for index in (0, 1, 2, 1000, N - 2, N - 1):
            assert product[index] == schoolbook.coefficient(a, secret.tolist(), index, prime)


def test_seals_way_of_writing_objects_has_not_changed() -> None:
    prefixes = {kind: prefix.hex() for kind, prefix in ring("compact")._library.prefixes().items()}
    assert prefixes == KNOWN_PREFIXES


KNOWN_PREFIXES = {
    "ciphertext": (
        "5ea11004040000007100010000000000527be4394e29a9ba9c8d8ffae052e12ca8c9cd199a46b618f54279dcb5912e44"
        "00020000000000000000100000000000000100000000000000000000000000f03f01000000000000005ea11004040000"
        "0018000100000000000020000000000000"
    ),
    "transformed": (
        "5ea11004040000007100010000000000527be4394e29a9ba9c8d8ffae052e12ca8c9cd199a46b618f54279dcb5912e44"
        "01020000000000000000100000000000000100000000000000000000000000f03f01000000000000005ea11004040000"
        "0018000100000000000020000000000000"
    ),
    "plaintext": (
        "5ea110040400000058800000000000000000000000000000000000000000000000000000000000000000000000000000"
        "0010000000000000000000000000f03f5ea110040400000018800000000000000010000000000000"
    ),
    "public key": (
        "5ea11004040000007100010000000000527be4394e29a9ba9c8d8ffae052e12ca8c9cd199a46b618f54279dcb5912e44"
        "01020000000000000000100000000000000100000000000000000000000000f03f01000000000000005ea11004040000"
        "0018000100000000000020000000000000"
    ),
}


@every_shared
def test_a_public_key_encryption_opens_by_the_schoolbook(name: str) -> None:
    one, (secret, public) = public_key_ring(name), keys(name)
    profile, degree = one.profile, one.profile.ring_degree
    plain = some_plain(degree, profile.plain_modulus)
    sealed = one.seal(one.read_public_key(public), plain)
    modulus = int(np.prod([int(prime) for prime in profile.modulus], dtype=object))
    for index in (0, 1, degree - 1):
        phases = []
        for row, prime in zip(sealed.tolist(), profile.modulus, strict=True):
            product = schoolbook.coefficient(row[degree:], secret.coefficients().tolist(), index, prime)
            phases.append((row[index] + product) % prime)
        # The Chinese remainder of the phases modulo each prime.
        phase = sum(
            residue * (modulus // prime) * pow(modulus // prime, -1, prime)
            for residue, prime in zip(phases, profile.modulus, strict=True)
        )
        error = schoolbook.centred(phase - modulus * int(plain[index]) // profile.plain_modulus, modulus)
        assert abs(error) < 320  # fifteen times the standard deviation of a fresh ciphertext's noise, 21.4


# --- Sums


@given(data=st.data(), name=st.sampled_from(ONETIME))
@settings(max_examples=15, deadline=None)
def test_the_sum_of_sealed_levels_opens_to_the_sum_of_levels(data: st.DataObject, name: str) -> None:
    profile, count = get_profile("onetime", name), data.draw(st.integers(1, 40))
    num_clients = data.draw(st.integers(1, 6))
    level = st.integers(1, 2**profile.value_bits - 1)
    levels = [
        np.array(data.draw(st.lists(level, min_size=count, max_size=count)), np.uint64) for _ in range(num_clients)
    ]
    secrets = [ring(name).new_secret() for _ in range(num_clients)]
    sealed = [
        ring(name).seal(secret, pack(one, profile), common(name)) for secret, one in zip(secrets, levels, strict=True)
    ]
    order = data.draw(st.permutations(range(num_clients)))
    members = order[: data.draw(st.integers(1, num_clients))]
    total = np.zeros_like(sealed[0])
    for member in members:
        add(total, sealed[member], profile.modulus[0], out=total)
    summed_secret = np.sum([secrets[member].coefficients() for member in members], axis=0)
    opened = unpack(ring(name).open(total, summed_secret, common(name)), count, profile)
    assert opened.tolist() == np.sum([levels[member] for member in members], axis=0).tolist()


@every_onetime
def test_the_sum_of_all_64_clients_at_the_largest_level_is_exact(name: str) -> None:
    profile = get_profile("onetime", name)
    plain = pack(np.full(300, 2**profile.value_bits - 1, np.uint64), profile)
    total, summed_secret = np.zeros_like(plain), np.zeros(N, np.int64)
    for _ in range(profile.max_clients):
        secret = ring(name).new_secret()
        add(total, ring(name).seal(secret, plain, common(name)), profile.modulus[0], out=total)
        summed_secret += secret.coefficients()
    assert ring(name).open(total, summed_secret, common(name)).tolist() == [64 * x for x in plain.tolist()]


@every_onetime
@pytest.mark.parametrize("count", [0, 1, N - 1, N, N + 1, 2 * N, 2 * N + 5, 3 * N])
def test_a_chunk_of_any_length_opens(name: str, count: int) -> None:
    plain = some_plain(count, get_profile("onetime", name).plain_modulus)
    secret = ring(name).new_secret()
    sealed = ring(name).seal(secret, plain, common(name))
    assert sealed.shape == plain.shape
    assert sealed.dtype == np.uint64
    assert np.array_equal(ring(name).open(sealed, secret.coefficients(), common(name)), plain)


def test_what_is_cut_off_changes_nothing_before_it() -> None:
    one, plain = ring("compact"), some_plain(2 * N, 2**44)
    secret = one.new_secret()
    sealed = one.seal(secret, plain, common("compact"))
    for count in (1, N, N + 77):
        assert np.array_equal(one.open(sealed[:count], secret.coefficients(), common("compact")), plain[:count])


@every_shared
@pytest.mark.parametrize("count", [0, 1, 8191, 8192, 8193])
def test_sums_under_a_public_key_are_exact_for_any_length(name: str, count: int) -> None:
    one, (secret, public_bytes) = public_key_ring(name), keys(name)
    profile, public = one.profile, one.read_public_key(public_bytes)
    levels = some_plain(2 * count, 2**profile.value_bits)
    parts = [pack(np.roll(levels, shift), profile) for shift in range(3)]
    total = one.seal(public, parts[0])
    assert total.shape == (len(profile.modulus), profile.wire_coefficients(2 * count))
    for part in parts[1:]:
        for row, other, prime in zip(total, one.seal(public, part), profile.modulus, strict=True):
            add(row, other, prime, out=row)
    opened = unpack(one.open(total, secret), 2 * count, profile)
    assert opened.tolist() == np.sum([np.roll(levels, shift) for shift in range(3)], axis=0).tolist()


@every_shared
def test_the_sum_of_all_64_clients_under_a_public_key_is_exact(name: str) -> None:
    one, (secret, public) = public_key_ring(name), keys(name)
    plain = pack(np.full(2000, 2**one.profile.value_bits - 1, np.uint64), one.profile)
    total = np.zeros((len(one.profile.modulus), one.profile.wire_coefficients(2000)), np.uint64)
    for _ in range(one.profile.max_clients):
        for row, other, prime in zip(
            total, one.seal(one.read_public_key(public), plain), one.profile.modulus, strict=True
        ):
            add(row, other, prime, out=row)
    assert one.open(total, secret).tolist() == [64 * x for x in plain.tolist()]


# --- What a wrong key or a damaged sum gives


@every_onetime
def test_a_wrong_key_opens_nothing(name: str) -> None:
    profile = get_profile("onetime", name)
    values = np.random.default_rng(0).normal(0, 0.02, 3000).astype(np.float32)
    plain = pack(quantize(values, 0.125, profile).levels, profile)
    secret = ring(name).new_secret()
    sealed = ring(name).seal(secret, plain, common(name))
    off_by_one = secret.coefficients()
    off_by_one[17] += 1
    for wrong in (ring(name).new_secret().coefficients(), off_by_one):
        with pytest.raises(SealError, match=r"does not open|cannot be a sum"):
            dequantize(unpack(ring(name).open(sealed, wrong, common(name)), 3000, profile), 1, 0.125, profile)


def test_arguments_that_are_no_sealed_sum_are_refused() -> None:
    one, secret = ring("compact"), ring("compact").new_secret()
    prime, key = one.profile.modulus[0], secret.coefficients()
    with pytest.raises(SealError, match="plaintext is not below"):
        one.seal(secret, np.array([2**44], np.uint64), common("compact"))
    with pytest.raises(SealError, match="expected one row of uint64"):
        one.seal(secret, np.zeros((2, 2), np.uint64), common("compact"))
    with pytest.raises(SealError, match="sealed sum is not below"):
        one.open(np.array([prime], np.uint64), key, common("compact"))
    for bad in (key[:-1], np.stack([key, key])):
        with pytest.raises(SealError, match="a secret has shape"):
            one.open(np.array([1], np.uint64), bad, common("compact"))
    for bad in (key * 65, key * 0):
        with pytest.raises(SealError, match="no sum of at most 64 secrets"):
            one.open(np.array([1], np.uint64), bad, common("compact"))
    with pytest.raises(SealError, match="no sum of at most 1 secrets"):
        one.restore_secret(2 * key)
    with pytest.raises(SealError, match="not below the modulus"):
        one.seal(secret, np.array([1], np.uint64), lambda index: np.full(N, prime, np.uint64))
    with pytest.raises(SealError, match="would hide nothing"):
        one.seal(secret, np.array([1], np.uint64), lambda index: np.zeros(N, np.uint64))


def test_arguments_that_are_no_sum_under_a_public_key_are_refused() -> None:
    one, (secret, public) = public_key_ring("compact"), keys("compact")
    with pytest.raises(SealError, match="expected 1 rows"):
        one.open(np.zeros((2, 2 * 8192), np.uint64), secret)
    with pytest.raises(SealError, match="no sealed chunk has 8192 coefficients"):
        one.open(np.zeros((1, 8192), np.uint64), secret)
    with pytest.raises(SealError, match="not below"):
        one.open(np.full((1, 8193), one.profile.modulus[0], np.uint64), secret)
    for bad in (b"", public[:-1], public + b"x"):
        with pytest.raises(MessageError, match="a public key of this profile has 245760 bytes"):
            one.read_public_key(bad)
    with pytest.raises(MessageError, match="not below the modulus"):
        one.read_public_key(b"\xff" * len(public))


def test_objects_of_another_profile_or_scheme_are_refused() -> None:
    with pytest.raises(SecretKeyError, match="another profile"):
        ring("compact").seal(ring("precise").new_secret(), np.array([1], np.uint64), common("compact"))
    secret, public = keys("precise")
    with pytest.raises(SecretKeyError, match="another profile"):
        public_key_ring("compact").open(np.zeros((1, 8193), np.uint64), secret)
    with pytest.raises(SecretKeyError, match="another profile"):
        public_key_ring("compact").seal(public_key_ring("precise").read_public_key(public), np.array([1], np.uint64))
    with pytest.raises(SealError, match="not for one-time secrets"):
        Ring(get_profile("shared", "compact"))
    with pytest.raises(SealError, match="not for a shared secret"):
        PublicKeyRing(get_profile("onetime", "compact"))


def test_parameters_below_128_bits_of_security_are_refused() -> None:
    for name in ONETIME:
        weak = dataclasses.replace(get_profile("onetime", name), ring_degree=1024)  # SEAL's table allows 27 bits there
        with pytest.raises(SealError, match="SEAL refuses profile"):
            Ring(weak)
    weak = dataclasses.replace(get_profile("shared", "compact"), ring_degree=2048)
    with pytest.raises(SealError, match="SEAL refuses profile"):
        PublicKeyRing(weak)


# --- Randomness


@every_onetime
def test_secrets_are_ternary_and_uniform(name: str) -> None:
    first, second = (ring(name).new_secret().coefficients() for _ in range(2))
    for secret in (first, second):
        assert secret.shape == (N,)
        assert secret.dtype == np.int64
        counts = np.bincount(secret + 1, minlength=3)
        assert len(counts) == 3
        assert np.abs(counts - N / 3).max() < 8 * np.sqrt(N * 2 / 9)  # eight standard deviations
    assert np.count_nonzero(first == second) < N / 2


def test_noise_is_seals_centred_binomial() -> None:
    one = ring("compact")
    prime = one.profile.modulus[0]
    drawn = np.concatenate([one._fresh_noise() for _ in range(24)])
    noise = np.where(drawn > prime // 2, drawn.astype(np.int64) - prime, drawn.astype(np.int64)).reshape(-1)
    pascal = np.array([1.0])
    for _ in range(2 * NOISE_BOUND):
        pascal = np.convolve(pascal, [0.5, 0.5])  # 42 fair bits
    expected = noise.size * np.array([pascal[:12].sum(), *pascal[12:31], pascal[31:].sum()])
    counts = np.bincount(np.clip(noise, -10, 10) + 10, minlength=21)
    # Chi-square with 20 degrees of freedom exceeds 100 with probability 1e-12.
    assert float(((counts - expected) ** 2 / expected).sum()) < 100


def test_every_polynomial_of_noise_is_fresh() -> None:
    drawn = np.concatenate([ring("compact")._fresh_noise() for _ in range(10)])
    assert len({polynomial.tobytes() for polynomial in drawn}) == 20


def test_a_secret_seals_chunk_after_chunk_with_fresh_noise_each_time() -> None:
    one, plain = ring("compact"), some_plain(50, 2**44)
    secret = one.new_secret()
    chunks = [one.seal(secret, plain, common("compact", first)) for first in range(2)]
    prime, key = one.profile.modulus[0], secret.coefficients().tolist()
    noises = []
    for first, sealed in enumerate(chunks):
        a = common_coefficients("compact", first)
        clean = [int(m) * 1023 - schoolbook.coefficient(a, key, i, prime) for i, m in enumerate(plain.tolist())]
        noises.append([schoolbook.centred(b - c, prime) for b, c in zip(sealed.tolist(), clean, strict=True)])
    assert all(abs(e) <= NOISE_BOUND for noise in noises for e in noise)
    assert noises[0] != noises[1]
    for first, sealed in enumerate(chunks):
        assert np.array_equal(one.open(sealed, secret.coefficients(), common("compact", first)), plain)


def test_noise_that_is_not_noise_stops_the_sealing(monkeypatch: pytest.MonkeyPatch) -> None:
    one = Ring(get_profile("onetime", "compact"))
    for drawn in (np.zeros((2, N), np.uint64), np.full((2, N), 22, np.uint64)):
        monkeypatch.setattr(one._library, "encrypt_zero", lambda encryptor, drawn=drawn: drawn)
        with pytest.raises(SealError, match="noise is not distributed as expected"):
            one.seal(one.new_secret(), np.array([1], np.uint64), common("compact"))


def test_processes_that_were_forked_draw_different_secrets_and_noise() -> None:
    script = (
        "import hashlib, os\n"
        "from confide.seal.profiles import get_profile\n"
        "from confide.seal.ring import Ring\n"
        "ring = Ring(get_profile('onetime', 'compact'))\n"
        "ring._fresh_noise()\n"
        "child = os.fork()\n"
        "for drawn in (ring._fresh_noise(), ring.new_secret().coefficients()):\n"
        "    os.write(1, hashlib.sha256(drawn.tobytes()).hexdigest().encode() + b'\\n')\n"
        "if child:\n"
        "    os.waitpid(child, 0)\n"
    )
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    drawn = finished.stdout.split()
    assert len(drawn) == len(set(drawn)) == 4


# --- Secrets stay where they are


@pytest.mark.parametrize("kind", ["one-time", "shared"])
def test_a_secret_cannot_be_pickled_copied_or_printed(kind: str) -> None:
    secret: RingSecret | SharedSecret = ring("compact").new_secret() if kind == "one-time" else keys("compact")[0]
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(SecretKeyError, match="cannot be copied or pickled"):
            attempt(secret)
    assert {repr(secret), str(secret), f"{secret}"} == {f"{type(secret).__name__}(hidden)"}
    assert not hasattr(secret, "__dict__")


def test_coefficients_of_a_secret_are_a_copy() -> None:
    secret = ring("compact").new_secret()
    secret.coefficients()[:] = 0
    assert secret.coefficients().any()


def test_a_secret_seals_against_each_common_polynomial_only_once() -> None:
    one, plain = ring("compact"), some_plain(3 * N, 2**44)
    secret = one.new_secret()
    one.seal(secret, plain, common("compact", 10))
    for first in (10, 12, 9, 8):  # the same chunk, and chunks that overlap in one polynomial or more
        with pytest.raises(SecretKeyError, match="a second time"):
            one.seal(secret, plain, common("compact", first))
    one.seal(secret, plain, common("compact", 20))
    one.seal(one.new_secret(), plain, common("compact", 10))


def test_a_restored_secret_is_the_same_secret() -> None:
    one, plain = ring("compact"), some_plain(10, 2**44)
    secret = one.new_secret()
    sealed = one.seal(one.restore_secret(secret.coefficients()), plain, common("compact"))
    assert np.array_equal(one.open(sealed, secret.coefficients(), common("compact")), plain)
    shared, (key, public) = public_key_ring("compact"), keys("compact")
    total = shared.seal(shared.read_public_key(public), plain)
    assert np.array_equal(shared.open(total, shared.restore_secret(key.coefficients())), plain)


# --- What a server sees, and what it costs


@every_onetime
def test_a_sealed_zero_looks_uniform(name: str) -> None:
    # Chi-square with 63 degrees of freedom beyond 200: probability below 1e-15.
    prime, count = get_profile("onetime", name).modulus[0], 8 * N
    sealed = ring(name).seal(ring(name).new_secret(), np.zeros(count, np.uint64), common(name))
    counts = np.bincount((sealed.astype(np.float64) / prime * 64).astype(int), minlength=64)
    assert float(((counts - count / 64) ** 2).sum() / (count / 64)) < 200


def test_memory_grows_with_the_chunk_only_by_its_result() -> None:
    one, beyond = ring("compact"), []
    for num_polynomials in (4, 32):
        plain, secret = some_plain(num_polynomials * N, 2**44), one.new_secret()
        tracemalloc.start()
        sealed = one.seal(secret, plain, common("compact"))
        one.open(sealed, secret.coefficients(), common("compact"))
        beyond.append(tracemalloc.get_traced_memory()[1] - 2 * sealed.nbytes)
        tracemalloc.stop()
    assert beyond[1] < beyond[0] + 100_000
    assert max(beyond) < 2_000_000
