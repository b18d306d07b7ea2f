"""Writing a transcript and reading it back, with no run around it."""

import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from confide.errors import RunDirectoryError, StorageError
from confide.global_state import GlobalState
from confide.messages import OpenReply, StateReply, TrainReply, pack_parts
from confide.transcript.reader import Transcript
from confide.transcript.recorder import (
    ClientRecorder,
    RecordingTransport,
    client_folder,
    server_folder,
    start_transcript,
)
from confide.transport.base import Reply
from confide.update import Layout, Slot, Vector

LAYOUT = Layout((Slot(name="a", shape=(2, 3)), Slot(name="b", shape=(4,))))
TRAINED = LAYOUT.select(["b"])
VECTOR = np.array([0.5, -1.25, 0.0, 3.0], np.float32)


class Canned:
    """A transport that gives prepared replies, whatever is asked."""

    def __init__(self, *replies: Reply) -> None:
        self.replies = replies
        self.asked: list[Mapping[str, bytes]] = []

    def exchange(self, requests: Mapping[str, bytes]) -> Iterator[Reply]:
        self.asked.append(requests)
        yield from self.replies


def upload(client: str, round_number: int = 1, frames: bytes = b"frames") -> Reply:
    message = TrainReply(
        run="run",
        round_number=round_number,
        client=client,
        weight=2.0,
        layout_digest="0" * 64,
        key_id="",
        limit=1.0,
        metrics={"loss": 1.5},
        body=pack_parts({"frames": frames}),
    )
    return Reply(client=client, body=message.to_bytes())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    start_transcript(tmp_path / "transcript")
    return tmp_path / "transcript"


def kept_bytes(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.bin"))}


def test_replies_pass_unchanged_and_are_kept_byte_for_byte_in_their_order(folder: Path) -> None:
    replies = [upload("north"), upload("east", frames=b"\x00\xff" * 100), upload("north", round_number=2)]
    inner = Canned(*replies)
    requests = {"north": b"question"}
    assert list(RecordingTransport(inner, server_folder(folder)).exchange(requests)) == replies
    assert inner.asked == [requests]
    assert kept_bytes(server_folder(folder)) == {
        "0001/0001-north.bin": replies[0].body,
        "0001/0002-east.bin": replies[1].body,
        "0002/0001-north.bin": replies[2].body,
    }


def test_a_failure_is_passed_on_and_leaves_nothing_behind(folder: Path) -> None:
    failure = Reply(client="north", error_kind="Missing", error="gone")
    assert list(RecordingTransport(Canned(failure), server_folder(folder)).exchange({})) == [failure]
    assert kept_bytes(folder) == {}


def test_bytes_that_are_no_message_are_kept_all_the_same(folder: Path) -> None:
    garbage = Reply(client="../north", body=b"not a message")
    assert list(RecordingTransport(Canned(garbage), server_folder(folder)).exchange({})) == [garbage]
    (name,) = kept_bytes(folder)
    assert name.startswith("server/unreadable/0001-")
    assert ".." not in name.removeprefix("server/unreadable/0001-").removesuffix(".bin").split("/")


def test_each_client_s_last_upload_counts_when_a_round_was_done_again(folder: Path) -> None:
    for frames in (b"first", b"second"):
        transport = RecordingTransport(Canned(upload("north", frames=frames)), server_folder(folder))
        list(transport.exchange({}))
    assert len(kept_bytes(folder)) == 2
    (reply,) = Transcript(folder, LAYOUT).uploads(1).values()
    assert reply.body == pack_parts({"frames": b"second"})
    assert dict(reply.metrics) == {"loss": 1.5}
    assert Transcript(folder, LAYOUT).uploads(2) == {}


def handed(adapter: Vector, *, recipients: tuple[str, ...] = ()) -> Reply:
    state = GlobalState(layout=LAYOUT, round_number=2, adapter=adapter)
    parts = {"state": b"encrypted" if recipients else state.to_bytes(), **{f"to {name}": b"key" for name in recipients}}
    message = StateReply(run="run", round_number=2, client="north", adapter_digest=state.digest, body=pack_parts(parts))
    return Reply(client="north", body=message.to_bytes())


def test_an_adapter_that_the_server_was_given_reads_back_and_one_for_other_clients_does_not(folder: Path) -> None:
    adapter = np.arange(10, dtype=np.float32)
    transport = RecordingTransport(Canned(handed(adapter, recipients=("east",))), server_folder(folder))
    list(transport.exchange({}))
    assert Transcript(folder, LAYOUT).handed_over(2) is None
    list(RecordingTransport(Canned(handed(adapter)), server_folder(folder)).exchange({}))
    found = Transcript(folder, LAYOUT).handed_over(2)
    assert found is not None
    assert found.tolist() == adapter.tolist()
    assert Transcript(folder, LAYOUT).handed_over(1) is None
    assert Transcript(folder, LAYOUT).uploads(2) == {}
    with pytest.raises(RunDirectoryError, match=r"north\.bin cannot be read back"):
        Transcript(folder, TRAINED).handed_over(2)


def test_each_client_s_last_report_on_the_opened_sum_counts(folder: Path) -> None:
    for norm in (1.0, 2.0):
        message = OpenReply(
            run="run", round_number=1, client="north", adapter_digest="", signature="", metrics={"step_norm": norm}
        )
        reply = Reply(client="north", body=message.to_bytes())
        list(RecordingTransport(Canned(reply, upload("north")), server_folder(folder)).exchange({}))
    (report,) = Transcript(folder, LAYOUT).reports(1).values()
    assert report.metrics == {"step_norm": 2.0}


def test_what_a_client_kept_reads_back_equal(folder: Path) -> None:
    recorder = ClientRecorder(client_folder(folder, 3))
    recorder.sent(7, TRAINED, VECTOR, 12.5)
    recorder.opened(7, TRAINED, 2 * VECTOR, 40.0)
    transcript = Transcript(folder, LAYOUT)
    sent, opened = transcript.sent(3, 7), transcript.opened(3, 7)
    assert sent is not None
    assert opened is not None
    assert sent.layout == opened.layout == TRAINED
    assert (sent.vector.tolist(), sent.weight) == (VECTOR.tolist(), 12.5)
    assert (opened.vector.tolist(), opened.weight) == ((2 * VECTOR).tolist(), 40.0)
    assert "0.5" not in repr(sent)


def test_what_nobody_kept_reads_as_nothing(folder: Path) -> None:
    transcript = Transcript(folder, LAYOUT)
    assert transcript.sent(1, 1) is None
    assert transcript.opened(1, 1) is None
    assert transcript.uploads(1) == {}


def test_a_round_done_again_replaces_what_a_client_kept(folder: Path) -> None:
    recorder = ClientRecorder(client_folder(folder, 1))
    recorder.sent(1, TRAINED, VECTOR, 1.0)
    recorder.sent(1, LAYOUT, np.ones(10, np.float32), 2.0)
    found = Transcript(folder, LAYOUT).sent(1, 1)
    assert found is not None
    assert (found.layout, found.weight) == (LAYOUT, 2.0)


def test_only_the_owner_may_look_into_a_transcript_and_it_says_what_it_is(folder: Path) -> None:
    ClientRecorder(client_folder(folder, 1)).sent(1, TRAINED, VECTOR, 1.0)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    note = (folder / "PRIVATE.md").read_text()
    assert "do not publish it" in note
    assert "single clients' updates" in note


def test_another_folder_is_no_transcript(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match=r"the run was not recorded\. Train with --set audit\.record=true"):
        Transcript(tmp_path, LAYOUT)


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x10\x00\x00\x00\x00\x00\x00\x00" + b"{" * 16])
def test_a_damaged_file_is_named(folder: Path, content: bytes) -> None:
    ClientRecorder(client_folder(folder, 1)).sent(1, TRAINED, VECTOR, 1.0)
    (path,) = folder.rglob("sent-0001.safetensors")
    path.write_bytes(content)
    with pytest.raises(RunDirectoryError, match=r"sent-0001\.safetensors cannot be read back"):
        Transcript(folder, LAYOUT).sent(1, 1)


def test_an_update_of_another_model_is_refused(folder: Path) -> None:
    ClientRecorder(client_folder(folder, 1)).sent(1, TRAINED, VECTOR, 1.0)
    other = Layout((Slot(name="c", shape=(4,)),))
    with pytest.raises(RunDirectoryError, match="cannot be read back"):
        Transcript(folder, other).sent(1, 1)
    reshaped = Layout((Slot(name="b", shape=(2, 2)),))
    with pytest.raises(RunDirectoryError, match="cannot be read back"):
        Transcript(folder, reshaped).sent(1, 1)


def test_a_damaged_upload_is_named(folder: Path) -> None:
    list(RecordingTransport(Canned(upload("north")), server_folder(folder)).exchange({}))
    (path,) = folder.rglob("*.bin")
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(RunDirectoryError, match=r"0001-north\.bin cannot be read back"):
        Transcript(folder, LAYOUT).uploads(1)


def test_a_reply_that_cannot_be_kept_stops_the_exchange(folder: Path) -> None:
    server_folder(folder).write_text("in the way")
    with pytest.raises(StorageError, match="cannot write"):
        list(RecordingTransport(Canned(upload("north")), server_folder(folder)).exchange({}))
