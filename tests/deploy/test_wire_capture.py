"""What crosses the wire in a run, and what the server keeps on its disk: heard from the loopback interface, and
searched for bytes that are known. The same run without sealing shows that the search would find them.
"""

import base64
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from confide.build import build_records
from confide.config.load import parse_config
from confide.errors import RunError
from confide.seal.adder import write_chunk
from confide.seal.coefficients import Coefficients
from confide.seal.fixedpoint import Quantized, pack, quantize
from confide.seal.onetime import OneTimeSealing
from confide.seal.plain import PlainRound
from confide.seal.profiles import Profile
from confide.seal.ring import Ring
from confide.update import Vector
from tests.deploy.capture import Capture, Direction
from tests.deploy.one_process import run_in_one_process
from tests.deploy.real import CONFIG, NAMES, SETTINGS, Network, needs_proc, network, processes_at, wait_for

pytestmark = [
    pytest.mark.slow,
    needs_proc,
    pytest.mark.skipif(os.geteuid() != 0, reason="hears the loopback interface: needs root"),
]

ONE_ROUND = CONFIG.replace("rounds = 2", "rounds = 1")
PLAIN = ONE_ROUND + '\n[seal]\nscheme = "plain"\n'
RUN_SECONDS = 240.0
PIECE_BYTES = 48
FEWEST_PIECES = 50
RAW_KEY_BYTES = 32  # PKCS 8 ends with the number itself, of both kinds of key
LEAST_DIFFERENT_BYTES = 16  # a piece that is nearly all zeros could be anything


@dataclass(frozen=True, kw_only=True)
class Heard:
    """What was heard of a run.

    Attributes:
        run: its id.
        to_server: TLS, by direction.
        inside: between SuperNodes and what they start, by direction.
        snapshots: the server's database and its log at several moments of the run.
        files: the server's folder after the run.
        num_lost: packets that were not heard.
    """

    run: str
    to_server: Mapping[Direction, bytes]
    inside: Mapping[Direction, bytes]
    snapshots: bytes
    files: bytes
    num_lost: int


def pieces(data: bytes) -> list[bytes]:
    """All of it, cut into pieces that are no chance find."""
    cut = [data[start : start + PIECE_BYTES] for start in range(0, len(data) - PIECE_BYTES + 1, PIECE_BYTES)]
    return [piece for piece in cut if len(set(piece)) >= LEAST_DIFFERENT_BYTES]


def found(known: Sequence[bytes], places: Sequence[bytes]) -> int:
    """How many of the pieces are somewhere, at any place."""
    haystack = b"\0".join(places)
    return sum(piece in haystack for piece in known)


@pytest.fixture(scope="module")
def updates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[bytes]]:
    """Pieces of all members' updates, as they go into sealing, in each of their forms."""
    floats: list[bytes] = []
    fixed: list[bytes] = []
    sealed_chunks, plain_chunks = OneTimeSealing.chunks, PlainRound.chunks

    def keep_floats(self: OneTimeSealing, values: Vector) -> Iterator[bytes]:
        floats.append(values.tobytes())
        return sealed_chunks(self, values)

    def keep_plain(self: PlainRound, values: Vector) -> Iterator[bytes]:
        floats.append(values.tobytes())
        return plain_chunks(self, values)

    def keep_fixed(values: Vector, limit: float, profile: Profile) -> Quantized:
        made = quantize(values, limit, profile)
        fixed.extend(made.levels.astype(kind).tobytes() for kind in (np.uint16, np.uint32, np.uint64))
        return made

    def keep_packed(levels: Coefficients, profile: Profile) -> Coefficients:
        made = pack(levels, profile)
        fixed.extend((made.tobytes(), write_chunk([made], profile)))
        return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OneTimeSealing, "chunks", keep_floats)
        patch.setattr(PlainRound, "chunks", keep_plain)
        patch.setattr("confide.seal.onetime.quantize", keep_fixed)
        patch.setattr("confide.seal.onetime.pack", keep_packed)
        for config in (ONE_ROUND, PLAIN):
            run_in_one_process(tmp_path_factory.mktemp("one"), config, SETTINGS)
    assert len(floats) == 2 * len(NAMES)
    assert len(fixed) == 5 * len(NAMES)
    made = {
        "float32": [piece for data in floats for piece in pieces(data)],
        "fixed point": [piece for data in fixed for piece in pieces(data)],
    }
    assert all(len(known) > FEWEST_PIECES for known in made.values())
    return made


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    place = tmp_path_factory.mktemp("wire")
    with network(place, ONE_ROUND, schemes=("onetime", "plain")) as started:
        yield started
    wait_for(lambda: not processes_at(place), 10.0, "the end of all processes")


def hear(made: Network, name: str, *sets: str) -> Heard:
    snapshots: list[bytes] = []
    with Capture() as capture:
        running = made.run(name, *sets)
        for phase in ("offer", "train", "open"):
            made.members[NAMES[0]].await_line(f", {phase}: answered", RUN_SECONDS)
            snapshots.extend(path.read_bytes() for path in made.server.folder.glob("flower/state.db*"))
        ports = {
            int(match.group(1))
            for member in made.members.values()
            for line in processes_at(member.folder).values()
            if "flower-supernode" in line and (match := re.search(r"--port (\d+)", line))
        }
        assert running.end(RUN_SECONDS) == 0, running.output
    assert len(ports) == len(NAMES)
    streams = capture.streams()
    return Heard(
        run=str(made.directory(name).run_id),
        to_server={d: data for d, data in streams.items() if made.port in (d.source, d.destination)},
        inside={d: data for d, data in streams.items() if {d.source, d.destination} & ports},
        snapshots=b"\0".join(snapshots),
        files=b"\0".join(path.read_bytes() for path in sorted(made.home.rglob("*")) if path.is_file()),
        num_lost=capture.num_lost,
    )


@pytest.fixture(scope="module")
def sealed(made: Network) -> Heard:
    return hear(made, "sealed")


@pytest.fixture(scope="module")
def plain(made: Network, sealed: Heard) -> Heard:
    return hear(made, "plain", 'seal.scheme="plain"')


@pytest.fixture(scope="module")
def secrets(made: Network) -> list[bytes]:
    """The members' secret keys: the lines of their files, and the numbers that they are."""
    known: list[bytes] = []
    for member in made.members.values():
        identity = json.loads((member.folder / "identity.key").read_text())
        texts = [identity["signing_private_key"], identity["envelope_private_key"]]
        for text in texts:
            lines = text.splitlines()[1:-1]
            known.extend(line.encode() for line in lines)
            known.append(base64.b64decode("".join(lines))[-RAW_KEY_BYTES:])
        known.extend(line.encode() for line in (member.folder / "node.key").read_text().splitlines()[1:-1])
    assert len(known) > 4 * len(NAMES)
    return known


@pytest.fixture(scope="module")
def texts() -> list[bytes]:
    """Stretches of every record of the members."""
    values: dict[str, dict[str, object]] = {"model": {"base": "tiny-llama"}}
    for key, value in SETTINGS.items():
        section, name = key.split(".")
        values.setdefault(section, {})[name] = value
    known = [
        text[20:60].encode()
        for client in build_records(parse_config(values))
        for record in (*client.train, *client.held_out)
        for text in re.findall(r"[^'\"\\]{60,}", repr(record.content))
    ]
    assert len(known) > 12
    return known


def test_what_goes_to_the_server_is_tls_and_holds_nothing_that_is_known(
    sealed: Heard, updates: dict[str, list[bytes]], secrets: list[bytes], texts: list[bytes]
) -> None:
    assert sealed.num_lost == 0
    assert len(sealed.to_server) > 2 * len(NAMES)
    places = list(sealed.to_server.values())
    assert sum(map(len, places)) > 3 * len(NAMES) * 15_000  # the sealed updates went this way
    for stream in places:
        assert stream[0] in (20, 21, 22, 23)  # TLS
        assert stream[1] == 3
    for known in (updates["float32"], updates["fixed point"], secrets, texts, [sealed.run.encode()]):
        assert found(known, places) == 0


def test_inside_a_member_only_sealed_bytes_are_passed_on(
    sealed: Heard, updates: dict[str, list[bytes]], secrets: list[bytes], texts: list[bytes]
) -> None:
    places = list(sealed.inside.values())
    assert found([sealed.run.encode()], places) == 1  # these bytes can be read
    for known in (updates["float32"], updates["fixed point"], secrets, texts):
        assert found(known, places) == 0


def test_the_servers_files_hold_nothing_that_is_known(
    sealed: Heard, updates: dict[str, list[bytes]], secrets: list[bytes], texts: list[bytes]
) -> None:
    assert found([sealed.run.encode()], [sealed.snapshots]) == 1  # messages lay there and can be read
    assert found([sealed.run.encode()], [sealed.files]) == 1
    for known in (updates["float32"], updates["fixed point"], secrets, texts):
        assert found(known, [sealed.snapshots, sealed.files]) == 0


def test_without_sealing_the_search_finds_the_updates(
    plain: Heard, updates: dict[str, list[bytes]], secrets: list[bytes], texts: list[bytes]
) -> None:
    assert plain.num_lost == 0
    inside = list(plain.inside.values())
    assert found(updates["float32"], inside) >= len(updates["float32"]) // 2  # of two runs in one process, one is plain
    assert found(updates["float32"], [plain.snapshots, plain.files]) > 0
    assert found(updates["float32"], list(plain.to_server.values())) == 0  # TLS
    for known in (secrets, texts):
        assert found(known, [*inside, *plain.to_server.values(), plain.snapshots, plain.files]) == 0


def test_an_update_whose_seal_was_forgotten_would_be_found(updates: dict[str, list[bytes]], tmp_path: Path) -> None:
    sent: list[bytes] = []

    def keep(rows: Sequence[Coefficients], profile: Profile) -> bytes:
        sent.append(write_chunk(rows, profile))
        return sent[-1]

    with pytest.MonkeyPatch.context() as patch, suppress(RunError):  # what is opened then is nonsense
        patch.setattr(Ring, "seal", lambda ring, secret, plain, common: plain)
        patch.setattr("confide.seal.onetime.write_chunk", keep)
        run_in_one_process(tmp_path, ONE_ROUND, SETTINGS)
    assert len(sent) >= len(NAMES)
    assert found(updates["fixed point"], sent) > FEWEST_PIECES
