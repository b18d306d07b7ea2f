"""Laws of every sealing scheme; a new scheme is tested by being listed in `federations`."""

import copy
import pickle
import subprocess
import sys
from itertools import permutations

import numpy as np
import pytest

from confide.errors import MessageError, MissingExtraError, NonFiniteUpdateError, SealError, SecretKeyError
from confide.seal.fixedpoint import dequantize, quantize
from confide.seal.profiles import get_profile
from confide.seal.published import (
    CHUNK_VALUES,
    PRIMES,
    RING_DEGREE,
    SLOTS,
    PublishedClient,
    PublishedServer,
    new_published_keys,
    read_ciphertexts,
)
from confide.seal.shared import SharedClient, new_shared_keys
from confide.update import Vector
from tests.seal.federations import RINGS, SCHEMES, Federation, each, federation, needs_tenseal, updates

SEALED = tuple(label for label in SCHEMES if label != "plain")
# CKKS: what remains of a fresh ciphertext's noise after SEAL has divided by the special prime is rounding, for each
# coefficient a standard deviation of sqrt((1 + 2 N / 3) / 12) = 21. The real part of a slot adds N such with random
# phases: 21 * sqrt(N / 2) / 2^40 = 1.2e-9 per client (1.25e-9 measured). 1e-7 is beyond 35 times that for five clients.
CKKS_ERROR = 1e-7


def expected_sum(one: Federation, parts: list[Vector]) -> Vector:
    """The sum that has to come out, computed without sealing: of integers where the scheme has them."""
    if one.profile is None:
        total: Vector = np.stack(parts).sum(axis=0, dtype=np.float64).astype(np.float32)
        return total
    levels = [quantize(part, one.client.initial_limit, one.profile).levels for part in parts]
    return dequantize(np.sum(levels, axis=0), len(parts), one.client.initial_limit, one.profile)


def assert_is_sum(label: str, opened: Vector, parts: list[Vector]) -> None:
    expected = expected_sum(federation(label), parts)
    assert opened.dtype == np.float32
    if label == "published":
        np.testing.assert_allclose(opened, expected, rtol=2.0**-23, atol=CKKS_ERROR)
    else:
        np.testing.assert_array_equal(opened, expected)


# --- Sums


@each(SCHEMES)
@pytest.mark.parametrize("size", ["one", "a few", "a polynomial less one", "a polynomial", "one more"])
def test_opening_the_sum_gives_the_sum(label: str, size: str) -> None:
    one = federation(label)
    full = one.polynomial_values
    num_values = {"one": 1, "a few": 7, "a polynomial less one": full - 1, "a polynomial": full, "one more": full + 1}
    parts = updates(3, num_values[size])
    assert_is_sum(label, one.open([one.seal(part) for part in parts]), parts)


@each(SCHEMES)
def test_a_vector_one_longer_than_a_chunk_travels_in_two(label: str) -> None:
    one = federation(label)
    parts = updates(2, one.client.chunk_values + 1)
    uploads = [one.seal(part) for part in parts]
    assert [len(upload.bodies) for upload in uploads] == [2, 2]
    assert_is_sum(label, one.open(uploads), parts)


@each(SCHEMES)
def test_the_sum_is_that_of_what_each_value_arrives_as(label: str) -> None:
    one = federation(label)
    parts = updates(3, 1000)
    arrived = [one.client.received(part, one.client.initial_limit or 1.0) for part in parts]
    assert [num_saturated for _, num_saturated in arrived] == [0, 0, 0]
    opened = one.open([one.seal(part) for part in parts])
    total = np.sum([values for values, _ in arrived], axis=0, dtype=np.float64)
    # Each of the four numbers compared is rounded once to float32; none is larger than 3 * 0.12.
    np.testing.assert_allclose(
        opened, total, rtol=0, atol=4 * 0.36 * 2.0**-24 + (CKKS_ERROR if one.profile is None else 0)
    )


@each(SCHEMES)
def test_any_order_of_the_members_gives_the_same_bytes(label: str) -> None:
    one = federation(label)
    uploads = [one.seal(part) for part in updates(3, 500)]
    assert len({tuple(one.add(order)) for order in permutations(uploads)}) == 1


@each(SCHEMES)
@pytest.mark.parametrize("members", [(0,), (1, 3), (0, 2, 4), (0, 1, 2, 3, 4)])
def test_any_subset_opens_to_its_own_sum(label: str, members: tuple[int, ...]) -> None:
    one = federation(label)
    parts = updates(5, 300)
    uploads = [one.seal(part) for part in parts]
    assert_is_sum(label, one.open([uploads[i] for i in members]), [parts[i] for i in members])


@each(RINGS)
def test_values_outside_the_range_saturate_and_are_counted(label: str) -> None:
    one = federation(label)
    limit = one.client.initial_limit
    values = np.array([3 * limit, -3 * limit, 0, limit / 2], np.float32)
    arrived, num_saturated = one.client.received(values, limit)
    assert num_saturated == 2
    np.testing.assert_allclose(arrived[:3], [limit, -limit, 0], rtol=2.0**-24)
    np.testing.assert_array_equal(one.open([one.seal(values)]), arrived)


# --- What is refused


@each(SCHEMES)
def test_a_second_sealing_raises(label: str) -> None:
    one = federation(label)
    (values,) = updates(1, 10)
    sealing = one.client.begin(one.context(10))
    assert len(list(sealing.chunks(values))) == 1
    with pytest.raises(SecretKeyError, match=r"sealed once|seals one vector only"):
        list(sealing.chunks(values))


@each(SEALED)
def test_a_vector_of_another_length_is_not_sealed(label: str) -> None:
    one = federation(label)
    for num_values in (9, 11):
        with pytest.raises(SealError, match=f"expected 10 values to seal, got {num_values}"):
            list(one.client.begin(one.context(10)).chunks(np.zeros(num_values, np.float32)))


@each(SCHEMES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_do_not_get_into_a_sum(label: str, bad: float) -> None:
    one = federation(label)
    values = np.array([1e-3, bad, 0], np.float32)
    with pytest.raises(NonFiniteUpdateError, match=r"NaN, infinity|NaN or infinity"):
        # In scheme plain it is the server that refuses.
        one.server.check(next(one.client.begin(one.context(3)).chunks(values)), 3)


@each(SCHEMES)
@pytest.mark.parametrize("count", [1, 1000, 5000])
def test_the_longest_that_a_chunk_can_be_is_a_bound_and_no_loose_one(label: str, count: int) -> None:
    one = federation(label)
    most = one.server.most_bytes(count)
    for values in (updates(1, count)[0], np.zeros(count, np.float32)):
        (body,) = one.seal(values).bodies
        # Only CKKS's ciphertexts are compressed: 81 of 96 bytes per slot are left.
        assert most * (0.8 if label == "published" else 1.0) <= len(body) <= most


@each(SCHEMES)
def test_bodies_of_another_length_are_refused(label: str) -> None:
    one = federation(label)
    (body,) = one.seal(updates(1, 1000)[0]).bodies
    one.server.check(body, 1000)
    bad = {"cut": (body[:-1], 1000), "longer": (body + b"x", 1000), "empty": (b"", 1000), "more values": (body, 1003)}
    for data, num_values in bad.values():
        with pytest.raises(MessageError):
            one.server.check(data, num_values)
        with pytest.raises(MessageError):
            one.server.add([data, data], num_values)


@each(SCHEMES)
def test_a_sum_of_another_length_does_not_open(label: str) -> None:
    one = federation(label)
    upload = one.seal(updates(1, 1000)[0])
    shares = one.release([upload])
    for bodies in ([], upload.bodies * 2, [upload.bodies[0][:-1]]):
        with pytest.raises((MessageError, SealError)):
            one.client.open(one.context(1000), num_members=1, bodies=bodies, key_shares=shares)


@each(SEALED)
def test_nothing_is_added_to_nothing(label: str) -> None:
    with pytest.raises(MessageError, match="sealed chunks to add"):
        federation(label).server.add([], 10)


@each(RINGS)
def test_more_clients_than_fields_have_room_for_are_refused(label: str) -> None:
    one = federation(label)
    (body,) = one.seal(updates(1, 10)[0]).bodies
    one.server.add([body] * 64, 10)
    with pytest.raises(MessageError, match=r"65 sealed chunks to add; .* takes 1 to 64 clients"):
        one.server.add([body] * 65, 10)


@each(RINGS)
def test_a_coefficient_that_is_not_below_the_modulus_is_refused(label: str) -> None:
    one = federation(label)
    (body,) = one.seal(updates(1, 10)[0]).bodies
    with pytest.raises(MessageError, match="not below the modulus"):
        one.server.check(b"\xff" * len(body), 10)


@each(("plain", "published", "shared/compact", "shared/precise"))
def test_schemes_without_round_keys_refuse_shares_of_one(label: str) -> None:
    one = federation(label)
    upload = one.seal(updates(1, 10)[0])
    assert (upload.sealing.key_id, upload.shares, one.client.needs_release) == ("", {}, False)
    with pytest.raises(SealError, match=r"has no (round )?keys?, got 1 shares of one"):
        one.client.add_shares([b"x"])


# --- Who can see what


@each(SCHEMES)
def test_both_halves_agree_and_no_two_schemes_are_taken_for_each_other(label: str) -> None:
    one = federation(label)
    assert one.client.digest == one.server.digest
    assert len(one.client.digest) == 32
    assert one.client.chunk_values == one.server.chunk_values
    assert one.client.needs_release == one.server.needs_release
    others = [other for other in SCHEMES if other not in (label, "published")]
    assert one.client.digest not in {federation(other).client.digest for other in others}


@each(SEALED)
def test_what_travels_is_no_plaintext_and_never_the_same_twice(label: str) -> None:
    one = federation(label)
    (values,) = updates(1, 1000)
    (first,), (second,) = one.seal(values).bodies, one.seal(values).bodies
    assert first != second
    for start in range(0, values.nbytes - 8, 8):
        assert values.tobytes()[start : start + 8] not in first  # by chance: once in 10^11 runs


def test_plain_says_that_it_is_not_sealed_and_is_not() -> None:
    one = federation("plain")
    (values,) = updates(1, 100)
    assert not one.client.is_sealed
    assert one.client.description.startswith("not sealed")
    assert one.seal(values).bodies == [values.astype("<f4").tobytes()]


@each(SEALED)
def test_a_sealed_scheme_says_who_can_open(label: str) -> None:
    client = federation(label).client
    assert client.is_sealed
    words = {
        "published": "that colludes with the server, and approximate decryption leaks the key",
        "shared": "every client can open every client's update",
        "onetime": "nobody can open one client's update; any 3 of 5 clients together open the sum",
    }
    assert words[client.name] in client.description


@each(SEALED)
def test_what_holds_a_secret_neither_shows_it_nor_lets_itself_be_copied(label: str) -> None:
    one = federation(label)
    for holder in (one.client, one.client.begin(one.context(10))):
        assert len(repr(holder)) < 120
        with pytest.raises((SecretKeyError, TypeError)):
            pickle.dumps(holder)
        with pytest.raises((SecretKeyError, TypeError)):
            copy.deepcopy(holder)


def test_shared_keys_neither_show_themselves_nor_let_themselves_be_copied() -> None:
    keys = new_shared_keys(get_profile("shared", "compact"))
    assert repr(keys) == "SharedKeys()"
    for copied in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(SecretKeyError, match="cannot be copied or pickled"):
            copied(keys)


def test_every_client_with_the_shared_keys_opens_and_another_key_does_not() -> None:
    profile = get_profile("shared", "compact")
    keys = new_shared_keys(profile)
    sender, receiver, stranger = (SharedClient(profile, one) for one in (keys, keys, new_shared_keys(profile)))
    one = federation("shared/compact")
    (values,) = updates(1, 4096)
    bodies = list(sender.begin(one.context(4096)).chunks(values))
    opened = receiver.open(one.context(4096), num_members=1, bodies=bodies, key_shares={})
    np.testing.assert_array_equal(opened, receiver.received(values, one.client.initial_limit)[0])
    # 4096 wrong numbers of 22 bits all lie among the 2^16 that one client can have: chance 2^-24576.
    with pytest.raises(SealError, match="cannot be a sum"):
        stranger.open(one.context(4096), num_members=1, bodies=bodies, key_shares={})


def test_the_adding_half_loads_no_encryption_library_and_nothing_that_holds_keys() -> None:
    code = (
        "import sys, confide.seal.adder\n"
        "bad = {'seal', 'tenseal', 'cryptography', 'torch', 'confide.seal.ring', 'confide.seal.onetime', "
        "'confide.seal.shared', 'confide.seal.published', 'confide.seal.shamir', 'confide.membership.identity'}\n"
        "print(sorted(bad & set(sys.modules)))"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "[]"


@each(RINGS)
def test_the_adding_half_holds_nothing_but_the_public_profile(label: str) -> None:
    one = federation(label)
    assert one.profile is not None
    assert vars(one.server) == {
        "digest": one.profile.digest,
        "chunk_values": one.profile.chunk_values,
        "needs_release": one.client.needs_release,
        "_profile": one.profile,
    }


# --- Only published


@needs_tenseal
def test_the_published_server_holds_no_key_at_all() -> None:
    context = PublishedServer()._context
    assert context.is_public()
    assert not context.has_secret_key()
    assert not context.has_public_key()
    assert not context.has_relin_keys()
    assert not context.has_galois_keys()


@needs_tenseal
def test_published_keys_neither_show_themselves_nor_let_themselves_be_copied() -> None:
    keys = new_published_keys()
    assert repr(keys) == "PublishedKeys(hidden)"
    for copied in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(SecretKeyError, match="cannot be copied or pickled"):
            copied(keys)


@needs_tenseal
def test_published_results_leave_in_float32_only() -> None:
    one = federation("published")
    upload = one.seal(updates(1, 100)[0])
    assert one.open([upload]).dtype == np.float32


@needs_tenseal
def test_published_uses_the_papers_parameters() -> None:
    from tenseal import sealapi

    modulus = sealapi.CoeffModulus.Create(8192, [60, 40, 40, 60])
    assert tuple(prime.value() for prime in modulus)[:3] == PRIMES
    (ciphertext,) = read_ciphertexts(federation("published").seal(updates(1, SLOTS)[0]).bodies[0], SLOTS)
    assert ciphertext.shape == (2, 3, RING_DEGREE)
    for polynomial in ciphertext:
        for row, prime in zip(polynomial, PRIMES, strict=True):
            assert prime * 0.99 < int(row.max()) < prime


@needs_tenseal
def test_ciphertexts_of_other_parameters_are_refused() -> None:
    import tenseal

    other = tenseal.context(tenseal.SCHEME_TYPE.CKKS, 8192, coeff_mod_bit_sizes=[60, 40, 60], n_threads=1)
    other.global_scale = 2.0**40
    same_with_other_scale = tenseal.context(
        tenseal.SCHEME_TYPE.CKKS, 8192, coeff_mod_bit_sizes=[60, 40, 40, 60], n_threads=1
    )
    same_with_other_scale.global_scale = 2.0**30
    for context in (other, same_with_other_scale):
        data = tenseal.ckks_vector(context, [0.1] * 10).serialize()
        with pytest.raises(MessageError, match=r"TenSEAL does not read|a ciphertext has size"):
            PublishedServer().check(len(data).to_bytes(4, "little") + data, 10)


@needs_tenseal
def test_a_published_chunk_that_lies_about_its_lengths_is_refused() -> None:
    server = PublishedServer()
    (body,) = federation("published").seal(updates(1, SLOTS + 1)[0]).bodies
    server.check(body, SLOTS + 1)
    for bad, words in {
        b"\xff\xff\xff\xff" + body[4:]: "announces 4294967295 bytes",
        bytes(4) + body[4:]: "announces 0 bytes",
        body[:2]: "cut off",
        body + b"\0": "1 bytes stand behind",
        body[:4] + bytes(len(body) - 4): "TenSEAL does not read",
    }.items():
        with pytest.raises(MessageError, match=words):
            server.check(bad, SLOTS + 1)
    with pytest.raises(MessageError, match=rf"expected a ciphertext of {SLOTS - 1} values, got {SLOTS}"):
        server.check(body, SLOTS - 1)
    assert CHUNK_VALUES % SLOTS == 0


@needs_tenseal
def test_sealing_a_long_vector_with_published_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    federation("published").seal(updates(1, 3 * SLOTS)[0])
    assert capfd.readouterr() == ("", "")


def test_without_tenseal_published_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tenseal", None)
    for make in (new_published_keys, PublishedServer):
        with pytest.raises(MissingExtraError, match=r"'tenseal'.*pip install 'confide\[published\]'"):
            make()
    assert PublishedClient.name == "published"
