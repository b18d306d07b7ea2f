"""Each party's view holds what that party has, and leads to nothing else."""

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import pytest

from confide.attacks.view import View
from confide.audit.truth import Population, Truth
from confide.auditor.adapters import Adapters, spread_evenly
from confide.auditor.audited import Audited
from confide.auditor.case import Case
from confide.auditor.of_run import open_run
from confide.auditor.request import AuditRequest
from confide.auditor.views import ViewMaker
from confide.canaries.plan import Coin, CoinPlan
from confide.canaries.secret_space import SecretSpace
from confide.config.schema import Config
from confide.data.examples import ClientRecords, TokenizedClient
from confide.errors import ModelError, NonFiniteUpdateError
from confide.messages import StateReply, decode
from confide.model.adapter_files import read_adapter, write_adapter
from confide.run import RunDirectory
from confide.transcript.reader import Transcript
from confide.update import Vector
from tests.auditor.conftest import say_nothing
from tests.recorded import CLIENTS, ROUNDS, record_run

FORBIDDEN = (
    Truth,
    Population,
    Case,
    Coin,
    CoinPlan,
    SecretSpace,
    Config,
    ClientRecords,
    TokenizedClient,
    RunDirectory,
    Transcript,
    ViewMaker,
    Adapters,
    Audited,
    Path,
)
"""What knows who is a member, or leads to files that do."""


def parts_of(value: object) -> Iterator[object]:
    """Everything that an object holds on to, one step away."""
    if isinstance(value, Mapping):
        yield from value.keys()
        yield from value.values()
    elif isinstance(value, list | tuple | set | frozenset):
        yield from value
    elif isinstance(value, partial):
        yield from (value.func, value.args, value.keywords)
    elif isinstance(value, MethodType):
        yield from (value.__self__, value.__func__)
    elif isinstance(value, FunctionType):
        yield from (cell.cell_contents for cell in value.__closure__ or ())
        yield from (value.__defaults__, value.__kwdefaults__, value.__dict__)
    elif isinstance(value, np.ndarray):
        yield value.base
    elif not isinstance(value, type | ModuleType):  # both are there for the asking
        yield from getattr(value, "__dict__", {}).values()
        slots = [slot for kind in type(value).__mro__ for slot in getattr(kind, "__slots__", ())]
        yield from (getattr(value, slot, None) for slot in slots)


def reachable(view: object) -> list[object]:
    """Everything that can be reached from an object, itself included."""
    found: dict[int, object] = {}
    waiting = [view]
    while waiting:
        value = waiting.pop()
        if id(value) not in found:
            found[id(value)] = value
            waiting += list(parts_of(value))
    return list(found.values())


def filled(view: View) -> set[str]:
    """Which fields of data hold something."""
    fields = ("adapters", "own_examples", "mean_updates", "client_updates", "uploads", "figures")
    return {name for name in fields if getattr(view, name)} | (
        {"own_updates"} if any(view.own_updates.values()) else set()
    )


def views_of(audited: Audited) -> dict[str, View]:
    maker = audited.views
    return {
        "final": maker.final(),
        "client": maker.client(["east"]),
        "coalition": maker.client(["east", "north"]),
        "server": maker.server(),
        "sealed-server": maker.sealed_server(),
    }


@pytest.fixture(scope="module")
def views(audited: Audited) -> dict[str, View]:
    return views_of(audited)


@pytest.mark.parametrize("name", ["final", "client", "coalition", "server", "sealed-server"])
def test_nothing_that_a_view_reaches_knows_or_leads_to_the_truth(
    views: dict[str, View], audited: Audited, run: Path, name: str
) -> None:
    values = reachable(views[name])
    assert views[name].name == name
    assert len(values) > 10
    assert [type(value).__name__ for value in values if isinstance(value, FORBIDDEN)] == []
    texts = [value for value in values if isinstance(value, str)]
    assert not [text for text in texts if str(run) in text or text.startswith("/")]
    secrets = list(audited.case.truth.secrets.values())
    assert not [text for text in texts if any(secret in text for secret in secrets)]


def test_the_walk_over_what_is_reachable_sees_through_closures_partials_and_methods(audited: Audited) -> None:
    """What the test above rests on: hidden in any of these, the truth is found."""
    truth = audited.case.truth

    class Holder:
        def __init__(self, held: object) -> None:
            self.held = held

        def loader(self) -> None: ...

    class Slotted:
        __slots__ = ("held",)

        def __init__(self) -> None:
            self.held = truth

    hidden: list[Any] = [
        lambda: truth,
        partial(print, truth),
        Holder({"a": [truth]}).loader,
        (Slotted(),),
        lambda held=truth: held,
    ]
    assert all(any(value is truth for value in reachable(one)) for one in hidden)


def test_a_client_has_its_own_data_and_updates_and_nobody_else_s(views: dict[str, View], audited: Audited) -> None:
    everyone = {candidate.owner for population in audited.case.populations for candidate in population.candidates}
    assert everyone == set(CLIENTS)
    for name, own in (("client", {"east"}), ("coalition", {"east", "north"})):
        view = views[name]
        assert view.own_clients == own
        assert {seen for updates in view.own_updates.values() for seen in updates} == own
        assert set(view.own_updates) == set(view.mean_updates) == set(range(1, ROUNDS + 1))
        assert filled(view) == {"adapters", "own_examples", "mean_updates", "own_updates"}
        owners = {example.record_id.split("-")[0] for example in view.own_examples}
        assert owners - {"canary", "personal"} == own
        # Of planted records too: their ids hold their owner's name.
        assert not [one for one in view.own_examples if any(f"{other}" in one.record_id for other in everyone - own)]


def test_a_client_holds_each_round_s_adapter_and_the_final_holder_only_the_last(
    views: dict[str, View], run: Path, audited: Audited
) -> None:
    directory = RunDirectory.open(run)
    assert views["final"].rounds == (ROUNDS,)
    assert views["client"].rounds == tuple(range(1, ROUNDS + 1))
    for name in ("final", "client"):
        for number in views[name].rounds:
            saved = read_adapter(directory.round_folder(number), audited.model.layout, "tiny-llama")
            assert views[name].adapters[number]().tolist() == saved.tolist()
    assert filled(views["final"]) == {"adapters"}


def vectors_in(view: View) -> list[Vector]:
    return [value for value in reachable(view) if isinstance(value, np.ndarray) and value.dtype == np.float32]


def test_a_sealed_server_holds_no_adapter_and_no_plain_update(views: dict[str, View], audited: Audited) -> None:
    sealed = views["sealed-server"]
    assert filled(sealed) == {"uploads", "figures"}
    start = audited.adapters.read(0)  # follows from the base model and the configuration: everybody has it
    assert set(sealed.starts) == {1}
    assert all(vector is start for vector in vectors_in(sealed))
    assert {name for uploads in sealed.uploads.values() for name in uploads} == set(CLIENTS)
    plain = [seen.vector for updates in views["server"].client_updates.values() for seen in updates.values()]
    held = b"".join(value for value in reachable(sealed) if isinstance(value, bytes))
    assert len(plain) == ROUNDS * len(CLIENTS)
    assert not [vector for vector in plain if vector[:8].tobytes() in held]
    figures = sealed.figures[1]["east"]
    assert 0 < figures["loss"] < 20
    assert {"weight", "num_examples", "num_targets", "step_norm"} <= figures.keys()


def test_a_server_that_reads_holds_updates_and_every_adapter_as_clients_do_and_no_data(views: dict[str, View]) -> None:
    server, client = views["server"], views["client"]
    assert filled(server) == {"client_updates", "mean_updates", "adapters", "figures"}
    assert server.rounds == client.rounds
    assert server.starts.keys() == client.starts.keys() == {1, 2, 3}
    assert all(server.adapters[number]() is client.adapters[number]() for number in server.rounds)
    for updates in server.client_updates.values():
        assert set(updates) == set(CLIENTS)
        assert np.isclose(sum(seen.share for seen in updates.values()), 1)


def test_an_update_starts_from_the_adapter_of_the_round_before(views: dict[str, View], audited: Audited) -> None:
    for name in ("client", "coalition", "server"):
        for number, start in views[name].starts.items():
            assert start() is audited.adapters.read(number - 1)
    assert views["final"].starts == {}


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sealed run whose server gets every global adapter."""
    return record_run(tmp_path_factory.mktemp("released"), seal__release="server")


def opened(run: Path) -> Audited:
    return open_run(run, AuditRequest(), progress=say_nothing)


def test_a_sealed_server_that_is_given_adapters_holds_them_and_the_means_between_them(released: Path) -> None:
    audited = opened(released)
    sealed, client = audited.views.sealed_server(), audited.views.client(["east"])
    assert sealed.name == "sealed-server"
    assert filled(sealed) == {"uploads", "figures", "adapters", "mean_updates"}
    assert sealed.rounds == client.rounds
    for number in client.rounds:
        assert np.array_equal(sealed.adapters[number](), client.adapters[number]())
        assert np.array_equal(sealed.starts[number](), client.starts[number]())
        mean = sealed.mean_updates[number]
        step = sealed.adapters[number]() - sealed.starts[number]()  # FedAvg with a step of 1
        assert np.abs(sealed.layout.gather(step, mean.layout) - mean.vector).max() < 1e-6
    assert [type(value).__name__ for value in reachable(sealed) if isinstance(value, FORBIDDEN)] == []
    assert audited.warnings == ()


def test_what_a_server_was_given_is_read_from_the_transcript(released: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(released, tmp_path / "copy", symlinks=True))
    audited = opened(copy)
    maker = audited.views
    for path in (copy / "transcript" / "server" / "0002").iterdir():
        if isinstance(decode(path.read_bytes()), StateReply):
            path.unlink()
    sealed = maker.sealed_server()
    assert sealed.rounds == (1, 3)
    assert set(sealed.starts) == {1, 2}
    assert set(sealed.mean_updates) == {1}
    assert maker.holes() == ["of round 2 the adapter that the server was given"]


def test_a_server_is_given_adapters_also_where_nobody_recorded_it(released: Path, audited: Audited) -> None:
    given, kept = (
        ViewMaker(audited.model.layout, audited.adapters, hands_over=hands_over).sealed_server()
        for hands_over in (True, False)
    )
    assert given.rounds == (1, 2, 3)
    assert kept.rounds == ()


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("clients/0002/sent-*", [f"of round {number} the update of north" for number in (1, 2, 3)]),
        ("server/0002/*", ["of round 2 the upload of east, north, south"]),
        ("server/0003/*-south.bin", ["of round 3 the upload of south"]),
        ("clients/*/opened-0001*", ["of round 1 the mean that was opened"]),
        ("clients/0001/opened-*", []),  # every other client opened the same
    ],
)
def test_holes_in_a_transcript_are_named(run: Path, tmp_path: Path, pattern: str, expected: list[str]) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "copy", symlinks=True))
    for path in (copy / "transcript").glob(pattern):
        path.unlink()
    audited = opened(copy)
    assert audited.views.holes() == expected
    told = [warning for warning in audited.warnings if "The transcript is not whole" in warning]
    assert len(told) == bool(expected)
    assert all(hole in told[0] for hole in expected)


def test_the_mean_is_that_of_the_updates_by_their_shares(views: dict[str, View]) -> None:
    for number, mean in views["client"].mean_updates.items():
        updates = views["server"].client_updates[number].values()
        expected = sum(seen.share * seen.vector.astype(np.float64) for seen in updates)
        assert np.abs(mean.vector - expected).max() < 8 * 2.0**-23 * len(CLIENTS)  # as in tests/transcript


def test_what_a_client_kept_of_an_update_that_was_not_counted_is_no_part_of_the_mean(audited: Audited) -> None:
    """As where a round was done again, and a client failed the second time."""
    maker = audited.views
    members = {number: frozenset(CLIENTS) - ({"north"} if number == 2 else set()) for number in range(1, ROUNDS + 1)}
    changed = replace_members(maker, members)
    assert {number: sorted(updates) for number, updates in changed.server().client_updates.items()} == {
        1: ["east", "north", "south"],
        2: ["east", "south"],
        3: ["east", "north", "south"],
    }
    assert sorted(changed.client(["north"]).own_updates[2]) == []


def replace_members(maker: ViewMaker, members: Mapping[int, frozenset[str]]) -> ViewMaker:
    return ViewMaker(
        maker._layout,
        maker._adapters,
        clients=maker._clients,
        members=members,
        transcript=maker._transcript,
    )


def test_without_a_transcript_there_are_adapters_and_nothing_more(audited: Audited) -> None:
    maker = ViewMaker(audited.model.layout, audited.adapters)
    view = maker.client([])
    assert (view.name, view.party, view.rounds) == ("client", "a client", tuple(range(1, ROUNDS + 1)))
    assert filled(view) == {"adapters"}
    assert maker.sealed_server().uploads == {}


def test_no_update_of_a_round_whose_start_is_missing_is_looked_at(audited: Audited, run: Path) -> None:
    directory = RunDirectory.open(run)
    folders = {number: directory.round_folder(number) for number in (0, 1, 3)}
    maker = audited.views
    view = ViewMaker(
        audited.model.layout,
        Adapters(audited.model, folders, rounds_per_attack=6),
        clients=maker._clients,
        members=dict.fromkeys((1, 2, 3), frozenset(CLIENTS)),
        transcript=maker._transcript,
    ).client(["east"])
    assert set(view.mean_updates) == {1}
    assert view.rounds == (1, 3)


def test_adapters_are_read_once_and_cannot_be_changed(audited: Audited) -> None:
    first = audited.adapters.read(1)
    assert audited.adapters.read(1) is first
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 1


def adapters_of(audited: Audited, run: Path, last: int, rounds_per_attack: int) -> Adapters:
    """As many rounds as one likes, of three adapters in turn."""
    directory = RunDirectory.open(run)
    folders = {number: directory.round_folder((number - 1) % ROUNDS + 1) for number in range(1, last + 1)}
    return Adapters(audited.model, folders, rounds_per_attack=rounds_per_attack)


def test_whoever_sees_every_round_holds_every_round_s_adapter_however_few_are_looked_at(
    audited: Audited, run: Path
) -> None:
    adapters = adapters_of(audited, run, last=9, rounds_per_attack=2)
    maker = ViewMaker(audited.model.layout, adapters, hands_over=True)
    assert adapters.looked_at == (1, 9)
    for view in (maker.client([]), maker.server()):
        assert view.rounds == tuple(range(1, 10))
        assert np.array_equal(view.adapters[8](), audited.adapters.read(2))
    # What a sealed server is given stands in the transcript as a whole: what is compared is read.
    assert maker.sealed_server().rounds == (1, 8, 9)
    assert maker.final().rounds == (9,)


def test_an_adapter_that_nobody_looks_at_is_not_read(audited: Audited, run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(RunDirectory.open(run).round_folder(1).parent, tmp_path / "rounds"))
    adapters = Adapters(audited.model, {number: copy / f"{number:04d}" for number in (1, 2, 3)}, rounds_per_attack=2)
    view = ViewMaker(audited.model.layout, adapters).client([])
    (copy / "0002" / "adapter_model.safetensors").unlink()
    assert view.rounds == (1, 2, 3)
    assert np.array_equal(view.adapters[3](), audited.adapters.read(3))
    with pytest.raises(ModelError, match=r"rounds/0002 has no adapter_model\.safetensors"):
        view.adapters[2]()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_adapter_that_is_not_finite_is_refused_by_its_folder(audited: Audited, tmp_path: Path, bad: float) -> None:
    vector = audited.adapters.read(1).copy()
    vector[[3, 5]] = bad
    write_adapter(tmp_path / "0001", audited.model.layout, vector, {"peft_type": "LORA"})
    with pytest.raises(NonFiniteUpdateError, match=r"0001 holds 2 values of 448 that are NaN or infinite"):
        Adapters(audited.model, {1: tmp_path / "0001"}, rounds_per_attack=6).read(1)


def test_a_damaged_adapter_is_refused_by_its_folder(audited: Audited, run: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(RunDirectory.open(run).round_folder(1), tmp_path / "0001"))
    (folder / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match="0001"):
        Adapters(audited.model, {1: folder}, rounds_per_attack=6).read(1)


@pytest.mark.parametrize("num_rounds", [1, 2, 5, 6, 7, 20, 500])
@pytest.mark.parametrize("most", [1, 2, 3, 6])
def test_rounds_are_spread_evenly_with_the_first_and_the_last_among_them(num_rounds: int, most: int) -> None:
    found = spread_evenly(list(range(1, num_rounds + 1)), most)
    assert len(found) == min(num_rounds, most)
    assert found[-1] == num_rounds
    assert found[0] == 1 or most == 1
    assert list(found) == sorted(set(found))
    gaps = np.diff(found)
    assert gaps.size == 0 or gaps.max() - gaps.min() <= 1


def test_a_view_says_nothing_of_its_values_when_it_is_shown(views: dict[str, View]) -> None:
    assert all(len(repr(replace(view, layout=replace(view.layout, slots=())))) < 1000 for view in views.values())
