"""What only scheme `onetime` promises: whose shares open what, drop-outs, memory, precision, what the server sees."""

import math
import tracemalloc
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pytest

from confide.errors import SealError, SecretKeyError
from confide.membership.identity import Identity
from confide.membership.roster import Roster
from confide.seal.adder import read_chunk
from confide.seal.coefficients import Coefficients
from confide.seal.fixedpoint import pack, quantize, sum_error_bound
from confide.seal.onetime import OneTimeClient
from confide.seal.profiles import NOISE_BOUND, get_profile
from confide.update import Vector
from tests.seal.federations import ONETIME, Federation, Upload, each, federation, roster, updates

COMPACT = "onetime/compact"


def opened_by(one: Federation, uploads: list[Upload], names: list[str]) -> Vector:
    """Opens the uploads' sum with the shares of these clients."""
    return one.client.open(
        one.context(uploads[0].num_values),
        num_members=len(uploads),
        bodies=one.add(uploads),
        key_shares=one.release(uploads, names),
    )


# --- Who opens


@pytest.mark.parametrize(("num_clients", "threshold"), [(2, 1), (3, 1), (4, 2), (5, 0), (5, 2), (5, 6), (10, 5)])
def test_a_threshold_of_half_the_roster_or_less_or_of_more_than_all_is_refused(
    num_clients: int, threshold: int
) -> None:
    with pytest.raises(SealError, match=rf"a threshold of {threshold} of {num_clients} clients: .* more than half"):
        OneTimeClient(get_profile("onetime", "compact"), roster(num_clients), threshold)


def test_a_roster_larger_than_a_field_has_room_for_is_refused() -> None:
    members = Roster([Identity.generate(f"client{number:02}").public for number in range(65)])
    with pytest.raises(SealError, match="profile compact takes at most 64 clients, not 65"):
        OneTimeClient(get_profile("onetime", "compact"), members, 33)


@pytest.mark.parametrize(("num_clients", "threshold"), [(2, 2), (3, 2), (3, 3), (5, 3), (10, 6)])
def test_any_threshold_of_the_clients_open_and_all_sets_give_the_same_bytes(num_clients: int, threshold: int) -> None:
    one = federation(COMPACT, num_clients, threshold)
    uploads = [one.seal(part) for part in updates(num_clients, 20)]
    sets = list(combinations(one.roster.names, threshold))[:20]
    results = {opened_by(one, uploads, list(names)).tobytes() for names in sets}
    assert results == {one.open(uploads).tobytes()}


@each(ONETIME)
def test_one_share_less_than_the_threshold_opens_nothing(label: str) -> None:
    one = federation(label, 5, 4)
    uploads = [one.seal(part) for part in updates(5, 20)]
    names = list(one.roster.names)
    opened_by(one, uploads, names[:4])
    for chosen in combinations(names, 3):
        with pytest.raises(SealError, match="3 shares of the key's sum, but 4 are needed"):
            opened_by(one, uploads, list(chosen))


def test_one_share_less_opens_nothing_even_for_who_ignores_the_threshold() -> None:
    # Three points of polynomials of degree three lie on polynomials of degree two too, but those give a random key: all
    # of 4096 field elements within 5 of zero, of 251, has chance 2^-18000.
    one, careless = federation(COMPACT, 5, 4), federation(COMPACT, 5, 3)
    uploads = [one.seal(part) for part in updates(5, 20)]
    for chosen in combinations(one.roster.names, 3):
        with pytest.raises(SealError, match=r"one of them is wrong, or of another list"):
            careless.client.open(
                one.context(20), num_members=5, bodies=one.add(uploads), key_shares=one.release(uploads, list(chosen))
            )


def test_shares_for_another_list_of_members_do_not_open() -> None:
    one = federation(COMPACT)
    uploads = [one.seal(part) for part in updates(4, 5000)]
    shares = one.release(uploads[:3])
    others = {"fewer members": uploads[:2], "another member": [*uploads[:2], uploads[3]], "more members": uploads}
    for members in others.values():
        with pytest.raises(SealError):
            one.client.open(one.context(5000), num_members=len(members), bodies=one.add(members), key_shares=shares)


def test_shares_of_different_lists_do_not_go_together() -> None:
    one = federation(COMPACT)
    uploads = [one.seal(part) for part in updates(4, 20)]
    first, second = one.release(uploads[:3]), one.release(uploads[1:])
    mixed = {1: first[1], 2: first[2], 3: second[3]}
    with pytest.raises(SealError, match="another list"):
        one.client.open(one.context(20), num_members=3, bodies=one.add(uploads[:3]), key_shares=mixed)


@pytest.mark.parametrize("wrong", [(5,), (1,), (2, 3), (1, 4)])
def test_wrong_shares_are_left_out_where_enough_others_are_there(
    wrong: tuple[int, ...], caplog: pytest.LogCaptureFixture
) -> None:
    one = federation(COMPACT)
    uploads = [one.seal(part) for part in updates(3, 20)]
    shares = one.release(uploads, list(one.roster.names))
    right = one.client.open(one.context(20), num_members=3, bodies=one.add(uploads), key_shares=shares)
    for point in wrong:
        shares[point] = one.release(uploads[:2], list(one.roster.names))[point]
    opened = one.client.open(one.context(20), num_members=3, bodies=one.add(uploads), key_shares=shares)
    np.testing.assert_array_equal(opened, right)
    holders = ", ".join(one.roster.names[point - 1] for point in wrong)
    assert f"do not fit the others and are left out: those of {holders}" in caplog.text


@pytest.mark.parametrize(
    ("malformed", "reason"),
    [
        (b"", "has 4096 bytes, got 0"),
        (bytes(4095), "has 4096 bytes, got 4095"),
        (bytes(4097), "has 4096 bytes, got 4097"),
        (bytes(4095) + b"\xfb", "holds a number that is not below 251"),
    ],
)
def test_what_is_no_share_is_left_out_while_enough_others_are_there(
    malformed: bytes, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    one = federation(COMPACT)
    uploads = [one.seal(part) for part in updates(3, 20)]
    names = one.roster.names
    shares = one.release(uploads, list(names))
    right = one.client.open(one.context(20), num_members=3, bodies=one.add(uploads), key_shares=shares)
    shares |= {1: malformed, 4: malformed}
    opened = one.client.open(one.context(20), num_members=3, bodies=one.add(uploads), key_shares=shares)
    np.testing.assert_array_equal(opened, right)
    for name in (names[0], names[3]):
        assert f"that of {name}: a share of a round key {reason}" in caplog.text
    shares[2] = malformed
    with pytest.raises(SealError, match=f"2 of 5 .* 3 are needed .*{names[0]}: .*{reason}; {names[1]}: .*{names[3]}: "):
        one.client.open(one.context(20), num_members=3, bodies=one.add(uploads), key_shares=shares)


def test_with_too_few_right_shares_nothing_opens() -> None:
    one = federation(COMPACT)
    uploads = [one.seal(part) for part in updates(3, 20)]
    shares = one.release(uploads, list(one.roster.names))
    for point in (1, 3, 5):
        shares[point] = np.random.default_rng(point).integers(0, 251, 4096).astype(np.uint8).tobytes()
    with pytest.raises(SealError, match=r"wrong|does not fit"):
        one.client.open(one.context(20), num_members=3, bodies=one.add(uploads), key_shares=shares)


def test_the_key_of_a_sum_opens_no_single_member() -> None:
    one = federation(COMPACT)
    uploads = [one.seal(part) for part in updates(3, 5000)]
    for upload in uploads:
        with pytest.raises(SealError):
            one.client.open(one.context(5000), num_members=3, bodies=one.add([upload]), key_shares=one.release(uploads))


def test_a_sum_of_another_round_does_not_open() -> None:
    one = federation(COMPACT)
    uploads = [one.seal(part, round_number=2) for part in updates(3, 5000)]
    one.open(uploads, round_number=2)
    with pytest.raises(SealError):
        one.open(uploads, round_number=3)


@pytest.mark.parametrize("num_clients", [3, 5, 10])
def test_who_drops_out_is_missed_by_nobody(num_clients: int) -> None:
    one = federation(COMPACT, num_clients)
    parts = updates(num_clients, 3000)
    uploads = [one.seal(part) for part in parts]
    gone_before_upload = num_clients - one.threshold
    members = uploads[gone_before_upload:]
    alive = list(one.roster.names[: one.threshold])  # among them some that did not upload
    opened = opened_by(one, members, alive)
    limit = one.client.initial_limit
    expected = np.sum([one.client.received(part, limit)[0] for part in parts[gone_before_upload:]], axis=0)
    np.testing.assert_allclose(opened, expected, rtol=0, atol=num_clients * 0.12 * 2.0**-23)


def test_malformed_shares_are_refused() -> None:
    one = federation(COMPACT)
    upload = one.seal(updates(1, 10)[0])
    for share in (b"", upload.shares["client00"][:-1], upload.shares["client00"] + b"\0"):
        with pytest.raises(SealError, match=r"a share of a round key has 4096 bytes, got \d+"):
            one.client.add_shares([share])
    with pytest.raises(SealError, match="a number that is not below 251"):
        one.client.add_shares([b"\xff" * 4096])
    with pytest.raises(SealError, match="no shares to add"):
        one.client.add_shares([])


# --- Keys


def test_every_sealing_has_a_key_of_its_own_with_a_name_of_its_own() -> None:
    one = federation(COMPACT)
    sealings = [one.client.begin(one.context(10)) for _ in range(20)]
    names = {sealing.key_id for sealing in sealings}
    assert len(names) == 20
    assert all(len(bytes.fromhex(name)) == 16 for name in names)
    shares = [sealing.shares() for sealing in sealings]
    assert len({share["client00"] for share in shares}) == 20
    assert all(list(share) == list(one.roster.names) for share in shares)


def test_a_key_is_used_up_even_by_a_sealing_that_nobody_took_a_chunk_of() -> None:
    one = federation(COMPACT)
    sealing = one.client.begin(one.context(10))
    sealing.chunks(np.zeros(10, np.float32))
    with pytest.raises(SecretKeyError, match="seals one vector only"):
        sealing.chunks(np.zeros(10, np.float32))


def test_a_sealing_shows_its_round_and_no_key() -> None:
    one = federation(COMPACT)
    assert repr(one.client.begin(one.context(10, round_number=7))) == "OneTimeSealing(round 7, key hidden)"


# --- Memory and precision


def test_memory_grows_with_the_chunk_and_not_with_the_vector() -> None:
    one = federation("onetime/precise")
    peaks = []
    for num_chunks in (2, 6):  # with two, one body is held while the next is made, as with more
        (values,) = updates(1, num_chunks * one.client.chunk_values)
        sealing = one.client.begin(one.context(values.size))
        tracemalloc.start()
        for _ in sealing.chunks(values):
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # What Python and numpy hold; SEAL's own pool is measured by `confide bench sealing --large`.
    assert peaks[1] < 1.1 * peaks[0]


@pytest.mark.parametrize(("name", "largest"), [("compact", 1e-4), ("precise", 1e-6)])
def test_the_sum_of_fifty_clients_is_as_exact_as_promised(name: str, largest: float) -> None:
    """The rounding errors of 50 clients add up like a random walk.

    One value's errors are independent and uniform within half a step, for updates that vary over many steps. A uniform
    variable of width 1 is sub-Gaussian with its own variance 1 / 12, so that a sum of n errors exceeds x steps with
    probability at most 2 exp(-6 x^2 / n). Over m values and with probability p that is x = sqrt(n / 6 * ln(2 m / p)).
    The result's own rounding to float32 comes on top. If all 50 errors had one sign it would be `sum_error_bound`.
    """
    num_clients, num_values, probability = 50, 8192, 1e-3
    one = federation(f"onetime/{name}", num_clients)
    assert one.profile is not None
    limit = one.client.initial_limit
    parts = updates(num_clients, num_values)
    total = np.sum(parts, axis=0, dtype=np.float64)
    step = limit / (2 ** (one.profile.value_bits - 1) - 1)
    walk = step * math.sqrt(num_clients / 6 * math.log(2 * num_values / probability))
    derived = walk + float(np.abs(total).max()) * 2.0**-24
    error = float(np.abs(one.open([one.seal(part) for part in parts]) - total).max())
    assert error <= derived <= largest
    assert error <= sum_error_bound(num_clients, limit, one.profile)


# --- What the server sees

FALSE_POSITIVES = 1e-6
"""The chance that one of the tests below fails although all is well; each compares with a threshold that is proved."""


def uniformity_threshold(count: int, rate: float) -> float:
    """How far the empirical distribution of `count` independent uniform numbers gets from the true one, but for `rate`.

    The Kolmogorov-Smirnov distance D: P(D > x) <= 2 exp(-2 n x^2) (Dvoretzky, Kiefer and Wolfowitz 1956, with Massart's
    constant, 1990). Holds for every n.
    """
    return math.sqrt(math.log(2 / rate) / (2 * count))


def uniformity_distance(numbers: npt.NDArray[np.float64]) -> float:
    """The Kolmogorov-Smirnov distance from the uniform distribution on [0, 1)."""
    ordered = np.sort(numbers)
    ranks = np.arange(len(ordered) + 1) / len(ordered)
    return float(max((ranks[1:] - ordered).max(), (ordered - ranks[:-1]).max()))


def correlation_threshold(rate: float) -> float:
    """How large |sum u x| / |x| gets for u independent and uniform on [-1/2, 1/2), but for `rate`.

    Such a u is sub-Gaussian with variance 1 / 12, so P(|sum u x| > y |x|) <= 2 exp(-6 y^2), for every x.
    """
    return math.sqrt(math.log(2 / rate) / 6)


def chunk_of(upload_body: bytes, num_values: int) -> Coefficients:
    (row,) = read_chunk(upload_body, num_values, get_profile("onetime", "compact"))
    return row


def views(seen: list[Coefficients]) -> list[npt.NDArray[np.float64]]:
    """What is tested of each row of coefficients: it as a whole, and its lower 32 and 16 bits, as parts of 1."""
    prime = get_profile("onetime", "compact").modulus[0]
    wholes = [row / prime for row in seen]
    return wholes + [(row & np.uint64(2**bits - 1)) / 2**bits for row in seen for bits in (32, 16)]


def passes(seen: list[Coefficients], guesses: list[Vector], num_tests: int) -> bool:
    """Whether rows of coefficients look uniform and unrelated to any of the guesses.

    The numbers are multiples of 2^-16 or finer, which moves a distance by at most 2^-16.
    """
    rate = FALSE_POSITIVES / num_tests
    for view in views(seen):
        if uniformity_distance(view) > uniformity_threshold(len(view), rate) + 2.0**-16:
            return False
        for guess in guesses:
            for field in np.split(guess.astype(np.float64), 2):  # coefficient i holds values i and C + i
                score = abs(float(((view - 0.5) @ field) / np.linalg.norm(field)))
                if score > correlation_threshold(rate) + 2.0**-16 * math.sqrt(len(field)):
                    return False
    return True


def test_runs_with_equal_sums_but_different_updates_look_alike_to_the_server() -> None:
    """The server's whole view of values: every upload, and their sum. It is uniform and unrelated to every update."""
    one = federation(COMPACT, 3)
    num_values = 1 << 16
    first = updates(3, num_values, seed=1)
    shift = updates(1, num_values, seed=2)[0] * np.float32(0.5)
    second = [first[0] + shift, first[1] - shift, first[2]]  # other updates, the same sum up to rounding
    runs = [[one.seal(part) for part in first], [one.seal(part) for part in second]]
    bound = 2 * sum_error_bound(3, one.client.initial_limit, get_profile("onetime", "compact"))
    np.testing.assert_allclose(one.open(runs[0]), one.open(runs[1]), rtol=0, atol=bound)
    guesses = [*first, second[0], second[1], np.sum(first, axis=0)]
    num_rows, num_views = 2 * 4, 3
    num_tests = num_rows * num_views * (1 + 2 * len(guesses))
    for uploads in runs:
        seen = [chunk_of(upload.bodies[0], num_values) for upload in uploads]
        seen.append(chunk_of(one.add(uploads)[0], num_values))
        assert passes(seen, guesses, num_tests)


def test_the_same_statistics_tell_a_sealing_without_a_key_from_a_real_one() -> None:
    profile = get_profile("onetime", "compact")
    num_values = 1 << 16
    (values,) = updates(1, num_values)
    plain = pack(quantize(values, profile.initial_limit, profile).levels, profile)
    noise = np.random.default_rng(0).integers(0, NOISE_BOUND, len(plain), dtype=np.uint64)
    not_sealed = plain * np.uint64(profile.message_scale) + noise
    assert not passes([not_sealed], [], 1)
    assert not passes([not_sealed], [values], 1)
    uniform = np.random.default_rng(0).integers(0, profile.modulus[0], len(plain), dtype=np.uint64)
    assert passes([uniform], [values], 1)
    # Uniform, but by a mask that the guess leaks into: one value in ten more likely above the middle than below.
    leaking = np.where(values[: len(plain)] > 0.025, np.maximum(uniform, uniform[::-1]), uniform)
    assert not passes([leaking], [values], 1)
