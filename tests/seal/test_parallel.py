"""Several processes seal what one would, each its own chunks, and leave nothing behind."""

import pickle
from collections.abc import Iterator

import numpy as np
import pytest

from confide.errors import NonFiniteUpdateError, SealError, SecretKeyError
from confide.seal.onetime import OneTimeClient
from confide.seal.parallel import _CHUNK, _PART, SealingWorkers
from confide.seal.profiles import get_profile
from tests.seal.federations import federation, roster, updates

PROFILE = get_profile("onetime", "ultra")  # the quickest
NUM_VALUES = 3 * PROFILE.chunk_values + 5  # more chunks than workers, and a short one


@pytest.fixture(scope="module")
def workers() -> Iterator[SealingWorkers]:
    with SealingWorkers(PROFILE, 2) as started:
        yield started


@pytest.fixture
def client(workers: SealingWorkers) -> OneTimeClient:
    return OneTimeClient(PROFILE, roster(5), 3, sealer=workers)


def test_what_several_processes_seal_opens_to_the_same_sum(client: OneTimeClient) -> None:
    one = federation("onetime/ultra")
    parts = updates(2, NUM_VALUES)
    context = one.context(NUM_VALUES)
    sealings = [client.begin(context), one.client.begin(context)]  # several processes, and one, in one sum
    bodies = [list(sealing.chunks(part)) for sealing, part in zip(sealings, parts, strict=True)]
    assert [len(body) for body in bodies[0]] == [len(body) for body in bodies[1]]
    total = [
        one.server.add(pair, min(PROFILE.chunk_values, NUM_VALUES - i * PROFILE.chunk_values))
        for i, pair in enumerate(zip(*bodies, strict=True))
    ]
    held = [sealing.shares() for sealing in sealings]
    shares = {
        one.roster.point_of(name): client.add_shares([share[name] for share in held]) for name in one.roster.names[:3]
    }
    opened = client.open(context, num_members=2, bodies=total, key_shares=shares)
    limit = PROFILE.initial_limit
    expected = np.sum([client.received(part, limit)[0] for part in parts], axis=0, dtype=np.float64)
    np.testing.assert_allclose(opened, expected, rtol=0, atol=3 * 0.24 * 2.0**-24)  # three roundings to float32


def test_a_round_key_is_used_up_here_too(client: OneTimeClient) -> None:
    context = federation("onetime/ultra").context(10)
    sealing = client.begin(context)
    assert len(list(sealing.chunks(np.zeros(10, np.float32)))) == 1
    with pytest.raises(SecretKeyError, match="seals one vector only"):
        sealing.chunks(np.zeros(10, np.float32))


def test_an_error_in_a_worker_comes_back_as_the_same_kind_and_the_next_vector_is_sealed(client: OneTimeClient) -> None:
    context = federation("onetime/ultra").context(NUM_VALUES)
    (values,) = updates(1, NUM_VALUES)
    values[PROFILE.chunk_values + 1] = np.nan
    with pytest.raises(NonFiniteUpdateError, match="the values to seal hold NaN or infinity"):
        list(client.begin(context).chunks(values))
    assert len(list(client.begin(context).chunks(updates(1, NUM_VALUES)[0]))) == 4


def test_a_vector_that_is_left_unfinished_does_not_get_into_the_next(client: OneTimeClient) -> None:
    one = federation("onetime/ultra")
    (values,) = updates(1, NUM_VALUES)
    chunks = client.begin(one.context(NUM_VALUES)).chunks(values)
    next(chunks)
    with pytest.raises(SealError, match="at work for another vector"):
        next(client.begin(one.context(NUM_VALUES)).chunks(values))
    del chunks
    sealing = client.begin(one.context(10))
    (body,) = sealing.chunks(values[:10])
    shares = {one.roster.point_of(name): share for name, share in sealing.shares().items()}
    opened = client.open(one.context(10), num_members=1, bodies=[body], key_shares=shares)
    np.testing.assert_array_equal(opened, client.received(values[:10], PROFILE.initial_limit)[0])


def test_nothing_of_a_vector_stays_in_the_shared_memory(client: OneTimeClient, workers: SealingWorkers) -> None:
    list(client.begin(federation("onetime/ultra").context(NUM_VALUES)).chunks(updates(1, NUM_VALUES)[0]))
    assert not any(worker._slot.any() for worker in workers._workers)


def test_a_worker_that_was_told_to_forget_seals_nothing_more(client: OneTimeClient, workers: SealingWorkers) -> None:
    """Asked once more, it has no key: the next answer that comes is that of the next vector."""
    context, many = (federation("onetime/ultra").context(count) for count in (30, NUM_VALUES))
    list(client.begin(context).chunks(np.zeros(30, np.float32)))
    for worker in workers._workers:
        worker.send(_CHUNK + _PART.pack(1, 10))
    (body,) = client.begin(context).chunks(np.zeros(30, np.float32))
    assert len(body) == PROFILE.wire_bytes(30) != PROFILE.wire_bytes(10)
    assert len(list(client.begin(many).chunks(updates(1, NUM_VALUES)[0]))) == 4
    assert not any(worker._pipe.poll() for worker in workers._workers)


def test_a_worker_that_ends_is_an_error_and_not_a_wait_for_ever() -> None:
    with SealingWorkers(PROFILE, 1) as workers:
        client = OneTimeClient(PROFILE, roster(5), 3, sealer=workers)
        workers._workers[0]._process.kill()
        with pytest.raises(SealError, match="a sealing process ended"):
            list(client.begin(federation("onetime/ultra").context(10)).chunks(np.zeros(10, np.float32)))
    with pytest.raises(SealError, match="closed"):
        list(client.begin(federation("onetime/ultra").context(10)).chunks(np.zeros(10, np.float32)))


def test_workers_cannot_be_pickled_and_must_be_at_least_one(workers: SealingWorkers) -> None:
    with pytest.raises(SecretKeyError, match="cannot be copied or pickled"):
        pickle.dumps(workers)
    with pytest.raises(ValueError, match="expected at least 1 process, got 0"):
        SealingWorkers(PROFILE, 0)
