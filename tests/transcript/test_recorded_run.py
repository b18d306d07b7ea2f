"""The transcript of a real run: what stands in it is what travelled."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from confide.attacks.updates.sealed import guess_values
from confide.build import build_model
from confide.cli.train import resume_command
from confide.config.load import load_config
from confide.errors import RunInterrupted
from confide.messages import unpack_parts
from confide.model.adapter_files import read_adapter
from confide.model.lora import AdaptedModel
from confide.run import RECORD_FILE, RunDirectory
from confide.seal.profiles import get_profile
from confide.train.local import LocalTrainer
from confide.transcript.reader import KeptUpdate, Transcript
from confide.update import Vector
from tests.recorded import CLIENTS, ROUNDS, record_run, shared_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shared_run(tmp_path_factory)


@pytest.fixture(scope="module")
def model(run: Path) -> AdaptedModel:
    return build_model(load_config(run / "config.toml"))


@pytest.fixture(scope="module")
def transcript(run: Path, model: AdaptedModel) -> Transcript:
    return Transcript(run / "transcript", model.layout)


def sent_by_all(transcript: Transcript, number: int) -> list[KeptUpdate]:
    kept = [transcript.sent(point, number) for point in range(1, 1 + len(CLIENTS))]
    return [one for one in kept if one is not None]


def adapter(run: Path, model: AdaptedModel, number: int) -> Vector:
    return read_adapter(RunDirectory.open(run).round_folder(number), model.layout, "tiny-llama")


def assert_sum_law(transcript: Transcript, number: int) -> None:
    """The mean of what clients sent is what every one of them opened."""
    sent = sent_by_all(transcript, number)
    assert len(sent) == len(CLIENTS)
    total = sum(one.weight for one in sent)
    mean = sum(one.weight / total * one.vector.astype(np.float64) for one in sent)
    for point in range(1, 1 + len(CLIENTS)):
        opened = transcript.opened(point, number)
        assert opened is not None
        assert opened.weight == total
        # Both are whole levels of one fixed-point range: what is left is float32 rounding of values below 8.
        assert np.abs(opened.vector - mean).max() < 8 * 2.0**-23 * len(CLIENTS)
        assert np.abs(opened.vector).max() > 0.01


@pytest.mark.parametrize("number", range(1, ROUNDS + 1))
def test_the_mean_of_what_clients_sent_is_what_every_one_opened(transcript: Transcript, number: int) -> None:
    assert_sum_law(transcript, number)


def test_where_a_round_is_done_again_in_a_wider_range_the_transcript_holds_what_counted(tmp_path: Path) -> None:
    run = record_run(tmp_path, seal__initial_range=0.1, prune__mask="common", prune__sparsity=0.5, federation__rounds=1)
    assert_sum_law(Transcript(run / "transcript", build_model(load_config(run / "config.toml")).layout), 1)


@pytest.mark.parametrize("number", range(1, ROUNDS + 1))
def test_the_opened_mean_is_the_step_that_the_global_adapter_made(
    run: Path, model: AdaptedModel, transcript: Transcript, number: int
) -> None:
    opened = transcript.opened(1, number)
    assert opened is not None
    step = adapter(run, model, number) - adapter(run, model, number - 1)  # FedAvg with a step of 1
    assert np.abs(model.layout.gather(step, opened.layout) - opened.vector).max() < 1e-6


def test_what_a_client_sent_lies_on_the_steps_of_the_range_that_was_sealed(run: Path, transcript: Transcript) -> None:
    seal = load_config(run / "config.toml").seal
    half = 2 ** (get_profile(seal.scheme, seal.profile).value_bits - 1) - 1
    for number in range(1, ROUNDS + 1):
        sent = dict(zip(CLIENTS, sent_by_all(transcript, number), strict=True))
        reference = max(one.weight for one in sent.values())
        for name, reply in transcript.uploads(number).items():
            steps = sent[name].vector.astype(np.float64) * sent[name].weight / reference / (reply.limit / half)
            # Float32 holds 24 bits and a value of this profile 16: rounding moves it by far less than a step's tenth.
            assert np.abs(steps - steps.round()).max() < 0.1
            assert np.abs(steps).max() > 1


def test_a_plain_upload_holds_exactly_what_the_client_kept_as_sent(tmp_path: Path) -> None:
    run = record_run(tmp_path, seal__scheme="plain", seal__initial_range=0.0, federation__rounds=1)
    model = build_model(load_config(run / "config.toml"))
    transcript = Transcript(run / "transcript", model.layout)
    sent = dict(zip(CLIENTS, sent_by_all(transcript, 1), strict=True))
    reference = max(one.weight for one in sent.values())
    for name, reply in transcript.uploads(1).items():
        values = guess_values(unpack_parts(reply.body)["frames"])
        ratio = np.float32(sent[name].weight / reference)
        assert np.allclose(values[: sent[name].vector.size], ratio * sent[name].vector, rtol=1e-6, atol=0)


def test_the_server_s_part_is_every_reply_and_no_plain_update(run: Path, transcript: Transcript) -> None:
    for number in range(1, ROUNDS + 1):
        uploads = transcript.uploads(number)
        assert sorted(uploads) == list(CLIENTS)
        for point, name in enumerate(CLIENTS, start=1):
            kept = transcript.sent(point, number)
            assert kept is not None
            assert kept.weight == uploads[name].weight
            # Any 8 values in a row of the update would be 32 bytes of the upload, were it not sealed.
            assert kept.vector[:8].tobytes() not in uploads[name].body
    server = run / "transcript" / "server"
    assert not list(server.rglob("*.safetensors"))
    num_replies = {path.name: len(list(path.glob("*.bin"))) for path in server.iterdir()}
    assert num_replies == {"0000": 3, **{f"{number:04d}": 12 for number in range(1, ROUNDS + 1)}}  # train, sign, ...


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_recording_changes_no_bit_of_the_result_and_none_is_made_unasked(run: Path, tmp_path: Path) -> None:
    other = record_run(tmp_path, audit__record=False)
    assert not (other / "transcript").exists()
    for number in range(ROUNDS + 1):
        recorded, unrecorded = (files_of(RunDirectory.open(one).round_folder(number)) for one in (run, other))
        left_out = {RECORD_FILE, "clients.json"}  # they hold seconds
        assert {name: body for name, body in recorded.items() if name not in left_out} == {
            name: body for name, body in unrecorded.items() if name not in left_out
        }


def test_a_run_that_was_interrupted_in_a_round_has_the_transcript_of_one_that_was_not(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = LocalTrainer.train

    def stopped(self: LocalTrainer, **arguments: Any) -> object:
        if arguments["round_number"] == 2 and arguments["client"] == CLIENTS[1]:
            raise RunInterrupted("stop")
        return whole(self, **arguments)

    monkeypatch.setattr(LocalTrainer, "train", stopped)
    with pytest.raises(RunInterrupted):
        record_run(tmp_path)
    monkeypatch.undo()
    resumed = tmp_path / "runs" / "recorded"
    early = files_of(resumed / "transcript" / "server" / "0002")
    assert [name[5:] for name in early] == [f"{CLIENTS[0]}.bin"]  # it had sent its update already
    resume_command(resumed)
    assert files_of(resumed / "transcript" / "clients") == files_of(run / "transcript" / "clients")
    late = files_of(resumed / "transcript" / "server" / "0002")
    assert early.items() < late.items()
    assert len(late) == 12 + 1


def test_a_transcript_that_was_deleted_is_not_made_up(run: Path, tmp_path: Path, model: AdaptedModel) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run / "transcript", copy)
    shutil.rmtree(copy / "clients" / "0002")
    kept = [Transcript(copy, model.layout).sent(point, 1) is not None for point in (1, 2, 3)]
    assert kept == [True, False, True]
