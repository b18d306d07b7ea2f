"""What a round folder keeps comes back to the bit, and what is damaged is refused."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from confide.checkpoint import load_state, save_record, save_state
from confide.errors import RunDirectoryError
from confide.global_state import GlobalState
from confide.parties.server import ServerState
from confide.parties.state import ClientState
from confide.records import ClientDiagnostics, RoundRecord
from confide.round import open_federation
from confide.update import Layout, Slot, Vector
from tests.town import LAYOUT, NAMES, FakeWriter, Town

vectors = hnp.arrays(np.float32, 4, elements=st.floats(allow_nan=False, allow_infinity=False, width=32))
states = st.builds(
    ClientState,
    shared=st.none(),
    num_seen=st.integers(0, 2**62),
    controls=st.dictionaries(st.text("0123456789abcdef", min_size=1, max_size=64), vectors, max_size=3),
)


def save(town: Town, folder: Path) -> None:
    save_state(folder, writer=FakeWriter(), server=town.state, clients=list(town.clients.values()))


def load(town: Town, folder: Path) -> ServerState:
    return load_state(folder, layout=LAYOUT, clients=list(town.clients.values()))


def contents(state: ClientState) -> tuple[str, int, dict[str, bytes]]:
    return state.shared.digest, state.num_seen, {name: vector.tobytes() for name, vector in state.controls.items()}


@pytest.fixture
def trained(tmp_path: Path) -> Town:
    """A town after two rounds, saved in `tmp_path`."""
    town = Town()
    town.round()
    town.round()
    save(town, tmp_path)
    return town


def test_what_clients_keep_to_themselves_is_readable_by_its_owner_alone(trained: Town, tmp_path: Path) -> None:
    kept = list((tmp_path / "state").iterdir())
    assert len(kept) == 2 + len(NAMES)
    assert {path.stat().st_mode & 0o777 for path in kept} == {0o600}


@settings(deadline=None, max_examples=40)
@given(adapter=vectors, memory=st.dictionaries(st.text(max_size=10), vectors, max_size=2), own=st.tuples(*[states] * 4))
def test_whatever_was_saved_comes_back_to_the_bit(
    tmp_path_factory: pytest.TempPathFactory,
    adapter: Vector,
    memory: dict[str, Vector],
    own: tuple[ClientState, ...],
) -> None:
    folder = tmp_path_factory.mktemp("state")
    town = Town()
    shared = GlobalState(layout=LAYOUT, round_number=3, adapter=adapter, memory=memory)
    for name, state in zip(NAMES, own, strict=True):
        town.clients[name].state = replace(state, shared=shared)
    town.state = replace(town.state, round_number=3, adapter_digest=shared.digest)
    save(town, folder)
    again = Town()
    assert load(again, folder) == replace(town.state, signatures={})
    for name in NAMES:
        assert contents(again.clients[name].state) == contents(town.clients[name].state)
    assert (folder / "adapter.bin").read_bytes() == adapter.tobytes()


def test_a_town_put_back_goes_on_as_if_it_had_never_stopped(trained: Town, tmp_path: Path) -> None:
    again = Town()
    load(again, tmp_path)
    again.state = open_federation(again.server, again.transport)  # signatures come with joining
    trained.round()
    again.round()
    # Each town has keys of its own, so only the signatures differ.
    assert replace(again.state, signatures={}) == replace(trained.state, signatures={})
    assert [contents(again.clients[n].state) for n in NAMES] == [contents(trained.clients[n].state) for n in NAMES]


def test_a_client_that_missed_the_round_is_put_where_the_others_are(tmp_path: Path) -> None:
    town = Town()
    behind = town.clients["east"].state
    town.round()
    town.clients["east"].state = replace(behind, num_seen=11)
    town.state = replace(town.state, current=frozenset({"north", "south", "west"}))
    save(town, tmp_path)
    again = Town()
    assert load(again, tmp_path).current == set(NAMES)
    assert again.clients["east"].state.shared.digest == town.state.adapter_digest
    assert again.clients["east"].state.num_seen == 11  # what is its own stays as it was


@pytest.mark.parametrize("names", [("a/b", "../c"), ("%41", "A"), ("A", "a"), (".", ".."), ("東" * 42, "東" * 41)])
def test_clients_of_any_name_have_files_of_their_own_inside_the_folder(names: tuple[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "round"
    folder.mkdir()
    town = Town()
    clients = [town.clients["east"], town.clients["west"]]
    for number, (client, name) in enumerate(zip(clients, names, strict=True)):
        client.name = name
        client.state = replace(client.state, num_seen=number + 1)
    server = replace(town.state, current=frozenset(names), num_examples=dict.fromkeys(names, 1))
    save_state(folder, writer=FakeWriter(), server=server, clients=clients)
    for client in clients:
        client.state = replace(client.state, num_seen=0)
    assert load_state(folder, layout=LAYOUT, clients=clients) == replace(server, signatures={})
    assert [client.state.num_seen for client in clients] == [1, 2]
    assert [path.name for path in tmp_path.iterdir()] == ["round"]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "cut": lambda data: data[: len(data) // 2],
    "nonsense": lambda data: b"?",
    "other": lambda data: b"{}",
}


@pytest.mark.parametrize("file", ["server.json", "global.safetensors", "client-east.safetensors"])
def test_a_missing_or_damaged_file_is_refused(trained: Town, tmp_path: Path, file: str) -> None:
    path = tmp_path / "state" / file
    data = path.read_bytes()
    for damage in DAMAGES.values():
        path.write_bytes(damage(data))
        with pytest.raises(RunDirectoryError, match=rf"{tmp_path} cannot be resumed from"):
            load(Town(), tmp_path)
    path.unlink()
    with pytest.raises(RunDirectoryError, match=rf"{tmp_path} cannot be resumed from.*No such file.*{file}"):
        load(Town(), tmp_path)


def test_a_server_state_that_lacks_a_field_is_refused(trained: Town, tmp_path: Path) -> None:
    (tmp_path / "state" / "server.json").write_text("{}")
    with pytest.raises(RunDirectoryError, match="cannot be resumed from"):
        load(Town(), tmp_path)


def test_a_state_of_another_layout_is_refused(trained: Town, tmp_path: Path) -> None:
    other = Layout((Slot(name="w", shape=(3,)),))
    with pytest.raises(RunDirectoryError, match="cannot be resumed from"):
        load_state(tmp_path, layout=other, clients=list(Town().clients.values()))


def test_a_state_of_other_values_than_the_server_saw_is_refused(trained: Town, tmp_path: Path) -> None:
    shared = trained.clients["east"].state.shared
    moved = replace(shared, adapter=shared.adapter + np.float32(1))
    (tmp_path / "state" / "global.safetensors").write_bytes(moved.to_bytes())
    with pytest.raises(RunDirectoryError, match="is damaged: the saved global state does not match its digest"):
        load(Town(), tmp_path)


def test_what_clients_tell_about_themselves_stays_out_of_the_record(trained: Town, tmp_path: Path) -> None:
    result = trained.round()
    save_record(tmp_path, result.record, result.diagnostics)
    assert RoundRecord.from_json((tmp_path / "record.json").read_text()) == result.record
    told = json.loads((tmp_path / "clients.json").read_text())
    assert [ClientDiagnostics(**one) for one in told] == list(result.diagnostics)
    assert [one["client"] for one in told] == list(NAMES)
    assert "num_examples" in told[0]["training"]
    assert "num_examples" not in (tmp_path / "record.json").read_text()


def test_another_clients_state_under_a_clients_file_name_is_refused(trained: Town, tmp_path: Path) -> None:
    (tmp_path / "state" / "client-west.safetensors").replace(tmp_path / "state" / "client-east.safetensors")
    with pytest.raises(RunDirectoryError, match="to be the state of client east is another client's"):
        load(Town(), tmp_path)
