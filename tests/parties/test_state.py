"""What a client carries comes back to the bit, damaged bytes are refused, and what is pending survives a crash."""

import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import save

from confide.errors import MessageError, StorageError
from confide.global_state import GlobalState
from confide.membership.memberlist import Entry
from confide.messages import MAX_WIDENINGS, pack_parts, unpack_parts
from confide.names import name_problem
from confide.parties.state import (
    ClientState,
    FilePending,
    MemoryPending,
    Pending,
    PendingStore,
    pack_own,
    round_of,
    unpack_own,
)
from confide.seal.fixedpoint import quantize
from confide.seal.profiles import get_profile
from confide.update import Layout, Slot

LAYOUT = Layout((Slot(name="w", shape=(4,)),))
SHARED = GlobalState(layout=LAYOUT, round_number=3, adapter=np.zeros(4, np.float32))

digests = st.text("0123456789abcdef", min_size=1, max_size=64)
vectors = hnp.arrays(np.float32, st.integers(0, 6), elements=st.floats(width=32))  # NaN too: bytes are bytes
named = st.dictionaries(digests, vectors, max_size=3)
states = st.builds(
    ClientState,
    shared=st.just(SHARED),
    num_seen=st.integers(0, 2**62),
    num_sums=st.integers(0, 2**40),
    controls=named,
    remainders=named,
)
names = st.text(min_size=1, max_size=20).filter(lambda name: _is_utf8(name) and name_problem(name) is None)
weights = st.floats(0, 2.0**64, exclude_min=True)
entries = st.builds(
    Entry,
    client=names,
    weight=weights,
    key_id=st.text("0123456789abcdef", max_size=64),
    upload_digest=st.text("0123456789abcdef", min_size=64, max_size=64),
)
pendings = st.builds(
    Pending, state=states, entry=entries, reference_weight=weights, widening=st.integers(0, MAX_WIDENINGS)
)

ENTRY = Entry(client="west", weight=2.0, key_id="ab", upload_digest="cd" * 32)
STATE = ClientState(
    shared=SHARED,
    num_seen=7,
    controls={"aa": np.ones(4, np.float32)},
    remainders={"bb": np.full(4, 2, np.float32)},
)
PENDING = Pending(state=STATE, entry=ENTRY, reference_weight=4.0, widening=2)


def _is_utf8(text: str) -> bool:
    return text.encode("utf-8", "ignore").decode() == text


def contents(state: ClientState) -> tuple[str, tuple[int, int], dict[str, bytes], dict[str, bytes]]:
    controls, remainders = (
        {name: vector.tobytes() for name, vector in found.items()} for found in (state.controls, state.remainders)
    )
    return state.shared.digest, (state.num_seen, state.num_sums), controls, remainders


@settings(deadline=None)
@given(names, states)
def test_what_is_a_clients_own_comes_back_beside_the_global_state(name: str, state: ClientState) -> None:
    data = pack_own(name, state)
    assert contents(unpack_own(data, name, SHARED)) == contents(state)
    assert round_of(data) == 3


@settings(deadline=None)
@given(pendings)
def test_what_is_pending_comes_back(pending: Pending) -> None:
    back = Pending.from_bytes(pending.to_bytes(), SHARED)
    assert back is not None
    assert (back.entry, back.reference_weight, back.widening) == (
        pending.entry,
        pending.reference_weight,
        pending.widening,
    )
    assert contents(back.state) == contents(pending.state)


@settings(deadline=None)
@given(pendings, st.integers(0, 10))
def test_what_belongs_to_another_round_is_not_pending(pending: Pending, round_number: int) -> None:
    found = Pending.from_bytes(pending.to_bytes(), replace(SHARED, round_number=round_number))
    assert (found is None) == (round_number != 3)


def test_a_state_holds_nothing_of_the_global_adapter() -> None:
    shared = replace(SHARED, adapter=np.array([1.5, -2.5, 3.5, -4.5], np.float32))
    state = replace(STATE, shared=shared)
    for data in (pack_own("west", state), replace(PENDING, state=state).to_bytes()):
        assert shared.adapter.tobytes() not in data


def test_another_clients_state_is_refused() -> None:
    with pytest.raises(MessageError, match="what is to be the state of client east is another client's"):
        unpack_own(pack_own("west", STATE), "east", SHARED)


@pytest.mark.parametrize("data", [b"", b"nonsense", save({"num_seen": np.zeros(1, np.int64)})])
def test_bytes_that_are_no_state_are_refused(data: bytes) -> None:
    with pytest.raises(MessageError, match="a client's saved state is damaged"):
        unpack_own(data, "west", SHARED)


def own_with(**tensors: Any) -> bytes:
    good = {"client": np.frombuffer(b"west", np.uint8), "num_seen": np.array([1]), "round_number": np.array([3])}
    data: bytes = save(good | tensors)
    return data


@pytest.mark.parametrize("field", ["num_seen", "num_sums", "round_number"])
@pytest.mark.parametrize(
    "number",
    [
        np.zeros(0, np.int64),
        np.array(1),
        np.array([np.nan]),
        np.array([np.inf]),
        np.array([[1, 2]]),
    ],
)
def test_a_number_that_is_none_is_refused(field: str, number: Any) -> None:
    assert unpack_own(own_with(), "west", SHARED).num_seen == 1
    with pytest.raises(MessageError, match="a client's saved state is damaged"):
        unpack_own(own_with(**{field: number}), "west", SHARED)


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_damaged_bytes_are_refused_or_read(data: st.DataObject) -> None:
    """A byte that changed may still spell a state; nothing but a `MessageError` comes of the others."""
    good = bytearray(PENDING.to_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    with suppress(MessageError):
        Pending.from_bytes(bytes(good), SHARED)


def test_every_truncation_is_refused() -> None:
    whole = PENDING.to_bytes()
    for length in range(len(whole)):
        with pytest.raises(MessageError, match="damaged"):
            Pending.from_bytes(whole[:length], SHARED)


LISTED = {
    "client": "west",
    "weight": 2.0,
    "key_id": "ab",
    "upload_digest": "cd" * 32,
    "reference_weight": 4.0,
    "widening": 0,
}


@pytest.mark.parametrize(
    "listed",
    [
        {**LISTED, "more": 1},
        {key: value for key, value in LISTED.items() if key != "reference_weight"},
        {key: value for key, value in LISTED.items() if key != "client"},
        {**LISTED, "weight": 0.0},
        {**LISTED, "weight": "x"},
        {**LISTED, "reference_weight": None},
        [],
        {**LISTED, "client": 5},
        5,
        {**LISTED, "reference_weight": 10**400},
        {**LISTED, "reference_weight": float("nan")},
        {**LISTED, "reference_weight": -1.0},
        {key: value for key, value in LISTED.items() if key != "widening"},
        {**LISTED, "widening": None},
        {**LISTED, "widening": "1"},
        {**LISTED, "widening": -1},
        {**LISTED, "widening": 0.5},
        {**LISTED, "widening": MAX_WIDENINGS + 1},
    ],
)
def test_what_was_listed_in_another_form_is_refused(listed: object) -> None:
    parts = unpack_parts(PENDING.to_bytes()) | {"listed": json.dumps(listed).encode()}
    with pytest.raises(MessageError, match="what a client kept of an upload is damaged"):
        Pending.from_bytes(pack_parts(parts), SHARED)


def test_without_its_state_an_upload_is_not_pending() -> None:
    parts = {"listed": json.dumps(LISTED).encode()}
    with pytest.raises(MessageError, match="what a client kept of an upload is damaged"):
        Pending.from_bytes(pack_parts(parts), SHARED)


def test_reprs_show_no_value_of_any_vector() -> None:
    seven = np.full(4, 7.25, np.float32)
    shared = GlobalState(layout=LAYOUT, round_number=3, adapter=seven, memory={"momentum": seven})
    state = ClientState(shared=shared, num_seen=7, controls={"ab": seven}, remainders={"ab": seven})
    quantized = quantize(np.full(4, 0.25, np.float32), 1.0, get_profile("onetime", "compact"))
    (level,) = set(quantized.levels.tolist())
    for shown in (shared, state, replace(PENDING, state=state), quantized):
        assert "7.25" not in repr(shown)
        assert str(level) not in repr(shown)
    assert "round_number=3" in repr(state)


StoreMaker = Callable[[Path], PendingStore]


@pytest.mark.parametrize("make", [lambda path: MemoryPending(), FilePending], ids=["memory", "file"])
def test_a_store_keeps_the_last_and_forgets(make: StoreMaker, tmp_path: Path) -> None:
    store = make(tmp_path / "folder" / "pending")
    assert store.load() is None
    store.save(None)
    for pending in (b"first", b"", b"second"):
        store.save(pending)
        assert store.load() == pending
    store.save(None)
    store.save(None)
    assert store.load() is None


def test_what_is_in_a_file_survives_the_process(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "pending"
    FilePending(path).save(PENDING.to_bytes())
    kept = FilePending(path).load()
    assert kept == PENDING.to_bytes()
    assert path.stat().st_mode & 0o777 == 0o600
    FilePending(path).save(None)
    assert FilePending(path).load() is None
    assert list(path.parent.iterdir()) == []


def test_a_write_that_fails_leaves_what_was_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FilePending(tmp_path / "pending")
    store.save(b"first")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"cannot write .*pending: No space left"):
        store.save(b"second")
    assert store.load() == b"first"
    assert [path.name for path in tmp_path.iterdir()] == ["pending"]


@pytest.mark.parametrize(
    "act",
    [
        lambda folder: FilePending(folder / "file" / "pending").save(b"x"),
        lambda folder: FilePending(folder / "file" / "pending").save(None),
        lambda folder: FilePending(folder).load(),
    ],
)
def test_a_place_that_cannot_be_used_is_a_storage_error(act: Callable[[Path], object], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot"):
        act(tmp_path)
