import hashlib
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from confide.attacks.pass_store import Entry, PassStore
from confide.errors import StorageError

MODEL, OTHER_MODEL = "a" * 64, "b" * 64


def _key(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest()


def _entry(number: int, length: int = 3) -> Entry:
    return {
        "logp": np.arange(length, dtype=np.float32) - number,
        "is_top": np.arange(length) % 2 == 0,
        "rank": np.full(length, number, np.int32),
    }


def _assert_equal(found: Entry, expected: Entry) -> None:
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name].dtype == values.dtype
        np.testing.assert_array_equal(found[name], values)


def _parts(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.safetensors"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30)
@given(
    entries=st.lists(
        st.tuples(
            arrays.arrays(np.float32, st.integers(0, 5), elements=st.floats(width=32, allow_nan=False)),
            arrays.arrays(np.int64, st.integers(0, 5)),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_another_store_on_the_folder_gives_back_what_was_added(
    tmp_path_factory: pytest.TempPathFactory, entries: list[tuple[np.ndarray, np.ndarray]]
) -> None:
    folder = tmp_path_factory.mktemp("store")
    added = {_key(number): {"a": first, "b": second} for number, (first, second) in enumerate(entries)}
    PassStore(folder).add(MODEL, added)
    again = PassStore(folder)
    for key, entry in added.items():
        _assert_equal(again.find(MODEL, key), entry)


@pytest.mark.parametrize("on_disk", [True, False])
def test_entries_are_found_under_their_model_and_key_alone(tmp_path: Path, on_disk: bool) -> None:
    store = PassStore(tmp_path if on_disk else None)
    store.add(MODEL, {_key(1): _entry(1), _key(2): _entry(2, 7)})
    _assert_equal(store.find(MODEL, _key(2)), _entry(2, 7))
    assert store.find(MODEL, _key(3)) == {}
    assert store.find(OTHER_MODEL, _key(1)) == {}
    assert list(tmp_path.iterdir()) == ([tmp_path / MODEL] if on_disk else [])


def test_parts_add_up_and_are_never_changed(tmp_path: Path) -> None:
    PassStore(tmp_path).add(MODEL, {_key(1): _entry(1)})
    (first,) = _parts(tmp_path)
    before = first.read_bytes()
    PassStore(tmp_path).add(MODEL, {_key(2): _entry(2)})
    assert len(_parts(tmp_path)) == 2
    assert first.read_bytes() == before
    store = PassStore(tmp_path)
    for number in (1, 2):
        _assert_equal(store.find(MODEL, _key(number)), _entry(number))


@pytest.mark.parametrize("reopened", [False, True])
def test_columns_added_later_stand_beside_the_older_ones(tmp_path: Path, reopened: bool) -> None:
    store = PassStore(tmp_path)
    store.add(MODEL, {_key(1): _entry(1)})
    more = {"decoded": np.ones(3, np.float32)}
    store.add(MODEL, {_key(1): more})
    _assert_equal((PassStore(tmp_path) if reopened else store).find(MODEL, _key(1)), {**_entry(1), **more})


def test_adding_nothing_writes_nothing(tmp_path: Path) -> None:
    PassStore(tmp_path).add(MODEL, {})
    assert list(tmp_path.iterdir()) == []


def test_what_is_kept_cannot_be_written_to(tmp_path: Path) -> None:
    store = PassStore(tmp_path)
    store.add(MODEL, {_key(1): _entry(1)})
    for one in (store, PassStore(tmp_path)):
        with pytest.raises(ValueError, match="read-only"):
            one.find(MODEL, _key(1))["logp"][0] = 1.0


def _cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _change(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize("damage", [_cut, _change, lambda _: b""], ids=["cut", "changed", "empty"])
def test_a_damaged_part_counts_as_not_there_and_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[bytes], bytes]
) -> None:
    store = PassStore(tmp_path)
    store.add(MODEL, {_key(1): _entry(1)})
    (part,) = _parts(tmp_path)
    store.add(MODEL, {_key(2): _entry(2)})
    part.write_bytes(damage(part.read_bytes()))
    again = PassStore(tmp_path)
    with caplog.at_level(logging.WARNING):
        assert again.find(MODEL, _key(1)) == {}
    assert f"{MODEL}/{part.name} of the kept passes is damaged or not of this model" in caplog.text
    assert str(tmp_path) not in caplog.messages[0]
    _assert_equal(again.find(MODEL, _key(2)), _entry(2))
    again.add(MODEL, {_key(1): _entry(1)})
    _assert_equal(PassStore(tmp_path).find(MODEL, _key(1)), _entry(1))  # the same part, written whole again


def test_a_part_of_another_model_counts_as_not_there(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    PassStore(tmp_path).add(OTHER_MODEL, {_key(1): _entry(1)})
    (tmp_path / OTHER_MODEL).rename(tmp_path / MODEL)
    assert PassStore(tmp_path).find(MODEL, _key(1)) == {}
    assert "not of this model" in caplog.text


def test_other_files_are_not_looked_at(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    PassStore(tmp_path).add(MODEL, {_key(1): _entry(1)})
    (part,) = _parts(tmp_path)
    for name in ("notes.txt", "adapter_model.safetensors", f".tmp-{'0' * 32}-{part.name}"):
        (tmp_path / MODEL / name).write_text("something else")
    _assert_equal(PassStore(tmp_path).find(MODEL, _key(1)), _entry(1))
    assert not caplog.records


def test_a_folder_that_cannot_be_written_is_named_and_nothing_is_added(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=f"cannot write {tmp_path}/file"):
        PassStore(tmp_path / "file")
    store = PassStore(tmp_path / "store")
    (tmp_path / "store" / MODEL).write_text("in the way")
    with pytest.raises(StorageError, match=f"cannot write {MODEL}"):
        store.add(MODEL, {_key(1): _entry(1)})
