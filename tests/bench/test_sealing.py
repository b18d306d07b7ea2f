"""The sealing benchmark on small vectors: what it counts, what it compares, what it says when something is missing."""

import json
import math
from dataclasses import asdict, replace

import pytest
import typer
from typer.testing import CliRunner

from confide.bench.sealing import (
    Answer,
    expand_schemes,
    in_own_process,
    ratios_to_baseline,
    run_sealing_benchmark,
)
from confide.bench.sealing_bytes import count_round
from confide.bench.sealing_process import measure_parallel, measure_streaming, process_numbers
from confide.bench.sealing_row import CpuClock, measure_row
from confide.bench.sealing_work import SCHEMES, SealingRow, SealingWork
from confide.cli.bench import bench_sealing_command
from confide.errors import MissingExtraError, RunError, UsageError
from confide.membership.frames import HEADER_BYTES
from confide.membership.roster import SIGNATURE_BYTES
from confide.messages import OpenRequest, TrainReply, decode, unpack_parts
from confide.seal.fixedpoint import sum_error_bound
from confide.seal.profiles import get_profile
from tests.seal.federations import needs_tenseal
from tests.town import NAMES, Town

WORK = SealingWork(scheme="onetime/compact", num_values=20_000, num_clients=3, repeats=2, seed=0)
REQUIRED = {
    "scheme",
    "profile",
    "seal_values_per_cpu_second",
    "add_values_per_cpu_second",
    "open_values_per_cpu_second",
    "upload_bytes_per_value",
    "download_bytes_per_value",
    "max_abs_error",
}


def fake_row(label: str, speed: float, num_bytes: float) -> SealingRow:
    scheme, _, profile = label.partition("/")
    return replace(
        EMPTY_ROW,
        scheme=scheme,
        profile=profile,
        seal_values_per_cpu_second=speed,
        add_values_per_cpu_second=2 * speed,
        open_values_per_cpu_second=3 * speed,
        upload_bytes_per_value=num_bytes,
        download_bytes_per_value=2 * num_bytes,
    )


EMPTY_ROW = SealingRow(
    scheme="plain",
    profile="",
    num_values=1,
    num_clients=2,
    seal_values_per_cpu_second=1,
    add_values_per_cpu_second=1,
    open_values_per_cpu_second=1,
    seal_cpu_seconds=(1,),
    add_cpu_seconds=(1,),
    open_cpu_seconds=(1,),
    frame_cpu_seconds=0,
    key_cpu_seconds=0,
    upload_bytes_per_value=1,
    download_bytes_per_value=1,
    vector_bytes_per_value=1,
    key_bytes_per_peer=0,
    seal_memory_mb=0,
    peak_mb=0,
    max_abs_error=0,
    rms_error=0,
)


def test_a_row_counts_all_that_a_client_sends_and_gets_in_a_round() -> None:
    row = measure_row(WORK)
    profile = get_profile("onetime", "compact")
    body = profile.wire_bytes(WORK.num_values)
    assert row.vector_bytes_per_value * WORK.num_values == pytest.approx(body + HEADER_BYTES + SIGNATURE_BYTES)
    released = SIGNATURE_BYTES + 12 + profile.ring_degree + 16  # a byte for each coefficient; AES-GCM's nonce and tag
    share = SIGNATURE_BYTES + 32 + profile.ring_degree + 16  # HPKE's one-time key, the share, the tag
    part = SIGNATURE_BYTES + 32 + 32 + 16  # the same of a part of the group key, which is sent again for opening
    assert row.key_bytes_per_peer == share + part
    up = body + HEADER_BYTES + SIGNATURE_BYTES + 3 * (share + part) + released
    down = body + HEADER_BYTES + 3 * (share + 2 * part) + 3 * released  # of two that open it, and a spare
    headers = 10 * 200  # of eight messages, and the list of members in three of them
    assert up < row.upload_bytes_per_value * WORK.num_values < up + headers
    assert down < row.download_bytes_per_value * WORK.num_values < down + 3 * headers


@pytest.mark.parametrize("scheme", ["onetime", "plain"])
def test_what_is_counted_is_what_a_round_carries(scheme: str) -> None:
    """Of few values in all, so that next to nothing but keys and headers is compared."""
    town = Town(scheme=scheme, weights="equal")
    sent, received = dict.fromkeys(NAMES, 0), dict.fromkeys(NAMES, 0)

    uploads: list[bytes] = []
    totals: list[bytes] = []

    def count_request(client: str, request: bytes) -> bytes:
        received[client] += len(request)
        message = decode(request)
        if isinstance(message, OpenRequest):
            totals.append(unpack_parts(message.body)["sum"])
        return request

    def count_reply(client: str, reply: bytes) -> bytes:
        sent[client] += len(reply)
        message = decode(reply)
        if isinstance(message, TrainReply):
            uploads.append(unpack_parts(message.body)["frames"])
        return reply

    town.transport.before, town.transport.after = count_request, count_reply
    town.round()
    keys = town.clients["east"]._keys
    context = town.clients["east"]._context(town.clients["east"]._payload())
    envelopes = keys.address(context, town.sealing.begin(context))
    released = {f"release {name}": bytes(64 + 12 + 4096 + 16) for name in NAMES} if envelopes else {}
    counted = count_round(
        roster=town.roster,
        run="town",
        sealing_digest=town.sealing.digest,
        num_values=town.server.plan(town.state).shape.num_values,
        frames_bytes=len(uploads[0]),
        total_bytes=len(totals[0]),
        envelopes=envelopes,
        released=released,
    )
    # The town's figures are short numbers, and some are not told in every round: up to 20 characters for each of 14.
    assert counted.upload - 14 * 20 <= sent["east"] <= counted.upload
    assert received["east"] == pytest.approx(counted.download, abs=100)


def test_a_row_measures_speed_error_and_every_sample() -> None:
    row = measure_row(WORK)
    assert len(row.seal_cpu_seconds) == 1 + 2 * 3  # once alone, then everybody in both passes
    assert (len(row.add_cpu_seconds), len(row.open_cpu_seconds)) == (2, 2)
    assert row.seal_values_per_cpu_second == WORK.num_values / min(row.seal_cpu_seconds)
    assert row.add_values_per_cpu_second == 3 * WORK.num_values / min(row.add_cpu_seconds)
    profile = get_profile("onetime", "compact")
    assert 0 < row.rms_error < row.max_abs_error <= sum_error_bound(3, profile.initial_limit, profile)
    assert row.peak_mb > row.seal_memory_mb >= 0
    assert asdict(row).keys() >= REQUIRED


def test_schemes_without_round_keys_send_none() -> None:
    for scheme in ("plain", "shared/compact"):
        row = measure_row(replace(WORK, scheme=scheme, num_values=100))
        assert row.key_bytes_per_peer == 0
        assert row.label == scheme


def test_a_long_vector_is_measured_beyond_its_own_size() -> None:
    row = measure_streaming(replace(WORK, num_values=2_000_000))
    assert row.vector_mb == 8
    assert row.upload_bytes_per_value == pytest.approx(3.5, rel=1e-3)
    assert row.memory_beyond_vector_mb >= 0


def test_parallel_rows_compare_with_one_process() -> None:
    rows = measure_parallel(replace(WORK, repeats=1), max_processes=2)
    assert [row.num_processes for row in rows] == [1, 2]
    assert rows[0].speed_up == 1
    assert all(row.handing_out_share > 0 for row in rows)
    assert rows[1].speed_up == rows[1].seal_values_per_second / rows[0].seal_values_per_second
    with pytest.raises(UsageError, match="several processes seal scheme onetime only, not plain"):
        measure_parallel(replace(WORK, scheme="plain"), max_processes=2)


@pytest.mark.parametrize(
    ("most", "numbers"), [(1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (4, [1, 2, 4]), (6, [1, 2, 4, 6])]
)
def test_processes_are_doubled_up_to_the_most(most: int, numbers: list[int]) -> None:
    assert process_numbers(most) == numbers


def test_ratios_are_above_one_where_a_row_is_better_than_published() -> None:
    rows = [fake_row("plain", 100, 4), fake_row("published", 2, 80), fake_row("onetime/compact", 40, 3.2)]
    ratios = ratios_to_baseline(rows)
    assert list(ratios) == ["plain", "onetime/compact"]
    assert ratios["onetime/compact"] == pytest.approx({"seal": 20, "add": 20, "open": 20, "upload": 25, "download": 25})
    assert ratios_to_baseline(rows[:1]) == {}


def test_a_scheme_stands_for_all_its_profiles() -> None:
    assert expand_schemes(None) == list(SCHEMES)
    assert expand_schemes(["onetime"]) == ["onetime/compact", "onetime/precise", "onetime/ultra"]
    assert expand_schemes(["shared/precise", "shared"]) == ["shared/precise", "shared/compact"]
    with pytest.raises(UsageError, match=r"no scheme is called 'onetime/huge', expected some of plain, published"):
        expand_schemes(["onetime/huge"])


def test_a_clock_counts_the_making_of_items_and_not_their_use() -> None:
    clock = CpuClock()
    for _ in clock.each(range(3)):
        sum(math.sqrt(number) for number in range(200_000))
    assert clock.seconds < 0.01
    with pytest.raises(ZeroDivisionError):
        clock.run(lambda: 1 / 0)


def test_without_its_library_published_is_named_as_missing_and_the_rest_is_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fake(task: str, work: SealingWork, kind: type[Answer], *options: str) -> list[SealingRow]:
        if work.scheme == "published":
            raise MissingExtraError("tenseal", "published", 'The scheme "published"')
        return [fake_row(work.scheme, 1, 1)]

    monkeypatch.setattr("confide.bench.sealing.in_own_process", fake)
    told: list[str] = []
    result = run_sealing_benchmark(num_values=10, on_progress=told.append)
    assert [row.label for row in result.rows] == [label for label in SCHEMES if label != "published"]
    assert "pip install 'confide[published]'" in result.missing["published"]
    assert result.ratios == {}
    assert told[0] == "plain: 10 values, 10 clients"
    with pytest.raises(UsageError, match="tenseal"):
        run_sealing_benchmark(num_values=10, schemes=["published"])


def test_a_sum_of_one_or_of_too_many_is_refused() -> None:
    for num_clients in (1, 65):
        with pytest.raises(UsageError, match=f"--clients is {num_clients}, expected 2 to 64"):
            run_sealing_benchmark(num_values=10, num_clients=num_clients)


def test_errors_of_a_process_come_back() -> None:
    with pytest.raises(UsageError, match="several processes seal scheme onetime only, not plain"):
        in_own_process("parallel", replace(WORK, scheme="plain"), SealingRow, "2")
    with pytest.raises(RunError, match=r"(?s)process for onetime/huge ended with exit code 1.*KeyError"):
        in_own_process("row", replace(WORK, scheme="onetime/huge"), SealingRow)


@needs_tenseal
def test_the_command_prints_rows_and_ratios_as_json_and_as_a_table() -> None:
    app = typer.Typer()
    app.command()(bench_sealing_command)
    options = ["--values", "5000", "--clients", "2", "--schemes", "published", "--schemes", "onetime/compact"]
    result = json.loads(CliRunner().invoke(app, [*options, "--json"]).stdout)
    assert [row["scheme"] for row in result["rows"]] == ["published", "onetime"]
    assert all(row.keys() >= REQUIRED for row in result["rows"])
    assert result["ratios"]["onetime/compact"]["upload"] > 1
    assert {"machine", "versions", "num_values", "num_clients", "seed"} <= result.keys()
    table = CliRunner().invoke(app, options).stdout
    assert "onetime/compact / published: seal" in table
    assert "…" not in table  # no number is cut off
